//! One attribute of a name, and the faults of a name.

use std::fmt;

use crate::der::{DerError, Reader, Tag, Writer, is_printable};
use crate::oid::Oid;

/// Attributes in a name. X.520 defines fewer kinds than this for a person or a device.
pub(crate) const NAME_ATTRIBUTES_MAX: usize = 32;

/// One attribute of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: Oid<'a>,
    /// The ASN.1 type of its value.
    pub tag: Tag,
    /// The content octets of its value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DerError> {
        let mut attribute = reader.nested(Tag::SEQUENCE)?;
        let kind = attribute.oid()?;
        let value = attribute.element()?;
        attribute.finish()?;
        Ok(Self { kind, tag: value.tag, value: value.contents })
    }

    pub(super) fn encode_strictly(&self) -> Vec<u8> {
        let is_other = self.tag == Tag::PRINTABLE_STRING && !self.value.iter().copied().all(is_printable);
        let mut out = Writer::default();
        out.sequence(|out| {
            out.oid(self.kind);
            // A value that contains elements, which X.520 never has, stays unchanged; the issuer's lint judges it.
            out.element(if is_other { Tag::UTF8_STRING } else { self.tag }, self.value);
        });
        out.into_vec()
    }

    /// Control characters could end a line in a log or a string in C; no name needs one.
    pub(super) fn check(&self) -> Result<(), NameError> {
        match self.text() {
            Some(text) if text.chars().any(char::is_control) => Err(NameError::ControlCharacter),
            _ => Ok(()),
        }
    }

    /// The value, if the octets of its string type are UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        match self.tag {
            Tag::UTF8_STRING | Tag::PRINTABLE_STRING | Tag::IA5_STRING | Tag::NUMERIC_STRING | Tag::VISIBLE_STRING => {
                std::str::from_utf8(self.value).ok()
            }
            _ => None,
        }
    }
}

/// Why bytes or texts are not a valid name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Not strict DER, or not an RDNSequence.
    Der(DerError),
    /// A relative name without attributes.
    EmptyRelativeName,
    /// More attributes than a name may have.
    TooManyAttributes,
    /// A control character in a value.
    ControlCharacter,
    /// A text that the attribute's string type cannot hold, or an empty one.
    Text,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::EmptyRelativeName => f.write_str("an RDN without attributes (RFC 5280 §4.1.2.4)"),
            Self::TooManyAttributes => write!(f, "more than {NAME_ATTRIBUTES_MAX} attributes"),
            Self::ControlCharacter => f.write_str("control character in a value"),
            Self::Text => f.write_str("a text does not fit the string type of its attribute"),
        }
    }
}

impl std::error::Error for NameError {}
