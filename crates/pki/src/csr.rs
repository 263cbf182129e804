//! Certification requests (PKCS #10, RFC 2986): parsed, then verified once, then readable.
//!
//! ```text
//! Vec<u8> --Csr::parse--> Csr --Csr::verify (proof of possession)--> VerifiedCsr
//! ```
//!
//! The contents of a [`Csr`] can be read only after its signature was verified with its own key. This happens once,
//! because `verify` consumes the `Csr`. The extensions that it requests are shown ([`CsrContents::requested`]) and never
//! copied: a certificate is made from a template of the profile.

mod attributes;

use std::fmt;
use std::ops::{Deref, Range};

use crate::algorithm::{AlgorithmError, PublicKey, SignatureAlgorithm};
use crate::certificate::range_in;
use crate::der::{CSR_LIMITS, DerError, Reader, Tag, check_as};
use crate::digest::Digest;
use crate::encoding::{Deviations, Encoding, Reading};
use crate::extension::{EXTENSIONS_MAX, ExtendedKeyUsage, Extension, ExtensionFlaw, Extensions, KeyUsage};
use crate::field::{At, Field, LocatedError, in_request};
use crate::general_name::{GeneralNames, GeneralNamesError};
use crate::key::{Signature, SignatureError};
use crate::linking::{SessionLink, TlsUniqueValue};
use crate::name::{Name, NameError};
use crate::oid::Oid;
use attributes::{ATTRIBUTES_MAX, Attributes, read_attribute};

pub(crate) use attributes::KEY_ID_MAX;

/// A parsed request whose signature has not been verified.
pub struct Csr {
    fields: CsrFields,
    algorithm: SignatureAlgorithm,
    to_be_signed: Range<usize>,
    signature: Range<usize>,
}

impl Csr {
    /// Parses a request: the strict DER pass first, then its structure.
    ///
    /// # Errors
    /// The bytes are not a request of version 1 in strict DER, with a matching key and signature algorithm from the
    /// allow-list.
    pub fn parse(der: Vec<u8>) -> Result<Self, CsrError> {
        Self::parse_as(der, Encoding::Strict)
    }

    /// Like [`Self::parse`], but may accept deviations from DER: [`CsrContents::deviations`] lists them.
    ///
    /// # Errors
    /// As [`Self::parse`], but for those.
    pub fn parse_as(der: Vec<u8>, encoding: Encoding) -> Result<Self, CsrError> {
        let (mut fields, parts, mut reading) = CsrFields::read(der, encoding)?;
        let der = &fields.der;
        // Check the key first: a client with an unsupported key needs that error, not one about its hash.
        PublicKey::from_spki(&der[fields.spki.clone()]).at(Field::PublicKey)?;
        let algorithm =
            SignatureAlgorithm::from_identifier(&der[parts.algorithm], &mut reading).at(Field::SignatureAlgorithm)?;
        Signature::from_der(&der[parts.signature.clone()]).at(Field::SignatureValue)?;
        fields.deviations = reading.deviations();
        Ok(Self { fields, algorithm, to_be_signed: parts.to_be_signed, signature: parts.signature })
    }

    /// Proof of possession: the request is signed with the private half of the key that it carries (RFC 7030 §4.2.1).
    ///
    /// # Errors
    /// [`CsrFlaw::ProofOfPossession`]: the signature does not verify, or the key is not a point of its curve.
    pub fn verify(self) -> Result<VerifiedCsr, CsrError> {
        let der = &self.fields.der;
        let key = PublicKey::from_spki(&der[self.fields.spki.clone()]).at(Field::PublicKey)?;
        key.verify_as(self.algorithm, &der[self.to_be_signed], &der[self.signature])
            .map_err(|_| CsrFlaw::ProofOfPossession)
            .at(Field::SignatureValue)?;
        Ok(VerifiedCsr { algorithm: self.algorithm, contents: CsrContents::of(self.fields) })
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csr").field("bytes", &self.fields.der.len()).finish_non_exhaustive()
    }
}

/// A request whose sender has proved possession of the private key.
pub struct VerifiedCsr {
    contents: CsrContents,
    algorithm: SignatureAlgorithm,
}

