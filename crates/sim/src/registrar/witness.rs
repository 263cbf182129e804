//! Sees every request that the Registrar sends and every outcome that it delivers, and says which promise is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authority::{Authority, Deliver, Function, Issued, Job, Outcome};
use dtls::UnixTime;
use est::JobId;
use pki::{Certificate, Csr, Digest};
use registrar::relay::RelayAuthority;

use crate::scenario::REPEAT_WINDOW;

/// A request of a device, whichever of its CSRs it sends: the function and the key, or the subject if the Registrar makes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestKey {
    function: &'static str,
    subject: Digest,
}

impl RequestKey {
    /// The key of a CSR; `None` if it cannot be read.
    pub(super) fn of(function: Function, csr: &[u8]) -> Option<Self> {
        let csr = Csr::parse(csr.to_vec()).and_then(Csr::verify).ok()?;
        let function = registrar::relay::UpstreamOperation::Enrol(function).segment();
        Some(Self { function, subject: Digest::of(csr.spki()) })
    }

    /// The same for a key that the Registrar makes: of the device's CSR, and of the one that the upstream gets.
    fn of_made(csr: &[u8]) -> Option<Self> {
        let csr = Csr::parse(csr.to_vec()).and_then(Csr::verify).ok()?;
        Some(Self { function: "serverkeygen", subject: Digest::of(csr.subject().der()) })
    }
}

/// What an end says about the certificate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: this attempt, or an earlier one, may have led to a certificate.
    Nothing,
    /// This attempt led to one, which the Registrar has to record: until then it may crash, and then nobody knows.
    Certificate,
    /// This attempt led to none.
    NoneOfThis,
    /// The CA has decided that there is none.
    None,
}

/// How often the upstreams did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTally {
    /// Requests that were sent.
    pub sent: u64,
    /// Those whose end left open what became of them.
    pub open_ends: u64,
    /// Those that went to the same upstream again because an earlier end was open.
    pub repeated: u64,
    /// Those that could not be sent.
    pub not_sent: u64,
    /// Lies.
    pub lies: u64,
    /// Certificates that were delivered, repeats included.
    pub delivered: u64,
    /// The most requests that waited at once.
    pub in_flight_peak: usize,
    /// Requests with an open end that were repeated with another key, because the Registrar had lost the first one.
    pub lost_keys: u64,
}

impl RelayTally {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.open_ends += other.open_ends;
        self.repeated += other.repeated;
        self.not_sent += other.not_sent;
        self.lies += other.lies;
        self.delivered += other.delivered;
        self.in_flight_peak = self.in_flight_peak.max(other.in_flight_peak);
        self.lost_keys += other.lost_keys;
    }
}

impl fmt::Display for RelayTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, open_ends, repeated, not_sent, lies, delivered, in_flight_peak, lost_keys } = self;
        write!(
            f,
            "{sent} requests sent, {not_sent} not sent, {open_ends} open ends, {repeated} repeated for one, {lost_keys} of them with another key, \
             {lies} lies, {delivered} deliveries, at most {in_flight_peak} in flight"
        )
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Witness {
    /// Whether the Registrar makes the keys.
    makes_keys: bool,
    sight: Mutex<Sight>,
}

#[derive(Default)]
struct Sight {
    /// The upstream that may have a certificate for the request, and since when.
    open: BTreeMap<RequestKey, OpenEnd>,
    lies: BTreeSet<Digest>,
    delivered: BTreeSet<Digest>,
    faults: Vec<String>,
    tally: RelayTally,
}

impl Sight {
    /// Each fault once: a device that is refused comes again and again.
    fn broken(&mut self, fault: String) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

#[derive(Clone, Copy)]
struct OpenEnd {
    upstream: usize,
    since: UnixTime,
    /// The key that the upstream was asked to certify.
    spki: Digest,
}

/// What was open before a request was sent.
pub(super) struct Sent {
    key: RequestKey,
    before: Option<OpenEnd>,
}

impl Witness {
    pub(super) fn new(makes_keys: bool) -> Self {
        Self { makes_keys, sight: Mutex::default() }
    }

