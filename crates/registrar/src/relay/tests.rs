//! What a Registrar does with lying, slow and failing upstreams, in virtual time: the test plays the upstream and says when it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use authority::{
    Arrival, Collected, Completion, KeyTypes, MadeKey, MemoryLedger, MemoryRelayLedger, Profile, ProfileSpec,
    RelayProfile, RelayProfileSpec, RelayQuery, RelayStage, RelayedKeys, UpstreamFacts,
};
use net::SystemRandom;
use pki::issue::{NodePrefix, Serial};
use pki::make::{self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Curve, Deviations, GeneralNames, Validity};

use super::*;
use crate::body::encode_body;

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
        let spec = DeviceCertificateSpec {
            common_name: "device",
            serial_number: "000001",
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

/// Requests that wait for the test to answer them.
#[derive(Default)]
struct PlayedUpstream(Mutex<Vec<(UpstreamRequest, Completion<UpstreamReply>)>>);

impl Upstream for PlayedUpstream {
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>) {
        self.0.lock().unwrap().push((request, done));
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
        let parts = RelayParts {
            ledger: Arc::new(MemoryLedger::default()),
            relayed: Arc::clone(&relayed) as Arc<dyn RelayLedger>,
            upstream: Arc::clone(&upstream) as Arc<dyn Upstream>,
            pool: Arc::new(UpstreamPool::new(["a".into(), "b".into()])),
            random: Arc::new(SystemRandom::new()),
            flights: Arc::default(),
            in_flight_max: 4,
            waiting: Arc::default(),
        };
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
        let deliver = Arc::clone(&self.outcomes) as Arc<dyn Deliver<u32>>;
        Arc::clone(&self.registrar).submit(at(now), vec![(1, job)], deliver);
    }

    /// The requests that were sent and wait.
    fn sent(&self) -> Vec<(String, UpstreamOperation, Vec<u8>)> {
        let waiting = self.upstream.0.lock().unwrap();
        waiting.iter().map(|(it, _)| (it.upstream.to_string(), it.operation, it.csr.clone())).collect()
    }

    /// Answers the oldest request.
    fn reply(&self, now: u64, answer: Result<HttpAnswer, UpstreamFailure>) {
        let (_, done) = self.upstream.0.lock().unwrap().remove(0);
        done(UpstreamReply { at: at(now), answer });
    }

    fn outcome(&self) -> Outcome {
        let mut outcomes = self.outcomes.take();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0).1
    }

    fn certificates(&self) -> Vec<Vec<u8>> {
        let listed: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let found = Arc::clone(&listed);
        self.relayed.relayed(
            RelayQuery { rows_max: 99, ..RelayQuery::default() },
            Box::new(move |rows| {
                for row in rows.unwrap().rows {
                    if let RelayStage::Recorded(all) = row.stage {
                        found.lock().unwrap().extend(all.iter().map(|it| it.record.issued.certificate.clone()));
                    }
                }
            }),
        );
        listed.lock().unwrap().clone()
    }
}

fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> HttpAnswer {
    HttpAnswer { status, content_type: Some(content_type.to_owned()), retry_after: None, body: body.into() }
}

fn certs_only(certificates: &[&Arc<Certificate>]) -> Vec<u8> {
    let ders: Vec<&[u8]> = certificates.iter().map(|it| it.der()).collect();
    encode_body(&pki::cms::certs_only(&ders)).into_bytes()
}

