//! Certificates (RFC 5280 §4.1): owned, parsed once, strict.
//!
//! A [`Certificate`] is strict DER of version 3 with a key on the allow-list. It says nothing more: [`crate::chain`] decides
//! whether the certificate is valid, and for which use.

use std::fmt;
use std::ops::Range;

use crate::algorithm::{AlgorithmError, PublicKey, SignatureAlgorithm};
use crate::der::{CERTIFICATE_LIMITS, DerError, Reader, Tag, check_as};
use crate::digest::Digest;
use crate::encoding::{Deviations, Encoding, Reading};
use crate::extension::{EXTENSIONS_MAX, ExtendedKeyUsage, ExtensionFlaw, Extensions, KeyUsage};
use crate::field::{At, Field, LocatedError, in_certificate};
use crate::general_name::{GeneralNames, GeneralNamesError};
use crate::name::{InName, Name, NameError};
use crate::time::Validity;

/// A certificate: its DER and the fields read from it.
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
    deviations: Deviations,
}

impl Certificate {
    /// Parses a certificate: the strict DER pass first, then its structure.
    ///
    /// # Errors
    /// The bytes are not a version 3 certificate in strict DER with a key on P-256 or P-384. The algorithm of its signature is
    /// not judged here: an anchor may be signed with any algorithm, and [`crate::chain`] judges chains.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::parse_as(der, Encoding::Strict)
    }

    /// Like [`Self::parse`], but may accept deviations from DER: [`Self::deviations`] lists them.
    ///
    /// # Errors
    /// As [`Self::parse`], except for the accepted deviations.
    pub fn parse_as(der: &[u8], encoding: Encoding) -> Result<Self, CertificateError> {
        let mut reading = Reading::new(encoding);
        check_as(der, CERTIFICATE_LIMITS, &mut reading).map_err(|misplaced| LocatedError {
            field: in_certificate(der, misplaced.at),
            flaw: misplaced.error.into(),
        })?;
        Self::read(der.into(), reading)
    }

    /// Like [`Self::parse`], for bytes that we have written around a signed part that has passed the strict DER pass: it is not walked again.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn assembled(boxed: Box<[u8]>) -> Result<Self, CertificateError> {
        if boxed.len() > CERTIFICATE_LIMITS.bytes_max {
            return Err(DerError::TooLarge).at(Field::Whole);
        }
        Self::read(boxed, Reading::default())
    }

    /// Reads bytes that passed the strict check; `reading` has the deviations that it accepted.
    fn read(boxed: Box<[u8]>, mut reading: Reading) -> Result<Self, CertificateError> {
        let der = &*boxed;
        let mut certificate = Reader::sequence(der).at(Field::Whole)?;
        let to_be_signed = certificate.expect_element(Tag::SEQUENCE).at(Field::Whole)?.whole;
        let algorithm = certificate.expect_element(Tag::SEQUENCE).at(Field::SignatureAlgorithm)?.whole;
        let signature = certificate.octets_of_bit_string().at(Field::SignatureValue)?;
        certificate.finish().at(Field::Whole)?;
        let tbs = ToBeSignedFields::read(to_be_signed)?;
        // RFC 5280 §4.1.1.2: "This field MUST contain the same algorithm identifier as the signature field in the sequence
        // tbsCertificate".
        if tbs.algorithm != algorithm {
            return Err(CertificateFlaw::AlgorithmMismatch).at(Field::SignatureAlgorithm);
        }
        PublicKey::from_spki(tbs.spki).at(Field::PublicKey)?;
        let issuer = Name::read(tbs.issuer, reading).map_err(|fault| in_name(fault, Field::Issuer))?;
        if issuer.is_empty() {
            // RFC 5280 §4.1.2.4: "The issuer field MUST contain a non-empty" name
            return Err(CertificateFlaw::EmptyIssuer).at(Field::Issuer(0));
        }
        let subject = Name::read(tbs.subject, reading).map_err(|fault| in_name(fault, Field::Subject))?;
        let extensions = Extensions::read(tbs.extensions, &mut reading).map_err(LocatedError::into)?;
        let signature_algorithm = match SignatureAlgorithm::from_identifier(algorithm, &mut reading) {
            Ok(known) => Some(known),
            // Our own allowed algorithm, encoded wrongly. The chain judges all other algorithms, if it needs this
            // certificate.
            Err(error @ AlgorithmError::SignatureParameters { .. }) => {
                return Err(error).at(Field::SignatureAlgorithm);
            }
            Err(_) => None,
        };
        Ok(Self {
            digest: Digest::of(der),
            to_be_signed: range_in(der, to_be_signed),
            serial: range_in(der, tbs.serial),
            spki: range_in(der, tbs.spki),
            signature: range_in(der, signature),
            signature_algorithm,
            validity: tbs.validity,
            issuer,
            subject,
            extensions,
            deviations: reading.deviations(),
            der: boxed,
        })
    }

    /// The deviations from DER in this certificate; empty if it was parsed strictly.
    #[must_use]
    pub const fn deviations(&self) -> Deviations {
        self.deviations
    }

    /// The certificate's DER, unchanged.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER: the certificate's identity.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The signed part.
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

    /// The subject.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// The issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The content octets of the serial number: a minimal INTEGER. In foreign certificates it may be negative, zero or longer than 20
    /// octets.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// The validity period.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The alternative names.
    #[must_use]
    pub const fn san(&self) -> &GeneralNames {
        &self.extensions.san
    }

    /// The certified key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey<'_> {
        PublicKey::from_spki(self.spki()).expect("parse has read this key")
    }

    /// The whole SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.der[self.spki.clone()]
    }

    /// Whether basicConstraints marks it as a certification authority.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.is_ca)
    }

    /// pathLenConstraint: how many intermediate authorities may follow.
    #[must_use]
    pub fn path_len(&self) -> Option<u32> {
        self.extensions.basic_constraints.and_then(|constraints| constraints.path_len)
    }

    /// keyUsage, if present.
    #[must_use]
    pub const fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// extKeyUsage, if present.
    #[must_use]
    pub const fn extended_key_usage(&self) -> Option<ExtendedKeyUsage> {
        self.extensions.extended_key_usage
    }

    /// Whether its owner acts as a registration authority: id-kp-cmcRA (RFC 6402 §2.10).
    #[must_use]
    pub fn is_registration_authority(&self) -> bool {
        self.extended_key_usage().is_some_and(|purposes| purposes.cmc_ra)
    }

    /// subjectKeyIdentifier, if present.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id.as_deref()
    }

    /// keyIdentifier of the authorityKeyIdentifier, if present.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions.authority_key_id.as_deref()
    }

    /// Whether the key of `issuer` signed this certificate, and whether `issuer` has the name that this certificate gives as its
    /// issuer. Used for a daemon's own files; [`crate::chain`] judges peers.
    ///
    /// # Errors
    /// [`AlgorithmError::BadSignature`], or an algorithm that is not on the allow-list.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), AlgorithmError> {
        let unsupported = AlgorithmError::UnsupportedSignature { algorithm: self.signature_algorithm_name() };
        let algorithm = self.signature_algorithm.ok_or(unsupported)?;
        if !self.issuer.matches(&issuer.subject) {
            return Err(AlgorithmError::BadSignature);
        }
        issuer.public_key().verify_as(algorithm, self.to_be_signed(), self.signature())
    }

    /// Name of the signature algorithm.
    #[must_use]
    pub fn signature_algorithm_name(&self) -> &'static str {
        let outer = Reader::sequence(&self.der).and_then(|mut outer| {
            outer.element()?;
            outer.nested(Tag::SEQUENCE)?.oid()
        });
        match self.signature_algorithm {
            Some(SignatureAlgorithm::EcdsaWithSha256) => "ecdsa-with-SHA256",
            Some(SignatureAlgorithm::EcdsaWithSha384) => "ecdsa-with-SHA384",
            None => outer.map_or("one that is not known here", crate::oid::signature_name),
        }
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
        let mut tbs = Reader::sequence(der).at(Field::Whole)?;
        read_version(&mut tbs).at(Field::Version)?;
        let serial = tbs.expect(Tag::INTEGER).at(Field::SerialNumber)?;
        let algorithm = tbs.expect_element(Tag::SEQUENCE).at(Field::Signature)?.whole;
        let issuer = tbs.expect_element(Tag::SEQUENCE).at(Field::Issuer(0))?.whole;
        let validity = read_validity(&mut tbs).at(Field::Validity)?;
        let subject = tbs.expect_element(Tag::SEQUENCE).at(Field::Subject(0))?.whole;
        let spki = tbs.expect_element(Tag::SEQUENCE).at(Field::PublicKey)?.whole;
        let extensions = match tbs.optional(Tag::context_constructed(3)).at(Field::Extensions)? {
            Some(explicit) => Reader::sequence(explicit).at(Field::Extensions)?,
            None => Reader::new(&[]),
        };
        // issuerUniqueID [1] and subjectUniqueID [2]: RFC 5280 §4.1.2.8 forbids generating them.
        let unique = matches!(tbs.peek().map(Tag::octet), Some(0x81 | 0x82 | 0xa1 | 0xa2));
        tbs.finish().at(if unique { Field::UniqueId } else { Field::Extensions })?;
        Ok(Self { serial, algorithm, issuer, validity, subject, spki, extensions })
    }
}

