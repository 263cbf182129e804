//! Revocation lists against three other implementations: OpenSSL and webpki judge certificates by them, x509-parser reads them.
#![allow(clippy::disallowed_methods, reason = "files are how the program openssl gets its input")]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pki::der::{Reader, Tag};
use pki::issue::crl::{
    Crl, CrlBuilder, CrlEntry, CrlError, CrlScope, CrlShards, CrlSpec, CrlToBeSigned, CrlUrl, shard_of,
};
use pki::issue::{IssuerCertificate, NodePrefix, RevocationReason, Serial, Template, TemplateSpec, validity};
use pki::{AlgorithmError, Certificate, Curve, GeneralNames, UnixTime, oid};
use proptest::prelude::*;
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA384};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder,
};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::common::*;
use crate::openssl::{OpenSsl, assert_contains};

const WHOLE: &str = "http://pki.example.net/main.crl";
const SHARDED: &str = "http://pki.example.net/main/{shard}.crl";

fn url(text: &str) -> CrlUrl {
    CrlUrl::new(text, CrlShards::DEFAULT).unwrap()
}

fn issuer(authority: &Authority) -> Arc<IssuerCertificate> {
    Arc::new(IssuerCertificate::new(Arc::clone(&authority.certificate)).unwrap())
}

/// The certificate of a device, with the URL of its list.
fn issued(authority: &Authority, url: &CrlUrl, serial: &Serial) -> Certificate {
    let issuer = issuer(authority);
    let period = validity(&issuer, at(NOW), Duration::from_secs(365 * DAY), Duration::from_secs(3_600)).unwrap();
    let spec = TemplateSpec { client_auth: true, crl_url: Some(url.clone()), ..TemplateSpec::default() };
    let template = Template::new(issuer, &spec).unwrap();
    let to_be_signed = template.fill(&cn("meter"), &GeneralNames::empty(), p256().spki(), serial, period).unwrap();
    to_be_signed.assemble(&authority.key.sign(&random(), to_be_signed.der()).unwrap()).unwrap()
}

