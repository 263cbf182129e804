//! The client of the admin socket, for commands: it blocks.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::actor_of;
use super::protocol::{AdminAnswer, AdminRequest};

/// The server gives up on its ledger after 20 s and on a reader after 10: no answer comes after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// How often a wait looks whether the user wants to stop.
const STEP: Duration = Duration::from_millis(100);

/// A page of rows has a few hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A server that listens on an admin socket. Each request has a connection of its own: a person who thinks between two requests holds none.
#[derive(Debug)]
pub struct AdminClient {
    path: PathBuf,
}

impl AdminClient {
    /// Finds the server behind the socket at this path.
    ///
    /// # Errors
    /// The system's: `NotFound` or `ConnectionRefused` if no server listens there, `PermissionDenied` for another user. `Other` if what listens there
    /// may not be the server: another user's process, or a socket in a folder where others can put one.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let owner = trusted_folder(path)?;
        trusted(&UnixStream::connect(path)?, owner)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Asks, and waits for the whole answer. The last of its lines is `done` or `error`.
    ///
    /// # Errors
    /// The server is gone, says nothing, or says what is not an answer; or `stops` was true while it was waited for.
    pub fn ask(&self, request: &AdminRequest, stops: &dyn Fn() -> bool) -> Result<Vec<AdminAnswer>, AdminClientFault> {
        let owner = trusted_folder(&self.path).map_err(AdminClientFault::Connection)?;
        let mut stream = UnixStream::connect(&self.path).map_err(AdminClientFault::Connection)?;
        trusted(&stream, owner).map_err(AdminClientFault::Connection)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(AdminClientFault::Connection)?;
        stream.set_read_timeout(Some(STEP)).map_err(AdminClientFault::Connection)?;
        // A server that refuses the connection says why and closes it: its words matter more than the failed write.
        let written = stream.write_all(request.line().as_bytes());
        let answers = read(&mut stream, stops);
        match (written, answers) {
            (Err(error), Err(_)) => Err(AdminClientFault::Connection(error)),
            (_, answers) => answers,
        }
    }
}

/// Write permission of users that are neither the owner nor in the group.
const OTHERS_WRITE: u32 = 0o002;

/// The owner of the folder of a socket. Where everybody can make names, as in `/tmp`, anybody can have made this one; a symbolic link leads to a folder
/// that is not looked at.
fn trusted_folder(path: &Path) -> io::Result<u32> {
    if std::fs::symlink_metadata(path)?.file_type().is_symlink() {
        return Err(io::Error::other("it is a symbolic link. Name the socket itself in `[admin] socket`"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = std::fs::metadata(folder)?;
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other(format!(
            "every user can write to its folder {}, so that it may be the socket of another program. Move it, for example to /run/muster",
            folder.display()
        )));
    }
    Ok(metadata.uid())
}

/// Who listens has to be a user whose word is worth something: this one, root, or the one that the folder belongs to. Another one could keep a revocation
/// to itself.
fn trusted(stream: &UnixStream, owner_of_folder: u32) -> io::Result<()> {
    let server = socket_peercred(stream)?.uid.as_raw();
    if [0, geteuid().as_raw(), owner_of_folder].contains(&server) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a program of the user {} listens there, which is neither root nor you nor the owner of the folder",
        actor_of(server).as_str()
    )))
}

fn read(stream: &mut UnixStream, stops: &dyn Fn() -> bool) -> Result<Vec<AdminAnswer>, AdminClientFault> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut answers, mut text, mut all) = (Vec::new(), Vec::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(AdminClientFault::Closed),
            Ok(bytes) => {
                all += bytes;
                text.extend_from_slice(&buffer[..bytes]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(AdminClientFault::Connection(error)),
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = text.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            answers.push(serde_json::from_slice(line).map_err(AdminClientFault::NotAnAnswer)?);
        }
        if answers.last().is_some_and(AdminAnswer::is_last) {
            return Ok(answers);
        }
        if stops() {
            return Err(AdminClientFault::Stopped);
        }
        if all > ANSWER_BYTES_MAX || Instant::now() >= deadline {
            return Err(AdminClientFault::NoAnswer);
        }
    }
}

/// Why the server gave no answer.
#[derive(Debug)]
pub enum AdminClientFault {
    /// The system's error.
    Connection(io::Error),
    /// The server closed the connection before its answer was complete.
    Closed,
    /// No complete answer came in time.
    NoAnswer,
    /// What came is not an answer.
    NotAnAnswer(serde_json::Error),
    /// The user wanted to stop.
    Stopped,
}

impl fmt::Display for AdminClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the server closed the connection before its answer was complete"),
            Self::NoAnswer => write!(f, "no complete answer within {} s", ANSWER_TIMEOUT.as_secs()),
            Self::NotAnAnswer(error) => write!(f, "what came is not an answer: {error}"),
            Self::Stopped => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for AdminClientFault {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_that_others_cannot_have_made_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let why = |path: &Path| AdminClient::connect(path).unwrap_err();
        assert_eq!(why(&path).kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&path).unwrap();
        AdminClient::connect(&path).unwrap();
        let link = folder.path().join("link.sock");
        symlink(&path, &link).unwrap();
        assert!(why(&link).to_string().contains("a symbolic link"));
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(why(&path).to_string().contains("every user can write to its folder"), "{}", why(&path));
    }

    #[test]
    fn only_a_server_of_this_user_of_root_or_of_the_owner_is_asked() {
        let (one, _other) = UnixStream::pair().unwrap();
        let here = geteuid().as_raw();
        trusted(&one, here).unwrap();
        // The peer of a pair is this process: its user is always trusted, whoever owns the folder.
        trusted(&one, here.wrapping_add(1)).unwrap();
        if here != 0 {
            return;
        }
        // As root: a program of another user, in a folder of root and in its own.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        const NOBODY: u32 = 65_534;
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), None).unwrap();
        let script = "import socket,os,sys,time\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(4)\nprint(flush=True)\nsys.stdin.read()";
        let mut python = std::process::Command::new("python3");
        python.args(["-c", script]).arg(&path);
        python.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let Ok(mut program) = python.spawn() else { return };
        let mut line = [0];
        program.stdout.take().unwrap().read_exact(&mut line).unwrap();
        AdminClient::connect(&path).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(0), None).unwrap();
        let fault = AdminClient::connect(&path).unwrap_err().to_string();
        drop(program.stdin.take());
        program.wait().unwrap();
        assert!(fault.contains("neither root nor you nor the owner of the folder"), "{fault}");
    }
}
