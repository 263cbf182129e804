//! Several representations in one payload: `application/multipart-core` (Content-Format 62, RFC 8710).
//!
//! RFC 8710 §3 defines it as a CBOR array of pairs: `multipart-core = [* multipart-part]`, `multipart-part = (type: uint .size 2, part: bytes /
//! null)`. EST-coaps answers with a private key and its certificate in one such payload (RFC 9148 §4.8).
//!
//! This is a codec for small collections, not a CBOR library: it reads exactly this structure. A general crate would not save code, because it accepts
//! what is refused here, and the licence of `minicbor` (BlueOak-1.0.0) is not on the list in deny.toml.
//!
//! # What is written, and what is read
//!
//! [`encode`] writes the preferred form (RFC 8949 §4.1). Every well-formed encoding of the structure is read, because RFC 8710 does not ask for the
//! preferred one, and a key that the server has made is lost if its answer is not read:
//!
//! - Numbers and lengths with longer heads than they need.
//! - An array of definite or of indefinite length, as encoders write that stream.
//! - A byte string in chunks (RFC 8949 §3.2.3). Its octets have to be copied to be read in one piece: [`joined`] does that, for those who need it.
//! - `null` for "an optional part that is absent" (RFC 8710 §3): it is passed over.

use std::fmt;

use zeroize::Zeroizing;

use crate::format::ContentFormat;

/// Parts in a collection. EST-coaps has two; more would be a use that is not known here.
pub const PARTS_MAX: usize = 8;

/// One representation of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MultipartPart<'a> {
    /// Its Content-Format.
    pub format: ContentFormat,
    /// Its bytes.
    pub body: &'a [u8],
}

/// Encodes a collection as an array of definite length, in the shortest form.
///
/// # Errors
/// [`MultipartError::TooManyParts`].
pub fn encode(parts: &[MultipartPart<'_>]) -> Result<Vec<u8>, MultipartError> {
    if parts.len() > PARTS_MAX {
        return Err(MultipartError::TooManyParts);
    }
    // The exact size, so that the vector never moves: a part may be a private key.
    let mut out = Vec::with_capacity(encoded_len(parts));
    head(&mut out, MajorType::Array, 2 * parts.len());
    for part in parts {
        head(&mut out, MajorType::Unsigned, usize::from(part.format.0));
        head(&mut out, MajorType::Bytes, part.body.len());
        out.extend_from_slice(part.body);
    }
    debug_assert_eq!(out.len(), encoded_len(parts), "the vector was large enough");
    Ok(out)
}

/// Decodes a whole payload. The parts borrow from it; absent ones are left out.
///
/// # Errors
/// [`MultipartError`] says what is wrong with it: [`MultipartError::Chunks`] if the payload has to be [`joined`] first.
pub fn decode(payload: &[u8]) -> Result<Vec<MultipartPart<'_>>, MultipartError> {
    let mut parts = Vec::with_capacity(2);
    for (format, body) in read(payload)? {
        match body {
            EncodedBody::Whole(body) => parts.push(MultipartPart { format, body }),
            EncodedBody::Chunks { .. } => return Err(MultipartError::Chunks),
            EncodedBody::Absent => {}
        }
    }
    Ok(parts)
}

