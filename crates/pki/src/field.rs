//! The location of a fault in a certificate or request: the field, named as in its definition.

use std::fmt;

use crate::der::{Tag, raw_header};
use crate::oid;

/// A field of a certificate (RFC 5280 §4.1) or of a request (RFC 2986 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The whole structure.
    Whole,
    /// version
    Version,
    /// serialNumber
    SerialNumber,
    /// The algorithm inside the signed part.
    Signature,
    /// The issuer, or one relative name of it, counted from 1; 0 means the whole name.
    Issuer(usize),
    /// validity
    Validity,
    /// The subject, or one relative name of it, counted from 1; 0 means the whole name.
    Subject(usize),
    /// subjectPublicKeyInfo
    PublicKey,
    /// issuerUniqueID or subjectUniqueID
    UniqueId,
    /// The list of extensions.
    Extensions,
    /// One extension.
    Extension(ExtensionField),
    /// The attributes of a request.
    Attributes,
    /// One attribute of a request, counted from 0.
    Attribute(usize),
    /// The algorithm outside the signed part.
    SignatureAlgorithm,
    /// The signature.
    SignatureValue,
}

/// One extension of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionField {
    /// Its place, counted from 0.
    pub index: usize,
    /// Its name, if it is known here.
    pub name: Option<&'static str>,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "the whole",
            Self::Version => "version",
            Self::SerialNumber => "serialNumber",
            Self::Signature => "signature algorithm of the signed part",
            Self::Issuer(0) => "issuer",
            Self::Issuer(relative) => return write!(f, "issuer RDN {relative}"),
            Self::Validity => "validity",
            Self::Subject(0) => "subject",
            Self::Subject(relative) => return write!(f, "subject RDN {relative}"),
            Self::PublicKey => "subjectPublicKeyInfo",
            Self::UniqueId => "uniqueIdentifier",
            Self::Extensions => "extensions",
            Self::Extension(ExtensionField { index, name: Some(name) }) => {
                return write!(f, "extensions[{index}] {name}");
            }
            Self::Extension(ExtensionField { index, name: None }) => return write!(f, "extensions[{index}]"),
            Self::Attributes => "attributes",
            Self::Attribute(index) => return write!(f, "attributes[{index}]"),
            Self::SignatureAlgorithm => "signatureAlgorithm",
            Self::SignatureValue => "signatureValue",
        })
    }
}

/// A fault and the field that contains it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocatedError<F> {
    /// The field at fault.
    pub field: Field,
    /// The rule that is broken.
    pub flaw: F,
}

impl<F> LocatedError<F> {
    pub(crate) fn into<G: From<F>>(self) -> LocatedError<G> {
        LocatedError { field: self.field, flaw: self.flaw.into() }
    }
}

impl<F: fmt::Display> fmt::Display for LocatedError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field != Field::Whole {
            write!(f, "{}: ", self.field)?;
        }
        self.flaw.fmt(f)
    }
}

impl<F: fmt::Debug + fmt::Display> std::error::Error for LocatedError<F> {}

/// Adds the location to a fault.
pub(crate) trait At<T, E> {
    fn at<F: From<E>>(self, field: Field) -> Result<T, LocatedError<F>>;
}

impl<T, E> At<T, E> for Result<T, E> {
    fn at<F: From<E>>(self, field: Field) -> Result<T, LocatedError<F>> {
        self.map_err(|error| LocatedError { field, flaw: error.into() })
    }
}

/// The field of a certificate that contains the byte at `at`, as far as the preceding bytes show. It reads one header for each
/// preceding element, and runs only for a refusal.
pub(crate) fn in_certificate(der: &[u8], at: usize) -> Field {
    let Some(part) = Child::of(der, Child::whole(der), at) else { return Field::Whole };
    match part.index {
        0 => in_signed_part(der, part, at),
        1 => Field::SignatureAlgorithm,
        _ => Field::SignatureValue,
    }
}