fn spec(scope: CrlScope<'_>, number: u64) -> CrlSpec<'_> {
    CrlSpec { scope, number, this_update: at(NOW), next_update: at(NOW + DAY) }
}

fn signed(authority: &Authority, to_be_signed: CrlToBeSigned) -> Crl {
    let signature = authority.key.sign(&random(), to_be_signed.der()).unwrap();
    to_be_signed.verify_signature(&signature).unwrap();
    to_be_signed.assemble(&signature).unwrap()
}

fn list(authority: &Authority, spec: &CrlSpec<'_>, entries: &[CrlEntry]) -> Crl {
    signed(authority, CrlToBeSigned::new(issuer(authority), spec, entries.iter().copied()).unwrap())
}

fn revoked(serial: Serial, reason: RevocationReason) -> CrlEntry {
    CrlEntry { serial, at: at(NOW - 60), reason }
}

/// Serial numbers that belong to this shard.
fn serials_of(index: u32) -> impl Iterator<Item = Serial> {
    let serials = (0u128..).map(|number| Serial::new(NodePrefix::new(7), number.to_be_bytes()));
    serials.filter(move |serial| shard_of(serial, CrlShards::DEFAULT).index() == index)
}

/// A CA below a root, with a revoked and a good certificate in the same list.
struct Case {
    root: Authority,
    issuing: Authority,
    url: CrlUrl,
    bad: Serial,
    good: Serial,
}

impl Case {
    fn new(url_text: &str, curve: Curve) -> Self {
        let root = Authority::root_on("Root", curve);
        let issuing = root.below("Issuing", Some(0));
        let mut serials = serials_of(5);
        let (bad, good) = (serials.next().unwrap(), serials.next().unwrap());
        Self { root, issuing, url: url(url_text), bad, good }
    }

    fn certificate(&self, serial: &Serial) -> Certificate {
        issued(&self.issuing, &self.url, serial)
    }

    fn list(&self) -> Crl {
        let spec = spec(self.url.scope_of(&self.bad), 7);
        list(&self.issuing, &spec, &[revoked(self.bad, RevocationReason::KeyCompromise)])
    }

    /// The list of a shard that has neither certificate.
    fn other_list(&self) -> Crl {
        let other = serials_of(6).next().unwrap();
        list(&self.issuing, &spec(self.url.scope_of(&other), 7), &[revoked(other, RevocationReason::KeyCompromise)])
    }
}

#[test]
fn e35_openssl_refuses_a_revoked_certificate_and_accepts_a_good_one() {
    for (text, curve) in [(WHOLE, Curve::P256), (SHARDED, Curve::P256), (SHARDED, Curve::P384)] {
        let case = Case::new(text, curve);
        let openssl = OpenSsl::new();
        openssl.write_certificate("root.pem", &case.root.certificate);
        openssl.write_certificate("issuing.pem", &case.issuing.certificate);
        openssl.write_certificate("good.pem", &case.certificate(&case.good));
        openssl.write_certificate("bad.pem", &case.certificate(&case.bad));
        openssl.write("own.crl", case.list().to_pem()).write("other.crl", case.other_list().to_pem());
        for extended in ["", "-extended_crl"] {
            let verify = |time: u64, list: &str, device: &str| {
                let output = openssl.output(&format!(
                    "verify -x509_strict -attime {time} -crl_check {extended} -CAfile root.pem -untrusted issuing.pem -CRLfile {list} {device}"
                ));
                (output.status.success(), String::from_utf8(output.stderr).unwrap())
            };
            let (accepted, text) = verify(NOW + 1, "own.crl", "good.pem");
            assert!(accepted, "{text}");
            let (accepted, text) = verify(NOW + 1, "own.crl", "bad.pem");
            assert!(!accepted && text.contains("certificate revoked"), "{text}");
            let (accepted, text) = verify(NOW + DAY + 1, "own.crl", "good.pem");
            assert!(!accepted && text.contains("CRL has expired"), "{text}");
            let (accepted, text) = verify(NOW - 1, "own.crl", "good.pem");
            assert!(!accepted && text.contains("CRL is not yet valid"), "{text}");
            if case.url.shards().is_some() {
                // The distribution point is critical: the list of another shard says nothing about this certificate.
                let (accepted, text) = verify(NOW + 1, "other.crl", "good.pem");
                assert!(!accepted && text.to_lowercase().contains("different crl scope"), "{text}");
            }
        }
    }
}

#[test]
fn e35_openssl_reads_each_field() {
    for (curve, algorithm) in [(Curve::P256, "ecdsa-with-SHA256"), (Curve::P384, "ecdsa-with-SHA384")] {
        let ca = Authority::root_on("Root", curve);
        let openssl = OpenSsl::new();
        openssl.write_certificate("ca.pem", &ca.certificate);
        let [url, whole] = [SHARDED, WHOLE].map(url);
        let entries: Vec<CrlEntry> =
            serials_of(5).zip(RevocationReason::ALL).map(|(serial, reason)| revoked(serial, reason)).collect();
        let shard = list(&ca, &spec(url.scope_of(&entries[0].serial), u64::MAX), &entries);
        openssl.write("shard.crl", shard.to_pem()).write("shard.der", shard.der());
        let text = openssl.run("crl -in shard.crl -noout -text -CAfile ca.pem");
        assert_contains(
            &text,
            &[
                "verify OK",
                "Version 2 (0x1)",
                &format!("Signature Algorithm: {algorithm}"),
                "Issuer: O = Example, CN = Root",
                "Last Update: Jan  1 00:00:00 2026 GMT",
                "Next Update: Jan  2 00:00:00 2026 GMT",
                "X509v3 Authority Key Identifier: \n",
                "X509v3 CRL Number: \n                18446744073709551615\n",
                "X509v3 Issuing Distribution Point: critical\n                Full Name:\n                  URI:http://pki.example.net/main/005.crl\n",
                "Revocation Date: Dec 31 23:59:00 2025 GMT",
                "Key Compromise",
                "CA Compromise",
                "Affiliation Changed",
                "Superseded",
                "Cessation Of Operation",
                "Privilege Withdrawn",
                "AA Compromise",
            ],
        );
        assert_eq!(text.matches("Serial Number: 010007").count(), 8);
        assert_eq!(text.matches("CRL Reason Code").count(), 7, "unspecified is left out\n{text}");
        assert!(!text.contains("Only"), "the list is for all kinds of certificates and all reasons\n{text}");
        // RFC 7468 has lines of 64 characters, as OpenSSL writes them.
        assert_eq!(openssl.run("crl -in shard.crl"), shard.to_pem());
        assert_eq!(openssl.run("crl -inform DER -in shard.der -noout -text"), text.replace("verify OK\n", ""));

        let empty = list(&ca, &spec(whole.scopes().next().unwrap(), 0), &[]);
        openssl.write("empty.crl", empty.to_pem());
        let text = openssl.run("crl -in empty.crl -noout -text -CAfile ca.pem");
        assert_contains(&text, &["verify OK", "No Revoked Certificates.", "X509v3 CRL Number: \n                0\n"]);
        assert!(!text.contains("Distribution Point"), "{text}");
    }
}

/// The lengths of a list are written in front of the entries when these are complete: with two, three and four octets.
#[test]
fn e35_openssl_verifies_long_lists() {
    let ca = Authority::root("Root");
    let openssl = OpenSsl::new();
    openssl.write_certificate("ca.pem", &ca.certificate);
    for count in [1, 2, 3, 200, 2_000, 340_000] {
        let entries = (0..count).map(|number: u128| {
            revoked(Serial::new(NodePrefix::new(7), number.to_be_bytes()), RevocationReason::Superseded)
        });
        let list = signed(&ca, CrlToBeSigned::new(issuer(&ca), &spec(CrlScope::Whole, 1), entries).unwrap());
        assert_eq!(u128::try_from(list.entries()), Ok(count));
        openssl.write("list.der", list.der());
        assert_contains(&openssl.run("crl -inform DER -in list.der -noout -CAfile ca.pem"), &["verify OK"]);
    }
}

#[test]
fn e35_webpki_judges_by_the_list_of_the_shard() {
    for text in [WHOLE, SHARDED] {
        let case = Case::new(text, Curve::P256);
        let der = |certificate: &Certificate| rustls_pki_types::CertificateDer::from(certificate.der().to_vec());
        let root = der(&case.root.certificate);
        let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
        let intermediates = [der(&case.issuing.certificate)];
        let judge = |crl: &Crl, serial: &Serial, time: u64| {
            let list: CertRevocationList<'_> = BorrowedCertRevocationList::from_der(crl.der()).unwrap().into();
            let lists = [&list];
            let options = RevocationOptionsBuilder::new(&lists).unwrap();
            let options = options.with_depth(RevocationCheckDepth::EndEntity);
            let options = options.with_expiration_policy(ExpirationPolicy::Enforce).build();
            let device = der(&case.certificate(serial));
            let device = EndEntityCert::try_from(&device).unwrap();
            let algorithms = [ECDSA_P256_SHA256, ECDSA_P384_SHA384];
            let usage = KeyUsage::client_auth();
            let verified =
                device.verify_for_usage(&algorithms, &anchors, &intermediates, at(time), usage, Some(options), None);
            verified.map(|_| ())
        };
        assert_eq!(judge(&case.list(), &case.good, NOW), Ok(()));
        assert_eq!(judge(&case.list(), &case.bad, NOW), Err(webpki::Error::CertRevoked));
        assert!(matches!(judge(&case.list(), &case.good, NOW + DAY + 1), Err(webpki::Error::CrlExpired { .. })));
        if case.url.shards().is_some() {
            assert_eq!(judge(&case.other_list(), &case.good, NOW), Err(webpki::Error::UnknownRevocationStatus));
        }
    }
}

#[test]
fn e35_the_issuer_and_the_distribution_point_have_the_octets_of_the_certificates() {
    let case = Case::new(SHARDED, Curve::P256);
    let crl = case.list();
    let (_, read) = CertificateRevocationList::from_der(crl.der()).unwrap();
    assert_eq!(read.tbs_cert_list.issuer.as_raw(), case.issuing.certificate.subject().der());
    assert_eq!(read.tbs_cert_list.signature, read.signature_algorithm);

    let certificate = case.certificate(&case.bad);
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
    assert_eq!(certificate.issuer().as_raw(), read.tbs_cert_list.issuer.as_raw());
    let in_certificate =
        certificate.extensions().iter().find(|it| it.oid.as_bytes() == oid::CRL_DISTRIBUTION_POINTS.contents());
    let in_list = read.extensions().iter().find(|it| it.oid.as_bytes() == oid::ISSUING_DISTRIBUTION_POINT.contents());
    let (in_certificate, in_list) = (in_certificate.unwrap(), in_list.unwrap());
    let mut points = Reader::sequence(in_certificate.value).unwrap();
    assert_eq!(points.expect_element(Tag::SEQUENCE).unwrap().whole, in_list.value);
    assert!(points.is_empty() && in_list.critical && !in_certificate.critical);
    let ParsedExtension::IssuingDistributionPoint(point) = in_list.parsed_extension() else { panic!("{in_list:?}") };
    let name = DistributionPointName::FullName(vec![GeneralName::URI("http://pki.example.net/main/005.crl")]);
    assert_eq!(point.distribution_point, Some(name));
    assert!(!point.only_contains_user_certs && !point.only_contains_ca_certs && !point.indirect_crl);
    assert!(!point.only_contains_attribute_certs && point.only_some_reasons.is_none());

    let ParsedExtension::AuthorityKeyIdentifier(key) = read.extensions()[0].parsed_extension() else { panic!("first") };
    assert_eq!(key.key_identifier.as_ref().map(|id| id.0), case.issuing.certificate.subject_key_id());
    assert!(key.authority_cert_issuer.is_none() && key.authority_cert_serial.is_none());
}

#[test]
fn e35_times_are_utc_time_through_2049_and_generalized_time_from_2050() {
    let ca = Authority::root("Root");
    const LAST: u64 = 2_524_607_999;
    let spec = CrlSpec { this_update: at(LAST), next_update: at(LAST + 1), ..spec(CrlScope::Whole, 1) };
    let entries =
        [LAST, LAST + 1].map(|time| CrlEntry { at: at(time), ..revoked(serial(), RevocationReason::Superseded) });
    let crl = list(&ca, &spec, &entries);
    let mut tbs = Reader::sequence(crl.der()).unwrap().nested(Tag::SEQUENCE).unwrap();
    for tag in [Tag::INTEGER, Tag::SEQUENCE, Tag::SEQUENCE] {
        tbs.expect(tag).unwrap();
    }
    assert_eq!(tbs.expect(Tag::UTC_TIME).unwrap(), b"491231235959Z");
    assert_eq!(tbs.expect(Tag::GENERALIZED_TIME).unwrap(), b"20500101000000Z");
    let mut revoked = tbs.nested(Tag::SEQUENCE).unwrap();
    for (tag, text) in [(Tag::UTC_TIME, &b"491231235959Z"[..]), (Tag::GENERALIZED_TIME, b"20500101000000Z")] {
        let mut entry = revoked.nested(Tag::SEQUENCE).unwrap();
        entry.expect(Tag::INTEGER).unwrap();
        assert_eq!(entry.expect(tag).unwrap(), text);
    }
}

#[test]
fn a_list_that_verifiers_would_not_use_is_not_made() {
    let ca = Authority::root("Root");
    let sharded = url(SHARDED);
    let (own, other) = (serials_of(5).next().unwrap(), serials_of(6).next().unwrap());
    let of_shard = spec(sharded.scope_of(&own), 1);
    let mut builder = CrlBuilder::new(issuer(&ca), &of_shard).unwrap();
    builder.push(&revoked(own, RevocationReason::Superseded)).unwrap();
    let refusal = builder.push(&revoked(other, RevocationReason::Superseded));
    assert_eq!(refusal, Err(CrlError::OtherShard(other)));
    assert_eq!(builder.finish().unwrap().entries(), 1, "what was refused is not in the list");

    for next_update in [at(NOW - 1), at(NOW), UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_800))] {
        let spec = CrlSpec { next_update, ..of_shard };
        assert_eq!(CrlBuilder::new(issuer(&ca), &spec).err(), Some(CrlError::Updates));
    }
    let key = p256();
    let certificates_only = Raw::authority("Certificates only", &key)
        .with(oid::SUBJECT_KEY_IDENTIFIER, false, &[0x04, 0x01, 0x07])
        .into_authority(key, &ca);
    assert_eq!(CrlBuilder::new(issuer(&certificates_only), &of_shard).err(), Some(CrlError::NoCrlSign));
    assert!(!issuer(&certificates_only).may_sign_crls() && issuer(&ca).may_sign_crls());
}

