//! Certificates and chains: their fields, and what a server of Muster makes of them.
//!
//! It judges encodings and what one certificate says. Whether a chain leads to a manufacturer of a profile is judged by `--against`.

use std::sync::Arc;

use dtls::{CertificateFault, VerifyPeer as _};
use est::{CertificateCache, NameAuthorities, PeerVerifier, Reason};
use pki::chain::{Listed, PassedOver};
use pki::der::{DerError, Reader, Tag};
use pki::{
    Certificate, ExtendedKeyUsage, GeneralName, GeneralNames, KeyUsage, Name, Oid, SignatureAlgorithm, UnixTime, oid,
};

use super::inspection::Inspection;
use crate::describe::rfc3339;

/// What to do about an encoding that only a lenient profile accepts.
pub(super) const AS_ISSUED: &str = "reissue it in strict DER; for burnt-in identities that nobody can replace, set `identity_encoding = \"as_issued\"` in the profile";

/// The certificates of a file or message, in order. In a chain each is followed by its issuer.
pub(super) fn chain<D: AsRef<[u8]>>(certificates: &[D], utc: UnixTime) -> Vec<Inspection> {
    listed(certificates, ListKind::Chain, utc)
}

/// The certificates of a certs-only message: in an answer to `/crts` they have no order, and "what can be used is used" (E66).
pub(super) fn bag<D: AsRef<[u8]>>(certificates: &[D], utc: UnixTime) -> Vec<Inspection> {
    let is_any_usable = certificates.iter().any(|der| Certificate::parse(der.as_ref()).is_ok());
    listed(certificates, if is_any_usable { ListKind::Bag } else { ListKind::Chain }, utc)
}

/// What a certificate that cannot be used costs the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ListKind {
    /// The first one decides, and the others are needed.
    Chain,
    /// Nothing.
    Bag,
}

fn listed<D: AsRef<[u8]>>(certificates: &[D], kind: ListKind, utc: UnixTime) -> Vec<Inspection> {
    let read: Vec<_> = certificates.iter().map(|der| lenient(der.as_ref())).collect();
    let shown = certificates.iter().enumerate().map(|(index, der)| {
        let shown = one(der.as_ref(), (index, kind), utc);
        match &read[index] {
            Ok(certificate) => issuer(shown, certificate, index, &read),
            Err(_) => shown,
        }
    });
    shown.collect()
}

fn lenient(der: &[u8]) -> Result<Certificate, pki::CertificateError> {
    Certificate::parse_as(der, pki::Encoding::AsIssued)
}

/// One certificate and its place, from 0.
fn one(der: &[u8], (index, kind): (usize, ListKind), utc: UnixTime) -> Inspection {
    let shown = Inspection::new(format!("certificate {}", index + 1));
    match (Certificate::parse(der), lenient(der)) {
        (Ok(certificate), _) => remarks(fields(shown, &certificate), &certificate, index, utc),
        (Err(error), Ok(certificate)) if kind == ListKind::Bag => {
            let shown = fields(shown, &certificate).noted(error.to_string(), None, Some(PASSED_OVER));
            remarks(shown, &certificate, index, utc)
        }
        (Err(error), Ok(certificate)) => {
            let shown = fields(shown, &certificate).refused(error.to_string(), refusal(der), AS_ISSUED);
            remarks(shown, &certificate, index, utc)
        }
        (Err(error), Err(_)) if kind == ListKind::Bag => passed_over(shown, der, &error),
        (Err(error), Err(_)) => unreadable(shown, der, index, &error),
    }
}

/// What becomes of an authority that a device cannot use.
const PASSED_OVER: &str =
    "a device passes it over and uses the others: no change is needed, unless the path of the server leads to this one";

/// A certificate of a message whose other certificates can be used.
fn passed_over(shown: Inspection, der: &[u8], error: &pki::CertificateError) -> Inspection {
    named(shown, der).noted(error.to_string(), None, Some(PASSED_OVER))
}

