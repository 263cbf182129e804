//! One certificate from template to release, and certificates that must not be released.

use std::sync::Arc;
use std::time::Duration;

use pki::chain::{Anchors, verify_device};
use pki::issue::{
    BACKDATE_MAX, IssueError, IssuerCertificate, NodePrefix, SERIAL_BYTES, Serial, Template, TemplateSpec, validity,
};
use pki::make::{CsrSpec, csr_with_extensions};
use pki::{
    AlgorithmError, Certificate, Csr, Curve, GeneralName, GeneralNames, GeneralNamesError, Name, Signature, Validity,
    oid,
};
use proptest::prelude::*;
use ring::rand::SecureRandom;

use crate::common::*;

const YEAR: Duration = Duration::from_secs(365 * DAY);
const HOUR: Duration = Duration::from_secs(3_600);

fn issuing(authority: &Authority) -> Arc<IssuerCertificate> {
    Arc::new(IssuerCertificate::new(Arc::clone(&authority.certificate)).unwrap())
}

fn full() -> TemplateSpec {
    TemplateSpec {
        client_auth: true,
        basic_constraints: true,
        crl_url: crl_url("http://pki.example.net/main.crl"),
        ca_issuers_url: Some("http://pki.example.net/issuing.cer".into()),
        ocsp_url: Some("http://ocsp.example.net".into()),
    }
}

fn names() -> GeneralNames {
    GeneralNames::new([GeneralName::Dns("meter-7.example.net"), GeneralName::Uri("urn:dev:7")]).unwrap()
}

fn one_year(issuer: &IssuerCertificate) -> Validity {
    validity(issuer, at(NOW), YEAR, HOUR).unwrap()
}

fn issue(authority: &Authority, spec: &TemplateSpec, subject: &Name, san: &GeneralNames) -> Certificate {
    let template = Template::new(issuing(authority), spec).unwrap();
    let key = p256();
    let to_be_signed = template.fill(subject, san, key.spki(), &serial(), one_year(template.issuer())).unwrap();
    let signature = authority.key.sign(&random(), to_be_signed.der()).unwrap();
    to_be_signed.verify_signature(&signature).unwrap();
    to_be_signed.assemble(&signature).unwrap()
}

#[test]
fn an_issued_certificate_says_what_was_asked_and_verifies() {
    for curve in [Curve::P256, Curve::P384] {
        let root = Authority::root_on("Root", curve);
        let certificate = issue(&root, &full(), &cn("meter 7"), &names());
        assert_eq!((certificate.subject(), certificate.san()), (&cn("meter 7"), &names()));
        assert_eq!(certificate.issuer(), root.certificate.subject());
        assert!(!certificate.is_ca() && certificate.key_usage().unwrap().is_only_digital_signature());
        assert!(certificate.extended_key_usage().unwrap().client_auth);
        assert_eq!(certificate.authority_key_id(), root.certificate.subject_key_id());
        assert_eq!(certificate.subject_key_id(), Some(&certificate.public_key().key_identifier()[..]));
        let anchors = Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap();
        assert!(verify_device(&anchors, &[certificate.der()], at(NOW)).is_ok());
        assert_eq!(certificate.verify_signed_by(&root.certificate), Ok(()));
    }
}

#[test]
fn a_bare_profile_adds_nothing_of_its_own() {
    let root = Authority::root("Root");
    let certificate = issue(&root, &TemplateSpec::default(), &cn("meter"), &GeneralNames::empty());
    assert_eq!((certificate.extended_key_usage(), certificate.san().is_empty()), (None, true));
    assert!(certificate.der().len() < 450, "{} bytes", certificate.der().len());
    // Without a subject the alternative names have to be critical (RFC 5280 §4.2.1.6), and one of the two has to be present.
    let nameless = Name::parse(&[0x30, 0x00]).unwrap();
    let certificate = issue(&root, &TemplateSpec::default(), &nameless, &names());
    let critical_san = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
    assert!(certificate.der().windows(critical_san.len()).any(|window| window == critical_san));
    let template = Template::new(issuing(&root), &full()).unwrap();
    let filled =
        template.fill(&nameless, &GeneralNames::empty(), p256().spki(), &serial(), one_year(template.issuer()));
    assert_eq!(filled.err(), Some(IssueError::NoSubject));
}

