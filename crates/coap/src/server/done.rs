//! What came of a datagram: one closed set.

use super::refusal::RequestRefusal;
use super::request::Request;
use crate::{Malformed, Number};

/// Names one request until it is answered; unique among the peers of one [`super::Shared`] until the number comes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u32);

/// The result of a datagram, with what the resource table found: `T` is its target type, `R` its refusal type.
#[derive(Debug)]
pub enum Handled<'d, T, R> {
    /// Nothing for the caller to do; what there is to send is in the outbox.
    Done {
        /// How it was dealt with.
        done: Done,
        /// What was asked for, where a request was refused after the table had found that.
        target: Option<T>,
    },
    /// The resource table refused a request; its response is in the outbox.
    RefusedByTable(R),
    /// A whole request. Answer it with [`super::Peer::respond`]: at once, and the answer is piggybacked; after the
    /// acknowledgement deadline, and it becomes a separate response.
    Request {
        /// Names it to `respond`.
        id: ExchangeId,
        /// The request; it borrows the datagram, not the peer.
        request: Request<'d>,
        /// What it asks for; an error only for the last block of an upload, whose head need not be that of the first: the answer is the
        /// caller's then too.
        target: Result<T, R>,
    },
}

impl<T, R> From<Done> for Handled<'_, T, R> {
    fn from(done: Done) -> Self {
        Handled::Done { done, target: None }
    }
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
    Refused(RequestRefusal),
    /// Not answered, or with a reset.
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
    /// An acknowledgement or reset for nothing that we sent.
    Unmatched,
    /// A non-confirmable request that we would have refused for this option.
    BadOption(Number),
}

/// The exchange is over: reset by the client, expired or never there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;
