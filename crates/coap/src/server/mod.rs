//! The server side of one association: [`Peer`].
//!
//! What it is: message layer, deduplication, Block1 uploads, Block2 responses and separate responses of one client, in
//! front of a handler that sees whole requests only. What it is not: a resource table ([`Resources`] is asked) or a
//! transport. `est` drives it: each decrypted datagram into [`Peer::handle`], each answer into [`Peer::respond`],
//! [`Peer::handle_timeout`] when [`Peer::poll_timeout`] is due; what is in the [`Outbox`] afterwards is sent.
//!
//! ```text
//!   datagram -> Message::parse -> duplicate? -> Head::check -> Block2 NUM > 0? -> Resources::admit -> Block1? -> Request
//!                 |                 |             |              |                  |                   |
//!                RST             as before    4.02 4.05 5.05   next block         4.xx          2.31, 4.08, 4.13
//!                                                              or 4.08
//! ```

mod done;
mod exchange;
mod recent;
mod request;
mod response;
mod shared;
mod uploads;
mod write;

pub use done::{Done, Dropped, Gone, Handled, Refusal};
pub use request::{Head, Request};
pub use response::Response;
pub use shared::{Admit, Config, Counters, Repeat, Resources, Shared};

use crate::hash::Hash64;
use crate::time::{Due, Retransmission};
use crate::{ACK_TIMEOUT, Block, Code, FormatError, Kind, Message, MessageId, MessageIds, Method, Number, Outbox};
use exchange::{Answered, Delivery, Exchange, Keep, Origin, Outcome, Pending, Separate, State};
use recent::Recent;
use request::Body;
use shared::RESPONSE_BYTES_EXPECTED;
use std::time::Instant;
use uploads::{Complete, Piece, RequestKey, Taken, Uploads};
use write::{Blocks, Envelope, Form, Sizes, write, write_empty, write_whole};

/// Fingerprints of datagrams, and of last blocks; see [`Hash64::new`].
const PURPOSE_DATAGRAM: u64 = 2;
const PURPOSE_LAST_BLOCK: u64 = 4;

/// Names one request until it is answered; unique among the peers of one [`Shared`] until the number comes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u32);

/// All that is remembered of one association.
#[derive(Debug, Default)]
pub struct Peer {
    exchanges: Vec<Exchange>,
    uploads: Uploads,
    recent: Recent,
    /// Of messages that we begin: separate and non-confirmable responses. Apart from the client's ids, which count for
    /// its messages only (RFC 7252 §4.4).
    ids: Option<MessageIds>,
}

/// What one call works with.
struct Turn<'t> {
    now: Instant,
    shared: &'t mut Shared,
    out: &'t mut Outbox,
}

/// A request as it arrived, with the names that later requests are compared with.
#[derive(Clone, Copy)]
struct Arrival<'d> {
    message: Message<'d>,
    fingerprint: u64,
}

/// A request that passed the check of its options.
#[derive(Clone, Copy)]
struct Checked<'d> {
    head: Head<'d>,
    blocks: Blocks,
    key: RequestKey,
    fingerprint: u64,
}

/// Why a request gets an error response: ours, or that of the resource table.
enum Refused {
    Here(Refusal),
    ByTable(Response<'static>),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused::Here(refusal)
    }
}

impl Peer {
    /// Remembers nothing yet.
    pub fn new() -> Peer {
        Peer::default()
    }

