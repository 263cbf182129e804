/*
 * Loaded with LD_PRELOAD before libc: it sees every change that a process makes to the files of one folder, and makes some of them fail.
 *
 * Changes go into a trace, in the order in which the kernel saw them: one lock is held over each call and its record. The trace says what was written
 * and what was synced, so that its reader can tell what a power loss may leave. Everything that is to be understood is understood by the reader
 * (trace.rs); a record holds the arguments of the call.
 *
 *   MUSTER_SHIM_FOLDER    the folder, an absolute path without a final slash; files that end in "-shm" are not durable and not seen
 *   MUSTER_SHIM_TRACE     the file that records are appended to
 *   <folder>.marks        what is written to it becomes a record: how the process says that it has answered somebody
 *   <folder>.control      what is written to it changes the faults: "clear\n", or "fault OPERATION SUFFIX ERRNO SKIP HOW\n", where OPERATION is open,
 *                         write, sync or truncate, SUFFIX is the end of the file's name, "." for the folder or "*" for all, SKIP is how many calls
 *                         still succeed, and HOW is "short" to write half before it fails, else "whole"
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE, SIZE, EXTEND, SYNC, UNLINK, RENAME, MKDIR, MARK, DUP, START, UNKNOWN };
enum { CREATE = 1, EMPTY = 2, FOLDER = 4 };
enum { DESCRIPTORS = 4096, NAME = 256, FAULTS = 16 };

/* What stands before the bytes of a record. `descriptor` is that of the process named by the last START. */
struct record {
  uint32_t kind;
  uint32_t descriptor;
  uint64_t at;
  uint32_t failed;
  uint32_t bytes;
};

struct fault {
  char operation[16];
  char suffix[64];
  int error;
  long skip;
  int is_short;
};

enum watched { NOTHING = 0, A_FILE, MARKS, CONTROL };

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char folder[PATH_MAX];
static int trace = -1;
static enum watched watched[DESCRIPTORS];
static char names[DESCRIPTORS][NAME];
static struct fault faults[FAULTS];
static int fault_count;

#define NEXT(result, name, ...)                                      \
  static result (*next)(__VA_ARGS__);                                \
  if (!next) next = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void record(enum kind kind, uint32_t descriptor, uint64_t at, int failed, const void *bytes, size_t length) {
  if (trace < 0) return;
  NEXT(ssize_t, "writev", int, const struct iovec *, int);
  struct record head = {kind, descriptor, at, failed, (uint32_t)length};
  struct iovec parts[2] = {{&head, sizeof head}, {(void *)bytes, length}};
  if (next(trace, parts, length ? 2 : 1) != (ssize_t)(sizeof head + length)) {
    static const char why[] = "the trace cannot be written\n";
    NEXT(ssize_t, "write", int, const void *, size_t);
    next(2, why, sizeof why - 1);
    abort();
  }
}

