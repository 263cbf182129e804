//! Whom a Registrar asks for: RFC 9148 §5, "The Registrar MUST authenticate and optionally authorize the client requests". Nothing is sent for a client
//! that it would not let through as a CA, because its upstream cannot tell.

use authority::{Finding, Inquiry, LedgerOver, Registration};
use pki::make::ServerCertificateSpec;
use pki::{Encoding, Name};
use rustls_pki_types::ServerName;

use super::*;

/// A ledger whose lists say the same of every device.
struct Listed(MemoryLedger, Registration);

impl LedgerOver for Listed {
    fn inner(&self) -> &dyn Ledger {
        &self.0
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        done(Ok(vec![Finding { holder: None, registration: self.1 }; of.len()]));
    }
}

impl Scene {
    /// The same Registrar with lists that say this of its devices.
    fn listing(self, registration: Registration) -> Self {
        let Self { relayed, upstream, .. } = &self;
        let parts = RelayParts {
            ledger: Arc::new(Listed(MemoryLedger::default(), registration)),
            relayed: Arc::clone(relayed) as Arc<dyn RelayLedger>,
            upstream: Arc::clone(upstream) as Arc<dyn Upstream>,
            pool: Arc::new(UpstreamPool::new(["a".into(), "b".into()])),
            random: Arc::new(SystemRandom::new()),
            flights: Arc::default(),
            in_flight_max: 4,
            waiting: Arc::default(),
            kept_keys: Arc::default(),
        };
        Self { registrar: Arc::new(RelayAuthority::new(parts)), ..self }
    }

    /// Another profile in front of the same upstream.
    fn profile_with(&self, change: impl FnOnce(&mut RelayProfileSpec)) -> Arc<Profile> {
        let profile = ProfileSpec::new("meters", vec![Arc::clone(&self.factory.certificate)]);
        let mut spec = RelayProfileSpec::new(profile, vec![Arc::clone(&self.issuing.certificate)]);
        change(&mut spec);
        Arc::new(RelayProfile::compile(spec, UpstreamFacts::default()).unwrap())
    }

    /// Has a certificate for this key relayed to its device.
    fn relay(&self, key: &SigningKey, certificate: &Arc<Certificate>) {
        self.submit(NOW, self.job(Function::SimpleEnroll, self.csr(key, None)));
        self.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[certificate]))));
        assert!(matches!(self.outcome(), Outcome::Issued { .. }));
    }

    /// A request with the relayed certificate as the client's.
    fn renewal(&self, client: &Arc<Certificate>, csr: Vec<u8>) -> Job {
        let anchor = self.issuing.certificate.anchor_id();
        Job { client: Arc::clone(client), anchor, ..self.job(Function::SimpleReenroll, csr) }
    }

    fn csr_of(&self, subject: &Name, san: &GeneralNames, key: &SigningKey) -> Vec<u8> {
        let spec = CsrSpec { subject, san, challenge_password: None };
        with_random(|random| make::csr(&spec, key, random)).unwrap()
    }

    /// A request for this device with these basicConstraints (RFC 5280 §4.2.1.9).
    fn csr_with(&self, basic_constraints: &[u8]) -> Vec<u8> {
        let san = GeneralNames::empty();
        let spec = CsrSpec { subject: self.client.subject(), san: &san, challenge_password: None };
        let extensions = [(pki::oid::BASIC_CONSTRAINTS, true, basic_constraints)];
        with_random(|random| make::csr_with_extensions(&spec, &extensions, &new_key(), random)).unwrap()
    }

    /// The refusal of this job, for which nothing is sent.
    fn refuses(&self, now: u64, job: Job) -> Refusal {
        self.submit(now, job);
        assert!(self.sent().is_empty(), "nothing is sent");
        let Outcome::Refused(why) = self.outcome() else { panic!("not refused") };
        why
    }
}

impl TestCa {
    /// A certificate with these DNS names.
    fn named(&self, names: &[&str], key: &SigningKey) -> Arc<Certificate> {
        let names: Vec<_> = names.iter().map(|name| ServerName::try_from(*name).unwrap()).collect();
        let spec = ServerCertificateSpec { names: &names, serial: serial(), validity: years() };
        let parent = Parent { certificate: &self.certificate, key: &self.key };
        Arc::new(with_random(|random| make::server(&spec, key.public_key(), parent, random)).unwrap())
    }
}