#[test]
fn e41_an_answer_that_lies_is_not_passed_on_and_not_recorded() {
    let scene = Scene::new();
    let (key, other) = (new_key(), new_key());
    let good = scene.issuing.device(&key, years());
    let past = Validity { not_before: at(NOW - 9_000), not_after: at(NOW - 1) };
    let future = Validity { not_before: at(NOW + 9_000), not_after: at(NOW + 99_000) };
    let cases = [
        (
            "another key",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&other, years())])),
            UpstreamAnswerFlaw::OtherKey,
        ),
        (
            "two",
            answer(200, CERTS_ONLY, certs_only(&[&good, &scene.issuing.certificate])),
            UpstreamAnswerFlaw::NotOneCertificate,
        ),
        ("none", answer(200, CERTS_ONLY, certs_only(&[])), UpstreamAnswerFlaw::NotOneCertificate),
        (
            "another CA",
            answer(200, CERTS_ONLY, certs_only(&[&TestCa::new("Issuing").device(&key, years())])),
            UpstreamAnswerFlaw::OtherIssuer,
        ),
        (
            "the factory",
            answer(200, CERTS_ONLY, certs_only(&[&scene.factory.device(&key, years())])),
            UpstreamAnswerFlaw::OtherIssuer,
        ),
        (
            "expired",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, past)])),
            UpstreamAnswerFlaw::Unusable,
        ),
        (
            "not yet valid",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, future)])),
            UpstreamAnswerFlaw::Unusable,
        ),
        ("a CA", answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.authority(&key)])), UpstreamAnswerFlaw::Unusable),
        ("another type", answer(200, "text/html", certs_only(&[&good])), UpstreamAnswerFlaw::MediaType),
        (
            "a key",
            answer(200, "application/pkcs7-mime; smime-type=server-generated-key", certs_only(&[&good])),
            UpstreamAnswerFlaw::MediaType,
        ),
        ("no base64", answer(200, CERTS_ONLY, pki::cms::certs_only(&[good.der()])), UpstreamAnswerFlaw::Malformed),
        ("no CMS", answer(200, CERTS_ONLY, encode_body(good.der())), UpstreamAnswerFlaw::Malformed),
        ("nothing", answer(200, CERTS_ONLY, ""), UpstreamAnswerFlaw::Malformed),
        ("a redirect", answer(302, CERTS_ONLY, certs_only(&[&good])), UpstreamAnswerFlaw::Status),
        ("another success", answer(204, CERTS_ONLY, certs_only(&[&good])), UpstreamAnswerFlaw::Status),
    ];
    for (what, lie, flaw) in cases {
        scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
        scene.reply(NOW, Ok(lie));
        match scene.outcome() {
            Outcome::Refused(Refusal::UpstreamAnswer(found)) => assert_eq!(found, flaw, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Err(UpstreamFailure::TooLong));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::TooLong))));
    assert!(scene.certificates().is_empty(), "nothing of it is recorded");
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("the honest answer is passed on") };
    assert_eq!((issued.certificate.as_slice(), scene.certificates()), (good.der(), vec![good.der().to_vec()]));
}

#[test]
fn e42_each_status_has_the_code_of_the_one_table() {
    for (status, refusal) in [
        (400, UpstreamRefusal::BadRequest),
        (401, UpstreamRefusal::Unauthorized),
        (403, UpstreamRefusal::Forbidden),
        (404, UpstreamRefusal::NotFound),
        (410, UpstreamRefusal::BadRequest),
        (500, UpstreamRefusal::Failed),
        (501, UpstreamRefusal::NotImplemented),
        (504, UpstreamRefusal::TimedOut),
    ] {
        let scene = Scene::new();
        scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
        scene.reply(NOW, Ok(answer(status, "text/plain", "no")));
        match scene.outcome() {
            Outcome::Refused(why @ Refusal::Upstream(found)) => {
                assert_eq!(found, refusal, "{status}");
                let reason = est::Reason::of_decision(&why, Function::SimpleEnroll);
                assert_eq!(reason.response_code(), Some(HttpStatus::new(status).to_coap()), "{status}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [202, 503, 429] {
        let scene = Scene::new();
        scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
        let later = HttpAnswer { retry_after: Some("77".into()), ..answer(status, "text/plain", "come again") };
        scene.reply(NOW, Ok(later));
        let Outcome::Later { max_age, why: Busy::Upstream(UpstreamBusy::Later { .. }) } = scene.outcome() else {
            panic!("{status}")
        };
        assert_eq!(max_age, Duration::from_secs(77), "{status}");
    }
}

#[test]
fn e42_silence_and_202_keep_the_request_with_its_upstream_and_a_connection_that_was_refused_does_not() {
    let accepted = HttpAnswer { status: 202, ..HttpAnswer::default() };
    for unknown in
        [Err(UpstreamFailure::Unknown), Ok(accepted), Ok(answer(500, "text/plain", "")), Ok(answer(502, "", ""))]
    {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, unknown);
        drop(scene.outcome());
        for round in 1..4 {
            scene.submit(NOW + round, scene.job(Function::SimpleEnroll, csr.clone()));
            let sent = scene.sent();
            let operation = UpstreamOperation::Enrol(Function::SimpleEnroll);
            assert_eq!(sent, [("a".to_owned(), operation, csr.clone())], "the same CSR, to the same upstream");
            // It cannot even be reached: no other one is asked.
            scene.reply(NOW + round, Err(UpstreamFailure::NotSent));
            let Outcome::Later { why: Busy::Upstream(UpstreamBusy::Unreachable), .. } = scene.outcome() else {
                panic!("not later")
            };
        }
    }
    let scene = Scene::new();
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    assert_eq!(scene.sent()[0].0, "b", "nothing was sent to the first one");
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::Upstream(UpstreamBusy::Unreachable), .. }));
}

