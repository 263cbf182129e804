//! A writer of DER into one `Vec`: it writes the contents first, then corrects the length in front of them.

use rustls_pki_types::UnixTime;

use super::Tag;
use crate::oid::Oid;

/// Builds DER. A closure writes a nested element; its length takes one octet until the contents are complete, and the
/// contents move by one to four octets if the length needs more.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A writer whose buffer has room for `bytes` bytes before it must grow.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    /// The written bytes.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// The number of written bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Makes room for `bytes` more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Appends existing DER.
    pub fn raw(&mut self, der: &[u8]) {
        self.out.extend_from_slice(der);
    }

    /// Writes an element around the contents that `contents` writes.
    pub fn nested(&mut self, tag: Tag, contents: impl FnOnce(&mut Self)) {
        self.out.extend_from_slice(&[tag.octet(), 0]);
        let start = self.out.len();
        contents(self);
        let length = DerLength::of(self.out.len() - start);
        let (first, more) = (length.octets()[0], &length.octets()[1..]);
        self.out[start - 1] = first;
        if !more.is_empty() {
            self.out.splice(start..start, more.iter().copied());
        }
    }

    /// Writes a SEQUENCE around the contents that `contents` writes.
    pub fn sequence(&mut self, contents: impl FnOnce(&mut Self)) {
        self.nested(Tag::SEQUENCE, contents);
    }

    /// Writes an element with these contents.
    pub fn element(&mut self, tag: Tag, contents: &[u8]) {
        self.out.push(tag.octet());
        self.out.extend_from_slice(DerLength::of(contents.len()).octets());
        self.out.extend_from_slice(contents);
    }

    /// Writes only the identifier and length of an element; the caller writes its `length` bytes of contents next.
    pub fn header(&mut self, tag: Tag, length: usize) {
        self.out.push(tag.octet());
        self.out.extend_from_slice(DerLength::of(length).octets());
    }

    /// Writes an INTEGER from an unsigned big-endian number of any length, minimal and positive.
    pub fn unsigned(&mut self, big_endian: &[u8]) {
        let leading = big_endian.iter().take_while(|&&octet| octet == 0).count();
        let digits = &big_endian[leading.min(big_endian.len().saturating_sub(1))..];
        let positive = digits.first().is_none_or(|&first| first & 0x80 != 0);
        self.header(Tag::INTEGER, digits.len() + usize::from(positive));
        if positive {
            self.out.push(0);
        }
        self.out.extend_from_slice(digits);
    }

    /// Writes `BOOLEAN TRUE`; FALSE is the default of every boolean in PKIX and is not written.
    pub fn true_value(&mut self) {
        self.element(Tag::BOOLEAN, &[0xff]);
    }

    /// Writes an OBJECT IDENTIFIER.
    pub fn oid(&mut self, oid: Oid<'_>) {
        self.element(Tag::OID, oid.contents());
    }

    /// Writes a BIT STRING of whole octets.
    pub fn bit_string(&mut self, octets: &[u8]) {
        self.header(Tag::BIT_STRING, octets.len() + 1);
        self.out.push(0);
        self.out.extend_from_slice(octets);
    }

    /// Writes a UTCTime through 2049, a GeneralizedTime from 2050 (RFC 5280 §4.1.2.5).
    pub fn time(&mut self, utc: UnixTime) {
        let encoded = crate::time::encode(utc);
        self.element(encoded.tag, encoded.contents());
    }

    /// Writes a SET OF around encodings, sorted as X.690 §11.6 requires, under `tag` (SET, or `[n]` IMPLICIT).
    pub fn set_of(&mut self, tag: Tag, elements: &mut [&[u8]]) {
        elements.sort_unstable();
        self.header(tag, elements.iter().map(|element| element.len()).sum());
        for element in elements {
            self.out.extend_from_slice(element);
        }
    }
}

/// Writes a length in its minimal form: one octet up to 127, otherwise a count and up to eight octets.
pub(crate) struct DerLength {
    octets: [u8; 9],
    start: usize,
}

impl DerLength {
    pub(crate) fn of(length: usize) -> Self {
        let mut octets = [0; 9];
        octets[1..].copy_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        let mut start = 1 + octets[1..8].iter().take_while(|&&octet| octet == 0).count();
        if length > 0x7f {
            start -= 1;
            octets[start] = 0x80 | [8, 7, 6, 5, 4, 3, 2, 1][start];
        }
        Self { octets, start }
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets[self.start..]
    }
}

/// The size of a whole element with `contents` bytes of contents.
pub(crate) fn element_len(contents: usize) -> usize {
    1 + DerLength::of(contents).octets().len() + contents
}

/// The octets of a length in its minimal form.
pub(crate) fn length_octets(length: usize) -> impl Iterator<Item = u8> {
    let length = DerLength::of(length);
    (0..length.octets().len()).map(move |index| length.octets()[index])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Reader, check_strict};
    use super::*;

    #[test]
    fn lengths_are_minimal() {
        for (length, octets) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x81, 128]),
            (255, &[0x81, 255]),
            (256, &[0x82, 1, 0]),
            (65_535, &[0x82, 255, 255]),
            (65_536, &[0x83, 1, 0, 0]),
            (1 << 32, &[0x85, 1, 0, 0, 0, 0]),
        ] {
            assert_eq!(DerLength::of(length).octets(), octets, "{length}");
        }
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        for (number, der) in [
            (&[0][..], &[2, 1, 0][..]),
            (&[], &[2, 1, 0]),
            (&[0, 0, 1], &[2, 1, 1]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0x80, 0], &[2, 3, 0, 0x80, 0]),
        ] {
            let mut writer = Writer::default();
            writer.unsigned(number);
            assert_eq!(writer.into_vec(), der, "{number:02x?}");
        }
    }

    /// A tree of elements for tests.
    #[derive(Clone, Debug)]
    enum Tree {
        Octets(Vec<u8>),
        Number(Vec<u8>),
        Sequence(Vec<Self>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Tree::Octets),
            proptest::collection::vec(any::<u8>(), 0..30).prop_map(Tree::Number)
        ];
        leaf.prop_recursive(6, 32, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Tree::Sequence))
    }

    fn write(tree: &Tree, writer: &mut Writer) {
        match tree {
            Tree::Octets(octets) => writer.element(Tag::OCTET_STRING, octets),
            Tree::Number(number) => writer.unsigned(number),
            Tree::Sequence(children) => {
                writer.sequence(|writer| children.iter().for_each(|child| write(child, writer)));
            }
        }
    }

    fn read(tree: &Tree, reader: &mut Reader<'_>) {
        match tree {
            Tree::Octets(octets) => assert_eq!(reader.expect(Tag::OCTET_STRING).unwrap(), octets),
            Tree::Number(number) => {
                let strip = |n: &[u8]| n.iter().copied().skip_while(|&o| o == 0).collect::<Vec<_>>();
                assert_eq!(strip(reader.expect(Tag::INTEGER).unwrap()), strip(number));
            }
            Tree::Sequence(children) => {
                let mut inner = reader.nested(Tag::SEQUENCE).unwrap();
                children.iter().for_each(|child| read(child, &mut inner));
                inner.finish().unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_strict_and_reads_back(tree in tree()) {
            let mut writer = Writer::default();
            write(&tree, &mut writer);
            let der = writer.into_vec();
            prop_assert_eq!(check_strict(&der), Ok(()));
            let mut reader = Reader::new(&der);
            read(&tree, &mut reader);
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}
