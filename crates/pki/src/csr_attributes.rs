//! CSR attributes (`CsrAttrs`, RFC 7030 §4.5.2, RFC 8951 §4, RFC 9908): what a server tells its clients to put into a request.
//!
//! ```text
//! CsrAttributes --encode(CsrAttributesForm::Both)--> the payload of /att (Content-Format 285)
//! the payload of /att --CsrAttributes::parse--> CsrAttributes --unmet_by(&VerifiedCsr)--> Option<UnmetRequirement>
//! ```
//!
//! One description, [`CsrAttributes`], has two encodings. The unstructured form is a list of object identifiers and attributes. Its meaning
//! was ambiguous until RFC 9908 §3.2 fixed parts of it. The template form (RFC 9908 §3.4) is a partial CertificationRequestInfo inside one
//! attribute. RFC 9908 §4: "Clients which understand both MUST use the template only, and ignore all other CSRattrs elements."
//!
//! It is not a policy: the profile of an authority makes the description, and the client decides how to satisfy it.
//!
//! # Where the two forms differ
//!
//! - The template has no place for a signature algorithm, because it leaves out the signature of the request:
//!   [`CsrAttributes::signature`] exists only in the unstructured form. A server that sends a template cannot insist on it.
//! - RFC 7030 §4.5.2 asks for linking by the bare identifier of challengePassword, which RFC 9908 §4 makes a client ignore beside a template.
//!   Inside a template it can only be an attribute, whose value the client computes: it is written with an empty set of values, as RFC 9908
//!   §3.2 allows for the attribute of a key ("The 'values' field MAY be empty to indicate no further requirements"). An attribute of
//!   [`CsrAttributes::others`] without values is written in the same way.
//! - An extension whose value the client chooses is `id-aa-extensionReqTemplate` in a template. `id-ExtensionReq` requires a value (RFC 9908
//!   §3.2), so the unstructured form names such an extension by its bare identifier, without `critical`.
//! - The unstructured form does not say whether an identifier belongs into the subject, the extensions or the attributes. One that
//!   [`crate::oid`] does not know is read as one of the others, wherever the server meant it.

mod decode;
mod encode;
mod enforce;
mod fill;

use std::fmt;

use crate::algorithm::{Curve, SignatureAlgorithm};
use crate::der::{DerError, DerLimits};
use crate::extension::EXTENSIONS_MAX;
use crate::name::{NAME_ATTRIBUTES_MAX, NameError};
use crate::oid::Oid;

pub use enforce::UnmetRequirement;

/// The examples of the RFCs have 50 to 250 bytes; a description of all that a profile can ask for stays under 1 KiB in both forms.
const CSR_ATTRIBUTES_LIMITS: DerLimits = DerLimits { bytes_max: 4_096, elements_max: 512 };

/// Entries of the list, or attributes of the template.
const ITEMS_MAX: usize = 64;

/// What a request has to contain, in either encoding. Everything borrows: from the payload, or from the profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CsrAttributes<'a> {
    /// The key to certify. RFC 9908 §3.2: "Include exactly one Attribute with the type field being the OID specifying the type of the key".
    pub key: Option<KeyRequirement<'a>>,
    /// The algorithm of the request's own signature; not in a template.
    pub signature: Option<SignatureRequirement<'a>>,
    /// Attributes of the subject, in order, each in a relative name of its own.
    pub subject: Vec<RequiredAttribute<'a>>,
    /// Extensions to request, none twice.
    pub extensions: Vec<RequiredExtension<'a>>,
    /// The attribute that has to link the request to its DTLS session (RFC 7030 §3.5).
    pub linking: Option<LinkingAttribute>,
    /// Everything else, such as the MAC address in the example of RFC 7030.
    pub others: Vec<OtherAttribute<'a>>,
}

/// A key that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRequirement<'a> {
    /// An elliptic-curve key, on this curve if there is one.
    Ec(Option<Curve>),
    /// A key that this crate does not support. It can be read and shown, but not encoded.
    Unsupported {
        /// The kind of key: id-ecPublicKey with another curve, rsaEncryption, ...
        algorithm: Oid<'a>,
        /// The DER of its parameter: the identifier of a curve, the size of an RSA key, the AlgorithmIdentifier's parameters.
        parameter: Option<&'a [u8]>,
    },
}

/// A signature algorithm that is asked for: as such, or by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureRequirement<'a> {
    /// An algorithm of the allow-list.
    Supported(SignatureAlgorithm),
    /// Another algorithm or hash. It can be read and shown, but not encoded.
    Unsupported(Oid<'a>),
}