#[test]
fn a_fresh_csr_for_the_same_key_is_a_repeat_and_gets_the_bytes_of_the_ledger() {
    let scene = Scene::new();
    let key = new_key();
    let good = scene.issuing.device(&key, years());
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    drop(scene.outcome());
    scene.submit(NOW + 9, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("not issued") };
    assert_eq!(issued.certificate, good.der());
    assert!(scene.sent().is_empty(), "nothing is sent");
}

#[test]
fn e43_a_link_is_checked_here_and_nothing_is_sent() {
    let link = pki::linking::LinkingText::of(&[7; 12]);
    let stale = pki::linking::LinkingText::of(&[8; 12]);
    for required in [false, true] {
        let scene = Scene::with(|spec| spec.profile.require_linking = required);
        let key = new_key();
        let submit = |csr: Vec<u8>, tls_unique| {
            scene.submit(NOW, Job { tls_unique, ..scene.job(Function::SimpleEnroll, csr) });
        };
        submit(scene.csr(&key, Some(stale.as_str())), Some([7; 12]));
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeMismatch)));
        submit(scene.csr(&key, Some(link.as_str())), None);
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeUnbound)));
        if required {
            submit(scene.csr(&key, None), Some([7; 12]));
            assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeAbsent)));
        }
        assert!(scene.sent().is_empty(), "the upstream cannot check it, so it is not asked");
        let linked = scene.csr(&key, Some(link.as_str()));
        submit(linked.clone(), Some([7; 12]));
        assert_eq!(scene.sent()[0].2, linked, "forwarded unchanged");
    }
}

#[test]
fn nothing_is_sent_for_a_request_that_the_profile_refuses() {
    let scene = Scene::new();
    let key = new_key();
    let mut forged = scene.csr(&key, None);
    *forged.last_mut().unwrap() ^= 1;
    let foreign =
        CsrSpec { subject: scene.factory.certificate.subject(), san: &GeneralNames::empty(), challenge_password: None };
    let foreign = with_random(|random| make::csr(&foreign, &key, random)).unwrap();
    for (csr, code) in [
        (forged, "est.csr.signature"),
        (foreign, "est.sen.subject_mismatch"),
        (scene.csr(&scene.key, None), "est.csr.identity_key"),
        (scene.csr(&scene.issuing.key, None), "est.csr.ca_key"),
    ] {
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
        let Outcome::Refused(why) = scene.outcome() else { panic!("{code}") };
        assert_eq!(why.code(Function::SimpleEnroll), code);
    }
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&key, None)));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::NoServerKeys)));
    assert!(scene.sent().is_empty());
}

/// RFC 7030 §4.4: no key leaves under a cipher that is weaker than it; and a Registrar speaks for devices only before a CA.
#[test]
fn nothing_is_sent_for_a_key_that_the_session_does_not_protect_nor_for_another_registrar() {
    let p384 = KeyTypes { p256: false, p384: true };
    let scene = Scene::with(|spec| (spec.server_keys, spec.key_types) = (RelayedKeys::Here, p384));
    let csr = scene.csr(&scene.key, None);
    for (cipher_bits, sent) in [(128, 0), (256, 1)] {
        scene.submit(NOW, Job { cipher_bits, ..scene.job(Function::ServerKeygen, csr.clone()) });
        assert_eq!(scene.sent().len(), sent);
        if sent == 0 {
            assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::KeyCipher(Curve::P384))));
        }
    }
    let scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    let job = Job { arrival: Arrival::Registrar("site".into()), ..scene.job(Function::SimpleEnroll, csr) };
    scene.submit(NOW, job);
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::RegistrarNotListed(name)) if *name == *"site"));
    assert!(scene.sent().is_empty());
}