/// What can be said about a certificate that cannot be read.
fn named(shown: Inspection, der: &[u8]) -> Inspection {
    let subject = Listed::readable(&[der], pki::Encoding::AsIssued).err();
    let subject =
        subject.and_then(|listed| listed.passed_over.into_iter().next()).and_then(|it: PassedOver| it.subject);
    shown
        .field_if("subject", subject.map(|subject| subject.to_string()))
        .field("bytes", der.len())
        .field("sha256", pki::Digest::of(der).to_string())
}

/// A certificate that no profile accepts. A peer may send it beside its own, as long as no path needs it.
fn unreadable(shown: Inspection, der: &[u8], index: usize, error: &pki::CertificateError) -> Inspection {
    let shown = named(shown, der);
    let reason = refusal(der);
    if index == 0 {
        let remedy = reason.map_or("reissue it", |reason| reason.entry().device);
        return shown.refused(error.to_string(), reason, remedy);
    }
    shown.noted(
        format!("{error}; a server ignores this certificate, and refuses the chain if the path needs it"),
        reason,
        Some("if it is a root, leave it out of what the device sends; if it is an intermediate, have it reissued"),
    )
}

/// The reason with which a handshake ends at a leaf that cannot be read; `None` if it can.
fn refusal(der: &[u8]) -> Option<Reason> {
    let nobody = PeerVerifier::new([], Arc::new(CertificateCache::new(1)), NameAuthorities::LeaveEmpty).ok()?;
    let refused = nobody.collect(&[der], UnixTime::now()).err()?;
    (refused.fault != CertificateFault::UnknownIssuer).then(|| Reason::from(refused.fault))
}

fn fields(shown: Inspection, certificate: &Certificate) -> Inspection {
    let validity = certificate.validity();
    let authority = certificate.is_ca().then(|| match certificate.path_len() {
        Some(length) => format!("CA, pathLenConstraint {length}"),
        None => "CA".to_owned(),
    });
    shown
        .field("subject", certificate.subject().to_string())
        .field("issuer", certificate.issuer().to_string())
        .field("serialNumber", hex::encode(certificate.serial()))
        .field("notBefore", rfc3339(validity.not_before))
        .field("notAfter", rfc3339(validity.not_after))
        .field("publicKey", public_key(&certificate.public_key()))
        .field("signatureAlgorithm", certificate.signature_algorithm_name())
        .field_if("basicConstraints", authority)
        .field_if("keyUsage", certificate.key_usage().map(key_usage))
        .field_if("extKeyUsage", certificate.extended_key_usage().map(extended_key_usage))
        .field_if("subjectAltName", Some(general_names(certificate.san())).filter(|names| !names.is_empty()))
        .field_if("subjectKeyIdentifier", certificate.subject_key_id().map(hex::encode))
        .field_if("authorityKeyIdentifier", certificate.authority_key_id().map(hex::encode))
        .field("sha256", certificate.digest().to_string())
        .field("bytes", certificate.der().len())
}

fn remarks(mut shown: Inspection, certificate: &Certificate, index: usize, utc: UnixTime) -> Inspection {
    let validity = certificate.validity();
    if utc > validity.not_after {
        shown = shown.noted(
            "notAfter has passed",
            Some(Reason::from(CertificateFault::Expired)),
            Some("renew it; a profile with `allow_expired_identity = true` accepts a factory certificate all the same"),
        );
    } else if utc < validity.not_before {
        let reason = Some(Reason::from(CertificateFault::NotYetValid));
        shown =
            shown.noted("notBefore has not come", reason, Some("check the clocks of the factory and of this machine"));
    }
    let purposes = certificate.extended_key_usage();
    if certificate.is_ca() {
        if purposes.is_some_and(|it| !it.client_auth && !it.any) {
            shown = shown.refused(
                "extKeyUsage of this CA does not contain clientAuth: it limits every certificate below, also one that has clientAuth itself",
                Some(Reason::from(CertificateFault::ExtendedKeyUsage)),
                "have the CA's certificate reissued without extKeyUsage or with clientAuth, or list this CA as a manufacturer of the profile: an anchor's extKeyUsage is not judged",
            );
        }
    } else if purposes.is_none() && index == 0 && names_a_server(certificate) {
        shown = shown.noted(
            "no extKeyUsage, although it names a host: devices accept it as a server's under a configured name only",
            None,
            Some("a server's certificate has extKeyUsage serverAuth (RFC 5280 §4.2.1.12)"),
        );
    }
    if certificate.subject().is_empty() {
        let rule = if certificate.san().hardware_module().is_some() { "idevid:san.hardwareModuleName" } else { "" };
        shown = shown.noted(
            "empty subject: a profile that reads the device from the subject finds none",
            Reason::from_code("est.client.no_device_id"),
            Some(if rule.is_empty() {
                "use a certificate with a subject"
            } else {
                "set `device_id = \"idevid:san.hardwareModuleName\"` in the profile"
            }),
        );
    }
    shown = hash_of_curve(shown, certificate);
    shown = name_strings(shown, certificate);
    serial(shown, certificate.serial())
}