#[test]
fn e24_serial_numbers_are_positive_unique_and_carry_their_node() {
    // All random bits are used.
    const DRAWS: usize = 10_000_000;
    let random = random();
    let mut drawn = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let mut octets = [0; 16];
        random.fill(&mut octets).unwrap();
        let serial = Serial::new(NodePrefix::new(0x0203), octets);
        assert!((0x01..=0x7f).contains(&serial.as_bytes()[0]), "positive and minimal");
        assert_eq!(serial.as_bytes()[3..], octets, "128 random bits, none lost");
        drawn.push(u128::from_be_bytes(octets));
    }
    drawn.sort_unstable();
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "no serial number twice");
    drop(drawn);
    const { assert!(SERIAL_BYTES <= 20) };
    let of = |node, random| *Serial::new(NodePrefix::new(node), random).as_bytes();
    assert_ne!(of(1, [0; 16]), of(2, [0; 16]), "a cloned machine draws the same bits for another node");
    assert_eq!(of(0x0203, [0xff; 16])[..4], [0x01, 0x02, 0x03, 0xff]);
    assert!(of(u16::MAX, [0xff; 16])[0] < 0x80);
}

#[test]
fn e28_validity_is_backdated_an_hour_at_most_and_ends_with_issuer_and_profile() {
    let root = Authority::root("Root");
    let issuer = issuing(&root);
    let bounds = root.certificate.validity();
    let plain = validity(&issuer, at(NOW), YEAR, HOUR).unwrap();
    assert_eq!(plain.not_before, at(NOW - 3_600));
    assert_eq!(validity(&issuer, at(NOW), YEAR, BACKDATE_MAX + Duration::from_secs(1)), Err(IssueError::Backdating));
    // Not before the issuer, not after it.
    let early = bounds.not_before.as_secs() + 60;
    assert_eq!(validity(&issuer, at(early), YEAR, HOUR).unwrap().not_before, bounds.not_before);
    let late = bounds.not_after.as_secs() - 60;
    assert_eq!(validity(&issuer, at(late), YEAR, HOUR).unwrap().not_after, bounds.not_after);
    assert_eq!(validity(&issuer, at(bounds.not_after.as_secs() + 1), YEAR, HOUR), Err(IssueError::IssuerNotValid));
    assert_eq!(validity(&issuer, at(bounds.not_before.as_secs() - 1), YEAR, HOUR), Err(IssueError::IssuerNotValid));
    assert_eq!(validity(&issuer, at(NOW), HOUR, HOUR), Err(IssueError::Lifetime), "over before it is issued");
    assert_eq!(validity(&issuer, at(NOW), Duration::ZERO, Duration::ZERO), Err(IssueError::Lifetime));
    // The template checks the caller's values too.
    let template = Template::new(issuer, &full()).unwrap();
    for wrong in [
        Validity { not_before: at(bounds.not_before.as_secs() - 1), not_after: at(NOW) },
        Validity { not_before: at(NOW), not_after: at(bounds.not_after.as_secs() + 1) },
        Validity { not_before: at(NOW), not_after: at(NOW - 1) },
    ] {
        let filled = template.fill(&cn("m"), &GeneralNames::empty(), p256().spki(), &serial(), wrong);
        assert_eq!(filled.err(), Some(IssueError::OutsideIssuer));
    }
}

#[test]
fn e29_validity_has_no_extra_second() {
    let root = Authority::root("Root");
    for (lifetime, backdate) in [(YEAR, HOUR), (YEAR, Duration::ZERO), (Duration::from_secs(1), Duration::ZERO)] {
        let period = validity(&issuing(&root), at(NOW), lifetime, backdate).unwrap();
        assert_eq!(period.seconds(), lifetime.as_secs(), "both ends are inside the period");
    }
}

