//! The way of a request from its datagram to the handler, or to its refusal.
//!
//! ```text
//!   duplicate? -> Head::check -> Block2 NUM > 0? -> Resources::admit -> Block1? -> room? -> Request
//!       |             |              |                  |                  |         |
//!   as before    4.02 4.05 5.05  next block, 4.08   4.04 4.05 4.15 ..  2.31 4.08   5.03
//!                                  or 4.02                             4.13 4.00
//! ```

use std::cmp::Ordering;

use super::answers::Worth;
use super::arrival::{Arrival, Checked, Refused};
use super::config::EXCHANGE_BYTES;
use super::done::{Done, Dropped, Handled};
use super::exchange::{Exchange, KeptResponse, Origin, Pending, State};
use super::key::RequestKey;
use super::refusal::{BlockFault, Limit, RequestRefusal};
use super::request::{Body, Head, Request};
use super::resources::{Admit, Repeat, Resources};
use super::response::Response;
use super::uploads::{Complete, Piece, Taken};
use super::write::{Blocks, Envelope, Form, Sizes, write, write_whole};
use super::{Peer, Turn};
use crate::hash::Hash64;
use crate::{Block, Code, Kind, Message, Method};

/// Fingerprints of datagrams, and of last blocks; see [`Hash64::new`].
const PURPOSE_DATAGRAM: u64 = 2;
const PURPOSE_LAST_BLOCK: u64 = 4;

