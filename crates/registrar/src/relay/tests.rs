//! What a Registrar does with lying, slow and failing upstreams, in virtual time: the test plays the upstream and says when it answers.

mod answers;
mod clients;
mod envelope;
mod failover;
mod front_cipher;
mod keys;
mod repeats;
mod requests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use authority::{
    Arrival, Collected, Completion, Function, KeyTypes, MadeKey, MemoryLedger, MemoryRelayLedger, Profile, ProfileSpec,
    RelayProfile, RelayProfileSpec, RelayQuery, RelayStage, RelayedKeys, UpstreamFacts, UpstreamRefusal,
};
use coap::Code;
use net::SystemRandom;
use pki::issue::{NodePrefix, Serial};
use pki::make::{self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Curve, Deviations, GeneralNames, PrivateKey, SigningKey, Validity};

use super::*;
use crate::body::encode_body;
use crate::status::{HttpStatus, TABLE};

const NOW: u64 = 1_800_000_000;
const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn new_key() -> SigningKey {
    let mut made = None;
    Random::with_secure(&SystemRandom::new(), &mut |random| {
        let key = PrivateKey::generate(Curve::P256, random).unwrap();
        made = Some(SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    });
    made.unwrap()
}

fn with_random<T>(make: impl Fn(&dyn ring::rand::SecureRandom) -> T) -> T {
    let mut made = None;
    Random::with_secure(&SystemRandom::new(), &mut |random| made = Some(make(random)));
    made.unwrap()
}

fn serial() -> Serial {
    let mut random = [0; 16];
    Random::fill(&SystemRandom::new(), &mut random);
    Serial::new(NodePrefix::new(0), random)
}

fn years() -> Validity {
    Validity { not_before: at(NOW - 86_400), not_after: at(NOW + 400 * 86_400) }
}

/// A self-signed CA and its key.
struct TestCa {
    certificate: Arc<Certificate>,
    key: SigningKey,
}

impl TestCa {
    fn new(common_name: &str) -> Self {
        let key = new_key();
        let spec = AuthorityCertificateSpec {
            common_name,
            organization: None,
            serial: serial(),
            validity: years(),
            path_len: None,
        };
        let certificate = Arc::new(with_random(|random| make::root(&spec, &key, random)).unwrap());
        Self { certificate, key }
    }

    /// A device's certificate for this key.
    fn device(&self, key: &SigningKey, validity: Validity) -> Arc<Certificate> {
        self.device_of("000001", key, validity)
    }

    fn device_of(&self, serial_number: &str, key: &SigningKey, validity: Validity) -> Arc<Certificate> {
        let spec = DeviceCertificateSpec {
            common_name: "device",
            serial_number,
            organization: None,
            serial: serial(),
            validity,
        };
        let parent = Parent { certificate: &self.certificate, key: &self.key };
        Arc::new(with_random(|random| make::idevid(&spec, key.public_key(), parent, random)).unwrap())
    }

    /// A CA's certificate for this key.
    fn authority(&self, key: &SigningKey) -> Arc<Certificate> {
        let spec = AuthorityCertificateSpec {
            common_name: "device",
            organization: None,
            serial: serial(),
            validity: years(),
            path_len: None,
        };
        let parent = Parent { certificate: &self.certificate, key: &self.key };
        Arc::new(with_random(|random| make::authority(&spec, key.public_key(), parent, random)).unwrap())
    }
}

/// Requests that wait for the test to answer them, and the second in which each was sent.
#[derive(Default)]
struct PlayedUpstream {
    waiting: Mutex<Vec<(u64, UpstreamRequest, Completion<UpstreamReply>)>>,
    now: AtomicU64,
}

impl Upstream for PlayedUpstream {
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>) {
        self.waiting.lock().unwrap().push((self.now.load(Ordering::Relaxed), request, done));
    }
}

