//! The clock by which certificates are issued and revoked: the calendar clock, compared with one that nobody sets (E30).
//!
//! A clock that is wrong stops issuing, whether a device asks or not: the watch reports it when it begins and when it ends.

use std::convert::Infallible;
use std::time::Duration;

use authority::{Busy, ClockGuard, ledger_time};
use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::UnixTime;
use tokio::time::{MissedTickBehavior, interval};

/// How often the clock is looked at when no device enrols.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The clock of a server.
pub(super) struct IssuanceClock {
    guard: ClockGuard,
}

impl IssuanceClock {
    /// Takes the clock as it is for right.
    pub(super) fn new() -> Self {
        Self { guard: ClockGuard::new(UnixTime::now(), since_boot()) }
    }

    /// One that is this far ahead of the monotonic clock.
    #[cfg(test)]
    pub(super) fn ahead_by(ahead: Duration) -> Self {
        let started = Duration::from_secs(UnixTime::now().as_secs()) - ahead;
        Self { guard: ClockGuard::new(UnixTime::since_unix_epoch(started), since_boot()) }
    }

    /// Whether certificates may be dated by this reading of the calendar clock.
    pub(super) fn check(&self, utc: UnixTime) -> Result<(), Busy> {
        self.guard.check(utc, since_boot())
    }

    /// The same, and whether the clock is too far before the latest row of the ledger.
    pub(super) fn check_with(&self, utc: UnixTime, latest: Option<UnixTime>) -> Result<(), Busy> {
        self.check(utc)?;
        ledger_time(utc, latest).map(drop)
    }

    /// How far the clock is ahead of the monotonic clock.
    pub(super) fn ahead(&self, utc: UnixTime) -> Duration {
        self.guard.ahead(utc, since_boot())
    }

    /// The time of a revocation, which a wrong clock does not stop: it is bounded instead.
    pub(super) fn revocation_time(&self) -> UnixTime {
        self.guard.bounded(UnixTime::now(), since_boot())
    }
}

/// Time since the machine started. It goes on while the machine is suspended: the time of `Instant` does not, and each sleep would look like a jump.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Reports when the clock begins to stop issuing, and when it ends to. Runs as long as the server does.
pub(super) async fn watch(check: impl Fn() -> Result<(), Busy> + Send) -> Infallible {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut is_wrong = false;
    loop {
        looks.tick().await;
        match check() {
            Err(why) if !is_wrong => {
                is_wrong = true;
                tracing::error!(
                    "no certificate is issued: {why}. Compare `date` with another machine; a clock that is put right is accepted at once, and a new time that is right needs a restart"
                );
            }
            Ok(()) if is_wrong => {
                is_wrong = false;
                tracing::info!("the clock is right again: certificates are issued");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::logging::{Format, logged};

    #[test]
    fn e30_the_monotonic_clock_counts_suspended_time() {
        let (boot, clock) = (since_boot(), clock_gettime(ClockId::Monotonic));
        assert!(boot > Duration::ZERO && boot >= Duration::try_from(clock).unwrap() - Duration::from_secs(1));
        assert_eq!(IssuanceClock::new().check(UnixTime::now()), Ok(()));
    }

    #[test]
    fn e30_a_clock_before_the_ledger_and_one_that_jumped_have_reasons_of_their_own() {
        let clock = IssuanceClock::new();
        let now = UnixTime::now();
        let shifted = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + seconds));
        assert_eq!(clock.check_with(now, Some(shifted(60))), Ok(()));
        assert!(matches!(clock.check_with(now, Some(shifted(3_600))), Err(Busy::ClockBehind { .. })));
        assert!(matches!(clock.check_with(shifted(3_600), None), Err(Busy::ClockAhead { .. })));
        assert!(clock.ahead(shifted(3_600)) >= Duration::from_secs(3_590));
        assert!(clock.revocation_time() >= now);
    }

    #[test]
    fn e30_a_wrong_clock_is_an_alarm_once_although_no_device_asks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let behind = Busy::ClockBehind { by: Duration::from_secs(3_600) };
        let looks = Mutex::new([Ok(()), Err(behind), Err(behind), Ok(()), Ok(())].into_iter());
        let log = logged(Format::Human, || {
            runtime.block_on(async {
                tokio::select! {
                    never = watch(|| looks.lock().unwrap().next().unwrap()) => match never {},
                    () = tokio::time::sleep(LOOK_INTERVAL * 4 + LOOK_INTERVAL / 2) => {}
                }
            });
        });
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains("ERROR") && lines[0].contains("3600 s before the ledger's latest row"), "{log}");
        assert!(lines[1].contains("the clock is right again"), "{log}");
    }
}
