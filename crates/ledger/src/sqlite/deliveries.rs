//! Keys that have reached their devices, until the writer has noted that.
//!
//! They are noted with the next batch, or within a second by one of their own: nobody waits for it, and an enrolment pays no sync for it. There are never more of
//! them than certificates that were recorded with such keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pki::Digest;
use pki::issue::Serial;

/// Those that wait.
#[derive(Default)]
pub(super) struct Deliveries {
    /// Looked at for each batch, without the lock.
    is_any: AtomicBool,
    waiting: Mutex<Arrived>,
}

/// Certificates whose keys have arrived.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) serials: Vec<Serial>,
    pub(super) relayed: Vec<Digest>,
}

impl Deliveries {
    pub(super) fn add(&self, serials: Vec<Serial>, relayed: Vec<Digest>) {
        let mut waiting = self.lock();
        waiting.serials.extend(serials);
        waiting.relayed.extend(relayed);
        self.is_any.store(true, Ordering::Release);
    }

    /// What has to be noted; the caller gives back what it could not write.
    pub(super) fn take(&self) -> Arrived {
        if !self.is_any.load(Ordering::Acquire) {
            return Arrived::default();
        }
        let mut waiting = self.lock();
        self.is_any.store(false, Ordering::Release);
        std::mem::take(&mut waiting)
    }

    pub(super) fn give_back(&self, arrived: Arrived) {
        if !arrived.is_empty() {
            self.add(arrived.serials, arrived.relayed);
        }
    }

    /// Two lists of whole values: a thread that panicked left them good.
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrived {
    pub(super) fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.relayed.is_empty()
    }
}
