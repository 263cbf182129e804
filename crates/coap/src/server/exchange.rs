//! One request that a handler answers, from its arrival until its outcome is forgotten.
//!
//! ```text
//!   request handed up
//!        |
//!     Pending ---- respond() before the deadline: piggybacked -----------------+
//!        |  deadline or duplicate: empty ACK                                  |
//!        |                                                                     v
//!        +-- respond() after it: CON ---> Separate -- ACK, RST, given up --> Answered -- lifetime over --> forgotten
//!                                           |  timeout
//!                                           +--> CON again, MAX_RETRANSMIT times
//! ```
//!
//! A request whose answer is computed again leaves no `Answered` state behind.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::answers::{AnswerSlot, Worth};
use super::arrival::{Arrival, Checked};
use super::config::EXCHANGE_BYTES;
use super::done::ExchangeId;
use super::key::RequestKey;
use super::resources::Repeat;
use super::response::Response;
use super::uploads::Uploads;
use super::write::{Form, ResponseHead, entity_tag, write};
use crate::BlockSize;
use crate::length::Length;
use crate::time::Retransmission;
use crate::{Code, ContentFormat, EXCHANGE_LIFETIME, Kind, MessageId, MessageIds, Method, NON_LIFETIME, Outbox, Token};

/// A device of the last EXCHANGE_LIFETIME has one of them. The allocator takes 16 bytes more for each 16 bytes above this.
const _: () = assert!(size_of::<ServerExchange>() <= 120);
const _: () = assert!(size_of::<ServerExchange>() + 192 <= EXCHANGE_BYTES && Uploads::ONE_BYTES <= EXCHANGE_BYTES);

/// A request and its present state.
#[derive(Debug)]
pub(super) struct ServerExchange {
    pub(super) id: ExchangeId,
    pub(super) method: Method,
    pub(super) source: RequestSource,
    /// The key of the block-wise operation that it belongs to.
    pub(super) key: RequestKey,
    /// The last block of its upload, as a hash of its content; `None` if there was no upload, or if a new one of the
    /// same name has begun.
    pub(super) last_block: Option<NonZeroU64>,
    /// The client has neither asked for the end of its answer yet, nor begun another request of this name.
    pub(super) has_rest: bool,
    /// See [`super::Peer::has_delivered`].
    pub(super) is_delivered: bool,
    /// How a duplicate is answered once the request is answered. Here, because it would cost [`Answered`] eight bytes.
    pub(super) delivery: Delivery,
    pub(super) state: ExchangeState,
}

/// The message that completed the request: the answer goes to its sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSource {
    pub(super) kind: Kind,
    pub(super) message_id: MessageId,
    pub(super) token: Token,
    /// Of the whole datagram. If a client sends fast, its message ids repeat within EXCHANGE_LIFETIME: a message that
    /// shares its id with an earlier one but not its bytes is not a duplicate (RFC 7252 §4.4).
    pub(super) fingerprint: u64,
    pub(super) form: Form,
}

impl RequestSource {
    pub(super) fn new(checked: &Checked<'_>, block_max: BlockSize) -> Self {
        let message = checked.head.message();
        Self {
            kind: message.kind(),
            message_id: message.message_id(),
            token: message.token(),
            fingerprint: checked.fingerprint,
            form: Form::new(&checked.head, checked.blocks, block_max),
        }
    }

    pub(super) fn is(&self, arrival: &Arrival<'_>) -> bool {
        self.message_id == arrival.message.message_id() && self.fingerprint == arrival.fingerprint
    }

    pub(super) fn head(&self, ids: &mut MessageIds) -> ResponseHead {
        match self.kind {
            Kind::NonConfirmable => {
                ResponseHead { kind: Kind::NonConfirmable, message_id: ids.next_id(), token: self.token }
            }
            _ => ResponseHead { kind: Kind::Acknowledgement, message_id: self.message_id, token: self.token },
        }
    }

    /// How long duplicates of the message are expected (RFC 7252 §4.5, §4.8.2).
    pub(super) fn lifetime(&self) -> Duration {
        match self.kind {
            Kind::NonConfirmable => NON_LIFETIME,
            _ => EXCHANGE_LIFETIME,
        }
    }
}

/// The state of a request; see the flow above.
#[derive(Debug)]
pub(super) enum ExchangeState {
    Pending(Pending),
    /// Behind a pointer: it is rare and short, while a device of the last EXCHANGE_LIFETIME has an answered exchange.
    Separate(Box<Separate>),
    Answered(Answered),
}

/// A handler is working on it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) repeat: Repeat,
    /// When the empty acknowledgement is due; `None` once it is sent, and for a non-confirmable request.
    pub(super) acknowledge_at: Option<Instant>,
    /// The place reserved for the outcome among the kept responses.
    pub(super) reserved: Option<AnswerSlot>,
}

/// Its answer is in flight as a confirmable message of our own.
#[derive(Debug)]
pub(super) struct Separate {
    pub(super) outcome: KeptResponse,
    /// Its message contains the end of the answer.
    pub(super) is_whole: bool,
    pub(super) message_id: MessageId,
    pub(super) retransmission: Retransmission,
    pub(super) keep: Keep,
    pub(super) expires: Instant,
}

