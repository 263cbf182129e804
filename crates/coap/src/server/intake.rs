//! The path of a request from its datagram to the handler, or to its refusal.
//!
//! ```text
//!   duplicate? -> Head::check -> Block2 NUM > 0? -> Resources::find, admit -> Block1? -> room? -> Request
//!       |             |              |                  |                  |         |
//!   as before    4.02 4.05 5.05  next block, 4.08   4.04 4.05 4.15 ..  2.31 4.08   5.03
//!                                  or 4.02                             4.13 4.00
//! ```

use std::cmp::Ordering;
use std::num::NonZeroU64;

use super::answers::Worth;
use super::arrival::{Arrival, Checked, Refused, RefusedBy, admit};
use super::config::EXCHANGE_BYTES;
use super::done::{Done, Dropped, Handled};
use super::exchange::{Delivery, ExchangeState, KeptResponse, Pending, RequestSource, ServerExchange};
use super::key::RequestKey;
use super::refusal::{BlockFault, Limit, RequestRefusal};
use super::request::{Body, Head, Request};
use super::resources::{Admit, Repeat, Resources};
use super::response::Response;
use super::uploads::{Complete, Taken, UploadBlock};
use super::write::{Blocks, Form, ResponseHead, Sizes, write_whole};
use super::{Peer, Turn};
use crate::hash::Hash64;
use crate::{Block, Code, Kind, Message, Method};

/// Fingerprints of datagrams, and of last blocks; see [`Hash64::new`].
const PURPOSE_DATAGRAM: u64 = 2;
const PURPOSE_LAST_BLOCK: u64 = 4;

