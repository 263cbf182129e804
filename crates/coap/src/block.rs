//! The Block option value (RFC 7959 §2.2): NUM, M and SZX in 0 to 3 bytes.

/// A block size: 2^(SZX + 4) bytes, SZX 0 to 6, so 16 to 1,024 bytes. SZX 7 is reserved over UDP (RFC 7959 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSize(u8);

impl BlockSize {
    /// 16 bytes, SZX 0.
    pub const B16: Self = Self(0);
    /// 32 bytes, SZX 1.
    pub const B32: Self = Self(1);
    /// 64 bytes, SZX 2.
    pub const B64: Self = Self(2);
    /// 128 bytes, SZX 3.
    pub const B128: Self = Self(3);
    /// 256 bytes, SZX 4.
    pub const B256: Self = Self(4);
    /// 512 bytes, SZX 5.
    pub const B512: Self = Self(5);
    /// 1,024 bytes, SZX 6.
    pub const B1024: Self = Self(6);
    /// All sizes, smallest first.
    pub const ALL: [Self; 7] = [Self::B16, Self::B32, Self::B64, Self::B128, Self::B256, Self::B512, Self::B1024];

    /// The size for the exponent on the wire; `None` for 7 and above.
    #[must_use]
    pub const fn from_szx(szx: u8) -> Option<Self> {
        if szx <= 6 { Some(Self(szx)) } else { None }
    }

    /// The size of exactly `bytes` bytes, if there is one.
    #[must_use]
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() == bytes)
    }

    /// The exponent on the wire, 0 to 6.
    #[must_use]
    pub const fn szx(self) -> u8 {
        self.0
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        16 << self.0
    }
}

/// The value of a Block1 or Block2 option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The number of this block, in units of its own size.
    pub num: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// The size of the blocks.
    pub size: BlockSize,
}

impl Block {
    /// NUM has 20 bits at most (RFC 7959 §2.2).
    pub const NUM_MAX: u32 = (1 << 20) - 1;

    /// The block that covers byte `offset`, which is a multiple of the size; `None` past the last one that NUM can
    /// express.
    #[must_use]
    pub fn at(offset: usize, size: BlockSize, more: bool) -> Option<Self> {
        let num = u32::try_from(offset / size.bytes()).ok()?;
        (num <= Self::NUM_MAX).then_some(Self { num, more, size })
    }

    /// Parses an option value of at most 3 bytes.
    ///
    /// # Errors
    /// [`BlockError::Length`] above 3 bytes, [`BlockError::ReservedSize`] for SZX 7.
    pub fn parse(value: &[u8]) -> Result<Self, BlockError> {
        if value.len() > 3 {
            return Err(BlockError::Length);
        }
        let bits = value.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let szx = value.last().map_or(0, |byte| byte & 7);
        let size = BlockSize::from_szx(szx).ok_or(BlockError::ReservedSize)?;
        Ok(Self { num: bits >> 4, more: bits & 8 != 0, size })
    }

    /// The value as an unsigned integer, to be written with [`crate::Encoder::uint`].
    #[must_use]
    pub const fn value(self) -> u32 {
        self.num << 4 | if self.more { 8 } else { 0 } | self.size.0 as u32
    }

    /// The offset of this block in the body: NUM times *this* block's size, whatever the size of earlier blocks (RFC
    /// 7959 §2.3).
    #[must_use]
    pub const fn offset(self) -> usize {
        self.num as usize * self.size.bytes()
    }
}

/// Why an option value is not a Block option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// More than 3 bytes.
    Length,
    /// SZX 7: reserved over UDP, "MUST lead to a 4.00 Bad Request response code upon reception in a request"
    /// (RFC 7959 §2.2).
    ReservedSize,
}

impl std::fmt::Display for BlockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "a Block option of more than 3 bytes",
            Self::ReservedSize => "a Block option with the reserved SZX 7",
        })
    }
}

impl std::error::Error for BlockError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c27_num_4096_and_65535_and_the_largest_are_parsed() {
        // NUM 4096, M 1, SZX 2: 4096 << 4 | 8 | 2.
        assert_eq!(Block::parse(&[0x01, 0x00, 0x0a]), Ok(Block { num: 4096, more: true, size: BlockSize::B64 }));
        assert_eq!(Block::parse(&[0x0f, 0xff, 0xf6]), Ok(Block { num: 65_535, more: false, size: BlockSize::B1024 }));
        let largest = Block::parse(&[0xff, 0xff, 0xfe]).unwrap();
        assert_eq!(largest, Block { num: Block::NUM_MAX, more: true, size: BlockSize::B1024 });
        assert_eq!(largest.offset(), (1 << 30) - 1024);
    }

    #[test]
    fn values_round_trip() {
        for size in BlockSize::ALL {
            for num in [0, 1, 15, 16, 4095, 4096, Block::NUM_MAX] {
                for more in [false, true] {
                    let block = Block { num, more, size };
                    assert_eq!(Block::parse(&block.value().to_be_bytes()[1..]), Ok(block));
                }
            }
        }
    }

    #[test]
    fn an_empty_value_is_block_zero_of_16_bytes() {
        assert_eq!(Block::parse(&[]), Ok(Block { num: 0, more: false, size: BlockSize::B16 }));
    }

    #[test]
    fn c25_szx_7_is_reserved() {
        assert_eq!(Block::parse(&[0x07]), Err(BlockError::ReservedSize));
        assert_eq!(Block::parse(&[0, 0, 0, 1]), Err(BlockError::Length));
    }
}