/// An attribute of the subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequiredAttribute<'a> {
    /// Its type.
    pub kind: Oid<'a>,
    /// Its value; `None` if the client chooses it.
    pub value: Option<&'a str>,
}

/// An extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequiredExtension<'a> {
    /// Its type.
    pub id: Oid<'a>,
    /// Whether it has to be critical.
    pub critical: bool,
    /// The DER that extnValue contains; `None` if the client chooses it. In a template a subjectAltName may be incomplete: RFC 9908 §3.4 lets
    /// the client fill an iPAddress without octets and an empty directoryName.
    pub value: Option<&'a [u8]>,
}

/// How a request is linked to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkingAttribute {
    /// challengePassword (RFC 7030 §3.5)
    ChallengePassword,
    /// estIdentityLinking (RFC 7894 §3.3), which a client prefers if the server names it. It is written together with challengePassword,
    /// which RFC 7030 §4.5.2 requires.
    EstIdentityLinking,
}

/// An attribute that has no field of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OtherAttribute<'a> {
    /// Its type, or the identifier that stands alone in the unstructured form.
    pub id: Oid<'a>,
    /// The consecutive DER of its values, sorted as DER sorts a SET OF; empty if there are none.
    pub values: &'a [u8],
}

/// The encodings of a description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrAttributesForm {
    /// The list of RFC 7030 §4.5.2.
    Unstructured,
    /// The template of RFC 9908 §3.4.
    Template,
    /// Both, for clients of either kind. RFC 9908 §4: "EST servers with legacy clients MAY continue to use the RFC7030-style unstructured
    /// list of attribute/value pairs, and MAY also include the template style".
    Both,
}

impl CsrAttributes<'_> {
    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.key.is_none() && self.signature.is_none() && self.is_without_template()
    }

    /// Whether a template would say nothing but the key.
    const fn is_without_template(&self) -> bool {
        self.subject.is_empty() && self.extensions.is_empty() && self.linking.is_none() && self.others.is_empty()
    }
}

/// Why bytes are not CSR attributes, or a description cannot be encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CsrAttributesError {
    /// Not strict DER, not the structure of the definition, or too large.
    Der(DerError),
    /// More than 64 entries.
    TooManyItems,
    /// An entry is neither an object identifier nor an attribute.
    Item,
    /// Several templates, or a template attribute without exactly one value.
    Template,
    /// A template whose version is not 0.
    Version,
    /// The parameters of the key do not match their definition, or the key is not supported and cannot be encoded.
    Key,
    /// The signature algorithm is not supported and cannot be encoded.
    Signature,
    /// A subject with more than 32 attributes, an empty relative name, or a value that is not text of its string type.
    Subject(NameError),
    /// Several attributes with extensions (RFC 9908 §3.2: "There MUST be only one such attribute", §3.4), or one without exactly one value.
    Extensions,
    /// An extension without a value where it needs one, or more than 24 extensions.
    Extension,
    /// An extension occurs twice (RFC 9908 §3.2).
    RepeatedExtension,
    /// An entry of [`CsrAttributes::others`] has a field of its own, so it would be read as something else.
    Other,
}

impl From<DerError> for CsrAttributesError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<NameError> for CsrAttributesError {
    fn from(error: NameError) -> Self {
        Self::Subject(error)
    }
}

impl fmt::Display for CsrAttributesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::TooManyItems => write!(f, "more than {ITEMS_MAX} entries"),
            Self::Item => f.write_str("an entry is neither an OBJECT IDENTIFIER nor an Attribute (RFC 7030 §4.5.2)"),
            Self::Template => {
                f.write_str("several templates, or a template attribute without exactly one value (RFC 9908 §3.4)")
            }
            Self::Version => f.write_str("the version of the template is not 0 (RFC 9908 §3.4)"),
            Self::Key => f.write_str("the requirement on the key is malformed or not supported (RFC 9908 §3.2)"),
            Self::Signature => f.write_str("the signature algorithm is not supported"),
            Self::Subject(NameError::TooManyAttributes) => {
                write!(f, "the subject has more than {NAME_ATTRIBUTES_MAX} attributes")
            }
            Self::Subject(error) => write!(f, "the subject: {error}"),
            Self::Extensions => f.write_str(
                "several attributes with extensions, or one without exactly one value (RFC 9908 §3.2, §3.4)",
            ),
            Self::Extension => write!(f, "an extension without its value, or more than {EXTENSIONS_MAX} extensions"),
            Self::Other => f.write_str("an attribute of the request that has a setting of its own"),
            Self::RepeatedExtension => f.write_str("an extension occurs twice (RFC 9908 §3.2)"),
        }
    }
}

impl std::error::Error for CsrAttributesError {}