#[test]
fn a_client_below_no_anchor_of_the_profile_is_refused() {
    let scene = Scene::new();
    let anchor = TestCa::new("Nobody").certificate.anchor_id();
    for function in [Function::SimpleEnroll, Function::SimpleReenroll] {
        let job = Job { anchor, ..scene.job(function, scene.csr(&new_key(), None)) };
        assert!(matches!(scene.refuses(NOW, job), Refusal::ClientUnknown), "{function:?}");
    }
}

/// RFC 9148 §3: "the server MAY authenticate a client certificate against its trust store though the certificate is expired": under the switch, and one
/// of a manufacturer alone.
#[test]
fn e11_a_device_outside_its_validity_is_relayed_only_under_the_switch_and_never_by_a_relayed_certificate() {
    let past = NOW + 500 * 86_400;
    for (allowed, sent) in [(false, 0), (true, 1)] {
        let scene = Scene::with(|spec| spec.profile.allow_expired_identity = allowed);
        let (key, early) = (new_key(), scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
        assert!(matches!(scene.refuses(NOW - 2 * 86_400, early), Refusal::ClientExpired), "not yet valid");
        let relayed = scene.issuing.device(&key, years());
        scene.relay(&key, &relayed);
        let renewal = scene.renewal(&relayed, scene.csr(&key, None));
        assert!(matches!(scene.refuses(past, renewal), Refusal::ClientExpired), "{allowed}");
        scene.submit(past, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
        assert_eq!(scene.sent().len(), sent, "{allowed}");
        assert_eq!(
            matches!(scene.outcomes.take().pop(), Some((_, Outcome::Refused(Refusal::ClientExpired)))),
            !allowed
        );
    }
}

#[test]
fn e46_a_relayed_certificate_opens_the_profile_that_relayed_it_and_no_other() {
    let scene = Scene::new();
    let key = new_key();
    let relayed = scene.issuing.device(&key, years());
    scene.relay(&key, &relayed);
    let renewal = || scene.renewal(&relayed, scene.csr(&new_key(), None));
    let pumps = scene.profile_with(|spec| spec.profile.name = "pumps".to_owned());
    let other = Job { profile: pumps, ..renewal() };
    assert!(matches!(scene.refuses(NOW + 1, other), Refusal::ClientOfAnotherProfile(name) if *name == *"meters"));
    // E53: a manufacturer that was taken off the list.
    let factory = TestCa::new("Another factory").certificate;
    let without = scene.profile_with(|spec| spec.profile.manufacturers = vec![Arc::clone(&factory)]);
    let removed = Job { profile: without, ..renewal() };
    assert!(matches!(scene.refuses(NOW + 1, removed), Refusal::ManufacturerRemoved));
    // E09: one that an operator has marked as revoked.
    let revocation = Revocation { reason: RevocationReason::KeyCompromise, at: at(NOW), actor: Actor::undelivered() };
    scene.relayed.mark_revoked(vec![(relayed.digest(), revocation)], Box::new(drop));
    assert!(matches!(scene.refuses(NOW + 1, renewal()), Refusal::ClientRevoked));
}

#[test]
fn e23_a_key_that_was_marked_as_compromised_is_sent_to_no_upstream_and_its_certificate_is_not_passed_on() {
    let scene = Scene::new();
    let key = new_key();
    let first = scene.issuing.device(&key, years());
    scene.relay(&key, &first);
    // A renewal by the factory certificate's session is upstream while the operator marks the first certificate.
    let labelled = scene.profile_with(|spec| spec.profile.name = "others".to_owned());
    let other = || Job { profile: Arc::clone(&labelled), ..scene.job(Function::SimpleEnroll, scene.csr(&key, None)) };
    scene.submit(NOW + 1, other());
    assert_eq!(scene.sent().len(), 1);
    let revocation =
        Revocation { reason: RevocationReason::KeyCompromise, at: at(NOW + 1), actor: Actor::undelivered() };
    scene.relayed.mark_revoked(vec![(first.digest(), revocation)], Box::new(drop));
    let second = scene.issuing.device(&key, years());
    scene.reply(NOW + 1, Ok(answer(200, CERTS_ONLY, certs_only(&[&second]))));
    let Outcome::Refused(why @ Refusal::KeyCompromised) = scene.outcome() else { panic!("it was passed on") };
    let reason = est::Reason::of_decision(&why, Function::SimpleEnroll);
    assert_eq!((reason.code(), reason.response_code()), ("est.csr.key_compromised", Some(Code::FORBIDDEN)));
    assert_eq!(scene.certificates().len(), 2, "and it is recorded");
    for job in [scene.job(Function::SimpleEnroll, scene.csr(&key, None)), other()] {
        assert!(matches!(scene.refuses(NOW + 2, job), Refusal::KeyCompromised));
    }
    assert!(scene.sent().is_empty());
}

#[test]
fn a_device_that_is_denied_is_refused_and_one_that_is_pending_waits_and_nothing_is_sent_for_either() {
    let scene = Scene::new().listing(Registration::Denied);
    let job = || scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None));
    assert!(matches!(scene.refuses(NOW, job()), Refusal::DeviceDenied));
    let scene = scene.listing(Registration::Pending);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::DevicePending, .. }));
    assert!(scene.sent().is_empty());
}

