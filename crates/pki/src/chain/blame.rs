//! Finds the certificate at fault when a path is refused: webpki names the fault, but not the certificate.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::demand::{LeafUse, Moment};
use super::error::{ChainError, ChainRefusal};
use super::path::ChainPath;
use super::sent::Chain;
use crate::certificate::{Certificate, ToBeSignedFields};
use crate::encoding::Reading;
use crate::extension::Extension;
use crate::oid::{self, Oid};

/// Finds the certificate that webpki's error is about: webpki does not name it, so each certificate is judged alone.
pub(super) fn blame(
    chain: &Chain,
    path: &ChainPath,
    moment: &Moment,
    anchor: &Certificate,
    error: &webpki::Error,
) -> ChainRefusal {
    let kind = ChainError::from_webpki(error);
    let at = moment.at;
    let members = || path.indices().filter_map(|index| Some((index, chain.certificate(index)?)));
    // A certificate that webpki cannot parse also fails alone.
    let unusable = members().find_map(|(index, certificate)| {
        let der = CertificateDer::from(certificate.der());
        let error = EndEntityCert::try_from(&der).err()?;
        let kind = ChainError::from_webpki(&error);
        let refusal = ChainRefusal::of_certificate(kind, index, certificate);
        Some(match (kind, unknown_critical(certificate)) {
            (ChainError::CriticalExtension, Some(words)) => refusal.with(words),
            _ => refusal,
        })
    });
    if let Some(refusal) = unusable {
        return refusal;
    }
    let about = |found: Option<(usize, &Certificate)>| match found {
        Some((index, certificate)) => ChainRefusal::of_certificate(kind, index, certificate),
        None => kind.into(),
    };
    match kind {
        ChainError::Expired { .. } => about(members().find(|(_, it)| at > it.validity().not_after)),
        ChainError::NotYetValid { .. } => about(members().find(|(_, it)| at < it.validity().not_before)),
        ChainError::NotAnAuthority => about(members().skip(1).find(|(_, it)| !it.is_ca())),
        ChainError::ExtendedKeyUsage => {
            let lacks = |certificate: &Certificate| {
                certificate.extended_key_usage().is_some_and(|purposes| match moment.demand.leaf_use {
                    LeafUse::Device => !purposes.client_auth,
                    LeafUse::Server => !purposes.server_auth,
                })
            };
            let purpose = match moment.demand.leaf_use {
                LeafUse::Device => "clientAuth",
                LeafUse::Server => "serverAuth",
            };
            let found = members().find(|(_, it)| lacks(it));
            let whose = if found.is_some_and(|(index, _)| index > 0) { ", and it is that of an authority" } else { "" };
            about(found).with(format!("its extKeyUsage does not contain {purpose}{whose}"))
        }
        ChainError::PathLength => {
            let below = |place: usize| members().take(place).skip(1).count();
            let exceeded = |place: usize, it: &Certificate| {
                it.path_len()
                    .is_some_and(|allowed| usize::try_from(allowed).is_ok_and(|allowed| below(place) > allowed))
            };
            let found = members().enumerate().skip(1).find(|(place, (_, it))| exceeded(*place, it));
            match found {
                Some((place, (index, it))) => about(Some((index, it))).with(format!(
                    "its pathLenConstraint is {}, and {} authorities are below it",
                    it.path_len().unwrap_or_default(),
                    below(place)
                )),
                None => kind.into(),
            }
        }
        ChainError::UnsupportedAlgorithm => unsupported_algorithm(chain, path, kind),
        ChainError::NameConstraints => outside_constraints(chain, path, anchor),
        _ => kind.into(),
    }
}

/// The critical extension that webpki does not know; the list copies `remember_cert_extension` in webpki's `cert.rs`.
fn unknown_critical(certificate: &Certificate) -> Option<String> {
    const KNOWN: [Oid<'_>; 6] = [
        oid::KEY_USAGE,
        oid::SUBJECT_ALT_NAME,
        oid::BASIC_CONSTRAINTS,
        oid::NAME_CONSTRAINTS,
        oid::CRL_DISTRIBUTION_POINTS,
        oid::EXTENDED_KEY_USAGE,
    ];
    let mut extensions = ToBeSignedFields::read(certificate.to_be_signed()).ok()?.extensions;
    let mut reading = Reading::default();
    while let Ok(extension) = Extension::read(&mut extensions, &mut reading) {
        if extension.critical && !KNOWN.contains(&extension.id) {
            let id = extension.id;
            return Some(match oid::extension_name(id.contents()) {
                Some(name) => {
                    format!("its extension {name} ({id}) is critical, and nothing here acts on it (RFC 5280 §4.2)")
                }
                None => format!("its extension {id} is critical and not known here (RFC 5280 §4.2)"),
            });
        }
    }
    None
}

/// The authority whose name constraints are violated, and the certificate below it whose name violates them.
fn outside_constraints(chain: &Chain, path: &ChainPath, anchor: &Certificate) -> ChainRefusal {
    let sent: Vec<(usize, &Certificate)> =
        path.indices().filter_map(|index| Some((index, chain.certificate(index)?))).collect();
    let above = sent.iter().map(|&(index, certificate)| (Some(index), certificate)).chain([(None, anchor)]);
    for (place, (index, authority)) in above.enumerate().skip(1) {
        let Some(constraints) = authority.name_constraints() else { continue };
        if constraints.constrain_directory_names() {
            let refusal = match index {
                Some(index) => ChainRefusal::of_certificate(ChainError::NameConstraints, index, authority),
                None => ChainRefusal::of_anchor(ChainError::NameConstraints, authority),
            };
            return refusal.with(
                "its nameConstraints are on directory names, which are not judged here: no chain below it is accepted"
                    .to_owned(),
            );
        }
        let outside = |certificate: &Certificate| certificate.san().iter().any(|name| !constraints.allow(&name));
        if let Some(&(index, certificate)) = sent.iter().take(place).find(|(_, certificate)| outside(certificate)) {
            return ChainRefusal::of_certificate(ChainError::NameConstraints, index, certificate).with(format!(
                "a name of its subjectAltName is outside the nameConstraints of {}",
                authority.subject()
            ));
        }
    }
    ChainError::NameConstraints.into()
}

/// The certificate whose signature uses an algorithm that is not on the allow-list.
fn unsupported_algorithm(chain: &Chain, path: &ChainPath, kind: ChainError) -> ChainRefusal {
    let mut certificates = path.indices().filter_map(|index| Some((index, chain.certificate(index)?)));
    let Some((index, certificate)) = certificates.find(|(_, it)| it.signature_algorithm().is_none()) else {
        return kind.into();
    };
    let name = certificate.signature_algorithm_name();
    let words = format!("it is signed with {name}; ECDSA with SHA-256 or SHA-384 is accepted");
    ChainRefusal::of_certificate(kind, index, certificate).with(words)
}
