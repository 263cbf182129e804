//! CSR attributes: the examples of the RFCs, both forms of one description, and what is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::csr_attributes::{
    CsrAttributes, CsrAttributesError, CsrAttributesForm, KeyRequirement, LinkingAttribute, OtherAttribute,
    RequiredAttribute, RequiredExtension, SignatureRequirement, UnmetRequirement,
};
use pki::der::{DerError, Tag, Writer, check_strict};
use pki::make::{CsrAdditions, CsrSpec, csr_with};
use pki::{
    Csr, Curve, GeneralName, GeneralNames, Name, NameBuilder, NameError, Oid, SignatureAlgorithm, VerifiedCsr, oid,
};
use proptest::prelude::*;

use crate::common::*;
use crate::openssl::{OpenSsl, assert_contains};

const MAC_ADDRESS: &[u8] = &[0x2b, 6, 1, 1, 1, 1, 22];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
const P521: &[u8] = &[0x06, 5, 0x2b, 0x81, 0x04, 0, 35];
const SHA384: SignatureRequirement<'_> = SignatureRequirement::Supported(SignatureAlgorithm::EcdsaWithSha384);

fn example(name: &str) -> Vec<u8> {
    let text = match name {
        "3.4" => include_str!("../vectors/rfc9908/section-3.4-template.b64"),
        "5.1" => include_str!("../vectors/rfc9908/section-5.1.b64"),
        "5.2" => include_str!("../vectors/rfc9908/section-5.2.b64"),
        "5.3" => include_str!("../vectors/rfc9908/section-5.3.b64"),
        "5.4" => include_str!("../vectors/rfc9908/section-5.4.b64"),
        "5.5" => include_str!("../vectors/rfc9908/section-5.5.b64"),
        "5.6" => include_str!("../vectors/rfc9908/section-5.6.b64"),
        _ => include_str!("../vectors/rfc9908/rfc7030-4.5.2.b64"),
    };
    STANDARD.decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn other(contents: &'static [u8]) -> OtherAttribute<'static> {
    OtherAttribute { id: Oid::from_contents(contents).unwrap(), values: &[] }
}

/// What the examples of RFC 7030 §4.5.2 and RFC 9908 §5.2 ask for, but for the MAC address.
fn linked_p384() -> CsrAttributes<'static> {
    CsrAttributes {
        key: Some(KeyRequirement::Ec(Some(Curve::P384))),
        signature: Some(SHA384),
        linking: Some(LinkingAttribute::ChallengePassword),
        ..CsrAttributes::default()
    }
}

#[test]
fn the_examples_of_rfc_9908_are_read() {
    let der = example("5.1");
    let read = CsrAttributes::parse(&der).unwrap();
    assert_eq!((read.extensions.len(), read.key, read.linking), (1, None, None));
    let extension = read.extensions[0];
    assert!(extension.critical && extension.id == oid::SUBJECT_ALT_NAME);
    assert!(extension.value.unwrap().ends_with(b"+@acp.example.com"));

    let corrected = CsrAttributes { others: vec![other(MAC_ADDRESS)], ..linked_p384() };
    assert_eq!(CsrAttributes::parse(&example("5.2")), Ok(corrected));

    let der = example("5.6");
    let read = CsrAttributes::parse(&der).unwrap();
    assert_eq!(read.key, Some(KeyRequirement::Unsupported { algorithm: oid::EC_PUBLIC_KEY, parameter: Some(P521) }));
    assert!(
        matches!(read.signature, Some(SignatureRequirement::Unsupported(id)) if id.to_string() == "1.2.840.10045.4.3.4")
    );
    assert_eq!(read.subject, [RequiredAttribute { kind: oid::SERIAL_NUMBER, value: None }]);
    let others: Vec<String> = read.others.iter().map(|other| other.id.to_string()).collect();
    assert_eq!(others, ["1.2.840.113549.1.9.20", "0.9.2342.19200300.100.1.5"]);
    assert_eq!(example("5.3"), der, "the RFC prints the same octets twice");

    let size = KeyRequirement::Unsupported { algorithm: oid::RSA_ENCRYPTION, parameter: Some(&[2, 2, 0x10, 0]) };
    assert_eq!(CsrAttributes::parse(&example("5.4")).unwrap().key, Some(size));

    let serial = RequiredAttribute { kind: oid::SERIAL_NUMBER, value: None };
    assert_eq!(CsrAttributes::parse(&example("5.5")), Ok(CsrAttributes { subject: vec![serial], ..linked_p384() }));
}

#[test]
fn the_example_of_a_template_is_read_and_written() {
    let der = example("3.4");
    let read = CsrAttributes::parse(&der).unwrap();
    let unit = |value| RequiredAttribute { kind: oid::ORGANIZATIONAL_UNIT, value: Some(value) };
    let subject = vec![RequiredAttribute { kind: oid::COMMON_NAME, value: None }, unit("myDept"), unit("myGroup")];
    let san = [&[0x30, 0x14, 0x82, 0x10][..], b"www.myServer.com", &[0x87, 0]].concat();
    let wanted = CsrAttributes {
        key: Some(KeyRequirement::Ec(Some(Curve::P256))),
        subject,
        extensions: vec![
            RequiredExtension { id: oid::SUBJECT_ALT_NAME, critical: false, value: Some(&san) },
            RequiredExtension { id: oid::KEY_USAGE, critical: true, value: Some(&[3, 2, 3, 0x88]) },
            RequiredExtension { id: oid::EXTENDED_KEY_USAGE, critical: false, value: None },
        ],
        ..CsrAttributes::default()
    };
    assert_eq!(read, wanted);
    assert_eq!(wanted.encode(CsrAttributesForm::Template).unwrap(), der);
    assert!(CsrAttributes::parse_unstructured(&der).unwrap().is_empty(), "an older client ignores a template");
}

/// RFC 9908 §3.4, octet by octet: a template that asks for extensions alone, each with its value.
#[test]
fn a_template_has_only_the_parts_that_say_something() {
    const USAGE: &[u8] = &[3, 2, 7, 0x80];
    let extension = |value| RequiredExtension { id: oid::KEY_USAGE, critical: true, value };
    let encode = |value| {
        let wanted = CsrAttributes { extensions: vec![extension(value)], ..CsrAttributes::default() };
        let der = wanted.encode(CsrAttributesForm::Template).unwrap();
        assert_eq!(CsrAttributes::parse(&der).unwrap(), wanted);
        hex::encode(der)
    };
    // version; no subject, not even an empty one; no subjectPKInfo; attributes [1].
    let key_usage = "0603551d0f0101ff";
    let full = encode(Some(USAGE));
    // id-ExtensionReq (1.2.840.113549.1.9.14), with one Extensions.
    assert!(full.contains("06092a864886f70d01090e"), "{full}");
    assert!(full.contains("020100a1"), "nothing stands between version and attributes: {full}");
    assert!(full.ends_with("040403020780"), "{full}");
    // Without its value it is id-aa-extensionReqTemplate (1.2.840.113549.1.9.16.2.62) and nothing else.
    let partial = encode(None);
    assert!(partial.contains("060b2a864886f70d010910023e") && !partial.contains("06092a864886f70d01090e"), "{partial}");
    assert!(!full.contains("060b2a864886f70d010910023e"), "{full}");
    assert!(partial.contains("020100a1") && partial.ends_with(key_usage), "{partial}");
}

/// RFC 7030 puts an identifier where an Extensions belongs. Its readers exist, and so may its writers.
#[test]
fn the_example_of_rfc_7030_is_read_and_its_correction_is_written() {
    let mac = RequiredExtension { id: Oid::from_contents(MAC_ADDRESS).unwrap(), critical: false, value: None };
    let original = example("7030");
    let read = CsrAttributes::parse(&original).unwrap();
    assert_eq!(read, CsrAttributes { extensions: vec![mac], ..linked_p384() });

    let corrected = CsrAttributes { others: vec![other(MAC_ADDRESS)], ..linked_p384() };
    let der = corrected.encode(CsrAttributesForm::Unstructured).unwrap();
    // Ours has the signature before the others.
    assert_eq!(der.len(), example("5.2").len());
    assert_eq!(CsrAttributes::parse(&der), Ok(corrected));
}

#[test]
fn the_example_of_rfc_9148_is_read() {
    let der = vector(ATT_RESPONSE);
    let read = CsrAttributes::parse(&der).unwrap();
    assert_eq!((read.linking, read.signature), (Some(LinkingAttribute::ChallengePassword), Some(SHA384)));
    let brainpool = [&[0x06, 9][..], &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 11]].concat();
    let key = KeyRequirement::Unsupported { algorithm: oid::EC_PUBLIC_KEY, parameter: Some(&brainpool) };
    assert_eq!(read.key, Some(key));
    let ids: Vec<String> = read.others.iter().map(|other| other.id.to_string()).collect();
    assert_eq!(ids, ["1.3.6.1.1.1.1.22", "2.999.1", "2.999.2"]);
    assert!(read.others[1].values.ends_with(b"Parse SET as 2.999.1 data"));
    assert_eq!(read.encode(CsrAttributesForm::Both), Err(CsrAttributesError::Key), "we do not have that curve");
}

