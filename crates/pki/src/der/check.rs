//! The strict pass: one walk over all elements, with a fixed stack.

use super::reader::read_header;
use super::{DerError, Tag};
use crate::encoding::{Deviation, Reading};
use crate::oid;
use crate::time;

/// The maximum nesting. A certificate needs 5 levels, a request with extensions 7, certs-only CMS 9 (an extension's value is an OCTET
/// STRING and is checked separately).
pub const DEPTH_MAX: usize = 16;

/// The limits for one kind of structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DerLimits {
    /// Size of the whole encoding.
    pub bytes_max: usize,
    /// Elements at all levels together: the number of steps that [`check_within`] may take.
    pub elements_max: usize,
}

/// A certificate: P-256 certificates of devices have 400 to 900 bytes and under 100 elements; a verbose CA stays under 2 KiB.
pub const CERTIFICATE_LIMITS: DerLimits = DerLimits { bytes_max: 8_192, elements_max: 512 };

/// A certification request: smaller than a certificate, but its attributes are the client's choice.
pub const CSR_LIMITS: DerLimits = DerLimits { bytes_max: 8_192, elements_max: 512 };

/// A certs-only CMS: a handful of certificates.
pub const CMS_LIMITS: DerLimits = DerLimits { bytes_max: 65_536, elements_max: 4_096 };

const _: () = assert!(CMS_LIMITS.bytes_max >= 4 * CERTIFICATE_LIMITS.bytes_max);
const _: () = assert!(CMS_LIMITS.elements_max >= 4 * CERTIFICATE_LIMITS.elements_max);

/// Checks that `bytes` are exactly one DER element, canonical at all depths, within [`CMS_LIMITS`].
///
/// # Errors
/// The first violation, in reading order.
pub fn check_strict(bytes: &[u8]) -> Result<(), DerError> {
    check_within(bytes, CMS_LIMITS)
}

/// [`check_strict`] with the limits of one kind of structure.
///
/// # Errors
/// The first violation, in reading order.
pub fn check_within(bytes: &[u8], limits: DerLimits) -> Result<(), DerError> {
    check_as(bytes, limits, &mut Reading::default()).map_err(|misplaced| misplaced.error)
}

/// A violation, and the offset of the element that contains it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Misplaced {
    pub(crate) error: DerError,
    pub(crate) at: usize,
}

/// Like [`check_within`], but accepts the deviations that `reading` allows.
pub(crate) fn check_as(bytes: &[u8], limits: DerLimits, reading: &mut Reading) -> Result<(), Misplaced> {
    let mut at = 0;
    walk(bytes, limits, reading, &mut at).map_err(|error| Misplaced { error, at })
}

/// `current` is the offset of the element being checked.
fn walk(bytes: &[u8], limits: DerLimits, reading: &mut Reading, current: &mut usize) -> Result<(), DerError> {
    if bytes.len() > limits.bytes_max {
        return Err(DerError::TooLarge);
    }
    let mut around = [Level::default(); DEPTH_MAX];
    let mut depth = 0;
    let mut at = 0;
    let mut level = Level { end: bytes.len(), ..Level::default() };
    let mut elements = 0;
    loop {
        while at == level.end {
            if depth == 0 {
                // A whole element was read: empty input fails below because its header is missing.
                return if elements > 0 { Ok(()) } else { Err(DerError::Truncated) };
            }
            depth -= 1;
            level = around[depth];
        }
        *current = at;
        if depth == 0 && elements > 0 {
            *current = 0; // bytes after the structure belong to no field
            return Err(DerError::Trailing);
        }
        elements += 1;
        if elements > limits.elements_max {
            return Err(DerError::TooManyElements);
        }
        let (tag, length, header) = read_header(&bytes[at..level.end])?;
        let start = at + header;
        let next = start + length; // within the level: read_header checked it
        if let Some(previous) = level.previous {
            check_order(&bytes[previous..at], &bytes[at..next], reading)?;
            level.previous = Some(at);
        }
        if tag.is_constructed() {
            check_constructed(tag)?;
            if depth == DEPTH_MAX {
                return Err(DerError::TooDeep);
            }
            around[depth] = level;
            depth += 1;
            level = Level { end: next, previous: (tag == Tag::SET).then_some(start) };
            at = start;
        } else {
            check_primitive(tag, &bytes[start..next], reading)?;
            at = next;
        }
    }
}

/// An open constructed element, or initially the whole input.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Where the element ends.
    end: usize,
    /// If its elements must be in ascending order: where the element before the next one began. Before the first one there is an empty one.
    previous: Option<usize>,
}