impl VerifiedCsr {
    /// The key to certify.
    #[must_use]
    pub fn public_key(&self) -> PublicKey<'_> {
        PublicKey::from_spki(self.spki()).expect("parse has read this key")
    }

    /// The whole SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        let CsrFields { der, spki, .. } = &self.contents.fields;
        &der[spki.clone()]
    }

    /// The algorithm of the request's signature.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The parts of the request that may go into a certificate: its key and its alternative names.
    #[must_use]
    pub fn into_certifiable(self) -> (PublicKeyInfo, GeneralNames) {
        let CsrFields { der, spki, extensions, .. } = self.contents.fields;
        (PublicKeyInfo { der, spki }, extensions.san)
    }

    /// What it asks for, without its key.
    #[must_use]
    pub const fn contents(&self) -> &CsrContents {
        &self.contents
    }
}

impl Deref for VerifiedCsr {
    type Target = CsrContents;

    fn deref(&self) -> &CsrContents {
        &self.contents
    }
}

/// What a request asks for, without its key. By itself it is a request for a key that the server makes: RFC 7030 §4.4.1, "the server MUST
/// ignore the public key values and signature in the CSR".
pub struct CsrContents {
    fields: CsrFields,
    digest: Digest,
    requested: Requested,
}

impl CsrContents {
    /// Parses a request for a key that the server makes. Key and signature have to be there, and may be of any kind.
    ///
    /// # Errors
    /// As [`Csr::parse_as`], but for the key and the signature.
    pub fn parse_as(der: Vec<u8>, encoding: Encoding) -> Result<Self, CsrError> {
        CsrFields::read(der, encoding).map(|(fields, ..)| Self::of(fields))
    }

    fn of(fields: CsrFields) -> Self {
        let extensions = &fields.extensions;
        let requested = Requested {
            key_usage: extensions.key_usage,
            extended_key_usage: extensions.extended_key_usage,
            is_ca: extensions.basic_constraints.is_some_and(|constraints| constraints.is_ca),
            others: extensions.others || extensions.subject_key_id.is_some() || extensions.authority_key_id.is_some(),
        };
        Self { digest: Digest::of(&fields.der), fields, requested }
    }

    /// The alternative names alone.
    #[must_use]
    pub fn into_san(self) -> GeneralNames {
        self.fields.extensions.san
    }

    /// The request's DER, unchanged.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.fields.der
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The requested subject.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.fields.subject
    }

    /// The requested alternative names.
    #[must_use]
    pub const fn san(&self) -> &GeneralNames {
        &self.fields.extensions.san
    }

    /// The challengePassword: with EST, the tls-unique of the session in base64 (RFC 7030 §3.5), if the client links the two.
    #[must_use]
    pub fn challenge_password(&self) -> Option<&str> {
        self.text(self.fields.found.challenge_password.as_ref())
    }

    /// The estIdentityLinking (RFC 7894 §3.3): the same value, in an attribute that cannot be mistaken for a password.
    #[must_use]
    pub fn identity_linking(&self) -> Option<&str> {
        self.text(self.fields.found.identity_linking.as_ref())
    }

    /// Whether the request is linked to the session with this tls-unique.
    #[must_use]
    pub fn link(&self, tls_unique: &TlsUniqueValue) -> SessionLink {
        SessionLink::of(self.challenge_password(), self.identity_linking(), tls_unique)
    }

    /// How the client wants a server-generated key to be encrypted (RFC 7030 §4.4.1).
    #[must_use]
    pub fn key_protection(&self) -> KeyProtection<'_> {
        let found = &self.fields.found;
        let mut capabilities = Reader::new(self.octets(found.capabilities.as_ref()).unwrap_or_default());
        KeyProtection {
            decrypt_key_id: self.octets(found.decrypt_key_id.as_ref()),
            asymm_decrypt_key_id: self.octets(found.asymm_decrypt_key_id.as_ref()),
            capabilities: std::iter::from_fn(|| capabilities.nested(Tag::SEQUENCE).ok()?.oid().ok()).collect(),
        }
    }

    /// The attributes as they are, in order: the type, and the consecutive DER of the values.
    pub fn attributes(&self) -> impl Iterator<Item = (Oid<'_>, &[u8])> {
        let mut list = Reader::new(self.octets(self.fields.found.list.as_ref()).unwrap_or_default());
        std::iter::from_fn(move || read_attribute(&mut list).ok().map(|(kind, values)| (kind, values.rest())))
    }

    /// The requested extensions as they are, in order: type, criticality, and the contents of extnValue.
    pub fn extensions(&self) -> impl Iterator<Item = (Oid<'_>, bool, &[u8])> {
        let mut list = Reader::new(self.octets(self.fields.found.extensions.as_ref()).unwrap_or_default());
        std::iter::from_fn(move || {
            let extension = Extension::read(&mut list, &mut Reading::new(Encoding::AsIssued)).ok()?;
            Some((extension.id, extension.critical, extension.value))
        })
    }

    fn octets(&self, range: Option<&Range<usize>>) -> Option<&[u8]> {
        range.map(|range| &self.fields.der[range.clone()])
    }

    fn text(&self, range: Option<&Range<usize>>) -> Option<&str> {
        self.octets(range).and_then(|octets| std::str::from_utf8(octets).ok())
    }

    /// The deviations from DER in this request; empty if it was parsed strictly.
    #[must_use]
    pub const fn deviations(&self) -> Deviations {
        self.fields.deviations
    }

    /// The other extensions that the request asks for. The caller refuses or ignores them; they are never copied.
    #[must_use]
    pub const fn requested(&self) -> &Requested {
        &self.requested
    }
}

