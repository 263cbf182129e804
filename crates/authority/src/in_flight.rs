//! Enrolments in flight: the one map that all shards share, touched once when an enrolment starts and once when it ends.
//!
//! The first request with a key claims it. An identical one that arrives meanwhile, on whatever shard and session, waits
//! for the same outcome, provided that its client authenticated with the same certificate (what answers one client's
//! request may be what another one wants to renew). The claim is a value: ending it, or dropping it, frees the key and
//! answers whoever waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, VacantEntry};
use pki::Digest;

use crate::device::Device;
use crate::idempotency::Key;
use crate::job::Outcome;
use crate::refusal::Busy;

/// Requests that may wait for one enrolment. A device repeats itself in a new session about once in MAX_TRANSMIT_WAIT
/// (93 s, RFC 7252 §4.8.2); more than a handful at once is a copy of the device or an attack.
const WAITERS_MAX: usize = 8;

/// Enrolments of one device that may be in flight. An honest device has one, and a second for moments where it gave up waiting and made a
/// new request; more are copies of the device or an attack. Without this, one device with many sessions could take the room of all others.
const OF_ONE_DEVICE_MAX: u32 = 4;

/// Enrolments in flight at once, over all shards, where nothing else is configured: a second's work of a large machine. A claim is about
/// 200 bytes, a whole job a few kilobytes.
const IN_FLIGHT_MAX: usize = 16_384;

/// Answers a request that waits.
pub(crate) type Waiter = Box<dyn FnOnce(Outcome) + Send>;

/// Enrolments in flight, over all shards and configurations of one process: a reload makes a new issuer over the same flights, so that a
/// request and its repeat meet although the configuration changed between them.
pub struct Flights {
    map: DashMap<Key, Flight>,
    /// How many of them each device has. Locked after a segment of `map`, never before.
    of_devices: DashMap<Device, u32>,
    /// Length of `map`, so that its bound costs no walk over the map's shards.
    count: AtomicUsize,
    max: usize,
}

impl Default for Flights {
    fn default() -> Flights {
        Flights::new(IN_FLIGHT_MAX)
    }
}

struct Flight {
    device: Device,
    client: Digest,
    /// Only ever reached through the map's own lock; the mutex makes the boxes shareable and is never contended.
    waiters: Mutex<Vec<Waiter>>,
}

/// What came of an attempt to claim a key that may be taken.
pub(crate) enum Joined {
    Claimed(Claim),
    Waiting,
    Turned(Busy),
}

impl Flights {
    /// None yet; never more than `in_flight_max` at once.
    #[must_use]
    pub fn new(in_flight_max: usize) -> Flights {
        Flights { map: DashMap::new(), of_devices: DashMap::new(), count: AtomicUsize::new(0), max: in_flight_max }
    }

    /// How many there are now.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Claims the key if nobody has it and there is room.
    pub(crate) fn claim(self: &Arc<Self>, key: Key, device: &Device, client: Digest) -> Option<Claim> {
        match self.map.entry(key) {
            Entry::Vacant(vacant) => self.occupy(vacant, device, client).ok(),
            Entry::Occupied(_) => None,
        }
    }

    /// Claims the key, or joins the flight that holds it; `waiter` is made only where it waits.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Key,
        device: &Device,
        client: Digest,
        waiter: impl FnOnce() -> Waiter,
    ) -> Joined {
        match self.map.entry(key) {
            Entry::Vacant(vacant) => self.occupy(vacant, device, client).map_or_else(Joined::Turned, Joined::Claimed),
            Entry::Occupied(mut occupied) => {
                let flight = occupied.get_mut();
                let waiters = flight.waiters.get_mut().unwrap_or_else(PoisonError::into_inner);
                if flight.client != client || waiters.len() >= WAITERS_MAX {
                    return Joined::Turned(Busy::InFlight);
                }
                waiters.push(waiter());
                Joined::Waiting
            }
        }
    }

    fn occupy(
        self: &Arc<Self>,
        vacant: VacantEntry<'_, Key, Flight>,
        device: &Device,
        client: Digest,
    ) -> Result<Claim, Busy> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy::Full);
        }
        let mut of_device = self.of_devices.entry(device.clone()).or_insert(0);
        if *of_device >= OF_ONE_DEVICE_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy::DeviceInFlight);
        }
        *of_device += 1;
        drop(of_device);
        let key = *vacant.key();
        vacant.insert(Flight { device: device.clone(), client, waiters: Mutex::new(Vec::new()) });
        Ok(Claim { flights: Some(Arc::clone(self)), key })
    }

    fn free(&self, key: &Key) -> Vec<Waiter> {
        let Some((_, flight)) = self.map.remove(key) else { return Vec::new() };
        self.count.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut of_device) = self.of_devices.entry(flight.device) {
            *of_device.get_mut() -= 1;
            if *of_device.get() == 0 {
                of_device.remove();
            }
        }
        flight.waiters.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to issue for one key, used up by its end.