#[test]
fn e63_a_certificate_that_is_not_strict_is_refused_unless_the_profile_reads_it_as_issued() {
    let scene = Scene::new();
    // cA FALSE written out.
    let written = scene.csr_with(&[0x30, 0x03, 0x01, 0x01, 0x00]);
    let deviations = pki::CsrContents::parse_as(written, Encoding::AsIssued).unwrap().deviations();
    assert!(!deviations.is_empty());
    let job = |profile: Arc<Profile>| Job {
        deviations,
        profile,
        ..scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None))
    };
    let strict = job(Arc::clone(&scene.profile));
    assert!(matches!(scene.refuses(NOW, strict), Refusal::ClientEncoding(found) if found == deviations));
    scene.submit(NOW, job(scene.profile_with(|spec| spec.profile.identity_encoding = Encoding::AsIssued)));
    assert_eq!(scene.sent().len(), 1);
}

/// RFC 7030 §4.2.2: subject and subjectAltName of a renewal are those of the certificate; and no request gets a name that the profile does not list or
/// that its client does not have.
#[test]
fn e06_e07_names_are_those_of_the_client_before_anything_is_sent() {
    let by_name = |spec: &mut RelayProfileSpec| spec.profile.device_id = "idevid:subject.CN".parse().unwrap();
    let listed = |spec: &mut RelayProfileSpec| {
        by_name(spec);
        spec.san = vec![authority::SanKind::Dns];
    };
    let (key, names) = (new_key(), ["a.example", "b.example"]);
    let san = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| ServerName::try_from(*name).unwrap()).collect();
        GeneralNames::from_server_names(&names).unwrap()
    };
    for (lists, asked, code) in [
        (false, &names[..], Some("est.csr.san_not_listed")),
        (true, &["c.example"], Some("est.csr.san_mismatch")),
        (true, &names[..1], None),
        (true, &[], None),
    ] {
        let scene = if lists { Scene::with(listed) } else { Scene::with(by_name) };
        let client = scene.factory.named(&names, &scene.key);
        let csr = scene.csr_of(client.subject(), &san(asked), &key);
        let job = Job { client, ..scene.job(Function::SimpleEnroll, csr) };
        match code {
            Some(code) => assert_eq!(scene.refuses(NOW, job).code(Function::SimpleEnroll), code, "{asked:?}"),
            None => {
                scene.submit(NOW, job);
                assert_eq!(scene.sent().len(), 1, "{asked:?}");
            }
        }
    }
    let scene = Scene::with(listed);
    let relayed = scene.issuing.named(&names, &key);
    scene.relay(&key, &relayed);
    let part = scene.renewal(&relayed, scene.csr_of(relayed.subject(), &san(&names[..1]), &key));
    assert_eq!(scene.refuses(NOW, part).code(Function::SimpleReenroll), "est.csr.san_mismatch");
    scene.submit(NOW, scene.renewal(&relayed, scene.csr_of(relayed.subject(), &san(&names), &key)));
    assert_eq!(scene.sent().len(), 1);
    // RFC 5280 §4.1.2.6: with an empty subject only the alternative names identify the holder.
    let (scene, long) = (Scene::with(listed), format!("{}.example", "a".repeat(60)));
    let nameless = scene.issuing.named(&[&long], &key);
    assert!(nameless.subject().is_empty());
    scene.relay(&key, &nameless);
    let csr = scene.csr_of(nameless.subject(), &GeneralNames::empty(), &new_key());
    let job = Job { function: Function::SimpleEnroll, ..scene.renewal(&nameless, csr) };
    assert!(matches!(scene.refuses(NOW, job), Refusal::NoName));
}

