//! Issuing: from a decision to a certificate. The bytes are checked before they are signed.
//!
//! ```text
//! Issuer + TemplateSpec -> Template --fill(subject, SAN, key, serial, validity)--> ToBeSigned   (linted: every field is what was asked)
//!                                                                                      | a signer, in this process or outside
//!                                                                                      v
//!                                   Certificate <--assemble(Signature)-- (linted: strict DER around exactly these bytes)
//! ```
//!
//! The parts that depend only on profile and issuer are encoded once, in the [`Template`]; a certificate is one `Vec` into which
//! they are copied. From a CSR, only the values that the caller passes as arguments get here. This module holds no key and
//! decides nothing.

pub mod crl;
mod lint;
mod revocation;
mod serial;
mod template;
mod values;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::algorithm::{AlgorithmError, SignatureAlgorithm};
use crate::certificate::{Certificate, CertificateError};
use crate::der::{Tag, Writer, element_len};
use crate::digest::Digest;
use crate::extension::KeyUsage;
use crate::general_name::GeneralNamesError;
use crate::key::Signature;
use crate::time::Validity;

pub use lint::LintFlaw;
pub use revocation::RevocationReason;
pub use serial::{NodePrefix, SERIAL_BYTES, Serial, SerialError};
pub use template::{Template, TemplateSpec};

/// How far notBefore may lie in the past: enough for devices whose clocks are slow, too little to hide when a certificate
/// was made.
pub const BACKDATE_MAX: Duration = Duration::from_secs(3_600);

/// An issuing authority: its certificate, which supplies the issuer's name, key identifier and algorithm for each
/// issued certificate.
#[derive(Debug)]
pub struct IssuerCertificate {
    certificate: Arc<Certificate>,
    algorithm: SignatureAlgorithm,
}

impl IssuerCertificate {
    /// An authority from its certificate.
    ///
    /// # Errors
    /// The certificate does not belong to an authority, or has no subjectKeyIdentifier.
    pub fn new(certificate: Arc<Certificate>) -> Result<Self, IssueError> {
        if !certificate.is_ca() || certificate.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(IssueError::NotAnAuthority);
        }
        // RFC 5280 §4.2.1.2: "this extension MUST appear in all conforming CA certificates".
        if certificate.subject_key_id().is_none() {
            return Err(IssueError::NoKeyIdentifier);
        }
        let algorithm = certificate.public_key().curve().algorithm();
        Ok(Self { certificate, algorithm })
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Whether its key may sign revocation lists: keyUsage has cRLSign, or is absent (RFC 5280 §4.2.1.3).
    #[must_use]
    pub fn may_sign_crls(&self) -> bool {
        self.certificate.key_usage().is_none_or(KeyUsage::crl_sign)
    }

    /// The signature algorithm of its key.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

/// The validity of a certificate that is issued at `utc`: it begins `backdate` earlier and lasts `lifetime`. Both ends are
/// included (RFC 5280 §4.1.2.5), so that its last second is `lifetime` - 1 after its first. It must lie within the issuer's
/// validity.
///
/// # Errors
/// `backdate` is over an hour, the `lifetime` ends before `utc`, or the issuer is not valid at `utc`.
pub fn validity(
    issuer: &IssuerCertificate,
    utc: UnixTime,
    lifetime: Duration,
    backdate: Duration,
) -> Result<Validity, IssueError> {
    if backdate > BACKDATE_MAX {
        return Err(IssueError::Backdating);
    }
    let of_issuer = issuer.certificate.validity();
    if !of_issuer.contains(utc) {
        return Err(IssueError::IssuerNotValid);
    }
    let not_before = (utc.as_secs().saturating_sub(backdate.as_secs())).max(of_issuer.not_before.as_secs());
    let last = lifetime.as_secs().checked_sub(1).ok_or(IssueError::Lifetime)?;
    let not_after = not_before.saturating_add(last).min(of_issuer.not_after.as_secs());
    if not_after < utc.as_secs() {
        return Err(IssueError::Lifetime);
    }
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    Ok(Validity { not_before: at(not_before), not_after: at(not_after) })
}

/// A checked TBSCertificate without its signature.
#[derive(Clone, Debug)]
pub struct ToBeSigned {
    der: Vec<u8>,
    issuer: Arc<IssuerCertificate>,
}

impl ToBeSigned {
    /// The bytes to sign.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the bytes to sign; an intent records it. (An ECDSA signature with SHA-256 signs this same digest.)
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The authority that must sign.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<IssuerCertificate> {
        &self.issuer
    }

