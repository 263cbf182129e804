//! When an upstream wants to hear of an unresolved request again.
//!
//! RFC 7030 §4.2.3: "The client MUST wait at least the specified 'Retry-After' time before repeating the same request." Towards the upstream the
//! client is the Registrar, so a device that does not wait is answered here. It is kept in memory only: after a restart an upstream may be asked
//! early once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use authority::{Device, RelayRequest};
use rustls_pki_types::UnixTime;

use super::health::UpstreamPool;

/// As many as a configuration may let wait for upstreams; about half a kilobyte each.
const PAUSES_MAX: usize = 65_536;

/// Unresolved requests that are not sent again before their time, of the process. Without room the one whose time comes first gives way: its repeat
/// is early by the least.
#[derive(Debug)]
pub struct UpstreamPauses {
    pauses_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By the second in which the time comes, and a number.
    requests: BTreeMap<(u64, u64), RelayRequest>,
    of_device: HashMap<Device, Vec<(u64, u64)>>,
    begun: u64,
}

impl Default for UpstreamPauses {
    fn default() -> Self {
        Self { pauses_max: PAUSES_MAX, held: Mutex::default() }
    }
}

impl UpstreamPauses {
    /// The upstream of this request said at `at` to come again after `wait`.
    pub(super) fn begin(&self, request: RelayRequest, at: UnixTime, wait: Duration) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while held.requests.first_key_value().is_some_and(|((end, _), _)| *end <= at.as_secs())
            || held.requests.len() >= self.pauses_max
        {
            held.forget_first();
        }
        held.begun += 1;
        let place = (at.as_secs().saturating_add(wait.as_secs()), held.begun);
        held.of_device.entry(request.device.clone()).or_default().push(place);
        held.requests.insert(place, request);
    }

    /// How long this request still has to wait. An upstream that is no longer in the pool is not waited for.
    pub(super) fn rest(&self, request: &RelayRequest, at: UnixTime, pool: &UpstreamPool) -> Option<Duration> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let places = held.of_device.get(&request.device)?;
        let is_same = |place: &&(u64, u64)| {
            let earlier = held.requests.get(place);
            earlier.is_some_and(|it| request.asks_the_same_as(it) && pool.place(&it.upstream).is_some())
        };
        let end = places.iter().filter(is_same).map(|(end, _)| *end).max()?;
        let rest = end.saturating_sub(at.as_secs());
        (rest > 0).then(|| Duration::from_secs(rest))
    }
}

impl Held {
    fn forget_first(&mut self) {
        let Some((place, request)) = self.requests.pop_first() else { return };
        if let Some(places) = self.of_device.get_mut(&request.device) {
            places.retain(|it| *it != place);
            if places.is_empty() {
                self.of_device.remove(&request.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use authority::{DeviceId, Function, NewRow, Origin, RepeatWindow};
    use pki::{AnchorId, Digest};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn request(device: &str) -> RelayRequest {
        let anchor = AnchorId::from_bytes([1; 32]);
        RelayRequest {
            function: Function::SimpleEnroll,
            profile: Arc::from("meters"),
            device: Device { manufacturer: anchor, id: DeviceId::new(device).unwrap() },
            anchor,
            vouched_by: Origin::Manufacturer,
            client: Digest::of(b"client"),
            csr: Digest::of(b"csr"),
            spki: None,
            names: Digest::of(b"names"),
            upstream: Arc::from("a"),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            at: at(0),
            window: RepeatWindow { until: at(9) },
            new_row: NewRow::Allowed,
            certificates_max: 9,
        }
    }

    #[test]
    fn pauses_are_bounded_and_the_one_that_ends_first_gives_way() {
        let pool = UpstreamPool::new(["a".into()]);
        let pauses = UpstreamPauses { pauses_max: 2, ..UpstreamPauses::default() };
        for (device, wait) in [("one", 50), ("two", 20), ("three", 90)] {
            pauses.begin(request(device), at(100), Duration::from_secs(wait));
        }
        let rests = ["one", "two", "three"].map(|device| pauses.rest(&request(device), at(110), &pool));
        assert_eq!(rests, [Some(40), None, Some(80)].map(|rest| rest.map(Duration::from_secs)));
        let elsewhere = UpstreamPool::new(["b".into()]);
        assert_eq!(pauses.rest(&request("one"), at(110), &elsewhere), None, "its upstream is no longer configured");
        assert_eq!(pauses.rest(&request("one"), at(150), &pool), None, "its time has come");
        pauses.begin(request("four"), at(1_000), Duration::from_secs(5));
        let held = pauses.held.lock().unwrap();
        assert_eq!((held.requests.len(), held.of_device.len()), (1, 1), "what is over is forgotten");
    }
}
