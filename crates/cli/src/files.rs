//! Reads files, with errors that name them, and writes files and folders completely or not at all.
//!
//! A single file is written beside its target and renamed over it. A folder is built under a temporary name. A folder without secrets is renamed into
//! place as a whole. For a folder with secrets, the target is created if it does not exist, each secret is linked into it, and then the other files
//! are moved there; the file that was added first (the certificate) moves last. Everything that is not committed disappears when the value is
//! dropped. File modes are never loosened.
//!
//! A certificate is never at its final path without its key. If the process is killed before the commit, a temporary folder without a secret
//! (`.muster-*`) remains. If it is killed between the links and renames of the commit, the target remains as well, with some or all of the keys, and
//! without some or all of the certificates: a secret is either at its final path or nowhere, never under a temporary name. A power cut leaves the same
//! state, because the names of the keys are on the disk before the first other file is moved. All of this holds for [`Durability::Synced`]; files with
//! [`Durability::LeftToSystem`] (`load --certificates`) are written under the temporary name, keys as well.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use server::files::read_file_or_pipe;
use server::shell;
use tempfile::{NamedTempFile, TempDir};
use zeroize::Zeroizing;

use crate::outcome::{CommandFault, CommandResult};

/// The largest file that Muster reads: certificates and keys have a few kilobytes, a chain a few dozen.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every user (0644).
    Public,
    /// Only the owner (0600): private keys.
    Secret,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret => 0o600,
        }
    }
}

/// Reads a whole file, or a shell's pipe to its end.
pub(crate) fn read(path: &Path) -> CommandResult<Vec<u8>> {
    read_up_to(path, READ_BYTES_MAX)
}

/// Like [`read`], for other kinds of files.
pub(crate) fn read_up_to(path: &Path, bytes_max: u64) -> CommandResult<Vec<u8>> {
    let fail = |source: io::Error| {
        let fault = CommandFault::failed(format!("cannot read {}: {source}", path.display()));
        match source.kind() {
            io::ErrorKind::NotFound => fault.remedy("check the path; `muster init DIR` writes a complete set of files"),
            io::ErrorKind::PermissionDenied => fault.remedy("run as a user that can read it"),
            io::ErrorKind::IsADirectory => fault.remedy("give the path of a file in it"),
            io::ErrorKind::InvalidInput => {
                fault.remedy("use a file, or a pipe of the shell: `... | muster ...` with /dev/stdin, or <(...)")
            }
            io::ErrorKind::FileTooLarge => {
                CommandFault::failed(format!("{} is larger than any certificate or key: {source}", path.display()))
            }
            _ => fault,
        }
    };
    read_file_or_pipe(path, bytes_max).map_err(fail)
}

/// The failure to write `path`: the system's error, without the path of the temporary file beside it, and what to do.
pub(crate) fn unwritable(path: &Path, source: &io::Error) -> CommandFault {
    let said = source.to_string();
    // `tempfile` adds the path that it tried; that path does not help the user.
    let said = said.split(" at path ").next().unwrap_or_default();
    let fault = CommandFault::failed(format!("cannot write {}: {said}", path.display()));
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            fault.remedy("free some space, or choose another place; nothing was kept")
        }
        io::ErrorKind::NotFound => fault.remedy(format!("`mkdir -p {}`", shell::path(parent(path)))),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => fault
            .remedy(format!("choose a place that this user can write to; {} is not writable", parent(path).display())),
        _ => fault,
    }
}

/// Writes a file as a whole: a reader sees the old bytes or the new ones. What exists and is no regular file is written to, and not replaced.
pub(crate) fn write(path: &Path, bytes: &[u8], access: Access) -> CommandResult {
    let fail = |source: io::Error| unwritable(path, &source);
    if is_no_regular_file(path) {
        let mut there = fs::OpenOptions::new().append(true).open(path).map_err(fail)?;
        return there.write_all(bytes).map_err(fail);
    }
    let mut file = begin(path, access).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|fault| fail(fault.error))?;
    Ok(())
}

/// Begins a file that will take the name `path`: beside it, with the mode that it will have.
pub(crate) fn begin(path: &Path, access: Access) -> io::Result<NamedTempFile> {
    // A file that only its owner could read keeps that mode.
    let allowed = fs::metadata(path).map_or(0o777, |there| there.permissions().mode());
    tempfile::Builder::new()
        .prefix(".muster-")
        .permissions(fs::Permissions::from_mode(access.mode() & allowed))
        .tempfile_in(parent(path))
}