#[test]
fn e33_a_signature_of_another_key_over_a_list_is_found() {
    let (ca, other) = (Authority::root("Root"), p256());
    let make = |number| CrlToBeSigned::new(issuer(&ca), &spec(CrlScope::Whole, number), []).unwrap();
    let (one, two) = (make(1), make(2));
    let bad = Err(CrlError::Signature(AlgorithmError::BadSignature));
    assert_eq!(one.verify_signature(&other.sign(&random(), one.der()).unwrap()), bad);
    assert_eq!(one.verify_signature(&ca.key.sign(&random(), two.der()).unwrap()), bad);
    assert_eq!(one.verify_signature(&ca.key.sign(&random(), one.der()).unwrap()), Ok(()));
    assert_eq!(one.digest(), pki::Digest::of(one.der()));
}

/// The entries exist once, as DER in the buffer that becomes the list.
#[test]
fn a_list_holds_no_second_copy_of_its_entries() {
    const ENTRIES: u32 = 20_000;
    let ca = Authority::root("Root");
    let (issuer, random) = (issuer(&ca), random());
    let spec = spec(CrlScope::Whole, 1);
    let entries = (0..ENTRIES).map(|number| {
        revoked(Serial::new(NodePrefix::new(7), u128::from(number).to_be_bytes()), RevocationReason::Superseded)
    });
    let mut crl = None;
    let counted = measure(|| {
        let to_be_signed = CrlToBeSigned::new(Arc::clone(&issuer), &spec, entries).unwrap();
        let signature = ca.key.sign(&random, to_be_signed.der()).unwrap();
        crl = Some(to_be_signed.assemble(&signature).unwrap());
    });
    let size = u64::try_from(crl.unwrap().der().len()).unwrap();
    assert!(counted.bytes_max < size + size / 8, "{} bytes for a list of {size}", counted.bytes_max);
    assert!(counted.count_total < 32, "{} allocations", counted.count_total);
}

