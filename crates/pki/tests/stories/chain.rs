//! Chains that lead to an anchor, and each reason why a chain does not.

use std::sync::Arc;

use pki::chain::{
    AnchorError, AnchorFlaw, Anchors, CHAIN_CERTIFICATES_MAX, ChainError, SIGNATURES_MAX, verify_device, verify_server,
};
use pki::der::{Tag, Writer};
use pki::make::{ServerCertificateSpec, server};
use pki::{
    Certificate, CertificateFlaw, Curve, Field, GeneralName, GeneralNames, LocatedError, Oid, ServerName, Validity, oid,
};

use crate::common::*;

fn flaw(der: &[u8]) -> Option<CertificateFlaw> {
    Certificate::parse(der).err().map(|error| error.flaw)
}

fn anchors(authorities: &[&Authority]) -> Anchors {
    Anchors::new(authorities.iter().map(|authority| Arc::clone(&authority.certificate)).collect()).unwrap()
}

fn device(anchors: &Anchors, chain: &[&[u8]]) -> Result<usize, ChainError> {
    verify_device(anchors, chain, at(NOW)).map(|verified| verified.anchor).map_err(|refusal| refusal.error)
}

#[test]
fn a_device_is_verified_below_its_anchor_and_through_intermediates() {
    let (other, root) = (Authority::root("Other"), Authority::root_on("Root", Curve::P384));
    let middle = root.below("Middle", None);
    let issuing = middle.below("Issuing", Some(0));
    let leaf = issuing.idevid("1");
    let all = anchors(&[&other, &root]);
    let chain = [leaf.der(), issuing.certificate.der(), middle.certificate.der()];
    let verified = verify_device(&all, &chain, at(NOW)).unwrap();
    assert_eq!((verified.leaf.digest(), verified.anchor), (leaf.digest(), 1));
    // The root may come along, the order of the others may be wrong, and an intermediate may be an anchor itself.
    let root_der = root.certificate.der();
    assert_eq!(device(&all, &[leaf.der(), middle.certificate.der(), root_der, issuing.certificate.der()]), Ok(1));
    assert_eq!(device(&anchors(&[&issuing]), &[leaf.der()]), Ok(0));
    assert_eq!(device(&all, &[leaf.der(), issuing.certificate.der()]), Err(ChainError::UnknownIssuer));
    assert_eq!(device(&all, &[]), Err(ChainError::Empty));
}

#[test]
fn e12_an_idevid_without_expiration_is_accepted_until_the_last_second() {
    let manufacturer = Authority::root("Manufacturer");
    let leaf = manufacturer.idevid("1");
    assert_eq!(leaf.validity().not_after, pki::NO_WELL_DEFINED_EXPIRATION);
    let anchors = anchors(&[&manufacturer]);
    for utc in [NOW, NOW + 2_000 * 365 * DAY, pki::NO_WELL_DEFINED_EXPIRATION.as_secs()] {
        assert!(verify_device(&anchors, &[leaf.der()], at(utc)).is_ok(), "{utc}");
    }
    let after = pki::NO_WELL_DEFINED_EXPIRATION.as_secs() + 1;
    assert!(matches!(
        verify_device(&anchors, &[leaf.der()], at(after)).map_err(|refusal| refusal.error),
        Err(ChainError::Expired { .. })
    ));
}

#[test]
fn e11_expired_and_not_yet_valid_are_told_apart_with_their_times() {
    let (manufacturer, key) = (Authority::root("Manufacturer"), p256());
    let validity = Validity { not_before: at(NOW), not_after: at(NOW + 9) };
    let leaf = Raw { validity, ..Raw::device(&key) }.signed_by(&manufacturer);
    let anchors = anchors(&[&manufacturer]);
    let verify = |utc| verify_device(&anchors, &[&leaf], at(utc)).map(|_| ()).map_err(|refusal| refusal.error);
    assert_eq!(verify(NOW - 1), Err(ChainError::NotYetValid { not_before: at(NOW) }));
    assert_eq!((verify(NOW), verify(NOW + 9)), (Ok(()), Ok(())), "both ends are valid");
    assert_eq!(verify(NOW + 10), Err(ChainError::Expired { not_after: at(NOW + 9) }));
}

