//! The client of the admin socket, for commands: it blocks.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// The system's: `NotFound` or `ConnectionRefused` if no server listens there, `PermissionDenied` for another user.
    pub fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Asks, and waits for the whole answer. The last of its lines is `done` or `error`.
    ///
    /// # Errors
    /// The server is gone, says nothing, or says what is not an answer; or `stops` was true while it was waited for.
    pub fn ask(&self, request: &AdminRequest, stops: &dyn Fn() -> bool) -> Result<Vec<AdminAnswer>, AdminClientFault> {
        let mut stream = UnixStream::connect(&self.path).map_err(AdminClientFault::Connection)?;
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
