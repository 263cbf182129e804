//! Paths: found among superfluous certificates, proven signature by signature, and refused with the name of the certificate at fault.

use std::sync::Arc;

use pki::chain::{Anchors, ChainError, Check, Conclusion, Unproven, collect_device, verify_device, verify_server};
use pki::der::{Tag, Writer};
use pki::{Certificate, Name, NameBuilder, Oid, ServerName, Validity, oid, pem};

use crate::common::*;

fn anchors(authorities: &[&Authority]) -> Anchors {
    Anchors::new(authorities.iter().map(|authority| Arc::clone(&authority.certificate)).collect()).unwrap()
}

fn device(anchors: &Anchors, chain: &[&[u8]]) -> Result<usize, ChainError> {
    verify_device(anchors, chain, at(NOW)).map(|verified| verified.anchor).map_err(|refusal| refusal.error)
}

/// The whole message about a refused chain.
fn words(anchors: &Anchors, chain: &[&[u8]]) -> String {
    verify_device(anchors, chain, at(NOW)).unwrap_err().to_string()
}

fn factory() -> Anchors {
    let certificates = pem::certificates(include_bytes!("../vectors/foreign/anchors.pem")).unwrap();
    Anchors::new(certificates.iter().map(|der| Arc::new(Certificate::parse(der).unwrap())).collect()).unwrap()
}

/// `chain`, and further certificates as a third-party factory sends them.
fn foreign(text: &[u8]) -> Result<usize, ChainError> {
    let chain = pem::certificates(text).unwrap();
    device(&factory(), &chain.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn holds(check: &Check<'_>) -> bool {
    check.key.verify_as(check.algorithm, check.message, check.signature).is_ok()
}

fn collect<'a>(anchors: &'a Anchors, chain: &[&[u8]]) -> Unproven<&'a Anchors> {
    collect_device(anchors, chain, at(NOW)).unwrap()
}

/// Continues with the true results.
fn heard(unproven: Unproven<&Anchors>) -> Conclusion<&Anchors> {
    let results: Vec<bool> = unproven.checks().map(|check| holds(&check)).collect();
    unproven.conclude(results.into_iter()).unwrap()
}

#[test]
fn d89_two_anchors_of_one_name_are_both_tried_and_no_signature_twice() {
    let (wrong, right) = (Authority::root("Same"), Authority::root("Same"));
    let issuing = right.below("Issuing", Some(0));
    let leaf = issuing.idevid("1");
    let both = anchors(&[&wrong, &right]);
    let unproven = collect(&both, &[leaf.der(), issuing.certificate.der()]);
    // Two checks: the leaf by the issuing authority, and that authority by the wrong anchor.
    let first: Vec<bool> = unproven.checks().map(|check| holds(&check)).collect();
    assert_eq!(first, [true, false]);
    let Conclusion::Further(unproven) = heard(unproven) else { panic!("the wrong anchor signed nothing") };
    assert_eq!(unproven.checks().count(), 1, "the leaf's signature is known to be good");
    let Conclusion::Proven(verified) = heard(*unproven) else { panic!("the right anchor signed it") };
    assert_eq!(verified.anchor, 1);
}

