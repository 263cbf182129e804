//! The result of a command: its exit status, and one message that says what is wrong and what to do.
//!
//! The statuses are part of the interface: scripts branch on them.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

/// The exit status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Done,
    /// Failed: a file, an internal error, or an invalid answer.
    Failed,
    /// The command line is wrong. clap uses the same number.
    Usage,
    /// The server refused: 4.xx, or an alert about the device.
    Refused,
    /// The server answered "later": 5.03 or 4.29.
    Later,
    /// No answer arrived in time.
    NoAnswer,
    /// The server's certificate has another name, or no trusted CA issued it.
    NotTrusted,
    /// A measurement that missed its target rate: its figures are not valid.
    Void,
    /// The certificate was renewed, and the command that runs afterwards failed.
    HookFailed,
    /// A measurement was valid, and its figures are not what was asked for.
    CriterionMet,
    /// Ctrl-C or SIGTERM; what a shell reports for SIGINT.
    Interrupted,
}

impl Status {
    /// The number that the process exits with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Later => 4,
            Self::NoAnswer => 5,
            Self::NotTrusted => 6,
            Self::Void => 7,
            Self::HookFailed => 8,
            Self::CriterionMet => 9,
            Self::Interrupted => 130,
        }
    }
}

impl Status {
    /// The name of the status in the output of `--json`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Later => "later",
            Self::NoAnswer => "no answer",
            Self::NotTrusted => "not trusted",
            Self::Void => "void",
            Self::HookFailed => "hook failed",
            Self::CriterionMet => "criterion met",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CommandFault {
    status: Status,
    message: String,
    remedy: Option<String>,
    /// The server does not take the identity that was shown to it.
    identity_refused: bool,
    /// Its message is on stderr, or in the queue of lines for it.
    said: bool,
    /// The server is not asked again before this time has passed.
    retry_after: Option<Duration>,
    /// Fields of the verb itself, for programs, in addition to the message.
    fields: serde_json::Map<String, serde_json::Value>,
}

/// The result of every command.
pub(crate) type CommandResult<T = ()> = Result<T, CommandFault>;

impl CommandFault {
    /// A fault with its exit status; the message names the file, key or peer.
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            remedy: None,
            identity_refused: false,
            said: false,
            retry_after: None,
            fields: serde_json::Map::new(),
        }
    }

    /// Exit 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Status::Failed, message)
    }

    /// Exit 2: the arguments do not fit together in a way that clap cannot see.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, message)
    }

    /// Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self::new(Status::Interrupted, "interrupted; nothing was kept")
    }

    /// Notes whether the server refused the identity: another one may be tried.
    pub(crate) fn refusing_identity(mut self, refused: bool) -> Self {
        self.identity_refused = refused;
        self
    }

    /// Whether the server refused the identity.
    pub(crate) fn is_identity_refused(&self) -> bool {
        self.identity_refused
    }

    /// Notes how long the server is not to be asked again.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// How long the server is not to be asked again, if it said so.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A field of the object that `--json` prints.
    pub(crate) fn field(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The fields of a whole object in addition to the outcome of the verb.
    pub(crate) fn fields(mut self, object: serde_json::Value) -> Self {
        if let serde_json::Value::Object(fields) = object {
            self.fields.extend(fields);
        }
        self
    }

    /// Prints the message on stderr, unless that has been done.
    pub(crate) fn say(&self) {
        if !self.said {
            say!("muster: {self}");
        }
    }

    /// Writes the message to `lines`, which lead to stderr.
    pub(crate) fn said_to(mut self, mut lines: impl std::io::Write) -> Self {
        self.said = lines.write_all(format!("muster: {self}\n").as_bytes()).is_ok();
        self
    }

    /// The object that `--json` prints on stdout instead of a result.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut object = self.fields.clone();
        object.insert("outcome".to_owned(), self.status.word().into());
        object.insert("exit".to_owned(), self.status.code().into());
        object.insert("message".to_owned(), self.message.as_str().into());
        object.insert("remedy".to_owned(), self.remedy.as_deref().into());
        object.into()
    }

    /// The exit status of the fault.
    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CommandFault {}

/// Prints a result of the command on stdout. A reader that has closed the pipe (`muster ... | head`) ends the process quietly.
macro_rules! out {
    ($($arg:tt)*) => { $crate::outcome::write_stdout(format_args!($($arg)*)) };
}

/// Prints progress and explanations on stderr.
macro_rules! say {
    ($($arg:tt)*) => { $crate::outcome::write_stderr(format_args!($($arg)*)) };
}

pub(crate) use {out, say};

/// Prints the one object that `--json` promises for a success: the verb's own fields and the outcome.
pub(crate) fn print_json(mut object: serde_json::Value) {
    object["outcome"] = Status::Done.word().into();
    object["exit"] = Status::Done.code().into();
    out!("{object}");
}

pub(crate) fn write_stdout(line: fmt::Arguments<'_>) {
    if let Err(error) = try_stdout(line) {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            say!("muster: cannot write to standard output: {error}");
        }
        std::process::exit(i32::from(Status::Failed.code()));
    }
}

/// Like `result`, for callers that continue without a reader.
pub(crate) fn try_stdout(line: fmt::Arguments<'_>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_fmt(line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

pub(crate) fn write_stderr(line: fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr().lock();
    // There is nowhere left to report an error.
    let _ = stderr.write_fmt(line).and_then(|()| stderr.write_all(b"\n"));
}