/// RFC 5758 §3.2 allows each hash with each curve; some stacks know only the pairs of one strength. A signature under a P-256 key has at most 72
/// octets (two INTEGERs of 33 octets), one under a P-384 key nearly always more.
fn hash_of_curve(shown: Inspection, certificate: &Certificate) -> Inspection {
    const P256_SIGNATURE_MAX: usize = 72;
    let is_sha256 = certificate.signature_algorithm() == Some(SignatureAlgorithm::EcdsaWithSha256);
    if !is_sha256 || certificate.signature().len() <= P256_SIGNATURE_MAX {
        return shown;
    }
    shown.noted("the CA's P-384 key signed it with SHA-256, which Muster accepts", None, Some(OTHER_HASH))
}

/// What to do about a P-384 key that signs with SHA-256.
pub(super) const OTHER_HASH: &str =
    "no change is needed; for stacks that know P-384 with SHA-384 only, sign with SHA-384 (`openssl req -sha384`)";

/// Whether the issuer's name has PrintableString where the subject has UTF8String: a CA whose own certificate has the other kind is not found by
/// stacks that compare octets.
fn name_strings(shown: Inspection, certificate: &Certificate) -> Inspection {
    let (issuer, subject) = (certificate.issuer(), certificate.subject());
    let is_self_issued = issuer.matches(subject);
    if is_self_issued || !has_text(issuer, Tag::PRINTABLE_STRING) || !has_text(subject, Tag::UTF8_STRING) {
        return shown;
    }
    shown.noted(
        "the issuer's name is in PrintableString: if the CA's own subject is in UTF8String, the two differ in their octets",
        None,
        Some("Muster compares names as RFC 5280 §7.1 says: no change is needed; other stacks report an unknown issuer"),
    )
}