/// An anchor may have another origin than the one above it: devices of our CA are not those of a manufacturer whose root has certified it.
#[test]
fn e46_no_path_leads_past_an_anchor_that_is_the_last_whatever_that_one_refuses() {
    let root = Authority::root("Root");
    let issuing = root.below("Issuing", None);
    let middle = issuing.below("Middle", None);
    let over = Validity { not_before: at(NOW - 9), not_after: at(NOW - 1) };
    let is_root = |anchor: &Certificate| anchor.digest() == root.certificate.digest();
    let open = || anchors(&[&issuing, &root]).accepting_expired_below(is_root);
    let lenient_above = open().ending_at(|anchor| !is_root(anchor));
    let (issuing_der, middle_der) = (issuing.certificate.der(), middle.certificate.der());
    let below = Raw { validity: over, ..Raw::device(&p256()) }.signed_by(&issuing);
    let further = Raw { validity: over, ..Raw::device(&p256()) }.signed_by(&middle);
    let refused = Err(ChainError::Expired { not_after: over.not_after });
    assert_eq!(device(&lenient_above, &[&below, issuing_der]), refused);
    assert_eq!(device(&lenient_above, &[&further, middle_der, issuing_der]), refused);
    // With another spelling of its name it is the same authority.
    let spelt = || Authority::root("ISSUING").certificate.subject().clone();
    let respelt = Raw { subject: spelt(), ..Raw::authority("Issuing", &issuing.key) }.signed_by(&root);
    let again = Raw { validity: over, issuer: spelt(), ..Raw::device(&p256()) }.signed_with(&issuing.key);
    assert_eq!(device(&lenient_above, &[&again, &respelt]), refused);
    // If both anchors have the same origin, a later certificate of the lower one may lead past it.
    assert_eq!(device(&open(), &[&below, issuing_der]), Ok(1));
    // Beside an anchor, not below one.
    let other = root.below("Other", None);
    let neighbour = Raw { validity: over, ..Raw::device(&p256()) }.signed_by(&other);
    assert_eq!(device(&lenient_above, &[&neighbour, other.certificate.der()]), Ok(1));
}

#[test]
fn e51_an_authority_is_its_key_and_its_name_however_spelt() {
    let key = p256();
    let with = |subject: Name| {
        let der = Raw { subject: subject.clone(), issuer: subject, ..Raw::authority("Root", &key) }.signed_with(&key);
        Certificate::parse(&der).unwrap().anchor_id()
    };
    // PrintableString and UTF8String, different case, repeated white space that counts as one space.
    let spelt = |tag: Tag, text: &str| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.nested(Tag::SET, |relative| {
                relative.sequence(|attribute| {
                    attribute.element(Tag::OID, oid::COMMON_NAME.contents());
                    attribute.element(tag, text.as_bytes());
                });
            });
        });
        Name::parse(&out.into_vec()).unwrap()
    };
    let ids = [(Tag::UTF8_STRING, "Maker 1"), (Tag::PRINTABLE_STRING, "Maker 1"), (Tag::UTF8_STRING, "MAKER  1 ")]
        .map(|(tag, text)| with(spelt(tag, text)));
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_ne!(with(spelt(Tag::UTF8_STRING, "Maker 2")), ids[0]);
    let other = Raw { subject: spelt(Tag::UTF8_STRING, "Maker 1"), ..Raw::authority("Root", &p256()) };
    assert_ne!(Certificate::parse(&other.signed_with(&key)).unwrap().anchor_id(), ids[0], "another key");
}

#[test]
fn d89_no_result_is_taken_for_a_good_one() {
    let root = Authority::root("Root");
    let leaf = root.idevid("1");
    let anchors = anchors(&[&root]);
    for results in [vec![], vec![true, true], vec![false]] {
        let outcome = collect(&anchors, &[leaf.der()]).conclude(results.into_iter());
        assert_eq!(outcome.map(|_| ()).map_err(|refusal| refusal.error), Err(ChainError::BadSignature));
    }
}

#[test]
fn d100_certificates_that_no_path_needs_are_of_no_interest() {
    let root = Authority::root("Root");
    let issuing = root.below("Issuing", Some(0));
    let leaf = issuing.idevid("1");
    let all = anchors(&[&root]);
    let rsa = {
        let answer = include_bytes!("../vectors/foreign/rsa-root.p7");
        let certificates = pki::cms::parse_certs_only(answer).unwrap();
        (*certificates.iter().find(|der| Certificate::parse(der).is_err()).unwrap()).to_vec()
    };
    let version_1 = Raw { version: None, extensions: Vec::new(), ..Raw::authority("Root", &root.key) };
    let odd_serial = Raw { serial: vec![0, 0, 1], ..Raw::authority("Root", &root.key) };
    for needless in [rsa, version_1.signed_by(&root), odd_serial.signed_by(&root), vec![0x30, 0x00], b"junk".to_vec()] {
        assert!(Certificate::parse(&needless).is_err());
        assert_eq!(device(&all, &[leaf.der(), issuing.certificate.der(), &needless]), Ok(0));
        assert_eq!(device(&all, &[leaf.der(), &needless, issuing.certificate.der()]), Ok(0));
    }
    assert!(foreign(include_bytes!("../vectors/foreign/v1-root-appended.pem")).is_ok());
}

