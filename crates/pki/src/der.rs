//! Strict DER (X.690): the pass that runs before any other parser, a reader over checked bytes, and a writer.
//!
//! [`check_strict`] walks every element once, without recursion and without allocation, and refuses what DER forbids:
//! indefinite or non-minimal lengths, non-minimal integers, booleans other than 00 and FF, unsorted SET OF, strings outside
//! their alphabet, trailing bytes. It limits depth, number of elements and size. It knows no structure: the modules that
//! parse a certificate, request or message do so with a [`Reader`].

mod check;
mod reader;
mod writer;

use std::fmt;

pub(crate) use check::check_as;
pub(crate) use check::is_printable;
pub use check::{CERTIFICATE_LIMITS, CMS_LIMITS, CSR_LIMITS, DEPTH_MAX, DerLimits, check_strict, check_within};
pub(crate) use reader::read_header as raw_header;
pub use reader::{Element, Reader};
pub use writer::Writer;
pub(crate) use writer::{element_len, length_octets};

/// An identifier octet. The high-tag-number form is not supported: nothing in PKIX uses it.
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

    /// Whether the element contains elements.
    #[must_use]
    pub const fn is_constructed(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Whether the tag is `[0]` to `[30]`.
    #[must_use]
    pub const fn is_context_specific(self) -> bool {
        self.0 & 0xc0 == 0x80
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::BOOLEAN => "BOOLEAN",
            Self::INTEGER => "INTEGER",
            Self::BIT_STRING => "BIT STRING",
            Self::OCTET_STRING => "OCTET STRING",
            Self::NULL => "NULL",
            Self::OID => "OBJECT IDENTIFIER",
            Self::UTF8_STRING => "UTF8String",
            Self::SEQUENCE => "SEQUENCE",
            Self::SET => "SET",
            Self::NUMERIC_STRING => "NumericString",
            Self::PRINTABLE_STRING => "PrintableString",
            Self::IA5_STRING => "IA5String",
            Self::UTC_TIME => "UTCTime",
            Self::GENERALIZED_TIME => "GeneralizedTime",
            Self::VISIBLE_STRING => "VisibleString",
            Self::BMP_STRING => "BMPString",
            Self::UNIVERSAL_STRING => "UniversalString",
            Self(octet) => return write!(f, "{octet:#04x}"),
        })
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:#04x})", self.0)
    }
}

/// Why bytes are not the expected DER. It is always the fault of the peer or file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DerError {
    /// An element extends past the end of the element around it.
    Truncated,
    /// Bytes follow after the end of the structure.
    Trailing,
    /// A length that is not minimal (X.690 §10.1).
    Length,
    /// An indefinite length: BER, and not DER (X.690 §10.1).
    Indefinite,
    /// A length of more than four octets.
    LongLength,
    /// A tag that no structure of PKIX uses, in the wrong class or form.
    ForbiddenTag(Tag),
    /// An unexpected element; `found` is `None` at the end.
    Unexpected {
        /// The tag that the definition requires.
        expected: Tag,
        /// The tag in the bytes.
        found: Option<Tag>,
    },
    /// A non-minimal INTEGER or ENUMERATED (X.690 §8.3.2).
    Integer,
    /// An INTEGER or ENUMERATED without contents (X.690 §8.3.1).
    EmptyInteger,
    /// A BOOLEAN other than 00 or FF (X.690 §11.1).
    Boolean,
    /// A BIT STRING with an impossible number of unused bits, or with unused bits set (X.690 §11.2.1).
    BitString,
    /// A NULL with contents.
    Null,
    /// An empty, truncated or non-minimal OBJECT IDENTIFIER (X.690 §8.19).
    ObjectIdentifier,
    /// A time in a form that RFC 5280 §4.1.2.5 does not allow, or a date that does not exist.
    Time,
    /// A text that must be printable ASCII and is not.
    Text,
    /// An octet outside the alphabet of its string type.
    Alphabet {
        /// The string type.
        string: Tag,
        /// The first such octet.
        octet: u8,
    },
    /// A UTF8String, BMPString or UniversalString whose octets do not encode characters.
    Characters(Tag),
    /// A SET OF whose elements are not in ascending order (X.690 §11.6).
    SetOrder,
    /// An encoded value that equals its DEFAULT (X.690 §11.5).
    EncodedDefault,
    /// Deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More elements than the limit for its kind.
    TooManyElements,
    /// More bytes than the limit for its kind.
    TooLarge,
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Truncated => "an element extends past the end of its container",
            Self::Trailing => "bytes follow the end of the structure",
            Self::Length => "length is not minimal (X.690 §10.1)",
            Self::Indefinite => "indefinite length, which is BER, not DER (X.690 §10.1)",
            Self::LongLength => "the length field has more than four octets",
            Self::ForbiddenTag(tag) => return write!(f, "tag {tag} is not used in X.509"),
            Self::Unexpected { expected, found: Some(found) } => {
                return write!(f, "found {found}, expected {expected}");
            }
            Self::Unexpected { expected, found: None } => {
                return write!(f, "the structure ends; expected {expected}");
            }
            Self::Integer => "INTEGER is not minimal (X.690 §8.3.2)",
            Self::EmptyInteger => "INTEGER without contents (X.690 §8.3.1)",
            Self::Boolean => "BOOLEAN is neither 00 nor FF (X.690 §11.1)",
            Self::BitString => "BIT STRING with wrong unused bits (X.690 §11.2)",
            Self::Null => "NULL with contents (X.690 §8.8)",
            Self::ObjectIdentifier => "OBJECT IDENTIFIER is not well-formed (X.690 §8.19)",
            Self::Time => "time is not in the format of RFC 5280 §4.1.2.5",
            Self::Text => "text that is not printable ASCII",
            Self::Alphabet { string, octet } => {
                write!(f, "{string} with ")?;
                return match char::from(*octet) {
                    c if c.is_ascii_graphic() => write!(f, "`{c}`, which is outside its alphabet (X.680 §41)"),
                    _ => write!(f, "octet {octet:#04x}, which is outside its alphabet (X.680 §41)"),
                };
            }
            Self::Characters(string) => return write!(f, "{string} with octets that are not valid characters"),
            Self::SetOrder => "SET OF (in an RDN: its attributes) is not in DER order (X.690 §11.6)",
            Self::EncodedDefault => "DEFAULT value encoded (X.690 §11.5)",
            Self::TooDeep => "nested too deeply",
            Self::TooManyElements => "too many elements",
            Self::TooLarge => "too many bytes",
        };
        f.write_str(text)
    }
}

impl std::error::Error for DerError {}