    /// Checks that the issuer's key made this signature. Used for signers outside the process, and for all signers if
    /// `verify_signatures` is `always`.
    ///
    /// # Errors
    /// [`IssueError::Signature`]: another key made the signature.
    pub fn verify_signature(&self, signature: &Signature) -> Result<(), IssueError> {
        let key = self.issuer.certificate.public_key();
        key.verify(&self.der, signature.as_bytes()).map_err(IssueError::Signature)
    }

    /// Assembles the certificate from these bytes, the algorithm and the signature, and reads it back before it returns it. The lint has walked
    /// these bytes element by element before they were signed; that is not done twice.
    ///
    /// # Errors
    /// [`IssueError::Lint`]: the assembled certificate differs from the bytes to sign. This is a bug of ours.
    pub fn assemble(&self, signature: &Signature) -> Result<Certificate, IssueError> {
        let algorithm = self.issuer.algorithm.identifier();
        let signature = signature.as_bytes();
        let contents = self.der.len() + algorithm.len() + element_len(1 + signature.len());
        let mut out = Writer::with_capacity(element_len(contents));
        out.header(Tag::SEQUENCE, contents);
        out.raw(&self.der);
        out.raw(algorithm);
        out.bit_string(signature);
        debug_assert_eq!(out.len(), element_len(contents));
        let certificate = Certificate::assembled(out.into_vec().into_boxed_slice());
        let certificate = certificate.map_err(|error| IssueError::Lint(LintFlaw::Certificate(error)))?;
        if certificate.to_be_signed() != self.der || certificate.signature() != signature {
            return Err(IssueError::Lint(LintFlaw::Assembled));
        }
        Ok(certificate)
    }
}

/// Why no certificate is issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IssueError {
    /// The issuer's certificate does not belong to an authority.
    NotAnAuthority,
    /// The issuer's certificate has no subjectKeyIdentifier.
    NoKeyIdentifier,
    /// The issuer's certificate is not valid now.
    IssuerNotValid,
    /// notBefore would lie more than an hour in the past.
    Backdating,
    /// The certificate would expire before it is issued.
    Lifetime,
    /// The requested validity does not lie within the issuer's.
    OutsideIssuer,
    /// The key is not on the allow-list.
    Key(AlgorithmError),
    /// An alternative name may not be issued.
    AlternativeNames(GeneralNamesError),
    /// There is neither a subject nor an alternative name.
    NoSubject,
    /// A URL of the profile is not valid.
    Url,
    /// The signature does not verify.
    Signature(AlgorithmError),
    /// The encoded bytes differ from the request: a bug of ours, caught before release.
    Lint(LintFlaw),
}

impl From<CertificateError> for IssueError {
    fn from(error: CertificateError) -> Self {
        Self::Lint(LintFlaw::Certificate(error))
    }
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAuthority => f.write_str("the issuer's certificate is not an authority's"),
            Self::NoKeyIdentifier => f.write_str("the issuer's certificate has no subjectKeyIdentifier"),
            Self::IssuerNotValid => f.write_str("the issuer's certificate is not valid now"),
            Self::Backdating => f.write_str("a certificate may begin at most one hour in the past"),
            Self::Lifetime => f.write_str("the certificate would expire before it is issued"),
            Self::OutsideIssuer => f.write_str("the validity is not within the issuer's"),
            Self::Key(error) => error.fmt(f),
            Self::AlternativeNames(error) => error.fmt(f),
            Self::NoSubject => f.write_str("the certificate would have neither a subject nor an alternative name"),
            Self::Url => f.write_str("a URL for the certificate is not an absolute URL"),
            Self::Signature(error) => error.fmt(f),
            Self::Lint(fault) => write!(f, "the certificate differs from what was decided: {fault}"),
        }
    }
}

impl std::error::Error for IssueError {}

#[cfg(test)]
mod tests;
