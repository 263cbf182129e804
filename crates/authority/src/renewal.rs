//! When the devices of a profile shall renew, as the operator sets it: the window that the resource `ren` tells each device.
//!
//! It is computed from the dates of the device's own certificate and needs no ledger.

use std::time::Duration;

use pki::{UnixTime, Validity};

use crate::backdate::BACKDATE;

/// A device asks again after this time, so that one that is called in hears of it within a working day (RFC 9773 §4.3.3 suggests six hours).
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3_600);

/// The part of a life that is left for repeats after the end of a window.
const REPEATS_DIVISOR: u64 = 20;

/// `renew_spread` and `renew_now_before` of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalPolicy {
    /// The length of a window: renewals of devices that enrolled together are spread over it.
    pub spread: Duration,
    /// Certificates that were issued before this moment are called in.
    pub now_before: Option<UnixTime>,
}

/// When a device shall renew its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalWindow {
    /// The device selects a moment from here ...
    pub start: UnixTime,
    /// ... to here; a moment that has passed means at once.
    pub end: UnixTime,
    /// When it asks again.
    pub ask_again: Duration,
    /// Why.
    pub cause: RenewalCause,
}

/// Why a window is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalCause {
    /// The certificate comes to its end.
    Scheduled,
    /// The operator calls the certificates of its time in.
    CalledIn,
}

impl RenewalPolicy {
    /// The window for a certificate with this validity. It begins at two thirds of the life, or, for a certificate that is called in, at the moment of
    /// [`RenewalPolicy::now_before`]: devices that hear of it later in the spread come at once.
    #[must_use]
    pub fn window(&self, validity: Validity) -> RenewalWindow {
        let (begin, expiry) = (validity.not_before.as_secs(), validity.not_after.as_secs());
        let life = expiry.saturating_sub(begin);
        let last = expiry.saturating_sub(life / REPEATS_DIVISOR);
        // notBefore is earlier than the issuance: a certificate that was issued just after the call is not called in again.
        let issued = begin.saturating_add(BACKDATE.as_secs());
        let called = self.now_before.map(|before| before.as_secs()).filter(|before| issued < *before);
        let (cause, start) = match called {
            Some(before) => (RenewalCause::CalledIn, before.min(last)),
            None => (RenewalCause::Scheduled, begin.saturating_add(life / 3 * 2)),
        };
        let end = start.saturating_add(self.spread.as_secs()).min(last).max(start);
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        RenewalWindow { start: at(start), end: at(end), ask_again: ASK_AGAIN, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn window(begin: u64, days: u64, spread_days: u64, now_before: Option<u64>) -> (u64, u64, RenewalCause) {
        let policy = RenewalPolicy { spread: Duration::from_secs(spread_days * DAY), now_before: now_before.map(at) };
        let window = policy.window(Validity { not_before: at(begin), not_after: at(begin + days * DAY) });
        (window.start.as_secs(), window.end.as_secs(), window.cause)
    }

    #[test]
    fn a_window_begins_at_two_thirds_and_leaves_time_before_the_end() {
        let begin = 1_000 * DAY;
        assert_eq!(window(begin, 30, 5, None), (begin + 20 * DAY, begin + 25 * DAY, RenewalCause::Scheduled));
        let (_, end, _) = window(begin, 30, 300, None);
        assert_eq!(end, begin + 30 * DAY - 30 * DAY / 20);
        assert_eq!(window(begin, 30, 0, None).1, begin + 20 * DAY, "all at one moment, if the operator says so");
    }

    #[test]
    fn certificates_from_before_the_call_are_called_in_and_those_after_it_are_not() {
        let (begin, hour) = (1_000 * DAY, 3_600);
        let call = begin + 3 * DAY;
        assert_eq!(window(begin, 30, 2, Some(call)), (call, call + 2 * DAY, RenewalCause::CalledIn));
        // Issued a second after the call, and backdated.
        let after = call + 1 - BACKDATE.as_secs();
        assert_eq!(window(after, 30, 2, Some(call)).2, RenewalCause::Scheduled);
        assert_eq!(window(after - hour, 30, 2, Some(call)).2, RenewalCause::CalledIn);
        // A call for the far future does not outlast the certificate.
        let (start, end, _) = window(begin, 30, 2, Some(begin + 300 * DAY));
        assert!(start <= end && end < begin + 30 * DAY);
    }
}
