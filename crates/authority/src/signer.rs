//! Holds the key of a CA and signs with it.
//!
//! The key signs certificates only in [`Signer::sign`], and only after the ledger has reserved the serial; it signs revocation lists in
//! [`CrlSigner::sign_crl`]. Neither a self-test nor a trial of a profile signs with it.

use std::fmt;
use std::sync::Arc;

use pki::issue::ToBeSigned;
use pki::issue::crl::CrlToBeSigned;
use pki::{Digest, PrivateKey, Signature, SigningKey};

use crate::ca::Ca;
use crate::completion::Completion;
use crate::random::Random;

/// Signs in batches. Each result has the index of its input.
pub trait Signer: Send + Sync {
    /// Where the key is: a signature from outside the process is always checked before release.
    fn custody(&self) -> Custody;

    /// Signs each of `batch`; the completion is called once, at once or later, on any thread.
    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>);
}

/// A signer that also signs revocation lists, one at a time.
pub trait CrlSigner: Signer {
    /// Signs `list` with the key of its issuer. The call hashes the whole list, about 50 megabytes for a million entries, and may wait for a
    /// signer outside the process: it belongs on a thread that has nothing else to do.
    ///
    /// # Errors
    /// [`SignerFault`]: there is no signature.
    fn sign_crl(&self, list: &CrlToBeSigned) -> Result<Signature, SignerFault>;
}

/// Where a signing key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custody {
    /// In this process.
    InProcess,
    /// In a token, a module or a service outside.
    External,
}

/// One certificate to sign.
#[derive(Clone, Debug)]
pub struct ToSign {
    /// Digest of the CA's certificate: selects the key.
    pub ca: Digest,
    /// The bytes to sign; shared with the issuer, which assembles the certificate from them.
    pub to_be_signed: Arc<ToBeSigned>,
}

/// Why there is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerFault {
    /// The signer cannot be reached, or has no room.
    Unavailable,
    /// The signer has no key for this CA.
    NoKey,
    /// The signer tried and failed.
    Failed,
    /// The number of results differs from the number of inputs: a defect in the signer.
    Answer,
}

impl fmt::Display for SignerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::NoKey => "no key for this CA",
            Self::Failed => "could not sign",
            Self::Answer => "returned a different number of results than requested",
        })
    }
}

/// Signs inline with keys that `ring` holds in this process: on the calling thread, which belongs to the
/// pool.
pub struct RingSigner {
    keys: Vec<(Digest, SigningKey)>,
    random: Arc<dyn Random>,
}

impl RingSigner {
    /// A signer without keys.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { keys: Vec::new(), random }
    }

    /// Takes the key of `ca`. Our copy of the PKCS #8 is wiped here; ring's own lives as long as the signer. Comparing public keys shows that
    /// the key belongs to the certificate: nothing is signed for that.
    ///
    /// # Errors
    /// [`CaKeyFault`] if it is not a P-256 or P-384 key, or not the key of that certificate.
    pub fn add(&mut self, ca: &Ca, key: PrivateKey) -> Result<(), CaKeyFault> {
        let mut parsed = Err(CaKeyFault::Unusable(pki::KeyError::NoRandomness));
        self.random.with_secure(&mut |secure| {
            parsed = SigningKey::from_pkcs8(key.pkcs8(), secure).map_err(CaKeyFault::Unusable);
        });
        drop(key);
        let key = parsed?;
        if key.public_key() != ca.certificate().public_key() {
            return Err(CaKeyFault::NotOfThisCertificate);
        }
        self.keys.push((ca.certificate().digest(), key));
        Ok(())
    }

    fn sign_with(&self, ca: Digest, to_be_signed: &[u8]) -> Result<Signature, SignerFault> {
        let (_, key) = self.keys.iter().find(|(known, _)| *known == ca).ok_or(SignerFault::NoKey)?;
        let mut signed = Err(SignerFault::Failed);
        self.random.with_secure(&mut |secure| {
            signed = key.sign(secure, to_be_signed).map_err(|_| SignerFault::Failed);
        });
        signed
    }
}

impl Signer for RingSigner {
    fn custody(&self) -> Custody {
        Custody::InProcess
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        done(batch.iter().map(|work| self.sign_with(work.ca, work.to_be_signed.der())).collect());
    }
}

impl CrlSigner for RingSigner {
    fn sign_crl(&self, list: &CrlToBeSigned) -> Result<Signature, SignerFault> {
        self.sign_with(list.issuer().certificate().digest(), list.der())
    }
}

impl fmt::Debug for RingSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingSigner").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Why a signing key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaKeyFault {
    /// It is not a key of a supported kind.
    Unusable(pki::KeyError),
    /// It is not the key in the CA's certificate.
    NotOfThisCertificate,
}

impl fmt::Display for CaKeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(fault) => fault.fmt(f),
            Self::NotOfThisCertificate => f.write_str("this is not the key of the CA's certificate"),
        }
    }
}

impl std::error::Error for CaKeyFault {}