#[test]
fn nothing_to_say_is_an_empty_sequence() {
    let nothing = CsrAttributes::default();
    for form in [CsrAttributesForm::Unstructured, CsrAttributesForm::Template, CsrAttributesForm::Both] {
        assert_eq!(nothing.encode(form).as_deref(), Ok(&[0x30, 0][..]));
    }
    assert!(CsrAttributes::parse(&[0x30, 0]).unwrap().is_empty());
}

/// The template has no place for a signature algorithm. One that said nothing would hide it from new clients.
#[test]
fn a_signature_algorithm_alone_needs_no_template() {
    let signature = CsrAttributes { signature: Some(SHA384), ..CsrAttributes::default() };
    let der = signature.encode(CsrAttributesForm::Both).unwrap();
    assert_eq!(CsrAttributes::parse(&der), Ok(signature));
}

fn entry(id: Oid<'_>, values: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.oid(id);
        out.element(Tag::SET, values);
    });
    out.into_vec()
}

fn list(entries: &[&[u8]]) -> Vec<u8> {
    let mut out = Writer::default();
    out.element(Tag::SEQUENCE, &entries.concat());
    out.into_vec()
}

/// A list with one template: version, then `fields`, then `attributes [1]`.
fn template(version: u8, fields: &[u8], attributes: &[&[u8]]) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.unsigned(&[version]);
        out.raw(fields);
        out.element(Tag::context_constructed(1), &attributes.concat());
    });
    list(&[&entry(oid::CSR_TEMPLATE, &out.into_vec())])
}

