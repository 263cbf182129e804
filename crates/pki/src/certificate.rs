//! Certificates (RFC 5280 §4.1): owned, parsed once, strict.
//!
//! A [`Certificate`] that exists is strict DER of version 3 with a key on the allow-list. That is all it says: whether it is
//! valid, and for whom, is decided in [`crate::chain`].

use crate::algorithm::{AlgorithmError, PublicKey, SignatureAlgorithm};
use crate::der::{CERTIFICATE_LIMITS, DerError, Reader, Tag, check_within};
use crate::digest::Digest;
use crate::extension::{ExtendedKeyUsage, ExtensionError, Extensions, KeyUsage};
use crate::general_name::{GeneralNames, GeneralNamesError};
use crate::name::{Name, NameError};
use crate::time::Validity;
use std::fmt;
use std::ops::Range;

/// A certificate: its DER, and what was read from it.
#[derive(Clone)]
pub struct Certificate {
    der: Box<[u8]>,
    digest: Digest,
    to_be_signed: Range<usize>,
    serial: Range<usize>,
    spki: Range<usize>,
    signature: Range<usize>,
    signature_algorithm: Option<SignatureAlgorithm>,
    validity: Validity,
    issuer: Name,
    subject: Name,
    extensions: Extensions,
}

impl Certificate {
    /// Parses a certificate: the strict DER pass first, then its structure.
    ///
    /// # Errors
    /// Whatever is not a version 3 certificate in strict DER with a key on P-256 or P-384. The algorithm of its signature is not
    /// judged here: an anchor may be signed by whom it wants, and a chain is judged by [`crate::chain`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::from_boxed(der.into())
    }

    /// [`Self::parse`] of bytes that are ours already.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn from_boxed(boxed: Box<[u8]>) -> Result<Self, CertificateError> {
        let der = &*boxed;
        check_within(der, CERTIFICATE_LIMITS)?;
        let mut certificate = Reader::sequence(der)?;
        let to_be_signed = certificate.expect_element(Tag::SEQUENCE)?.whole;
        let algorithm = certificate.expect_element(Tag::SEQUENCE)?.whole;
        let signature = certificate.octets_of_bit_string()?;
        certificate.finish()?;
        let tbs = ToBeSignedFields::read(to_be_signed)?;
        // RFC 5280 §4.1.1.2: "This field MUST contain the same algorithm identifier as the signature field in the sequence
        // tbsCertificate".
        if tbs.algorithm != algorithm {
            return Err(CertificateError::AlgorithmMismatch);
        }
        PublicKey::from_spki(tbs.spki)?;
        let issuer = Name::parse(tbs.issuer)?;
        if issuer.is_empty() {
            return Err(CertificateError::EmptyIssuer); // RFC 5280 §4.1.2.4: "The issuer field MUST contain a non-empty" name
        }
        Ok(Self {
            digest: Digest::of(der),
            to_be_signed: range_in(der, to_be_signed),
            serial: range_in(der, tbs.serial),
            spki: range_in(der, tbs.spki),
            signature: range_in(der, signature),
            signature_algorithm: SignatureAlgorithm::from_identifier(algorithm).ok(),
            validity: tbs.validity,
            issuer,
            subject: Name::parse(tbs.subject)?,
            extensions: Extensions::read(tbs.extensions)?,
            der: boxed,
        })
    }

    /// The certificate as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER: the certificate's identity.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The part that is signed.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.der[self.to_be_signed.clone()]
    }

    /// The signature: the octets of the BIT STRING.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.der[self.signature.clone()]
    }

    /// The algorithm of the signature, if it is on the allow-list.
    #[must_use]
    pub const fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        self.signature_algorithm
    }

    /// Whom it is about.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// Who signed it.
    #[must_use]
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The content octets of the serial number: a non-negative INTEGER of at most 20 octets, minimal.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// When it is valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Its other names.
    #[must_use]
    pub const fn san(&self) -> &GeneralNames {
        &self.extensions.san
    }

    /// The certified key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey<'_> {
        PublicKey::from_spki(self.spki()).expect("parse has read this key")
    }

    /// The SubjectPublicKeyInfo, whole.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.der[self.spki.clone()]
    }

    /// Does basicConstraints say that it is a certification authority?
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.is_ca)
    }

    /// pathLenConstraint: how many intermediate authorities may follow.
    #[must_use]
    pub fn path_len(&self) -> Option<u32> {
        self.extensions.basic_constraints.and_then(|constraints| constraints.path_len)
    }

    /// keyUsage, if there is one.
    #[must_use]
    pub const fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// extKeyUsage, if there is one.
    #[must_use]
    pub const fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.extensions.extended_key_usage
    }

    /// subjectKeyIdentifier, if there is one.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id.as_deref()
    }

    /// keyIdentifier of the authorityKeyIdentifier, if there is one.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions.authority_key_id.as_deref()
    }

    /// Is it signed by the key of `issuer`, and does `issuer` bear the name that it says? For a daemon's own files; peers are judged by
    /// [`crate::chain`].
    ///
    /// # Errors
    /// [`AlgorithmError::BadSignature`], or an algorithm that does not go with the issuer's key.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), AlgorithmError> {
        let algorithm = self.signature_algorithm.ok_or(AlgorithmError::UnsupportedSignature)?;
        let key = issuer.public_key();
        if key.curve() != algorithm.curve() {
            return Err(AlgorithmError::MixedPair { algorithm, curve: key.curve() });
        }
        if !self.issuer.matches(&issuer.subject) {
            return Err(AlgorithmError::BadSignature);
        }
        key.verify(self.to_be_signed(), self.signature())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The fields of a TBSCertificate, borrowed.
