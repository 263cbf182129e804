//! A session whose handshake reduced the datagram size tries the full length again: what looked like a narrow path may have been a few losses
//! in a row, and the session would otherwise send small datagrams for its whole life.
//!
//! An attempt risks one short record, which its sender repeats if it is lost. The record is sent several times in one long datagram; to the
//! receiver the copies are replays. If the peer continues, the datagram arrived. If the peer or our side repeats its previous message, the
//! datagram counts as lost, and the next attempt is made much later. A session that was never reduced holds none of this.

use std::time::{Duration, Instant};

pub(crate) struct SizeProbe {
    /// Bytes of a datagram of the full length.
    full: usize,
    /// Maximum plaintext of one record, as agreed.
    record_bytes_max: usize,
    /// Records to be sent before the next attempt.
    countdown: u32,
    /// Initial value of the countdown after a failed attempt.
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

/// Records before the first attempt: on a path that is truly narrow this costs one repeated message in a long
/// session.
const COUNTDOWN: u32 = 8;

/// Factor by which each failed attempt lengthens the pause.
const PAUSE_GROWTH: u32 = 8;

/// Plaintext sizes of a record that may carry an attempt. Shorter ones may be acknowledgements, and the peer need not show the loss of one;
/// copies of longer ones do not come near the full length.
const PLAINTEXT_BYTES: std::ops::RangeInclusive<usize> = 12..=96;

/// A message that arrives later than this says nothing about the attempt: the peer may have given up waiting.
const ANSWER_MAX: Duration = Duration::from_secs(10);

impl SizeProbe {
    pub(crate) const fn new(full: usize, record_bytes_max: usize) -> Self {
        let (countdown, pause) = (COUNTDOWN, COUNTDOWN * PAUSE_GROWTH);
        Self { full, record_bytes_max, countdown, pause, under_way: None, last_sent: 0, last_received: 0 }
    }

    pub(crate) const fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// The datagram length for the record about to be sent, if that record carries an attempt.
    pub(crate) fn before_sending(&mut self, plaintext: &[u8]) -> Option<usize> {
        let mark = mark(plaintext);
        if std::mem::replace(&mut self.last_sent, mark) == mark && self.under_way.is_some() {
            self.failed();
        }
        self.countdown = self.countdown.saturating_sub(1);
        let carries = self.countdown == 0 && self.under_way.is_none() && PLAINTEXT_BYTES.contains(&plaintext.len());
        carries.then_some(self.full)
    }

    /// The attempt has been sent.
    pub(crate) const fn sent(&mut self, now: Instant, bytes: usize) {
        self.under_way = Some(UnderWay { since: now, bytes });
    }

    /// A record from the peer arrived: returns the length that is now known to arrive, if the record shows
    /// it.
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

/// FNV-1a: recognises a repeated message. Only the peer itself could construct a collision, and would gain nothing but short
/// datagrams.
fn mark(plaintext: &[u8]) -> u32 {
    plaintext.iter().fold(0x811C_9DC5, |mark, byte| (mark ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
