//! Keys that the upstream makes and encrypts to the device (RFC 9148 §5): passed on as they came, or not at all.

use authority::{Finding, Inquiry, LedgerOver, Registration};
use pki::KeyProtection;
use pki::enveloped_key::{EnvelopeAlgorithms, EnvelopeSecrets, KeyPackage, KeyRecipient, seal};
use pki::make::CsrAdditions;

use super::keys::multipart;
use super::*;

const ENVELOPE: &str = "application/pkcs7-mime; smime-type=server-generated-key";

/// A request for a key that is encrypted to the key-encryption key `kek1`.
fn request(scene: &Scene) -> Vec<u8> {
    let san = GeneralNames::empty();
    let spec = CsrSpec { subject: scene.client.subject(), san: &san, challenge_password: None };
    let wanted = KeyProtection { decrypt_key_id: Some(b"kek1"), ..KeyProtection::default() };
    let additions = CsrAdditions { key_protection: Some(&wanted), ..CsrAdditions::default() };
    with_random(|random| make::csr_with(&spec, &additions, &scene.key, random)).unwrap()
}

/// A key of the upstream's: its certificate, its PKCS #8, and an envelope with it.
struct Made {
    certificate: Arc<Certificate>,
    pkcs8: Vec<u8>,
    envelope: Vec<u8>,
}

fn made(scene: &Scene) -> Made {
    let key = with_random(|random| pki::GeneratedKey::generate(Curve::P256, random).unwrap());
    let pair = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    let package = KeyPackage::prepare(&key, &scene.issuing.certificate);
    let signature = with_random(|random| scene.issuing.key.sign(random, package.to_be_signed()).unwrap());
    let recipient = KeyRecipient::Kek { id: b"kek1", key: &[7; 32] };
    let algorithms = EnvelopeAlgorithms::choose(&recipient, &[], Curve::P256).unwrap();
    let secrets = EnvelopeSecrets { content_key: [9; 32].into(), iv: [3; 16], ephemeral: None };
    let envelope = seal(&package.assemble(&signature), &recipient, algorithms, secrets).unwrap();
    Made { certificate: scene.issuing.device(&pair, years()), pkcs8: key.pkcs8().to_vec(), envelope }
}

fn base64(der: &[u8]) -> Vec<u8> {
    encode_body(der).into_bytes()
}

#[test]
fn a_key_that_the_upstream_encrypts_is_passed_on_byte_for_byte_whatever_the_cipher_of_the_session() {
    let p384 = KeyTypes { p256: true, p384: true };
    let scene = Scene::with(|spec| (spec.server_keys, spec.key_types) = (RelayedKeys::Upstream, p384));
    let (csr, Made { certificate, envelope, .. }) = (request(&scene), made(&scene));
    // The weakest session: what is in the envelope does not depend on it.
    scene.submit(NOW, Job { cipher_bits: 0, ..scene.job(Function::ServerKeygen, csr.clone()) });
    assert_eq!(scene.sent()[0].1, UpstreamOperation::Enrol(Function::ServerKeygen));
    assert_eq!(scene.sent()[0].2, csr, "what it asks for reaches the upstream");
    let answer = multipart(&[(ENVELOPE, base64(&envelope)), (CERTS_ONLY, certs_only(&[&certificate]))]);
    scene.reply(NOW, Ok(answer));
    let Outcome::Issued { private_key: Some(key), issued } = scene.outcome() else { panic!("no key") };
    let MadeKey::Enveloped(message) = &*key else { panic!("it was opened") };
    assert_eq!((message, issued.certificate.as_slice()), (&envelope, certificate.der()));
    assert_eq!(scene.certificates(), [certificate.der()]);
}