#[test]
fn e47_the_ledger_says_whose_a_relayed_certificate_is_and_e54_one_that_was_never_relayed_is_nobodys() {
    let scene = Scene::new();
    let key = new_key();
    let good = scene.issuing.device(&key, years());
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    drop(scene.outcome());
    let renewal = |client: &Arc<Certificate>| Job {
        client: Arc::clone(client),
        anchor: scene.issuing.certificate.anchor_id(),
        ..scene.job(Function::SimpleReenroll, scene.csr(&key, None))
    };
    // The same subject, the same key, the same issuer, and no row.
    scene.submit(NOW + 1, renewal(&scene.issuing.device(&key, years())));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ClientNotInLedger)));
    assert!(scene.sent().is_empty());
    scene.submit(NOW + 1, renewal(&good));
    assert_eq!(scene.sent()[0].1, UpstreamOperation::Enrol(Function::SimpleReenroll));
    let renewed = scene.issuing.device(&key, years());
    scene.reply(NOW + 1, Ok(answer(200, CERTS_ONLY, certs_only(&[&renewed]))));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("not renewed") };
    assert_eq!(
        issued.device.manufacturer,
        scene.factory.certificate.anchor_id(),
        "the device of its first certificate"
    );
    // A factory certificate is not renewed.
    scene.submit(NOW + 1, scene.job(Function::SimpleReenroll, scene.csr(&key, None)));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::NotIssuedHere)));
}

#[test]
fn requests_that_wait_for_upstreams_are_bounded_and_the_same_one_waits_for_its_twin() {
    let scene = Scene::new();
    let devices: Vec<Job> = (0..5).map(|_| scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None))).collect();
    for (number, job) in devices.into_iter().enumerate() {
        // Each from a device of its own: one device has a bound of its own.
        let key = new_key();
        let spec = DeviceCertificateSpec {
            common_name: "device",
            serial_number: &format!("{number:06}"),
            organization: None,
            serial: serial(),
            validity: years(),
        };
        let parent = Parent { certificate: &scene.factory.certificate, key: &scene.factory.key };
        let client = with_random(|random| make::idevid(&spec, key.public_key(), parent, random)).unwrap();
        let san = GeneralNames::empty();
        let csr = CsrSpec { subject: client.subject(), san: &san, challenge_password: None };
        let csr = with_random(|random| make::csr(&csr, &new_key(), random)).unwrap();
        scene.submit(NOW, Job { client: Arc::new(client), csr, ..job });
    }
    assert_eq!(scene.sent().len(), 4);
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::Upstream(UpstreamBusy::Full), .. }));
    for _ in 0..4 {
        scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    }
    assert_eq!(scene.outcomes.take().len(), 4);
    let key = new_key();
    let csr = scene.csr(&key, None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
    assert_eq!(scene.sent().len(), 1, "one request for both");
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, years())]))));
    let outcomes = scene.outcomes.take();
    assert!(outcomes.len() == 2 && outcomes.iter().all(|(_, it)| matches!(it, Outcome::Issued { .. })), "{outcomes:?}");
}

/// RFC 7030 §4.4.2: multipart/mixed of a key and a certificate, with these media types.
fn multipart(parts: &[(&str, Vec<u8>)]) -> HttpAnswer {
    let mut body = b"preamble\r\n".to_vec();
    for (content_type, part) in parts {
        body.extend(b"--estServerKeyGenBoundary\r\n");
        body.extend(format!("Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n").bytes());
        body.extend(part);
        body.extend(b"\r\n");
    }
    body.extend(b"--estServerKeyGenBoundary--\r\nepilogue");
    answer(200, "multipart/mixed ; boundary=\"estServerKeyGenBoundary\"", body)
}

