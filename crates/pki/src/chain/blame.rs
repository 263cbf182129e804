//! Whose fault it is that a path is refused: webpki says what is wrong, and not with which certificate.

use super::judge::Demand;
use super::path::Path;
use super::{Chain, ChainError, ChainRefusal, Role};
use crate::certificate::Certificate;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

/// What a path was judged by.
pub(super) struct Moment {
    pub(super) at: UnixTime,
    pub(super) demand: Demand,
}

/// Which certificate webpki's error is about: it does not say, so each is asked the same question.
pub(super) fn blame(chain: &Chain, path: &Path, moment: &Moment, error: &webpki::Error) -> ChainRefusal {
    let kind = ChainError::from_webpki(error);
    let at = moment.at;
    let members = || path.indices().filter_map(|index| Some((index, chain.certificate(index)?)));
    // A certificate that webpki cannot even take apart fails alone, too.
    let unusable = members().find_map(|(index, certificate)| {
        let der = CertificateDer::from(certificate.der());
        let error = EndEntityCert::try_from(&der).err()?;
        Some(ChainRefusal::of_certificate(ChainError::from_webpki(&error), index, certificate))
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
                certificate.extended_key_usage().is_some_and(|purposes| match moment.demand.role {
                    Role::Device => !purposes.client_auth,
                    Role::Server => !purposes.server_auth,
                })
            };
            let purpose = match moment.demand.role {
                Role::Device => "clientAuth",
                Role::Server => "serverAuth",
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
        _ => kind.into(),
    }
}

/// The certificate whose signature is by an algorithm that is not accepted.
fn unsupported_algorithm(chain: &Chain, path: &Path, kind: ChainError) -> ChainRefusal {
    let mut certificates = path.indices().filter_map(|index| Some((index, chain.certificate(index)?)));
    let Some((index, certificate)) = certificates.find(|(_, it)| it.signature_algorithm().is_none()) else {
        return kind.into();
    };
    let name = certificate.signature_algorithm_name();
    let words = format!("it is signed with {name}; ECDSA with SHA-256 or SHA-384 is accepted");
    ChainRefusal::of_certificate(kind, index, certificate).with(words)
}