fn refusal(der: &[u8]) -> Option<CsrAttributesError> {
    CsrAttributes::parse(der).err()
}

/// RFC 9908 §4: "Clients which understand both MUST use the template only, and ignore all other CSRattrs elements."
#[test]
fn beside_a_template_nothing_else_counts() {
    let inner = template(0, &[], &[&entry(oid::CHALLENGE_PASSWORD, &[])]);
    let contradiction = entry(oid::EC_PUBLIC_KEY, &[0x06, 5, 0x2b, 0x81, 0x04, 0, 34]);
    let der = list(&[&contradiction, &inner[2..], &[0x06, 3, 0x55, 4, 5]]);
    let linked = CsrAttributes { linking: Some(LinkingAttribute::ChallengePassword), ..CsrAttributes::default() };
    assert_eq!(CsrAttributes::parse(&der), Ok(linked));
    let old = CsrAttributes::parse_unstructured(&der).unwrap();
    assert_eq!((old.key, old.subject.len()), (Some(KeyRequirement::Ec(Some(Curve::P384))), 1));
    assert_eq!(old.linking, None);
}

#[test]
fn rules_of_the_definitions_are_enforced() {
    let extensions = entry(oid::EXTENSION_REQUEST, &[0x30, 0x0b, 0x30, 9, 6, 3, 0x55, 0x1d, 15, 4, 2, 5, 0]);
    let partial = entry(oid::EXTENSION_REQUEST_TEMPLATE, &[0x30, 7, 0x30, 5, 6, 3, 0x55, 0x1d, 37]);
    let without_value = entry(oid::EXTENSION_REQUEST, &[0x30, 7, 0x30, 5, 6, 3, 0x55, 0x1d, 37]);
    let twice = entry(
        oid::EXTENSION_REQUEST_TEMPLATE,
        &[0x30, 14, 0x30, 5, 6, 3, 0x55, 0x1d, 37, 0x30, 5, 6, 3, 0x55, 0x1d, 37],
    );
    let false_encoded = entry(oid::EXTENSION_REQUEST_TEMPLATE, &[0x30, 10, 0x30, 8, 6, 3, 0x55, 0x1d, 37, 1, 1, 0]);
    let one = template(0, &[], &[]);
    let ec_with_point = [0xa0, 14, 0x30, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 3, 1, 0];
    let (empty_rdn, number) = ([0x30, 2, 0x31, 0], [0x30, 12, 0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 2, 1, 7]);
    for (der, error) in [
        (list(&[&extensions, &extensions]), CsrAttributesError::Extensions),
        (list(&[&entry(oid::EXTENSION_REQUEST, &[])]), CsrAttributesError::Extensions),
        (list(&[&entry(oid::EXTENSION_REQUEST, &[0x30, 0])]), CsrAttributesError::Extensions),
        (list(&[&without_value]), CsrAttributesError::Extension),
        (template(0, &[], &[&extensions, &partial]), CsrAttributesError::Extensions),
        (template(0, &[], &[&partial, &partial]), CsrAttributesError::Extensions),
        (template(0, &[], &[&without_value]), CsrAttributesError::Extension),
        (template(0, &[], &[&twice]), CsrAttributesError::RepeatedExtension),
        (template(0, &[], &[&false_encoded]), CsrAttributesError::Der(DerError::EncodedDefault)),
        (template(1, &[], &[]), CsrAttributesError::Version),
        (template(0, &ec_with_point, &[]), CsrAttributesError::Key),
        (template(0, &empty_rdn, &[]), CsrAttributesError::Subject(NameError::EmptyRelativeName)),
        (template(0, &number, &[]), CsrAttributesError::Subject(NameError::Text)),
        (list(&[&one[2..], &one[2..]]), CsrAttributesError::Template),
        (list(&[&entry(oid::CSR_TEMPLATE, &[])]), CsrAttributesError::Template),
        (list(&[&entry(oid::EC_PUBLIC_KEY, &[2, 1, 7])]), CsrAttributesError::Key),
        (list(&[&[5, 0]]), CsrAttributesError::Item),
        (list(&[&[6, 3, 0x55, 4, 3][..]; 65]), CsrAttributesError::TooManyItems),
        (list(&[&[6, 3, 0x55, 4, 3][..]; 33]), CsrAttributesError::Subject(NameError::TooManyAttributes)),
        (vec![0x30, 0x80, 0, 0], CsrAttributesError::Der(DerError::Indefinite)),
        ([&list(&[])[..], &[0]].concat(), CsrAttributesError::Der(DerError::Trailing)),
    ] {
        assert_eq!(refusal(&der), Some(error), "{der:02x?}");
    }
    let huge = entry(oid::CMC_RA, &[&[4, 0x82, 0x10, 0][..], &[0; 4_096]].concat());
    assert_eq!(refusal(&list(&[&huge])), Some(CsrAttributesError::Der(DerError::TooLarge)));
}