/// Whether [`write()`] can write to `path`: checked before the work whose result goes there.
pub(crate) fn require_writable(path: &Path) -> CommandResult {
    if path.is_dir() {
        return Err(CommandFault::failed(format!("{} is a folder", path.display())).remedy("give the path of a file"));
    }
    if is_no_regular_file(path) {
        // To open a pipe may wait for its reader.
        return Ok(());
    }
    tempfile::Builder::new()
        .prefix(".muster-")
        .tempfile_in(parent(path))
        .map(drop)
        .map_err(|source| unwritable(path, &source))
}

/// Whether this is a device, a pipe or a socket, or the name of an open file, such as /dev/stdout: a rename would put a regular file in its place.
pub(crate) fn is_no_regular_file(path: &Path) -> bool {
    let names_open_file = || {
        let is_link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
        is_link && ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder))
    };
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) || names_open_file()
}

/// Refuses a target to which a folder cannot be written as a whole: one that exists and is not empty, or one where this user may not write. Checked
/// before the work whose result goes there.
pub(crate) fn require_absent_or_empty(folder: &Path) -> CommandResult {
    require_free(folder)?;
    stage(folder).map(drop).map_err(|source| unwritable(folder, &source))
}

fn require_free(folder: &Path) -> CommandResult {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(CommandFault::failed(format!("{} exists and is not empty", folder.display()))
                .remedy("nothing is ever overwritten: choose another folder, or move this one away")),
        },
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let above = parent(folder);
            if above.is_dir() {
                return Ok(());
            }
            Err(CommandFault::failed(format!(
                "cannot create {}: there is no folder {}",
                folder.display(),
                above.display()
            ))
            .remedy(format!("`mkdir -p {}`", shell::path(above))))
        }
        Err(source) => Err(CommandFault::failed(format!("cannot use {} as a folder: {source}", folder.display()))),
    }
}

/// A folder that is being built: beside its target, or inside it if the target exists.
///
/// With [`Durability::Synced`] a secret is a file without a name until the commit: however the process ends, `kill -9` included, no secret is left
/// behind in a folder that is easily overlooked.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: TempDir,
    target: PathBuf,
    begun: Begun,
    written: Vec<PathBuf>,
    secrets: Vec<(PathBuf, Unnamed)>,
    durability: Durability,
}

/// What was at the target when the folder was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// Nothing: the target is created.
    Absent,
    /// A folder, which keeps its mode: the files are moved into it.
    There,
}

/// A secret that has no name yet.
#[derive(Debug)]
enum Unnamed {
    /// `O_TMPFILE`: on the disk, and deleted when the process ends.
    File(fs::File),
    /// For file systems without `O_TMPFILE`.
    Bytes(Zeroizing<Vec<u8>>),
}

/// Whether a folder that was just written survives a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives: each file is on the disk before the folder appears. For keys that exist nowhere else.
    Synced,
    /// The system writes when it chooses: for thousands of files that can be made again and would each take 4 ms to sync.
    LeftToSystem,
}

impl Staged {
    /// Starts a folder that will become `target`.
    pub(crate) fn new(target: &Path, durability: Durability) -> CommandResult<Self> {
        let begun = if target.is_dir() { Begun::There } else { Begun::Absent };
        let folder = stage(target).map_err(|source| unwritable(target, &source))?;
        let (written, secrets) = (Vec::new(), Vec::new());
        Ok(Self { folder, target: target.to_owned(), begun, written, secrets, durability })
    }

    /// Adds a file at a path inside the folder.
    pub(crate) fn add(&mut self, inside: &str, bytes: &[u8], access: Access) -> CommandResult {
        let path = self.folder.path().join(inside);
        let fail = |source: io::Error| unwritable(&self.target.join(inside), &source);
        fs::create_dir_all(parent(&path)).map_err(fail)?;
        // With thousands of files that can be made again, unnamed files would mean thousands of open files.
        if access == Access::Secret && self.durability == Durability::Synced {
            let unnamed = Unnamed::write(self.folder.path(), bytes).map_err(fail)?;
            self.secrets.push((PathBuf::from(inside), unnamed));
            return Ok(());
        }
        create(&path, bytes, access, self.durability).map_err(fail)?;
        self.written.push(PathBuf::from(inside));
        Ok(())
    }

