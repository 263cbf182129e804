//! Enrolments in flight: the only map that all shards share, accessed once when an enrolment starts and once when it
//! ends.
//!
//! The first request with a key claims it. An identical request that arrives meanwhile, on any shard and session, waits for the same outcome,
//! provided that its client authenticated with the same certificate (the certificate that answers one client's request may be the one that
//! another client wants to renew). The claim is a value: ending it, or dropping it, frees the key and answers the requests that wait.

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

/// Enrolments of one device that may be in flight. An honest device has one, and a second one for a moment if it gave up waiting and made a
/// new request; more are copies of the device or an attack. Without this bound one device with many sessions could take the room of all
/// others.
const OF_ONE_DEVICE_MAX: u32 = 4;

/// Default maximum of enrolments in flight at once, over all shards: a second's work of a large machine. A claim is about 200 bytes, a whole
/// job a few kilobytes.
const IN_FLIGHT_MAX: usize = 16_384;

/// Answers a request that waits.
pub type Waiter = Box<dyn FnOnce(Outcome) + Send>;

/// Enrolments in flight, over all shards and configurations of one process: after a reload the new issuer uses the same flights, so a request
/// and its repetition meet although the configuration changed between them.
pub struct Flights {
    map: DashMap<Key, EnrolmentInFlight>,
    /// Enrolments in flight of each device. Locked after a segment of `map`, never before.
    of_devices: DashMap<Device, u32>,
    /// Length of `map`, so that checking its bound does not walk the map's shards.
    count: AtomicUsize,
    max: usize,
}

impl Default for Flights {
    fn default() -> Self {
        Self::new(IN_FLIGHT_MAX)
    }
}

struct EnrolmentInFlight {
    device: Device,
    client: Digest,
    /// Only ever reached through the map's own lock; the mutex makes the boxes shareable and is never contended.
    waiters: Mutex<Vec<Waiter>>,
}

/// The result of an attempt to claim a key.
pub enum Joined {
    /// The key was free.
    Claimed(Claim),
    /// The request waits for the flight that holds the key.
    Waiting,
    /// There is no room.
    Turned(Busy),
}

impl Flights {
    /// An empty map; it never holds more than `in_flight_max` at once.
    #[must_use]
    pub fn new(in_flight_max: usize) -> Self {
        Self { map: DashMap::new(), of_devices: DashMap::new(), count: AtomicUsize::new(0), max: in_flight_max }
    }

    /// Number of enrolments in flight.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no enrolment is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Claims the key if it is free and there is room.
    pub fn claim(self: &Arc<Self>, key: Key, device: &Device, client: Digest) -> Option<Claim> {
        match self.map.entry(key) {
            Entry::Vacant(vacant) => self.occupy(vacant, device, client).ok(),
            Entry::Occupied(_) => None,
        }
    }

    /// Claims the key, or joins the flight that holds it; `waiter` is called only if the request waits.
    pub fn join(
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
        vacant: VacantEntry<'_, Key, EnrolmentInFlight>,
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
        vacant.insert(EnrolmentInFlight { device: device.clone(), client, waiters: Mutex::new(Vec::new()) });
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

/// The right to issue for one key; ending it consumes it.
pub struct Claim {
    flights: Option<Arc<Flights>>,
    key: Key,
}

impl Claim {
    /// Frees the key and gives the outcome to the requests that wait; returns the outcome for the claiming
    /// request.
    #[must_use = "it is the outcome of the claiming request"]
    pub fn end(mut self, outcome: Outcome) -> Outcome {
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