/// The same collection with every byte string in one piece, for [`decode`]; `None` if it is so already. The copy is wiped when it is dropped, because a
/// part may be a private key. It is not longer than the payload.
///
/// # Errors
/// As [`decode`], but for chunks.
pub fn joined(payload: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, MultipartError> {
    let parts = read(payload)?;
    if !parts.iter().any(|(_, body)| matches!(body, EncodedBody::Chunks { .. })) {
        return Ok(None);
    }
    // The vector never moves: the head of a whole string is not longer than the heads of its chunks and the two octets around them.
    let mut out = Zeroizing::new(Vec::with_capacity(payload.len()));
    let present = || parts.iter().filter(|(_, body)| !matches!(body, EncodedBody::Absent));
    head(&mut out, MajorType::Array, 2 * present().count());
    for (format, body) in present() {
        head(&mut out, MajorType::Unsigned, usize::from(format.0));
        match body {
            EncodedBody::Whole(body) => {
                head(&mut out, MajorType::Bytes, body.len());
                out.extend_from_slice(body);
            }
            EncodedBody::Chunks { encoded, length } => {
                head(&mut out, MajorType::Bytes, *length);
                let mut encoded = *encoded;
                while let Some(chunk) = read_chunk(&mut encoded)? {
                    out.extend_from_slice(chunk);
                }
            }
            EncodedBody::Absent => {}
        }
    }
    debug_assert!(out.len() <= payload.len(), "the vector was large enough");
    Ok(Some(out))
}

/// The second element of a pair.
enum EncodedBody<'a> {
    Whole(&'a [u8]),
    /// The chunks with their heads and the end; the bytes in all of them.
    Chunks {
        encoded: &'a [u8],
        length: usize,
    },
    Absent,
}

fn read(payload: &[u8]) -> Result<Vec<(ContentFormat, EncodedBody<'_>)>, MultipartError> {
    let mut rest = payload;
    let count = match read_head(&mut rest)? {
        (MajorType::Array, Some(elements)) if !elements.is_multiple_of(2) => return Err(MultipartError::OddElements),
        (MajorType::Array, elements) => elements.map(|elements| elements / 2),
        _ => return Err(MultipartError::NotAnArray),
    };
    if count.is_some_and(|count| count > PARTS_MAX) {
        return Err(MultipartError::TooManyParts);
    }
    let mut parts = Vec::with_capacity(count.unwrap_or(2));
    while count != Some(parts.len()) {
        if count.is_none() && rest.first() == Some(&BREAK) {
            rest = &rest[1..];
            break;
        }
        if parts.len() == PARTS_MAX {
            return Err(MultipartError::TooManyParts);
        }
        parts.push(read_part(&mut rest)?);
    }
    if rest.is_empty() { Ok(parts) } else { Err(MultipartError::Trailing) }
}

/// The size of the encoding.
fn encoded_len(parts: &[MultipartPart<'_>]) -> usize {
    let part_len =
        |part: &MultipartPart<'_>| head_len(usize::from(part.format.0)) + head_len(part.body.len()) + part.body.len();
    1 + parts.iter().map(part_len).sum::<usize>()
}
const _: () = assert!(2 * PARTS_MAX < 24, "the array's head has one octet");

fn read_part<'a>(rest: &mut &'a [u8]) -> Result<(ContentFormat, EncodedBody<'a>), MultipartError> {
    let format = match read_head(rest)? {
        (MajorType::Unsigned, Some(number)) => u16::try_from(number).map_err(|_| MultipartError::ContentFormat)?,
        _ => return Err(MultipartError::ContentFormat),
    };
    let format = ContentFormat(format);
    if rest.first() == Some(&NULL) {
        *rest = &rest[1..];
        return Ok((format, EncodedBody::Absent));
    }
    match read_head(rest)? {
        (MajorType::Bytes, Some(length)) => Ok((format, EncodedBody::Whole(read_bytes(rest, length)?))),
        (MajorType::Bytes, None) => {
            let (encoded, mut length) = (*rest, 0);
            while let Some(chunk) = read_chunk(rest)? {
                length += chunk.len();
            }
            Ok((format, EncodedBody::Chunks { encoded, length }))
        }
        _ => Err(MultipartError::NotBytes),
    }
}

/// The next chunk of a byte string, up to its end: "The contents [...] are made up of zero or more definite-length strings of the same major type"
/// (RFC 8949 §3.2.3).
fn read_chunk<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, MultipartError> {
    if rest.first() == Some(&BREAK) {
        *rest = &rest[1..];
        return Ok(None);
    }
    match read_head(rest)? {
        (MajorType::Bytes, Some(length)) => read_bytes(rest, length).map(Some),
        _ => Err(MultipartError::NotBytes),
    }
}

fn read_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], MultipartError> {
    let (bytes, after) = rest.split_at_checked(length).ok_or(MultipartError::Truncated)?;
    *rest = after;
    Ok(bytes)
}

