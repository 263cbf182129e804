//! What answers of EST-coaps hold of CBOR (RFC 8949): unsigned integers, byte strings, arrays and maps, each with its length. Our codec is not used:
//! a mistake that it makes in both directions would stay hidden.

use anyhow::{Context, Result, bail, ensure};

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CborItem {
    Unsigned(u64),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl CborItem {
    /// The one item of these bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let item = Self::take(&mut rest)?;
        ensure!(rest.is_empty(), "{} bytes behind the item", rest.len());
        Ok(item)
    }

    fn take(rest: &mut &[u8]) -> Result<Self> {
        let (first, after) = rest.split_first().context("the item is cut off")?;
        *rest = after;
        let (major, argument) = (first >> 5, first & 31);
        let value = match argument {
            small @ 0..=23 => u64::from(small),
            // RFC 8949 §3: 24 to 27 announce 1, 2, 4 and 8 bytes.
            24..=27 => {
                take_bytes(rest, 1 << (argument - 24))?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
            }
            other => bail!("an item of no definite length ({other})"),
        };
        Ok(match major {
            0 => Self::Unsigned(value),
            2 => Self::Bytes(take_bytes(rest, usize::try_from(value)?)?.to_vec()),
            4 => Self::Array((0..value).map(|_| Self::take(rest)).collect::<Result<_>>()?),
            5 => Self::Map((0..value).map(|_| Ok((Self::take(rest)?, Self::take(rest)?))).collect::<Result<_>>()?),
            other => bail!("an item of the major type {other}"),
        })
    }
}

fn take_bytes<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length).context("the item is cut off")?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_8949_are_read_and_what_is_cut_off_is_not() {
        let unsigned = CborItem::Unsigned;
        let read = |bytes: &[u8]| CborItem::read(bytes).unwrap();
        assert_eq!(read(&[0x19, 0x03, 0xe8]), unsigned(1_000));
        assert_eq!(read(&[0x1b, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0]), unsigned(1_000_000_000_000));
        assert_eq!(read(&[0x44, 1, 2, 3, 4]), CborItem::Bytes(vec![1, 2, 3, 4]));
        assert_eq!(read(&[0x82, 1, 0x81, 2]), CborItem::Array(vec![unsigned(1), CborItem::Array(vec![unsigned(2)])]));
        let map = vec![(unsigned(1), unsigned(2)), (unsigned(3), unsigned(4))];
        assert_eq!(read(&[0xa2, 1, 2, 3, 4]), CborItem::Map(map));
        for bad in [&[][..], &[0x19, 3], &[0x44, 1], &[0x82, 1], &[0x5f, 0x40, 0xff], &[0x20], &[1, 2]] {
            assert!(CborItem::read(bad).is_err(), "{bad:?}");
        }
    }
}
