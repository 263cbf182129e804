//! Which shard of a CA's revocation lists a certificate belongs to.
//!
//! The shard of a certificate follows from its serial number alone, so that it never changes and needs no look-up:
//!
//! ```text
//! shard = first 8 octets, big-endian, of SHA-256("Muster CRL shard v1:" || content octets of the serial)  mod  number of shards
//! ```
//!
//! Each certificate carries the URL of its shard, so this function must stay as it is: with another one, a revocation would go into a list
//! that no verifier of the certificate reads. The vectors in the tests hold it.

use std::fmt;

use crate::digest::Digest;
use crate::issue::{SERIAL_BYTES, Serial};

/// Keeps this hash apart from every other hash of a serial number.
const DOMAIN: &[u8; 20] = b"Muster CRL shard v1:";

/// Decimal digits of the highest index.
const DIGITS_MAX: usize = 5;

const _: () = assert!(CrlShards::MAX <= 100_000, "an index has at most five digits");

/// How many shards the revocation lists of a CA have: fixed before its first certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CrlShards(u32);

impl CrlShards {
    /// The most shards that a CA may have. With 10^8 certificates, of which a tenth is revoked, a list then has about 150 entries.
    pub const MAX: u32 = 65_536;

    /// The number if the operator chooses none: with 10^6 revoked certificates, a list has about 8,000 entries.
    pub const DEFAULT: Self = Self(128);

    /// `count` shards; `None` if there are none or more than [`CrlShards::MAX`].
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        if count == 0 || count > Self::MAX { None } else { Some(Self(count)) }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }

    /// The shard with this index; `None` if there are not so many.
    #[must_use]
    pub const fn shard(self, index: u32) -> Option<CrlShard> {
        if index < self.0 { Some(CrlShard { index, shards: self }) } else { None }
    }

    /// Every shard, in the order of their indices.
    pub fn all(self) -> impl Iterator<Item = CrlShard> {
        (0..self.0).map(move |index| CrlShard { index, shards: self })
    }

    /// The digits of the highest index. Every index is written with that many, so that all certificates of a CA have the same length and
    /// the files of its lists sort by their index.
    pub(in crate::issue) const fn width(self) -> usize {
        match self.0 - 1 {
            0..10 => 1,
            10..100 => 2,
            100..1_000 => 3,
            1_000..10_000 => 4,
            _ => DIGITS_MAX,
        }
    }
}

/// One shard of a CA's revocation lists. It is written as its index, with leading zeros up to the length of the highest index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CrlShard {
    index: u32,
    shards: CrlShards,
}

impl CrlShard {
    /// Its index, from 0.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(self) -> CrlShards {
        self.shards
    }

    /// Whether the certificate with this serial number belongs to it.
    #[must_use]
    pub fn covers(self, serial: &Serial) -> bool {
        shard_of(serial, self.shards) == self
    }

    pub(in crate::issue) fn digits(self) -> ShardDigits {
        let mut octets = [b'0'; DIGITS_MAX];
        let mut rest = self.index;
        for octet in octets.iter_mut().rev() {
            *octet = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            rest /= 10;
        }
        ShardDigits { octets, start: DIGITS_MAX - self.shards.width() }
    }
}

impl fmt::Display for CrlShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$}", self.index, width = self.shards.width())
    }
}

/// The digits of a shard, as its URL contains them.
#[derive(Clone, Copy)]
pub(in crate::issue) struct ShardDigits {
    octets: [u8; DIGITS_MAX],
    start: usize,
}

impl ShardDigits {
    pub(in crate::issue) fn as_bytes(&self) -> &[u8] {
        &self.octets[self.start..]
    }
}

/// The shard that the certificate with this serial number belongs to.
#[must_use]
pub fn shard_of(serial: &Serial, shards: CrlShards) -> CrlShard {
    let mut hashed = [0; DOMAIN.len() + SERIAL_BYTES];
    hashed[..DOMAIN.len()].copy_from_slice(DOMAIN);
    hashed[DOMAIN.len()..].copy_from_slice(serial.as_bytes());
    let digest = Digest::of(&hashed);
    let &[a, b, c, d, e, f, g, h, ..] = digest.as_bytes();
    // 2^64 is so much larger than the number of shards that no shard is likelier than another by more than 2^-48.
    let index = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(shards.0);
    CrlShard { index: u32::try_from(index).unwrap_or(0), shards }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issue::NodePrefix;

    /// A change of these vectors moves certificates that exist to shards whose URL they do not carry. They were computed with Python's
    /// hashlib from the formula above.
    #[test]
    fn e35_the_shard_of_a_serial_never_changes() {
        let serial = |text: &str| Serial::from_bytes(&hex::decode(text).unwrap()).unwrap();
        for (text, of) in VECTORS {
            for (count, index) in [(1, 0)].into_iter().chain([7, 128, 1_000, 65_536].into_iter().zip(of)) {
                let shards = CrlShards::new(count).unwrap();
                assert_eq!(shard_of(&serial(text), shards).index(), index, "{text} of {count}");
            }
        }
    }

    #[test]
    fn a_shard_is_written_with_the_digits_of_the_highest_one() {
        for (count, index, text) in [
            (1, 0, "0"),
            (10, 9, "9"),
            (11, 9, "09"),
            (100, 7, "07"),
            (101, 100, "100"),
            (128, 7, "007"),
            (1_001, 7, "0007"),
            (10_001, 7, "00007"),
            (65_536, 65_535, "65535"),
        ] {
            let shard = CrlShards::new(count).unwrap().shard(index).unwrap();
            assert_eq!(shard.to_string(), text);
            assert_eq!(shard.digits().as_bytes(), text.as_bytes());
        }
        assert_eq!(CrlShards::new(0), None);
        assert_eq!(CrlShards::new(CrlShards::MAX + 1), None);
        assert_eq!(CrlShards::DEFAULT.shard(128), None);
        assert!(CrlShards::DEFAULT.all().map(CrlShard::index).eq(0..128));
    }

    #[test]
    fn shards_fill_evenly() {
        let mut filled = vec![0u32; 128];
        for number in 0..128_000u128 {
            let shard = shard_of(&Serial::new(NodePrefix::new(1), number.to_be_bytes()), CrlShards::DEFAULT);
            filled[usize::try_from(shard.index()).unwrap()] += 1;
        }
        // A thousand each, with a standard deviation of 32.
        assert!(filled.iter().all(|count| (800..1_200).contains(count)), "{filled:?}");
    }

    proptest! {
        #[test]
        fn a_serial_belongs_to_exactly_one_shard(node: u16, random: [u8; 16], count in 1u32..300) {
            let (serial, shards) = (Serial::new(NodePrefix::new(node), random), CrlShards::new(count).unwrap());
            let covering: Vec<CrlShard> = shards.all().filter(|shard| shard.covers(&serial)).collect();
            prop_assert_eq!(covering, [shard_of(&serial, shards)]);
        }
    }

    const VECTORS: [(&str, [u32; 4]); 5] = [
        ("01000000000000000000000000000000000000", [1, 109, 637, 59_117]),
        ("01ffffffffffffffffffffffffffffffffffff", [3, 31, 495, 58_271]),
        ("010007000102030405060708090a0b0c0d0e0f", [5, 48, 816, 35_760]),
        ("010203deadbeefdeadbeefdeadbeefdeadbeef", [4, 54, 750, 14_134]),
        ("017fff80808080808080808080808080808080", [1, 95, 359, 4_831]),
    ];
}