impl Peer {
    /// Handles a message with a request code.
    pub(super) fn request<'d, T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        message: Message<'d>,
        table: &T,
    ) -> HandledBy<'d, T> {
        // A request can't be piggybacked in an acknowledgement, and a reset is empty (RFC 7252 §4.2, table 1).
        if matches!(message.kind(), Kind::Acknowledgement | Kind::Reset) {
            return Done::Dropped(Dropped::Unmatched).into();
        }
        let fingerprint = Hash64::new(PURPOSE_DATAGRAM).field(message.bytes()).finish();
        let arrival = Arrival { message, fingerprint };
        if let Some(done) = self.duplicate(turn, &arrival, table) {
            return done.into();
        }
        let result = self.new_request(turn, &arrival, table);
        self.note(turn, &arrival, &result);
        result.unwrap_or_else(|refused| self.refuse(turn, &message, refused))
    }

    fn new_request<'d, T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        arrival: &Arrival<'d>,
        table: &T,
    ) -> Result<HandledBy<'d, T>, RefusedBy<T>> {
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
        let (target, admit) = admit(table, &head)?;
        self.open(turn, &checked, admit, Whole::at_once(head.payload(), target))
    }

    /// Block2 with a NUM above 0: asks for a later part of a response that is kept, or of one that is computed again.
    /// It needs no payload, Content-Format or Accept, and may use any token (RFC 7959 §2.7, §3.3).
    fn later_block<'d, T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        table: &T,
    ) -> Result<HandledBy<'d, T>, RefusedBy<T>> {
        // A request continues either with its body or with its response, never with both (RFC 7959 §3.3).
        if checked.blocks.block1.is_some() {
            return Err(RequestRefusal::BadBlock(BlockFault::BothDirections).into());
        }
        let message = checked.head.message();
        let of_key = |exchange: &&mut ServerExchange| exchange.key == checked.key && exchange.outcome().is_some();
        let latest = self.exchanges.iter_mut().filter(of_key).max_by_key(|exchange| exchange.id);
        if let Some(exchange) = latest
            && let Some(outcome) = exchange.outcome()
        {
            let mut form = Form::new(&checked.head, checked.blocks, turn.block_max);
            form.block2_asked = true;
            let past_end = outcome.with(|response| form.is_past_end(response)).filter(|_| outcome.is_success());
            match past_end {
                None => return Err(RequestRefusal::NoResponse.into()),
                Some(true) => return Err(RequestRefusal::PastEnd.into()),
                Some(false) => {}
            }
            let head = ResponseHead::answering(message, self.ids.begun(turn.shared));
            let reaches_end = outcome.write(turn.out, head, &form).ok_or(RequestRefusal::NoResponse)?;
            exchange.has_rest &= !reaches_end;
            exchange.is_delivered |= reaches_end;
            if reaches_end {
                exchange.settle(turn.now);
            }
            return Ok(Done::Continuation.into());
        }
        // This is never a new request: the payload came with the first one. A GET has no payload, and if its response
        // is computed again, so are the later blocks (RFC 7959 §2.4).
        if checked.head.method() != Method::Get {
            return Err(RequestRefusal::NoResponse.into());
        }
        let (target, admit) = admit(table, &checked.head)?;
        match admit.repeat {
            Repeat::Remembered | Repeat::Irreplaceable => Err(Refused::Here(RequestRefusal::NoResponse, Some(target))),
            Repeat::Computed => Ok(self.open(turn, checked, admit, Whole::at_once(checked.head.payload(), target))?),
        }
    }

    /// Handles a block of a request body.
    fn upload<'d, T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        block: Block,
        table: &T,
    ) -> Result<HandledBy<'d, T>, RefusedBy<T>> {
        let message = checked.head.message();
        let payload = message.payload();
        if block.num == 0 {
            // Whatever the result, later blocks of this name belong to another body.
            self.uploads.drop_named(checked.key);
            for exchange in self.exchanges.iter_mut().filter(|exchange| exchange.key == checked.key) {
                exchange.last_block = None;
            }
        }
        // With M set, the payload has exactly the size of the block; the last block may be shorter (RFC 7959 §2.2,
        // §2.3).
        let fault = match (payload.len().cmp(&block.size.bytes()), block.more) {
            (Ordering::Less, true) => Some(BlockFault::Short),
            (Ordering::Greater, true) => Some(BlockFault::Long),
            (Ordering::Greater, false) => Some(BlockFault::LastLong),
            (Ordering::Equal, _) | (Ordering::Less, false) => None,
        };
        if let Some(fault) = fault {
            return Err(RequestRefusal::BadBlock(fault).into());
        }
        let (content_format, accept) = (checked.head.content_format(), checked.head.accept());
        let piece = UploadBlock { key: checked.key, block, content_format, accept, payload };
        if block.num == 0 {
            return self.first_block(turn, checked, &piece, table);
        }
        let last = last_block(&piece);
        if !self.uploads.contains(checked.key) {
            let same = |exchange: &ServerExchange| {
                exchange.key == checked.key
                    && exchange.last_block == Some(last)
                    && exchange.outcome().is_none_or(KeptResponse::is_success)
            };
            return match self.exchanges.iter().position(same) {
                Some(index) if !block.more => Ok(self.answer_anew(turn, index, checked)?.into()),
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
                Ok(Done::Continued.into())
            }
            Taken::Complete(Complete { body, accept, admit }) => {
                // The request is all of its blocks: an Accept that came with the first one alone counts.
                let checked = Checked { head: checked.head.accepting(accept), ..*checked };
                let target = table.find(&checked.head);
                let whole = Whole { body: Body::Gathered(body), target, last_block: Some(last) };
                self.open(turn, &checked, admit, whole)
            }
        }
    }

    fn first_block<'d, T: Resources>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        piece: &UploadBlock<'d>,
        table: &T,
    ) -> Result<HandledBy<'d, T>, RefusedBy<T>> {
        let (target, admit) = admit(table, &checked.head)?;
        let announced = checked.head.size1().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        // A body that is announced as too large is refused before it is sent (RFC 7959 §2.9.3, §4).
        if announced > admit.body_bytes_max {
            let too_large = RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max };
            return Err(Refused::Here(too_large, Some(target)));
        }
        if !piece.block.more {
            return self.open(turn, checked, admit, Whole::at_once(piece.payload, target));
        }
        match self.begin(turn, checked, piece, admit) {
            Ok(()) => Ok(Done::Continued.into()),
            Err(refusal) => Err(Refused::Here(refusal, Some(target))),
        }
    }

    /// Begins an upload with its first block.
    fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'_>,
        piece: &UploadBlock<'_>,
        admit: Admit,
    ) -> Result<(), RequestRefusal> {
        // A copy of the last block does not bring the body from which the answer could be computed again.
        let repeat = if admit.repeat == Repeat::Computed { Repeat::Remembered } else { admit.repeat };
        let admit = Admit { repeat, ..admit };
        self.check_room(turn, checked.key, admit)?;
        self.check_exchange(turn)?;
        self.uploads.begin(turn.now, piece, (self.owner, admit), turn.shared)?;
        self.write_continue(turn, checked.head.message(), piece.block);
        Ok(())
    }

    /// Hands a whole request to the caller.
    fn open<'d, G, R>(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'d>,
        admit: Admit,
        whole: Whole<'d, G, R>,
    ) -> Result<Handled<'d, G, R>, Refused<G, R>> {
        if let Err(refusal) = self.may_open(turn, checked, admit, &whole) {
            return Err(Refused::Here(refusal, whole.target.ok()));
        }
        let Whole { body, target, last_block } = whole;
        self.make_room(turn, checked.key);
        let reserved = match admit.repeat {
            Repeat::Remembered => Some(turn.shared.answers.reserve(self.owner, Worth::Repeatable)),
            Repeat::Irreplaceable => Some(turn.shared.answers.reserve(self.owner, Worth::Irreplaceable)),
            Repeat::Computed => None,
        };
        let source = RequestSource::new(checked, turn.block_max);
        let acknowledge_at =
            (source.kind == Kind::Confirmable).then(|| turn.now + turn.shared.config.acknowledge_after);
        let id = turn.shared.next_exchange();
        // Later blocks refer to the latest request of a name: no further block of an earlier answer will be requested.
        for exchange in self.exchanges.iter_mut().filter(|it| it.key == checked.key && it.has_rest) {
            exchange.has_rest = false;
            exchange.settle(turn.now);
        }
        self.exchanges.reserve_exact(1);
        self.exchanges.push(ServerExchange {
            id,
            method: checked.head.method(),
            source,
            key: checked.key,
            last_block,
            has_rest: false,
            is_delivered: false,
            delivery: Delivery::Again,
            state: ExchangeState::Pending(Pending { repeat: admit.repeat, acknowledge_at, reserved }),
        });
        turn.shared.counters.requests += 1;
        Ok(Handled::Request { id, request: Request::new(checked.head, body), target })
    }

    /// Refuses a whole request that is too large or could not be remembered.
    fn may_open<G, R>(
        &self,
        turn: &Turn<'_>,
        checked: &Checked<'_>,
        admit: Admit,
        whole: &Whole<'_, G, R>,
    ) -> Result<(), RequestRefusal> {
        if whole.body.len() > admit.body_bytes_max {
            return Err(RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max });
        }
        self.check_room(turn, checked.key, admit)?;
        // An upload has its room from its first block on.
        if admit.repeat != Repeat::Computed && whole.last_block.is_none() {
            self.check_exchange(turn)?;
        }
        Ok(())
    }

    /// Refuses a request that could not be remembered, before it is executed.
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

    /// Refuses a request if there is no memory left to remember it.
    fn check_exchange(&self, turn: &Turn<'_>) -> Result<(), RequestRefusal> {
        if self.may_hold(EXCHANGE_BYTES, turn.shared) { Ok(()) } else { Err(RequestRefusal::Full(Limit::Exchanges)) }
    }

    /// Drops the oldest outcomes above the limit, for a request of this name. An outcome stays if it is in flight, has
    /// blocks outstanding or cannot be produced again (C43).
    fn make_room(&mut self, turn: &Turn<'_>, key: RequestKey) {
        while self.exchanges.len() >= turn.shared.config.exchanges_per_peer_max {
            let answered = |(index, exchange): (usize, &ServerExchange)| match &exchange.state {
                ExchangeState::Answered(answered) if exchange.makes_room_for(key) => Some((answered.expires, index)),
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
        let head = ResponseHead::answering(message, self.ids.begun(turn.shared));
        write_whole(turn.out, head, response, sizes);
    }

    fn refuse<'d, G, R>(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message<'_>,
        refused: Refused<G, R>,
    ) -> Handled<'d, G, R> {
        match refused {
            Refused::Here(refusal, target) => Handled::Done { done: self.refuse_here(turn, message, refusal), target },
            Refused::ByTable(refusal, response) => {
                self.write_sizes(turn, message, &response, Sizes::default());
                Handled::RefusedByTable(refusal)
            }
        }
    }

    /// Sends the refusals of the message layer itself.
    pub(super) fn refuse_here(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, refusal: RequestRefusal) -> Done {
        // "Unrecognized options of class "critical" that occur in a Non-confirmable message MUST cause the message to
        // be rejected"; this rejection may be silent (RFC 7252 §5.4.1, §4.3).
        if let (Kind::NonConfirmable, RequestRefusal::BadOption(number, _)) = (message.kind(), refusal) {
            return Done::Dropped(Dropped::BadOption(number));
        }
        let response = turn.shared.refusal(refusal);
        let response = match refusal {
            RequestRefusal::Full(_) => {
                response.with_max_age(turn.shared.full_max_age(self.owner, message.message_id()))
            }
            _ => response,
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

/// The result of a datagram under this table.
type HandledBy<'d, T> = Handled<'d, <T as Resources>::Target, <T as Resources>::Refusal>;

/// A request that has arrived completely.
struct Whole<'d, G, R> {
    body: Body<'d>,
    target: Result<G, R>,
    /// For an upload: the hash of its last block.
    last_block: Option<NonZeroU64>,
}

impl<'d, G, R> Whole<'d, G, R> {
    /// A request that arrived in one message.
    fn at_once(payload: &'d [u8], target: G) -> Self {
        Whole { body: Body::Borrowed(payload), target: Ok(target), last_block: None }
    }
}

/// The hash that recognises the last block of an upload when it arrives again in another message.
fn last_block(piece: &UploadBlock<'_>) -> NonZeroU64 {
    let format = piece.content_format.map_or(u64::MAX, |format| format.0.into());
    let hash = Hash64::new(PURPOSE_LAST_BLOCK).number(piece.block.value().into()).number(format).field(piece.payload);
    NonZeroU64::new(hash.finish()).unwrap_or(NonZeroU64::MIN)
}
