//! The way back from the pool to a shard: a bounded queue, and one wake-up for everything in it.
//!
//! ```text
//!   pool thread: send(batch) ──► queue ──► [first since the shard last looked?] ──► Waker ──► epoll
//!   shard:       clear the mark, then take everything
//! ```

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
}

struct Bell {
    waker: Arc<Waker>,
    /// Whether the waker was used and the shard has not looked since.
    rung: AtomicBool,
}

/// A queue for `capacity` batches. The shard has at most that many pieces of work outside at once, and each piece returns in one batch, so a sender
/// never finds the queue full.
pub(super) fn mailbox<T>(capacity: usize, waker: Arc<Waker>) -> (Sender<T>, Mailbox<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let bell = Arc::new(Bell { waker, rung: AtomicBool::new(false) });
    (Sender { queue: sender, bell: Arc::clone(&bell) }, Mailbox { queue: receiver, bell })
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
        if !self.rung.swap(true, Ordering::AcqRel) {
            // A waker fails only if its poll no longer exists; then nothing waits.
            let _ = self.waker.wake();
        }
    }
}

impl<T> Mailbox<T> {
    /// Clears the mark, so that later senders wake the shard again. Call it before the first [`Mailbox::take`] of a turn.
    pub(super) fn open(&self) {
        // A swap, not a store. Either it comes before the sender's swap, and the sender wakes the shard, or it comes after it, and this turn sees the
        // batch. A store could stay in the core's buffer until the queue was found empty; a sender in between would read the old mark and assume that
        // a wake-up is still pending.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    /// The next batch, if there is one.
    pub(super) fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
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
    fn one_wake_brings_all_that_came_until_the_shard_looks() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, mailbox) = mailbox(4, waker);
        assert!(!is_woken(&mut poll));
        sender.send(1);
        assert!(is_woken(&mut poll));
        sender.clone().send(2);
        assert!(!is_woken(&mut poll), "the first wake served both");
        mailbox.open();
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Some(1), Some(2), None));
        sender.send(3);
        assert!(is_woken(&mut poll), "after a look the next one rings again");
        assert_eq!(mailbox.take(), Some(3));
    }
}
