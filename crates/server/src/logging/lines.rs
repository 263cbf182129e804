//! The way of log lines to stderr: a bounded queue, and the thread that writes.
//!
//! ```text
//!   tracing, panics, traces ──► LogLines (bounded) ──► muster-stderr ──► stderr
//!                                   └── full: dropped and counted
//! ```
//!
//! stderr may be a pipe whose reader is stuck. Then only `muster-stderr` waits: everything else goes on, the lines that find the queue full are counted,
//! and one line says how many are missing once the pipe flows again. At the end of the process [`LogGuard`] waits a bounded time for what is queued.
//!
//! `tracing-appender` has such a queue too. Its guard prints to standard output if it finds the queue full: where both outputs are the same stuck pipe
//! (`muster serve 2>&1 | collector`), the process would never end. It also wakes its thread and allocates for each line, and bounds their number instead of
//! their bytes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tracing_subscriber::EnvFilter;

use super::{Format, dispatch};

/// Bytes that wait to be written. A line has about 300: this is what a node says in some seconds in which it issues as fast as it can.
const QUEUED_BYTES_MAX: usize = 4 << 20;
/// What a pipe takes as one piece (PIPE_BUF of Linux, pipe(7)): whole lines of this size are not mixed with those of another writer, such as a hook.
const WRITE_BYTES_MAX: usize = 4_096;
/// A line waits this long for others, so that a flood costs one wake and few system calls for many lines.
const GATHERING: Duration = Duration::from_millis(5);
/// A buffer that a flood has made larger than this is released after it.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// How long the end of the process waits for stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sending end. Writing never waits for stderr, and never fails: what finds the queue full is dropped and counted.
#[derive(Clone, Debug)]
pub struct LogLines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The thread waits here for a line.
    queued: Condvar,
    /// Told when all that was queued has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines, one after the other.
    text: Vec<u8>,
    /// Bytes that the thread is writing; they count as queued.
    writing: usize,
    /// All that was queued has been written, and the thread waits for a line.
    idle: bool,
    /// Lines dropped since the start.
    dropped: u64,
    /// How many of them a line of the log has reported.
    reported: u64,
}

impl LogLines {
    /// The queue, and the thread that writes its lines to `out`. Lines of our own are in `format`, coloured if `ansi`.
    pub(super) fn start(out: File, format: Format, ansi: bool) -> io::Result<Self> {
        let lines = Self(Arc::default());
        let writer = LineWriter { shared: Arc::clone(&lines.0), out: Arc::new(Sink(out)), format, ansi };
        // The process does not wait for it: a write to a stuck pipe has no end.
        std::thread::Builder::new().name("muster-stderr".into()).spawn(move || writer.run())?;
        Ok(lines)
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Waits until all that is queued has been written, or for `timeout`; true if it has been.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let queue = self.0.lock();
        let waited = self.0.written.wait_timeout_while(queue, timeout, |queue| !queue.idle);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn push(&self, lines: &[u8]) {
        let mut queue = self.0.lock();
        if queue.text.len() + queue.writing + lines.len() > QUEUED_BYTES_MAX {
            queue.dropped += count(lines);
            return;
        }
        queue.text.extend_from_slice(lines);
        // A wake is a system call: only the first line of a batch makes it.
        if std::mem::take(&mut queue.idle) {
            self.0.queued.notify_one();
        }
    }
}

/// Takes whole lines in each call.
impl Write for &LogLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for LogLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        (&*self).write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that could panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is still queued when the process ends, normally or by an error, for a second at most.
#[derive(Debug)]
#[must_use = "dropping it writes what is queued"]
pub struct LogGuard(LogLines);

impl LogGuard {
    pub(super) fn new(lines: LogLines) -> Self {
        Self(lines)
    }