#[test]
fn e11_past_its_date_a_leaf_is_judged_at_its_own_not_after_and_its_issuers_now() {
    let (manufacturer, key) = (Authority::root("Manufacturer"), p256());
    let middle = manufacturer.below("Middle", None);
    let validity = Validity { not_before: at(NOW), not_after: at(NOW + 9) };
    let leaf = Raw { validity, ..Raw::device(&key) }.signed_by(&middle);
    let anchors = anchors(&[&manufacturer]).accepting_expired_below(|_| true);
    let verify = |utc| {
        verify_device(&anchors, &[&leaf, middle.certificate.der()], at(utc))
            .map(|_| ())
            .map_err(|refusal| refusal.error)
    };
    assert_eq!(verify(NOW - 1), Err(ChainError::NotYetValid { not_before: at(NOW) }));
    assert_eq!((verify(NOW + 9), verify(NOW + 10), verify(NOW + 3_600)), (Ok(()), Ok(()), Ok(())));
    // "Leaf only": its issuer has to be valid today.
    let not_after = middle.certificate.validity().not_after;
    assert_eq!(verify(not_after.as_secs()), Ok(()));
    assert_eq!(verify(not_after.as_secs() + 1), Err(ChainError::Expired { not_after }));
    // All other checks are as strict as before.
    let other = Authority::root("Other");
    let stranger = Raw { validity, ..Raw::device(&key) }.signed_by(&other);
    let refused = verify_device(&anchors, &[&stranger], at(NOW + 10)).map(|_| ()).map_err(|refusal| refusal.error);
    assert_eq!(refused, Err(ChainError::UnknownIssuer));
}

#[test]
fn e13_an_intermediate_without_the_ca_bit_issues_nothing() {
    let root = Authority::root("Root");
    for raw in [
        (Raw::authority("Not a CA", &p256()).without(oid::BASIC_CONSTRAINTS)),
        (Raw::authority("Not a CA", &p256()).with(oid::BASIC_CONSTRAINTS, true, &[0x30, 0x00])),
    ] {
        let key = p256();
        let middle = Raw { spki: key.spki().to_vec(), ..raw }.into_authority(key, &root);
        let leaf = Raw::device(&p256()).signed_by(&middle);
        assert_eq!(device(&anchors(&[&root]), &[&leaf, middle.certificate.der()]), Err(ChainError::NotAnAuthority));
    }
    // A device that signs certificates for others: the well-known attack of 2002.
    let key = p256();
    let enrolled = Raw::device(&key).with(oid::KEY_USAGE, true, DIGITAL_SIGNATURE).into_authority(key, &root);
    let leaf = Raw::device(&p256()).signed_by(&enrolled);
    assert_eq!(device(&anchors(&[&root]), &[&leaf, enrolled.certificate.der()]), Err(ChainError::NotAnAuthority));
}

#[test]
fn e13_path_length_is_kept_by_intermediates_and_by_the_anchor() {
    let root = Authority::root("Root");
    let (one, narrow) = (root.below("One", Some(0)), root.below("Narrow", Some(0)));
    let two = one.below("Two", None);
    let leaf = two.idevid("1");
    let chain = [leaf.der(), two.certificate.der(), one.certificate.der()];
    assert_eq!(device(&anchors(&[&root]), &chain), Err(ChainError::PathLength));
    // webpki ignores the pathLenConstraint of an anchor.
    assert_eq!(device(&anchors(&[&one]), &chain[..2]), Err(ChainError::PathLength));
    assert_eq!(device(&anchors(&[&narrow]), &[narrow.idevid("2").der()]), Ok(0));
}

#[test]
fn e13_an_unknown_critical_extension_fails_the_chain() {
    let root = Authority::root("Root");
    let unknown = Oid::from_contents(&[0x2a, 0x03, 0x04]).unwrap();
    let leaf = |critical| Raw::device(&p256()).with(unknown, critical, &[0x05, 0x00]).signed_by(&root);
    assert_eq!(device(&anchors(&[&root]), &[&leaf(true)]), Err(ChainError::CriticalExtension));
    assert_eq!(device(&anchors(&[&root]), &[&leaf(false)]), Ok(0));
    let key = p256();
    let middle = Raw::authority("Middle", &key).with(unknown, true, &[0x05, 0x00]).into_authority(key, &root);
    let below = Raw::device(&p256()).signed_by(&middle);
    assert_eq!(device(&anchors(&[&root]), &[&below, middle.certificate.der()]), Err(ChainError::CriticalExtension));
}