impl Separate {
    pub(super) fn send(&self, out: &mut Outbox, source: &RequestSource) {
        let head = ResponseHead { kind: Kind::Confirmable, message_id: self.message_id, token: source.token };
        // The body of an answer in flight is never evicted.
        let _ = self.outcome.write(out, head, &source.form);
    }

    /// The answer has arrived, or delivery was given up; `None` if nothing is to be remembered.
    pub(super) fn end(self) -> Option<Answered> {
        match self.keep {
            Keep::Response => Some(Answered { outcome: self.outcome, expires: self.expires }),
            Keep::Nothing => None,
        }
    }
}

/// Its outcome is kept for duplicates and for the later blocks of the response.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) outcome: KeptResponse,
    pub(super) expires: Instant,
}

/// Whether the outcome is kept after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Response,
    Nothing,
}

/// How a duplicate of an answered request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// With the answer again: it was piggybacked, or its separate response did not arrive.
    Again,
    /// With the empty acknowledgement again: the client has acknowledged the separate response.
    Arrived,
}

/// A kept response. Its body is stored among those of all peers, and may have been evicted.
pub(super) struct KeptResponse {
    code: Code,
    content_format: Option<ContentFormat>,
    max_age: Option<u32>,
    pub(super) etag: u64,
    slot: AnswerSlot,
}

impl KeptResponse {
    pub(super) fn new(response: &Response<'_>, slot: AnswerSlot) -> Self {
        slot.fill(response.body);
        Self {
            code: response.code,
            content_format: response.content_format,
            max_age: response.max_age,
            etag: entity_tag(response),
            slot,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.code.is_success()
    }

    /// Whether its body was evicted.
    pub(super) fn is_evicted(&self) -> bool {
        self.slot.with_body(|_| ()).is_none()
    }

    /// Calls `read` with the response; `None` if its body was evicted.
    pub(super) fn with<R>(&self, read: impl FnOnce(&Response<'_>) -> R) -> Option<R> {
        let (code, content_format, max_age) = (self.code, self.content_format, self.max_age);
        self.slot.with_body(|body| read(&Response { code, content_format, max_age, body }))
    }

    /// Writes the part of it that `form` asks for; returns whether that reaches its end, and `None` if its body was evicted. What was written of it is
    /// wiped once it is sent, if nobody else may have it.
    pub(super) fn write(&self, out: &mut Outbox, head: ResponseHead, form: &Form) -> Option<bool> {
        let reaches_end = self.with(|response| {
            write(out, head, form, response, Some(self.etag));
            form.reaches_end(response)
        })?;
        self.guard(out);
        Some(reaches_end)
    }

    /// What was written of it is wiped once it is sent, if nobody else may have it.
    pub(super) fn guard(&self, out: &mut Outbox) {
        if self.slot.worth() == Worth::Irreplaceable {
            out.hold_secret();
        }
    }
}

impl fmt::Debug for KeptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.slot.with_body(|body| Length(body.len()));
        f.debug_struct("KeptResponse").field("code", &self.code).field("body", &body).finish_non_exhaustive()
    }
}

impl ServerExchange {
    /// The answer, once there is one.
    pub(super) fn outcome(&self) -> Option<&KeptResponse> {
        match &self.state {
            ExchangeState::Pending(_) => None,
            ExchangeState::Separate(separate) => Some(&separate.outcome),
            ExchangeState::Answered(answered) => Some(&answered.outcome),
        }
    }

    /// Whether the outcome is kept. An outcome that is computed again is dropped as soon as it is sent.
    pub(super) fn stays(&self) -> bool {
        !matches!(&self.state, ExchangeState::Pending(Pending { repeat: Repeat::Computed, .. }))
    }

    /// Tells the store whether the answer is still needed, after any change to it.
    pub(super) fn settle(&self, now: Instant) {
        match &self.state {
            ExchangeState::Answered(answered) if !self.has_rest => answered.outcome.slot.sent(now),
            ExchangeState::Answered(answered) => answered.outcome.slot.need(),
            // Counted as needed from the beginning.
            ExchangeState::Pending(_) | ExchangeState::Separate(_) => {}
        }
    }

    /// Not yet answered, or its answer not yet acknowledged.
    pub(super) fn is_in_flight(&self) -> bool {
        !matches!(self.state, ExchangeState::Answered(_))
    }

    /// Whether it may be forgotten for a request of that name: its client has the whole answer, or abandons the rest of
    /// it with that request, and the answer can be produced again.
    pub(super) fn makes_room_for(&self, newcomer: RequestKey) -> bool {
        match &self.state {
            ExchangeState::Answered(answered) => {
                answered.outcome.slot.worth() == Worth::Repeatable && (!self.has_rest || self.key == newcomer)
            }
            ExchangeState::Pending(_) | ExchangeState::Separate(_) => false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            ExchangeState::Pending(pending) => pending.acknowledge_at,
            ExchangeState::Separate(separate) => Some(separate.retransmission.deadline),
            ExchangeState::Answered(answered) => Some(answered.expires),
        }
    }
}