    /// Moves the folder into place. The target is absent, or a folder without any of our files: a failure leaves it as it was.
    pub(crate) fn commit(self) -> CommandResult {
        self.commit_watched(&mut || {})
    }

    /// Like `commit`, but calls an observer of the file system after each step.
    fn commit_watched(self, look: &mut dyn FnMut()) -> CommandResult {
        let Self { folder, target, begun, written, secrets, .. } = self;
        let unwritable_target = |source: io::Error| unwritable(&target, &source);
        if begun == Begun::Absent {
            if secrets.is_empty() {
                fs::rename(folder.path(), &target).map_err(unwritable_target)?;
                // The temporary name no longer exists; nothing is left to remove.
                let _ = folder.keep();
                sync_folder(parent(&target));
                look();
                return Ok(());
            }
            // The system removes the bits of the umask from the mode.
            fs::DirBuilder::new().mode(0o755).create(&target).map_err(unwritable_target)?;
        }
        let mut placed = Vec::new();
        place(&target, secrets, &mut placed, look)
            .and_then(|()| {
                // The certificate was added first.
                written.iter().rev().try_for_each(|inside| {
                    let to = target.join(inside);
                    let moved = move_without_replacing(&folder.path().join(inside), &to);
                    moved.map_err(|source| unwritable(&to, &source))?;
                    placed.push(to);
                    look();
                    Ok(())
                })
            })
            .inspect(|()| sync_folders(&target, &placed))
            .inspect_err(|_| {
                // In reverse order: from the certificates to the keys.
                placed.iter().rev().for_each(|path| {
                    let _ = fs::remove_file(path);
                });
                if begun == Begun::Absent {
                    // Safe: this process created the folder a moment ago.
                    let _ = fs::remove_dir_all(&target);
                }
            })
    }
}

/// Gives each secret its name in the target folder; these names are on the disk when it returns.
fn place(
    target: &Path,
    secrets: Vec<(PathBuf, Unnamed)>,
    placed: &mut Vec<PathBuf>,
    look: &mut dyn FnMut(),
) -> CommandResult {
    for (inside, unnamed) in secrets {
        let to = target.join(inside);
        unnamed.place(&to).map_err(|source| unwritable(&to, &source))?;
        placed.push(to);
        look();
    }
    if !placed.is_empty() {
        sync_folders(target, placed);
    }
    Ok(())
}

/// Syncs a folder, which makes the names in it durable.
fn sync_folders(target: &Path, placed: &[PathBuf]) {
    let folders = placed.iter().map(|path| parent(path)).chain([target, parent(target)]);
    folders.collect::<std::collections::BTreeSet<_>>().into_iter().for_each(sync_folder);
}

impl Unnamed {
    fn write(folder: &Path, bytes: &[u8]) -> io::Result<Self> {
        let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).unwrap_or_default();
        let opened = fs::OpenOptions::new().write(true).custom_flags(flags).mode(Access::Secret.mode()).open(folder);
        match opened {
            Ok(mut file) if Path::new("/proc/self/fd").exists() => {
                file.write_all(bytes).and_then(|()| file.sync_all())?;
                Ok(Self::File(file))
            }
            // The file system or the kernel does not support unnamed files.
            Err(error) if !matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory) => {
                Err(error)
            }
            _ => Ok(Self::Bytes(Zeroizing::new(bytes.to_vec()))),
        }
    }

    /// Gives the secret its name; an existing file is not replaced.
    fn place(self, path: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        fs::create_dir_all(parent(path))?;
        match self {
            Self::File(file) => {
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                let here = rustix::fs::CWD;
                Ok(rustix::fs::linkat(here, from, here, path, rustix::fs::AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Bytes(bytes) => create(path, &bytes, Access::Secret, Durability::Synced),
        }
    }
}

/// A temporary folder on the file system of `target`: inside it if it exists, else beside it with the mode that the target will have.
fn stage(target: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".muster-");
    if target.is_dir() {
        return builder.tempdir_in(target);
    }
    // The system removes the bits of the umask from the mode.
    builder.permissions(fs::Permissions::from_mode(0o755)).tempdir_in(parent(target))
}

/// Creates a file; a file that cannot be written completely is removed.
pub(crate) fn create(path: &Path, bytes: &[u8], access: Access, durability: Durability) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(path)?;
    let written = file.write_all(bytes);
    let written = if durability == Durability::Synced { written.and_then(|()| file.sync_all()) } else { written };
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Gives the file `from` the name `to`; an existing file is not replaced.
fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(parent(to))?;
    // File systems support different ways: FAT has no hard links, NFS no `RENAME_NOREPLACE`, some FUSE file systems neither.
    first_that_is_known(&[rename_new, link_new, copy_new], from, to)
}