#[test]
fn e13_an_authority_whose_key_usage_lacks_cert_sign_issues_nothing() {
    let (root, key) = (Authority::root("Root"), p256());
    let middle =
        Raw::authority("Middle", &key).with(oid::KEY_USAGE, true, DIGITAL_SIGNATURE).into_authority(key, &root);
    let leaf = Raw::device(&p256()).signed_by(&middle);
    let chain = [&leaf[..], middle.certificate.der()];
    assert_eq!(device(&anchors(&[&root]), &chain), Err(ChainError::KeyUsage { index: 1 }));
    assert_eq!(
        Anchors::new(vec![Arc::clone(&root.certificate), middle.certificate]).err(),
        Some(AnchorError { index: 1, fault: AnchorFlaw::KeyUsage })
    );
}

/// nameConstraints with one subtree of DNS names, permitted or excluded.
fn constraints(excluded: bool, base: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.nested(Tag::context_constructed(u8::from(excluded)), |trees| {
            trees.sequence(|tree| tree.element(Tag::context(2), base.as_bytes()));
        });
    });
    out.into_vec()
}

fn dns(name: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| out.element(Tag::context(2), name.as_bytes()));
    out.into_vec()
}

#[test]
fn e14_name_constraints_hold_in_any_case_and_alone() {
    let root = Authority::root("Root");
    let below = |constraint: &[u8], leaf: Raw| {
        let key = p256();
        let middle =
            Raw::authority("Middle", &key).with(oid::NAME_CONSTRAINTS, true, constraint).into_authority(key, &root);
        device(&anchors(&[&root]), &[&leaf.signed_by(&middle), middle.certificate.der()])
    };
    let named = |name: &str| Raw::device(&p256()).with(oid::SUBJECT_ALT_NAME, false, &dns(name));
    let permitted = constraints(false, "example.net");
    let excluded = constraints(true, "example.net");
    assert_eq!(below(&permitted, named("a.EXAMPLE.net")), Ok(0));
    assert_eq!(below(&permitted, named("a.example.org")), Err(ChainError::NameConstraints));
    assert_eq!(below(&permitted, named("notexample.net")), Err(ChainError::NameConstraints));
    assert_eq!(
        below(&excluded, named("a.Example.NET")),
        Err(ChainError::NameConstraints),
        "excluded without permitted"
    );
    assert_eq!(below(&excluded, named("a.example.org")), Ok(0));
    // A common name is not a DNS name: it is not constrained as one and does not replace one.
    let by_name = Raw { subject: cn("a.example.org"), ..Raw::device(&p256()) };
    assert_eq!(below(&permitted, by_name), Ok(0));
}

#[test]
fn e14_permitted_sets_that_have_nothing_in_common_permit_nothing() {
    let root = Authority::root("Root");
    let (one_key, two_key) = (p256(), p256());
    let net = constraints(false, "example.net");
    let one = Raw::authority("One", &one_key).with(oid::NAME_CONSTRAINTS, true, &net).into_authority(one_key, &root);
    let org = constraints(false, "example.org");
    let two = Raw::authority("Two", &two_key).with(oid::NAME_CONSTRAINTS, true, &org).into_authority(two_key, &one);
    for name in ["a.example.net", "a.example.org", "a.example.com"] {
        let leaf = Raw::device(&p256()).with(oid::SUBJECT_ALT_NAME, false, &dns(name)).signed_by(&two);
        let chain = [&leaf[..], two.certificate.der(), one.certificate.der()];
        assert_eq!(device(&anchors(&[&root]), &chain), Err(ChainError::NameConstraints), "{name}");
    }
    // An empty list is refused; webpki would treat it as "anything".
    for empty in [&[0x30, 0x00][..], &[0x30, 0x02, 0xa0, 0x00], &[0x30, 0x02, 0xa1, 0x00]] {
        let middle = Raw::authority("Middle", &p256()).with(oid::NAME_CONSTRAINTS, true, empty).signed_by(&root);
        assert_eq!(flaw(&middle), Some(CertificateFlaw::ExtensionValue));
    }
}

#[test]
fn e14_directory_name_constraints_refuse_every_chain() {
    let (root, key) = (Authority::root("Root"), p256());
    let mut constraint = Writer::default();
    constraint.sequence(|out| {
        out.nested(Tag::context_constructed(0), |trees| {
            trees.sequence(|tree| tree.nested(Tag::context_constructed(4), |name| name.raw(cn("device").der())));
        });
    });
    let constraint = constraint.into_vec();
    let middle =
        Raw::authority("Middle", &key).with(oid::NAME_CONSTRAINTS, true, &constraint).into_authority(key, &root);
    let leaf = Raw::device(&p256()).signed_by(&middle);
    assert_eq!(device(&anchors(&[&root]), &[&leaf, middle.certificate.der()]), Err(ChainError::NameConstraints));
}