    /// Takes one decrypted datagram. What there is to send is appended to `out`.
    pub fn handle<'d>(
        &mut self,
        now: Instant,
        datagram: &'d [u8],
        shared: &mut Shared,
        table: &dyn Resources,
        out: &mut Outbox,
    ) -> Handled<'d> {
        let mut turn = Turn { now, shared, out };
        self.forget(&mut turn);
        let handled = match Message::parse(datagram) {
            Ok(message) if message.code().is_request() => self.request(&mut turn, message, table),
            Ok(message) => Handled::Done(self.no_request(&mut turn, &message)),
            Err(error) => Handled::Done(malformed(&mut turn, error)),
        };
        if let Handled::Done(done) = &handled {
            match done {
                Done::Dropped(dropped) => turn.shared.counters.dropped(*dropped),
                Done::Refused(refusal) => turn.shared.counters.refused(*refusal),
                Done::Duplicate => turn.shared.counters.duplicates += 1,
                Done::Continuation => turn.shared.counters.continuations += 1,
                Done::Continued => turn.shared.counters.blocks += 1,
                Done::Acknowledged | Done::Reset | Done::Ping => {}
            }
        }
        self.check_invariants();
        handled
    }

    /// Answers a request: piggybacked, or as a separate response where its acknowledgement has gone out.
    ///
    /// # Errors
    /// [`Gone`] where there is no such request, or it has been answered.
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
        let State::Pending(pending) = &mut exchange.state else { return Err(Gone) };
        let past_end = refusal_response(Refusal::PastEnd, shared);
        let response = if exchange.origin.form.is_past_end(response) { &past_end } else { response };
        let keep = match (pending.repeat, exchange.method) {
            (Repeat::Remembered, _) => Keep::Outcome,
            // Later blocks of a GET are computed again; those of anything else come without what to compute from.
            (Repeat::Computed, Method::Get) => Keep::Nothing,
            (Repeat::Computed, _) if exchange.origin.form.fits(response) => Keep::Nothing,
            (Repeat::Computed, _) => Keep::Outcome,
        };
        let reserved = pending.reserved.take();
        let piggybacked = pending.acknowledge_at.is_some();
        let confirmable = exchange.origin.kind == Kind::Confirmable;
        let charge = || reserved.unwrap_or_else(|| shared.response_bytes.charge(0));
        let expires = now + exchange.origin.lifetime();
        if piggybacked || !confirmable {
            let outcome = (keep == Keep::Outcome).then(|| Outcome::new(response, charge()));
            let envelope = exchange.origin.envelope(self.ids.get_or_insert_with(|| shared.fresh_ids()));
            write(out, envelope, &exchange.origin.form, response, outcome.as_ref().map(|outcome| outcome.etag));
            match outcome {
                Some(outcome) => {
                    exchange.state = State::Answered(Answered { outcome, delivery: Delivery::Again, expires });
                }
                None => self.remove(index),
            }
        } else {
            let outcome = Outcome::new(response, charge());
            let message_id = self.ids.get_or_insert_with(|| shared.fresh_ids()).next_id();
            let retransmission = Retransmission::start(now, ACK_TIMEOUT, shared.spread.u32());
            let separate = Separate { outcome, message_id, retransmission, keep, expires };
            separate.send(out, &exchange.origin);
            exchange.state = State::Separate(separate);
        }
        self.check_invariants();
        Ok(())
    }

    /// The next moment at which [`Peer::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().filter_map(Exchange::next_timeout);
        exchanges.chain(self.recent.next_expiry()).chain(self.uploads.next_expiry()).min()
    }

    /// Acknowledges what takes long, sends separate responses again, forgets what expired.
    pub fn handle_timeout(&mut self, now: Instant, shared: &mut Shared, out: &mut Outbox) {
        let mut turn = Turn { now, shared, out };
        self.forget(&mut turn);
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get_mut(index) {
            let due = match &mut exchange.state {
                State::Pending(pending) if pending.acknowledge_at.is_some_and(|at| at <= now) => {
                    pending.acknowledge_at = None;
                    // "it simply responds with an Empty Acknowledgement message so that the client can stop
                    // retransmitting the request" (RFC 7252 §2.2, §5.2.2).
                    write_empty(turn.out, Kind::Acknowledgement, exchange.origin.message_id);
                    turn.shared.counters.separate += 1;
                    Due::NotYet
                }
                State::Separate(separate) => separate.retransmission.due(now),
                State::Pending(_) | State::Answered(_) => Due::NotYet,
            };
            match (due, &exchange.state) {
                (Due::SendAgain, State::Separate(separate)) => {
                    separate.send(turn.out, &exchange.origin);
                    turn.shared.counters.retransmissions += 1;
                    index += 1;
                }
                (Due::GiveUp, _) => {
                    turn.shared.counters.given_up += 1;
                    let removed = self.end_separate(index, Delivery::Again);
                    index += usize::from(!removed);
                }
                _ => index += 1,
            }
        }
        self.check_invariants();
    }

    /// Whether nothing is remembered: the peer can be dropped and made anew without the client noticing.
    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty() && self.uploads.is_empty() && self.recent.is_empty()
    }

    /// Whether a request waits for its [`Peer::respond`], or a separate response for its acknowledgement.
    pub fn has_pending(&self) -> bool {
        self.exchanges.iter().any(Exchange::is_in_flight)
    }

    /// Whether an upload is under way.
    pub fn has_upload(&self) -> bool {
        !self.uploads.is_empty()
    }

    /// Pings, acknowledgements, resets and what makes no sense.
    fn no_request(&mut self, turn: &mut Turn<'_>, message: &Message<'_>) -> Done {
        match (message.kind(), message.code()) {
            // "CoAP ping": an empty confirmable message is answered with a reset (RFC 7252 §4.3).
            (Kind::Confirmable, Code::EMPTY) => {
                write_empty(turn.out, Kind::Reset, message.message_id());
                Done::Ping
            }
            (Kind::Acknowledgement, Code::EMPTY) => match self.separate(message.message_id()) {
                Some(index) => {
                    self.end_separate(index, Delivery::Arrived);
                    Done::Acknowledged
                }
                None => Done::Dropped(Dropped::Unmatched),
            },
            (Kind::Reset, Code::EMPTY) => match self.separate(message.message_id()) {
                Some(index) => {
                    self.end_separate(index, Delivery::Again);
                    Done::Reset
                }
                None => Done::Dropped(Dropped::Unmatched),
            },
            // A confirmable message without context is rejected with a reset, any other ignored (RFC 7252 §4.2, §4.3).
            (Kind::Confirmable, _) => {
                write_empty(turn.out, Kind::Reset, message.message_id());
                Done::Dropped(Dropped::NotARequest)
            }
            (Kind::NonConfirmable, _) => Done::Dropped(Dropped::NotARequest),
            (Kind::Acknowledgement | Kind::Reset, _) => Done::Dropped(Dropped::Unmatched),
        }
    }

    fn request<'d>(&mut self, turn: &mut Turn<'_>, message: Message<'d>, table: &dyn Resources) -> Handled<'d> {
        // A request can't be piggybacked in an acknowledgement, and a reset is empty (RFC 7252 §4.2, table 1).
        if matches!(message.kind(), Kind::Acknowledgement | Kind::Reset) {
            return Handled::Done(Done::Dropped(Dropped::Unmatched));
        }
        let fingerprint = Hash64::new(PURPOSE_DATAGRAM).field(message.bytes()).finish();
        let arrival = Arrival { message, fingerprint };
        if let Some(done) = self.duplicate(turn, &arrival) {
            return Handled::Done(done);
        }
        let result = self.new_request(turn, &arrival, table);
        self.note(turn.now, &arrival, &result);
        result.unwrap_or_else(|refused| Handled::Done(self.refuse(turn, &message, &refused)))
    }

    /// What a duplicate gets; `None` where the message is none.
    fn duplicate(&mut self, turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> Option<Done> {
        let message = &arrival.message;
        let known = self.exchanges.iter().position(|exchange| exchange.origin.is(arrival));
        if let Some(index) = known {
            self.repeat(turn, index);
            return Some(Done::Duplicate);
        }
        match self.recent.answer(arrival.fingerprint)? {
            Code::EMPTY => {}
            Code::CONTINUE => {
                let block1 = message.block(Number::BLOCK1).ok().flatten();
                self.write_sizes(turn, message, &Response::empty(Code::CONTINUE), Sizes { block1, size1: None });
            }
            code => {
                let response = Response::empty(code);
                let busy = code == Code::SERVICE_UNAVAILABLE;
                let response = if busy { response.with_max_age(turn.shared.full_max_age()) } else { response };
                self.write_sizes(turn, message, &response, Sizes::default());
            }
        }
        Some(Done::Duplicate)
    }

    /// Remembers a message whose copy must not count as new, and how it was answered.
    fn note(&mut self, now: Instant, arrival: &Arrival<'_>, result: &Result<Handled<'_>, Refused>) {
        // "the recipient SHOULD silently ignore any duplicated Non-confirmable message" (RFC 7252 §4.5).
        if arrival.message.kind() == Kind::NonConfirmable {
            self.recent.insert(now, arrival.fingerprint, Code::EMPTY);
            return;
        }
        let answer = match result {
            Ok(Handled::Done(Done::Continued)) => Code::CONTINUE,
            // Of a last block only the outcome could be told: as long as that is kept, it is.
            Ok(Handled::Request { .. }) if arrival.message.option(Number::BLOCK1).is_some() => Code::EMPTY,
            // Another time these could have another answer; every other refusal is judged again to the same.
            Err(Refused::Here(
                refusal @ (Refusal::BlockMissing
                | Refusal::ContentFormatChanged
                | Refusal::TooLarge { .. }
                | Refusal::Full),
            )) if arrival.message.option(Number::BLOCK1).is_some() => refusal.code(),
            _ => return,
        };
        self.recent.insert(now, arrival.fingerprint, answer);
    }

    /// Answers a duplicate as its first copy was answered (RFC 7252 §4.5), as far as it has been.
    fn repeat(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Exchange { origin, state, .. } = &mut self.exchanges[index];
        if origin.kind == Kind::NonConfirmable {
            return;
        }
        match state {
            State::Pending(pending) => {
                pending.acknowledge_at = None;
                write_empty(turn.out, Kind::Acknowledgement, origin.message_id);
            }
            State::Separate(_) | State::Answered(Answered { delivery: Delivery::Arrived, .. }) => {
                write_empty(turn.out, Kind::Acknowledgement, origin.message_id);
            }
            State::Answered(Answered { outcome, delivery: Delivery::Again, .. }) => {
                let envelope = origin.envelope(self.ids.get_or_insert_with(|| turn.shared.fresh_ids()));
                write(turn.out, envelope, &origin.form, &outcome.response(), Some(outcome.etag));
            }
        }
    }

    fn new_request<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        arrival: &Arrival<'d>,
        table: &dyn Resources,
    ) -> Result<Handled<'d>, Refused> {
        let head = Head::check(arrival.message)?;
        let blocks = Blocks::of(&arrival.message)?;
        let key = RequestKey::of(&arrival.message);
        let checked = Checked { head, blocks, key, fingerprint: arrival.fingerprint };
        if blocks.block2.is_some_and(|block2| block2.num > 0) {
            return self.later_block(turn, &checked, table);
        }
        if let Some(block1) = blocks.block1 {
            return self.upload(turn, &checked, block1, table);
        }
        let admit = table.admit(&head).map_err(Refused::ByTable)?;
        self.open(turn, &checked, admit, Body::Borrowed(arrival.message.payload()), None)
    }

    /// Block2 with a NUM above 0: the next part of a response that is kept, or of one that is computed again. It
    /// needs neither payload nor Content-Format nor Accept, and any token will do (RFC 7959 §2.7, §3.3).
    fn later_block<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        table: &dyn Resources,
    ) -> Result<Handled<'d>, Refused> {
        // A request goes on with its body or with its response, never with both (RFC 7959 §3.3).
        if checked.blocks.block1.is_some() {
            return Err(Refusal::BadBlock.into());
        }
        let message = checked.head.message();
        let of_key = |exchange: &&Exchange| exchange.key == checked.key && exchange.outcome().is_some();
        let latest = self.exchanges.iter().filter(of_key).max_by_key(|exchange| exchange.id);
        if let Some(outcome) = latest.and_then(Exchange::outcome) {
            let mut form = Form::new(message, checked.blocks, turn.shared.config.block_max);
            form.block2_asked = true;
            let response = outcome.response();
            if !response.code.is_success() {
                return Err(Refusal::NoResponse.into());
            }
            if form.is_past_end(&response) {
                return Err(Refusal::PastEnd.into());
            }
            let envelope = Envelope::answering(message, self.ids.get_or_insert_with(|| turn.shared.fresh_ids()));
            write(turn.out, envelope, &form, &response, Some(outcome.etag));
            return Ok(Handled::Done(Done::Continuation));
        }
        // Never a new request: its payload came with the first one. A GET has none, and where it is computed again its
        // later blocks are too (RFC 7959 §2.4).
        if checked.head.method() != Method::Get {
            return Err(Refusal::NoResponse.into());
        }
        let admit = table.admit(&checked.head).map_err(Refused::ByTable)?;
        match admit.repeat {
            Repeat::Remembered => Err(Refusal::NoResponse.into()),
            Repeat::Computed => self.open(turn, checked, admit, Body::Borrowed(message.payload()), None),
        }
    }

    /// A block of a request body.
    fn upload<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        block: Block,
        table: &dyn Resources,
    ) -> Result<Handled<'d>, Refused> {
        let message = checked.head.message();
        let payload = message.payload();
        if block.num == 0 {
            // Whatever comes of it, from now on blocks of this name belong to another body.
            self.uploads.drop_named(checked.key);
            for exchange in self.exchanges.iter_mut().filter(|exchange| exchange.key == checked.key) {
                exchange.last_block = None;
            }
        }
        // With M set the payload has exactly the size of the block; the last one may be shorter (RFC 7959 §2.2, §2.3).
        if payload.len() > block.size.bytes() || block.more && payload.len() < block.size.bytes() {
            return Err(Refusal::BadBlock.into());
        }
        let content_format = checked.head.content_format();
        let piece = Piece { key: checked.key, block, content_format, payload };
        if block.num == 0 {
            return self.first_block(turn, checked, &piece, table);
        }
        let last = last_block(&piece);
        if !self.uploads.contains(checked.key) {
            let same = |exchange: &Exchange| {
                exchange.key == checked.key
                    && exchange.last_block == Some(last)
                    && exchange.outcome().is_none_or(|outcome| outcome.response().code.is_success())
            };
            return match self.exchanges.iter().position(same) {
                Some(index) if !block.more => Ok(Handled::Done(self.answer_anew(turn, index, checked))),
                _ => Err(Refusal::BlockMissing.into()),
            };
        }
        if !block.more
            && let Some(admit) = self.uploads.admitted(checked.key)
        {
            self.check_room(turn, admit)?;
        }
        match self.uploads.take(turn.now, &piece, turn.shared)? {
            Taken::Continue => {
                self.write_continue(turn, message, block);
                Ok(Handled::Done(Done::Continued))
            }
            Taken::Complete(Complete { body, admit }) => {
                // A copy of the last block brings no body to compute the answer from again.
                let admit = Admit { repeat: Repeat::Remembered, ..admit };
                self.open(turn, checked, admit, Body::Gathered(body), Some(last))
            }
        }
    }

    fn first_block<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        piece: &Piece<'d>,
        table: &dyn Resources,
    ) -> Result<Handled<'d>, Refused> {
        let admit = table.admit(&checked.head).map_err(Refused::ByTable)?;
        let announced = checked.head.size1().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        // What is announced as too large need not be sent first (RFC 7959 §2.9.3, §4).
        if announced > admit.body_bytes_max {
            return Err(Refusal::TooLarge { body_bytes_max: admit.body_bytes_max }.into());
        }
        if !piece.block.more {
            return self.open(turn, checked, admit, Body::Borrowed(piece.payload), None);
        }
        self.check_room(turn, admit)?;
        self.uploads.begin(turn.now, piece, admit, turn.shared)?;
        self.write_continue(turn, checked.head.message(), piece.block);
        Ok(Handled::Done(Done::Continued))
    }

    /// The last block of an upload that is complete, under a new message id: the client has forgotten its message layer, or
    /// gave up on it. It gets the outcome of the same request; a refusal is no outcome to repeat, the client begins anew.
    fn answer_anew(&mut self, turn: &mut Turn<'_>, index: usize, checked: &Checked<'_>) -> Done {
        let message = checked.head.message();
        let exchange = &mut self.exchanges[index];
        exchange.origin = Origin::new(checked, turn.shared);
        let envelope = Envelope::answering(message, self.ids.get_or_insert_with(|| turn.shared.fresh_ids()));
        match &mut exchange.state {
            State::Pending(pending) => {
                pending.acknowledge_at = None;
                if message.kind() == Kind::Confirmable {
                    write_empty(turn.out, Kind::Acknowledgement, message.message_id());
                }
            }
            State::Separate(Separate { outcome, .. }) | State::Answered(Answered { outcome, .. }) => {
                write(turn.out, envelope, &exchange.origin.form, &outcome.response(), Some(outcome.etag));
            }
        }
        if let State::Answered(answered) = &mut exchange.state {
            answered.delivery = Delivery::Again;
        }
        Done::Duplicate
    }

    /// Hands a whole request up.
    fn open<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        admit: Admit,
        body: Body<'d>,
        last_block: Option<u64>,
    ) -> Result<Handled<'d>, Refused> {
        if body.len() > admit.body_bytes_max {
            return Err(Refusal::TooLarge { body_bytes_max: admit.body_bytes_max }.into());
        }
        self.check_room(turn, admit)?;
        self.make_room(turn);
        let reserved = match admit.repeat {
            Repeat::Remembered => Some(turn.shared.response_bytes.charge(RESPONSE_BYTES_EXPECTED)),
            Repeat::Computed => None,
        };
        let origin = Origin::new(checked, turn.shared);
        let acknowledge_at =
            (origin.kind == Kind::Confirmable).then(|| turn.now + turn.shared.config.acknowledge_after);
        let id = turn.shared.next_exchange();
        self.exchanges.reserve_exact(1);
        self.exchanges.push(Exchange {
            id,
            method: checked.head.method(),
            origin,
            key: checked.key,
            last_block,
            state: State::Pending(Pending { repeat: admit.repeat, acknowledge_at, reserved }),
        });
        turn.shared.counters.requests += 1;
        Ok(Handled::Request { id, request: Request::new(checked.head, body) })
    }

    /// Refuses now what could not be remembered, before it is executed.
    fn check_room(&self, turn: &Turn<'_>, admit: Admit) -> Result<(), Refusal> {
        let config = &turn.shared.config;
        let in_flight = self.exchanges.iter().filter(|exchange| exchange.is_in_flight()).count();
        let held = turn.shared.response_bytes.get().saturating_add(RESPONSE_BYTES_EXPECTED);
        let remembered = admit.repeat == Repeat::Remembered;
        if in_flight >= config.exchanges_per_peer_max || remembered && held > config.response_bytes_total_max {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Drops the oldest outcomes above the limit; what is in flight stays.
    fn make_room(&mut self, turn: &Turn<'_>) {
        while self.exchanges.len() >= turn.shared.config.exchanges_per_peer_max {
            let answered = |(index, exchange): (usize, &Exchange)| match &exchange.state {
                State::Answered(answered) => Some((answered.expires, index)),
                State::Pending(_) | State::Separate(_) => None,
            };
            let Some((_, oldest)) = self.exchanges.iter().enumerate().filter_map(answered).min() else { return };
            self.remove(oldest);
        }
    }

    fn write_continue(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, block1: Block) {
        self.write_sizes(turn, message, &Response::empty(Code::CONTINUE), Sizes { block1: Some(block1), size1: None });
    }

    fn write_sizes(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, response: &Response<'_>, sizes: Sizes) {
        let envelope = Envelope::answering(message, self.ids.get_or_insert_with(|| turn.shared.fresh_ids()));
        write_whole(turn.out, envelope, response, sizes);
    }

    fn refuse(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, refused: &Refused) -> Done {
        // "Unrecognized options of class "critical" that occur in a Non-confirmable message MUST cause the message to be
        // rejected", which may be in silence (RFC 7252 §5.4.1, §4.3).
        if let (Kind::NonConfirmable, Refused::Here(Refusal::BadOption(number))) = (message.kind(), refused) {
            return Done::Dropped(Dropped::BadOption(*number));
        }
        let (refusal, response) = match refused {
            Refused::Here(refusal) => (*refusal, refusal_response(*refusal, turn.shared)),
            Refused::ByTable(response) => (Refusal::ByTable(response.code), *response),
        };
        let size1 = match refusal {
            // "The response SHOULD include a Size1 Option [...] to indicate the maximum size of request entity the server
            // is able and willing to handle" (RFC 7252 §5.9.2.9).
            Refusal::TooLarge { body_bytes_max } => u32::try_from(body_bytes_max).ok(),
            _ => None,
        };
        self.write_sizes(turn, message, &response, Sizes { block1: None, size1 });
        Done::Refused(refusal)
    }

    fn forget(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get(index) {
            match &exchange.state {
                State::Answered(answered) if answered.expires <= now => self.remove(index),
                _ => index += 1,
            }
        }
        self.uploads.expire(now, turn.shared);
        self.recent.expire(now);
    }

    fn separate(&self, message_id: MessageId) -> Option<usize> {
        let has_id = |exchange: &Exchange| match &exchange.state {
            State::Separate(separate) => separate.message_id == message_id,
            State::Pending(_) | State::Answered(_) => false,
        };
        self.exchanges.iter().position(has_id)
    }

    /// Ends a separate response; true where its exchange is gone with it.
    fn end_separate(&mut self, index: usize, delivery: Delivery) -> bool {
        let mut exchange = self.exchanges.swap_remove(index);
        let State::Separate(separate) = exchange.state else { return true };
        let Some(answered) = separate.end(delivery) else { return true };
        exchange.state = State::Answered(answered);
        self.exchanges.push(exchange);
        let last = self.exchanges.len() - 1;
        self.exchanges.swap(index, last);
        false
    }

    /// A peer that remembers little holds little memory; room for one exchange stays, so that one request after the
    /// other allocates nothing.
    fn remove(&mut self, index: usize) {
        self.exchanges.swap_remove(index);
        if self.exchanges.is_empty() {
            self.exchanges.shrink_to(1);
        }
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.exchanges.iter().enumerate().all(|(i, one)| self.exchanges[..i].iter().all(|two| two.id != one.id)),
            "an exchange has one name"
        );
        debug_assert!(
            self.exchanges.iter().all(|exchange| match &exchange.state {
                State::Pending(pending) =>
                    pending.acknowledge_at.is_none() || exchange.origin.kind == Kind::Confirmable,
                State::Separate(_) => true,
                State::Answered(_) => true,
            }),
            "only a confirmable request is acknowledged"
        );
    }
}