    /// The request that a CSR is for; `None` if the CSR cannot be read.
    pub(super) fn request(&self, function: Function, csr: &[u8]) -> Option<RequestKey> {
        if self.makes_keys { RequestKey::of_made(csr) } else { RequestKey::of(function, csr) }
    }

    /// A request goes to an upstream, for this key. What is open at another one may not. A certificate that is recorded for a key that was made is not
    /// open: if the key did not reach its device, the next request is a new one.
    pub(super) fn sent(
        &self,
        key: RequestKey,
        spki: Digest,
        (upstream, at): (usize, UnixTime),
        is_recorded: impl Fn(&Digest) -> bool,
    ) -> Sent {
        let mut sight = self.lock();
        sight.tally.sent += 1;
        let until = |open: &OpenEnd| open.since.as_secs() + REPEAT_WINDOW.as_secs();
        let before = sight.open.get(&key).copied().filter(|open| at.as_secs() < until(open));
        let before = before.filter(|open| !self.makes_keys || !is_recorded(&open.spki));
        if let Some(open) = before {
            sight.tally.repeated += 1;
            sight.tally.lost_keys += u64::from(open.spki != spki);
            if open.upstream != upstream {
                let first = open.upstream;
                sight.broken(format!("{key:?}: sent to upstream {upstream}, and its end is open at {first}"));
            }
        }
        let since = before.map_or(at, |open| open.since);
        sight.open.insert(key, OpenEnd { upstream: before.map_or(upstream, |open| open.upstream), since, spki });
        Sent { key, before }
    }

    /// The end of that request.
    pub(super) fn ended(&self, Sent { key, before }: Sent, known: Known) {
        let mut sight = self.lock();
        match (known, before) {
            (Known::Nothing, _) => sight.tally.open_ends += 1,
            (Known::Certificate, _) => {}
            // It is open with the newer key: that is the one which is repeated.
            (Known::NoneOfThis, Some(_)) => {}
            (Known::NoneOfThis | Known::None, _) => _ = sight.open.remove(&key),
        }
    }

    pub(super) fn not_sent(&self) {
        self.lock().tally.not_sent += 1;
    }

    pub(super) fn in_flight(&self, now: usize, max: usize) {
        let mut sight = self.lock();
        sight.tally.in_flight_peak = sight.tally.in_flight_peak.max(now);
        if now > max {
            sight.broken(format!("{now} requests in flight, and {max} may be"));
        }
    }

    /// An answer with these certificates lies.
    pub(super) fn lied(&self, certificates: Vec<Digest>) {
        let mut sight = self.lock();
        sight.tally.lies += 1;
        sight.lies.extend(certificates);
    }

    fn delivered(&self, key: Option<RequestKey>, issued: &Issued) {
        let mut sight = self.lock();
        let name = issued.device.id.as_str();
        sight.tally.delivered += 1;
        sight.delivered.insert(issued.digest);
        if sight.lies.contains(&issued.digest) {
            sight.broken(format!("device {name}: a certificate of a lie"));
        }
        let Some(key) = key else { return sight.broken(format!("device {name}: a certificate for no CSR")) };
        sight.open.remove(&key);
        match Certificate::parse(&issued.certificate) {
            // Its device has compared it with the key that it got.
            Ok(_) if self.makes_keys => {}
            Ok(certificate) if Digest::of(certificate.spki()) == key.subject => {}
            _ => sight.broken(format!("device {name}: a certificate for another key")),
        }
    }

    /// Another broken promise.
    pub(super) fn broken(&self, fault: String) {
        self.lock().broken(fault);
    }

    pub(super) fn tally(&self) -> RelayTally {
        self.lock().tally
    }

