//! A reader over DER: one element after the other, borrowed. It enforces minimal lengths, but checks values only where it
//! decodes them; run [`super::check_strict`] first.

use rustls_pki_types::UnixTime;

use super::{DerError, Tag};
use crate::encoding::{Deviation, Reading};
use crate::oid::Oid;

/// One element: its tag, its contents and its whole encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element<'a> {
    /// The identifier.
    pub tag: Tag,
    /// The content octets.
    pub contents: &'a [u8],
    /// Identifier, length and contents.
    pub whole: &'a [u8],
}

/// Reads the elements of one level.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the consecutive elements in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the elements inside the single SEQUENCE in `bytes`.
    ///
    /// # Errors
    /// `bytes` is another element, or more bytes follow it.
    pub fn sequence(bytes: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Self::new(bytes);
        let inner = outer.nested(Tag::SEQUENCE)?;
        outer.finish()?;
        Ok(inner)
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that have not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The tag of the next element.
    #[must_use]
    pub fn peek(&self) -> Option<Tag> {
        self.rest.first().map(|&octet| Tag(octet))
    }

    /// The next element, with any tag.
    ///
    /// # Errors
    /// A broken header, or an element that extends past the end.
    pub fn element(&mut self) -> Result<Element<'a>, DerError> {
        let (tag, length, header) = read_header(self.rest)?;
        let (whole, rest) = self.rest.split_at(header + length);
        self.rest = rest;
        Ok(Element { tag, contents: &whole[header..], whole })
    }

    /// The next element, which must have the tag `tag`.
    ///
    /// # Errors
    /// [`DerError::Unexpected`], or a broken header.
    pub fn expect_element(&mut self, tag: Tag) -> Result<Element<'a>, DerError> {
        if self.peek() != Some(tag) {
            return Err(DerError::Unexpected { expected: tag, found: self.peek() });
        }
        self.element()
    }

    /// The contents of the next element, which must have the tag `tag`.
    ///
    /// # Errors
    /// As [`Self::expect_element`].
    pub fn expect(&mut self, tag: Tag) -> Result<&'a [u8], DerError> {
        self.expect_element(tag).map(|element| element.contents)
    }

    /// A reader over the contents of the next element, which must have the tag `tag`.
    ///
    /// # Errors
    /// As [`Self::expect_element`].
    pub fn nested(&mut self, tag: Tag) -> Result<Self, DerError> {
        self.expect(tag).map(Self::new)
    }

    /// The contents of the next element if it has the tag `tag` (OPTIONAL).
    ///
    /// # Errors
    /// A broken header.
    pub fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// An OBJECT IDENTIFIER.
    ///
    /// # Errors
    /// As [`Self::expect_element`].
    pub fn oid(&mut self) -> Result<Oid<'a>, DerError> {
        self.expect(Tag::OID).map(Oid::new)
    }

    /// A BIT STRING of whole octets.
    ///
    /// # Errors
    /// [`DerError::BitString`] when there are unused bits.
    pub fn octets_of_bit_string(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(Tag::BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::BitString),
        }
    }

    /// A `BOOLEAN DEFAULT FALSE`: absent or TRUE. X.690 §11.5: "The encoding of a set value or sequence value shall not include
    /// an encoding for any component value which is equal to its default value".
    ///
    /// # Errors
    /// [`DerError::EncodedDefault`] for an encoded FALSE, [`DerError::Boolean`] for anything else.
    pub fn default_false(&mut self) -> Result<bool, DerError> {
        self.default_false_as(&mut Reading::default())
    }

    /// Like [`Self::default_false`], but may accept an encoded FALSE.
    pub(crate) fn default_false_as(&mut self, reading: &mut Reading) -> Result<bool, DerError> {
        match self.optional(Tag::BOOLEAN)? {
            None => Ok(false),
            Some([0xff]) => Ok(true),
            Some([0x00]) if reading.lets(Deviation::EncodedDefault) => Ok(false),
            Some([0x00]) => Err(DerError::EncodedDefault),
            Some(_) => Err(DerError::Boolean),
        }
    }

    /// A UTCTime or GeneralizedTime.
    ///
    /// # Errors
    /// [`DerError::Time`], or as [`Self::expect_element`].
    pub fn time(&mut self) -> Result<UnixTime, DerError> {
        let tag = if self.peek() == Some(Tag::GENERALIZED_TIME) { Tag::GENERALIZED_TIME } else { Tag::UTC_TIME };
        crate::time::parse(tag, self.expect(tag)?)
    }

    /// Checks that the level ends here.
    ///
    /// # Errors
    /// [`DerError::Trailing`] if bytes remain.
    pub const fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }
}

/// Tag, length of the contents, length of the header; the contents fit into `bytes`.
#[inline]
pub(crate) fn read_header(bytes: &[u8]) -> Result<(Tag, usize, usize), DerError> {
    // Nearly every element of a certificate: one octet of length, and contents that fit.
    match *bytes {
        [tag, length @ 0..=0x7f, ref rest @ ..] if tag & 0x1f != 0x1f && rest.len() >= usize::from(length) => {
            Ok((Tag(tag), usize::from(length), 2))
        }
        _ => read_any_header(bytes),
    }
}

/// The same for any length, and for headers at fault.
#[inline(never)]
fn read_any_header(bytes: &[u8]) -> Result<(Tag, usize, usize), DerError> {
    let &[tag, first, ref rest @ ..] = bytes else { return Err(DerError::Truncated) };
    let tag = Tag(tag);
    if tag.0 & 0x1f == 0x1f {
        return Err(DerError::ForbiddenTag(tag));
    }
    let (length, header) = match first {
        0..=0x7f => (usize::from(first), 2),
        // X.690 §10.1: "The definite form of length encoding shall be used, encoded in the minimum number of octets."
        0x81..=0x84 => {
            let octets = usize::from(first & 0x7f);
            let field = rest.get(..octets).ok_or(DerError::Truncated)?;
            let length = field.iter().fold(0u64, |length, &octet| length << 8 | u64::from(octet));
            let minimal = if octets == 1 { length >= 0x80 } else { field[0] != 0 };
            if !minimal {
                return Err(DerError::Length);
            }
            (usize::try_from(length).map_err(|_| DerError::Length)?, 2 + octets)
        }
        0x80 => return Err(DerError::Indefinite),
        _ => return Err(DerError::LongLength),
    };
    if bytes.len() - header < length {
        return Err(DerError::Truncated);
    }
    Ok((tag, length, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_order_and_the_end_is_checked() {
        let bytes = [0x30, 0x08, 0x02, 0x01, 0x05, 0x06, 0x03, 0x55, 0x04, 0x03];
        let mut sequence = Reader::sequence(&bytes).unwrap();
        assert_eq!(sequence.expect(Tag::INTEGER), Ok(&[5][..]));
        assert!(sequence.finish().is_err());
        assert_eq!(sequence.optional(Tag::BOOLEAN), Ok(None));
        assert_eq!(sequence.oid(), Ok(crate::oid::COMMON_NAME));
        assert_eq!(sequence.expect(Tag::NULL), Err(DerError::Unexpected { expected: Tag::NULL, found: None }));
        assert_eq!(sequence.finish(), Ok(()));
    }

    #[test]
    fn e20_a_default_that_is_encoded_is_not_der() {
        assert_eq!(Reader::new(&[0x01, 0x01, 0x00]).default_false(), Err(DerError::EncodedDefault));
        assert_eq!(Reader::new(&[0x01, 0x01, 0xff]).default_false(), Ok(true));
        assert_eq!(Reader::new(&[]).default_false(), Ok(false));
    }
}
