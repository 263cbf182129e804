//! Certification requests (PKCS #10, RFC 2986): parsed, then proven once, then readable.
//!
//! ```text
//! Vec<u8> --Csr::parse--> Csr --Csr::verify (proof of possession)--> VerifiedCsr
//! ```
//!
//! A [`Csr`] gives nothing away: what it says can only be read once its signature was verified with its own key, and that
//! happens once because `verify` consumes it. What it asks for is shown ([`VerifiedCsr::requested`]) and never copied: a
//! certificate is made from a template of the profile.

use crate::algorithm::{AlgorithmError, PublicKey, SignatureAlgorithm};
use crate::certificate::range_in;
use crate::der::{CSR_LIMITS, DerError, Reader, Tag, check_within};
use crate::digest::Digest;
use crate::extension::{ExtendedKeyUsage, ExtensionError, Extensions, KeyUsage};
use crate::general_name::{GeneralNames, GeneralNamesError};
use crate::name::{Name, NameError};
use crate::oid;
use std::fmt;
use std::ops::Range;

/// Attributes of a request. challengePassword and extensionRequest are the two that have a meaning here.
const ATTRIBUTES_MAX: usize = 8;

/// RFC 2985 §5.4.1 bounds it by pkcs-9-ub-challengePassword, which its appendix A sets to 255.
const CHALLENGE_PASSWORD_MAX: usize = 255;

/// A request whose structure is known and whose signature is not.
pub struct Csr {
    fields: Fields,
    to_be_signed: Range<usize>,
    signature: Range<usize>,
}

impl Csr {
    /// Parses a request: the strict DER pass first, then its structure.
    ///
    /// # Errors
    /// Whatever is not a request of version 1 in strict DER, with a key and a signature on the allow-list that go together.
    pub fn parse(der: Vec<u8>) -> Result<Self, CsrError> {
        check_within(&der, CSR_LIMITS)?;
        let mut request = Reader::sequence(&der)?;
        let info = request.expect_element(Tag::SEQUENCE)?;
        let algorithm = SignatureAlgorithm::from_identifier(request.expect_element(Tag::SEQUENCE)?.whole)?;
        let signature = request.octets_of_bit_string()?;
        request.finish()?;

        let mut info_fields = Reader::new(info.contents);
        // RFC 2986 §4.1: "It shall be 0 for this version of the standard."
        if info_fields.expect(Tag::INTEGER)? != [0] {
            return Err(CsrError::Version);
        }
        let subject = Name::parse(info_fields.expect_element(Tag::SEQUENCE)?.whole)?;
        let spki = info_fields.expect_element(Tag::SEQUENCE)?.whole;
        // RFC 2986 §4.1 makes the attributes mandatory; clients without any are known to leave the empty set out as well.
        let attributes = Attributes::read(info_fields.optional(Tag::context_constructed(0))?.unwrap_or(&[]))?;
        info_fields.finish()?;

        let key = PublicKey::from_spki(spki)?;
        if key.curve() != algorithm.curve() {
            return Err(CsrError::Key(AlgorithmError::MixedPair { algorithm, curve: key.curve() }));
        }
        let to_be_signed = range_in(&der, info.whole);
        let signature = range_in(&der, signature);
        let spki = range_in(&der, spki);
        let challenge_password = attributes.challenge_password.map(|text| range_in(&der, text.as_bytes()));
        let extensions = attributes.extensions;
        Ok(Self { fields: Fields { der, subject, spki, challenge_password, extensions }, to_be_signed, signature })
    }

    /// Proof of possession: the request is signed with the private half of the key that it carries (RFC 7030 §4.2.1).
    ///
    /// # Errors
    /// [`CsrError::ProofOfPossession`]: it is not, or the key is not a point of its curve.
    pub fn verify(self) -> Result<VerifiedCsr, CsrError> {
        let der = &self.fields.der;
        let key = PublicKey::from_spki(&der[self.fields.spki.clone()])?;
        key.verify(&der[self.to_be_signed], &der[self.signature]).map_err(|_| CsrError::ProofOfPossession)?;
        let extensions = &self.fields.extensions;
        let requested = Requested {
            key_usage: extensions.key_usage,
            extended_key_usage: extensions.extended_key_usage,
            is_ca: extensions.basic_constraints.is_some_and(|constraints| constraints.is_ca),
            others: extensions.others || extensions.subject_key_id.is_some() || extensions.authority_key_id.is_some(),
        };
        Ok(VerifiedCsr { digest: Digest::of(der), fields: self.fields, requested })
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csr").field("bytes", &self.fields.der.len()).finish_non_exhaustive()
    }
}

/// A request whose sender has the private key.
pub struct VerifiedCsr {
    fields: Fields,
    digest: Digest,
    requested: Requested,
}

