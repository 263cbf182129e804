//! The thread that signs checkpoints and writes them: a slow disk or syslog of theirs keeps no certificate waiting.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing::{error, info};

use super::chain::AuditHead;
use super::checkpoint::{self, Checkpoint};
use super::key::AuditKey;
use super::settings::AuditSettings;
use super::syslog::Syslog;

/// How often a head that grows is signed, in seconds.
const INTERVAL: i64 = 60;

/// How often a head that stays is signed again: nothing happened that could be cut, and the time shows that the ledger ran. A line a minute would
/// be half a million a year.
const IDLE_INTERVAL: i64 = 3_600;

/// Heads that wait for a disk that does not answer: a quarter of an hour. What comes then is dropped and counted; the next head covers it.
const WAITING_MAX: usize = 16;

/// Checkpoints that did not get where they should.
#[derive(Debug, Default)]
pub struct CheckpointFailures {
    /// Not written to the file.
    pub file: AtomicU64,
    /// Not taken by the syslog.
    pub syslog: AtomicU64,
}

/// Says when the head is to be signed, and hands it to the thread.
pub(crate) struct CheckpointTimer {
    last: Option<(AuditHead, i64)>,
    heads: SyncSender<(AuditHead, i64)>,
    failures: Arc<CheckpointFailures>,
}

impl CheckpointTimer {
    /// Hands over the head if it grew and a minute has passed, or if an hour has; also when the clock was set back, and at the start.
    pub(crate) fn tick(&mut self, head: AuditHead, now: i64) {
        let is_due = self.last.is_none_or(|(signed, last)| {
            let interval = if signed == head { IDLE_INTERVAL } else { INTERVAL };
            now < last || now >= last.saturating_add(interval)
        });
        if is_due {
            self.hand_over(head, now);
        }
    }

    /// Hands over the last head, unless it is signed already.
    pub(crate) fn close(&mut self, head: AuditHead, now: i64) {
        if self.last.is_none_or(|(last, _)| last != head) {
            self.hand_over(head, now);
        }
    }

    fn hand_over(&mut self, head: AuditHead, now: i64) {
        self.last = Some((head, now));
        if self.heads.try_send((head, now)).is_err() {
            self.failures.file.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs on a thread of its own until the timer is dropped.
pub(crate) struct CheckpointWriter {
    heads: Receiver<(AuditHead, i64)>,
    key: AuditKey,
    file: PathBuf,
    syslog: Option<Syslog>,
    failures: Arc<CheckpointFailures>,
    fails: Failing,
}

/// What failed last time.
#[derive(Default)]
struct Failing {
    file: bool,
    syslog: bool,
}

/// A timer, and the writer that it drives.
pub(crate) fn checkpoints(
    settings: &AuditSettings,
    key: AuditKey,
    failures: &Arc<CheckpointFailures>,
) -> (CheckpointTimer, CheckpointWriter) {
    let (sender, heads) = sync_channel(WAITING_MAX);
    let timer = CheckpointTimer { last: None, heads: sender, failures: Arc::clone(failures) };
    let syslog = settings.syslog.as_deref().map(Syslog::new);
    let (file, failures) = (settings.checkpoints.clone(), Arc::clone(failures));
    (timer, CheckpointWriter { heads, key, file, syslog, failures, fails: Failing::default() })
}

impl CheckpointWriter {
    pub(crate) fn run(mut self) {
        while let Ok((head, at)) = self.heads.recv() {
            let Some(line) = Checkpoint::line(&head, at, &self.key) else {
                self.failures.file.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.write(&line);
            self.send(at, &line);
        }
    }

    /// Sends the line to the syslog, if there is one. Said once when it begins to fail.
    fn send(&mut self, at: i64, line: &str) {
        let Some(syslog) = &mut self.syslog else { return };
        let is_sent = syslog.send(at, line);
        if !is_sent {
            self.failures.syslog.fetch_add(1, Ordering::Relaxed);
        }
        if !is_sent && !self.fails.syslog {
            let socket = syslog.path().display();
            error!(%socket, "the syslog does not take checkpoints of the audit: check `[audit] syslog`. They are in their file");
        }
        self.fails.syslog = !is_sent;
    }

    /// Said once when it begins to fail, and once when it works again.
    fn write(&mut self, line: &str) {
        let file = self.file.display();
        match checkpoint::append(&self.file, line) {
            Ok(()) if self.fails.file => {
                info!(%file, "checkpoints of the audit are written again");
                self.fails.file = false;
            }
            Ok(()) => {}
            Err(why) => {
                self.failures.file.fetch_add(1, Ordering::Relaxed);
                if !self.fails.file {
                    error!(%file, "cannot write checkpoints of the audit: {why}. Certificates are issued; until it works, a cut tail of the audit is not found");
                }
                self.fails.file = true;
            }
        }
    }
}
