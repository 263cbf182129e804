//! How a server is told to stop, from any thread.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::metrics::Readiness;

/// Where a server is on its way. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// New devices are admitted.
    Serving = 0,
    /// What is in flight is finished.
    Draining = 1,
    /// Everything is closed at once.
    Stopping = 2,
}

/// Shared by all shards and whoever stops them.
pub(super) struct Control {
    phase: AtomicU8,
    /// Set with the first request to drain.
    deadline: OnceLock<Instant>,
    drain_timeout: Duration,
    readiness: Readiness,
    ledger_broken: AtomicBool,
    wakers: RwLock<Vec<Arc<Waker>>>,
}

/// Said in the log when it happens, and as the reason why the server ended.
pub(super) const LEDGER_BROKEN: &str = "the ledger is broken: it panicked half way through a step, and no certificate can be issued until the server starts again";

/// What closing takes: the last datagrams, joining the threads. Draining ends this much earlier, so that the process ends in time.
const CLOSING: Duration = Duration::from_millis(500);

impl Control {
    pub(super) fn new(drain_timeout: Duration, readiness: Readiness) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            deadline: OnceLock::new(),
            drain_timeout,
            readiness,
            ledger_broken: AtomicBool::new(false),
            wakers: RwLock::default(),
        }
    }

    pub(super) fn add(&self, waker: Arc<Waker>) {
        self.wakers.write().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// When draining ends, once it has begun.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// What closing takes of the time to drain; half of a short one is still for finishing.
    fn closing(&self) -> Duration {
        CLOSING.min(self.drain_timeout / 2)
    }

    /// How long the network may take for the last datagrams; as long again is for the threads.
    pub(super) fn last_datagrams(&self) -> Duration {
        self.closing() / 2
    }

    /// Goes forward to `phase`.
    pub(super) fn advance(&self, now: Instant, phase: Phase) {
        self.readiness.set(false);
        self.deadline.get_or_init(|| now + self.drain_timeout.saturating_sub(self.closing()));
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake();
    }

    /// The ledger panicked half way through a step: nothing can be issued any more. Logged once; the server ends, to be started again.
    pub(super) fn ledger_broke(&self) {
        if !self.ledger_broken.swap(true, Ordering::AcqRel) {
            tracing::error!("{LEDGER_BROKEN}: the server ends");
            self.advance(Instant::now(), Phase::Draining);
        }
    }

    pub(super) fn is_ledger_broken(&self) -> bool {
        self.ledger_broken.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.readiness.get()
    }

    /// Has every shard begin a turn.
    pub(super) fn wake(&self) {
        for waker in self.wakers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            // A waker fails only if its shard has ended.
            let _ = waker.wake();
        }
    }
}