#[test]
fn d100_d101_a_certificate_that_the_path_needs_and_that_cannot_be_read_is_named() {
    let root = Authority::root("Root");
    let (issuing, leaf) = (p256(), p256());
    let leaf = Raw { issuer: cn("Issuing"), ..Raw::device(&leaf) }.signed_with(&issuing);
    let odd = Raw { serial: vec![0, 0, 1], ..Raw::authority("Issuing", &issuing) }.signed_by(&root);
    let all = anchors(&[&root]);
    let root_der = root.certificate.der();
    assert_eq!(
        words(&all, &[&leaf, root_der, &odd]),
        "certificate 2 of the chain (CN=Issuing): serialNumber: INTEGER is not minimal (X.690 §8.3.2)"
    );
    // No certificate could be the issuer.
    let said = words(&all, &[&leaf, root_der]);
    assert!(said.starts_with("certificate 0 of the chain ("), "{said}");
    assert!(
        said.ends_with("its issuer, CN=Issuing, is neither trusted nor the subject of another certificate"),
        "{said}"
    );
}

#[test]
fn d101_a_refusal_names_the_certificate_the_field_and_the_rule() {
    let root = Authority::root("Root");
    let other = Authority::root("Root");
    let all = anchors(&[&root]);
    let issuing = root.below("Issuing", Some(0));
    let validity = Validity { not_before: at(NOW - 9), not_after: at(NOW - 1) };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            Raw { validity, ..Raw::device(&p256()) }.signed_by(&issuing),
            "certificate 0 of the chain (CN=device): its notAfter has passed",
        ),
        (
            Raw::device(&p256()).with(oid::KEY_USAGE, true, KEY_AGREEMENT).signed_by(&issuing),
            "certificate 0 of the chain (CN=device): its keyUsage lacks digitalSignature (RFC 5280 §4.2.1.3)",
        ),
        (
            Raw::device(&p256()).with(oid::BASIC_CONSTRAINTS, true, CA).signed_by(&issuing),
            "certificate 0 of the chain (CN=device): it is a CA certificate (basicConstraints); a device or server needs an end-entity certificate",
        ),
        (
            Raw::device(&p256()).with(oid::CERTIFICATE_POLICIES, true, POLICIES).signed_by(&issuing),
            "certificate 0 of the chain (CN=device): its extension certificatePolicies (2.5.29.32) is critical, and nothing here acts on it (RFC 5280 §4.2)",
        ),
        (
            Raw::device(&p256())
                .with(Oid::from_contents(&[0x2a, 0x03, 0x04]).unwrap(), true, &[5, 0])
                .signed_by(&issuing),
            "certificate 0 of the chain (CN=device): its extension 1.2.3.4 is critical and not known here (RFC 5280 §4.2)",
        ),
    ];
    for (leaf, expected) in cases {
        assert_eq!(words(&all, &[&leaf, issuing.certificate.der()]), expected);
    }
    // A fault of an authority is attributed to that authority.
    let narrow = root.below("Narrow", Some(0));
    let below = narrow.below("Below", None);
    let leaf = Raw::device(&p256()).signed_by(&below);
    assert_eq!(
        words(&all, &[&leaf, below.certificate.der(), narrow.certificate.der()]),
        "certificate 2 of the chain (CN=Narrow,O=Example): its pathLenConstraint is 0, and 1 authorities are below it"
    );
    // Another authority of the same name signed it.
    let stranger = Raw::device(&p256()).signed_by(&other);
    assert_eq!(
        words(&all, &[&stranger]),
        "certificate 0 of the chain (CN=device): its signature does not verify with the key of the trusted authority of the \
         name CN=Root,O=Example"
    );
}