/// The end of an array or a byte string of indefinite length (RFC 8949 §3.2.1).
const BREAK: u8 = 0xff;
/// The simple value null (RFC 8949 §3.3).
const NULL: u8 = 0xf6;

/// The three major types that occur (RFC 8949 §3.1), in the three high bits of an item's first octet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MajorType {
    Unsigned = 0 << 5,
    Bytes = 2 << 5,
    Array = 4 << 5,
}

/// The head of the next item: its type and its argument, `None` for an indefinite length.
fn read_head(rest: &mut &[u8]) -> Result<(MajorType, Option<usize>), MultipartError> {
    let (&first, after) = rest.split_first().ok_or(MultipartError::Truncated)?;
    let major = match first & 0xe0 {
        0x00 => MajorType::Unsigned,
        0x40 => MajorType::Bytes,
        0x80 => MajorType::Array,
        _ => return Err(MultipartError::OtherType),
    };
    let octets = match first & 0x1f {
        argument @ 0..=23 => {
            *rest = after;
            return Ok((major, Some(usize::from(argument))));
        }
        argument @ 24..=27 => 1 << (argument - 24),
        31 if major != MajorType::Unsigned => {
            *rest = after;
            return Ok((major, None));
        }
        _ => return Err(MultipartError::OtherType),
    };
    let (argument, after) = after.split_at_checked(octets).ok_or(MultipartError::Truncated)?;
    let argument = argument.iter().fold(0u64, |number, &octet| number << 8 | u64::from(octet));
    *rest = after;
    Ok((major, Some(usize::try_from(argument).map_err(|_| MultipartError::Truncated)?)))
}

fn head(out: &mut Vec<u8>, major: MajorType, argument: usize) {
    let octets = u64::try_from(argument).unwrap_or(u64::MAX).to_be_bytes();
    let (code, length) = match head_len(argument) {
        1 => return out.push(major as u8 | octets[7]),
        2 => (24, 1),
        3 => (25, 2),
        5 => (26, 4),
        _ => (27, 8),
    };
    out.push(major as u8 | code);
    out.extend_from_slice(&octets[8 - length..]);
}

const fn head_len(argument: usize) -> usize {
    match argument {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Why bytes are not a collection that is accepted here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MultipartError {
    /// The payload ends inside an item.
    Truncated,
    /// Bytes follow the array.
    Trailing,
    /// The payload is not a CBOR array.
    NotAnArray,
    /// The array has an odd number of elements.
    OddElements,
    /// More than [`PARTS_MAX`] parts.
    TooManyParts,
    /// The first element of a pair is not an unsigned integer of at most 16 bits.
    ContentFormat,
    /// The second element of a pair is not a byte string.
    NotBytes,
    /// A byte string in chunks, which has to be [`joined`] first.
    Chunks,
    /// An item of a type that no collection contains, or a reserved encoding.
    OtherType,
}

impl fmt::Display for MultipartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the collection ends inside an item",
            Self::Trailing => "bytes follow the collection",
            Self::NotAnArray => "the collection is not a CBOR array (RFC 8710 §3)",
            Self::OddElements => "the array has an odd number of elements (RFC 8710 §3)",
            Self::TooManyParts => return write!(f, "more than {PARTS_MAX} parts"),
            Self::ContentFormat => "a part does not begin with a Content-Format (RFC 8710 §3)",
            Self::NotBytes => "a part is not a byte string (RFC 8710 §3)",
            Self::Chunks => "a byte string of indefinite length",
            Self::OtherType => "a CBOR item of another type",
        })
    }
}

