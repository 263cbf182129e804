//! A session whose handshake was narrowed tries datagrams of the full length again: what looked like a narrow path may have been a few
//! losses in a row, and a session would send small datagrams ever after.
//!
//! What is risked is one short record, which its sender repeats by itself if it is lost. It goes out several times in one long datagram;
//! the copies are replays to the receiver. If the peer goes on, the datagram arrived. If it repeats what it said before, or we do, then
//! it is taken for lost, and the next attempt is made much later. Nothing of this is in a session that was never narrowed.

use std::time::{Duration, Instant};

pub(crate) struct SizeProbe {
    /// Bytes of a datagram of the full length.
    full: usize,
    /// Plaintext that one record may have, as agreed.
    record_bytes_max: usize,
    /// Records to be sent before the next attempt.
    countdown: u32,
    /// The countdown after an attempt that failed.
    pause: u32,
    under_way: Option<UnderWay>,
    last_sent: u32,
    last_received: u32,
}

#[derive(Clone, Copy)]
struct UnderWay {
    since: Instant,
    bytes: usize,
}

/// Records before the first attempt: a path that is truly narrow costs one repeated message in a session that lasts.
const COUNTDOWN: u32 = 8;

/// Each attempt that fails makes the pause so many times as long.
const PAUSE_GROWTH: u32 = 8;

/// Plaintext of a record that may carry an attempt. Shorter ones are acknowledgements for all that is known, whose loss the peer need
/// not show; with longer ones the copies do not come near the full length.
const PLAINTEXT_BYTES: std::ops::RangeInclusive<usize> = 12..=96;

/// Later than this, what comes says nothing about the attempt: the peer may have given up what it waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

impl SizeProbe {
    pub(crate) const fn new(full: usize, record_bytes_max: usize) -> Self {
        let (countdown, pause) = (COUNTDOWN, COUNTDOWN * PAUSE_GROWTH);
        Self { full, record_bytes_max, countdown, pause, under_way: None, last_sent: 0, last_received: 0 }
    }

    pub(crate) const fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Whether this record, which is about to be sent, carries an attempt: then the length that the datagram may have.
    pub(crate) fn before_sending(&mut self, plaintext: &[u8]) -> Option<usize> {
        let mark = mark(plaintext);
        if std::mem::replace(&mut self.last_sent, mark) == mark && self.under_way.is_some() {
            self.failed();
        }
        self.countdown = self.countdown.saturating_sub(1);
        let carries = self.countdown == 0 && self.under_way.is_none() && PLAINTEXT_BYTES.contains(&plaintext.len());
        carries.then_some(self.full)
    }

    /// The attempt is on its way.
    pub(crate) const fn sent(&mut self, now: Instant, bytes: usize) {
        self.under_way = Some(UnderWay { since: now, bytes });
    }

    /// Something of the peer's came: the length that is known to arrive now, if this shows it.
    pub(crate) fn received(&mut self, now: Instant, plaintext: &[u8]) -> Option<usize> {
        let mark = mark(plaintext);
        let repeated = std::mem::replace(&mut self.last_received, mark) == mark;
        let UnderWay { since, bytes } = self.under_way?;
        if repeated || now.saturating_duration_since(since) > ANSWER_MAX {
            self.failed();
            return None;
        }
        Some(bytes)
    }

    const fn failed(&mut self) {
        self.under_way = None;
        self.countdown = self.pause;
        self.pause = self.pause.saturating_mul(PAUSE_GROWTH);
    }
}

/// FNV-1a: by it a message is recognised when it comes again. Who finds two of one mark is the peer itself, and gains short datagrams.
fn mark(plaintext: &[u8]) -> u32 {
    plaintext.iter().fold(0x811C_9DC5, |mark, byte| (mark ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