#[test]
fn e31_an_issued_certificate_switches_to_generalized_time_in_2050() {
    const YEAR_2050: u64 = 2_524_608_000;
    let key = p256();
    let long = Validity { not_before: at(NOW), not_after: at(YEAR_2050 + 100 * DAY) };
    let root = Raw { validity: long, ..Raw::authority("Long", &key) };
    let root = root.with(oid::SUBJECT_KEY_IDENTIFIER, false, &[0x04, 0x01, 0x07]);
    let der = Raw { issuer: root.subject.clone(), ..root }.signed_with(&key);
    let issuer = Arc::new(IssuerCertificate::new(Arc::new(Certificate::parse(&der).unwrap())).unwrap());
    let template = Template::new(issuer, &TemplateSpec::default()).unwrap();
    let period = Validity { not_before: at(YEAR_2050 - 1), not_after: at(YEAR_2050) };
    let to_be_signed = template.fill(&cn("m"), &GeneralNames::empty(), p256().spki(), &serial(), period).unwrap();
    let expected = b"\x30\x20\x17\x0d491231235959Z\x18\x0f20500101000000Z";
    assert!(to_be_signed.der().windows(expected.len()).any(|window| window == expected));
}

#[test]
fn e15_a_hostile_request_leaves_no_trace_in_the_certificate() {
    let (root, key, subject) = (Authority::root("Root"), p256(), cn("meter"));
    let wishes = [
        (oid::BASIC_CONSTRAINTS, true, CA),
        (oid::KEY_USAGE, true, CERT_SIGN),
        (oid::EXTENDED_KEY_USAGE, false, &[0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x25, 0x00][..]),
        (oid::SUBJECT_KEY_IDENTIFIER, false, &[0x04, 0x01, 0x07]),
        (oid::AUTHORITY_KEY_IDENTIFIER, false, &[0x30, 0x03, 0x80, 0x01, 0x07]),
        (oid::CERTIFICATE_POLICIES, false, &[0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03]),
    ];
    let spec = CsrSpec { subject: &subject, san: &GeneralNames::empty(), challenge_password: Some("secret-password") };
    let request = csr_with_extensions(&spec, &wishes, &key, &random()).unwrap();
    let request = Csr::parse(request).unwrap().verify().unwrap();
    assert!(request.requested().is_ca);
    let template = Template::new(issuing(&root), &TemplateSpec::default()).unwrap();
    let period = one_year(template.issuer());
    let to_be_signed = template.fill(request.subject(), request.san(), request.spki(), &serial(), period).unwrap();
    let certificate = to_be_signed.assemble(&root.key.sign(&random(), to_be_signed.der()).unwrap()).unwrap();
    assert!(!certificate.is_ca() && certificate.key_usage().unwrap().is_only_digital_signature());
    assert_eq!(certificate.extended_key_usage(), None);
    assert_eq!(certificate.subject_key_id(), Some(&key.public_key().key_identifier()[..]));
    assert_eq!(certificate.authority_key_id(), root.certificate.subject_key_id());
    assert!(!certificate.der().windows(15).any(|window| window == b"secret-password"));
}

#[test]
fn e16_a_name_that_may_not_be_issued_is_not_issued() {
    let template = Template::new(issuing(&Authority::root("Root")), &full()).unwrap();
    for bad in [&b"\x30\x05\x82\x03*.a"[..], b"\x30\x04\x82\x02a.", b"\x30\x03\x81\x01a", b"\x30\x03\x86\x01a"] {
        let san = GeneralNames::parse(bad).unwrap();
        let filled = template.fill(&cn("m"), &san, p256().spki(), &serial(), one_year(template.issuer()));
        assert_eq!(filled.err(), Some(IssueError::AlternativeNames(GeneralNamesError::Syntax)));
    }
}

#[test]
fn e33_a_signature_of_another_key_or_over_other_bytes_is_found() {
    let (root, other) = (Authority::root("Root"), p256());
    let template = Template::new(issuing(&root), &full()).unwrap();
    let period = one_year(template.issuer());
    let fill = |subject: &str| template.fill(&cn(subject), &names(), other.spki(), &serial(), period).unwrap();
    let (one, two) = (fill("one"), fill("two"));
    let bad = Err(IssueError::Signature(AlgorithmError::BadSignature));
    assert_eq!(one.verify_signature(&other.sign(&random(), one.der()).unwrap()), bad);
    assert_eq!(one.verify_signature(&root.key.sign(&random(), two.der()).unwrap()), bad);
    assert_eq!(one.verify_signature(&root.key.sign(&random(), one.der()).unwrap()), Ok(()));
    assert!(Signature::from_der(&[0x30, 0x81, 0x00]).is_err() && Signature::from_der(&[0; 200]).is_err());
    assert_eq!(one.digest(), pki::Digest::of(one.der()));
}

