//! Distinguished names: checked DER, compared according to RFC 5280 §7.1, displayed according to RFC 4514.
//!
//! A [`Name`] keeps its original bytes: a certificate gets a copy of them, never a new encoding.

mod attribute;
mod builder;
mod compare;
mod display;

use std::borrow::Cow;
use std::fmt;

use crate::der::{DerError, DerLimits, Reader, Tag, Writer, check_as};
use crate::encoding::{Encoding, Reading};
use crate::oid::Oid;

pub(crate) use attribute::NAME_ATTRIBUTES_MAX;
pub use attribute::{Attribute, NameError};
pub use builder::NameBuilder;
pub(crate) use builder::string_type;

/// Size of a name: subjects of devices have 50 to 200 bytes; a larger name is an attack or a mistake.
pub(crate) const NAME_BYTES_MAX: usize = 1_024;

/// A name needs one SEQUENCE, and for each attribute at most a SET, a SEQUENCE, a type and a value.
const NAME_LIMITS: DerLimits = DerLimits { bytes_max: NAME_BYTES_MAX, elements_max: 1 + 4 * NAME_ATTRIBUTES_MAX };

/// A distinguished name (RDNSequence) as checked DER. `==` compares bytes; [`Name::matches`] compares as RFC 5280 does.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    der: Box<[u8]>,
    /// Whether it is strict DER. This depends only on the bytes, so `==` may compare it.
    strict: bool,
}

/// A fault of a name, and the relative name that contains it: counted from 1, 0 for the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InName {
    pub(crate) relative: usize,
    pub(crate) error: NameError,
}

impl Name {
    /// Checks the DER of an RDNSequence. An empty one is a name too (RFC 5280 §4.1.2.6 allows it beside a SAN).
    ///
    /// # Errors
    /// Not strict DER, more than 1,024 bytes or 32 attributes, or a control character in a value.
    pub fn parse(der: &[u8]) -> Result<Self, NameError> {
        Self::parse_as(der, Encoding::Strict)
    }

    /// Like [`Self::parse`], but may accept deviations from DER.
    pub(crate) fn parse_as(der: &[u8], encoding: Encoding) -> Result<Self, NameError> {
        let mut reading = Reading::new(encoding);
        check_as(der, NAME_LIMITS, &mut reading).map_err(|misplaced| NameError::Der(misplaced.error))?;
        Self::read(der, reading).map_err(|fault| fault.error)
    }

    /// Reads a name from bytes that [`check_as`] has checked; `reading` holds the deviations that it accepted. A part of a strict
    /// structure is strict.
    pub(crate) fn read(der: &[u8], reading: Reading) -> Result<Self, InName> {
        let whole = |error| InName { relative: 0, error: NameError::Der(error) };
        if der.len() > NAME_BYTES_MAX {
            return Err(whole(DerError::TooLarge));
        }
        let strict = reading.deviations().is_empty() || check_as(der, NAME_LIMITS, &mut Reading::default()).is_ok();
        let mut count = 0;
        let mut rdns = Reader::sequence(der).map_err(whole)?;
        let mut relative = 0;
        while !rdns.is_empty() {
            relative += 1;
            read_relative_name(&mut rdns, &mut count).map_err(|error| InName { relative, error })?;
        }
        Ok(Self { der: der.into(), strict })
    }

    /// The same name in strict DER: it sorts the attributes of each relative name and turns an invalid PrintableString into
    /// UTF8String. Issued certificates contain this form.
    #[must_use]
    pub fn to_strict(&self) -> Cow<'_, Self> {
        if self.strict {
            return Cow::Borrowed(self);
        }
        let mut out = Writer::with_capacity(self.der.len());
        out.sequence(|out| {
            let mut rdns = self.rdns();
            while let Ok(mut set) = rdns.nested(Tag::SET) {
                let mut attributes = Vec::new();
                while let Ok(attribute) = Attribute::read(&mut set) {
                    attributes.push(attribute.encode_strictly());
                }
                out.set_of(Tag::SET, &mut attributes.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
        });
        Cow::Owned(Self { der: out.into_vec().into(), strict: true })
    }

    /// The whole SEQUENCE in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it has no attributes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rdns().is_empty()
    }

    /// All attributes, in order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut rdns = self.rdns();
        let mut current = Reader::new(&[]);
        std::iter::from_fn(move || {
            if current.is_empty() {
                current = rdns.nested(Tag::SET).ok()?;
            }
            Attribute::read(&mut current).ok()
        })
    }

    /// The text of the only attribute of this type: `None` if there is none, if there are several (it is not known which
    /// of them names the device), or if it is not text.
    #[must_use]
    pub fn attribute(&self, kind: Oid<'_>) -> Option<&str> {
        let mut found = self.attributes().filter(|attribute| attribute.kind == kind);
        let only = found.next()?;
        if found.next().is_some() {
            return None;
        }
        only.text()
    }

    /// Whether the names match as RFC 5280 §7.1 defines it: relative names in the same order, in each the same attributes in
    /// any order, text without regard to case, white space and string type. Unicode is not normalized: two spellings of one
    /// non-ASCII name may count as different.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.der == other.der || compare::names_match(self.rdns(), other.rdns())
    }

    /// The name as RFC 4514 text that is the same for all names that match: values that compare without case, white space and string type
    /// are written as [`folded`], and the attributes of one relative name are sorted by their texts. It is an index key, not for display.
    #[must_use]
    pub fn folded(&self) -> String {
        display::folded(self.rdns())
    }

    /// The contents of the SEQUENCE.
    pub(crate) fn contents(&self) -> &[u8] {
        Reader::new(&self.der).expect(Tag::SEQUENCE).unwrap_or_default()
    }

    /// The relative names; `parse` has checked that the SEQUENCE exists.
    fn rdns(&self) -> Reader<'_> {
        Reader::sequence(&self.der).unwrap_or(Reader::new(&[]))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display::write_name(self.rdns(), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A text in the form that caseIgnoreMatch compares (RFC 4518, to the extent of [`Name::matches`]): lower case, one space between words, none
/// around them.
#[must_use]
pub fn folded(text: &str) -> String {
    compare::prepared(text).collect()
}

/// `count` is the number of attributes in the whole name.
fn read_relative_name(rdns: &mut Reader<'_>, count: &mut usize) -> Result<(), NameError> {
    let mut attributes = rdns.nested(Tag::SET).map_err(NameError::Der)?;
    if attributes.is_empty() {
        return Err(NameError::EmptyRelativeName);
    }
    while !attributes.is_empty() {
        *count += 1;
        if *count > NAME_ATTRIBUTES_MAX {
            return Err(NameError::TooManyAttributes);
        }
        Attribute::read(&mut attributes).map_err(NameError::Der)?.check()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
