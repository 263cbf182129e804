//! Certification requests (PKCS #10) and the CSR attributes that say what a request has to contain.

use est::Reason;
use pki::csr_attributes::{CsrAttributes, KeyRequirement, LinkingAttribute, SignatureRequirement};
use pki::{Csr, Curve, Encoding, Oid, SignatureAlgorithm, VerifiedCsr, oid};

use super::certificate::{
    AS_ISSUED, OTHER_HASH, attribute_name, extended_key_usage, general_names, key_usage, public_key,
};
use super::inspection::Inspection;

/// A request.
pub(super) fn request(der: &[u8]) -> Inspection {
    let shown = Inspection::new("certification request (PKCS #10)");
    let strict = Csr::parse(der.to_vec()).and_then(Csr::verify);
    let lenient = Csr::parse_as(der.to_vec(), Encoding::AsIssued).and_then(Csr::verify);
    match (strict, lenient) {
        (Ok(csr), _) => remarks(fields(shown, &csr), &csr),
        (Err(error), Ok(csr)) => {
            let shown = fields(shown, &csr).refused(error.to_string(), Some(Reason::from(&error)), AS_ISSUED);
            remarks(shown, &csr)
        }
        (Err(error), Err(_)) => {
            let reason = Reason::from(&error);
            shown.field("bytes", der.len()).refused(error.to_string(), Some(reason), reason.entry().device)
        }
    }
}

fn fields(shown: Inspection, csr: &VerifiedCsr) -> Inspection {
    let requested = csr.requested();
    let attributes: Vec<_> = csr.attributes().map(|(kind, _)| request_attribute(kind)).collect();
    shown
        .field("subject", csr.subject().to_string())
        .field("publicKey", public_key(&csr.public_key()))
        .field("signatureAlgorithm", csr.signature_algorithm().to_string())
        .field("signature", "verifies under the key of the request")
        .field("attributes", attributes)
        .field_if("keyUsage", requested.key_usage.map(key_usage))
        .field_if("extKeyUsage", requested.extended_key_usage.map(extended_key_usage))
        .field_if("subjectAltName", Some(general_names(csr.san())).filter(|names| !names.is_empty()))
        .field("sha256", csr.digest().to_string())
        .field("bytes", csr.der().len())
}

fn remarks(mut shown: Inspection, csr: &VerifiedCsr) -> Inspection {
    let requested = csr.requested();
    if requested.is_ca {
        let reason = Reason::from_code("est.csr.asks_ca");
        shown = shown.refused(
            "it asks for a CA certificate (basicConstraints)",
            reason,
            "request an end-entity certificate",
        );
    }
    if requested.others {
        shown = shown.noted("it asks for extensions that are never copied into a certificate", None, None);
    }
    if csr.public_key().curve() == Curve::P384 && csr.signature_algorithm() == SignatureAlgorithm::EcdsaWithSha256 {
        shown = shown.noted("a P-384 key signed it with SHA-256, which Muster accepts", None, Some(OTHER_HASH));
    }
    // The value may be somebody's password: a client that does not mean tls-unique by it.
    if let Some(password) = csr.challenge_password() {
        shown = shown.noted(
            format!("challengePassword of {} characters, not shown: a server compares it with the tls-unique of the session (RFC 7030 §3.5)", password.chars().count()),
            Reason::from_code("est.csr.challenge_mismatch"),
            Some("leave it out, unless the client computes it for each session"),
        );
    }
    if runs_backwards(csr) {
        shown = shown.noted(
            "the RDNs of the subject look reversed; their order is significant (RFC 5280 §7.1)",
            Reason::from_code("est.sen.subject_mismatch"),
            Some("if the profile has `issue.subject = \"csr\"`, give the subject in the order of the device's certificate: compare the two, or add --against and --as"),
        );
    }
    shown
}

/// Whether the first attribute is a device's and the last one is of an organization, or its serialNumber comes before its commonName: what a
/// name looks like that was reversed.
fn runs_backwards(csr: &VerifiedCsr) -> bool {
    let kinds: Vec<_> = csr.subject().attributes().map(|attribute| attribute.kind).collect();
    let of_device = |kind: &Oid<'_>| [oid::COMMON_NAME, oid::SERIAL_NUMBER].contains(kind);
    let of_organization = |kind: &Oid<'_>| [oid::COUNTRY, oid::ORGANIZATION].contains(kind);
    let (Some(first), Some(last)) = (kinds.first(), kinds.last()) else { return false };
    of_device(first) && of_organization(last) || *first == oid::SERIAL_NUMBER && *last == oid::COMMON_NAME
}

fn request_attribute(kind: Oid<'_>) -> String {
    match kind {
        oid::CHALLENGE_PASSWORD => "challengePassword".to_owned(),
        oid::EXTENSION_REQUEST => "extensionRequest".to_owned(),
        oid::EST_IDENTITY_LINKING => "estIdentityLinking".to_owned(),
        oid::DECRYPT_KEY_ID => "decryptKeyID".to_owned(),
        oid::ASYMM_DECRYPT_KEY_ID => "asymmDecryptKeyID".to_owned(),
        oid::SMIME_CAPABILITIES => "smimeCapabilities".to_owned(),
        other => attribute_name(other),
    }
}

/// CSR attributes, whose parse the caller has made.
pub(super) fn csr_attributes(asked: &CsrAttributes<'_>, bytes: usize) -> Inspection {
    let key = asked.key.map(|key| match key {
        KeyRequirement::Ec(Some(curve)) => curve.to_string(),
        KeyRequirement::Ec(None) => "elliptic curve".to_owned(),
        KeyRequirement::Unsupported { algorithm, .. } => format!("{algorithm}, which Muster does not support"),
    });
    let signature = asked.signature.map(|signature| match signature {
        SignatureRequirement::Supported(algorithm) => algorithm.to_string(),
        SignatureRequirement::Unsupported(id) => id.to_string(),
    });
    let subject = asked.subject.iter().map(|attribute| match attribute.value {
        Some(value) => format!("{}={value}", attribute_name(attribute.kind)),
        None => attribute_name(attribute.kind),
    });
    let extensions = asked.extensions.iter().map(|extension| match extension.value {
        Some(value) => format!("{}={}", extension.id, hex::encode(value)),
        None => extension.id.to_string(),
    });
    let linking = asked.linking.map(|linking| match linking {
        LinkingAttribute::ChallengePassword => "challengePassword",
        LinkingAttribute::EstIdentityLinking => "estIdentityLinking",
    });
    let shown = Inspection::new("CSR attributes (285)")
        .field_if("key", key)
        .field_if("signatureAlgorithm", signature)
        .field("subject", subject.collect::<Vec<_>>())
        .field("extensions", extensions.collect::<Vec<_>>())
        .field_if("linking", linking)
        .field("others", asked.others.iter().map(|other| request_attribute(other.id)).collect::<Vec<_>>())
        .field("bytes", bytes);
    if asked.is_empty() { shown.noted("nothing is asked for", None, None) } else { shown }
}

/// Bytes that were announced as CSR attributes and are none.
pub(super) fn malformed_csr_attributes(error: &pki::csr_attributes::CsrAttributesError, bytes: usize) -> Inspection {
    let shown = Inspection::new("CSR attributes (285), malformed").field("bytes", bytes);
    shown.refused(
        error.to_string(),
        Reason::from_code("device.answer.malformed"),
        "have the server's operator correct what /att answers",
    )
}
