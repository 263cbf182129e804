//! Duplicates: the network delivers a message twice, or the client sends its request again (RFC 7252 §4.5).
//!
//! A request that changes state is executed once: its copies get the outcome, or the empty acknowledgement while there
//! is no outcome yet. A request whose answer is computed again does not count as a duplicate here and is handled like a
//! new one. Blocks of uploads are between the two: see [`super::recent`].

use super::accounts::Owner;
use super::arrival::{Arrival, Checked, Refused, admit};
use super::done::{Done, Handled};
use super::exchange::{Answered, Delivery, ExchangeState, KeptResponse, RequestSource, ServerExchange};
use super::recent::{HandledAs, RefusedBlock};
use super::refusal::RequestRefusal;
use super::request::Head;
use super::resources::{Repeat, Resources};
use super::response::Response;
use super::write::{ResponseHead, Sizes, write_empty};
use super::{Peer, Turn};
use crate::{Code, Kind, Message, Number};

impl Peer {
    /// Answers a duplicate; `None` if the message is not one.
    pub(super) fn duplicate<T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        arrival: &Arrival<'_>,
        table: &T,
    ) -> Option<Done> {
        let message = &arrival.message;
        let known = self.exchanges.iter().position(|exchange| exchange.source.is(arrival));
        if let Some(index) = known {
            if let Err(refusal) = self.repeat(turn, index) {
                self.refuse_here(turn, message, refusal);
            }
            return Some(Done::Duplicate);
        }
        match self.recent.noted(arrival.fingerprint)? {
            HandledAs::Silently => {}
            HandledAs::Continued => {
                let block1 = message.block(Number::BLOCK1).ok().flatten();
                self.write_sizes(turn, message, &Response::empty(Code::CONTINUE), Sizes { block1, size1: None });
            }
            HandledAs::Refused(block) => match refused_before(self.owner, block, message, turn, table) {
                Before::Here(refusal) => _ = self.refuse_here(turn, message, refusal),
                Before::ByTable(response) => self.write_sizes(turn, message, &response, Sizes::default()),
            },
        }
        Some(Done::Duplicate)
    }

    /// Remembers a message whose copy must not count as a new message, and how it was answered.
    pub(super) fn note<G, R>(
        &mut self,
        turn: &Turn<'_>,
        arrival: &Arrival<'_>,
        result: &Result<Handled<'_, G, R>, Refused<G, R>>,
    ) {
        // "the recipient SHOULD silently ignore any duplicated Non-confirmable message" (RFC 7252 §4.5).
        if arrival.message.kind() == Kind::NonConfirmable {
            self.remember(turn, arrival, HandledAs::Silently);
            return;
        }
        if arrival.message.option(Number::BLOCK1).is_none() {
            return;
        }
        let noted = match result {
            Ok(Handled::Done { done: Done::Continued, .. }) => Some(HandledAs::Continued),
            // A copy of a last block could only be answered with the outcome: while the outcome is kept, the exchange
            // answers it.
            Ok(Handled::Request { id, .. }) => {
                let remembered = |exchange: &ServerExchange| match &exchange.state {
                    ExchangeState::Pending(pending) => exchange.id == *id && pending.repeat != Repeat::Computed,
                    ExchangeState::Separate(_) | ExchangeState::Answered(_) => false,
                };
                self.exchanges.iter().any(remembered).then_some(HandledAs::Silently)
            }
            // The exchange recognises only the latest message with its last block. The earlier messages have to be
            // remembered too: a late copy of one would fit into the next upload of the same name.
            Ok(Handled::Done { done: Done::Duplicate, .. }) => Some(HandledAs::Silently),
            Ok(Handled::Done { .. } | Handled::RefusedByTable(_)) => None,
            Err(Refused::Here(refusal, _)) => RefusedBlock::of(*refusal).map(HandledAs::Refused),
            Err(Refused::ByTable(_, response)) => Some(HandledAs::Refused(RefusedBlock::ByTable(response.code))),
        };
        if let Some(noted) = noted {
            self.remember(turn, arrival, noted);
        }
    }

    fn remember(&mut self, turn: &Turn<'_>, arrival: &Arrival<'_>, noted: HandledAs) {
        // `recent` is taken out, so that its bytes do not count twice while it grows.
        let mut recent = std::mem::take(&mut self.recent);
        recent.insert(turn.now, arrival.fingerprint, noted, |bytes| self.may_hold(bytes, turn.shared));
        self.recent = recent;
    }

    /// Answers a duplicate in the way its first copy was answered so far (RFC 7252 §4.5).
    ///
    /// # Errors
    /// 4.08 if the outcome was evicted.
    fn repeat(&mut self, turn: &mut Turn<'_>, index: usize) -> Result<(), RequestRefusal> {
        let ServerExchange { source, delivery, state, .. } = &mut self.exchanges[index];
        if source.kind == Kind::NonConfirmable {
            return Ok(());
        }
        match state {
            ExchangeState::Pending(pending) => {
                pending.acknowledge_at = None;
                write_empty(turn.out, Kind::Acknowledgement, source.message_id);
            }
            ExchangeState::Answered(Answered { outcome, .. }) if *delivery == Delivery::Again => {
                if outcome.is_evicted() {
                    return Err(RequestRefusal::NoResponse);
                }
                let head = source.head(self.ids.begun(turn.shared));
                let _ = outcome.write(turn.out, head, &source.form);
            }
            ExchangeState::Separate(_) | ExchangeState::Answered(_) => {
                write_empty(turn.out, Kind::Acknowledgement, source.message_id);
            }
        }
        Ok(())
    }

    /// Answers the last block of a complete upload that arrives under a new message id: the client has lost the state
    /// of its message layer, or has given up on the first exchange. It gets the outcome of the same request; a refusal
    /// is not repeated, so that the client can start again.
    ///
    /// # Errors
    /// 4.08 if the outcome was evicted.
    pub(super) fn answer_anew(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        checked: &Checked<'_>,
    ) -> Result<Done, RequestRefusal> {
        let message = checked.head.message();
        let exchange = &mut self.exchanges[index];
        if exchange.outcome().is_some_and(KeptResponse::is_evicted) {
            return Err(RequestRefusal::NoResponse);
        }
        exchange.source = RequestSource::new(checked, turn.block_max);
        let head = ResponseHead::answering(message, self.ids.begun(turn.shared));
        let outcome = match &mut exchange.state {
            ExchangeState::Pending(pending) => {
                pending.acknowledge_at = None;
                if message.kind() == Kind::Confirmable {
                    write_empty(turn.out, Kind::Acknowledgement, message.message_id());
                }
                None
            }
            ExchangeState::Separate(separate) => Some(&separate.outcome),
            ExchangeState::Answered(answered) => Some(&answered.outcome),
        };
        if let Some(reaches_end) = outcome.and_then(|outcome| outcome.write(turn.out, head, &exchange.source.form)) {
            exchange.has_rest = !reaches_end;
            exchange.is_delivered |= reaches_end;
        }
        match &mut exchange.state {
            ExchangeState::Answered(_) => {
                exchange.delivery = Delivery::Again;
                exchange.settle(turn.now);
            }
            // The client no longer waits for the token of that response.
            ExchangeState::Separate(_) => {
                self.end_separate(turn.now, index, Delivery::Again);
            }
            ExchangeState::Pending(_) => {}
        }
        Ok(Done::Duplicate)
    }
}

