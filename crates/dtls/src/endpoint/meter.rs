//! Flights that each address and each cookie have bought so far. The counts outlive the handshakes.
//!
//! A hello with a good cookie buys a signature and a flight several times as long as itself. Its sender can end the handshake in the same
//! datagram, by an alert or by another hello, so the count must outlive the handshake. The limits are one purchase per address and port each
//! half second, and [`FLIGHTS_PER_COOKIE_MAX`] flights per cookie.
//!
//! Space is bounded by [`REMEMBERED_MAX`]. When it is used up, the entries written longest ago are dropped. To have one entry dropped, an
//! attacker has to begin that many handshakes from other addresses that it has proven, which costs more datagrams than the one dropped
//! purchase is worth; an honest peer loses nothing when its entry is dropped. No peer is refused because the meter is full, and no peer is
//! refused for the purchases of another one: the keys are address and port.
//!
//! [`Alerts`] bounds the answers to addresses that have proven nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use crate::drops::DropReason;
use crate::limits::FLIGHTS_PER_COOKIE_MAX;

/// Minimum time between two flights bought by hellos from one address and port. A client repeats its hello after a second (RFC 6347
/// §4.2.4.1); a client with timers of its own rarely does so after less than half of that.
pub(super) const PURCHASE_INTERVAL: Duration = Duration::from_millis(500);

/// Entries of one generation; there are two. One shard begins fewer handshakes than this in [`PURCHASE_INTERVAL`].
const REMEMBERED_MAX: usize = 7_168;

/// Key of a buyer: a keyed hash of address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buyer(pub(super) u64);

/// What has been bought.
pub(super) struct Meter {
    last_flights: RecentValues<Instant>,
    flights: RecentValues<u8>,
}

impl Meter {
    /// `cookie_lifetime` is the longest time for which a cookie may be good.
    pub(super) fn new(cookie_lifetime: Duration) -> Self {
        Self { last_flights: RecentValues::new(PURCHASE_INTERVAL), flights: RecentValues::new(cookie_lifetime) }
    }

    pub(super) fn set_cookie_lifetime(&mut self, cookie_lifetime: Duration) {
        self.flights.kept = cookie_lifetime;
    }

    /// Whether a hello may begin a handshake now; if so, the number of flights that its cookie has bought
    /// before.
    pub(super) fn admit(&self, buyer: Buyer, cookie: u64, now: Instant) -> Result<u8, DropReason> {
        let rested = |last: Instant| now.saturating_duration_since(last) >= PURCHASE_INTERVAL;
        if !self.last_flights.get(buyer.0).is_none_or(rested) {
            return Err(DropReason::TooSoon);
        }
        let bought = self.flights.get(of_cookie(buyer, cookie)).unwrap_or(0);
        if bought >= FLIGHTS_PER_COOKIE_MAX { Err(DropReason::CookieSpent) } else { Ok(bought) }
    }

    /// Records that a flight for this address is being made or was sent.
    pub(super) fn note_flight(&mut self, buyer: Buyer, at: Instant) {
        self.last_flights.put(buyer.0, at, at);
    }

    /// Records that a handshake has ended. `bought` is what its cookie has bought by now.
    pub(super) fn note_cookie(&mut self, buyer: Buyer, cookie: u64, bought: u8, now: Instant) {
        self.flights.put(of_cookie(buyer, cookie), bought, now);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.last_flights.len() + self.flights.len()
    }
}

/// Times of the alerts to addresses that have proven nothing. Addresses are not stored: the hash of an address selects one of a fixed number
/// of cells, and a cell allows one alert in [`PURCHASE_INTERVAL`]. So an address gets at most one alert, and all addresses together at most
/// [`ALERTS_MAX`], in that time.
///
/// Addresses that share a cell wait for each other, in a flood perhaps for ever. Such a peer loses only a courtesy: without the alert its
/// handshake fails as well, by its own timeout.
pub(super) struct Alerts(Box<[Option<Instant>]>);

/// Alerts to unproven addresses in one [`PURCHASE_INTERVAL`].
pub(super) const ALERTS_MAX: usize = 1_024;

impl Alerts {
    pub(super) fn new() -> Self {
        Self(vec![None; ALERTS_MAX].into_boxed_slice())
    }

    /// Whether an alert may go to this address now. If so, it is recorded as sent.
    pub(super) fn draw(&mut self, address: AddressHash, now: Instant) -> bool {
        // The value is below the number of cells, so it fits.
        let place = usize::try_from(address.0 % ALERTS_MAX as u64).unwrap_or(0);
        let Some(last) = self.0.get_mut(place) else { return false };
        let rested = last.is_none_or(|last| now.saturating_duration_since(last) >= PURCHASE_INTERVAL);
        if rested {
            *last = Some(now);
        }
        rested
    }
}

/// A keyed hash of an address without its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressHash(pub(super) u64);

/// A cookie is valid for one address and port only.
fn of_cookie(buyer: Buyer, cookie: u64) -> u64 {
    buyer.0.rotate_left(32) ^ cookie
}

/// A map that drops its oldest entries: when the young generation is full or its time is up, it replaces the old generation, whose entries
/// are dropped.
struct RecentValues<T> {
    young: Generation<T>,
    old: Generation<T>,
    /// An entry is kept for at least this time, unless there are too many.
    kept: Duration,
    turned: Option<Instant>,
}

type Generation<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;

impl<T: Copy> RecentValues<T> {
    fn new(kept: Duration) -> Self {
        Self { young: Generation::default(), old: Generation::default(), kept, turned: None }
    }

    fn get(&self, key: u64) -> Option<T> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, value: T, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        if self.young.len() >= REMEMBERED_MAX || now.saturating_duration_since(turned) > self.kept {
            self.old = std::mem::take(&mut self.young);
            self.turned = Some(now);
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The keys are keyed hashes already, so this hasher passes them through.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn d85_what_a_million_addresses_bought_is_remembered_in_bounded_space() {
        let (mut meter, start) = (Meter::new(Duration::from_secs(120)), start());
        let hash = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for n in 0..1_000_000 {
            let now = start + Duration::from_micros(n * 100);
            assert_eq!(meter.admit(Buyer(hash(n)), 7, now), Ok(0), "an honest peer among them");
            meter.note_flight(Buyer(hash(n)), now);
            meter.note_cookie(Buyer(hash(n)), 7, FLIGHTS_PER_COOKIE_MAX, now);
            // The most recent thousands are all still known.
            if n >= 5_000 {
                assert_eq!(meter.admit(Buyer(hash(n - 4_999)), 7, now), Err(DropReason::TooSoon));
                let later = now + PURCHASE_INTERVAL;
                assert_eq!(meter.admit(Buyer(hash(n - 4_999)), 7, later), Err(DropReason::CookieSpent));
            }
        }
        assert!(meter.len() <= 4 * REMEMBERED_MAX, "{}", meter.len());
    }

    #[test]
    fn a_quiet_meter_forgets_what_has_run_out() {
        let (mut meter, start) = (Meter::new(Duration::from_secs(120)), start());
        for minute in 0..100 {
            let now = start + Duration::from_secs(60 * minute);
            meter.note_flight(Buyer(minute), now);
            meter.note_cookie(Buyer(minute), 1, 3, now);
        }
        assert!(meter.len() < 12, "{}", meter.len());
    }
}
