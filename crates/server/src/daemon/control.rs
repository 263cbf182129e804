//! The phase of a server, and the way any thread can stop it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mio::Waker;

/// The phase of a server. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Some part does not run yet.
    Starting = 0,
    /// New devices are admitted.
    Serving = 1,
    /// Requests in flight are finished.
    Draining = 2,
    /// Everything is closed immediately.
    Stopping = 3,
}

/// A part of the server failed and cannot serve until the server is restarted. This is the reason why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakdown {
    /// The ledger panicked in the middle of a step.
    Ledger,
    /// A service of the runtime panicked; its name.
    Service(&'static str),
}

impl std::fmt::Display for Breakdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger => f.write_str(
                "the ledger is broken: it panicked in the middle of a step, and no certificate can be issued until the server is restarted",
            ),
            Self::Service(name) => write!(f, "{name} panicked and stays stopped until the server is restarted"),
        }
    }
}

/// Shared by all shards and the threads that stop them.
pub(super) struct Control {
    phase: AtomicU8,
    /// Set with the first request to drain.
    deadline: OnceLock<Instant>,
    drain_timeout: Duration,
    /// The first failure.
    breakdown: OnceLock<Breakdown>,
    wakers: RwLock<Vec<Arc<Waker>>>,
}

/// The time that closing takes: to send the last datagrams and join the threads. Draining ends this much earlier, so that the process ends in time.
const CLOSING: Duration = Duration::from_millis(500);

impl Control {
    pub(super) fn new(drain_timeout: Duration) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            deadline: OnceLock::new(),
            drain_timeout,
            breakdown: OnceLock::new(),
            wakers: RwLock::default(),
        }
    }

    pub(super) fn add(&self, waker: Arc<Waker>) {
        self.wakers.write().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Whether new devices are admitted.
    pub(super) fn is_admitting(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Whether the server has begun to end.
    pub(super) fn is_ending(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// When draining ends, if it has begun.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// The part of the drain time that closing takes, at most half of it: the other half of a short time is still for finishing.
    fn closing(&self) -> Duration {
        CLOSING.min(self.drain_timeout / 2)
    }

    /// How long the network may take for the last datagrams; the threads have the same time again.
    pub(super) fn last_datagrams(&self) -> Duration {
        self.closing() / 2
    }

    /// Records that every part runs. A server that has begun to end in the meantime, for example because a shard failed, keeps its phase.
    pub(super) fn admit(&self) {
        self.phase.fetch_max(Phase::Serving as u8, Ordering::AcqRel);
    }

    /// Moves forward to `phase`, one of the phases that end the server.
    pub(super) fn advance(&self, now: Instant, phase: Phase) {
        self.deadline.get_or_init(|| now + self.drain_timeout.saturating_sub(self.closing()));
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Records that a part failed for good. The first failure is logged; the server drains and ends with it as its error, so that it is restarted.
    pub(super) fn broke(&self, breakdown: Breakdown) {
        if self.breakdown.set(breakdown).is_ok() {
            tracing::error!("{breakdown}; shutting down");
            self.advance(Instant::now(), Phase::Draining);
        }
    }

    pub(super) fn breakdown(&self) -> Option<Breakdown> {
        self.breakdown.get().copied()
    }

    /// Makes every shard begin a turn.
    pub(super) fn wake(&self) {
        for waker in self.wakers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            // A waker fails only if its shard has ended.
            let _ = waker.wake();
        }
    }
}