fn entry() -> impl Strategy<Value = CrlEntry> {
    let reason = prop::sample::select(RevocationReason::ALL.to_vec());
    (any::<u16>(), any::<[u8; 16]>(), 0u64..253_402_300_800, reason).prop_map(|(node, random, time, reason)| CrlEntry {
        serial: Serial::new(NodePrefix::new(node), random),
        at: at(time),
        reason,
    })
}

/// The entries that another implementation reads.
fn read_back(crl: &CertificateRevocationList<'_>) -> Vec<CrlEntry> {
    let read = crl.iter_revoked_certificates().map(|revoked| CrlEntry {
        serial: Serial::from_bytes(revoked.raw_serial()).unwrap(),
        at: at(u64::try_from(revoked.revocation_date.timestamp()).unwrap()),
        reason: revoked.reason_code().map_or(RevocationReason::Unspecified, |(critical, reason)| {
            assert!(!critical && reason.0 != 0);
            RevocationReason::from_code(reason.0).unwrap()
        }),
    });
    read.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// E35: whatever is revoked, each list has what belongs to it in the order given, and its number is larger than the one before.
    #[test]
    fn e35_what_is_revoked_is_read_back(
        entries in prop::collection::vec(entry(), 0..40),
        shards in 1u32..6,
        first: u32,
        growth in prop::collection::vec(1u64..u64::from(u32::MAX), 1..4),
        this_update in 0u64..253_402_000_000,
    ) {
        let ca = Authority::root("Root");
        let sharded = CrlUrl::new(SHARDED, CrlShards::new(shards).unwrap()).unwrap();
        let whole = url(WHOLE);
        for url in [&sharded, &whole] {
            let mut found = Vec::new();
            for scope in url.scopes() {
                let mut number = u64::from(first);
                let mut last = None;
                for step in &growth {
                    number += step;
                    let spec = CrlSpec { scope, number, this_update: at(this_update), next_update: at(this_update + 600) };
                    let own: Vec<CrlEntry> = entries.iter().filter(|it| url.scope_of(&it.serial) == scope).copied().collect();
                    let crl = list(&ca, &spec, &own);
                    let (rest, read) = CertificateRevocationList::from_der(crl.der()).unwrap();
                    prop_assert!(rest.is_empty());
                    prop_assert_eq!(read_back(&read), own);
                    let read_number = read.crl_number().unwrap().clone();
                    prop_assert_eq!(&read_number, &number.into());
                    prop_assert!(last.is_none_or(|last| last < read_number));
                    last = Some(read_number);
                    prop_assert_eq!(read.last_update().timestamp(), i64::try_from(this_update).unwrap());
                    prop_assert_eq!(read.next_update().unwrap().timestamp(), i64::try_from(this_update + 600).unwrap());
                    prop_assert_eq!(read.version().map(|version| version.0), Some(1));
                    if last.is_some() && number - u64::from(first) == growth.iter().sum::<u64>() {
                        found.extend(read_back(&read));
                    }
                }
            }
            let by_octets = |it: &CrlEntry| *it.serial.as_bytes();
            let mut all = entries.clone();
            all.sort_by_key(by_octets);
            found.sort_by_key(by_octets);
            prop_assert_eq!(found, all, "every entry is in exactly one list");
        }
    }
}