/// How a message was refused before.
enum Before {
    Here(RequestRefusal),
    ByTable(Response<'static>),
}

/// Repeats the refusal of a message that was refused before, with the same text. The table is asked for its own
/// refusals and for the size limit; if it would decide differently now, only the code is sent.
fn refused_before<T: Resources>(
    owner: Owner,
    block: RefusedBlock,
    message: &Message<'_>,
    turn: &Turn<'_>,
    table: &T,
) -> Before {
    let judged = || Head::check(*message).map(|head| admit(table, &head));
    let bare = |code| {
        let waits = code == Code::SERVICE_UNAVAILABLE || code == Code::TOO_MANY_REQUESTS;
        let response = Response::empty(code);
        Before::ByTable(if waits {
            response.with_max_age(turn.shared.full_max_age(owner, message.message_id()))
        } else {
            response
        })
    };
    match block {
        RefusedBlock::BadBlock(fault) => Before::Here(RequestRefusal::BadBlock(fault)),
        RefusedBlock::BlockMissing => Before::Here(RequestRefusal::BlockMissing),
        RefusedBlock::BlockDiffers => Before::Here(RequestRefusal::BlockDiffers),
        RefusedBlock::NoResponse => Before::Here(RequestRefusal::NoResponse),
        RefusedBlock::ContentFormatChanged => Before::Here(RequestRefusal::ContentFormatChanged),
        RefusedBlock::Full(limit) => Before::Here(RequestRefusal::Full(limit)),
        RefusedBlock::TooLarge => match judged() {
            Ok(Ok((_, admit))) => Before::Here(RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max }),
            _ => bare(Code::REQUEST_ENTITY_TOO_LARGE),
        },
        RefusedBlock::ByTable(code) => match judged() {
            Ok(Err(Refused::ByTable(_, response))) if response.code == code => Before::ByTable(response),
            _ => bare(code),
        },
    }
}