#[test]
fn what_cannot_be_written_is_refused_before_a_client_sees_it() {
    let subject = |kind, value| CsrAttributes {
        subject: vec![RequiredAttribute { kind, value: Some(value) }],
        ..CsrAttributes::default()
    };
    let refuses = |attributes: &CsrAttributes<'_>| attributes.encode(CsrAttributesForm::Both).err();
    assert_eq!(refuses(&subject(oid::SERIAL_NUMBER, "ä")), Some(CsrAttributesError::Subject(NameError::Text)));
    assert_eq!(refuses(&subject(oid::COMMON_NAME, "")), Some(CsrAttributesError::Subject(NameError::Text)));
    let extension = RequiredExtension { id: oid::KEY_USAGE, critical: false, value: None };
    let twice = CsrAttributes { extensions: vec![extension; 2], ..CsrAttributes::default() };
    assert_eq!(refuses(&twice), Some(CsrAttributesError::RepeatedExtension));
    let reserved = CsrAttributes {
        others: vec![OtherAttribute { id: oid::CHALLENGE_PASSWORD, values: &[] }],
        ..CsrAttributes::default()
    };
    assert_eq!(refuses(&reserved), Some(CsrAttributesError::Other));
}

fn requirements() -> impl Strategy<Value = CsrAttributes<'static>> {
    let curve = prop::option::of(prop::sample::select(vec![Curve::P256, Curve::P384]));
    let key = prop::option::of(curve.prop_map(KeyRequirement::Ec));
    let hash = vec![SignatureAlgorithm::EcdsaWithSha256, SignatureAlgorithm::EcdsaWithSha384];
    let signature = prop::option::of(prop::sample::select(hash).prop_map(SignatureRequirement::Supported));
    let kinds = vec![oid::COMMON_NAME, oid::SERIAL_NUMBER, oid::ORGANIZATIONAL_UNIT, oid::DOMAIN_COMPONENT];
    let value = prop::option::of(prop::sample::select(vec!["7", "meter 7", "EnBW", "a.b"]));
    let subject = (prop::sample::select(kinds), value).prop_map(|(kind, value)| RequiredAttribute { kind, value });
    let ids = vec![
        oid::KEY_USAGE,
        oid::EXTENDED_KEY_USAGE,
        oid::SUBJECT_ALT_NAME,
        oid::BASIC_CONSTRAINTS,
        oid::AUTHORITY_INFO_ACCESS,
    ];
    let value = prop::option::of(prop::sample::select(vec![&[5, 0][..], &[0x30, 0], &[]]));
    let extension = (any::<bool>(), value);
    let extensions = prop::sample::subsequence(ids, 0..=5).prop_flat_map(move |ids| {
        let count = ids.len();
        (Just(ids), prop::collection::vec(extension.clone(), count))
    });
    let linking = vec![LinkingAttribute::ChallengePassword, LinkingAttribute::EstIdentityLinking];
    let values = prop::sample::select(vec![&[][..], &[5, 0], &[2, 1, 1, 2, 1, 2]]);
    let others = (prop::sample::select(vec![MAC_ADDRESS, FRIENDLY_NAME, &[0x2a]]), values)
        .prop_map(|(id, values)| OtherAttribute { id: Oid::from_contents(id).unwrap(), values });
    (
        (key, signature, prop::option::of(prop::sample::select(linking))),
        prop::collection::vec(subject, 0..6),
        extensions,
        prop::collection::vec(others, 0..4),
    )
        .prop_map(|((key, signature, linking), subject, (ids, extensions), others)| {
            let extensions = ids
                .into_iter()
                .zip(extensions)
                .map(|(id, (critical, value))| RequiredExtension { id, critical, value })
                .collect();
            CsrAttributes { key, signature, subject, extensions, linking, others }
        })
}

