//! The Unix socket of the admin desk in the file system.
//!
//! - Its mode is 0600 from the beginning: the socket has that mode before it gets a name, so that the kernel creates the name with it (Linux), and the
//!   name has that mode before the socket listens, so that nobody connects under a wider one elsewhere.
//! - One server has it: the file beside it, `NAME.lock`, is locked as long as the server runs. The lock file stays when the server ends; removing
//!   it would let two servers lock two files of one name.
//! - Nobody else can put a socket in its place: a folder in which every user can rename files is refused, and one in which a group can is reported.
//! - The name that a dead server left is replaced; one behind which a program listens is not, and neither is a file that is not a socket.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Permission bits of a folder: its group and every user can make and rename files; with the last one, rename only their own.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The name of a listening socket; dropping it removes the name.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Held as long as the name is ours.
    _lock: File,
}

impl SocketFile {
    /// Creates a socket that listens at this path.
    pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Self), SocketFault> {
        let fault = |problem: SocketProblem| SocketFault { path: path.to_owned(), problem };
        Self::try_bind(path).map_err(fault)
    }

    fn try_bind(path: &Path) -> Result<(UnixListener, Self), SocketProblem> {
        judge_folder(folder_of(path))?;
        let lock = lock(path)?;
        make_room(path)?;
        let socket = unconnected()?;
        fchmod(&socket, Mode::from_raw_mode(0o600))?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let file = Self { path: path.to_owned(), _lock: lock };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(SocketProblem::System)?;
        listen(&socket, BACKLOG)?;
        Ok((UnixListener::from(socket), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The lock is released after this: the name is ours until then.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the admin socket was removed already");
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Who can replace the socket of a server can answer its operator: that a certificate is revoked, for example, that is not.
fn judge_folder(folder: &Path) -> Result<(), SocketProblem> {
    // One that is not there is named by what follows.
    let Ok(metadata) = std::fs::metadata(folder) else { return Ok(()) };
    let mode = metadata.mode();
    let (is_sticky, shown) = (mode & STICKY != 0, folder.display());
    if mode & OTHERS_WRITE != 0 && !is_sticky {
        return Err(SocketProblem::Exposed { folder: folder.to_owned(), mode: mode & 0o7777 });
    }
    if mode & OTHERS_WRITE != 0 {
        tracing::warn!(
            folder = %shown,
            "every user can make a file in the folder of the admin socket: `muster cert` and `muster ledger` do not trust a socket there. Name a folder such as /run/muster in `[admin] socket`"
        );
    } else if mode & GROUP_WRITES != 0 && !is_sticky {
        tracing::warn!(
            folder = %shown,
            mode = format!("{:o}", mode & 0o7777),
            group = metadata.gid(),
            "the users of this group can replace the admin socket by one of theirs, and answer the commands of an operator. `chmod g-w` the folder, or name another one in `[admin] socket`"
        );
    }
    Ok(())
}

fn unconnected() -> Result<std::os::fd::OwnedFd, SocketProblem> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn lock(path: &Path) -> Result<File, SocketProblem> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    let lock =
        options.create(true).truncate(false).write(true).mode(0o600).open(name).map_err(SocketProblem::System)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(SocketProblem::InUse),
        Err(TryLockError::Error(error)) => Err(SocketProblem::System(error)),
    }
}

/// Removes the name that a dead server left.
fn make_room(path: &Path) -> Result<(), SocketProblem> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketProblem::System(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketProblem::NotASocket),
        Ok(_) => {}
    }
    // Nonblocking: a live program whose backlog is full answers EAGAIN.
    match connect(&unconnected()?, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(SocketProblem::InUse),
        Err(rustix::io::Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(SocketProblem::System),
        Err(error) => Err(error.into()),
    }
}

/// Why the admin socket cannot be created: names the path and what to do.
#[derive(Debug)]
pub struct SocketFault {
    path: PathBuf,
    problem: SocketProblem,
}