#[test]
fn a_key_that_the_device_wants_encrypted_is_never_passed_on_in_plain_nor_in_disguise() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let (csr, Made { certificate, pkcs8, envelope }) = (request(&scene), made(&scene));
    let good = certs_only(&[&certificate]);
    let mut long = envelope.clone();
    long.resize(20_000, 0);
    let stranger = TestCa::new("Issuing").device(&new_key(), years());
    for (what, parts, flaw) in [
        (
            "plain",
            vec![("application/pkcs8", base64(&pkcs8)), (CERTS_ONLY, good.clone())],
            UpstreamAnswerFlaw::PrivateKey,
        ),
        ("in disguise", vec![(ENVELOPE, base64(&pkcs8)), (CERTS_ONLY, good.clone())], UpstreamAnswerFlaw::PrivateKey),
        ("too long", vec![(ENVELOPE, base64(&long)), (CERTS_ONLY, good.clone())], UpstreamAnswerFlaw::PrivateKey),
        ("no base64", vec![(ENVELOPE, envelope.clone()), (CERTS_ONLY, good.clone())], UpstreamAnswerFlaw::Malformed),
        ("twice", vec![(ENVELOPE, base64(&envelope)), (ENVELOPE, base64(&envelope))], UpstreamAnswerFlaw::Malformed),
        (
            "another CA",
            vec![(ENVELOPE, base64(&envelope)), (CERTS_ONLY, certs_only(&[&stranger]))],
            UpstreamAnswerFlaw::OtherIssuer,
        ),
    ] {
        scene.submit(NOW, scene.job(Function::ServerKeygen, csr.clone()));
        scene.reply(NOW, Ok(multipart(&parts)));
        match scene.outcome() {
            Outcome::Refused(Refusal::UpstreamAnswer(found)) => assert_eq!(found, flaw, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    // Nor is an envelope that nobody asked for.
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&scene.key, None)));
    scene.reply(NOW, Ok(multipart(&[(ENVELOPE, base64(&envelope)), (CERTS_ONLY, good)])));
    let Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::PrivateKey)) = scene.outcome() else { panic!() };
    assert!(scene.certificates().is_empty());
}

/// A Registrar that makes the keys has nothing to sign a package with: it refuses before anything is made or sent.
#[test]
fn an_envelope_that_the_registrar_cannot_make_is_refused() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Here);
    let csr = request(&scene);
    scene.submit(NOW, scene.job(Function::ServerKeygen, csr));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::KeyProtection(_))));
    assert!(scene.sent().is_empty());
}

#[test]
fn two_requests_for_a_key_do_not_share_one() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let csr = request(&scene);
    scene.submit(NOW, scene.job(Function::ServerKeygen, csr.clone()));
    scene.submit(NOW, scene.job(Function::ServerKeygen, csr));
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::InFlight, .. }), "its twin waits for the next one");
    let Made { certificate, envelope, .. } = made(&scene);
    let answer = multipart(&[(ENVELOPE, base64(&envelope)), (CERTS_ONLY, certs_only(&[&certificate]))]);
    scene.reply(NOW, Ok(answer));
    assert!(matches!(scene.outcome(), Outcome::Issued { private_key: Some(_), .. }));
}

/// A ledger in which every device is denied.
struct Denying(MemoryLedger);

impl LedgerOver for Denying {
    fn inner(&self) -> &dyn Ledger {
        &self.0
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        done(Ok(of.iter().map(|_| Finding { holder: None, registration: Registration::Denied }).collect()));
    }
}

/// RFC 7030 §4.4: "the server MUST authenticate the client and check the client's authorization" before it makes a key.
#[test]
fn a_device_that_is_denied_gets_no_key_from_the_registrar_nor_from_its_upstream() {
    for (server_keys, enveloped) in
        [(RelayedKeys::Upstream, false), (RelayedKeys::Upstream, true), (RelayedKeys::Here, false)]
    {
        let mut scene = Scene::with(|spec| spec.server_keys = server_keys);
        let parts = scene.parts(Arc::new(Denying(MemoryLedger::default())));
        scene.registrar = Arc::new(RelayAuthority::new(parts));
        let csr = if enveloped { request(&scene) } else { scene.csr(&scene.key, None) };
        scene.submit(NOW, scene.job(Function::ServerKeygen, csr));
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::DeviceDenied)));
        assert!(scene.sent().is_empty() && scene.rows().is_empty());
    }
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&scene.key, None)));
    scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::Upstream(UpstreamRefusal::Forbidden))));
}
