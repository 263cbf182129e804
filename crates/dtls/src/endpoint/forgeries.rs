//! Rate of forged records to the sessions of an endpoint. The count under each key never decays, because it bounds all the attempts of a
//! forger (see [`crate::record`]). This rate decays, and shows whether somebody is trying now.

use std::time::Instant;

use crate::limits::{FORGERIES_FORGOTTEN_PER_SECOND, FORGERY_ALARM};

/// A leaky bucket, one for all sessions of an endpoint: it adds no memory to a session.
#[derive(Clone, Copy, Default)]
pub(crate) struct ForgeryRate {
    level: u64,
    since: Option<Instant>,
}

impl ForgeryRate {
    /// Counts one more record that did not open. Returns true when the alarm is due; the next alarm then needs as
    /// many records again.
    pub(crate) fn note(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            self.level = self.level.saturating_sub(seconds.saturating_mul(FORGERIES_FORGOTTEN_PER_SECOND));
            self.since = Some(now);
        }
        self.level += 1;
        let due = self.level >= FORGERY_ALARM;
        if due {
            self.level = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn d94_the_rate_of_forgeries_decays_and_raises_an_alarm_again_and_again() {
        #[allow(
            clippy::disallowed_methods,
            reason = "an Instant can only come from the clock; its value does not matter"
        )]
        let start = Instant::now();
        let alarms = |count: u64, apart: Duration| {
            let mut rate = ForgeryRate::default();
            let mut now = start;
            let mut alarms = 0;
            for _ in 0..count {
                alarms += u64::from(rate.note(now));
                now += apart;
            }
            alarms
        };
        assert_eq!(alarms(FORGERY_ALARM - 1, Duration::ZERO), 0);
        assert_eq!(alarms(5 * FORGERY_ALARM, Duration::from_micros(1)), 5);
        // Forgeries at the rate at which the bucket leaks never raise the alarm.
        let slow = Duration::from_millis(1_000 / FORGERIES_FORGOTTEN_PER_SECOND);
        assert_eq!(alarms(20 * FORGERY_ALARM, slow), 0);
    }
}