/// X.690 §11.6: "The encodings of the component values of a set-of value shall appear in ascending order". All SETs of
/// PKIX are SET OF. Equal neighbours are allowed: a set-of may contain a value twice.
///
/// The attributes of a CSR are a SET OF too, but under `[0]`: their order is not checked here, because some small
/// clients write them in the order of creation, and nothing depends on the order.
fn check_order(previous: &[u8], next: &[u8], reading: &mut Reading) -> Result<(), DerError> {
    if previous > next && !reading.lets(Deviation::SetOrder) { Err(DerError::SetOrder) } else { Ok(()) }
}

fn check_constructed(tag: Tag) -> Result<(), DerError> {
    // X.690 §10.2: strings are primitive in DER, so only SEQUENCE, SET and context-specific tags contain elements.
    if tag == Tag::SEQUENCE || tag == Tag::SET || tag.is_context_specific() {
        return Ok(());
    }
    Err(DerError::ForbiddenTag(tag))
}

fn check_primitive(tag: Tag, contents: &[u8], reading: &mut Reading) -> Result<(), DerError> {
    let text = |valid: bool| if valid { Ok(()) } else { Err(DerError::Characters(tag)) };
    let alphabet = |holds: fn(u8) -> bool| match contents.iter().find(|&&octet| !holds(octet)) {
        Some(&octet) => Err(DerError::Alphabet { string: tag, octet }),
        None => Ok(()),
    };
    match tag {
        Tag::BOOLEAN => match contents {
            [0x00 | 0xff] => Ok(()),
            _ => Err(DerError::Boolean),
        },
        Tag::INTEGER | Tag::ENUMERATED => check_integer(contents),
        Tag::BIT_STRING => check_bit_string(contents),
        Tag::OCTET_STRING => Ok(()),
        Tag::NULL if contents.is_empty() => Ok(()),
        Tag::NULL => Err(DerError::Null),
        Tag::OID => oid::check_contents(contents),
        Tag::UTF8_STRING => text(std::str::from_utf8(contents).is_ok()),
        Tag::NUMERIC_STRING => alphabet(|c| c.is_ascii_digit() || c == b' '),
        Tag::PRINTABLE_STRING => match alphabet(is_printable) {
            Err(_)
                if contents.iter().all(|c| (0x20..=0x7e).contains(c)) && reading.lets(Deviation::PrintableString) =>
            {
                Ok(())
            }
            verdict => verdict,
        },
        Tag::IA5_STRING => alphabet(|c| c.is_ascii()),
        Tag::VISIBLE_STRING => alphabet(|c| (0x20..=0x7e).contains(&c)),
        Tag::TELETEX_STRING => Ok(()),
        Tag::BMP_STRING => text(contents.len().is_multiple_of(2)),
        Tag::UNIVERSAL_STRING => text(contents.len().is_multiple_of(4)),
        Tag::UTC_TIME | Tag::GENERALIZED_TIME => time::parse(tag, contents).map(|_| ()),
        tag if tag.is_context_specific() => Ok(()),
        tag => Err(DerError::ForbiddenTag(tag)),
    }
}

