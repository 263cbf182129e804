//! `tests/stories/crl.rs` tests whole lists; these tests make the lint fail and fill a list, which needs access to private parts.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use rustls_pki_types::UnixTime;

use super::lint::CrlValues;
use super::*;
use crate::issue::{IssuerCertificate, NodePrefix, RevocationReason, Serial};
use crate::key::SigningKey;
use crate::make::{AuthorityCertificateSpec, root};
use crate::{Curve, PrivateKey, Validity};

#[allow(clippy::disallowed_methods, reason = "a test plays the shell that owns the randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn issuer(common_name: &str) -> Arc<IssuerCertificate> {
    let key = PrivateKey::generate(Curve::P256, &random()).unwrap();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap();
    let spec = AuthorityCertificateSpec {
        common_name,
        organization: None,
        serial: Serial::new(NodePrefix::new(0), [1; 16]),
        validity: Validity { not_before: at(1_000_000), not_after: at(2_000_000_000) },
        path_len: Some(0),
    };
    Arc::new(IssuerCertificate::new(Arc::new(root(&spec, &key, &random()).unwrap())).unwrap())
}

fn entries(count: u8) -> impl Iterator<Item = CrlEntry> {
    (0..count).map(|number| CrlEntry {
        serial: Serial::new(NodePrefix::new(1), [number; 16]),
        at: at(1_000_000),
        reason: RevocationReason::KeyCompromise,
    })
}

/// E35: the lint finds bytes that differ from the requested values, in any field.
#[test]
fn e35_the_lint_finds_each_field_of_a_list_that_differs() {
    let url = CrlUrl::new("http://a.example/{shard}", CrlShards::new(1).unwrap()).unwrap();
    let elsewhere = CrlUrl::new("http://b.example/{shard}", CrlShards::new(1).unwrap()).unwrap();
    let scope_of = |url| CrlUrl::scopes(url).next().unwrap();
    let spec = CrlSpec { scope: scope_of(&url), number: 7, this_update: at(1_000_000), next_update: at(1_000_001) };
    let issuer = issuer("Issuing");
    let to_be_signed = CrlToBeSigned::new(Arc::clone(&issuer), &spec, entries(3)).unwrap();
    let check = |issuer: &IssuerCertificate, spec: &CrlSpec<'_>, entries: usize, der: &[u8]| {
        CrlValues::new(issuer, spec).check(issuer, entries, der)
    };
    let der = to_be_signed.der();
    assert_eq!(check(&issuer, &spec, 3, der), Ok(()));
    for entries in [0, 2, 4] {
        assert_eq!(check(&issuer, &spec, entries, der), Err(CrlFlaw::Entries));
    }
    for other in [
        CrlSpec { this_update: at(1_000_002), ..spec },
        CrlSpec { next_update: at(1_000_002), ..spec },
        CrlSpec { this_update: spec.next_update, next_update: spec.this_update, ..spec },
    ] {
        assert_eq!(check(&issuer, &other, 3, der), Err(CrlFlaw::Updates));
    }
    for other in [
        CrlSpec { number: 8, ..spec },
        CrlSpec { scope: scope_of(&elsewhere), ..spec },
        CrlSpec { scope: CrlScope::Whole, ..spec },
    ] {
        assert_eq!(check(&issuer, &other, 3, der), Err(CrlFlaw::Extensions));
    }
    assert_eq!(check(&self::issuer("Other"), &spec, 3, der), Err(CrlFlaw::Issuer));
    assert_eq!(check(&self::issuer("Issuing"), &spec, 3, der), Err(CrlFlaw::Extensions), "another key");

    let empty = CrlToBeSigned::new(Arc::clone(&issuer), &spec, []).unwrap();
    assert_eq!(check(&issuer, &spec, 0, empty.der()), Ok(()));
    assert_eq!(check(&issuer, &spec, 1, empty.der()), Err(CrlFlaw::Entries));
    let mut trailing = der.to_vec();
    trailing.push(0);
    assert!(matches!(check(&issuer, &spec, 3, &trailing), Err(CrlFlaw::Der(_))));
    let version = |octet: u8| {
        let mut changed = der.to_vec();
        let at = changed.windows(3).position(|window| window == [0x02, 0x01, 0x01]).unwrap();
        changed[at + 2] = octet;
        changed
    };
    assert_eq!(check(&issuer, &spec, 3, &version(1)), Ok(()));
    assert_eq!(check(&issuer, &spec, 3, &version(0)), Err(CrlFlaw::Version));
    let mut algorithm = der.to_vec();
    let at = algorithm.windows(2).position(|window| window == [4, 3]).unwrap() + 2;
    algorithm[at] = 3;
    assert_eq!(check(&issuer, &spec, 3, &algorithm), Err(CrlFlaw::Algorithm));
}