/// The same for the signed part alone.
fn in_signed_part(der: &[u8], tbs: Child, at: usize) -> Field {
    let Some(field) = Child::of(der, tbs, at) else { return Field::Whole };
    // A certificate of version 1 begins with its serial number.
    let versioned = der.get(tbs.contents) == Some(&Tag::context_constructed(0).octet());
    match (field.tag, field.index + usize::from(!versioned)) {
        (0xa1 | 0xa2 | 0x81 | 0x82, 7..) => Field::UniqueId,
        (0xa3, _) => in_extensions(der, field, at),
        (_, 0) => Field::Version,
        (_, 1) => Field::SerialNumber,
        (_, 2) => Field::Signature,
        (_, 3) => Field::Issuer(relative_name(der, field, at)),
        (_, 4) => Field::Validity,
        (_, 5) => Field::Subject(relative_name(der, field, at)),
        (_, 6) => Field::PublicKey,
        _ => Field::Whole,
    }
}

/// The field of a request that contains the byte at `at`.
pub(crate) fn in_request(der: &[u8], at: usize) -> Field {
    let Some(part) = Child::of(der, Child::whole(der), at) else { return Field::Whole };
    match part.index {
        0 => {}
        1 => return Field::SignatureAlgorithm,
        _ => return Field::SignatureValue,
    }
    let Some(field) = Child::of(der, part, at) else { return Field::Whole };
    match field.index {
        0 => Field::Version,
        1 => Field::Subject(relative_name(der, field, at)),
        2 => Field::PublicKey,
        _ => in_attributes(der, field, at),
    }
}

fn in_attributes(der: &[u8], list: Child, at: usize) -> Field {
    let Some(attribute) = Child::of(der, list, at) else { return Field::Attributes };
    let unnamed = Field::Attribute(attribute.index);
    let id = oid::EXTENSION_REQUEST.contents();
    if der.get(attribute.contents + 2..attribute.contents + 2 + id.len()) != Some(id) {
        return unnamed;
    }
    match Child::of(der, attribute, at) {
        Some(values) if values.index == 1 => in_extensions(der, values, at),
        _ => unnamed,
    }
}

/// `outer` contains the list.
fn in_extensions(der: &[u8], outer: Child, at: usize) -> Field {
    let extension = Child::of(der, outer, at).and_then(|list| Child::of(der, list, at));
    let Some(extension) = extension else { return Field::Extensions };
    let name = match raw_header(&der[extension.contents..extension.end]) {
        Ok((Tag::OID, length, header)) => {
            let start = extension.contents + header;
            der.get(start..start + length).and_then(oid::extension_name)
        }
        _ => None,
    };
    Field::Extension(ExtensionField { index: extension.index, name })
}

fn relative_name(der: &[u8], name: Child, at: usize) -> usize {
    Child::of(der, name, at).map_or(0, |relative| relative.index + 1)
}

/// An element of a level: its position, as far as its header can be read.
#[derive(Clone, Copy)]
struct Child {
    index: usize,
    tag: u8,
    contents: usize,
    end: usize,
}

impl Child {
    /// The single element in `der`.
    fn whole(der: &[u8]) -> Self {
        let contents = raw_header(der).map_or(der.len(), |(_, _, header)| header);
        Self { index: 0, tag: 0, contents, end: der.len() }
    }

    /// The element inside `outer` that contains the byte at `at`; `None` if the byte is in the header of `outer` or after its last
    /// element.
    fn of(der: &[u8], outer: Self, at: usize) -> Option<Self> {
        if outer.tag != 0 && outer.tag & 0x20 == 0 {
            return None;
        }
        let mut start = outer.contents;
        for index in 0.. {
            if at < start || start >= outer.end {
                return None;
            }
            let tag = *der.get(start)?;
            let Ok((_, length, header)) = raw_header(&der[start..outer.end]) else {
                // An unreadable element is the last one.
                return Some(Self { index, tag, contents: outer.end, end: outer.end });
            };
            let end = start + header + length;
            if at < end {
                return Some(Self { index, tag, contents: start + header, end });
            }
            start = end;
        }
        None
    }
}