pub(crate) struct Claim {
    flights: Option<Arc<Flights>>,
    key: Key,
}

impl Claim {
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Frees the key and gives whoever waits the outcome, which is handed back for the one who claimed.
    pub(crate) fn end(mut self, outcome: Outcome) -> Outcome {
        self.answer(&outcome);
        outcome
    }

    fn answer(&mut self, outcome: &Outcome) {
        if let Some(flights) = self.flights.take() {
            for waiter in flights.free(&self.key) {
                waiter(outcome.clone());
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.answer(&Outcome::later(Busy::Dropped));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::device::DeviceId;
    use crate::function::Function;

    fn device(id: &str) -> Device {
        Device { manufacturer: pki::AnchorId::from_bytes([1; 32]), id: DeviceId::new(id).unwrap() }
    }

    fn key(csr: &[u8]) -> Key {
        Key::new(Function::SimpleEnroll, "p", &device("d"), &Digest::of(csr))
    }

    fn waiter(count: &Arc<AtomicUsize>) -> impl FnOnce() -> Waiter + use<> {
        let count = Arc::clone(count);
        || {
            Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        }
    }

    #[test]
    fn an_identical_request_waits_and_gets_the_outcome() {
        let flights = Arc::new(Flights::new(4));
        let (client, answered) = (Digest::of(b"client"), Arc::new(AtomicUsize::new(0)));
        let claim = flights.claim(key(b"1"), &device("d"), client).unwrap();
        assert!(flights.claim(key(b"1"), &device("d"), client).is_none());
        for _ in 0..WAITERS_MAX {
            assert!(matches!(flights.join(key(b"1"), &device("d"), client, waiter(&answered)), Joined::Waiting));
        }
        assert!(matches!(
            flights.join(key(b"1"), &device("d"), client, waiter(&answered)),
            Joined::Turned(Busy::InFlight)
        ));
        let other = Digest::of(b"another certificate");
        assert!(matches!(
            flights.join(key(b"1"), &device("d"), other, waiter(&answered)),
            Joined::Turned(Busy::InFlight)
        ));
        drop(claim.end(Busy::Full.into()));
        assert_eq!(answered.load(Ordering::Relaxed), WAITERS_MAX);
        assert_eq!(flights.len(), 0);
        assert!(flights.claim(key(b"1"), &device("d"), client).is_some());
    }

    #[test]
    fn a_dropped_claim_answers_whoever_waits() {
        let flights = Arc::new(Flights::new(4));
        let (client, answered) = (Digest::of(b"client"), Arc::new(AtomicUsize::new(0)));
        let claim = flights.claim(key(b"1"), &device("d"), client).unwrap();
        assert!(matches!(flights.join(key(b"1"), &device("d"), client, waiter(&answered)), Joined::Waiting));
        drop(claim);
        assert_eq!((answered.load(Ordering::Relaxed), flights.len()), (1, 0));
    }

    #[test]
    fn the_map_is_bounded() {
        let flights = Arc::new(Flights::new(2));
        let client = Digest::of(b"client");
        let held: Vec<Claim> =
            [&b"1"[..], b"2"].iter().filter_map(|csr| flights.claim(key(csr), &device("d"), client)).collect();
        assert_eq!(held.len(), 2);
        let turned = flights.join(key(b"3"), &device("d"), client, || Box::new(|_| ()));
        assert!(matches!(turned, Joined::Turned(Busy::Full)));
        drop(held);
        assert!(flights.claim(key(b"3"), &device("d"), client).is_some());
    }

    #[test]
    fn e55_one_device_takes_a_few_flights_and_no_room_from_others() {
        let flights = Arc::new(Flights::new(99));
        let client = Digest::of(b"client");
        let mut held: Vec<Claim> = (0..OF_ONE_DEVICE_MAX)
            .map(|n| flights.claim(key(&n.to_be_bytes()), &device("d"), client).unwrap())
            .collect();
        let more = |n: u8| flights.join(key(&[n]), &device("d"), client, || Box::new(|_| ()));
        assert!(matches!(more(1), Joined::Turned(Busy::DeviceInFlight)));
        assert_eq!(flights.len(), held.len(), "what was turned away left nothing behind");
        let other = Key::new(Function::SimpleEnroll, "p", &device("other"), &Digest::of(b"1"));
        assert!(flights.claim(other, &device("other"), client).is_some());
        held.pop();
        assert!(matches!(more(1), Joined::Claimed(_)));
        drop(held);
        assert!(flights.of_devices.is_empty() && flights.is_empty());
    }
}
