//! The result of a datagram: one closed set.

use super::refusal::RequestRefusal;
use super::request::Request;
use crate::{Malformed, Number};

/// Identifies one request until it is answered; unique among the peers of one [`super::Shared`] until the number wraps
/// around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u32);

/// The result of a datagram, with what the resource table found: `T` is its target type, `R` its refusal type.
#[derive(Debug)]
pub enum Handled<'d, T, R> {
    /// The caller has nothing to do; messages to send are in the outbox.
    Done {
        /// How it was handled.
        done: Done,
        /// The target, if a request was refused after the table had found it.
        target: Option<T>,
    },
    /// The resource table refused a request; its response is in the outbox.
    RefusedByTable(R),
    /// A whole request. Answer it with [`super::Peer::respond`]: an answer before the acknowledgement deadline is
    /// piggybacked, a later one becomes a separate response.
    Request {
        /// Pass it to `respond`.
        id: ExchangeId,
        /// The request; it borrows the datagram, not the peer.
        request: Request<'d>,
        /// The target of the request. It is an error only for the last block of an upload, whose head may differ from
        /// that of the first; the caller answers in that case too.
        target: Result<T, R>,
    },
}

impl<T, R> From<Done> for Handled<'_, T, R> {
    fn from(done: Done) -> Self {
        Handled::Done { done, target: None }
    }
}

/// How the message layer handled a datagram by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A block of an upload was accepted, now or before; 2.31 is in the outbox.
    Continued,
    /// A block of a kept response was sent.
    Continuation,
    /// A duplicate: answered as before, with an empty acknowledgement while the handler works on it, or not at all.
    Duplicate,
    /// Our separate response was acknowledged.
    Acknowledged,
    /// Our separate response was reset by the client.
    Reset,
    /// A ping, answered with a reset.
    Ping,
    /// Refused with an error response.
    Refused(RequestRefusal),
    /// Not answered, or answered with a reset.
    Dropped(Dropped),
}

/// Datagrams without a response; a confirmable one gets a reset, unless it is not CoAP at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Too short, or another version: ignored.
    NotCoap,
    /// A message format error.
    Malformed(Malformed),
    /// A response, a reserved code class, or an empty non-confirmable message.
    NotARequest,
    /// An acknowledgement or reset that matches no message of ours.
    Unmatched,
    /// A non-confirmable request that we would have refused for this option.
    BadOption(Number),
}

/// The exchange is over: the client reset it, it expired, or it never existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;