impl std::error::Error for MultipartError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: ContentFormat = ContentFormat::PKCS8;
    const CERTIFICATES: ContentFormat = ContentFormat::PKCS7_CERTS_ONLY;

    /// The answer to `/skg` in appendix A.3 of RFC 9148.
    fn example() -> Vec<u8> {
        let text = include_str!("../tests/vectors/rfc9148/skg-response-62.hex");
        hex::decode(text.split_whitespace().collect::<String>()).unwrap()
    }

    #[test]
    fn the_example_of_rfc_9148_is_read_and_written() {
        let payload = example();
        let parts = decode(&payload).unwrap();
        assert_eq!(parts.iter().map(|part| part.format).collect::<Vec<_>>(), [KEY, CERTIFICATES]);
        assert_eq!(parts.iter().map(|part| part.body.len()).collect::<Vec<_>>(), [0x8a, 0x1d3]);
        assert_eq!(encode(&parts).as_deref(), Ok(&payload[..]));
    }

    #[test]
    fn an_array_of_indefinite_length_says_the_same() {
        let mut payload = example();
        payload[0] = 0x9f;
        assert_eq!(decode(&payload), Err(MultipartError::Truncated), "the end is missing");
        payload.push(0xff);
        assert_eq!(decode(&payload), decode(&example()));
        assert_eq!(decode(&[0x9f, 0x00, 0xff]), Err(MultipartError::OtherType), "the end inside a pair");
        assert_eq!((decode(&[0x80]), decode(&[0x9f, 0xff])), (Ok(Vec::new()), Ok(Vec::new())));
    }

    #[test]
    fn what_is_not_this_structure_is_refused() {
        for (payload, error) in [
            (&[][..], MultipartError::Truncated),
            (&[0x40], MultipartError::NotAnArray),
            (&[0xa1, 0x00, 0x40], MultipartError::OtherType),
            (&[0xd8, 0x1c, 0x82, 0x00, 0x40], MultipartError::OtherType),
            (&[0x81, 0x00], MultipartError::OddElements),
            (&[0x82, 0x00], MultipartError::Truncated),
            (&[0x82, 0x00, 0x42, 0x01], MultipartError::Truncated),
            (&[0x82, 0x00, 0x40, 0x00], MultipartError::Trailing),
            (&[0x82, 0x40, 0x40], MultipartError::ContentFormat),
            (&[0x82, 0x1a, 0, 1, 0, 0, 0x40], MultipartError::ContentFormat),
            (&[0x82, 0x00, 0x00], MultipartError::NotBytes),
            (&[0x82, 0x00, 0x80], MultipartError::NotBytes),
            (&[0x82, 0x00, 0x60], MultipartError::OtherType),
            (&[0x82, 0x00, 0x5f, 0x41, 0x01, 0xff], MultipartError::Chunks),
            (&[0x82, 0x00, 0x5f, 0x41, 0x01], MultipartError::Truncated),
            (&[0x82, 0x00, 0x5f, 0x42, 0x01, 0xff], MultipartError::Truncated),
            // A chunk has the type of the string, and a definite length (RFC 8949 §3.2.3).
            (&[0x82, 0x00, 0x5f, 0x01, 0xff], MultipartError::NotBytes),
            (&[0x82, 0x00, 0x5f, 0x5f, 0x41, 0x01, 0xff, 0xff], MultipartError::NotBytes),
            (&[0x82, 0xf6, 0x40], MultipartError::OtherType),
            (&[0x82, 0x1f, 0x40], MultipartError::OtherType),
            (&[0x82, 0x1c, 0x40], MultipartError::OtherType),
            (&[0x92], MultipartError::TooManyParts),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], MultipartError::TooManyParts),
            (&[0x82, 0x00, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], MultipartError::Truncated),
        ] {
            assert_eq!(decode(payload), Err(error), "{payload:02x?}");
        }
        let endless = [&[0x9f][..], &[0x00, 0x40].repeat(PARTS_MAX + 1), &[0xff]].concat();
        assert_eq!(decode(&endless), Err(MultipartError::TooManyParts));
        let part = MultipartPart { format: KEY, body: &[] };
        assert_eq!(encode(&[part; PARTS_MAX + 1]), Err(MultipartError::TooManyParts));
    }

    /// RFC 8710 §3 does not ask for the preferred form: the same collection in longer words has the same parts.
    #[test]
    fn every_well_formed_encoding_is_read() {
        let pair = |format, body| vec![MultipartPart { format: ContentFormat(format), body }];
        for (payload, parts) in [
            (&[0x98, 0x02, 0x00, 0x40][..], pair(0, &[][..])),
            (&[0x9b, 0, 0, 0, 0, 0, 0, 0, 2, 0x00, 0x40], pair(0, &[])),
            (&[0x82, 0x18, 0x17, 0x40], pair(23, &[])),
            (&[0x82, 0x19, 0x00, 0x3e, 0x40], pair(62, &[])),
            (&[0x82, 0x1a, 0, 0, 0x01, 0x1c, 0x40], pair(284, &[])),
            (&[0x82, 0x1b, 0, 0, 0, 0, 0, 0, 0x01, 0x1c, 0x40], pair(284, &[])),
            (&[0x82, 0x00, 0x58, 0x01, 0x07], pair(0, &[7])),
            (&[0x82, 0x00, 0x59, 0x00, 0x01, 0x07], pair(0, &[7])),
            (&[0x84, 0x01, 0xf6, 0x00, 0x41, 0x07], pair(0, &[7])),
            (&[0x9f, 0x00, 0x41, 0x07, 0x01, 0xf6, 0xff], pair(0, &[7])),
            (&[0x82, 0x01, 0xf6], Vec::new()),
        ] {
            assert_eq!(decode(payload), Ok(parts), "{payload:02x?}");
            assert_eq!(joined(payload), Ok(None), "{payload:02x?}");
        }
        // RFC 8949 §3.2.3, and a part of the ordinary kind beside it.
        let chunks = [0x86, 0x01, 0xf6, 0x00, 0x5f, 0x42, 1, 2, 0x40, 0x58, 0x01, 3, 0xff, 0x02, 0x41, 4];
        let whole = joined(&chunks).unwrap().unwrap();
        let parts = [
            MultipartPart { format: ContentFormat(0), body: &[1, 2, 3][..] },
            MultipartPart { format: ContentFormat(2), body: &[4] },
        ];
        assert_eq!(decode(&whole).as_deref(), Ok(&parts[..]));
        assert_eq!(encode(&parts).unwrap(), *whole, "the preferred form");
        let empty = joined(&[0x82, 0x00, 0x5f, 0xff]).unwrap().unwrap();
        assert_eq!(decode(&empty), Ok(pair(0, &[])));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(parts in proptest::collection::vec((any::<u16>(), prop_oneof![0usize..30, 200usize..300, 65_500usize..65_600]), 0..PARTS_MAX)) {
            let bodies: Vec<Vec<u8>> = parts.iter().map(|&(format, length)| vec![format.to_le_bytes()[0]; length]).collect();
            let parts: Vec<_> = parts.iter().zip(&bodies).map(|(&(format, _), body)| MultipartPart { format: ContentFormat(format), body }).collect();
            let payload = encode(&parts).unwrap();
            prop_assert_eq!(payload.len(), encoded_len(&parts));
            prop_assert_eq!(decode(&payload), Ok(parts));
            prop_assert_eq!(joined(&payload), Ok(None));
        }

        #[test]
        fn what_comes_in_chunks_of_any_size_is_joined(body in proptest::collection::vec(any::<u8>(), 0..600), size in 1usize..300) {
            let mut payload = vec![0x82, 0x19, 0x01, 0x1c, 0x5f];
            for chunk in body.chunks(size) {
                head(&mut payload, MajorType::Bytes, chunk.len());
                payload.extend_from_slice(chunk);
            }
            payload.push(BREAK);
            let whole = joined(&payload).unwrap().unwrap();
            prop_assert_eq!(decode(&whole), Ok(vec![MultipartPart { format: KEY, body: &body }]));
            for end in 0..payload.len() {
                prop_assert_eq!(joined(&payload[..end]), Err(MultipartError::Truncated));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40), first in 0x80u8..0xa0) {
            crate::fuzz::multipart(&bytes);
            crate::fuzz::multipart(&[&[first], &bytes[..]].concat());
        }
    }
}