impl Origin {
    fn new(checked: &Checked<'_>, shared: &Shared) -> Origin {
        let message = checked.head.message();
        Origin {
            kind: message.kind(),
            message_id: message.message_id(),
            token: message.token(),
            fingerprint: checked.fingerprint,
            form: Form::new(message, checked.blocks, shared.config.block_max),
        }
    }

    fn is(&self, arrival: &Arrival<'_>) -> bool {
        self.message_id == arrival.message.message_id() && self.fingerprint == arrival.fingerprint
    }

    fn envelope(&self, ids: &mut MessageIds) -> Envelope {
        match self.kind {
            Kind::NonConfirmable => {
                Envelope { kind: Kind::NonConfirmable, message_id: ids.next_id(), token: self.token }
            }
            _ => Envelope { kind: Kind::Acknowledgement, message_id: self.message_id, token: self.token },
        }
    }
}

impl Separate {
    fn send(&self, out: &mut Outbox, origin: &Origin) {
        let envelope = Envelope { kind: Kind::Confirmable, message_id: self.message_id, token: origin.token };
        write(out, envelope, &origin.form, &self.outcome.response(), Some(self.outcome.etag));
    }
}

/// A message format error: a confirmable message is rejected with a reset (RFC 7252 §4.2), any other ignored (§4.3).
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

fn refusal_response(refusal: Refusal, shared: &Shared) -> Response<'static> {
    let response = Response::error(refusal.code(), (shared.config.diagnose)(refusal));
    match refusal {
        Refusal::Full => response.with_max_age(shared.full_max_age()),
        _ => response,
    }
}

/// What the last block of an upload is recognised by when it comes again in another message.
fn last_block(piece: &Piece<'_>) -> u64 {
    let format = piece.content_format.map_or(u64::MAX, |format| format.0.into());
    Hash64::new(PURPOSE_LAST_BLOCK).number(piece.block.value().into()).number(format).field(piece.payload).finish()
}
