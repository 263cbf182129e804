//! Closes a ledger: what was asked for is written, then the log is copied into the file, so that the file alone is the ledger.
//!
//! A thread of its own does that. Whoever drops the ledger waits for it, but not longer than a service manager would: a disk may hang, and a question
//! of an operator may look at every row. And the ledger may be dropped by one of its own threads, in a completion that held it last: that thread
//! cannot wait for itself.

use std::convert::Infallible;
use std::fs::File;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tracing::warn;

use super::Shared;

/// How long closing may hold up whoever drops the ledger: longer than the rows that can wait take on a working disk.
pub(super) const CLOSING_TIME: Duration = Duration::from_secs(10);

/// What is closed with a ledger.
pub(super) struct Closing {
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Vec<JoinHandle<()>>,
    pub(super) writers: Vec<JoinHandle<()>>,
    /// See `connect_anchor`.
    pub(super) anchor: Connection,
    /// Held until everything is closed.
    pub(super) lock: File,
}

impl Closing {
    /// Closes it, and waits for that at most so long.
    pub(super) fn close_within(self, time: Duration) {
        let shared = Arc::clone(&self.shared);
        let here = thread::current().id();
        let is_own = self.readers.iter().chain(&self.writers).any(|thread| thread.thread().id() == here);
        let (closed, ended) = mpsc::channel::<Infallible>();
        let close = move || {
            self.close();
            drop(closed);
        };
        let file = shared.file.display();
        match thread::Builder::new().name("ledger-close".to_owned()).spawn(close) {
            Ok(_) if is_own => {}
            Ok(_) => {
                if ended.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                    warn!(
                        %file,
                        seconds = time.as_secs(),
                        "the ledger is still being closed: rows that nobody was told of may be lost, and the next start takes the others from its log"
                    );
                }
            }
            Err(why) => {
                warn!(%file, "the system has no thread to close the ledger: {why}. The next start takes its rows from its log");
                for queue in [&shared.points, &shared.scans] {
                    queue.close();
                }
                shared.writes.close();
            }
        }
    }

    fn close(self) {
        let Self { shared, readers, writers, anchor, lock } = self;
        for queue in [&shared.points, &shared.scans] {
            queue.close();
        }
        // The writer's connection has to be the last one: it copies the log into the file and removes it.
        for thread in readers {
            let _the_panic_was_reported = thread.join();
        }
        drop(anchor);
        shared.writes.close();
        // The writer has the last checkpoint for the other one.
        for thread in writers.into_iter().rev() {
            let _the_panic_was_reported = thread.join();
        }
        drop(lock);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use std::path::Path;

    use authority::{Ledger, RowFilter};
    use rustls_pki_types::UnixTime;

    use super::super::{Beside, Fresh, SqliteLedger, connect_beside};
    use super::*;
    use crate::fault::OpenProblem;

    fn open(file: &Path) -> SqliteLedger {
        SqliteLedger::open(file, fresh(), UnixTime::now()).unwrap()
    }

    fn fresh() -> Fresh {
        Fresh { serial_key: [7; 16] }
    }

    /// Opens the ledger once its lock is free.
    fn open_when_closed(file: &Path) -> SqliteLedger {
        loop {
            match SqliteLedger::open(file, fresh(), UnixTime::now()) {
                Err(fault) if matches!(fault.problem, OpenProblem::InUse) => thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }

    fn is_alone(file: &Path) -> bool {
        !crate::paths::with_suffix(file, "-wal").exists()
    }

    #[test]
    fn a_completion_that_holds_the_ledger_last_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        type Ask = fn(&SqliteLedger, Box<dyn FnOnce() + Send>);
        let asks: [Ask; 3] = [
            |ledger, done| ledger.find(Vec::new(), Box::new(move |_| done())),
            |ledger, done| ledger.count(RowFilter::default(), Box::new(move |_| done())),
            |ledger, done| ledger.flush(Box::new(move |_| done())),
        ];
        for ask in asks {
            let ledger = Arc::new(open_when_closed(&file));
            let (held, (release, released)) = (Arc::clone(&ledger), mpsc::channel::<Infallible>());
            ask(
                &ledger,
                Box::new(move || {
                    let _ = released.recv();
                    drop(held);
                }),
            );
            drop(ledger);
            drop(release);
            drop(open_when_closed(&file));
            assert!(is_alone(&file));
        }
    }

    #[test]
    fn a_thread_that_hangs_does_not_hold_up_whoever_closes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let mut ledger = open(&file);
        let (release, released) = mpsc::channel::<Infallible>();
        ledger.find(Vec::new(), Box::new(move |_| _ = released.recv()));
        ledger.closing.get_mut().unwrap().take().unwrap().close_within(Duration::from_millis(1));
        // Until it is closed, nobody else opens it.
        let again = SqliteLedger::open(&file, fresh(), UnixTime::now());
        assert!(matches!(again.unwrap_err().problem, OpenProblem::InUse));
        drop(release);
        drop(open_when_closed(&file));
        assert!(is_alone(&file));
    }

    #[test]
    fn a_reader_beside_leaves_no_log_behind_and_no_log_of_a_writer_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        drop(open(&file));
        let rows =
            |beside: &Beside| -> i64 { beside.query_row("SELECT rows FROM tally", [], |row| row.get(0)).unwrap() };
        assert_eq!(rows(&connect_beside(&file).unwrap()), 0);
        assert!(is_alone(&file));
        let ledger = open(&file);
        assert_eq!(rows(&connect_beside(&file).unwrap()), 0);
        assert!(!is_alone(&file));
        drop(ledger);
        assert!(is_alone(&file));
    }
}
