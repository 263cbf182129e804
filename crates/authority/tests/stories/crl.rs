//! Revocation lists of a CA: signed with the key that signs its certificates, and checked in the same cases.

use std::sync::Arc;

use authority::{
    Actor, Ca, Completion, CrlFault, CrlSigner, Custody, Revocation, RingSigner, Signer, SignerFault, ToSign, Urls,
    VerifySignatures,
};
use pki::der::{Reader, Tag};
use pki::issue::crl::{Crl, CrlError, CrlShards, CrlSpec, CrlToBeSigned, CrlUrl};
use pki::issue::{RevocationReason, Serial};
use pki::{AlgorithmError, Signature, SigningKey};

use crate::support::{self, DAY, Derived, START, World, at, issued, key, run_one};

fn sharded(world: &World, verify: VerifySignatures) -> Ca {
    let crl = Some(CrlUrl::new("http://pki.example.net/{shard}.crl", CrlShards::DEFAULT).unwrap());
    Ca::new("main", world.ca.chain().to_vec(), Urls { crl, ..Urls::default() }, verify).unwrap()
}

fn list(ca: &Ca, serial: Serial) -> CrlToBeSigned {
    let (this_update, next_update) = (at(START), at(START + DAY));
    let spec = CrlSpec { scope: ca.crl_url().unwrap().scope_of(&serial), number: 1, this_update, next_update };
    let revocation = Revocation { reason: RevocationReason::KeyCompromise, at: at(START), actor: Actor::server() };
    CrlToBeSigned::new(Arc::clone(ca.issuer()), &spec, [revocation.crl_entry(serial)]).unwrap()
}

/// Whether the key of the CA signed this list.
fn is_signed(ca: &Ca, crl: &Crl) -> bool {
    let mut parts = Reader::sequence(crl.der()).unwrap();
    let signed = parts.expect_element(Tag::SEQUENCE).unwrap().whole;
    parts.expect_element(Tag::SEQUENCE).unwrap();
    ca.certificate().public_key().verify(signed, parts.octets_of_bit_string().unwrap()).is_ok()
}

/// E35: the certificate that a device gets names the list in which its revocation is published.
#[test]
fn e35_an_issued_certificate_names_the_list_that_the_ca_signs_for_it() {
    let world = World::new();
    let ca = Arc::new(sharded(&world, VerifySignatures::External));
    let profile = world.profile_with(|spec| spec.ca = Arc::clone(&ca));
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let certificate = pki::Certificate::parse(&first.certificate).unwrap();
    let serial = Serial::from_bytes(certificate.serial()).unwrap();
    let crl = ca.sign_crl(&world.signer(), list(&ca, serial)).unwrap();
    assert!(is_signed(&ca, &crl));
    let url = ca.crl_url().unwrap().of(&serial);
    assert!(url.len() == "http://pki.example.net/000.crl".len(), "{url}");
    let contains = |der: &[u8], octets: &[u8]| der.windows(octets.len()).any(|window| window == octets);
    for der in [&first.certificate[..], crl.der()] {
        assert!(contains(der, url.as_bytes()), "{url}");
    }
    assert!(contains(crl.der(), serial.as_bytes()));
}

/// Signs with a key other than the CA's.
struct OtherKey(SigningKey, Arc<Derived>, Custody);

impl Signer for OtherKey {
    fn custody(&self) -> Custody {
        self.2
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        done(batch.iter().map(|_| Err(SignerFault::Failed)).collect());
    }
}

impl CrlSigner for OtherKey {
    fn sign_crl(&self, list: &CrlToBeSigned) -> Result<Signature, SignerFault> {
        Ok(support::secure(&self.1, |random| self.0.sign(random, list.der())).unwrap())
    }
}

#[test]
fn e33_the_signature_of_a_list_is_checked_where_it_comes_from_outside_or_always() {
    let world = World::new();
    let serial = Serial::new(pki::issue::NodePrefix::new(1), [1; 16]);
    for (verify, custody, checked) in [
        (VerifySignatures::External, Custody::External, true),
        (VerifySignatures::Always, Custody::InProcess, true),
        (VerifySignatures::External, Custody::InProcess, false),
    ] {
        let ca = sharded(&world, verify);
        let other = OtherKey(key(&world.random).0, Arc::clone(&world.random), custody);
        match ca.sign_crl(&other, list(&ca, serial)) {
            Err(fault) => {
                assert!(checked);
                assert_eq!(fault, CrlFault::List(CrlError::Signature(AlgorithmError::BadSignature)));
            }
            Ok(crl) => assert!(!checked && !is_signed(&ca, &crl)),
        }
        assert!(is_signed(&ca, &ca.sign_crl(&world.signer(), list(&ca, serial)).unwrap()));
    }
    let ca = sharded(&world, VerifySignatures::External);
    let without_keys = RingSigner::new(Arc::clone(&world.random) as Arc<dyn authority::Random>);
    let refusal = ca.sign_crl(&without_keys, list(&ca, serial));
    assert_eq!(refusal, Err(CrlFault::Signer(SignerFault::NoKey)));
}