impl fmt::Debug for VerifiedCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedCsr").field("contents", &self.contents).finish_non_exhaustive()
    }
}

impl fmt::Debug for CsrContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrContents")
            .field("subject", &self.fields.subject)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A parsed SubjectPublicKeyInfo with its original bytes.
pub struct PublicKeyInfo {
    der: Vec<u8>,
    spki: Range<usize>,
}

impl PublicKeyInfo {
    /// A SubjectPublicKeyInfo that this crate has written.
    pub(crate) fn new(der: Vec<u8>) -> Self {
        debug_assert!(PublicKey::from_spki(&der).is_ok(), "the caller has encoded a key of ours");
        let spki = 0..der.len();
        Self { der, spki }
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der[self.spki.clone()]
    }
}

impl fmt::Debug for PublicKeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKeyInfo").field("digest", &Digest::of(self.der())).finish_non_exhaustive()
    }
}

/// How a client wants its server-generated key to be encrypted (RFC 7030 §4.4.1), in addition to DTLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyProtection<'a> {
    /// DecryptKeyIdentifier (RFC 4108 §2.2.5): names a symmetric key that both ends have.
    pub decrypt_key_id: Option<&'a [u8]>,
    /// AsymmetricDecryptKeyIdentifier (RFC 7030 §4.4.1.2): names a key pair of the client.
    pub asymm_decrypt_key_id: Option<&'a [u8]>,
    /// The algorithms that the client can use: the identifiers in its SMIMECapabilities (RFC 8551 §2.5.2), in its order of preference.
    pub capabilities: Vec<Oid<'a>>,
}

impl KeyProtection<'_> {
    /// Whether the client asks for encryption. RFC 7030 §4.4.1: it "MUST include an attribute in the CSR indicating the encryption key".
    /// Capabilities by themselves ask for nothing.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.decrypt_key_id.is_some() || self.asymm_decrypt_key_id.is_some()
    }
}

/// Extensions that a request asks for besides its alternative names.
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

struct CsrFields {
    der: Vec<u8>,
    subject: Name,
    spki: Range<usize>,
    found: FoundAttributes,
    extensions: Extensions,
    deviations: Deviations,
}

/// The ranges of a request that only a proof of possession needs.
struct ProofParts {
    to_be_signed: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
}

impl CsrFields {
    fn read(der: Vec<u8>, encoding: Encoding) -> Result<(Self, ProofParts, Reading), CsrError> {
        let mut reading = Reading::new(encoding);
        check_as(&der, CSR_LIMITS, &mut reading).map_err(|misplaced| LocatedError {
            field: in_request(&der, misplaced.at),
            flaw: misplaced.error.into(),
        })?;
        let mut request = Reader::sequence(&der).at(Field::Whole)?;
        let info = request.expect_element(Tag::SEQUENCE).at(Field::Whole)?;
        let algorithm = request.expect_element(Tag::SEQUENCE).at(Field::SignatureAlgorithm)?.whole;
        let signature = request.octets_of_bit_string().at(Field::SignatureValue)?;
        request.finish().at(Field::Whole)?;

        let mut info_fields = Reader::new(info.contents);
        // RFC 2986 §4.1: "It shall be 0 for this version of the standard."
        if info_fields.expect(Tag::INTEGER).at(Field::Version)? != [0] {
            return Err(CsrFlaw::Version).at(Field::Version);
        }
        let subject = info_fields.expect_element(Tag::SEQUENCE).at(Field::Subject(0))?.whole;
        let subject = Name::read(subject, reading)
            .map_err(|fault| LocatedError { field: Field::Subject(fault.relative), flaw: fault.error.into() })?;
        let spki = info_fields.expect_element(Tag::SEQUENCE).at(Field::PublicKey)?.whole;
        // RFC 2986 §4.1 makes the attributes mandatory; some clients without attributes leave out the empty set as well.
        let attribute_list = info_fields.optional(Tag::context_constructed(0)).at(Field::Attributes)?;
        let attributes = Attributes::read(attribute_list.unwrap_or(&[]), &mut reading)?;
        info_fields.finish().at(Field::Attributes)?;

        let parts = ProofParts {
            to_be_signed: range_in(&der, info.whole),
            algorithm: range_in(&der, algorithm),
            signature: range_in(&der, signature),
        };
        let spki = range_in(&der, spki);
        let of = |part: Option<&[u8]>| part.map(|part| range_in(&der, part));
        let found = FoundAttributes {
            list: of(attribute_list),
            challenge_password: of(attributes.challenge_password.map(str::as_bytes)),
            identity_linking: of(attributes.identity_linking.map(str::as_bytes)),
            decrypt_key_id: of(attributes.decrypt_key_id),
            asymm_decrypt_key_id: of(attributes.asymm_decrypt_key_id),
            capabilities: of(attributes.capabilities),
            extensions: of(attributes.extension_list),
        };
        let (extensions, deviations) = (attributes.extensions, reading.deviations());
        Ok((Self { der, subject, spki, found, extensions, deviations }, parts, reading))
    }
}

