//! Compares a request with what was asked for.

use std::fmt;

use super::{CsrAttributes, KeyRequirement, SignatureRequirement};
use crate::csr::VerifiedCsr;
use crate::oid::Oid;

impl<'a> CsrAttributes<'a> {
    /// The first thing that was asked for and is not in the request; `None` if the request has everything.
    ///
    /// Linking is not compared here, because that needs the session: [`crate::CsrContents::link`]. A value that is given has to be in the request
    /// as it is: an attribute of the subject as text, an extension octet by octet (an incomplete subjectAltName is a form to fill in, so
    /// only its presence counts). What the request has beyond that is not judged.
    #[must_use]
    pub fn unmet_by(&self, request: &VerifiedCsr) -> Option<UnmetRequirement<'a>> {
        let curve = request.public_key().curve();
        match self.key {
            None | Some(KeyRequirement::Ec(None)) => {}
            Some(KeyRequirement::Ec(Some(wanted))) if wanted == curve => {}
            Some(_) => return Some(UnmetRequirement::Key),
        }
        match self.signature {
            None => {}
            Some(SignatureRequirement::Supported(wanted)) if wanted == request.signature_algorithm() => {}
            Some(_) => return Some(UnmetRequirement::Signature),
        }
        for wanted in &self.subject {
            let has = |attribute: crate::name::Attribute<'_>| {
                attribute.kind == wanted.kind && wanted.value.is_none_or(|value| attribute.text() == Some(value))
            };
            if !request.subject().attributes().any(has) {
                return Some(UnmetRequirement::Subject(wanted.kind));
            }
        }
        for wanted in &self.extensions {
            let is_form = wanted.value.is_some_and(|value| is_incomplete_san(wanted.id, value));
            let value = wanted.value.filter(|_| !is_form);
            let has = |(id, critical, found): (Oid<'_>, bool, &[u8])| {
                id == wanted.id && (critical || !wanted.critical) && value.is_none_or(|value| value == found)
            };
            if !request.extensions().any(has) {
                return Some(UnmetRequirement::Extension(wanted.id));
            }
        }
        for wanted in &self.others {
            let has = |(id, values): (Oid<'_>, &[u8])| {
                id == wanted.id && (wanted.values.is_empty() || values == wanted.values)
            };
            if !request.attributes().any(has) {
                return Some(UnmetRequirement::Other(wanted.id));
            }
        }
        None
    }
}

/// RFC 9908 §3.4: "a partially filled in extnValue, such as a 'directoryName' choice containing the NULL-DN (i.e., an empty sequence of RDNs) or
/// the 'iPAddress' choice with an empty OCTET STRING, this means that the client SHOULD fill in the respective GeneralName value".
fn is_incomplete_san(id: Oid<'_>, value: &[u8]) -> bool {
    const IP_ADDRESS: u8 = 0x87;
    const DIRECTORY_NAME: u8 = 0xa4;
    let mut names = match crate::der::Reader::sequence(value) {
        Ok(names) if id == crate::oid::SUBJECT_ALT_NAME => names,
        _ => return false,
    };
    std::iter::from_fn(|| names.element().ok()).any(|name| match name.tag.octet() {
        IP_ADDRESS => name.contents.is_empty(),
        DIRECTORY_NAME => name.contents == [0x30, 0x00],
        _ => false,
    })
}

/// What a request lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnmetRequirement<'a> {
    /// The key is of another kind or on another curve.
    Key,
    /// The request is signed with another algorithm.
    Signature,
    /// The subject does not have this attribute, or with another value.
    Subject(Oid<'a>),
    /// This extension is not requested, or with another value, or not as critical.
    Extension(Oid<'a>),
    /// The request does not have this attribute, or with other values.
    Other(Oid<'a>),
}

impl fmt::Display for UnmetRequirement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, what: &str, id: Oid<'_>| match crate::oid::attribute_name(id)
            .or_else(|| crate::oid::extension_name(id.contents()))
        {
            Some(name) => write!(f, "{what} {name} is missing or has another value"),
            None => write!(f, "{what} {id} is missing or has another value"),
        };
        match *self {
            Self::Key => f.write_str("the key is not of the kind that the CSR attributes ask for"),
            Self::Signature => {
                f.write_str("the request is not signed with the algorithm that the CSR attributes ask for")
            }
            Self::Subject(id) => named(f, "the subject's", id),
            Self::Extension(id) => named(f, "the extension", id),
            Self::Other(id) => named(f, "the attribute", id),
        }
    }
}