impl Peer {
    /// Takes a message with a request code.
    pub(super) fn request<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        message: Message<'d>,
        table: &dyn Resources,
    ) -> Handled<'d> {
        // A request can't be piggybacked in an acknowledgement, and a reset is empty (RFC 7252 §4.2, table 1).
        if matches!(message.kind(), Kind::Acknowledgement | Kind::Reset) {
            return Handled::Done(Done::Dropped(Dropped::Unmatched));
        }
        let fingerprint = Hash64::new(PURPOSE_DATAGRAM).field(message.bytes()).finish();
        let arrival = Arrival { message, fingerprint };
        if let Some(done) = self.duplicate(turn, &arrival, table) {
            return Handled::Done(done);
        }
        let result = self.new_request(turn, &arrival, table);
        self.note(turn, &arrival, &result);
        result.unwrap_or_else(|refused| Handled::Done(self.refuse(turn, &message, &refused)))
    }

    fn new_request<'d>(
        &mut self,
        turn: &mut Turn<'_>,
        arrival: &Arrival<'d>,
        table: &dyn Resources,
    ) -> Result<Handled<'d>, Refused> {
        let head = Head::check(arrival.message)?;
        let blocks = Blocks::of(&head)?;
        let key = RequestKey::of(&arrival.message);
        let checked = Checked { head, blocks, key, fingerprint: arrival.fingerprint };
        if blocks.block2.is_some_and(|block2| block2.num > 0) {
            return self.later_block(turn, &checked, table);
        }
        if let Some(block1) = blocks.block1 {
            return self.upload(turn, &checked, block1, table);
        }
        let admit = table.admit(&head).map_err(Refused::ByTable)?;
        self.open(turn, &checked, admit, Body::Borrowed(head.payload()), None)
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
            return Err(RequestRefusal::BadBlock(BlockFault::BothDirections).into());
        }
        let message = checked.head.message();
        let of_key = |exchange: &&mut Exchange| exchange.key == checked.key && exchange.outcome().is_some();
        let latest = self.exchanges.iter_mut().filter(of_key).max_by_key(|exchange| exchange.id);
        if let Some(exchange) = latest
            && let Some(outcome) = exchange.outcome()
        {
            let mut form = Form::new(&checked.head, checked.blocks, turn.block_max);
            form.block2_asked = true;
            let Some(body) = outcome.body().filter(|_| outcome.is_success()) else {
                return Err(RequestRefusal::NoResponse.into());
            };
            let response = outcome.response(&body);
            if form.is_past_end(&response) {
                return Err(RequestRefusal::PastEnd.into());
            }
            let envelope = Envelope::answering(message, self.ids.begun(turn.shared));
            write(turn.out, envelope, &form, &response, Some(outcome.etag));
            let reaches_end = form.reaches_end(&response);
            exchange.has_rest &= !reaches_end;
            if reaches_end {
                exchange.settle(turn.now);
            }
            return Ok(Handled::Done(Done::Continuation));
        }
        // Never a new request: its payload came with the first one. A GET has none, and where it is computed again its
        // later blocks are too (RFC 7959 §2.4).
        if checked.head.method() != Method::Get {
            return Err(RequestRefusal::NoResponse.into());
        }
        let admit = table.admit(&checked.head).map_err(Refused::ByTable)?;
        match admit.repeat {
            Repeat::Remembered | Repeat::Irreplaceable => Err(RequestRefusal::NoResponse.into()),
            Repeat::Computed => self.open(turn, checked, admit, Body::Borrowed(checked.head.payload()), None),
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
        let fault = match (payload.len().cmp(&block.size.bytes()), block.more) {
            (Ordering::Less, true) => Some(BlockFault::Short),
            (Ordering::Greater, true) => Some(BlockFault::Long),
            (Ordering::Greater, false) => Some(BlockFault::LastLong),
            (Ordering::Equal, _) | (Ordering::Less, false) => None,
        };
        if let Some(fault) = fault {
            return Err(RequestRefusal::BadBlock(fault).into());
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
                    && exchange.outcome().is_none_or(KeptResponse::is_success)
            };
            return match self.exchanges.iter().position(same) {
                Some(index) if !block.more => Ok(Handled::Done(self.answer_anew(turn, index, checked)?)),
                _ => Err(RequestRefusal::BlockMissing.into()),
            };
        }
        if !block.more
            && let Some(admit) = self.uploads.admitted(checked.key)
        {
            self.check_room(turn, checked.key, admit)?;
        }
        match self.uploads.take(turn.now, &piece, turn.shared)? {
            Taken::Continue => {
                self.write_continue(turn, message, block);
                Ok(Handled::Done(Done::Continued))
            }
            Taken::Complete(Complete { body, admit }) => {
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
            return Err(RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max }.into());
        }
        if !piece.block.more {
            return self.open(turn, checked, admit, Body::Borrowed(piece.payload), None);
        }
        // A copy of the last block will bring no body to compute the answer from again.
        let repeat = if admit.repeat == Repeat::Computed { Repeat::Remembered } else { admit.repeat };
        let admit = Admit { repeat, ..admit };
        self.check_room(turn, checked.key, admit)?;
        self.check_exchange(turn)?;
        self.uploads.begin(turn.now, piece, (self.owner, admit), turn.shared)?;
        self.write_continue(turn, checked.head.message(), piece.block);
        Ok(Handled::Done(Done::Continued))
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
            return Err(RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max }.into());
        }
        self.check_room(turn, checked.key, admit)?;
        // An upload has had its room from its first block on.
        if admit.repeat != Repeat::Computed && last_block.is_none() {
            self.check_exchange(turn)?;
        }
        self.make_room(turn, checked.key);
        let reserved = match admit.repeat {
            Repeat::Remembered => Some(turn.shared.answers.reserve(self.owner, Worth::Repeatable)),
            Repeat::Irreplaceable => Some(turn.shared.answers.reserve(self.owner, Worth::Irreplaceable)),
            Repeat::Computed => None,
        };
        let origin = Origin::new(checked, turn.block_max);
        let acknowledge_at =
            (origin.kind == Kind::Confirmable).then(|| turn.now + turn.shared.config.acknowledge_after);
        let id = turn.shared.next_exchange();
        // Later blocks are those of the latest request of a name: of an earlier answer nothing more will be asked for.
        for exchange in self.exchanges.iter_mut().filter(|it| it.key == checked.key && it.has_rest) {
            exchange.has_rest = false;
            exchange.settle(turn.now);
        }
        self.exchanges.reserve_exact(1);
        self.exchanges.push(Exchange {
            id,
            method: checked.head.method(),
            origin,
            key: checked.key,
            last_block,
            has_rest: false,
            state: State::Pending(Pending { repeat: admit.repeat, acknowledge_at, reserved }),
        });
        turn.shared.counters.requests += 1;
        Ok(Handled::Request { id, request: Request::new(checked.head, body) })
    }

    /// Refuses now what could not be remembered, before it is executed.
    fn check_room(&self, turn: &Turn<'_>, key: RequestKey, admit: Admit) -> Result<(), RequestRefusal> {
        let config = &turn.shared.config;
        let stay = self.exchanges.iter().filter(|exchange| !exchange.makes_room_for(key)).count();
        let remembered = admit.repeat != Repeat::Computed;
        if stay >= config.exchanges_per_peer_max {
            return Err(RequestRefusal::Full(Limit::Pending));
        }
        if remembered && !turn.shared.answers.make_room(turn.now, self.owner, config.response_bytes_total_max) {
            return Err(RequestRefusal::Full(Limit::Responses));
        }
        Ok(())
    }

    /// Refuses now what there is no memory to remember.
    fn check_exchange(&self, turn: &Turn<'_>) -> Result<(), RequestRefusal> {
        if self.may_hold(EXCHANGE_BYTES, turn.shared) { Ok(()) } else { Err(RequestRefusal::Full(Limit::Exchanges)) }
    }

    /// Drops the oldest outcomes above the limit for a request of this name. What is in flight, has blocks outstanding or cannot be had again
    /// stays (C43).
    fn make_room(&mut self, turn: &Turn<'_>, key: RequestKey) {
        while self.exchanges.len() >= turn.shared.config.exchanges_per_peer_max {
            let answered = |(index, exchange): (usize, &Exchange)| match &exchange.state {
                State::Answered(answered) if exchange.makes_room_for(key) => Some((answered.expires, index)),
                _ => None,
            };
            let Some((_, oldest)) = self.exchanges.iter().enumerate().filter_map(answered).min() else { return };
            self.remove(oldest);
        }
    }

    fn write_continue(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, block1: Block) {
        self.write_sizes(turn, message, &Response::empty(Code::CONTINUE), Sizes { block1: Some(block1), size1: None });
    }

    pub(super) fn write_sizes(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message<'_>,
        response: &Response<'_>,
        sizes: Sizes,
    ) {
        let envelope = Envelope::answering(message, self.ids.begun(turn.shared));
        write_whole(turn.out, envelope, response, sizes);
    }

    pub(super) fn refuse(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, refused: &Refused) -> Done {
        // "Unrecognized options of class "critical" that occur in a Non-confirmable message MUST cause the message to be
        // rejected", which may be in silence (RFC 7252 §5.4.1, §4.3).
        if let (Kind::NonConfirmable, Refused::Here(RequestRefusal::BadOption(number, _))) = (message.kind(), refused) {
            return Done::Dropped(Dropped::BadOption(*number));
        }
        let (refusal, response) = match refused {
            Refused::Here(refusal) => (*refusal, turn.shared.refusal(*refusal)),
            Refused::ByTable(response) => (RequestRefusal::ByTable(response.code), *response),
        };
        let size1 = match refusal {
            // "The response SHOULD include a Size1 Option [...] to indicate the maximum size of request entity the server
            // is able and willing to handle" (RFC 7252 §5.9.2.9).
            RequestRefusal::TooLarge { body_bytes_max } => u32::try_from(body_bytes_max).ok(),
            _ => None,
        };
        self.write_sizes(turn, message, &response, Sizes { block1: None, size1 });
        Done::Refused(refusal)
    }
}

/// What the last block of an upload is recognised by when it comes again in another message.
fn last_block(piece: &Piece<'_>) -> u64 {
    let format = piece.content_format.map_or(u64::MAX, |format| format.0.into());
    Hash64::new(PURPOSE_LAST_BLOCK).number(piece.block.value().into()).number(format).field(piece.payload).finish()
}
