//! Reading and writing the presentation language of RFC 5246 §4: integers, and vectors with their length before them.

/// Bytes that do not have the required form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes values from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u24(&mut self) -> Result<usize, Malformed> {
        self.array().map(|[a, b, c]| usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))
    }

    pub(crate) fn vector_8(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u8()?;
        self.take(length.into())
    }

    pub(crate) fn vector_16(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(crate) fn vector_24(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u24()?;
        self.take(length)
    }

    /// Nothing may follow: trailing bytes are a decode error (RFC 5246 §7.4.1.4).
    pub(crate) const fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// A vector of 16-bit code points, with at least one element and no odd byte.
pub(crate) fn code_points(bytes: &[u8]) -> Result<CodePoints<'_>, Malformed> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) { Err(Malformed) } else { Ok(CodePoints(bytes)) }
}

/// A checked list of 16-bit code points.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CodePoints<'a>(&'a [u8]);

impl CodePoints<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
    }

    pub(crate) fn contains(&self, code: u16) -> bool {
        self.iter().any(|one| one == code)
    }
}

/// The length as 16 bits. What we write is bounded far below that; a longer value is a defect of ours.
pub(crate) fn to_u16(length: usize) -> u16 {
    u16::try_from(length).expect("what we encode is bounded by HANDSHAKE_MESSAGE_BYTES_MAX")
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn u24(value: usize) -> [u8; 3] {
    debug_assert!(value < 1 << 24);
    let [.., a, b, c] = value.to_be_bytes();
    [a, b, c]
}

pub(crate) fn with_length_8(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    content(out);
    out[at] = u8::try_from(out.len() - at - 1).expect("short vectors that we encode have fewer than 256 bytes");
}

pub(crate) fn with_length_16(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    content(out);
    let length = to_u16(out.len() - at - 2);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

pub(crate) fn with_length_24(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 3]);
    content(out);
    let length = u24(out.len() - at - 3);
    out[at..at + 3].copy_from_slice(&length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_never_go_past_the_end() {
        assert_eq!(Reader::new(&[3, 1, 2]).vector_8(), Err(Malformed));
        assert_eq!(Reader::new(&[0, 3, 1, 2]).vector_16(), Err(Malformed));
        assert_eq!(Reader::new(&[0, 0, 3, 1, 2]).vector_24(), Err(Malformed));
        assert_eq!(Reader::new(&[1]).u16(), Err(Malformed));
        assert_eq!(Reader::new(&[2, 1, 2]).vector_8(), Ok(&[1, 2][..]));
        assert_eq!(Reader::new(&[0]).end(), Err(Malformed));
    }

    #[test]
    fn lengths_are_written_before_what_they_count() {
        let mut out = Vec::new();
        with_length_24(&mut out, |out| with_length_16(out, |out| with_length_8(out, |out| out.push(9))));
        assert_eq!(out, [0, 0, 4, 0, 2, 1, 9]);
    }
}
