//! Whether the calendar clock can be trusted with a certificate (E30).
//!
//! Two rules. A clock that is more than [`BEHIND_MAX`] before the latest row of the ledger issues nothing: a certificate would be dated before one
//! that was issued earlier. Within that, time stands still at the latest row. And a clock that is more than [`JUMP_MAX`] ahead of the monotonic clock
//! issues nothing: its rows would hold up every later issuance once the clock is put right. Many small jumps count like one large jump. At the start of
//! a process there is nothing to compare with, so a gap is only reported.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::refusal::Busy;

/// A clock may be this much before the ledger's latest row: NTP that steps a clock back by less than this stops nobody.
pub const BEHIND_MAX: Duration = Duration::from_secs(60);

/// A clock may be ahead by this much: not more than certificates are dated back, so that none begins after the true time.
pub const JUMP_MAX: Duration = Duration::from_secs(300);

const _: () = assert!(JUMP_MAX.as_secs() <= crate::backdate::BACKDATE.as_secs());

/// The monotonic clock drifts too, and a daemon that steps the calendar clock corrects that: one second in this time is not a jump. It is 500 ppm, more
/// than a working clock drifts.
const DRIFT_SECOND: Duration = Duration::from_secs(2_000);

/// Compares the calendar clock with a monotonic clock while a process runs. Shared by all shards.
///
/// The monotonic clock has to count while the machine is suspended, otherwise its sleep looks like a jump.
#[derive(Debug)]
pub struct ClockGuard {
    /// Calendar time minus monotonic time, in seconds: at the start, and the drift since.
    accepted: AtomicI64,
    /// When the drift was zero or was last counted, in monotonic seconds.
    counted: AtomicU64,
}

impl ClockGuard {
    /// Accepts the clock as it is. `mono` counts from any fixed moment.
    #[must_use]
    pub fn new(utc: UnixTime, mono: Duration) -> Self {
        Self { accepted: AtomicI64::new(offset(utc, mono)), counted: AtomicU64::new(mono.as_secs()) }
    }

    /// Accepts the clock, or says why nothing is issued. A clock that comes back from its jump is accepted again; a jump is never accepted by waiting.
    ///
    /// # Errors
    /// [`Busy::ClockAhead`]
    pub fn check(&self, utc: UnixTime, mono: Duration) -> Result<(), Busy> {
        let (jump, counted) = (self.jump(utc, mono), self.counted.load(Ordering::Relaxed));
        let is_refused = jump > signed(JUMP_MAX);
        if is_refused || jump <= 0 {
            // No drift adds up meanwhile. A clock that went back may come forward again to where it was.
            if counted != mono.as_secs() {
                self.counted.store(mono.as_secs(), Ordering::Relaxed);
            }
        } else if mono.as_secs().saturating_sub(counted) >= DRIFT_SECOND.as_secs() {
            let is_ours =
                self.counted.compare_exchange(counted, mono.as_secs(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if is_ours {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
        if is_refused { Err(Busy::ClockAhead { by: self.ahead(utc, mono) }) } else { Ok(()) }
    }

    /// How far the clock is ahead; zero if it is not.
    #[must_use]
    pub fn ahead(&self, utc: UnixTime, mono: Duration) -> Duration {
        Duration::from_secs(u64::try_from(self.jump(utc, mono)).unwrap_or(0))
    }

    /// The time of something that cannot be refused, such as a revocation: `utc`, or what the monotonic clock says instead if the clock jumped ahead.
    #[must_use]
    pub fn bounded(&self, utc: UnixTime, mono: Duration) -> UnixTime {
        let ahead = self.ahead(utc, mono);
        let by = if ahead > JUMP_MAX { ahead } else { Duration::ZERO };
        UnixTime::since_unix_epoch(Duration::from_secs(utc.as_secs()).saturating_sub(by))
    }

    fn jump(&self, utc: UnixTime, mono: Duration) -> i64 {
        offset(utc, mono).saturating_sub(self.accepted.load(Ordering::Relaxed))
    }
}

/// The time of an issuance: `utc`, but never before the ledger's latest row.
///
/// # Errors
/// [`Busy::ClockBehind`] if the clock is too far before that row.
pub fn ledger_time(utc: UnixTime, latest: Option<UnixTime>) -> Result<UnixTime, Busy> {
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

    const fn mono(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ahead(seconds: u64) -> Result<(), Busy> {
        Err(Busy::ClockAhead { by: mono(seconds) })
    }

    #[test]
    fn e30_a_jump_ahead_stops_issuing_until_the_clock_is_back() {
        let guard = ClockGuard::new(at(1_000), mono(10));
        assert_eq!(guard.check(at(1_100), mono(110)), Ok(()), "both clocks went on");
        assert_eq!(guard.check(at(1_100 + 300), mono(110)), Ok(()), "the largest jump");
        assert_eq!(guard.check(at(1_401), mono(110)), ahead(301));
        assert_eq!(guard.check(at(1_401 + 864_000), mono(110 + 864_000)), ahead(301), "waiting does not help");
        let (utc, mono_then) = (864_000 + 1_100, 864_000 + 110);
        assert_eq!(guard.check(at(utc), mono(mono_then)), Ok(()), "put right");
        assert_eq!(guard.check(at(100), mono(mono_then)), Ok(()), "backwards is for the ledger's time to judge");
        assert_eq!(guard.check(at(utc + 1), mono(mono_then + 1)), Ok(()), "and forward to where it was");
    }

    #[test]
    fn e30_many_small_jumps_count_like_a_large_one() {
        let guard = ClockGuard::new(at(1_000), mono(0));
        let (mut utc, mut allowed) = (1_000, 0);
        for minute in 1..=1_000 {
            utc += 60 + 30;
            if guard.check(at(utc), mono(minute * 60)).is_ok() {
                allowed = minute * 30;
            } else {
                utc -= 30;
            }
        }
        // 1,000 minutes of drift are 30 s.
        assert!((300..=330).contains(&allowed), "{allowed}");
    }

    #[test]
    fn e30_a_daemon_that_corrects_the_drift_in_steps_is_not_a_jump() {
        let guard = ClockGuard::new(at(1_000), mono(0));
        // A year in which the clock is stepped forward by 30 s each day.
        for day in 1..=365 {
            for minutes in (0..24 * 60).step_by(10) {
                let mono = mono(day * 86_400 + minutes * 60);
                assert_eq!(guard.check(at(1_000 + mono.as_secs() + day * 30), mono), Ok(()), "day {day}");
            }
        }
    }

    #[test]
    fn e30_what_cannot_be_refused_has_the_time_of_the_monotonic_clock_instead() {
        let guard = ClockGuard::new(at(1_000), mono(0));
        assert_eq!(guard.bounded(at(1_310), mono(10)), at(1_310));
        assert_eq!(guard.bounded(at(1_311), mono(10)), at(1_010));
        assert_eq!(guard.bounded(at(500), mono(10)), at(500), "backwards is for the ledger's time to judge");
    }

    #[test]
    fn e30_time_stands_still_behind_the_ledger_and_stops_far_behind_it() {
        assert_eq!(ledger_time(at(50), None), Ok(at(50)));
        assert_eq!(ledger_time(at(1_001), Some(at(1_000))), Ok(at(1_001)));
        assert_eq!(ledger_time(at(940), Some(at(1_000))), Ok(at(1_000)));
        assert_eq!(ledger_time(at(939), Some(at(1_000))), Err(Busy::ClockBehind { by: Duration::from_secs(61) }));
    }
}