/// RFC 5280 §4.1.2.1: v3 (2) when extensions are used. Every certificate that Muster handles has extensions.
fn read_version(tbs: &mut Reader<'_>) -> Result<(), CertificateFlaw> {
    match tbs.optional(Tag::context_constructed(0))? {
        Some([0x02, 0x01, 0x02]) => Ok(()),
        Some([0x02, 0x01, 0x01]) => Err(CertificateFlaw::Version2),
        Some([0x02, 0x01, 0x00]) => Err(DerError::EncodedDefault.into()),
        Some(_) => Err(CertificateFlaw::UnknownVersion),
        None => Err(CertificateFlaw::Version1),
    }
}

fn read_validity(tbs: &mut Reader<'_>) -> Result<Validity, CertificateFlaw> {
    let mut period = tbs.nested(Tag::SEQUENCE)?;
    let validity = Validity { not_before: period.time()?, not_after: period.time()? };
    period.finish()?;
    if validity.not_before > validity.not_after {
        return Err(CertificateFlaw::Validity);
    }
    Ok(validity)
}

fn in_name(fault: InName, field: fn(usize) -> Field) -> CertificateError {
    LocatedError { field: field(fault.relative), flaw: fault.error.into() }
}

/// Range of `part` inside `whole`.
pub(crate) fn range_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    debug_assert!(start + part.len() <= whole.len());
    start..start + part.len()
}

