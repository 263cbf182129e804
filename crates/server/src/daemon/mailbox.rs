//! The way back from the pool to a shard: a bounded queue, and one wake-up for everything that comes while the shard sleeps.
//!
//! ```text
//!   pool thread: send(batch) ──► queue ──► [the shard sleeps, and nobody has woken it?] ──► Waker ──► epoll
//!   shard:       awake: take everything, in each turn
//!                before it sleeps: clear the mark, look once more
//! ```
//!
//! A shard that is awake needs no system call to learn of a batch: it looks before it sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use mio::Waker;

/// The pool's end of the queue.
pub(super) struct Sender<T> {
    queue: SyncSender<T>,
    bell: Arc<Bell>,
}

/// The shard's end of the queue.
pub(super) struct Mailbox<T> {
    queue: Receiver<T>,
    bell: Arc<Bell>,
    /// What the last look before a sleep has found.
    found: Option<T>,
}

struct Bell {
    waker: Arc<Waker>,
    /// Whether the shard will look without being woken: it is awake, or somebody has woken it.
    awake: AtomicBool,
}

/// A queue for `capacity` batches. The shard has at most that many pieces of work outside at once, and each piece returns in one batch, so a sender
/// never finds the queue full.
pub(super) fn mailbox<T>(capacity: usize, waker: Arc<Waker>) -> (Sender<T>, Mailbox<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let bell = Arc::new(Bell { waker, awake: AtomicBool::new(false) });
    (Sender { queue: sender, bell: Arc::clone(&bell) }, Mailbox { queue: receiver, bell, found: None })
}

impl<T> Sender<T> {
    /// Delivers a batch. A batch for a shard that has ended is dropped.
    pub(super) fn send(&self, batch: T) {
        match self.queue.try_send(batch) {
            Ok(()) => self.bell.ring(),
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => debug_assert!(false, "more batches than pieces of work"),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.awake.swap(true, Ordering::AcqRel) {
            // A waker fails only if its poll no longer exists; then nothing waits.
            let _ = self.waker.wake();
        }
    }
}

impl<T> Mailbox<T> {
    /// The shard is awake: it will look before it sleeps, and nobody has to wake it.
    pub(super) fn attend(&self) {
        self.bell.awake.swap(true, Ordering::AcqRel);
    }

    /// The shard is about to sleep: senders wake it from now on. If this says no, a batch is there already, and the shard must not sleep.
    pub(super) fn may_sleep(&mut self) -> bool {
        // A swap, not a store. Either it comes before the sender's swap, and the sender wakes the shard, or it comes after it, and this look finds
        // the batch. A store could stay in the core's buffer until the queue was found empty; a sender in between would read the old mark and assume
        // that the shard looks by itself.
        self.bell.awake.swap(false, Ordering::AcqRel);
        if self.found.is_none() {
            self.found = self.queue.try_recv().ok();
        }
        self.found.is_none()
    }

    /// The next batch, if there is one.
    pub(super) fn take(&mut self) -> Option<T> {
        self.found.take().or_else(|| self.queue.try_recv().ok())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    /// Whether the poll returns a wake-up without waiting.
    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn one_wake_brings_all_that_comes_while_the_shard_sleeps() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, mut mailbox) = mailbox(4, waker);
        assert!(mailbox.may_sleep() && !is_woken(&mut poll));
        sender.send(1);
        assert!(is_woken(&mut poll));
        sender.clone().send(2);
        assert!(!is_woken(&mut poll), "the first wake served both");
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Some(1), Some(2), None));
        assert!(mailbox.may_sleep());
        sender.send(3);
        assert!(is_woken(&mut poll), "it would have slept");
        assert_eq!(mailbox.take(), Some(3));
    }

    #[test]
    fn a_shard_that_is_awake_is_not_woken_and_does_not_sleep_over_a_batch() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, mut mailbox) = mailbox(4, waker);
        mailbox.attend();
        sender.send(1);
        sender.send(2);
        assert!(!is_woken(&mut poll));
        assert!(!mailbox.may_sleep() && !mailbox.may_sleep(), "it says so until the batch is taken");
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Some(1), Some(2), None));
        assert!(mailbox.may_sleep());
    }
}