/// RFC 9148 §4.8: "the server MUST ignore the public key values and signature in the CSR", and so must a Registrar that makes the key.
#[test]
fn key_and_signature_of_a_request_for_a_key_are_ignored_and_its_names_are_kept() {
    for (what, spki) in [("its own", None), ("RSA", Some(rsa_key())), ("of no kind", Some(unknown_key()))] {
        let scene = Scene::with(|spec| {
            spec.profile.device_id = "idevid:subject.CN".parse().unwrap();
            (spec.server_keys, spec.san) = (RelayedKeys::Here, vec![authority::SanKind::Dns]);
        });
        let client = scene.factory.named(&["a.example"], &scene.key);
        let mut csr = scene.csr_of(client.subject(), client.san(), &scene.key);
        if let Some(spki) = spki {
            csr = with_spki(&csr, scene.key.spki(), &spki);
            assert!(pki::Csr::parse(csr.clone()).is_err(), "{what}: no key that could be certified");
        }
        *csr.last_mut().unwrap() ^= 1;
        let job = || Job { client: Arc::clone(&client), ..scene.job(Function::ServerKeygen, csr.clone()) };
        let mut requests = Vec::new();
        for _ in 0..2 {
            scene.submit(NOW, job());
            requests.extend(scene.sent().into_iter().map(|(_, operation, csr)| (operation, csr)));
            // Its twin would be another request for the same key.
            scene.submit(NOW, job());
            assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::InFlight, .. }));
            scene.reply(NOW, Ok(answer(403, "text/plain", "")));
            drop(scene.outcome());
        }
        assert_eq!(requests.len(), 2, "{what}: a request that has its answer is not repeated");
        let mut keys = Vec::new();
        for (operation, sent) in requests {
            assert_eq!(operation, UpstreamOperation::Enrol(Function::SimpleEnroll));
            let sent = pki::Csr::parse(sent).and_then(pki::Csr::verify).expect("signed with the key that was made");
            assert!(
                sent.subject().matches(client.subject()) && sent.san().matches(client.san()),
                "{what}: its names are kept"
            );
            assert_ne!(sent.spki(), client.spki());
            keys.push(sent.spki().to_vec());
        }
        assert_ne!(keys[0], keys[1], "each has a key of its own");
    }
}

/// An RSA key of 2,048 bits (RFC 3279 §2.3.1), whose modulus is any odd number.
fn rsa_key() -> Vec<u8> {
    let mut key = vec![0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
    key.extend([0xc3; 256]);
    key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let algorithm = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = [&[0x03, 0x82, 0x01, 0x0f, 0x00], &key[..]].concat();
    [&[0x30, 0x82, 0x01, 0x22], &algorithm[..], &bits].concat()
}

/// Bits that mean nothing, as a key of an algorithm that nobody knows (1.3.6.1.4.1.99999.1).
fn unknown_key() -> Vec<u8> {
    let algorithm = [0x30, 0x0b, 0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x86, 0x8d, 0x1f, 0x01];
    [&[0x30, 0x14], &algorithm[..], &[0x03, 0x05, 0x03, 0xde, 0xad, 0xbe, 0xe8]].concat()
}

/// The request with this key in place of its own.
fn with_spki(csr: &[u8], own: &[u8], spki: &[u8]) -> Vec<u8> {
    let place = csr.windows(own.len()).position(|it| it == own).unwrap();
    let (info, _) = sequence(csr);
    let (fields, length) = sequence(&csr[info..]);
    let (fields, end) = (info + fields, info + fields + length);
    let info = sequence_of(&[&csr[fields..place], spki, &csr[place + own.len()..end]].concat());
    sequence_of(&[&info, &csr[end..]].concat())
}

/// Where the contents of this SEQUENCE begin, and their length.
fn sequence(der: &[u8]) -> (usize, usize) {
    let octets = usize::from(der[1] & 0x7f);
    match der[1] {
        short @ ..0x80 => (2, short.into()),
        _ => (2 + octets, der[2..2 + octets].iter().fold(0, |length, octet| length << 8 | usize::from(*octet))),
    }
}

fn sequence_of(contents: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let header: &[u8] = match (high, low) {
        (0, ..0x80) => &[0x30, low],
        (0, _) => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    [header, contents].concat()
}

/// RFC 9148 §4.8 and §5: the key that comes with the certificate is the one that was made and certified.
#[test]
fn the_device_gets_the_key_that_the_registrar_has_made() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Here);
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&scene.key, None)));
    let certificate = keys::issue(&scene, &scene.sent().remove(0).2);
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&certificate]))));
    let Outcome::Issued { issued, private_key: Some(key) } = scene.outcome() else { panic!("no key") };
    let MadeKey::Plain(key) = &*key else { panic!("nobody asked for encryption") };
    let key = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    assert_eq!((key.spki(), issued.certificate.as_slice()), (certificate.spki(), certificate.der()));
}