/// Whether an attribute that may be any DirectoryString is of this kind.
fn has_text(name: &Name, tag: Tag) -> bool {
    const FREE: [Oid<'static>; 3] = [oid::COMMON_NAME, oid::ORGANIZATION, oid::ORGANIZATIONAL_UNIT];
    let walk = || {
        let mut rdns = Reader::sequence(name.der())?;
        while !rdns.is_empty() {
            let mut rdn = rdns.nested(Tag::SET)?;
            while !rdn.is_empty() {
                let mut attribute = rdn.nested(Tag::SEQUENCE)?;
                if FREE.contains(&attribute.oid()?) && attribute.element()?.tag == tag {
                    return Ok(true);
                }
            }
        }
        Ok::<_, DerError>(false)
    };
    walk().unwrap_or(false)
}

/// Whether a certificate may be a server's, by its names.
fn names_a_server(certificate: &Certificate) -> bool {
    certificate.san().iter().any(|name| matches!(name, GeneralName::Dns(_) | GeneralName::Ip(_)))
}

/// Serial numbers that other tools reject.
fn serial(shown: Inspection, serial: &[u8]) -> Inspection {
    let what = match serial {
        [0] => "serialNumber is zero",
        [first, ..] if first & 0x80 != 0 => "serialNumber is negative",
        long if long.len() > 20 => "serialNumber is longer than 20 octets",
        _ => return shown,
    };
    let text = format!("{what} (RFC 5280 §4.1.2.2); Muster accepts that in certificates of others");
    shown.noted(
        text,
        None,
        Some("have the factory draw positive serial numbers of at most 20 octets: other servers refuse it"),
    )
}

/// Whether the next certificate issued this one.
fn issuer(
    shown: Inspection,
    certificate: &Certificate,
    index: usize,
    read: &[Result<Certificate, pki::CertificateError>],
) -> Inspection {
    if certificate.subject().matches(certificate.issuer()) {
        return shown;
    }
    let above = read.iter().enumerate().filter_map(|(at, other)| Some((at, other.as_ref().ok()?)));
    let mut named = above.filter(|(at, other)| *at != index && certificate.issuer().matches(other.subject()));
    let Some((at, authority)) = named.next() else { return shown };
    let mut shown = shown;
    if certificate.issuer().der() != authority.subject().der() {
        shown = shown.noted(
            format!("the issuer's name and the subject of certificate {} are encoded differently (such as PrintableString and UTF8String)", at + 1),
            None,
            Some("Muster compares them as RFC 5280 §7.1 says: no change is needed; other stacks report an unknown issuer"),
        );
    }
    match certificate.verify_signed_by(authority) {
        Ok(()) => shown.field("issuedBy", format!("certificate {}", at + 1)),
        Err(error) => shown.refused(
            format!("certificate {} has the issuer's name and did not sign it: {error}", at + 1),
            Some(Reason::from(CertificateFault::BadSignature)),
            "use the certificate of the CA that issued it",
        ),
    }
}

/// Curve and point.
pub(super) fn public_key(key: &pki::PublicKey<'_>) -> String {
    format!("{} {}", key.curve(), hex::encode(key.point()))
}

pub(super) fn key_usage(usage: KeyUsage) -> Vec<String> {
    let known = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
    ];
    let named: Vec<_> = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect();
    if named.is_empty() { vec!["others".to_owned()] } else { named }
}

pub(super) fn extended_key_usage(usage: ExtendedKeyUsage) -> Vec<String> {
    let known = [
        (usage.client_auth, "clientAuth"),
        (usage.server_auth, "serverAuth"),
        (usage.any, "anyExtendedKeyUsage"),
        (usage.ocsp_signing, "OCSPSigning"),
        (usage.cmc_ra, "cmcRA"),
        (usage.others, "others"),
    ];
    known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect()
}

/// The names with the kinds of RFC 5280 §4.2.1.6.
pub(super) fn general_names(names: &GeneralNames) -> Vec<String> {
    names.iter().map(|name| general_name(&name)).collect()
}

fn general_name(name: &GeneralName<'_>) -> String {
    if let Some(module) = name.hardware_module() {
        let serial = match std::str::from_utf8(module.serial) {
            Ok(text) if text.chars().all(pki::shows) => text.to_owned(),
            _ => hex::encode(module.serial),
        };
        return format!("hardwareModuleName={}:{serial}", module.kind);
    }
    match name {
        GeneralName::Dns(name) => format!("dNSName={name}"),
        GeneralName::Ip(address) => format!("iPAddress={address}"),
        GeneralName::Uri(uri) => format!("uniformResourceIdentifier={uri}"),
        GeneralName::Email(address) => format!("rfc822Name={address}"),
        GeneralName::Directory(der) => match Name::parse(der) {
            Ok(name) => format!("directoryName={name}"),
            Err(error) => format!("directoryName={} ({error})", hex::encode(der)),
        },
        GeneralName::RegisteredId(id) => format!("registeredID={id}"),
        GeneralName::Other { type_id, value } => format!("otherName={type_id}:{}", hex::encode(value)),
    }
}

/// Name of an attribute or its identifier.
pub(super) fn attribute_name(kind: Oid<'_>) -> String {
    oid::attribute_name(kind).map_or_else(|| kind.to_string(), str::to_owned)
}
