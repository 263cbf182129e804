//! What came of a datagram: one closed set, and the one table from refusal to response code.

use super::{ExchangeId, Request};
use crate::{Code, Malformed, Number};

/// What came of a datagram.
#[derive(Debug)]
pub enum Handled<'d> {
    /// Nothing for the caller to do; what there is to send is in the outbox.
    Done(Done),
    /// A whole request. Answer it with [`super::Peer::respond`]: at once, and the answer is piggybacked; after the
    /// acknowledgement deadline, and it becomes a separate response.
    Request {
        /// Names it to `respond`.
        id: ExchangeId,
        /// The request; it borrows the datagram, not the peer.
        request: Request<'d>,
    },
}

/// How the message layer dealt with a datagram by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A block of an upload was taken, or taken before; 2.31 is in the outbox.
    Continued,
    /// A block of a response that is kept was sent.
    Continuation,
    /// A duplicate: answered as before, with an empty acknowledgement while it is worked on, or not at all.
    Duplicate,
    /// Our separate response was acknowledged.
    Acknowledged,
    /// Our separate response was reset by the client.
    Reset,
    /// A ping, answered with a reset.
    Ping,
    /// Refused with an error response.
    Refused(Refusal),
    /// Not answered, or with a reset.
    Dropped(Dropped),
}

/// Requests that the message layer refuses by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A critical option that we do not know, or one too many of it, or of an impossible length, or no UTF-8.
    BadOption(Number),
    /// No method we know.
    UnknownMethod,
    /// Proxy-Uri or Proxy-Scheme.
    Proxy,
    /// SZX 7, or a block that announces more and is not as long as its size.
    BadBlock,
    /// A block of an upload that we do not have, or not the next one.
    BlockMissing,
    /// Content-Format changed between two blocks.
    ContentFormatChanged,
    /// Announced or reached more than the resource takes.
    TooLarge {
        /// How much it takes.
        body_bytes_max: usize,
    },
    /// A later block of a response that we do not keep.
    NoResponse,
    /// A block past the end of the response.
    PastEnd,
    /// Uploads or kept responses are at their limit.
    Full,
    /// The resource table refused the head of the request with this code.
    ByTable(Code),
}

impl Refusal {
    /// The code of the response.
    pub const fn code(self) -> Code {
        match self {
            // "Unrecognized options of class "critical" that occur in a Confirmable request MUST cause the return of a
            // 4.02 (Bad Option) response" (RFC 7252 §5.4.1).
            Refusal::BadOption(_) | Refusal::PastEnd => Code::BAD_OPTION,
            // RFC 7252 §5.8.
            Refusal::UnknownMethod => Code::METHOD_NOT_ALLOWED,
            // RFC 7252 §5.10.2.
            Refusal::Proxy => Code::PROXYING_NOT_SUPPORTED,
            // RFC 7959 §2.2.
            Refusal::BadBlock => Code::BAD_REQUEST,
            // RFC 7959 §2.9.2.
            Refusal::BlockMissing | Refusal::ContentFormatChanged | Refusal::NoResponse => {
                Code::REQUEST_ENTITY_INCOMPLETE
            }
            // RFC 7959 §2.9.3.
            Refusal::TooLarge { .. } => Code::REQUEST_ENTITY_TOO_LARGE,
            Refusal::Full => Code::SERVICE_UNAVAILABLE,
            Refusal::ByTable(code) => code,
        }
    }
}

/// Datagrams that get no response; a confirmable one gets a reset, unless it is no CoAP at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Too short, or another version: ignored.
    NotCoap,
    /// A message format error.
    Malformed(Malformed),
    /// A response, a reserved code class, or an empty non-confirmable message.
    NotARequest,
    /// An acknowledgement or reset for nothing that we sent.
    Unmatched,
    /// A non-confirmable request that we would have refused for this option.
    BadOption(Number),
}

/// The exchange is over: reset by the client, expired or never there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;