/// RFC 7030 §4.4: a key that the upstream has made is passed on only if the profile takes its kind and the session's cipher is as strong.
#[test]
fn a_key_of_the_upstream_is_passed_on_only_in_a_session_that_protects_it() {
    let made = with_random(|random| pki::GeneratedKey::generate(Curve::P384, random).unwrap());
    let pair = with_random(|random| SigningKey::from_pkcs8(made.pkcs8(), random).unwrap());
    let both = KeyTypes { p256: true, p384: true };
    for (key_types, cipher_bits, passes) in
        [(both, 256, true), (both, 128, false), (KeyTypes { p256: true, p384: false }, 256, false)]
    {
        let scene = Scene::with(|spec| (spec.server_keys, spec.key_types) = (RelayedKeys::Upstream, key_types));
        let csr = scene.csr(&scene.key, None);
        scene.submit(NOW, Job { cipher_bits, ..scene.job(Function::ServerKeygen, csr) });
        let mut body = b"--b\r\nContent-Type: application/pkcs8\r\n\r\n".to_vec();
        body.extend(encode_body(made.pkcs8()).bytes());
        body.extend(format!("\r\n--b\r\nContent-Type: {CERTS_ONLY}\r\n\r\n").bytes());
        body.extend(certs_only(&[&scene.issuing.device(&pair, years())]));
        body.extend(b"\r\n--b--\r\n");
        scene.reply(NOW, Ok(answer(200, "multipart/mixed; boundary=b", body)));
        match scene.outcome() {
            Outcome::Issued { private_key: Some(_), .. } => assert!(passes, "{cipher_bits} bits"),
            Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::PrivateKey)) => assert!(!passes),
            other => panic!("{other:?}"),
        }
    }
}

/// There is no tls-unique over HTTPS that the Registrar could compare.
#[test]
fn a_link_that_came_over_https_is_refused_and_so_is_a_profile_that_requires_one() {
    let link = pki::linking::LinkingText::of(&[7; 12]);
    let over_https = |scene: &Scene, challenge| Job {
        arrival: Arrival::Https,
        tls_unique: None,
        ..scene.job(Function::SimpleEnroll, scene.csr(&new_key(), challenge))
    };
    let scene = Scene::new();
    let linked = over_https(&scene, Some(link.as_str()));
    assert!(matches!(scene.refuses(NOW, linked), Refusal::ChallengeOverHttps));
    scene.submit(NOW, over_https(&scene, None));
    assert_eq!(scene.sent().len(), 1, "without a link it is relayed");
    let scene = Scene::with(|spec| spec.profile.require_linking = true);
    let job = over_https(&scene, None);
    assert!(matches!(scene.refuses(NOW, job), Refusal::ChallengeOverHttps));
}

#[test]
fn what_would_make_a_device_an_authority_and_keys_of_a_kind_that_is_not_passed_on_are_refused() {
    let p384 = KeyTypes { p256: false, p384: true };
    let scene = Scene::with(|spec| spec.key_types = p384);
    let job = scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None));
    assert!(matches!(scene.refuses(NOW, job), Refusal::KeyType));
    let scene = Scene::new();
    // cA TRUE.
    let csr = scene.csr_with(&[0x30, 0x03, 0x01, 0x01, 0xff]);
    let why = scene.refuses(NOW, scene.job(Function::SimpleEnroll, csr));
    assert_eq!(why.code(Function::SimpleEnroll), "est.csr.asks_ca");
}

#[test]
fn e55_one_device_has_a_bounded_number_of_certificates() {
    let scene = Scene::with(|spec| spec.certificates_per_device_max = 2);
    for _ in 0..2 {
        let key = new_key();
        scene.relay(&key, &scene.issuing.device(&key, years()));
    }
    let job = scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None));
    assert!(matches!(scene.refuses(NOW, job), Refusal::DeviceFull(2)));
}