#[derive(Debug)]
enum SocketProblem {
    InUse,
    NotASocket,
    Exposed { folder: PathBuf, mode: u32 },
    System(io::Error),
}

impl From<rustix::io::Errno> for SocketProblem {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

impl fmt::Display for SocketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the admin socket {}: ", self.path.display())?;
        match &self.problem {
            SocketProblem::InUse => f.write_str(
                "another server listens there. Stop it, or give this one another path in `[admin] socket`",
            ),
            SocketProblem::NotASocket => f.write_str(
                "there is a file that is not a socket, and it is kept. Move it, or choose another path in `[admin] socket`",
            ),
            SocketProblem::Exposed { folder, mode } => write!(
                f,
                "every user can replace it, because its folder {} has mode {mode:o}. `chmod o-w` the folder, or choose another one in `[admin] socket`, such as /run/muster",
                folder.display()
            ),
            SocketProblem::System(error) => write!(
                f,
                "{error}. The folder of `[admin] socket` must exist and this user must be able to write to it, such as /run/muster"
            ),
        }
    }
}

impl std::error::Error for SocketFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            SocketProblem::System(error) => Some(error),
            SocketProblem::InUse | SocketProblem::NotASocket | SocketProblem::Exposed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn problem(path: &Path) -> String {
        SocketFile::bind(path).unwrap_err().to_string()
    }

    #[test]
    fn the_socket_has_mode_0600_before_it_listens_and_is_gone_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // Before the name is narrowed: what the kernel creates.
        let socket = unconnected().unwrap();
        fchmod(&socket, Mode::from_raw_mode(0o600)).unwrap();
        let early = folder.path().join("early.sock");
        bind(&socket, &SocketAddrUnix::new(&early).unwrap()).unwrap();
        assert_eq!(UnixStream::connect(&early).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "not yet");
        #[cfg(target_os = "linux")]
        assert_eq!(mode(&early) & 0o077, 0);

        let (listener, file) = SocketFile::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("admin.sock.lock")), 0o600);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_live_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // A server that was killed: its name is left, and its lock is gone with the process.
        drop(UnixListener::bind(&path).unwrap());
        let live = SocketFile::bind(&path).unwrap();
        let said = problem(&path);
        assert!(said.contains("another server listens there") && said.contains("admin.sock"), "{said}");
        UnixStream::connect(&path).unwrap();
        drop(live);

        // A program that knows nothing of the lock.
        let stranger = UnixListener::bind(&path).unwrap();
        assert!(problem(&path).contains("another server listens there"));
        drop(stranger);
        SocketFile::bind(&path).unwrap();
    }

    #[test]
    fn a_socket_that_others_could_replace_is_refused_or_reported() {
        use crate::logging::{Format, logged};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let with = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let mut said = String::new();
            let log = logged(Format::Human, || {
                said = SocketFile::bind(&path).map_or_else(|fault| fault.to_string(), |_| String::new());
            });
            (said, log)
        };
        for mode in [0o777, 0o702] {
            let (said, _) = with(mode);
            assert!(said.contains("every user can replace it") && said.contains(&format!("mode {mode:o}")), "{said}");
            assert!(said.contains(folder.path().to_str().unwrap()) && said.contains("[admin] socket"), "{said}");
            assert!(!folder.path().join("admin.sock.lock").exists(), "nothing was made");
        }
        // The others cannot rename what is not theirs, and the commands refuse a socket there.
        let (said, log) = with(0o1777);
        assert!(said.is_empty() && log.contains("do not trust a socket there"), "{said}{log}");
        let (said, log) = with(0o770);
        assert!(said.is_empty() && log.contains("the users of this group can replace the admin socket"), "{said}{log}");
        for mode in [0o700, 0o755, 0o1770] {
            assert_eq!(with(mode), (String::new(), String::new()), "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_kept_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert!(problem(&path).contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let said = problem(&folder.path().join("none/admin.sock"));
        assert!(said.contains("No such file") && said.contains("must exist"), "{said}");
    }
}
