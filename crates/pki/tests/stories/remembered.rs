//! Signatures of authorities that were proven by one chain are not proven again by the next one, and what has to be judged each time still is.

use std::sync::Arc;

use pki::chain::{Anchors, ChainError, Conclusion, Verified, collect_device, verify_device};
use pki::{Certificate, SigningKey, UnixTime, Validity};

use crate::common::*;

fn anchors(authorities: &[&Authority]) -> Anchors {
    Anchors::new(authorities.iter().map(|authority| Arc::clone(&authority.certificate)).collect()).unwrap()
}

fn signatures_asked(anchors: &Anchors, chain: &[&[u8]]) -> usize {
    collect_device(anchors, chain, at(NOW)).unwrap().checks().count()
}

fn verified(anchors: &Anchors, chain: &[&[u8]]) -> Verified {
    verify_device(anchors, chain, at(NOW)).unwrap()
}

fn error(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> ChainError {
    verify_device(anchors, chain, utc).unwrap_err().error
}

/// Verifies a chain and remembers the signatures of its authorities, as for a peer that was authenticated.
fn remember(anchors: &Anchors, chain: &[&[u8]]) {
    anchors.remember(&verified(anchors, chain).authorities);
}

#[test]
fn the_authority_of_many_devices_is_proven_once() {
    let root = Authority::root("Maker");
    let (outer, anchors) = (root.below("Outer", None), anchors(&[&root]));
    let inner = outer.below("Inner", None);
    let above = [inner.certificate.der(), outer.certificate.der()];
    let (one, two) = (inner.idevid("1"), inner.idevid("2"));
    let chain = |device: &Certificate| [device.der().to_vec(), above[0].to_vec(), above[1].to_vec()];
    let (one, two) = (chain(&one), chain(&two));
    let (one, two) = (one.each_ref().map(Vec::as_slice), two.each_ref().map(Vec::as_slice));
    assert_eq!(signatures_asked(&anchors, &one), 3);
    let first = verified(&anchors, &one);
    assert_eq!(first.authorities.len(), 2);
    assert_eq!(signatures_asked(&anchors, &two), 3, "a chain that was only shown changes nothing");
    anchors.remember(&first.authorities);
    assert_eq!(signatures_asked(&anchors, &two), 1, "only the device's own");
    let second = verified(&anchors, &two);
    assert!(second.authorities.is_empty());
    assert_eq!((second.anchor, second.leaf.subject()), (0, Certificate::parse(two[0]).unwrap().subject()));
    // A shorter chain needs the same signature.
    assert_eq!(signatures_asked(&anchors, &[outer.idevid("3").der(), above[1]]), 1);
}

#[test]
fn a_device_that_its_remembered_authority_has_not_signed_is_refused() {
    let (root, stranger) = (Authority::root("Maker"), Authority::root("Issuing"));
    let (issuing, anchors) = (root.below("Issuing", None), anchors(&[&root]));
    let own = issuing.certificate.der();
    remember(&anchors, &[issuing.idevid("1").der(), own]);
    assert_eq!(error(&anchors, &[stranger.idevid("1").der(), own], at(NOW)), ChainError::BadSignature);
}

#[test]
fn an_authority_of_the_same_name_and_key_is_another_certificate() {
    let (root, stranger) = (Authority::root("Maker"), Authority::root("Maker"));
    let key = p256();
    let genuine = Raw::authority("Issuing", &key).signed_by(&root);
    // Signed by a key that is not trusted: the certificates differ in nothing else.
    let forged = Raw::authority("Issuing", &key).signed_by(&stranger);
    let issuing = Authority { certificate: Arc::new(Certificate::parse(&genuine).unwrap()), key };
    let (anchors, device) = (anchors(&[&root]), Raw::device(&p256()).signed_by(&issuing));
    remember(&anchors, &[&device, &genuine]);
    assert_eq!(signatures_asked(&anchors, &[&device, &genuine]), 1);
    assert_eq!(signatures_asked(&anchors, &[&device, &forged]), 2);
    assert_eq!(error(&anchors, &[&device, &forged], at(NOW)), ChainError::BadSignature);
}

fn short_lived(key: &SigningKey, root: &Authority) -> Vec<u8> {
    let validity = Validity { not_before: at(NOW - DAY), not_after: at(NOW + DAY) };
    Raw { validity, ..Raw::authority("Issuing", key) }.signed_by(root)
}

#[test]
fn an_expired_authority_is_refused_although_its_signature_is_remembered() {
    let (root, key) = (Authority::root("Maker"), p256());
    let der = short_lived(&key, &root);
    let issuing = Authority { certificate: Arc::new(Certificate::parse(&der).unwrap()), key };
    // Devices that are past their own notAfter are accepted: an authority is not.
    let anchors = anchors(&[&root]).accepting_expired_below(|_| true);
    let device = Raw::device(&p256()).signed_by(&issuing);
    let chain = [device.as_slice(), der.as_slice()];
    remember(&anchors, &chain);
    let last = at(NOW + DAY);
    assert_eq!(collect_device(&anchors, &chain, last).unwrap().checks().count(), 1);
    let over = at(NOW + DAY + 1);
    assert_eq!(error(&anchors, &chain, over), ChainError::Expired { not_after: last });
    // A clock that was ahead forgets nothing that is still true, and remembers nothing that is not.
    assert!(verify_device(&anchors, &chain, at(NOW)).is_ok());
}

/// The way to shut out an authority is to take its anchor away, or to put another one in its place.
#[test]
fn an_authority_that_is_shut_out_is_not_let_in_by_what_was_remembered() {
    let (root, renewed) = (Authority::root("Maker"), Authority::root("Maker"));
    let issuing = root.below("Issuing", None);
    let device = issuing.idevid("1");
    let chain = [device.der(), issuing.certificate.der()];
    let before = anchors(&[&root]);
    remember(&before, &chain);
    assert_eq!(signatures_asked(&before, &chain), 1);
    assert_eq!(error(&anchors(&[&renewed]), &chain, at(NOW)), ChainError::BadSignature);
    assert_eq!(error(&anchors(&[&Authority::root("Other")]), &chain, at(NOW)), ChainError::UnknownIssuer);
    // The same anchors again, in a new configuration, prove everything again.
    assert_eq!(signatures_asked(&anchors(&[&root]), &chain), 2);
}

#[test]
fn a_remembered_signature_counts_for_the_anchor_that_made_it_and_for_no_other_of_its_name() {
    let (wrong, right) = (Authority::root("Maker"), Authority::root("Maker"));
    let issuing = right.below("Issuing", None);
    let (both, device) = (anchors(&[&wrong, &right]), issuing.idevid("1"));
    let chain = [device.der(), issuing.certificate.der()];
    remember(&both, &chain);
    // The path to the wrong anchor comes first, and needs a signature that nobody has made.
    assert_eq!(signatures_asked(&both, &chain), 2);
    assert_eq!(verified(&both, &chain).anchor, 1);
    let unproven = collect_device(&both, &chain, at(NOW)).unwrap();
    let Conclusion::Further(next) = unproven.conclude([true, false].into_iter()).unwrap() else {
        panic!("another path")
    };
    assert_eq!(next.checks().count(), 0, "the leaf's is known from the first path, the authority's is remembered");
    assert!(matches!(next.conclude(std::iter::empty()), Ok(Conclusion::Proven(_))));
}