#[test]
fn a_key_that_the_upstream_makes_is_passed_on_only_with_its_own_certificate() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let made = with_random(|random| pki::GeneratedKey::generate(Curve::P256, random).unwrap());
    let made_pair = with_random(|random| SigningKey::from_pkcs8(made.pkcs8(), random).unwrap());
    let pkcs8 = encode_body(made.pkcs8()).into_bytes();
    let good = certs_only(&[&scene.issuing.device(&made_pair, years())]);
    let other = certs_only(&[&scene.issuing.device(&new_key(), years())]);
    let csr = scene.csr(&scene.key, None);
    for (what, lie, flaw) in [
        (
            "another key",
            multipart(&[("application/pkcs8", pkcs8.clone()), (CERTS_ONLY, other)]),
            UpstreamAnswerFlaw::PrivateKey,
        ),
        (
            "encrypted",
            multipart(&[
                ("application/pkcs7-mime; smime-type=server-generated-key", pkcs8.clone()),
                (CERTS_ONLY, good.clone()),
            ]),
            UpstreamAnswerFlaw::PrivateKey,
        ),
        ("no key", multipart(&[(CERTS_ONLY, good.clone())]), UpstreamAnswerFlaw::Malformed),
        (
            "two keys",
            multipart(&[("application/pkcs8", pkcs8.clone()), ("application/pkcs8", pkcs8.clone())]),
            UpstreamAnswerFlaw::Malformed,
        ),
        ("no multipart", answer(200, CERTS_ONLY, good.clone()), UpstreamAnswerFlaw::MediaType),
    ] {
        scene.submit(NOW, scene.job(Function::ServerKeygen, csr.clone()));
        assert_eq!(scene.sent()[0].1, UpstreamOperation::Enrol(Function::ServerKeygen));
        scene.reply(NOW, Ok(lie));
        match scene.outcome() {
            Outcome::Refused(Refusal::UpstreamAnswer(found)) => assert_eq!(found, flaw, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    scene.submit(NOW, scene.job(Function::ServerKeygen, csr));
    scene.reply(NOW, Ok(multipart(&[("application/pkcs8", pkcs8), (CERTS_ONLY, good)])));
    let Outcome::Issued { private_key: Some(key), issued } = scene.outcome() else { panic!("no key") };
    let MadeKey::Plain(key) = &*key else { panic!("nobody encrypted it") };
    let passed_on = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    assert_eq!(passed_on.spki(), made.spki());
    // The key did not reach its device: the certificate opens nothing any more.
    Authority::<u32>::undelivered(&*scene.registrar, at(NOW), &issued);
    let digest = issued.digest;
    let state = Arc::new(Mutex::new(None));
    let found = Arc::clone(&state);
    scene.relayed.holders(vec![digest], Box::new(move |it| *found.lock().unwrap() = it.unwrap().remove(0)));
    assert!(matches!(state.lock().unwrap().as_ref().unwrap().state, authority::State::Revoked(_)));
}

#[test]
fn what_an_upstream_says_about_itself_is_read_and_nonsense_is_not() {
    let ca = TestCa::new("Root");
    let read = read_ca_certificates(&answer(200, CERTS_ONLY, certs_only(&[&ca.certificate]))).unwrap();
    assert_eq!(read[0].der(), ca.certificate.der());
    for lie in [
        answer(200, "text/html", "<html>"),
        answer(200, CERTS_ONLY, "<html>"),
        answer(503, CERTS_ONLY, certs_only(&[&ca.certificate])),
    ] {
        assert!(read_ca_certificates(&lie).is_err(), "{lie:?}");
    }
    for nothing in [204, 404] {
        assert_eq!(read_csr_attributes(&answer(nothing, "text/plain", "")), Ok(None));
    }
    assert!(read_csr_attributes(&answer(200, "application/csrattrs", "AAAA")).is_err());
    // RFC 9148, appendix A.2.
    let attributes = [0x30, 0x00];
    assert_eq!(
        read_csr_attributes(&answer(200, "application/csrattrs", encode_body(&attributes))).map(|it| it.is_some()),
        Ok(true)
    );
}