#[test]
fn e02_chains_of_other_algorithms_and_wrong_signatures_are_refused() {
    let root = Authority::root("Root");
    let mut leaf = root.idevid("1").der().to_vec();
    let last = leaf.len() - 1;
    leaf[last] ^= 1;
    assert_eq!(device(&anchors(&[&root]), &[&leaf]), Err(ChainError::BadSignature));
    // ecdsa-with-SHA1 is 1.2.840.10045.4.1. A signature over one hash is not valid for another.
    let good = root.idevid("2").der().to_vec();
    let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let relabelled = replace_all(&good, &sha256, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]);
    assert_eq!(device(&anchors(&[&root]), &[&relabelled]), Err(ChainError::BadSignature));
    let mut two_algorithms = good.clone();
    let outer = good.windows(8).rposition(|window| window == sha256).unwrap();
    two_algorithms[outer + 7] = 3;
    assert_eq!(flaw(&two_algorithms), Some(CertificateFlaw::AlgorithmMismatch));
    let sha224 = replace_all(&good, &sha256, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1]);
    assert_eq!(device(&anchors(&[&root]), &[&sha224]), Err(ChainError::UnsupportedAlgorithm));
}

fn replace_all(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..=out.len() - from.len() {
        if out[at..].starts_with(from) {
            out[at..at + to.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn d64_chains_are_bounded_in_length_and_in_work() {
    let root = Authority::root("Root");
    let leaf = root.idevid("1");
    let many = vec![leaf.der(); CHAIN_CERTIFICATES_MAX + 1];
    assert_eq!(
        device(&anchors(&[&root]), &many),
        Err(ChainError::TooManyCertificates { count: CHAIN_CERTIFICATES_MAX + 1 })
    );

    // A hundred anchors of one name: each is tried, until SIGNATURES_MAX signatures have been verified.
    let namesakes: Vec<Authority> = (0..100).map(|_| Authority::root("Same")).collect();
    let all: Vec<&Authority> = namesakes.iter().collect();
    let stranger = Authority::root("Same").idevid("1");
    assert_eq!(device(&anchors(&all), &[stranger.der()]), Err(ChainError::TooMuchWork));
    assert_eq!(device(&anchors(&all[..SIGNATURES_MAX]), &[stranger.der()]), Err(ChainError::BadSignature));
    assert_eq!(
        device(&anchors(&all[..SIGNATURES_MAX]), &[all[SIGNATURES_MAX - 1].idevid("2").der()]),
        Ok(SIGNATURES_MAX - 1)
    );

    // Seven authorities of one name in the chain would allow thousands of orders. Two are a roll-over.
    let with = |authorities: &[&Authority]| {
        let certificates = authorities.iter().map(|authority| authority.certificate.der());
        device(&anchors(&[&root]), &std::iter::once(stranger.der()).chain(certificates).collect::<Vec<_>>())
    };
    assert_eq!(with(&all[..2]), Err(ChainError::UnknownIssuer));
    assert_eq!(with(&all[..3]), Err(ChainError::UnknownIssuer));
    assert_eq!(with(&all[..7]), Err(ChainError::TooMuchWork));
}

#[test]
fn d64_loops_end() {
    // Two authorities that certify each other.
    let root = Authority::root("Root");
    let (a, b) = (Authority::root("A"), Authority::root("B"));
    let a_by_b = Raw { subject: a.certificate.subject().clone(), ..Raw::authority("A", &a.key) }.signed_by(&b);
    let b_by_a = Raw { subject: b.certificate.subject().clone(), ..Raw::authority("B", &b.key) }.signed_by(&a);
    let leaf = Raw::device(&p256()).signed_by(&a);
    assert_eq!(device(&anchors(&[&root]), &[&leaf, &a_by_b, &b_by_a]), Err(ChainError::UnknownIssuer));
}

#[test]
fn d65_key_usage_and_extended_key_usage_of_a_device() {
    let root = Authority::root("Root");
    let verify = |raw: Raw| device(&anchors(&[&root]), &[&raw.signed_by(&root)]);
    let purposes = |ids: &[Oid<'_>]| {
        let mut out = Writer::default();
        out.sequence(|out| ids.iter().for_each(|id| out.oid(*id)));
        out.into_vec()
    };
    let raw = || Raw::device(&p256());
    assert_eq!(verify(raw()), Ok(0), "neither extension");
    assert_eq!(verify(raw().with(oid::KEY_USAGE, true, DIGITAL_SIGNATURE)), Ok(0));
    assert_eq!(verify(raw().with(oid::KEY_USAGE, true, KEY_AGREEMENT)), Err(ChainError::KeyUsage { index: 0 }));
    let eku = |ids: &[Oid<'_>]| verify(raw().with(oid::EXTENDED_KEY_USAGE, false, &purposes(ids)));
    assert_eq!(eku(&[oid::CLIENT_AUTH]), Ok(0));
    assert_eq!(eku(&[oid::SERVER_AUTH, oid::CLIENT_AUTH]), Ok(0));
    assert_eq!(eku(&[oid::SERVER_AUTH]), Err(ChainError::ExtendedKeyUsage));
    assert_eq!(eku(&[oid::ANY_EXTENDED_KEY_USAGE]), Err(ChainError::ExtendedKeyUsage));
}

#[test]
fn a_leaf_that_is_an_authority_or_an_anchor_is_no_device() {
    let root = Authority::root("Root");
    let issuing = root.below("Issuing", Some(0));
    let all = anchors(&[&root, &issuing]);
    assert_eq!(device(&all, &[root.certificate.der()]), Err(ChainError::AnchorAsLeaf));
    assert_eq!(device(&all, &[issuing.certificate.der()]), Err(ChainError::AnchorAsLeaf));
    assert_eq!(device(&anchors(&[&root]), &[issuing.certificate.der()]), Err(ChainError::AuthorityAsLeaf));
    // The key of an anchor under another certificate, one with fewer rights.
    let disguised = Raw::device(&issuing.key).signed_by(&root);
    assert_eq!(device(&all, &[&disguised]), Err(ChainError::AnchorAsLeaf));
}

#[test]
fn e20_a_certificate_that_is_not_strict_names_its_place() {
    let root = Authority::root("Root");
    let middle = root.below("Middle", None);
    let leaf = middle.idevid("1");
    let mut trailing = middle.certificate.der().to_vec();
    trailing.push(0);
    let error = LocatedError { field: Field::Whole, flaw: CertificateFlaw::Der(pki::der::DerError::Trailing) };
    assert_eq!(device(&anchors(&[&root]), &[leaf.der(), &trailing]), Err(ChainError::Certificate { index: 1, error }));
    let version_1 = Raw { version: None, ..Raw::device(&p256()) }.signed_by(&root);
    let error = LocatedError { field: Field::Version, flaw: CertificateFlaw::Version1 };
    assert_eq!(device(&anchors(&[&root]), &[&version_1]), Err(ChainError::Certificate { index: 0, error }));
}

fn server_certificate(root: &Authority, names: &[&str]) -> Certificate {
    let names: Vec<ServerName<'_>> = names.iter().map(|&name| ServerName::try_from(name).unwrap()).collect();
    let spec = ServerCertificateSpec { names: &names, serial: serial(), validity: years(2) };
    server(&spec, p256().public_key(), root.as_parent(), &random()).unwrap()
}

#[test]
fn a_server_is_verified_by_the_name_that_was_dialled() {
    let root = Authority::root("Root");
    let leaf = server_certificate(&root, &["est.example.net", "192.0.2.7", "2001:db8::7"]);
    assert!(leaf.der().len() <= 520, "{} bytes: devices reassemble it in small buffers", leaf.der().len());
    let verify = |name: &str| {
        verify_server(&anchors(&[&root]), &[leaf.der()], at(NOW), &ServerName::try_from(name).unwrap())
            .map(|v| v.anchor)
            .map_err(|refusal| refusal.error)
    };
    for name in ["est.example.net", "EST.example.NET", "192.0.2.7", "2001:db8::7"] {
        assert_eq!(verify(name), Ok(0), "{name}");
    }
    for name in ["example.net", "a.est.example.net", "192.0.2.8", "2001:db8::8"] {
        assert_eq!(verify(name), Err(ChainError::NameMismatch), "{name}");
    }
}

#[test]
fn a_device_cannot_play_the_server() {
    let root = Authority::root("Root");
    let name = ServerName::try_from("est.example.net").unwrap();
    let verify = |raw: Raw| {
        let named = raw.with(oid::SUBJECT_ALT_NAME, false, &dns("est.example.net")).signed_by(&root);
        verify_server(&anchors(&[&root]), &[&named], at(NOW), &name).map(|_| ()).map_err(|refusal| refusal.error)
    };
    let purpose = |id: Oid<'_>| {
        let mut out = Writer::default();
        out.sequence(|out| out.oid(id));
        out.into_vec()
    };
    let raw = || Raw::device(&p256());
    assert_eq!(verify(raw()), Ok(()), "without an extKeyUsage its name suffices");
    assert_eq!(
        verify(raw().with(oid::EXTENDED_KEY_USAGE, false, &purpose(oid::CLIENT_AUTH))),
        Err(ChainError::DeviceAsServer)
    );
    assert_eq!(
        verify(raw().with(oid::EXTENDED_KEY_USAGE, false, &purpose(oid::ANY_EXTENDED_KEY_USAGE))),
        Err(ChainError::ExtendedKeyUsage)
    );
    let server = || raw().with(oid::EXTENDED_KEY_USAGE, false, &purpose(oid::SERVER_AUTH));
    assert_eq!(verify(server()), Ok(()));
    assert_eq!(verify(server().with(oid::KEY_USAGE, true, KEY_AGREEMENT)), Err(ChainError::KeyUsage { index: 0 }));
    // A common name does not replace a SAN.
    let by_common_name = Raw { subject: cn("est.example.net"), ..server() }.signed_by(&root);
    assert_eq!(
        verify_server(&anchors(&[&root]), &[&by_common_name], at(NOW), &name)
            .map(|_| ())
            .map_err(|refusal| refusal.error),
        Err(ChainError::NameMismatch)
    );
}

/// Our check of an authority's constraints allows exactly the names that webpki accepts below it.
#[test]
fn e14_e49_names_that_constraints_allow_are_those_that_verify() {
    let address = |text: &str| GeneralName::Ip(text.parse().unwrap());
    let names = [
        GeneralName::Dns("meters.example"),
        GeneralName::Dns("A.Meters.Example"),
        GeneralName::Dns("xmeters.example"),
        GeneralName::Dns("example"),
        GeneralName::Dns("ters.example"),
        address("10.0.0.7"),
        address("10.1.0.7"),
        address("2001:db8::7"),
        GeneralName::Uri("https://meters.example/7"),
        GeneralName::Email("seven@meters.example"),
        GeneralName::RegisteredId(oid::COMMON_NAME),
    ];
    let bases: [(Tag, &[u8]); 10] = [
        (Tag::context(2), b"meters.example"),
        (Tag::context(2), b".meters.example"),
        (Tag::context(2), b"EXAMPLE"),
        (Tag::context(2), b""),
        (Tag::context(7), &[10, 0, 0, 0, 255, 255, 0, 0]),
        (Tag::context(7), &[0; 8]),
        (Tag::context(7), &[0; 32]),
        (Tag::context(6), b"meters.example"),
        (Tag::context(1), b"meters.example"),
        (Tag::context(8), &[0x55, 4, 3]),
    ];
    let mut verdicts = [0; 2];
    for list in [0, 1] {
        for (tag, base) in bases {
            let mut value = Writer::default();
            value.sequence(|out| {
                out.nested(Tag::context_constructed(list), |out| out.sequence(|out| out.element(tag, base)));
            });
            let key = p256();
            let raw = Raw { issuer: cn("Root"), ..Raw::authority("Root", &key) };
            let der = raw.with(oid::NAME_CONSTRAINTS, true, &value.into_vec()).signed_with(&key);
            let root = Authority { certificate: Arc::new(Certificate::parse(&der).unwrap()), key };
            let constraints = root.certificate.name_constraints().unwrap();
            for name in &names {
                let san = GeneralNames::new([*name]).unwrap();
                let leaf = Raw::device(&p256()).with(oid::SUBJECT_ALT_NAME, false, san.der()).signed_by(&root);
                let anchors = Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap();
                let verified = verify_device(&anchors, &[&leaf], at(NOW)).is_ok();
                assert_eq!(constraints.allow(name), verified, "{name:?} in {list} {tag:?} {base:02x?}");
                verdicts[usize::from(verified)] += 1;
            }
        }
    }
    assert!(verdicts.iter().all(|count| *count > 20), "{verdicts:?}");
    assert!(Authority::root("Root").certificate.name_constraints().is_none());
}
