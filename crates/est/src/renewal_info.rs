//! The answer of `ren`, an extension of Muster: when a device shall renew its certificate. It is modelled on ACME Renewal Information (RFC 9773), and small
//! enough for one block.
//!
//! ```text
//!   {0: start, 1: end, 2: seconds until the device asks again, 3: cause}    CBOR (RFC 8949), application/cbor
//! ```
//!
//! Times are seconds since 1970 in UTC. A device selects a moment of its own between `start` and `end`, and renews at once if it has passed. The causes are 0, the
//! certificate comes to its end, and 1, the operator calls it in. A reader ignores keys and causes that it does not know.

use std::fmt;

/// When a device shall renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalInfo {
    /// The window begins, seconds since 1970.
    pub start: u64,
    /// It ends, not before it begins.
    pub end: u64,
    /// The device asks again after this many seconds.
    pub ask_again: u64,
    /// Why: [`RenewalInfo::SCHEDULED`], [`RenewalInfo::CALLED_IN`], or what a later server says.
    pub cause: u64,
}

/// What is wrong with an answer of `ren`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalInfoFlaw {
    /// It is not a CBOR map of unsigned integers, or there is something behind it.
    NotAMap,
    /// A key is there twice.
    Twice(u64),
    /// A key is missing.
    Missing(u64),
    /// The window ends before it begins.
    Backwards,
}

impl fmt::Display for RenewalInfoFlaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMap => out.write_str("it is not a CBOR map of unsigned integers"),
            Self::Twice(key) => write!(out, "key {key} is there twice"),
            Self::Missing(key) => write!(out, "key {key} is missing"),
            Self::Backwards => out.write_str("the window ends before it begins"),
        }
    }
}

/// More entries than this are not read: four have a meaning.
const ENTRIES_MAX: u64 = 16;

impl RenewalInfo {
    /// The certificate comes to its end.
    pub const SCHEDULED: u64 = 0;
    /// The operator calls the certificate in.
    pub const CALLED_IN: u64 = 1;

    /// The answer, in the deterministic form of RFC 8949 §4.2.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAP | 4];
        for (key, value) in (0..).zip([self.start, self.end, self.ask_again, self.cause]) {
            put(&mut out, key);
            put(&mut out, value);
        }
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`RenewalInfoFlaw`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RenewalInfoFlaw> {
        let mut rest = bytes;
        let count = head(&mut rest, MAP).filter(|count| *count <= ENTRIES_MAX).ok_or(RenewalInfoFlaw::NotAMap)?;
        let mut known = [None; 4];
        for _ in 0..count {
            let key = head(&mut rest, UNSIGNED).ok_or(RenewalInfoFlaw::NotAMap)?;
            let value = head(&mut rest, UNSIGNED).ok_or(RenewalInfoFlaw::NotAMap)?;
            if let Some(place) = usize::try_from(key).ok().and_then(|key| known.get_mut(key)) {
                if place.is_some() {
                    return Err(RenewalInfoFlaw::Twice(key));
                }
                *place = Some(value);
            }
        }
        if !rest.is_empty() {
            return Err(RenewalInfoFlaw::NotAMap);
        }
        let value = |key: u64, place: Option<u64>| place.ok_or(RenewalInfoFlaw::Missing(key));
        let [start, end, ask_again, cause] = known;
        let info = Self {
            start: value(0, start)?,
            end: value(1, end)?,
            ask_again: value(2, ask_again)?,
            cause: value(3, cause)?,
        };
        if info.end < info.start { Err(RenewalInfoFlaw::Backwards) } else { Ok(info) }
    }
}

/// Major types 0 and 5 (RFC 8949 §3.1).
const UNSIGNED: u8 = 0;
const MAP: u8 = 0b101 << 5;
const MAJOR: u8 = 0b111 << 5;

/// An unsigned integer in its shortest form.
fn put(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let (info, length) = match value {
        0..=23 => return out.push(UNSIGNED | bytes[7]),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(UNSIGNED | info);
    out.extend_from_slice(&bytes[bytes.len() - length..]);
}

/// The argument of a head of this major type.
fn head(rest: &mut &[u8], major: u8) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    if first & MAJOR != major {
        return None;
    }
    let length = match first & !MAJOR {
        small @ 0..=23 => {
            *rest = after;
            return Some(small.into());
        }
        info @ 24..=27 => 1 << (info - 24),
        _ => return None,
    };
    let (argument, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(argument.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// The body of the fuzz target `renewal_info`: what can be read is read again as the same after it was written.
///
/// # Panics
/// If the property does not hold.
pub fn fuzz_renewal_info(input: &[u8]) {
    if let Ok(info) = RenewalInfo::decode(input) {
        assert_eq!(RenewalInfo::decode(&info.encode()), Ok(info));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: RenewalInfo =
        RenewalInfo { start: 1_790_000_000, end: 1_790_086_400, ask_again: 21_600, cause: RenewalInfo::CALLED_IN };

    #[test]
    fn an_answer_is_small_and_has_the_octets_of_rfc_8949() {
        let bytes = INFO.encode();
        assert_eq!(hex::encode(&bytes), "a4001a6ab13b80011a6ab28d000219546003 01".replace(' ', ""));
        assert_eq!(RenewalInfo::decode(&bytes), Ok(INFO));
        // Longer forms of integers, and keys of later servers, are read.
        let longer = hex::decode("a5001b000000006ab13b80011a6ab28d00021a00005460030118ff00").unwrap();
        assert_eq!(RenewalInfo::decode(&longer), Ok(INFO));
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        let decode = |text: &str| RenewalInfo::decode(&hex::decode(text).unwrap());
        assert_eq!(decode("a300010102020303"), Err(RenewalInfoFlaw::NotAMap));
        assert_eq!(decode("a3000101020203"), Err(RenewalInfoFlaw::Missing(3)));
        assert_eq!(decode("a400010101020203"), Err(RenewalInfoFlaw::NotAMap));
        assert_eq!(decode("a40001000102020303"), Err(RenewalInfoFlaw::Twice(0)));
        assert_eq!(decode("a40005010402000300"), Err(RenewalInfoFlaw::Backwards));
        let bytes = INFO.encode();
        for end in 0..bytes.len() {
            assert!(RenewalInfo::decode(&bytes[..end]).is_err());
            fuzz_renewal_info(&bytes[..end]);
        }
        assert_eq!(RenewalInfo::decode(&[&bytes[..], &[0]].concat()), Err(RenewalInfoFlaw::NotAMap));
        for wrong in ["", "bf00ff", "b8ff", "84000102 03", "a42001"] {
            assert!(decode(&wrong.replace(' ', "")).is_err(), "{wrong}");
        }
    }
}
