//! What a handler has access to outside of its state: time, randomness, outgoing datagrams, counters and the observer.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::drops::{DropCounters, DropReason};
use crate::limits::{QUEUE_KEPT, TRANSMIT_BYTES_KEPT};
use crate::observer::{Direction, Observer, TraceEvent};
use crate::path::Path;
use crate::random::Random;
use crate::time::Now;
use crate::wire::{AlertDescription, AlertLevel};

/// Datagrams that wait for `poll_transmit`: ranges of one buffer that is reused, so sending allocates nothing once the buffer has grown to
/// the size that one turn needs.
#[derive(Default)]
pub(crate) struct Transmits {
    bytes: Vec<u8>,
    queue: VecDeque<(Option<Path>, Range<usize>)>,
}

impl Transmits {
    /// Frees the memory that one batch of timeouts needed.
    fn shrink(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > TRANSMIT_BYTES_KEPT {
            self.bytes.shrink_to(TRANSMIT_BYTES_KEPT);
        }
        if self.queue.capacity() > QUEUE_KEPT {
            self.queue.shrink_to(QUEUE_KEPT);
        }
    }

    pub(crate) fn poll(&mut self) -> Option<(Option<Path>, &[u8])> {
        let (path, range) = self.queue.pop_front()?;
        Some((path, &self.bytes[range]))
    }
}

/// Everything outside of a handshake or a session, for the duration of one call.
pub(crate) struct Port<'a> {
    pub(crate) now: Now,
    /// The path for answers; `None` at a client.
    pub(crate) path: Option<Path>,
    pub(crate) random: &'a Arc<dyn Random>,
    pub(crate) transmits: &'a mut Transmits,
    pub(crate) drops: &'a mut DropCounters,
    pub(crate) observer: Option<&'a dyn Observer>,
}

impl Port<'_> {
    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        if let Some(observer) = self.observer {
            observer.observe(self.now, self.path, event);
        }
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drops.add(reason);
        self.trace(&TraceEvent::Dropped { reason });
    }

    pub(crate) fn trace_alert(&self, direction: Direction, level: AlertLevel, description: AlertDescription) {
        self.trace(&TraceEvent::Alert { direction, level, description });
    }

    /// Begins a datagram.
    pub(crate) fn datagram(&mut self) -> DatagramWriter<'_> {
        if self.transmits.queue.is_empty() {
            self.transmits.shrink();
        }
        DatagramWriter {
            now: self.now,
            path: self.path,
            observer: self.observer,
            start: self.transmits.bytes.len(),
            transmits: self.transmits,
        }
    }
}

/// Writes datagrams one after the other, record by record.
pub(crate) struct DatagramWriter<'a> {
    now: Now,
    path: Option<Path>,
    observer: Option<&'a dyn Observer>,
    start: usize,
    transmits: &'a mut Transmits,
}

impl DatagramWriter<'_> {
    /// Where records are appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.transmits.bytes
    }

    /// Bytes of the datagram so far.
    pub(crate) fn length(&self) -> usize {
        self.transmits.bytes.len() - self.start
    }

    /// Appends copies of all records in the datagram, as many as fit `bytes_max`. A receiver drops them as replays (RFC 6347 §4.1.2.6), so
    /// they only show how long the datagram was.
    pub(crate) fn repeat_up_to(&mut self, bytes_max: usize) {
        let (start, length) = (self.start, self.length());
        while length > 0 && self.length() + length <= bytes_max {
            self.transmits.bytes.extend_from_within(start..start + length);
        }
    }

    /// Moves the datagram to the queue and begins the next one. An empty datagram is not queued.
    pub(crate) fn finish(&mut self) {
        let range = self.start..self.transmits.bytes.len();
        if range.is_empty() {
            return;
        }
        if let Some(observer) = self.observer {
            let bytes = &self.transmits.bytes[range.clone()];
            observer.observe(self.now, self.path, &TraceEvent::Datagram { direction: Direction::Sent, bytes });
        }
        self.start = range.end;
        self.transmits.queue.push_back((self.path, range));
    }

    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        if let Some(observer) = self.observer {
            observer.observe(self.now, self.path, event);
        }
    }
}

/// What all handshakes and sessions of one owner share: lent to them as a [`Port`].
pub(crate) struct Outside {
    pub(crate) random: Arc<dyn Random>,
    pub(crate) transmits: Transmits,
    pub(crate) drops: DropCounters,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Outside {
    pub(crate) fn new(random: Arc<dyn Random>) -> Self {
        Self { random, transmits: Transmits::default(), drops: DropCounters::new(), observer: None }
    }

    pub(crate) fn port(&mut self, now: Now, path: Option<Path>) -> Port<'_> {
        Port {
            now,
            path,
            random: &self.random,
            transmits: &mut self.transmits,
            drops: &mut self.drops,
            observer: self.observer.as_deref(),
        }
    }
}