#[test]
fn d101_a_name_outside_constraints_is_blamed_on_who_bears_it_and_directory_names_on_who_constrains_them() {
    let root = Authority::root("Root");
    let below = |authority: &Authority, constraint: &[u8]| {
        let key = p256();
        Raw::authority("Narrow", &key).with(oid::NAME_CONSTRAINTS, true, constraint).into_authority(key, authority)
    };
    let dns = |name: &str| {
        let mut out = Writer::default();
        out.sequence(|out| out.element(Tag::context(2), name.as_bytes()));
        out.into_vec()
    };
    let subtree = |base: &dyn Fn(&mut Writer)| {
        let mut out = Writer::default();
        out.sequence(|out| out.nested(Tag::context_constructed(0), |trees| trees.sequence(|tree| base(tree))));
        out.into_vec()
    };
    let of_names = subtree(&|tree| tree.element(Tag::context(2), b"example.net"));
    let narrow = below(&root, &of_names);
    let leaf = || Raw::device(&p256()).with(oid::SUBJECT_ALT_NAME, false, &dns("a.example.org"));
    let middle_key = p256();
    let middle = Raw::authority("Middle", &middle_key).into_authority(middle_key, &narrow);
    let (narrow_der, middle_der) = (narrow.certificate.der(), middle.certificate.der());
    let outside = "certificate 0 of the chain (CN=device): a name of its subjectAltName is outside the nameConstraints of CN=Narrow";
    assert_eq!(words(&anchors(&[&root]), &[&leaf().signed_by(&middle), middle_der, narrow_der]), outside);
    assert_eq!(words(&anchors(&[&narrow]), &[&leaf().signed_by(&narrow)]), outside, "the constraints of an anchor");

    let of_directories = subtree(&|tree| tree.nested(Tag::context_constructed(4), |name| name.raw(cn("device").der())));
    let judged_by_nobody = below(&root, &of_directories);
    let leaf = Raw::device(&p256()).signed_by(&judged_by_nobody);
    let rule = "its nameConstraints are on directory names, which are not judged here: no chain below it is accepted";
    assert_eq!(
        words(&anchors(&[&root]), &[&leaf, judged_by_nobody.certificate.der()]),
        format!("certificate 1 of the chain (CN=Narrow): {rule}")
    );
    let said = words(&anchors(&[&judged_by_nobody]), &[&leaf]);
    assert!(said.starts_with("the trusted authority (CN=Narrow): ") && said.ends_with(rule), "{said}");
}

#[test]
fn d102_the_name_of_an_anchor_is_found_in_any_spelling_and_that_of_an_intermediate_byte_by_byte() {
    assert!(foreign(include_bytes!("../vectors/foreign/issuer-printable.pem")).is_ok());
    let root = Authority::root("Root");
    let spelt = [("ROOT", "Example"), ("root", "example"), ("  Root ", "Example"), ("RoOt", "EXAMPLE ")];
    let name = |(common, organization): (&str, &str)| {
        let builder = NameBuilder::new().push(oid::ORGANIZATION, organization).unwrap();
        builder.push(oid::COMMON_NAME, common).unwrap().finish().unwrap()
    };
    assert_eq!(name(("Root", "Example")).der(), root.certificate.subject().der());
    for spelling in spelt {
        let issuer = name(spelling);
        assert_ne!(issuer.der(), root.certificate.subject().der());
        let leaf = Raw { issuer, ..Raw::device(&p256()) }.signed_with(&root.key);
        assert_eq!(device(&anchors(&[&root]), &[&leaf]), Ok(0));
    }
    // Among certificates that a peer sends, names must be spelt alike; the refusal says that they are not.
    let issuing = root.below("Issuing", None);
    let issuer = Name::parse(&replaced(issuing.certificate.subject().der(), b"Issuing", b"ISSUING")).unwrap();
    let leaf = Raw { issuer, ..Raw::device(&p256()) }.signed_with(&issuing.key);
    let said = words(&anchors(&[&root]), &[&leaf, issuing.certificate.der()]);
    assert!(said.contains("is the subject of certificate 1 but for case, white space or string type"), "{said}");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let found = out.windows(from.len()).position(|window| window == from).unwrap();
    out[found..found + to.len()].copy_from_slice(to);
    out
}

