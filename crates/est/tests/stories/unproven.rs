//! A peer that shows a certificate without having its key: no shared state changes, and the report names the claimed
//! device.

use std::sync::Arc;

use dtls::{AlertDescription, EcdsaSigningKey, HandshakeRefusal, Identity};
use est::{CertificateCache, ClientConfig, Failure, Operation, Reason};
use pki::Certificate;

use crate::support::{Holder, Key, TestRandom, World, authority as new_authority, csr, device_of};

/// The chain of `holder`, as an eavesdropper can show it, with a key of its own.
fn stolen(holder: &Holder) -> Arc<Identity> {
    let key = EcdsaSigningKey::from_pkcs8(Key::new().private.pkcs8(), &TestRandom).unwrap();
    Arc::new(Identity::new(holder.chain.clone(), key))
}

/// Dials with `identity`; returns the failure.
fn dial(world: &mut World, port: u16, identity: Arc<Identity>) -> Failure {
    let holder = world.pki.device(1);
    let mut dtls = world.dtls_config(&holder);
    dtls.identity = Some(identity);
    let mut device = world.dial(port, dtls, ClientConfig::default());
    world.run(&mut device);
    device.failure()
}

#[test]
fn d89_certificates_shown_without_their_keys_push_nobody_out() {
    // One place in each segment of the cache: a single newcomer would evict its neighbour.
    let certificates = Arc::new(CertificateCache::new(1));
    let mut world = World::with(|_, spec| spec.certificates = Arc::clone(&certificates));
    let honest = world.pki.device(1);
    let mut device = world.connect(1, &honest, ClientConfig::default());
    let before = certificates.find(&honest.certificate.digest()).unwrap();
    for number in 2..40 {
        let holder = world.pki.device(u32::from(number));
        let failure = dial(&mut world, number, stolen(&holder));
        assert_eq!(failure, Failure::Handshake(HandshakeRefusal::AlertReceived(AlertDescription::DECRYPT_ERROR)));
        assert!(certificates.find(&holder.certificate.digest()).is_none());
    }
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates.find(&honest.certificate.digest()).unwrap().anchor, before.anchor);
    // The owner of the certificate can still enrol in its earlier session.
    let key = Key::new();
    world.ask(&mut device, Operation::Enroll { csr: csr(honest.certificate.subject(), &key) });
    assert!(Certificate::parse(&device.certificate()).is_ok());
}

#[test]
fn d89_e85_the_report_names_the_device_claimed_and_blames_no_other_key_of_its_own() {
    let mut world = World::new();
    let holder = world.pki.device(7);
    dial(&mut world, 1, stolen(&holder));
    let attempt = world.attempts.last().unwrap();
    assert_eq!(attempt.reason(), Some(Reason::CertificateNoProof));
    assert_eq!(attempt.claimed.as_deref(), Some(&*holder.certificate.subject().to_string()));
}

#[test]
fn d101_e85_the_words_of_a_refused_chain_reach_the_report() {
    let mut world = World::new();
    let stranger = device_of(&new_authority("Somebody", None), 3);
    dial(&mut world, 1, stranger.identity());
    let subject = stranger.certificate.subject().to_string();
    let attempt = world.attempts.last().unwrap();
    assert_eq!(attempt.reason(), Some(Reason::CertificateUnknownIssuer));
    let detail = attempt.detail.as_deref().unwrap();
    assert!(detail.starts_with(&format!("certificate 0 of the chain ({subject}): its issuer, ")), "{detail}");
    assert!(detail.ends_with("is neither trusted nor the subject of another certificate"), "{detail}");
    assert_eq!(attempt.claimed.as_deref(), Some(&*subject));
}

#[test]
fn e68_a_key_that_is_not_done_here_is_refused_by_its_type() {
    for (text, kind) in [
        (&include_bytes!("../../../pki/tests/vectors/foreign/brainpool.pem")[..], "brainpoolP256r1"),
        (include_bytes!("../../../pki/tests/vectors/foreign/p521.pem"), "P-521"),
        (include_bytes!("../../../pki/tests/vectors/foreign/rsa.pem"), "RSA"),
        (include_bytes!("../../../pki/tests/vectors/foreign/ed25519.pem"), "Ed25519"),
    ] {
        let mut world = World::new();
        let chain = pki::pem::certificates(text).unwrap();
        let key = EcdsaSigningKey::from_pkcs8(Key::new().private.pkcs8(), &TestRandom).unwrap();
        dial(&mut world, 1, Arc::new(Identity::new(chain, key)));
        let attempt = world.attempts.last().unwrap();
        assert_eq!(attempt.reason(), Some(Reason::CertificateAlgorithm));
        let detail = attempt.detail.as_deref().unwrap();
        assert!(detail.starts_with("certificate 0 of the chain ("), "{detail}");
        assert!(detail.contains(kind), "{detail}");
    }
}
