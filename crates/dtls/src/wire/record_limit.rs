//! Record lengths that a peer asks for: max_fragment_length (RFC 6066 §4) and record_size_limit (RFC 8449 §4).

/// The lengths that max_fragment_length can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentLength {
    /// 2^9.
    Bytes512,
    /// 2^10.
    Bytes1024,
    /// 2^11.
    Bytes2048,
    /// 2^12.
    Bytes4096,
}

impl FragmentLength {
    /// Its code in the extension.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Bytes512 => 1,
            Self::Bytes1024 => 2,
            Self::Bytes2048 => 3,
            Self::Bytes4096 => 4,
        }
    }

    /// The length of a code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Bytes512),
            2 => Some(Self::Bytes1024),
            3 => Some(Self::Bytes2048),
            4 => Some(Self::Bytes4096),
            _ => None,
        }
    }

    /// Bytes of plaintext in one record.
    #[must_use]
    pub const fn bytes(self) -> usize {
        256 << self.code()
    }
}

/// How a client asks for small records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordLimit {
    /// max_fragment_length (RFC 6066 §4): one length for both directions, which the server confirms.
    MaxFragmentLength(FragmentLength),
    /// record_size_limit (RFC 8449 §4): the plaintext that the client can accept, at least 64 bytes.
    RecordSizeLimit(u16),
}