#[test]
fn e67_a_signature_of_a_chain_that_is_not_der_is_not_blamed_on_another_key() {
    let root = Authority::root("Root");
    let leaf = Raw::device(&p256()).signed_by(&root);
    // r with a superfluous leading zero: the same numbers, but not DER.
    let mut certificate = pki::der::Reader::sequence(&leaf).unwrap();
    let tbs = certificate.expect_element(Tag::SEQUENCE).unwrap().whole;
    let algorithm = certificate.expect_element(Tag::SEQUENCE).unwrap().whole;
    let signature = certificate.octets_of_bit_string().unwrap();
    let mut values = pki::der::Reader::sequence(signature).unwrap();
    let (r, s) = (values.expect(Tag::INTEGER).unwrap(), values.expect(Tag::INTEGER).unwrap());
    let bare = |value: &[u8]| [vec![0; 33 - value.len()], value.to_vec()].concat()[1..].to_vec();
    let padded = {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.element(Tag::INTEGER, &[&[0, 0][..], r].concat());
            out.element(Tag::INTEGER, s);
        });
        out.into_vec()
    };
    for signature in [padded, [bare(r), bare(s)].concat()] {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.raw(tbs);
            out.raw(algorithm);
            out.bit_string(&signature);
        });
        let leaf = out.into_vec();
        let refusal = verify_device(&anchors(&[&root]), &[&leaf], at(NOW)).unwrap_err();
        assert_eq!(refusal.error, ChainError::SignatureEncoding);
        assert!(refusal.to_string().contains("not DER"), "{refusal}");
    }
}

/// An extKeyUsage of these purposes.
fn purposes(of: &[Oid<'static>]) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| of.iter().for_each(|purpose| out.oid(*purpose)));
    out.into_vec()
}

#[test]
fn e73_the_purpose_of_an_intermediate_is_blamed_on_the_intermediate() {
    let chain = pem::certificates(include_bytes!("../vectors/foreign/dice.pem")).unwrap();
    let said = words(&factory(), &chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert!(said.starts_with("certificate 1 of the chain ("), "{said}");
    assert!(said.contains("extKeyUsage does not contain clientAuth"), "{said}");
    let root = Authority::root("Root");
    let key = p256();
    let raw = Raw::authority("Issuing", &key).with(oid::EXTENDED_KEY_USAGE, false, &purposes(&[oid::SERVER_AUTH]));
    let issuing = raw.into_authority(key, &root);
    let leaf =
        Raw::device(&p256()).with(oid::EXTENDED_KEY_USAGE, false, &purposes(&[oid::CLIENT_AUTH])).signed_by(&issuing);
    let said = words(&anchors(&[&root]), &[&leaf, issuing.certificate.der()]);
    assert!(said.starts_with("certificate 1 of the chain (CN=Issuing)"), "{said}");
}

#[test]
fn e73_a_server_certificate_without_purposes_is_known_by_its_name_alone() {
    let root = Authority::root("Root");
    let san = {
        let mut out = Writer::default();
        out.sequence(|out| out.element(Tag::context(2), b"est.example.net"));
        out.into_vec()
    };
    let named = Raw::device(&p256()).with(oid::SUBJECT_ALT_NAME, false, &san).signed_by(&root);
    let nameless = Raw { subject: cn("est.example.net"), ..Raw::device(&p256()) }.signed_by(&root);
    let dial = |leaf: &[u8], name: &'static str| {
        verify_server(&anchors(&[&root]), &[leaf], at(NOW), &ServerName::try_from(name).unwrap())
            .map(|_| ())
            .map_err(|refusal| refusal.error)
    };
    assert_eq!(dial(&named, "est.example.net"), Ok(()));
    assert_eq!(dial(&named, "other.example.net"), Err(ChainError::NameMismatch));
    assert_eq!(dial(&nameless, "est.example.net"), Err(ChainError::NameMismatch));
    // A name does not make up for an extKeyUsage with another purpose.
    let device = Raw::device(&p256())
        .with(oid::SUBJECT_ALT_NAME, false, &san)
        .with(oid::EXTENDED_KEY_USAGE, false, &purposes(&[oid::CLIENT_AUTH]))
        .signed_by(&root);
    assert_eq!(dial(&device, "est.example.net"), Err(ChainError::DeviceAsServer));
}