/// The unstructured form writes extensions with values first, and has no `critical` for those without.
fn as_unstructured(mut wanted: CsrAttributes<'_>) -> CsrAttributes<'_> {
    wanted.extensions.sort_by_key(|extension| extension.value.is_none());
    for extension in wanted.extensions.iter_mut().filter(|extension| extension.value.is_none()) {
        extension.critical = false;
    }
    wanted
}

/// The attributes of a template are a SET OF, which DER sorts; it has no signature algorithm.
fn as_template(mut wanted: CsrAttributes<'_>) -> CsrAttributes<'_> {
    wanted.others.sort_by_key(|other| entry(other.id, other.values));
    CsrAttributes { signature: None, ..wanted }
}

proptest! {
    #[test]
    fn both_forms_say_the_same(wanted in requirements()) {
        let both = wanted.encode(CsrAttributesForm::Both).unwrap();
        prop_assert_eq!(check_strict(&both), Ok(()));
        prop_assert_eq!(CsrAttributes::parse_unstructured(&both), Ok(as_unstructured(wanted.clone())));
        let old = wanted.encode(CsrAttributesForm::Unstructured).unwrap();
        prop_assert_eq!(CsrAttributes::parse(&old), Ok(as_unstructured(wanted.clone())));
        let new = wanted.encode(CsrAttributesForm::Template).unwrap();
        prop_assert_eq!(CsrAttributes::parse(&new), Ok(as_template(wanted.clone())));
        let nothing_but_signature = CsrAttributes { signature: None, ..wanted.clone() }.is_empty();
        if !nothing_but_signature {
            prop_assert_eq!(CsrAttributes::parse(&both), Ok(as_template(wanted)));
        }
        pki::fuzz::csr_attributes(&both);
    }

    #[test]
    fn changed_examples_are_survived(name in prop::sample::select(vec!["3.4", "5.1", "5.2", "5.4", "5.6", "7030"]), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut der = example(name);
        let at = at.index(der.len());
        der[at] = octet;
        pki::fuzz::csr_attributes(&der);
    }
}

#[test]
fn openssl_reads_both_forms() {
    let wanted = CsrAttributes {
        subject: vec![RequiredAttribute { kind: oid::SERIAL_NUMBER, value: Some("7") }],
        extensions: vec![RequiredExtension { id: oid::SUBJECT_ALT_NAME, critical: true, value: None }],
        ..linked_p384()
    };
    let openssl = OpenSsl::new();
    openssl.write("attributes.der", wanted.encode(CsrAttributesForm::Both).unwrap());
    let shown = openssl.run("asn1parse -inform DER -in attributes.der");
    let parts = ["challengePassword", "id-ecPublicKey", "secp384r1", "serialNumber", "X509v3 Subject Alternative Name"];
    assert_contains(&shown, &parts);
    assert_contains(&shown, &["ecdsa-with-SHA384", ":7", "1.2.840.113549.1.9.16.2.61", "1.2.840.113549.1.9.16.2.62"]);
}

fn request(subject: &Name, san: &GeneralNames, additions: &CsrAdditions<'_>) -> VerifiedCsr {
    let spec = CsrSpec { subject, san, challenge_password: None };
    Csr::parse(csr_with(&spec, additions, &p256(), &random()).unwrap()).unwrap().verify().unwrap()
}

#[test]
fn a_request_is_compared_with_what_was_asked_for() {
    let names = GeneralNames::new([GeneralName::Dns("meter.example")]).unwrap();
    let subject = NameBuilder::new().push(oid::ORGANIZATION, "EnBW").unwrap().push(oid::SERIAL_NUMBER, "7").unwrap();
    let usage = [(oid::KEY_USAGE, true, DIGITAL_SIGNATURE)];
    let mac = Oid::from_contents(MAC_ADDRESS).unwrap();
    let additions = CsrAdditions { extensions: &usage, attributes: &[(mac, &[4, 1, 7])], ..CsrAdditions::default() };
    let request = request(&subject.finish().unwrap(), &names, &additions);
    let nothing = CsrAttributes::default;
    let attribute = |kind, value| CsrAttributes { subject: vec![RequiredAttribute { kind, value }], ..nothing() };
    let extension = |id, critical, value| CsrAttributes {
        extensions: vec![RequiredExtension { id, critical, value }],
        ..nothing()
    };
    let wants_mac = |values| CsrAttributes { others: vec![OtherAttribute { id: mac, values }], ..nothing() };
    let form = [&[0x30, 0x11, 0x82, 0x0d][..], b"meter.example", &[0x87, 0]].concat();
    for met in [
        nothing(),
        CsrAttributes { key: Some(KeyRequirement::Ec(None)), ..nothing() },
        CsrAttributes { key: Some(KeyRequirement::Ec(Some(Curve::P256))), ..nothing() },
        attribute(oid::SERIAL_NUMBER, None),
        attribute(oid::ORGANIZATION, Some("EnBW")),
        extension(oid::SUBJECT_ALT_NAME, false, None),
        extension(oid::SUBJECT_ALT_NAME, false, Some(&form)),
        extension(oid::KEY_USAGE, true, Some(DIGITAL_SIGNATURE)),
        wants_mac(&[]),
        wants_mac(&[4, 1, 7]),
    ] {
        assert_eq!(met.unmet_by(&request), None, "{met:?}");
    }
    for (unmet, lacks) in [
        (CsrAttributes { key: Some(KeyRequirement::Ec(Some(Curve::P384))), ..nothing() }, UnmetRequirement::Key),
        (CsrAttributes { signature: Some(SHA384), ..nothing() }, UnmetRequirement::Signature),
        (attribute(oid::COMMON_NAME, None), UnmetRequirement::Subject(oid::COMMON_NAME)),
        (attribute(oid::SERIAL_NUMBER, Some("8")), UnmetRequirement::Subject(oid::SERIAL_NUMBER)),
        (extension(oid::EXTENDED_KEY_USAGE, false, None), UnmetRequirement::Extension(oid::EXTENDED_KEY_USAGE)),
        (extension(oid::KEY_USAGE, false, Some(KEY_AGREEMENT)), UnmetRequirement::Extension(oid::KEY_USAGE)),
        (extension(oid::SUBJECT_ALT_NAME, true, None), UnmetRequirement::Extension(oid::SUBJECT_ALT_NAME)),
        (wants_mac(&[4, 1, 8]), UnmetRequirement::Other(mac)),
    ] {
        assert_eq!(unmet.unmet_by(&request), Some(lacks), "{unmet:?}");
    }
}
