//! One request that waits for its acknowledgement, then for its response.

use std::fmt;
use std::time::{Duration, Instant};

use crate::time::{Due, Retransmission};
use crate::{MessageId, Token};

/// The bytes before the token: version, type and token length, code, message id (RFC 7252 §3).
const HEADER_BYTES: usize = 4;

/// Message id and token: they identify one request of the exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestHead {
    pub(super) message_id: MessageId,
    pub(super) token: Token,
}

/// A request on the wire.
pub(super) struct InFlight {
    pub(super) message_id: MessageId,
    pub(super) token: Token,
    /// Kept for retransmission.
    pub(super) datagram: Vec<u8>,
    /// How often the request was sent as a new exchange after no answer arrived.
    pub(super) repeats: u8,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    /// No acknowledgement or response has arrived.
    Acknowledgement(Retransmission),
    /// The server has acknowledged the request; its separate response is awaited until this time.
    Response(Instant),
}

impl InFlight {
    pub(super) fn new(head: RequestHead, datagram: Vec<u8>, retransmission: Retransmission) -> Self {
        let wait = Wait::Acknowledgement(retransmission);
        Self { message_id: head.message_id, token: head.token, datagram, repeats: 0, wait }
    }

    /// Sends the same request as a new exchange: another message id, another token of the same length, a fresh timer.
    pub(super) fn begin_again(&mut self, head: RequestHead, retransmission: Retransmission) {
        debug_assert_eq!(head.token.as_bytes().len(), self.token.as_bytes().len(), "it is written in its place");
        self.rename(head.message_id);
        let token = head.token.as_bytes();
        if let Some(field) = self.datagram.get_mut(HEADER_BYTES..HEADER_BYTES + token.len()) {
            field.copy_from_slice(token);
        }
        self.token = head.token;
        self.repeats += 1;
        self.wait = Wait::Acknowledgement(retransmission);
    }

    /// Handles an empty acknowledgement; returns false if there was one before.
    pub(super) fn acknowledge(&mut self, now: Instant, response_wait: Duration) -> bool {
        let first = matches!(self.wait, Wait::Acknowledgement(_));
        if first {
            self.wait = Wait::Response(now + response_wait);
        }
        first
    }

    pub(super) fn deadline(&self) -> Instant {
        match &self.wait {
            Wait::Acknowledgement(retransmission) => retransmission.deadline,
            Wait::Response(deadline) => *deadline,
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        match &mut self.wait {
            Wait::Acknowledgement(retransmission) => retransmission.due(now),
            Wait::Response(deadline) if *deadline <= now => Due::GiveUp,
            Wait::Response(_) => Due::NotYet,
        }
    }

    /// Gives the request another message id.
    pub(super) fn rename(&mut self, message_id: MessageId) {
        self.message_id = message_id;
        if let Some(field) = self.datagram.get_mut(2..4) {
            field.copy_from_slice(&message_id.0.to_be_bytes());
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("message_id", &self.message_id)
            .field("token", &self.token)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
