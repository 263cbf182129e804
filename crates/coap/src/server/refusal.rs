//! Why the message layer refuses a request: one closed set, and the one table from refusal to response code.

use crate::{Code, Number};

/// Requests that the message layer refuses by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestRefusal {
    /// A critical option that cannot be obeyed.
    BadOption(Number, OptionFault),
    /// An unknown method.
    UnknownMethod,
    /// Proxy-Uri or Proxy-Scheme.
    Proxy,
    /// A Block option that contradicts itself, its payload or the other Block option.
    BadBlock(BlockFault),
    /// A block of an upload that is not known here, or not the next block.
    BlockMissing,
    /// A block that arrived before, now with other bytes or another end.
    BlockDiffers,
    /// Content-Format changed between two blocks.
    ContentFormatChanged,
    /// The body is announced as, or has become, larger than the resource accepts.
    TooLarge {
        /// The most bytes that the resource accepts.
        body_bytes_max: usize,
    },
    /// A later block of a response that is not kept, or a repeated last block of an upload whose response is no longer
    /// kept.
    NoResponse,
    /// A block past the end of the response.
    PastEnd,
    /// A limit is reached.
    Full(Limit),
}

/// Why a critical option is refused (RFC 7252 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptionFault {
    /// Its number is not known, or not defined for requests.
    Unknown,
    /// Its length is outside its definition.
    Length,
    /// It may occur only once and is repeated.
    Repeated,
    /// A path, a query or a host that is not UTF-8.
    NotText,
}

/// How a Block option contradicts itself or the message (RFC 7959 §2.2, §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFault {
    /// SZX 7.
    ReservedSize,
    /// M=1 and payload under the block size.
    Short,
    /// M=1 and payload over the block size.
    Long,
    /// M=0 and payload over the block size.
    LastLong,
    /// Block1 beside a Block2 whose NUM is above 0.
    BothDirections,
}

/// Which limit leaves no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes of open uploads, or the owner's share of them.
    Uploads,
    /// Bytes of kept responses, or the owner's share of them.
    Responses,
    /// Requests of this peer that wait for their answer, or whose answers still have to be fetched or cannot be
    /// produced again.
    Pending,
    /// Memory for exchanges, their bodies excluded, or the owner's share of it.
    Exchanges,
}

impl RequestRefusal {
    /// The code of the response.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            // "Unrecognized options of class "critical" that occur in a Confirmable request MUST cause the return of a
            // 4.02 (Bad Option) response" (RFC 7252 §5.4.1).
            Self::BadOption(..) | Self::PastEnd => Code::BAD_OPTION,
            // RFC 7252 §5.8.
            Self::UnknownMethod => Code::METHOD_NOT_ALLOWED,
            // RFC 7252 §5.10.2.
            Self::Proxy => Code::PROXYING_NOT_SUPPORTED,
            // RFC 7959 §2.2.
            Self::BadBlock(_) => Code::BAD_REQUEST,
            // RFC 7959 §2.9.2.
            Self::BlockMissing | Self::BlockDiffers | Self::ContentFormatChanged | Self::NoResponse => {
                Code::REQUEST_ENTITY_INCOMPLETE
            }
            // RFC 7959 §2.9.3.
            Self::TooLarge { .. } => Code::REQUEST_ENTITY_TOO_LARGE,
            Self::Full(_) => Code::SERVICE_UNAVAILABLE,
        }
    }
}