/// A Registrar between a device and an upstream that the test plays.
struct Scene {
    factory: TestCa,
    issuing: TestCa,
    profile: Arc<Profile>,
    relayed: Arc<MemoryRelayLedger>,
    upstream: Arc<PlayedUpstream>,
    registrar: Arc<RelayAuthority>,
    outcomes: Arc<Collected<u32>>,
    key: SigningKey,
    client: Arc<Certificate>,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut RelayProfileSpec)) -> Self {
        let (factory, issuing) = (TestCa::new("Factory"), TestCa::new("Issuing"));
        let profile = ProfileSpec::new("meters", vec![Arc::clone(&factory.certificate)]);
        let mut spec = RelayProfileSpec::new(profile, vec![Arc::clone(&issuing.certificate)]);
        change(&mut spec);
        let facts =
            UpstreamFacts { ca_certificates: vec![Arc::clone(&issuing.certificate)], ..UpstreamFacts::default() };
        let profile = Arc::new(RelayProfile::compile(spec, facts).unwrap());
        let (relayed, upstream) = (Arc::new(MemoryRelayLedger::default()), Arc::new(PlayedUpstream::default()));
        let parts = parts(Arc::new(MemoryLedger::default()), &relayed, &upstream);
        let key = new_key();
        let client = factory.device(&key, years());
        Self {
            profile,
            relayed,
            upstream,
            registrar: Arc::new(RelayAuthority::new(parts)),
            outcomes: Arc::default(),
            key,
            client,
            factory,
            issuing,
        }
    }

    /// What another Registrar over this ledger with lists of devices is made of.
    fn parts(&self, ledger: Arc<dyn Ledger>) -> RelayParts {
        parts(ledger, &self.relayed, &self.upstream)
    }

    /// The Registrar of the next process, over the same ledger.
    fn restarted(self) -> Self {
        let parts = self.parts(Arc::new(MemoryLedger::default()));
        Self { registrar: Arc::new(RelayAuthority::new(parts)), ..self }
    }

    /// Has the first upstream fail at `now`, so that the second one is the healthy one.
    fn fail_first(&self, now: u64) {
        let pool = &self.registrar.parts.pool;
        let began = pool.claim(0, at(now)).unwrap();
        pool.ended(0, began, at(now), &Err(UpstreamFailure::NotSent));
    }

    fn csr(&self, key: &SigningKey, challenge_password: Option<&str>) -> Vec<u8> {
        let san = GeneralNames::empty();
        let spec = CsrSpec { subject: self.client.subject(), san: &san, challenge_password };
        with_random(|random| make::csr(&spec, key, random)).unwrap()
    }

    fn job(&self, function: Function, csr: Vec<u8>) -> Job {
        Job {
            function,
            profile: Arc::clone(&self.profile),
            client: Arc::clone(&self.client),
            anchor: self.factory.certificate.anchor_id(),
            deviations: Deviations::default(),
            csr,
            tls_unique: Some([7; 12]),
            cipher_bits: 128,
            arrival: Arrival::Coaps,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        }
    }

    fn submit(&self, now: u64, job: Job) {
        self.upstream.now.store(now, Ordering::Relaxed);
        let deliver = Arc::clone(&self.outcomes) as Arc<dyn Deliver<u32>>;
        Arc::clone(&self.registrar).submit(at(now), vec![(1, job)], deliver);
    }

    /// The requests that were sent and wait.
    fn sent(&self) -> Vec<(String, UpstreamOperation, Vec<u8>)> {
        let waiting = self.upstream.waiting.lock().unwrap();
        waiting.iter().map(|(_, it, _)| (it.upstream.to_string(), it.operation, it.csr.clone())).collect()
    }

    /// Answers the oldest request.
    fn reply(&self, now: u64, answer: Result<HttpAnswer, UpstreamFailure>) {
        self.upstream.now.store(now, Ordering::Relaxed);
        let (sent, _, done) = self.upstream.waiting.lock().unwrap().remove(0);
        done(UpstreamReply { took: Duration::from_secs(now - sent), answer });
    }

    fn outcome(&self) -> Outcome {
        let mut outcomes = self.outcomes.take();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0).1
    }

    fn rows(&self) -> Vec<authority::RelayEntry> {
        let listed: Arc<Mutex<Vec<authority::RelayEntry>>> = Arc::default();
        let found = Arc::clone(&listed);
        let query = RelayQuery { rows_max: 99, ..RelayQuery::default() };
        self.relayed.relayed(query, Box::new(move |rows| *found.lock().unwrap() = rows.unwrap().rows));
        listed.lock().unwrap().clone()
    }

    fn certificates(&self) -> Vec<Vec<u8>> {
        let recorded = |row: authority::RelayEntry| match row.stage {
            RelayStage::Recorded(all) => all,
            RelayStage::InFlight | RelayStage::Unresolved => Vec::new(),
        };
        let certificates = self.rows().into_iter().flat_map(recorded);
        certificates.map(|it| it.record.issued.certificate.clone()).collect()
    }
}

fn parts(ledger: Arc<dyn Ledger>, relayed: &Arc<MemoryRelayLedger>, upstream: &Arc<PlayedUpstream>) -> RelayParts {
    RelayParts {
        ledger,
        relayed: Arc::clone(relayed) as Arc<dyn RelayLedger>,
        upstream: Arc::clone(upstream) as Arc<dyn Upstream>,
        pool: Arc::new(UpstreamPool::new(["a".into(), "b".into()])),
        random: Arc::new(SystemRandom::new()),
        flights: Arc::default(),
        in_flight_max: 4,
        waiting: Arc::default(),
        kept_keys: Arc::default(),
    }
}

fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> HttpAnswer {
    HttpAnswer { status, content_type: Some(content_type.to_owned()), retry_after: None, body: body.into() }
}

fn certs_only(certificates: &[&Arc<Certificate>]) -> Vec<u8> {
    let ders: Vec<&[u8]> = certificates.iter().map(|it| it.der()).collect();
    encode_body(&pki::cms::certs_only(&ders)).into_bytes()
}
