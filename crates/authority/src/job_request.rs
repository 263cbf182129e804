//! The request of a job: for a key of the device, or for one that the server makes.

use pki::{CsrContents, Digest, GeneralNames, PublicKeyInfo, VerifiedCsr};

use crate::key_protection::{KeyDeliveryTerms, MadeKey};
use crate::refusal::{Asked, Refusal};

/// The request of a job.
pub(crate) enum JobRequest {
    /// For the key that signed it.
    OwnKey(VerifiedCsr),
    /// For a key that the server makes.
    ServerKey(CsrContents),
}

impl JobRequest {
    /// What it asks for, without its key.
    pub(crate) fn contents(&self) -> &CsrContents {
        match self {
            Self::OwnKey(csr) => csr.contents(),
            Self::ServerKey(contents) => contents,
        }
    }

    /// The key of the request, or a new one; `None` if none can be made now.
    pub(crate) fn certified(self, terms: &KeyDeliveryTerms<'_>) -> Option<CertifiedKey> {
        match self {
            Self::OwnKey(csr) => {
                let digest = csr.digest();
                let (public_key, san) = csr.into_certifiable();
                Some(CertifiedKey { public_key, private_key: None, san, digest })
            }
            Self::ServerKey(contents) => {
                let (public_key, private_key) = terms.make(&contents)?;
                let digest = Digest::of_parts(&[contents.digest().as_bytes(), public_key.der()]);
                Some(CertifiedKey { public_key, private_key: Some(private_key), san: contents.into_san(), digest })
            }
        }
    }
}

/// The key to certify.
pub(crate) struct CertifiedKey {
    pub(crate) public_key: PublicKeyInfo,
    pub(crate) private_key: Option<MadeKey>,
    /// The alternative names in the request.
    pub(crate) san: GeneralNames,
    /// Of the CSR; of the CSR and the key if the server has made it, so that a later request is another one.
    pub(crate) digest: Digest,
}

/// Refuses requests that would be dangerous in the hand of a device. Everything else that a CSR asks for and that the profile does not name
/// (policies, key identifiers, other usages) is silently left out of the certificate.
pub(crate) fn check_requested(csr: &CsrContents) -> Result<(), Refusal> {
    let requested = csr.requested();
    if requested.is_ca {
        return Err(Refusal::Asks(Asked::CertificateAuthority));
    }
    if requested.key_usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()) {
        return Err(Refusal::Asks(Asked::CertificateSigning));
    }
    if requested.extended_key_usage.is_some_and(|it| it.any || it.cmc_ra || it.ocsp_signing) {
        return Err(Refusal::Asks(Asked::AnyPurpose));
    }
    Ok(())
}