__attribute__((constructor)) static void start(void) {
  const char *of = getenv("MUSTER_SHIM_FOLDER"), *to = getenv("MUSTER_SHIM_TRACE");
  if (!of || strlen(of) >= sizeof folder) return;
  NEXT(int, "open", const char *, int, ...);
  if (to) trace = next(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  strcpy(folder, of);
  record(START, 0, 0, 0, NULL, 0);
}

/* A thread that still works at the end stops between two calls, not between a call and its record. */
__attribute__((destructor)) static void end(void) { pthread_mutex_lock(&lock); }

/* The name below the folder, "." for the folder itself, NULL for all other paths. */
static const char *below(const char *path) {
  size_t length = strlen(folder);
  if (!length || !path || strncmp(path, folder, length)) return NULL;
  if (!path[length] || !strcmp(path + length, "/")) return ".";
  if (path[length] != '/') return NULL;
  const char *name = path + length + 1;
  size_t end = strlen(name);
  if (end >= NAME || (end >= 4 && !strcmp(name + end - 4, "-shm"))) return NULL;
  return name;
}

static int is_marked(const char *path, const char *ending) {
  size_t length = strlen(folder);
  return length && path && !strncmp(path, folder, length) && !strcmp(path + length, ending);
}

static struct fault *fault_of(const char *operation, const char *name) {
  for (int i = 0; i < fault_count; i++) {
    struct fault *fault = &faults[i];
    size_t suffix = strlen(fault->suffix), length = strlen(name);
    if (strcmp(fault->operation, operation)) continue;
    if (strcmp(fault->suffix, "*") && (suffix > length || strcmp(name + length - suffix, fault->suffix))) continue;
    if (fault->skip-- > 0) continue;
    return fault;
  }
  return NULL;
}

static int is_file(int fd) { return fd >= 0 && fd < DESCRIPTORS && watched[fd] == A_FILE; }

static void control(const char *text, size_t length) {
  char line[256];
  snprintf(line, sizeof line, "%.*s", (int)length, text);
  struct fault fault;
  char how[16];
  memset(&fault, 0, sizeof fault);
  if (!strncmp(line, "clear", 5)) {
    fault_count = 0;
  } else if (sscanf(line, "fault %15s %63s %d %ld %15s", fault.operation, fault.suffix, &fault.error, &fault.skip, how) == 5 &&
             fault_count < FAULTS) {
    fault.is_short = !strcmp(how, "short");
    faults[fault_count++] = fault;
  } else {
    abort();
  }
}

static void opened(int fd, const char *path, int flags) {
  if (fd < 0 || fd >= DESCRIPTORS) return;
  watched[fd] = NOTHING;
  const char *name = below(path);
  if (is_marked(path, ".marks")) watched[fd] = MARKS;
  if (is_marked(path, ".control")) watched[fd] = CONTROL;
  if (!name) return;
  struct stat stat;
  int is_folder = !fstat(fd, &stat) && S_ISDIR(stat.st_mode);
  watched[fd] = A_FILE;
  strcpy(names[fd], name);
  uint64_t how = (flags & O_CREAT ? CREATE : 0) | (flags & O_TRUNC ? EMPTY : 0) | (is_folder ? FOLDER : 0);
  record(OPEN, fd, how, 0, name, strlen(name));
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
  NEXT(int, "openat", int, const char *, int, ...);
  pthread_mutex_lock(&lock);
  const char *name = below(path);
  struct fault *fault = name && (flags & O_ACCMODE) != O_RDONLY ? fault_of("open", name) : NULL;
  int fd = fault ? -1 : next(at, path, flags, mode);
  int error = fault ? fault->error : errno;
  opened(fd, path, flags);
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define MODE(flags, mode)                               \
  mode_t mode = 0;                                      \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {              \
    va_list list;                                       \
    va_start(list, flags);                              \
    mode = va_arg(list, mode_t);                        \
    va_end(list);                                       \
  }

int open(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at(at, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags | O_LARGEFILE, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
  NEXT(int, "close", int);
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < DESCRIPTORS) watched[fd] = NOTHING;
  int result = next(fd), error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static void duplicated(int from, int to) {
  if (from < 0 || to < 0 || from == to || from >= DESCRIPTORS || to >= DESCRIPTORS) return;
  watched[to] = watched[from];
  if (watched[to] == A_FILE) {
    memmove(names[to], names[from], NAME);
    record(DUP, from, to, 0, NULL, 0);
  }
}

int fcntl64(int fd, int command, ...) {
  NEXT(int, "fcntl64", int, int, ...);
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (command != F_DUPFD && command != F_DUPFD_CLOEXEC) return next(fd, command, argument);
  pthread_mutex_lock(&lock);
  int to = next(fd, command, argument), error = errno;
  duplicated(fd, to);
  pthread_mutex_unlock(&lock);
  errno = error;
  return to;
}

int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  return fcntl64(fd, command, argument);
}

int dup(int fd) { return fcntl64(fd, F_DUPFD, 0); }

/* Fails before or half way, or writes with `next` and records what was written. */
static ssize_t wrote(int fd, const void *bytes, size_t length, ssize_t (*write_all)(int, const void *, size_t, off_t), off_t at, int moves) {
  pthread_mutex_lock(&lock);
  struct fault *fault = fault_of("write", names[fd]);
  ssize_t result = -1;
  int error = fault ? fault->error : 0;
  if (fault && fault->is_short && length > 1) {
    fault->is_short = 0;
    fault->skip = 0;
    result = write_all(fd, bytes, length / 2, at);
  } else if (!fault) {
    result = write_all(fd, bytes, length, at);
    error = errno;
  }
  if (result > 0) {
    NEXT(off_t, "lseek", int, off_t, int);
    if (moves) at = next(fd, 0, SEEK_CUR) - result;
    record(WRITE, fd, at, 0, bytes, result);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static ssize_t next_write(int fd, const void *bytes, size_t length, off_t at) {
  (void)at;
  NEXT(ssize_t, "write", int, const void *, size_t);
  return next(fd, bytes, length);
}

static ssize_t next_pwrite(int fd, const void *bytes, size_t length, off_t at) {
  NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
  return next(fd, bytes, length, at);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  enum watched what = fd >= 0 && fd < DESCRIPTORS ? watched[fd] : NOTHING;
  if (what == A_FILE) return wrote(fd, bytes, length, next_write, 0, 1);
  if (what == NOTHING) return next_write(fd, bytes, length, 0);
  pthread_mutex_lock(&lock);
  if (what == MARKS) record(MARK, 0, 0, 0, bytes, length);
  if (what == CONTROL) control(bytes, length);
  pthread_mutex_unlock(&lock);
  return length;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  return is_file(fd) ? wrote(fd, bytes, length, next_pwrite, at, 0) : next_pwrite(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return pwrite(fd, bytes, length, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  NEXT(ssize_t, "writev", int, const struct iovec *, int);
  if (fd < 0 || fd >= DESCRIPTORS || watched[fd] == NOTHING) return next(fd, parts, count);
  /* One part is a short write, which every caller has to expect. */
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

/* A change that the reader does not know: it refuses the trace. */
static void unknown(int fd, const char *what) {
  if (is_file(fd)) record(UNKNOWN, fd, 0, 0, what, strlen(what));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  NEXT(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
  unknown(fd, "pwritev");
  return next(fd, parts, count, at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
  NEXT(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
  /* The caller falls back to reading and writing. */
  if (is_file(to)) return errno = EXDEV, -1;
  return next(from, from_at, to, to_at, length, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t length) {
  NEXT(ssize_t, "sendfile64", int, int, off64_t *, size_t);
  if (is_file(to)) return errno = EINVAL, -1;
  return next(to, from, at, length);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t at) {
  NEXT(void *, "mmap", void *, size_t, int, int, int, off_t);
  if (protection & PROT_WRITE && flags & MAP_SHARED) unknown(fd, "mmap");
  return next(address, length, protection, flags, fd, at);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t at) {
  return mmap(address, length, protection, flags, fd, at);
}

static int resized(int fd, enum kind kind, off_t length, int (*resize)(int, off_t)) {
  pthread_mutex_lock(&lock);
  struct fault *fault = fault_of("truncate", names[fd]);
  int result = fault ? -1 : resize(fd, length), error = fault ? fault->error : errno;
  if (!result) record(kind, fd, length, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static int next_ftruncate(int fd, off_t length) {
  NEXT(int, "ftruncate", int, off_t);
  return next(fd, length);
}

static int next_fallocate(int fd, off_t length) {
  NEXT(int, "fallocate", int, int, off_t, off_t);
  return next(fd, 0, 0, length);
}

int ftruncate(int fd, off_t length) { return is_file(fd) ? resized(fd, SIZE, length, next_ftruncate) : next_ftruncate(fd, length); }
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int fallocate(int fd, int mode, off_t at, off_t length) {
  NEXT(int, "fallocate", int, int, off_t, off_t);
  if (is_file(fd) && !mode) return resized(fd, EXTEND, at + length, next_fallocate);
  unknown(fd, "fallocate");
  return next(fd, mode, at, length);
}
int fallocate64(int fd, int mode, off64_t at, off64_t length) { return fallocate(fd, mode, at, length); }

int posix_fallocate(int fd, off_t at, off_t length) {
  NEXT(int, "posix_fallocate", int, off_t, off_t);
  if (is_file(fd)) return resized(fd, EXTEND, at + length, next_fallocate) ? errno : 0;
  return next(fd, at, length);
}
int posix_fallocate64(int fd, off64_t at, off64_t length) { return posix_fallocate(fd, at, length); }

static int synced(int fd, int (*sync_it)(int)) {
  if (!is_file(fd)) return sync_it(fd);
  pthread_mutex_lock(&lock);
  struct fault *fault = fault_of("sync", names[fd]);
  int result = fault ? -1 : sync_it(fd), error = fault ? fault->error : errno;
  record(SYNC, fd, 0, result != 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static int next_fsync(int fd) {
  NEXT(int, "fsync", int);
  return next(fd);
}

static int next_fdatasync(int fd) {
  NEXT(int, "fdatasync", int);
  return next(fd);
}

int fsync(int fd) { return synced(fd, next_fsync); }
/* It makes the size durable too, where that has changed: all that is modelled of a file. */
int fdatasync(int fd) { return synced(fd, next_fdatasync); }

int unlinkat(int at, const char *path, int flags) {
  NEXT(int, "unlinkat", int, const char *, int);
  pthread_mutex_lock(&lock);
  int result = next(at, path, flags), error = errno;
  const char *name = below(path);
  if (!result && name) record(UNLINK, 0, 0, 0, name, strlen(name));
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  int result = unlink(path);
  return result && (errno == EISDIR || errno == EPERM) ? rmdir(path) : result;
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
  pthread_mutex_lock(&lock);
  int result = next(from_at, from, to_at, to, flags), error = errno;
  const char *old = below(from), *new = below(to);
  if (!result && old && new) {
    char both[2 * NAME];
    size_t length = strlen(old) + 1;
    strcpy(both, old);
    strcpy(both + length, new);
    record(RENAME, 0, flags, 0, both, length + strlen(new));
  } else if (!result && (old || new)) {
    record(UNKNOWN, 0, 0, 0, "rename", 6);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }

int mkdirat(int at, const char *path, mode_t mode) {
  NEXT(int, "mkdirat", int, const char *, mode_t);
  pthread_mutex_lock(&lock);
  int result = next(at, path, mode), error = errno;
  const char *name = below(path);
  if (!result && name) record(MKDIR, 0, 0, 0, name, strlen(name));
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  NEXT(int, "linkat", int, const char *, int, const char *, int);
  int result = next(from_at, from, to_at, to, flags);
  if (!result && (below(from) || below(to))) record(UNKNOWN, 0, 0, 0, "link", 4);
  return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
