//! The only place where keys and certificates of `pki` are converted to those of `dtls`, which does not know X.509.

use std::fmt;
use std::sync::Arc;

use dtls::{EcdsaPublicKey, EcdsaSigningKey, Identity, Random};
use pki::{Certificate, CertificateError, Encoding, KeyError, PrivateKey};

/// Why a chain and a key cannot be used as an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityFault {
    /// There is no certificate.
    NoCertificate,
    /// More certificates than a handshake carries.
    TooManyCertificates(usize),
    /// The first certificate cannot be read. The other side judges the rest: it ignores certificates that no path
    /// needs.
    Leaf(CertificateError),
    /// The key cannot be used.
    Key(KeyError),
    /// The key does not belong to the first certificate.
    OtherKey,
}

impl fmt::Display for IdentityFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => out.write_str("there is no certificate"),
            Self::TooManyCertificates(count) => {
                write!(
                    out,
                    "{count} certificates are more than the {} that a handshake carries",
                    dtls::CERTIFICATES_MAX
                )
            }
            Self::Leaf(error) => write!(out, "certificate 1 cannot be used: {error}"),
            Self::Key(fault) => fault.fmt(out),
            Self::OtherKey => out
                .write_str("the key does not belong to the first certificate: the leaf comes first, then its issuers"),
        }
    }
}

impl std::error::Error for IdentityFault {}

/// What one side presents in a handshake: `chain` in DER, leaf first, and the leaf's key in PKCS#8, or in another form
/// that [`PrivateKey::read`] reads. Certificates are sent as they were issued: the other side judges whether their
/// encoding is strict enough.
///
/// # Errors
/// Those of [`IdentityFault`]; the key is checked to belong to the leaf.
pub fn identity(chain: Vec<Vec<u8>>, pkcs8: &[u8], random: &dyn Random) -> Result<Arc<Identity>, IdentityFault> {
    if chain.len() > dtls::CERTIFICATES_MAX {
        return Err(IdentityFault::TooManyCertificates(chain.len()));
    }
    let leaf = chain.first().ok_or(IdentityFault::NoCertificate)?;
    let leaf = Certificate::parse_as(leaf, Encoding::AsIssued).map_err(IdentityFault::Leaf)?;
    let key = match EcdsaSigningKey::from_pkcs8(pkcs8, random) {
        Ok(key) => key,
        // Another form or an invalid key: `pki` decides.
        Err(_) => {
            let read = PrivateKey::read(pkcs8).map_err(IdentityFault::Key)?;
            let taken = EcdsaSigningKey::from_pkcs8(read.pkcs8(), random);
            taken.map_err(|_| IdentityFault::Key(KeyError::NoRandomness))?
        }
    };
    let expected = session_key(&leaf).ok_or(IdentityFault::OtherKey)?;
    if *key.public_key() != expected {
        return Err(IdentityFault::OtherKey);
    }
    Ok(Arc::new(Identity::new(chain, key)))
}

/// The public key of a certificate in the form that the handshake needs; `None` for an unsupported kind of key.
pub(crate) fn session_key(certificate: &Certificate) -> Option<EcdsaPublicKey> {
    let key = certificate.public_key();
    let curve = match key.curve() {
        pki::Curve::P256 => dtls::NamedCurve::P256,
        pki::Curve::P384 => dtls::NamedCurve::P384,
    };
    EcdsaPublicKey::new(curve, key.point()).ok()
}
