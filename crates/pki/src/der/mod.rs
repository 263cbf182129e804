//! Strict DER (X.690): the pass that runs before any other parser, a reader over checked bytes, and a writer.
//!
//! [`check_strict`] walks every element once, without recursion and without allocation, and refuses what DER forbids:
//! indefinite or non-minimal lengths, non-minimal integers, booleans other than 00 and FF, unsorted SET OF, strings outside
//! their alphabet, trailing bytes. It bounds depth, number of elements and size. It knows no structure: what a certificate
//! is stands in the modules that read one, each with a [`Reader`].

mod check;
mod reader;
mod writer;

pub use check::{CERTIFICATE_LIMITS, CMS_LIMITS, CSR_LIMITS, DEPTH_MAX, Limits, check_strict, check_within};
pub use reader::{Element, Reader};
pub use writer::Writer;

pub(crate) use check::{check_object_identifier, is_printable};
pub(crate) use writer::element_len;

use std::fmt;

/// An identifier octet. The high-tag-number form does not exist here: nothing in PKIX uses it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u8);

impl Tag {
    /// BOOLEAN
    pub const BOOLEAN: Self = Self(0x01);
    /// INTEGER
    pub const INTEGER: Self = Self(0x02);
    /// BIT STRING
    pub const BIT_STRING: Self = Self(0x03);
    /// OCTET STRING
    pub const OCTET_STRING: Self = Self(0x04);
    /// NULL
    pub const NULL: Self = Self(0x05);
    /// OBJECT IDENTIFIER
    pub const OID: Self = Self(0x06);
    /// ENUMERATED
    pub const ENUMERATED: Self = Self(0x0a);
    /// UTF8String
    pub const UTF8_STRING: Self = Self(0x0c);
    /// SEQUENCE and SEQUENCE OF
    pub const SEQUENCE: Self = Self(0x30);
    /// SET and SET OF
    pub const SET: Self = Self(0x31);
    /// NumericString
    pub const NUMERIC_STRING: Self = Self(0x12);
    /// PrintableString
    pub const PRINTABLE_STRING: Self = Self(0x13);
    /// TeletexString
    pub const TELETEX_STRING: Self = Self(0x14);
    /// IA5String
    pub const IA5_STRING: Self = Self(0x16);
    /// UTCTime
    pub const UTC_TIME: Self = Self(0x17);
    /// GeneralizedTime
    pub const GENERALIZED_TIME: Self = Self(0x18);
    /// VisibleString
    pub const VISIBLE_STRING: Self = Self(0x1a);
    /// UniversalString
    pub const UNIVERSAL_STRING: Self = Self(0x1c);
    /// BMPString
    pub const BMP_STRING: Self = Self(0x1e);

    /// The context-specific tag `[number]` around a primitive value (IMPLICIT).
    #[must_use]
    pub const fn context(number: u8) -> Self {
        assert!(number < 0x1f);
        Self(0x80 | number)
    }

    /// The context-specific tag `[number]` around other elements (EXPLICIT, or IMPLICIT over a constructed type).
    #[must_use]
    pub const fn context_constructed(number: u8) -> Self {
        assert!(number < 0x1f);
        Self(0xa0 | number)
    }

    /// The identifier octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        self.0
    }

    /// Does the element hold elements?
    #[must_use]
    pub const fn is_constructed(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Is it `[0]` to `[30]`?
    #[must_use]
    pub const fn is_context_specific(self) -> bool {
        self.0 & 0xc0 == 0x80
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:#04x})", self.0)
    }
}

/// Why bytes are not the DER that was expected. The peer's (or a file's) fault, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DerError {
    /// An element reaches past the end of what holds it.
    Truncated,
    /// Bytes follow where the structure ends.
    Trailing,
    /// An indefinite or non-minimal length (X.690 §10.1), or one of more than four octets.
    Length,
    /// A tag that no structure of PKIX uses, in the wrong class or form.
    ForbiddenTag(Tag),
    /// Another element was expected here; `found` is `None` at the end.
    Unexpected {
        /// What stands in the definition.
        expected: Tag,
        /// What stands in the bytes.
        found: Option<Tag>,
    },
    /// An empty or non-minimal INTEGER or ENUMERATED (X.690 §8.3.2).
    Integer,
    /// A BOOLEAN other than 00 or FF (X.690 §11.1).
    Boolean,
    /// A BIT STRING with an impossible number of unused bits, or with unused bits set (X.690 §11.2.1).
    BitString,
    /// A NULL with contents.
    Null,
    /// An empty, cut or non-minimal OBJECT IDENTIFIER (X.690 §8.19).
    ObjectIdentifier,
    /// A time in another form than RFC 5280 §4.1.2.5 allows, or one that no calendar has.
    Time,
    /// A character outside the alphabet of its string type.
    Text,
    /// A SET OF whose elements are not in ascending order (X.690 §11.6).
    SetOrder,
    /// A value that equals its DEFAULT and is encoded all the same (X.690 §11.5).
    EncodedDefault,
    /// Deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More elements than the limit of its kind.
    TooManyElements,
    /// More bytes than the limit of its kind.
    TooLarge,
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Truncated => "an element reaches past its container",
            Self::Trailing => "bytes follow the end of the structure",
            Self::Length => "a length is indefinite, not minimal or too long",
            Self::ForbiddenTag(tag) => return write!(f, "tag {:#04x} has no place in X.509", tag.octet()),
            Self::Unexpected { expected, found: Some(found) } => {
                return write!(f, "tag {:#04x} where {:#04x} belongs", found.octet(), expected.octet());
            }
            Self::Unexpected { expected, found: None } => {
                return write!(f, "the structure ends where tag {:#04x} belongs", expected.octet());
            }
            Self::Integer => "an integer is empty or not minimal",
            Self::Boolean => "a boolean is neither 00 nor FF",
            Self::BitString => "a bit string has wrong unused bits",
            Self::Null => "a NULL has contents",
            Self::ObjectIdentifier => "an object identifier is not well-formed",
            Self::Time => "a time is not in the form of RFC 5280",
            Self::Text => "a string holds characters outside its alphabet",
            Self::SetOrder => "a SET OF is not sorted",
            Self::EncodedDefault => "a default value is encoded",
            Self::TooDeep => "the structure is nested too deeply",
            Self::TooManyElements => "the structure has too many elements",
            Self::TooLarge => "the structure is too large",
        };
        f.write_str(text)
    }
}

impl std::error::Error for DerError {}

/// The octets of a length in its minimal form.
pub(crate) fn length_octets(length: usize) -> impl Iterator<Item = u8> {
    let length = writer::Length::of(length);
    (0..length.octets().len()).map(move |index| length.octets()[index])
}