#[test]
fn e21_a_key_that_is_not_on_the_list_is_not_certified() {
    let template = Template::new(issuing(&Authority::root("Root")), &full()).unwrap();
    let mut spki = p256().spki().to_vec();
    spki.truncate(40);
    let filled = template.fill(&cn("m"), &names(), &spki, &serial(), one_year(template.issuer()));
    assert!(matches!(filled.err(), Some(IssueError::Key(_))));
}

#[test]
fn an_issuer_is_an_authority_with_a_key_identifier_and_absolute_urls() {
    let (root, key) = (Authority::root("Root"), p256());
    assert_eq!(IssuerCertificate::new(Arc::new(root.idevid("1"))).err(), Some(IssueError::NotAnAuthority));
    let without = Raw::authority("No identifier", &key).into_authority(key, &root);
    assert_eq!(IssuerCertificate::new(without.certificate).err(), Some(IssueError::NoKeyIdentifier));
    for bad in ["", "main.crl", "http://a b/"] {
        let spec = TemplateSpec { ca_issuers_url: Some(bad.into()), ..TemplateSpec::default() };
        assert_eq!(Template::new(issuing(&root), &spec).err(), Some(IssueError::Url), "{bad:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äß+,]{1,40}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// E34: whatever values are filled in, the result is strict DER and contains exactly these values.
    #[test]
    fn e34_every_certificate_passes_its_lint(subject in text(), hosts in 0usize..20, client_auth: bool, urls: bool, days in 1u64..3_000) {
        let root = Authority::root("Root");
        let url = urls.then(|| "http://pki.example.net/x".to_owned());
        let lists = url.as_ref().and_then(|_| crl_url("http://pki.example.net/{shard}.crl"));
        let spec = TemplateSpec { client_auth, basic_constraints: !client_auth, crl_url: lists, ca_issuers_url: url, ocsp_url: None };
        let hosts: Vec<String> = (0..hosts).map(|i| format!("h{i}.example.net")).collect();
        let san = GeneralNames::new(hosts.iter().map(|host| GeneralName::Dns(host))).unwrap();
        let template = Template::new(issuing(&root), &spec).unwrap();
        let period = validity(template.issuer(), at(NOW), Duration::from_secs(days * DAY), HOUR).unwrap();
        let key = p256();
        let to_be_signed = template.fill(&cn(&subject), &san, key.spki(), &serial(), period).unwrap();
        let certificate = to_be_signed.assemble(&root.key.sign(&random(), to_be_signed.der()).unwrap()).unwrap();
        prop_assert_eq!(certificate.to_be_signed(), to_be_signed.der());
        prop_assert_eq!((certificate.san(), certificate.spki(), certificate.validity()), (&san, key.spki(), period));
    }

    /// E18: a name that may not be issued, at any position among names that may.
    #[test]
    fn e18_each_requested_name_is_checked(count in 1usize..20, bad in 0usize..20) {
        let bad = bad % count;
        let template = Template::new(issuing(&Authority::root("Root")), &TemplateSpec::default()).unwrap();
        let san = |spoiled: bool| {
            let mut out = pki::der::Writer::default();
            out.sequence(|out| (0..count).for_each(|i| {
                out.element(pki::der::Tag::context(2), if spoiled && i == bad { b"*.a" } else { b"b.c" });
            }));
            GeneralNames::parse(&out.into_vec()).unwrap()
        };
        let fill = |san: &GeneralNames| template.fill(&cn("m"), san, p256().spki(), &serial(), one_year(template.issuer())).err();
        prop_assert_eq!(fill(&san(true)), Some(IssueError::AlternativeNames(GeneralNamesError::Syntax)));
        prop_assert_eq!(fill(&san(false)), None);
    }
}
