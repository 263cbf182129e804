//! The server side of one association: [`Peer`].
//!
//! What it is: message layer, deduplication, Block1 uploads, Block2 responses and separate responses of one client, in
//! front of a handler that sees whole requests only. What it is not: a resource table (it asks [`Resources`]) or a
//! transport. `est` drives it: it passes each decrypted datagram to [`Peer::handle`] and each answer to
//! [`Peer::respond`], calls [`Peer::handle_timeout`] when [`Peer::poll_timeout`] is due, and sends what is in the
//! [`Outbox`] afterwards.

mod accounts;
mod answers;
mod arrival;
mod config;
mod counters;
mod done;
mod duplicates;
mod exchange;
mod intake;
mod key;
mod pool;
mod recent;
mod refusal;
mod request;
mod resources;
mod response;
mod shared;
mod uploads;
mod write;

use std::time::Instant;

use crate::BlockSize;
use crate::time::{Due, Retransmission};
use crate::{ACK_TIMEOUT, Code, FormatError, Kind, Message, MessageId, MessageIds, Method, Outbox};
use accounts::Charge;
use config::EXCHANGE_BYTES;
use exchange::{Answered, Delivery, ExchangeState, Keep, KeptResponse, Separate, ServerExchange};
use recent::Recent;
use uploads::Uploads;
use write::{write, write_empty};

pub use accounts::{Accounts, Owner};
pub use config::Config;
pub use counters::MessageCounters;
pub use done::{Done, Dropped, ExchangeId, Gone, Handled};
pub use refusal::{BlockFault, Limit, OptionFault, RequestRefusal};
pub use request::{Head, Request};
pub use resources::{Admit, Repeat, Resources};
pub use response::Response;
pub use shared::Shared;

/// The state of one association.
#[derive(Debug, Default)]
pub struct Peer {
    owner: Owner,
    /// The charge for everything it holds except bodies; `None` until it first holds something.
    charge: Option<Charge>,
    exchanges: Vec<ServerExchange>,
    uploads: Uploads,
    recent: Recent,
    ids: OwnIds,
    /// The largest block that fits a datagram to this peer, if that is less than the configuration's `block_max`.
    room: Option<BlockSize>,
}

/// Message ids of the messages that we originate: separate and non-confirmable responses. The client's ids count only
/// for its own messages (RFC 7252 §4.4). Ours start at a random value with the first message that needs one.
#[derive(Debug, Default)]
struct OwnIds(Option<MessageIds>);

impl OwnIds {
    fn begun(&mut self, shared: &mut Shared) -> &mut MessageIds {
        self.0.get_or_insert_with(|| shared.fresh_ids())
    }
}

/// What one call works with.
struct Turn<'t> {
    now: Instant,
    shared: &'t mut Shared,
    out: &'t mut Outbox,
    block_max: BlockSize,
}

impl Peer {
    /// A peer without any state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, as if it were new. Room for one exchange stays, so that a peer that is used for one association after the other allocates
    /// nothing for a request that leaves nothing behind.
    pub fn forget_all(&mut self) {
        let mut exchanges = std::mem::take(&mut self.exchanges);
        exchanges.clear();
        exchanges.shrink_to(1);
        *self = Self { exchanges, ..Self::default() };
    }

    /// Sets the owner of these uploads and answers; call it before the first datagram.
    pub fn belongs_to(&mut self, owner: Owner) {
        self.owner = owner;
    }