/// Why Muster cannot use bytes as a certificate: the field, and the rule that it breaks.
pub type CertificateError = LocatedError<CertificateFlaw>;

/// A rule that a certificate breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateFlaw {
    /// Not strict DER, or not the structure of a certificate.
    Der(DerError),
    /// Version 1: it cannot have extensions, so it cannot state its permitted use.
    Version1,
    /// Version 2: the same limit as version 1.
    Version2,
    /// A version that does not exist.
    UnknownVersion,
    /// notBefore is after notAfter.
    Validity,
    /// A name is malformed.
    Name(NameError),
    /// The issuer's name is empty.
    EmptyIssuer,
    /// The key is not on the allow-list.
    Key(AlgorithmError),
    /// The two fields that name the signature's algorithm differ.
    AlgorithmMismatch,
    /// An extension occurs twice.
    RepeatedExtension,
    /// More than 24 extensions.
    TooManyExtensions,
    /// The value of an extension does not match its definition.
    ExtensionValue,
    /// The alternative names are malformed.
    AlternativeNames(GeneralNamesError),
}

impl From<DerError> for CertificateFlaw {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<NameError> for CertificateFlaw {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<AlgorithmError> for CertificateFlaw {
    fn from(error: AlgorithmError) -> Self {
        Self::Key(error)
    }
}

impl From<ExtensionFlaw> for CertificateFlaw {
    fn from(error: ExtensionFlaw) -> Self {
        match error {
            ExtensionFlaw::Der(error) => Self::Der(error),
            ExtensionFlaw::Names(error) => Self::AlternativeNames(error),
            ExtensionFlaw::Repeated => Self::RepeatedExtension,
            ExtensionFlaw::TooMany => Self::TooManyExtensions,
            ExtensionFlaw::Value => Self::ExtensionValue,
        }
    }
}

impl fmt::Display for CertificateFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::Version1 => f.write_str("certificate version 1; version 3 is required (RFC 5280 §4.1.2.1)"),
            Self::Version2 => f.write_str("certificate version 2; version 3 is required (RFC 5280 §4.1.2.1)"),
            Self::UnknownVersion => f.write_str("the version is not 1, 2 or 3 (RFC 5280 §4.1.2.1)"),
            Self::Validity => f.write_str("notAfter is before notBefore"),
            Self::Name(error) => error.fmt(f),
            Self::EmptyIssuer => f.write_str("empty name (RFC 5280 §4.1.2.4)"),
            Self::Key(error) => error.fmt(f),
            Self::AlgorithmMismatch => f.write_str("differs from the algorithm in the signed part (RFC 5280 §4.1.1.2)"),
            Self::RepeatedExtension => f.write_str("the extension occurs twice (RFC 5280 §4.2)"),
            Self::TooManyExtensions => write!(f, "more than {EXTENSIONS_MAX} extensions"),
            Self::ExtensionValue => f.write_str("the value does not match its definition (RFC 5280 §4.2.1)"),
            Self::AlternativeNames(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CertificateFlaw {}