/// RFC 9148 §5: "The EST-coaps-to-HTTP Registrar MUST support resource discovery": it lists what is published here, and only that.
#[test]
fn a_profile_publishes_what_its_upstream_says_and_asks_below_its_label() {
    for (server_keys, csr_attributes) in
        [(RelayedKeys::NotServed, None), (RelayedKeys::Here, Some(vec![0x30, 0x00])), (RelayedKeys::Upstream, None)]
    {
        let scene = Scene::new();
        let profile = ProfileSpec::new("meters", vec![Arc::clone(&scene.factory.certificate)]);
        let spec = RelayProfileSpec {
            server_keys,
            upstream_label: Some("plant".into()),
            ..RelayProfileSpec::new(profile, vec![Arc::clone(&scene.issuing.certificate)])
        };
        let ca_certificates = vec![Arc::clone(&scene.issuing.certificate)];
        let facts = UpstreamFacts { ca_certificates, csr_attributes: csr_attributes.clone() };
        let profile = Arc::new(RelayProfile::compile(spec, facts).unwrap());
        assert_eq!(profile.makes_keys(), server_keys != RelayedKeys::NotServed);
        assert_eq!(profile.csr_attributes(), csr_attributes.as_deref());
        scene.submit(NOW, Job { profile, ..scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)) });
        let (_, request, _) = scene.upstream.waiting.lock().unwrap().remove(0);
        assert_eq!(request.label.as_deref(), Some("plant"));
    }
}

/// RFC 7030 §4.5.2 and RFC 9908 §3.4: a device that does what the published attributes ask for is relayed. Names are those of its certificate, so none
/// are published, in either form.
#[test]
fn the_names_that_an_upstream_asks_for_are_not_published_and_the_rest_is() {
    use pki::csr_attributes::{
        CsrAttributes, CsrAttributesForm, KeyRequirement, LinkingAttribute, RequiredAttribute, RequiredExtension,
    };
    let scene = Scene::new();
    let published = |csr_attributes: Vec<u8>| {
        let profile = ProfileSpec::new("meters", vec![Arc::clone(&scene.factory.certificate)]);
        let spec = RelayProfileSpec::new(profile, vec![Arc::clone(&scene.issuing.certificate)]);
        let facts = UpstreamFacts { ca_certificates: Vec::new(), csr_attributes: Some(csr_attributes) };
        RelayProfile::compile(spec, facts).unwrap().csr_attributes().map(<[u8]>::to_vec)
    };
    let rest = CsrAttributes {
        key: Some(KeyRequirement::Ec(Some(Curve::P256))),
        extensions: vec![RequiredExtension { id: pki::oid::EXTENDED_KEY_USAGE, critical: false, value: None }],
        linking: Some(LinkingAttribute::ChallengePassword),
        ..CsrAttributes::default()
    };
    let mut named = rest.clone();
    named.subject.push(RequiredAttribute { kind: pki::oid::SERIAL_NUMBER, value: None });
    named.subject.push(RequiredAttribute { kind: pki::oid::ORGANIZATION, value: Some("Works") });
    named.extensions.push(RequiredExtension { id: pki::oid::SUBJECT_ALT_NAME, critical: false, value: None });
    for form in [CsrAttributesForm::Unstructured, CsrAttributesForm::Template, CsrAttributesForm::Both] {
        let der = published(named.encode(form).unwrap()).unwrap();
        assert_eq!(CsrAttributes::parse(&der).unwrap(), rest, "{form:?}");
        // A client that knows no template finds the same, or nothing that it could not do.
        assert_eq!(CsrAttributes::parse_unstructured(&der).unwrap(), rest, "{form:?}");
        let as_is = rest.encode(form).unwrap();
        assert_eq!(published(as_is.clone()), Some(as_is), "without names it is handed out as it is");
    }
    // serialNumber alone.
    let der = published(vec![0x30, 0x05, 0x06, 0x03, 0x55, 0x04, 0x05]).unwrap();
    assert!(CsrAttributes::parse(&der).unwrap().is_empty());
    // serialNumber, and the key of RSA that no device of ours has: `rsaEncryption` as an attribute without its size.
    let rsa = [
        0x30, 0x14, 0x06, 0x03, 0x55, 0x04, 0x05, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1,
        0x31, 0x00,
    ];
    assert_eq!(published(rsa.to_vec()), Some(vec![0x30, 0x00]));
}
