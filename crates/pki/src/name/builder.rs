//! Builds names from texts: for `muster init`, test identities and profiles with a subject template.

use super::{NAME_ATTRIBUTES_MAX, Name, NameError};
use crate::der::{Tag, Writer};
use crate::oid::{self, Oid};

/// Collects attributes, one for each relative name, in the given order.
#[derive(Debug, Default)]
pub struct NameBuilder {
    rdns: Writer,
    count: usize,
}

impl NameBuilder {
    /// A name without attributes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute with the string type of RFC 5280 appendix A.1: PrintableString for countryName, serialNumber and dnQualifier,
    /// IA5String for domainComponent and emailAddress, UTF8String for all others.
    ///
    /// # Errors
    /// The text is empty, the string type cannot hold it, or the name has more than 32 attributes.
    pub fn push(mut self, kind: Oid<'_>, text: &str) -> Result<Self, NameError> {
        let tag = string_type(kind, text)?;
        self.count += 1;
        if self.count > NAME_ATTRIBUTES_MAX {
            return Err(NameError::TooManyAttributes);
        }
        self.rdns.nested(Tag::SET, |set| {
            set.sequence(|attribute| {
                attribute.oid(kind);
                attribute.element(tag, text.as_bytes());
            });
        });
        Ok(self)
    }

    /// The name.
    ///
    /// # Errors
    /// The name has too many bytes.
    pub fn finish(self) -> Result<Name, NameError> {
        let rdns = self.rdns.into_vec();
        let mut der = Writer::with_capacity(rdns.len() + 4);
        der.element(Tag::SEQUENCE, &rdns);
        Name::parse(&der.into_vec())
    }
}

/// The string type of a value, as [`NameBuilder::push`] describes it.
pub(crate) fn string_type(kind: Oid<'_>, text: &str) -> Result<Tag, NameError> {
    let printable = [oid::COUNTRY, oid::SERIAL_NUMBER, oid::DN_QUALIFIER].contains(&kind);
    let ia5 = [oid::DOMAIN_COMPONENT, oid::EMAIL_ADDRESS].contains(&kind);
    let (tag, fits) = match (printable, ia5) {
        (true, _) => (Tag::PRINTABLE_STRING, text.bytes().all(crate::der::is_printable)),
        (_, true) => (Tag::IA5_STRING, text.is_ascii()),
        _ => (Tag::UTF8_STRING, true),
    };
    if text.is_empty() || !fits {
        return Err(NameError::Text);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(tag)
}