#[test]
fn a_full_list_refuses_the_next_entry_and_names_the_remedy() {
    let spec = CrlSpec { scope: CrlScope::Whole, number: 1, this_update: at(1_000_000), next_update: at(1_000_001) };
    let mut builder = CrlBuilder::new(issuer("Issuing"), &spec).unwrap();
    builder.pretend_full_but(1);
    let mut entries = entries(2);
    assert_eq!(builder.push(&entries.next().unwrap()), Ok(()));
    let refusal = builder.push(&entries.next().unwrap()).unwrap_err();
    assert_eq!((refusal, builder.entries()), (CrlError::TooManyEntries, CRL_ENTRIES_MAX));
    assert!(refusal.to_string().contains("`{shard}` in `crl_url`"), "{refusal}");
}

/// A list that is read again is told from every other file.
#[test]
fn e35_a_published_list_is_known_by_its_issuer_its_scope_and_its_signature() {
    let key = PrivateKey::generate(Curve::P256, &random()).unwrap();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap();
    let spec = AuthorityCertificateSpec {
        common_name: "A",
        organization: None,
        serial: Serial::new(NodePrefix::new(0), [1; 16]),
        validity: Validity { not_before: at(1_000_000), not_after: at(2_000_000_000) },
        path_len: Some(0),
    };
    let issuer = Arc::new(IssuerCertificate::new(Arc::new(root(&spec, &key, &random()).unwrap())).unwrap());
    let url = CrlUrl::new("http://a.example/{shard}", CrlShards::new(1).unwrap()).unwrap();
    let elsewhere = CrlUrl::new("http://b.example/{shard}", CrlShards::new(1).unwrap()).unwrap();
    let scope = url.scopes().next().unwrap();
    for (number, count) in [(1, 0), (u64::MAX, 3), (0x80, 200)] {
        let (this_update, next_update) = (at(1_000_000), at(1_086_400));
        let spec = CrlSpec { scope, number, this_update, next_update };
        let list = CrlToBeSigned::new(Arc::clone(&issuer), &spec, entries(count)).unwrap();
        let signature = key.sign(&random(), list.der()).unwrap();
        let crl = list.assemble(&signature).unwrap();
        let published = PublishedCrl { number, this_update, next_update };
        assert_eq!(PublishedCrl::read(crl.der(), &issuer, scope), Some(published));
        assert_eq!(updates_of(&crl.der()[..crl.der().len().min(200)]), Some((this_update, next_update)));
        assert_eq!(PublishedCrl::read(crl.der(), &issuer, CrlScope::Whole), None, "another scope");
        assert_eq!(PublishedCrl::read(crl.der(), &issuer, elsewhere.scopes().next().unwrap()), None, "another URL");
        let same_name = self::issuer("A");
        assert_eq!(PublishedCrl::read(crl.der(), &same_name, scope), None, "another key");
        for at in (0..crl.der().len()).step_by(7) {
            let mut changed = crl.der().to_vec();
            changed[at] ^= 1;
            assert_eq!(PublishedCrl::read(&changed, &issuer, scope), None, "octet {at}");
            assert_eq!(PublishedCrl::read(&crl.der()[..at], &issuer, scope), None, "{at} octets");
        }
    }
}