/// Where the contents of the attributes are in the DER.
struct FoundAttributes {
    list: Option<Range<usize>>,
    challenge_password: Option<Range<usize>>,
    identity_linking: Option<Range<usize>>,
    decrypt_key_id: Option<Range<usize>>,
    asymm_decrypt_key_id: Option<Range<usize>>,
    capabilities: Option<Range<usize>>,
    extensions: Option<Range<usize>>,
}

/// Why a request cannot be used: the field, and the rule that it breaks. It is always the client's fault.
pub type CsrError = LocatedError<CsrFlaw>;

/// A rule that a request breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrFlaw {
    /// Not strict DER, or not the structure of a request.
    Der(DerError),
    /// Not version 1 (encoded as 0).
    Version,
    /// The subject is not a valid name.
    Name(NameError),
    /// The key or the signature algorithm is not on the allow-list, or they do not match.
    Key(AlgorithmError),
    /// The signature is not an ECDSA signature in DER.
    Signature(SignatureError),
    /// The signature was not made with the key in the request.
    ProofOfPossession,
    /// More than 8 attributes.
    TooManyAttributes,
    /// An attribute occurs twice.
    RepeatedAttribute,
    /// The challengePassword is not one text of 1 to 255 bytes.
    ChallengePassword,
    /// The estIdentityLinking is not one text of 1 to 255 bytes.
    IdentityLinking,
    /// The identifier of a decryption key is not one OCTET STRING of 1 to 64 bytes.
    DecryptKey,
    /// More than 32 capabilities.
    Capabilities,
    /// A requested extension occurs twice.
    RepeatedExtension,
    /// More than 24 requested extensions.
    TooManyExtensions,
    /// The value of a requested extension does not match its definition.
    ExtensionValue,
    /// The requested alternative names are malformed.
    AlternativeNames(GeneralNamesError),
}

impl From<DerError> for CsrFlaw {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<NameError> for CsrFlaw {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<AlgorithmError> for CsrFlaw {
    fn from(error: AlgorithmError) -> Self {
        Self::Key(error)
    }
}

impl From<SignatureError> for CsrFlaw {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<ExtensionFlaw> for CsrFlaw {
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

impl fmt::Display for CsrFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::Version => f.write_str("not 0, the only defined version (RFC 2986 §4.1)"),
            Self::Name(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::Signature(error) => error.fmt(f),
            Self::ProofOfPossession => f.write_str("the request is not signed with the key that it contains"),
            Self::TooManyAttributes => write!(f, "more than {ATTRIBUTES_MAX} attributes"),
            Self::RepeatedAttribute => f.write_str("the attribute occurs twice"),
            Self::ChallengePassword => f.write_str("the challengePassword is not one string of 1 to 255 bytes"),
            Self::IdentityLinking => f.write_str("the estIdentityLinking is not one string of 1 to 255 bytes"),
            Self::DecryptKey => f.write_str("the decryption key's identifier is not one OCTET STRING of 1 to 64 bytes"),
            Self::Capabilities => f.write_str("the smimeCapabilities are more than 32"),
            Self::RepeatedExtension => f.write_str("the extension occurs twice (RFC 5280 §4.2)"),
            Self::TooManyExtensions => write!(f, "more than {EXTENSIONS_MAX} extensions"),
            Self::ExtensionValue => f.write_str("the value does not match its definition (RFC 5280 §4.2.1)"),
            Self::AlternativeNames(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CsrFlaw {}