impl VerifiedCsr {
    /// The request as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.fields.der
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The subject asked for.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.fields.subject
    }

    /// The other names asked for.
    #[must_use]
    pub const fn san(&self) -> &GeneralNames {
        &self.fields.extensions.san
    }

    /// The key to be certified.
    #[must_use]
    pub fn public_key(&self) -> PublicKey<'_> {
        PublicKey::from_spki(self.spki()).expect("parse has read this key")
    }

    /// Its SubjectPublicKeyInfo, whole.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.fields.der[self.fields.spki.clone()]
    }

    /// The challengePassword: with EST, the tls-unique of the session in base64 (RFC 7030 §3.5), if the client links the two.
    #[must_use]
    pub fn challenge_password(&self) -> Option<&str> {
        let range = self.fields.challenge_password.clone()?;
        std::str::from_utf8(&self.fields.der[range]).ok()
    }

    /// What else the request asks for. To be refused or ignored, never copied.
    #[must_use]
    pub const fn requested(&self) -> &Requested {
        &self.requested
    }
}

impl fmt::Debug for VerifiedCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedCsr")
            .field("subject", &self.fields.subject)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Extensions that a request asked for besides its alternative names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Requested {
    /// keyUsage
    pub key_usage: Option<KeyUsage>,
    /// extKeyUsage
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// basicConstraints with cA TRUE
    pub is_ca: bool,
    /// Any other extension: policies, key identifiers, name constraints, unknown ones.
    pub others: bool,
}

struct Fields {
    der: Vec<u8>,
    subject: Name,
    spki: Range<usize>,
    challenge_password: Option<Range<usize>>,
    extensions: Extensions,
}

/// The attributes (RFC 2985 §5.4): a SET OF under `[0]`.
#[derive(Default)]
struct Attributes<'a> {
    challenge_password: Option<&'a str>,
    extensions: Extensions,
}

impl<'a> Attributes<'a> {
    fn read(contents: &'a [u8]) -> Result<Self, CsrError> {
        let mut list = Reader::new(contents);
        let mut out = Self::default();
        let (mut count, mut has_extensions) = (0, false);
        while !list.is_empty() {
            count += 1;
            if count > ATTRIBUTES_MAX {
                return Err(CsrError::TooManyAttributes);
            }
            let mut attribute = list.nested(Tag::SEQUENCE)?;
            let kind = attribute.oid()?;
            let mut values = attribute.nested(Tag::SET)?;
            attribute.finish()?;
            match kind {
                oid::CHALLENGE_PASSWORD => {
                    let text = challenge_password(&mut values)?;
                    if out.challenge_password.replace(text).is_some() {
                        return Err(CsrError::RepeatedAttribute);
                    }
                    values.finish()?;
                }
                oid::EXTENSION_REQUEST => {
                    if std::mem::replace(&mut has_extensions, true) {
                        return Err(CsrError::RepeatedAttribute);
                    }
                    out.extensions = Extensions::read(values.nested(Tag::SEQUENCE)?)?;
                    values.finish()?;
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

/// RFC 2985 §5.4.1: a DirectoryString, single-valued. IA5String is no DirectoryString, but older clients send it.
fn challenge_password<'a>(values: &mut Reader<'a>) -> Result<&'a str, CsrError> {
    let value = values.element()?;
    let known = [Tag::UTF8_STRING, Tag::PRINTABLE_STRING, Tag::IA5_STRING, Tag::TELETEX_STRING].contains(&value.tag);
    match std::str::from_utf8(value.contents) {
        Ok(text) if known && (1..=CHALLENGE_PASSWORD_MAX).contains(&text.len()) => Ok(text),
        _ => Err(CsrError::ChallengePassword),
    }
}

/// Why a request cannot be used. The client's fault, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrError {
    /// Not strict DER, or not the structure of a request.
    Der(DerError),
    /// Not version 1 (which is written as 0).
    Version,
    /// The subject is no name.
    Name(NameError),
    /// The key or the signature's algorithm is not on the allow-list, or they do not go together.
    Key(AlgorithmError),
    /// The signature was not made with the key in the request.
    ProofOfPossession,
    /// More attributes than 8.
    TooManyAttributes,
    /// An attribute occurs twice.
    RepeatedAttribute,
    /// The challengePassword is not one text of 1 to 255 bytes.
    ChallengePassword,
    /// A requested extension occurs twice, there are too many, or one has no valid value.
    Extensions,
    /// The alternative names asked for are not.
    AlternativeNames(GeneralNamesError),
}

impl From<DerError> for CsrError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<NameError> for CsrError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<AlgorithmError> for CsrError {
    fn from(error: AlgorithmError) -> Self {
        Self::Key(error)
    }
}

impl From<ExtensionError> for CsrError {
    fn from(error: ExtensionError) -> Self {
        match error {
            ExtensionError::Der(error) => Self::Der(error),
            ExtensionError::Names(error) => Self::AlternativeNames(error),
            ExtensionError::Repeated | ExtensionError::TooMany | ExtensionError::Value => Self::Extensions,
        }
    }
}

impl fmt::Display for CsrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "the request is not strict DER: {error}"),
            Self::Version => f.write_str("the request is not of version 1"),
            Self::Name(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::ProofOfPossession => f.write_str("the request is not signed with the key that it carries"),
            Self::TooManyAttributes => f.write_str("the request has too many attributes"),
            Self::RepeatedAttribute => f.write_str("an attribute of the request occurs twice"),
            Self::ChallengePassword => f.write_str("the challengePassword is not one text of 1 to 255 bytes"),
            Self::Extensions => f.write_str("a requested extension is repeated, malformed or one too many"),
            Self::AlternativeNames(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CsrError {}