    /// The broken promises, and the certificates that were delivered.
    pub(super) fn found(&self) -> (Vec<String>, BTreeSet<Digest>) {
        let sight = self.lock();
        (sight.faults.clone(), sight.delivered.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Registrar, with a witness of its outcomes.
pub(super) struct WitnessedRelay {
    pub(super) relay: Arc<RelayAuthority>,
    pub(super) witness: Arc<Witness>,
}

impl Authority<JobId> for WitnessedRelay {
    fn submit(self: Arc<Self>, utc: UnixTime, batch: Vec<(JobId, Job)>, deliver: Arc<dyn Deliver<JobId>>) {
        let keyed = |(id, job): (JobId, Job)| ((id, self.witness.request(job.function, &job.csr)), job);
        let batch = batch.into_iter().map(keyed).collect();
        let deliver = WitnessedDelivery { inner: deliver, witness: Arc::clone(&self.witness) };
        Arc::clone(&self.relay).submit(utc, batch, Arc::new(deliver));
    }

    fn undelivered(&self, utc: UnixTime, issued: &Issued) {
        Authority::<JobId>::undelivered(&*self.relay, utc, issued);
    }

    fn delivered(&self, issued: &Issued) {
        Authority::<JobId>::delivered(&*self.relay, issued);
    }
}

struct WitnessedDelivery {
    inner: Arc<dyn Deliver<JobId>>,
    witness: Arc<Witness>,
}

impl Deliver<(JobId, Option<RequestKey>)> for WitnessedDelivery {
    fn deliver(&self, outcomes: Vec<((JobId, Option<RequestKey>), Outcome)>) {
        let seen = |((id, key), outcome): ((JobId, Option<RequestKey>), Outcome)| {
            if let Outcome::Issued { issued, .. } = &outcome {
                self.witness.delivered(key, issued);
            }
            (id, outcome)
        };
        self.inner.deliver(outcomes.into_iter().map(seen).collect());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn key() -> RequestKey {
        RequestKey { function: "simpleenroll", subject: spki() }
    }

    fn spki() -> Digest {
        Digest::of(b"key")
    }

    #[track_caller]
    fn finds(witness: &Witness, faults: usize) {
        assert_eq!(witness.found().0.len(), faults, "{:?}", witness.found().0);
    }

    #[test]
    fn an_open_end_that_goes_elsewhere_is_found_and_a_closed_one_may_go() {
        for (known, faults) in [(Known::Nothing, 1), (Known::NoneOfThis, 0), (Known::None, 0)] {
            let witness = Witness::default();
            let sent = witness.sent(key(), spki(), (0, at(10)), |_| false);
            witness.ended(sent, known);
            let _ = witness.sent(key(), spki(), (1, at(11)), |_| false);
            finds(&witness, faults);
        }
        let witness = Witness::default();
        let _ = witness.sent(key(), spki(), (0, at(10)), |_| false);
        let _ = witness.sent(key(), spki(), (1, at(10 + REPEAT_WINDOW.as_secs())), |_| false);
        finds(&witness, 0);
    }

    #[test]
    fn an_open_end_that_is_repeated_with_another_key_is_counted() {
        let witness = Witness::new(true);
        for (key_of, lost_keys) in [(b"1", 0), (b"1", 0), (b"2", 1), (b"2", 1)] {
            let sent = witness.sent(key(), Digest::of(key_of), (0, at(10)), |_| false);
            witness.ended(sent, Known::Nothing);
            assert_eq!(witness.tally().lost_keys, lost_keys);
        }
        finds(&witness, 0);
        let _ = witness.sent(key(), Digest::of(b"3"), (1, at(10)), |open| *open == Digest::of(b"2"));
        assert_eq!(witness.tally().lost_keys, 1, "a new request");
        finds(&witness, 0);
        let _ = witness.sent(key(), Digest::of(b"3"), (0, at(10)), |_| false);
        finds(&witness, 1);
    }

    #[test]
    fn a_repeat_that_brings_nothing_leaves_the_first_attempt_open() {
        for (known, faults) in [(Known::NoneOfThis, 1), (Known::None, 0)] {
            let witness = Witness::default();
            let sent = witness.sent(key(), spki(), (0, at(10)), |_| false);
            witness.ended(sent, Known::Nothing);
            let again = witness.sent(key(), spki(), (0, at(11)), |_| false);
            witness.ended(again, known);
            let _ = witness.sent(key(), spki(), (1, at(12)), |_| false);
            finds(&witness, faults);
        }
    }
}