fn check_integer(contents: &[u8]) -> Result<(), DerError> {
    // X.690 §8.3.2: the first nine bits are neither all ones nor all zero.
    match contents {
        [] => Err(DerError::EmptyInteger),
        [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(DerError::Integer),
        _ => Ok(()),
    }
}

fn check_bit_string(contents: &[u8]) -> Result<(), DerError> {
    match contents {
        [0] => Ok(()),
        [unused @ 0..=7, .., last] if last & ((1u8 << unused) - 1) == 0 => Ok(()),
        _ => Err(DerError::BitString),
    }
}

/// The alphabet of PrintableString (X.680 §41.4).
pub(crate) fn is_printable(byte: u8) -> bool {
    PRINTABLE[usize::from(byte)]
}

/// A table: every name of every certificate is looked up in it, octet by octet.
const PRINTABLE: [bool; 256] = {
    let others = b" '()+,-./:=?";
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128_u8 {
        table[octet as usize] = octet.is_ascii_alphanumeric();
        octet += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e20_lengths_are_definite_and_minimal() {
        assert_eq!(check_strict(&[0x30, 0x80, 0x05, 0x00, 0x00, 0x00]), Err(DerError::Indefinite), "indefinite");
        assert_eq!(check_strict(&[0x30, 0x81, 0x02, 0x05, 0x00]), Err(DerError::Length), "long form below 128");
        assert_eq!(check_strict(&[0x04, 0x82, 0x00, 0x01, 0x00]), Err(DerError::Length), "leading zero");
        assert_eq!(check_strict(&[0x04, 0x85, 1, 0, 0, 0, 0]), Err(DerError::LongLength), "five octets");
        assert_eq!(check_strict(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(DerError::Truncated));
        let long = [&[0x04, 0x81, 0x80][..], &[0; 128]].concat();
        assert_eq!(check_strict(&long), Ok(()));
    }

    #[test]
    fn e20_values_are_canonical() {
        for (bad, error) in [
            (&[0x01, 0x01, 0x01][..], DerError::Boolean),
            (&[0x01, 0x00], DerError::Boolean),
            (&[0x02, 0x00], DerError::EmptyInteger),
            (&[0x02, 0x02, 0x00, 0x7f], DerError::Integer),
            (&[0x02, 0x02, 0xff, 0x80], DerError::Integer),
            (&[0x03, 0x00], DerError::BitString),
            (&[0x03, 0x01, 0x01], DerError::BitString),
            (&[0x03, 0x02, 0x08, 0x00], DerError::BitString),
            (&[0x03, 0x02, 0x01, 0x01], DerError::BitString),
            (&[0x05, 0x01, 0x00], DerError::Null),
            (&[0x06, 0x00], DerError::ObjectIdentifier),
            (&[0x06, 0x02, 0x80, 0x01], DerError::ObjectIdentifier),
            (&[0x06, 0x02, 0x2a, 0x86], DerError::ObjectIdentifier),
            (&[0x0c, 0x01, 0xff], DerError::Characters(Tag::UTF8_STRING)),
            (&[0x13, 0x01, b'*'], DerError::Alphabet { string: Tag::PRINTABLE_STRING, octet: b'*' }),
            (&[0x16, 0x01, 0x80], DerError::Alphabet { string: Tag::IA5_STRING, octet: 0x80 }),
            (&[0x12, 0x01, b'a'], DerError::Alphabet { string: Tag::NUMERIC_STRING, octet: b'a' }),
            (&[0x1e, 0x01, 0x00], DerError::Characters(Tag::BMP_STRING)),
            (&[0x1f, 0x81, 0x01, 0x00], DerError::ForbiddenTag(Tag(0x1f))),
            (&[0x24, 0x02, 0x04, 0x00], DerError::ForbiddenTag(Tag(0x24))),
            (&[0x10, 0x00], DerError::ForbiddenTag(Tag(0x10))),
            (&[0x60, 0x00], DerError::ForbiddenTag(Tag(0x60))),
            (&[0x31, 0x06, 0x02, 0x01, 0x02, 0x02, 0x01, 0x01], DerError::SetOrder),
        ] {
            assert_eq!(check_strict(bad), Err(error), "{bad:02x?}");
        }
        for good in [
            &[0x01, 0x01, 0xff][..],
            &[0x02, 0x02, 0x00, 0x80],
            &[0x31, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01],
            &[0x30, 0x00],
        ] {
            assert_eq!(check_strict(good), Ok(()), "{good:02x?}");
        }
    }

    #[test]
    fn e20_one_element_and_nothing_after_it() {
        assert_eq!(check_strict(&[]), Err(DerError::Truncated));
        assert_eq!(check_strict(&[0x05, 0x00, 0x00]), Err(DerError::Trailing));
        assert_eq!(check_strict(&[0x30, 0x00, 0x30, 0x00]), Err(DerError::Trailing));
        assert_eq!(check_strict(&[0x30, 0x03, 0x05, 0x00, 0x05]), Err(DerError::Truncated));
        assert_eq!(check_strict(&[0x30, 0x02, 0x04, 0x01, 0x00]), Err(DerError::Truncated), "past its container");
    }

    #[test]
    fn e20_depth_elements_and_size_are_bounded() {
        let nest = |levels: usize| {
            (0..levels)
                .fold(vec![0x05, 0x00], |inner, _| [&[0x30, u8::try_from(inner.len()).unwrap()][..], &inner].concat())
        };
        assert_eq!(check_strict(&nest(DEPTH_MAX)), Ok(()));
        assert_eq!(check_strict(&nest(DEPTH_MAX + 1)), Err(DerError::TooDeep));

        let nulls = [0x05, 0x00].repeat(10_000);
        let mut many = vec![0x30, 0x82];
        many.extend(u16::try_from(nulls.len()).unwrap().to_be_bytes());
        many.extend(nulls);
        assert_eq!(check_strict(&many), Err(DerError::TooManyElements));
        assert_eq!(check_within(&many, CSR_LIMITS), Err(DerError::TooLarge));
    }
}