    /// Where other lines for stderr go, such as a trace: after those of the log so far, and without waiting for stderr.
    #[must_use]
    pub fn lines(&self) -> LogLines {
        self.0.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// The receiving end: the body of the thread.
struct LineWriter {
    shared: Arc<Shared>,
    out: Arc<Sink>,
    format: Format,
    ansi: bool,
}

impl LineWriter {
    fn run(self) {
        let mut text = Vec::new();
        loop {
            let missing = self.take(&mut text);
            let failed = self.write(&text);
            text.clear();
            text.shrink_to(KEPT_BYTES_MAX);
            if missing > 0 && failed == 0 {
                self.report(missing);
                self.shared.lock().reported += missing;
            }
        }
    }

    /// Waits for lines and takes all that are queued; returns how many were dropped since the last report. The queue was full then: they belong behind
    /// those that it holds.
    fn take(&self, text: &mut Vec<u8>) -> u64 {
        let mut queue = self.shared.lock();
        while queue.text.is_empty() {
            queue.idle = true;
            self.shared.written.notify_all();
            queue = self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        drop(queue);
        std::thread::sleep(GATHERING);
        let mut queue = self.shared.lock();
        std::mem::swap(&mut queue.text, text);
        queue.writing = text.len();
        queue.dropped - queue.reported
    }

    /// Returns how many lines could not be written: a closed pipe or a full disk loses them, and there is nowhere left to report it now.
    fn write(&self, text: &[u8]) -> u64 {
        let mut failed = 0;
        for lines in pieces(text) {
            let lost = if (&*self.out).write_all(lines).is_ok() { 0 } else { count(lines) };
            let mut queue = self.shared.lock();
            queue.writing -= lines.len();
            queue.dropped += lost;
            failed += lost;
        }
        failed
    }

    /// Writes a line in the same format as the others, past the queue.
    fn report(&self, missing: u64) {
        let dispatch = dispatch(self.format, EnvFilter::new("warn"), self.ansi, Arc::clone(&self.out));
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(
                lines = missing,
                "log lines dropped here: stderr took them too slowly, or not at all; muster_log_lines_dropped_total counts them"
            );
        });
        drop(dispatch);
        // Otherwise each event would go on asking for both filters.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// stderr. It has a descriptor of its own: a thread that waits in a write would otherwise hold the lock of `std::io::stderr`.
#[derive(Debug)]
struct Sink(File);

impl Write for &Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.0).write(bytes) {
                // Another process may have made the pipe non-blocking.
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::OUT)], None)?;
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

/// Whole lines, as many as fit in one write; a longer line is a piece of its own.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end_of_line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let fitting = rest.get(..WRITE_BYTES_MAX).map_or(Some(rest.len()), |start| {
            start.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1).or_else(|| end_of_line(rest))
        });
        let (piece, after) = rest.split_at(fitting.unwrap_or(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;

    use super::*;

    /// Nothing takes this long unless something is wrong.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn queue() -> (LogLines, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (LogLines::start(File::from(OwnedFd::from(writer)), Format::Human, false).unwrap(), reader)
    }

    /// A queue to a pipe without room: empty lines fill it.
    fn stuck_queue() -> (LogLines, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        // A description of our own: the writing thread goes on waiting for room.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut filling = File::options().write(true).custom_flags(nonblocking).open(path).unwrap();
        while filling.write(b"\n").map_err(|error| error.kind()) != Err(io::ErrorKind::WouldBlock) {}
        (LogLines::start(File::from(OwnedFd::from(writer)), Format::Human, false).unwrap(), reader)
    }

    fn line(number: u64) -> String {
        format!("{number:0>99}\n")
    }

    fn push(lines: &LogLines, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| { &*lines }.write_all(line(number).as_bytes()).unwrap());
    }

    #[test]
    fn a_stuck_pipe_delays_nobody_and_says_how_many_lines_are_missing_once_it_flows() {
        let (lines, reader) = stuck_queue();
        let most = (QUEUED_BYTES_MAX / 100) as u64;
        push(&lines, 0..most + 700);
        assert!(!lines.flush(Duration::from_millis(20)), "the end of a process does not wait for ever");
        push(&lines, 0..10);
        assert_eq!(lines.dropped(), 710);
        let mut flowing = BufReader::new(reader).lines().map(Result::unwrap).filter(|line| !line.is_empty());
        let mut read = || flowing.next().unwrap();
        let mut numbers = Vec::new();
        let report = loop {
            match read().parse::<u64>() {
                Ok(number) => numbers.push(number),
                Err(_) => break numbers.len(),
            }
        };
        assert_eq!(report as u64, most, "the report stands where the lines are missing");
        assert!(numbers.is_sorted(), "in their order");
        push(&lines, 7..8);
        assert_eq!(read(), line(7).trim_end());
        assert!(lines.flush(PATIENCE));
        assert_eq!(lines.dropped(), 710, "the report itself is not dropped");
    }

    #[test]
    fn the_report_names_the_number_in_the_format_of_the_log() {
        let (lines, mut reader) = queue();
        lines.0.lock().dropped = 7;
        push(&lines, 1..2);
        assert!(lines.flush(PATIENCE));
        push(&lines, 2..3);
        assert!(lines.flush(PATIENCE));
        let mut text = vec![0; 4_096];
        let length = reader.read(&mut text).unwrap();
        let text = String::from_utf8(text[..length].to_vec()).unwrap();
        let said: Vec<&str> = text.lines().collect();
        assert_eq!((said.len(), said[0], said[2]), (3, line(1).trim_end(), line(2).trim_end()), "{text}");
        assert!(
            said[1].contains("WARN") && said[1].contains("dropped here") && said[1].ends_with(" lines=7"),
            "{text}"
        );
    }

    #[test]
    fn lines_that_stderr_refuses_are_counted_too() {
        let (lines, reader) = queue();
        drop(reader);
        push(&lines, 0..500);
        assert!(lines.flush(PATIENCE));
        assert_eq!(lines.dropped(), 500);
    }

    #[test]
    fn a_pipe_that_another_process_made_non_blocking_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let file = File::from(OwnedFd::from(writer));
        let lines = LogLines::start(file, Format::Human, false).unwrap();
        push(&lines, 0..5_000);
        let mut flowing = BufReader::new(reader).lines();
        for number in 0..5_000 {
            assert_eq!(flowing.next().unwrap().unwrap(), line(number).trim_end());
        }
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn a_write_is_whole_lines_up_to_what_a_pipe_takes_as_one() {
        let text: Vec<u8> = (0..200).flat_map(|number| line(number).into_bytes()).collect();
        let sizes: Vec<usize> = pieces(&text).map(<[u8]>::len).collect();
        assert_eq!(sizes, [4_000, 4_000, 4_000, 4_000, 4_000]);
        let long = [vec![b'x'; 9_000], b"\nshort\nends without".to_vec()].concat();
        let found: Vec<usize> = pieces(&long).map(<[u8]>::len).collect();
        assert_eq!(found, [9_001, 18], "a line that does not fit is a piece of its own");
        assert_eq!((pieces(b"").count(), count(b"a\nb\nc"), count(b"")), (0, 3, 0));
        assert_eq!(pieces(&long).flatten().copied().collect::<Vec<_>>(), long);
    }
}