    /// The owner of these uploads and answers.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Handles one decrypted datagram. The messages to send are appended to `out`. A request borrows only the datagram,
    /// so that [`Peer::respond`] can be called while it is alive.
    pub fn handle<'d, T: Resources>(
        &mut self,
        now: Instant,
        datagram: &'d [u8],
        shared: &mut Shared,
        table: &T,
        out: &mut Outbox,
    ) -> Handled<'d, T::Target, T::Refusal> {
        let block_max = self.block_max(shared);
        let mut turn = Turn { now, shared, out, block_max };
        self.forget(&mut turn);
        let handled = match Message::parse(datagram) {
            Ok(message) if message.code().is_request() => self.request(&mut turn, message, table),
            Ok(message) => self.no_request(&mut turn, &message).into(),
            Err(error) => malformed(&mut turn, error).into(),
        };
        match &handled {
            Handled::Done { done, .. } => turn.shared.counters.done(*done),
            Handled::RefusedByTable(_) => turn.shared.counters.refused += 1,
            Handled::Request { .. } => {}
        }
        self.count(turn.shared);
        self.check_invariants();
        handled
    }

    /// Limits the blocks of responses to this peer: its records, or the path to it, allow no larger ones.
    pub fn limit_blocks(&mut self, room: BlockSize) {
        self.room = Some(room);
    }

    fn block_max(&self, shared: &Shared) -> BlockSize {
        self.room.map_or(shared.config.block_max, |room| room.min(shared.config.block_max))
    }

    /// Answers a request: piggybacked, or as a separate response if its acknowledgement has been sent.
    ///
    /// # Errors
    /// [`Gone`] if there is no such request, or if it has been answered.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ExchangeId,
        response: &Response<'_>,
        shared: &mut Shared,
        out: &mut Outbox,
    ) -> Result<(), Gone> {
        let index = self.exchanges.iter().position(|exchange| exchange.id == id).ok_or(Gone)?;
        let exchange = &mut self.exchanges[index];
        let ExchangeState::Pending(pending) = &mut exchange.state else { return Err(Gone) };
        let past_end = shared.refusal(RequestRefusal::PastEnd);
        let response = if exchange.source.form.is_past_end(response) { &past_end } else { response };
        let is_whole = exchange.source.form.reaches_end(response);
        exchange.has_rest = !is_whole;
        let keep = match (pending.repeat, exchange.method) {
            (Repeat::Remembered | Repeat::Irreplaceable, _) => Keep::Response,
            // Later blocks of a GET are computed again; later blocks for other methods arrive without the body needed
            // to compute them.
            (Repeat::Computed, Method::Get) => Keep::Nothing,
            (Repeat::Computed, _) if exchange.source.form.fits(response) => Keep::Nothing,
            (Repeat::Computed, _) => Keep::Response,
        };
        let reserved = pending.reserved.take();
        let piggybacked = pending.acknowledge_at.is_some();
        let confirmable = exchange.source.kind == Kind::Confirmable;
        let slot = || reserved.unwrap_or_else(|| shared.answers.place(self.owner));
        let expires = now + exchange.source.lifetime();
        if piggybacked || !confirmable {
            exchange.is_delivered = is_whole;
            let outcome = (keep == Keep::Response).then(|| KeptResponse::new(response, slot()));
            let head = exchange.source.head(self.ids.begun(shared));
            write(out, head, &exchange.source.form, response, outcome.as_ref().map(|outcome| outcome.etag));
            match outcome {
                Some(outcome) => {
                    outcome.guard(out);
                    exchange.state = ExchangeState::Answered(Answered { outcome, expires });
                    exchange.settle(now);
                }
                None => self.remove(index),
            }
        } else {
            let outcome = KeptResponse::new(response, slot());
            let message_id = self.ids.begun(shared).next_id();
            let retransmission = Retransmission::start(now, ACK_TIMEOUT, shared.spread.u32());
            let separate = Separate { outcome, is_whole, message_id, retransmission, keep, expires };
            separate.send(out, &exchange.source);
            exchange.state = ExchangeState::Separate(Box::new(separate));
        }
        self.count(shared);
        self.check_invariants();
        Ok(())
    }

    /// Whether the answer of a request is delivered: its last block was sent once, or the separate response that contains it was acknowledged.
    /// `None` if the exchange has ended: it was delivered only if an earlier call said so.
    #[must_use]
    pub fn has_delivered(&self, id: ExchangeId) -> Option<bool> {
        self.exchanges.iter().find(|exchange| exchange.id == id).map(|exchange| exchange.is_delivered)
    }

    /// The next moment at which [`Peer::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().filter_map(ServerExchange::next_timeout);
        exchanges.chain(self.recent.next_expiry()).chain(self.uploads.next_expiry()).min()
    }

    /// Acknowledges requests that take long, retransmits separate responses, drops expired state.
    pub fn handle_timeout(&mut self, now: Instant, shared: &mut Shared, out: &mut Outbox) {
        let block_max = self.block_max(shared);
        let mut turn = Turn { now, shared, out, block_max };
        self.forget(&mut turn);
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get_mut(index) {
            let due = match &mut exchange.state {
                ExchangeState::Pending(pending) if pending.acknowledge_at.is_some_and(|at| at <= now) => {
                    pending.acknowledge_at = None;
                    // "it simply responds with an Empty Acknowledgement message so that the client can stop
                    // retransmitting the request" (RFC 7252 §2.2, §5.2.2).
                    write_empty(turn.out, Kind::Acknowledgement, exchange.source.message_id);
                    turn.shared.counters.separate += 1;
                    Due::NotYet
                }
                ExchangeState::Separate(separate) => separate.retransmission.due(now),
                ExchangeState::Pending(_) | ExchangeState::Answered(_) => Due::NotYet,
            };
            match (due, &exchange.state) {
                (Due::SendAgain, ExchangeState::Separate(separate)) => {
                    separate.send(turn.out, &exchange.source);
                    turn.shared.counters.retransmissions += 1;
                    index += 1;
                }
                (Due::GiveUp, _) => {
                    turn.shared.counters.given_up += 1;
                    let removed = self.end_separate(now, index, Delivery::Again);
                    index += usize::from(!removed);
                }
                _ => index += 1,
            }
        }
        self.count(turn.shared);
        self.check_invariants();
    }

    /// Whether nothing is remembered: the peer can then be dropped and recreated without the client noticing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty() && self.uploads.is_empty() && self.recent.is_empty()
    }

    /// Whether a request waits for its [`Peer::respond`], or a separate response for its acknowledgement.
    pub fn has_pending(&self) -> bool {
        self.exchanges.iter().any(ServerExchange::is_in_flight)
    }

    /// Whether the client is fetching the blocks of a kept answer and has not asked for the last one.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.has_rest)
    }

    /// How many uploads are under way.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Whether an upload is under way.
    #[must_use]
    pub fn has_upload(&self) -> bool {
        !self.uploads.is_empty()
    }

    /// Handles pings, acknowledgements, resets and messages that are not requests.
    fn no_request(&mut self, turn: &mut Turn<'_>, message: &Message<'_>) -> Done {
        match (message.kind(), message.code()) {
            // "CoAP ping": an empty confirmable message is answered with a reset (RFC 7252 §4.3).
            (Kind::Confirmable, Code::EMPTY) => {
                write_empty(turn.out, Kind::Reset, message.message_id());
                Done::Ping
            }
            (Kind::Acknowledgement, Code::EMPTY) => match self.separate(message.message_id()) {
                Some(index) => {
                    self.end_separate(turn.now, index, Delivery::Arrived);
                    Done::Acknowledged
                }
                None => Done::Dropped(Dropped::Unmatched),
            },
            (Kind::Reset, Code::EMPTY) => match self.separate(message.message_id()) {
                Some(index) => {
                    self.end_separate(turn.now, index, Delivery::Again);
                    Done::Reset
                }
                None => Done::Dropped(Dropped::Unmatched),
            },
            // A confirmable message without context is rejected with a reset, any other is ignored (RFC 7252 §4.2,
            // §4.3).
            (Kind::Confirmable, _) => {
                write_empty(turn.out, Kind::Reset, message.message_id());
                Done::Dropped(Dropped::NotARequest)
            }
            (Kind::NonConfirmable, _) => Done::Dropped(Dropped::NotARequest),
            (Kind::Acknowledgement | Kind::Reset, _) => Done::Dropped(Dropped::Unmatched),
        }
    }

    fn forget(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get(index) {
            match &exchange.state {
                ExchangeState::Answered(answered) if answered.expires <= now => self.remove(index),
                _ => index += 1,
            }
        }
        self.uploads.expire(now, turn.shared);
        self.recent.expire(now);
    }

    fn separate(&self, message_id: MessageId) -> Option<usize> {
        let has_id = |exchange: &ServerExchange| match &exchange.state {
            ExchangeState::Separate(separate) => separate.message_id == message_id,
            ExchangeState::Pending(_) | ExchangeState::Answered(_) => false,
        };
        self.exchanges.iter().position(has_id)
    }

    /// Ends a separate response; returns true if its exchange is removed with it.
    fn end_separate(&mut self, now: Instant, index: usize, delivery: Delivery) -> bool {
        let mut exchange = self.exchanges.swap_remove(index);
        let ExchangeState::Separate(separate) = exchange.state else { return true };
        exchange.is_delivered |= separate.is_whole && delivery == Delivery::Arrived;
        let Some(answered) = separate.end() else { return true };
        exchange.delivery = delivery;
        exchange.state = ExchangeState::Answered(answered);
        exchange.settle(now);
        self.exchanges.push(exchange);
        let last = self.exchanges.len() - 1;
        self.exchanges.swap(index, last);
        false
    }

    /// Removes an exchange. A peer that remembers little holds little memory; room for one exchange stays, so that
    /// consecutive requests allocate nothing.
    fn remove(&mut self, index: usize) {
        self.exchanges.swap_remove(index);
        if self.exchanges.is_empty() {
            self.exchanges.shrink_to(1);
        }
    }

    /// The bytes held, bodies excluded. An upload counts as the exchange that it becomes, which is then not refused for
    /// lack of room.
    fn bytes_beside_bodies(&self) -> usize {
        let exchanges = self.exchanges.iter().filter(|exchange| exchange.stays()).count();
        (exchanges + self.uploads.len()) * EXCHANGE_BYTES + self.recent.bytes()
    }

    /// Whether this peer may hold `more` bytes, bodies excluded; bytes released since the last count are available.
    fn may_hold(&self, more: usize, shared: &Shared) -> bool {
        let counted = self.charge.as_ref().map_or(0, Charge::bytes);
        let more = (self.bytes_beside_bodies() + more).saturating_sub(counted);
        more == 0 || shared.held.lock().has_room(self.owner, more, shared.config.exchange_bytes_total_max)
    }

    /// Updates the count of bytes held, bodies excluded, after any change to them.
    fn count(&mut self, shared: &Shared) {
        let bytes = self.bytes_beside_bodies();
        if bytes > 0 || self.charge.is_some() {
            self.charge.get_or_insert_with(|| shared.held.charge(self.owner)).set(bytes);
        }
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.charge.as_ref().map_or(0, Charge::bytes), self.bytes_beside_bodies(), "all is counted");
        debug_assert!(
            self.exchanges.iter().enumerate().all(|(i, one)| self.exchanges[..i].iter().all(|two| two.id != one.id)),
            "an exchange has one name"
        );
        debug_assert!(
            self.exchanges.iter().all(|exchange| match &exchange.state {
                ExchangeState::Pending(pending) =>
                    pending.acknowledge_at.is_none() || exchange.source.kind == Kind::Confirmable,
                ExchangeState::Separate(_) => true,
                ExchangeState::Answered(_) => true,
            }),
            "only a confirmable request is acknowledged"
        );
    }
}

/// A message format error: a confirmable message is rejected with a reset (RFC 7252 §4.2), any other is ignored (§4.3).
fn malformed(turn: &mut Turn<'_>, error: FormatError) -> Done {
    match error {
        FormatError::NotCoap => Done::Dropped(Dropped::NotCoap),
        FormatError::Malformed { kind, message_id, why } => {
            if kind == Kind::Confirmable {
                write_empty(turn.out, Kind::Reset, message_id);
            }
            Done::Dropped(Dropped::Malformed(why))
        }
    }
}
