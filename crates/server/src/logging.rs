//! Logs on stderr, in a format for a person or for a program.
//!
//! ```text
//!   shard ──► Refusals (bounded) ──► muster-log     a line for each device, at most five a second for a reason; sums every ten seconds
//!   pool  ──► Journal  (bounded) ──► muster-issued  a line for each certificate
//!                                         └──► tracing ──► values quoted and escaped ──► LogLines (bounded) ──► muster-stderr ──► stderr
//! ```
//!
//! There are two queues of events, so that a flood of refusals does not displace a line about a certificate. No thread but `muster-stderr` ever waits for a
//! terminal or a pipe: a line that finds its queue full is counted instead.

mod escape;
mod issued;
mod lines;
mod refusals;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use lines::LogLines;

pub(crate) use issued::{Issuance, Journal};
pub use lines::LogGuard;
pub(crate) use refusals::Refusals;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The environment variable of the filter: `MUSTER_LOG=debug`, `MUSTER_LOG=server=trace,info`.
pub(crate) const FILTER_VARIABLE: &str = "MUSTER_LOG";

/// The lines of this process, once `init` was called: like the log, they belong to no server.
static LINES: OnceLock<LogLines> = OnceLock::new();

/// Sends this process's log to stderr, and its panics to the log. Call once, and drop the guard at the end: that writes the last lines.
///
/// # Errors
/// The system refuses a thread, or another descriptor of stderr.
pub fn init(format: Format) -> io::Result<LogGuard> {
    let asked = std::env::var(FILTER_VARIABLE).ok().map(EnvFilter::try_new).transpose();
    let (asked, senseless) = asked.map_or_else(|fault| (None, Some(fault)), |filter| (filter, None));
    let filter = asked.unwrap_or_else(|| EnvFilter::new("info"));
    let ansi = net::Terminal::of_stderr().colours;
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let started = LogLines::start(stderr, format, ansi)?;
    let lines = LINES.get_or_init(|| started);
    // An error means that a subscriber is already installed, such as a test's.
    let _ = tracing::dispatcher::set_global_default(dispatch(format, filter, ansi, Arc::new(lines.clone())));
    // The hook of std writes to stderr itself: a thread that panics while a pipe is stuck would never end.
    std::panic::set_hook(Box::new(log_panic));
    if let Some(fault) = senseless {
        tracing::warn!(
            %fault,
            "{FILTER_VARIABLE} is not a valid filter; using `info`. Write `debug`, or a target and a level such as `server=trace,info`"
        );
    }
    Ok(LogGuard::new(lines.clone()))
}

/// Lines of the log of this process that were dropped.
pub(crate) fn dropped_lines() -> u64 {
    LINES.get().map_or(0, LogLines::dropped)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    tracing::error!(
        thread = thread.name(),
        at = panic.location().map(tracing::field::display),
        backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace)),
        "panicked: {}",
        panic.payload_as_str().unwrap_or("no message")
    );
}

/// The writer of this format; it escapes all values, see the module `escape`.
pub fn dispatch<W>(format: Format, filter: EnvFilter, ansi: bool, writer: W) -> tracing::Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // tracing would report on stderr that stderr cannot be written, and panic; in the signal thread, that panic would make the server ignore
        // SIGTERM.
        .log_internal_errors(false)
        .with_ansi(ansi);
    match format {
        Format::Human => builder.fmt_fields(escape::EscapedFields).with_writer(writer).into(),
        Format::Json => builder.json().flatten_event(true).with_writer(escape::Escaping(writer)).into(),
    }
}

/// Captures what this thread logs, as it would appear in the log.
#[cfg(test)]
pub(crate) fn logged(format: Format, log: impl FnOnce()) -> String {
    use std::io::{Read as _, Seek as _};

    let mut file = tempfile::tempfile().unwrap();
    let dispatch = dispatch(format, EnvFilter::new("trace"), false, file.try_clone().unwrap());
    tracing::dispatcher::with_default(&dispatch, log);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}