/// A way to move a file to an unused name.
type Way = fn(&Path, &Path) -> io::Result<()>;

/// Uses the first way that the file system supports.
fn first_that_is_known(ways: &[Way], from: &Path, to: &Path) -> io::Result<()> {
    let mut last = Err(io::ErrorKind::Unsupported.into());
    for way in ways {
        last = way(from, to);
        let unknown = last.as_ref().is_err_and(|error| {
            use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
            matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
        });
        if !unknown {
            break;
        }
    }
    last
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    Ok(rustix::fs::renameat_with(here, from, here, to, rustix::fs::RenameFlags::NOREPLACE)?)
}

fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = Zeroizing::new(fs::read(from)?);
    let mode = fs::metadata(from)?.permissions().mode();
    let access = if mode & 0o077 == 0 { Access::Secret } else { Access::Public };
    create(to, &bytes, access, Durability::Synced)?;
    fs::remove_file(from)
}

/// The folder that contains `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename durable if the file system supports it; otherwise the files are in place but may not survive a power failure.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_with_its_modes() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("out");
        let mut staged = Staged::new(&target, Durability::Synced).unwrap();
        staged.add("device.pem", b"certificate", Access::Public).unwrap();
        staged.add("keys/device.key", b"key", Access::Secret).unwrap();
        assert!(!target.exists(), "nothing shows before the commit");
        staged.commit().unwrap();
        assert_eq!(names(scratch.path()), ["out"], "no temporary folder stays");
        assert_eq!(fs::read(target.join("keys/device.key")).unwrap(), b"key");
        let mode = fs::metadata(target.join("keys/device.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn e60_no_secret_lies_in_the_folder_that_is_being_built() {
        let scratch = tempfile::tempdir().unwrap();
        let mut staged = Staged::new(&scratch.path().join("out"), Durability::Synced).unwrap();
        staged.add("a.pem", b"public", Access::Public).unwrap();
        staged.add("keys/a.key", b"secret", Access::Secret).unwrap();
        // What `kill -9` would leave behind.
        let folder = staged.folder.path().to_owned();
        assert_eq!(names(&folder), ["a.pem", "keys"]);
        assert!(names(&folder.join("keys")).is_empty());
        staged.commit().unwrap();
        assert_eq!(fs::read(scratch.path().join("out/keys/a.key")).unwrap(), b"secret");
    }

    /// Holds at whatever moment a kill or a power cut happens.
    #[test]
    fn e60_no_certificate_is_in_its_place_without_its_key_and_no_key_under_a_temporary_name() {
        for begun in [Begun::Absent, Begun::There] {
            let scratch = tempfile::tempdir().unwrap();
            let target = scratch.path().join("out");
            if begun == Begun::There {
                fs::create_dir(&target).unwrap();
            }
            let mut staged = Staged::new(&target, Durability::Synced).unwrap();
            staged.add("device.pem", b"certificate", Access::Public).unwrap();
            staged.add("device.key", b"key", Access::Secret).unwrap();
            staged.add("ca/anchors.pem", b"anchors", Access::Public).unwrap();
            let temporary = staged.folder.path().to_owned();
            let mut steps = Vec::new();
            staged
                .commit_watched(&mut || {
                    let there = ["device.pem", "device.key", "ca/anchors.pem"].map(|name| target.join(name).exists());
                    let [certificate, key, anchors] = there;
                    assert!(!certificate || (key && anchors), "{begun:?}: {there:?}");
                    assert!(!temporary.join("device.key").exists());
                    steps.push(there);
                })
                .unwrap();
            assert_eq!(steps, [[false, true, false], [false, true, true], [true; 3]], "{begun:?}");
            assert_eq!(names(&target), ["ca", "device.key", "device.pem"]);
            assert!(!temporary.exists());
        }
    }

    #[test]
    fn e60_a_folder_that_is_there_keeps_its_mode_and_so_does_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
        let mut staged = Staged::new(&target, Durability::Synced).unwrap();
        staged.add("a.pem", b"public", Access::Public).unwrap();
        staged.add("a.key", b"secret", Access::Secret).unwrap();
        staged.commit().unwrap();
        assert_eq!(names(&target), ["a.key", "a.pem"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&target), mode(&target.join("a.key"))), (0o700, 0o600));

        let file = scratch.path().join("report.json");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        write(&file, b"new", Access::Public).unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap().as_slice()), (0o600, b"new".as_slice()));
    }

    #[test]
    fn a_folder_that_is_given_up_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let mut staged = Staged::new(&scratch.path().join("out"), Durability::LeftToSystem).unwrap();
        staged.add("device.key", b"key", Access::Secret).unwrap();
        drop(staged);
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn files_join_a_folder_but_replace_none_of_its_files() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("b.key"), b"mine").unwrap();
        let mut staged = Staged::new(&target, Durability::Synced).unwrap();
        staged.add("a.pem", b"a", Access::Public).unwrap();
        staged.add("b.key", b"b", Access::Secret).unwrap();
        let fault = staged.commit().unwrap_err();
        assert!(fault.to_string().contains("b.key"), "{fault}");
        assert_eq!(names(&target), ["b.key"], "the one that was moved first is gone again");
        assert_eq!(fs::read(target.join("b.key")).unwrap(), b"mine");
    }

    #[test]
    fn e59_a_file_system_without_hard_links_or_renames_will_do() {
        fn unknown(_: &Path, _: &Path) -> io::Result<()> {
            // The error of FAT for link(2).
            Err(rustix::io::Errno::PERM.into())
        }
        let all: [Way; 3] = [rename_new, link_new, copy_new];
        for way in all {
            let scratch = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| scratch.path().join(name));
            create(&from, b"key", Access::Secret, Durability::LeftToSystem).unwrap();
            fs::write(&to, b"mine").unwrap();
            let error = first_that_is_known(&[unknown, way], &from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"key".to_vec(), b"mine".to_vec()));

            fs::remove_file(&to).unwrap();
            first_that_is_known(&[unknown, way], &from, &to).unwrap();
            assert_eq!(names(scratch.path()), ["to"]);
            assert_eq!(fs::read(&to).unwrap(), b"key");
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn only_an_absent_or_empty_folder_will_do() {
        let scratch = tempfile::tempdir().unwrap();
        require_absent_or_empty(scratch.path()).unwrap();
        require_absent_or_empty(&scratch.path().join("new")).unwrap();
        assert!(require_absent_or_empty(&scratch.path().join("no/new")).is_err());
        fs::write(scratch.path().join("file"), b"").unwrap();
        assert!(require_absent_or_empty(scratch.path()).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_written_to_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        require_writable(&pipe).unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        write(&pipe, b"report", Access::Public).unwrap();
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), b"report");
        assert_eq!(names(scratch.path()), ["pipe"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let fault = read(Path::new("/nowhere/device.key")).unwrap_err();
        assert!(fault.to_string().contains("/nowhere/device.key"), "{fault}");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let fault = read(Path::new("/dev/zero")).unwrap_err();
        assert!(fault.to_string().contains("it is a device, not a file"), "{fault}");
        let large = NamedTempFile::new().unwrap();
        large.as_file().set_len(1 << 30).unwrap();
        let fault = read(large.path()).unwrap_err();
        assert!(fault.to_string().contains("larger than any"), "{fault}");
        let fault = read(Path::new("/")).unwrap_err();
        assert!(fault.to_string().contains("give the path of a file in it"), "{fault}");
    }

    #[test]
    fn what_cannot_be_written_is_named_by_its_own_name() {
        let nowhere = Path::new("/nowhere/in/report.json");
        for fault in [write(nowhere, b"", Access::Public).unwrap_err(), require_writable(nowhere).unwrap_err()] {
            let text = fault.to_string();
            assert!(text.contains("/nowhere/in/report.json") && text.contains("mkdir -p /nowhere/in"), "{text}");
            assert!(!text.contains(".muster-"), "{text}");
        }
        let full = unwritable(Path::new("out"), &io::Error::from(io::ErrorKind::StorageFull)).to_string();
        assert!(full.contains("free some space"), "{full}");
    }
}