pub(crate) struct ToBeSignedFields<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) algorithm: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) validity: Validity,
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Reader<'a>,
}

impl<'a> ToBeSignedFields<'a> {
    /// Reads a TBSCertificate that passed the strict check.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        let mut tbs = Reader::sequence(der)?;
        // RFC 5280 §4.1.2.1: v3 (2) when extensions are used; they are, in everything that Muster deals with.
        if tbs.optional(Tag::context_constructed(0))? != Some(&[0x02, 0x01, 0x02]) {
            return Err(CertificateError::Version);
        }
        let serial = tbs.expect(Tag::INTEGER)?;
        // RFC 5280 §4.1.2.2: "Certificate users MUST be able to handle serialNumber values up to 20 octets."
        if serial.first().is_none_or(|first| first & 0x80 != 0) || serial.len() > 20 {
            return Err(CertificateError::Serial);
        }
        let algorithm = tbs.expect_element(Tag::SEQUENCE)?.whole;
        let issuer = tbs.expect_element(Tag::SEQUENCE)?.whole;
        let mut period = tbs.nested(Tag::SEQUENCE)?;
        let validity = Validity { not_before: period.time()?, not_after: period.time()? };
        period.finish()?;
        if validity.not_before > validity.not_after {
            return Err(CertificateError::Validity);
        }
        let subject = tbs.expect_element(Tag::SEQUENCE)?.whole;
        let spki = tbs.expect_element(Tag::SEQUENCE)?.whole;
        let extensions = match tbs.optional(Tag::context_constructed(3))? {
            Some(explicit) => Reader::sequence(explicit)?,
            None => Reader::new(&[]),
        };
        tbs.finish()?;
        Ok(Self { serial, algorithm, issuer, validity, subject, spki, extensions })
    }
}

/// Where `part`, a piece of `whole`, lies in it.
pub(crate) fn range_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    debug_assert!(start + part.len() <= whole.len());
    start..start + part.len()
}

/// Why bytes are no certificate that Muster can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateError {
    /// Not strict DER, or not the structure of a certificate.
    Der(DerError),
    /// Not version 3.
    Version,
    /// A negative serial number, or one of more than 20 octets.
    Serial,
    /// notBefore is after notAfter.
    Validity,
    /// A name that is none.
    Name(NameError),
    /// The issuer's name is empty.
    EmptyIssuer,
    /// The key is not on the allow-list.
    Key(AlgorithmError),
    /// The two fields that name the signature's algorithm differ.
    AlgorithmMismatch,
    /// An extension occurs twice.
    RepeatedExtension,
    /// More extensions than 24.
    TooManyExtensions,
    /// The value of an extension is not what its definition says.
    ExtensionValue,
    /// The alternative names are not.
    AlternativeNames(GeneralNamesError),
}

impl From<DerError> for CertificateError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<NameError> for CertificateError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<AlgorithmError> for CertificateError {
    fn from(error: AlgorithmError) -> Self {
        Self::Key(error)
    }
}

impl From<ExtensionError> for CertificateError {
    fn from(error: ExtensionError) -> Self {
        match error {
            ExtensionError::Der(error) => Self::Der(error),
            ExtensionError::Names(error) => Self::AlternativeNames(error),
            ExtensionError::Repeated => Self::RepeatedExtension,
            ExtensionError::TooMany => Self::TooManyExtensions,
            ExtensionError::Value => Self::ExtensionValue,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "the certificate is not strict DER: {error}"),
            Self::Version => f.write_str("the certificate is not of version 3"),
            Self::Serial => f.write_str("the serial number is negative or longer than 20 octets"),
            Self::Validity => f.write_str("the validity ends before it begins"),
            Self::Name(error) => error.fmt(f),
            Self::EmptyIssuer => f.write_str("the issuer has no name"),
            Self::Key(error) => error.fmt(f),
            Self::AlgorithmMismatch => f.write_str("the certificate names two signature algorithms"),
            Self::RepeatedExtension => f.write_str("an extension occurs twice"),
            Self::TooManyExtensions => f.write_str("the certificate has too many extensions"),
            Self::ExtensionValue => f.write_str("an extension does not have the value that its definition asks for"),
            Self::AlternativeNames(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CertificateError {}
