//! Whether the calendar clock can be trusted with a certificate (E30).
//!
//! Two rules. A clock that is more than [`BEHIND_MAX`] before the latest row of the ledger issues nothing: a certificate would be dated before one
//! that was issued earlier. Within that, time stands still at the latest row. And a clock that jumps ahead of the monotonic clock by more than
//! [`JUMP_MAX`] issues nothing: its rows would hold up every later issuance once the clock is put right. At the start of a process there is nothing
//! to compare with, so a gap is only reported.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::refusal::Busy;

/// A clock may be this much before the ledger's latest row: NTP that steps a clock back by less than this stops nobody.
pub const BEHIND_MAX: Duration = Duration::from_secs(60);

/// A clock may jump ahead by this much: not more than certificates are dated back, so that none begins after the true time.
pub const JUMP_MAX: Duration = Duration::from_secs(300);

const _: () = assert!(JUMP_MAX.as_secs() <= crate::ca_profile::BACKDATE.as_secs());

/// Compares the calendar clock with a monotonic clock while a process runs. Shared by all shards.
#[derive(Debug)]
pub struct ClockGuard {
    /// Calendar time minus monotonic time, in seconds: the largest that was accepted.
    accepted: AtomicI64,
}

impl ClockGuard {
    /// Accepts the clock as it is. `mono` counts from any fixed moment.
    #[must_use]
    pub fn new(utc: UnixTime, mono: Duration) -> Self {
        Self { accepted: AtomicI64::new(offset(utc, mono)) }
    }

    /// Accepts the clock, or says why nothing is issued. A clock that comes back from its jump is accepted again; a jump is never accepted by waiting.
    ///
    /// # Errors
    /// [`Busy::ClockAhead`]
    pub fn check(&self, utc: UnixTime, mono: Duration) -> Result<(), Busy> {
        let (accepted, now) = (self.accepted.load(Ordering::Relaxed), offset(utc, mono));
        let jump = now.saturating_sub(accepted);
        if jump > signed(JUMP_MAX) {
            let by = Duration::from_secs(u64::try_from(jump).unwrap_or(0));
            return Err(Busy::ClockAhead { by });
        }
        // A clock that went back may come forward again to where it was.
        self.accepted.fetch_max(now, Ordering::Relaxed);
        Ok(())
    }
}

/// The time of an issuance: `utc`, but never before the ledger's latest row.
pub(crate) fn ledger_time(utc: UnixTime, latest: Option<UnixTime>) -> Result<UnixTime, Busy> {
    let Some(latest) = latest else { return Ok(utc) };
    let behind = Duration::from_secs(latest.as_secs().saturating_sub(utc.as_secs()));
    if behind > BEHIND_MAX { Err(Busy::ClockBehind { by: behind }) } else { Ok(utc.max(latest)) }
}

fn offset(utc: UnixTime, mono: Duration) -> i64 {
    signed(Duration::from_secs(utc.as_secs())).saturating_sub(signed(mono))
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn e30_a_jump_ahead_stops_issuing_until_the_clock_is_back() {
        let mono = Duration::from_secs;
        let guard = ClockGuard::new(at(1_000), mono(10));
        assert_eq!(guard.check(at(1_100), mono(110)), Ok(()), "both clocks went on");
        assert_eq!(guard.check(at(1_100 + 300), mono(110)), Ok(()), "the largest jump");
        let ahead = Err(Busy::ClockAhead { by: mono(301) });
        assert_eq!(guard.check(at(1_701), mono(110)), ahead);
        assert_eq!(guard.check(at(1_701 + 86_400), mono(110 + 86_400)), ahead, "waiting does not help");
        assert_eq!(guard.check(at(1_411), mono(111)), Ok(()), "put right");
        assert_eq!(guard.check(at(100), mono(112)), Ok(()), "backwards is for the ledger's time to judge");
        assert_eq!(guard.check(at(1_412), mono(112)), Ok(()), "and forward to where it was");
    }

    #[test]
    fn e30_time_stands_still_behind_the_ledger_and_stops_far_behind_it() {
        assert_eq!(ledger_time(at(50), None), Ok(at(50)));
        assert_eq!(ledger_time(at(1_001), Some(at(1_000))), Ok(at(1_001)));
        assert_eq!(ledger_time(at(940), Some(at(1_000))), Ok(at(1_000)));
        assert_eq!(ledger_time(at(939), Some(at(1_000))), Err(Busy::ClockBehind { by: Duration::from_secs(61) }));
    }
}
