//! The client side of one request: [`Exchange`].
//!
//! What it is: one request from its first datagram to the last block of the answer. The body is sent in Block1 pieces
//! and the answer arrives in Block2 pieces, each a request and a response of its own (RFC 7959); confirmable requests
//! are retransmitted until they are acknowledged, and a separate response is awaited and acknowledged (RFC 7252
//! §5.2.2). What it is not: a cache, an observer or a proxy. `est::Client` drives it, one exchange at a time.
//!
//! ```text
//!            2.31: next block                more blocks: Block2 NUM n, no payload
//!             +----------+                      +----------+
//!             v          |                      v          |
//!   new --> Sending -----+---- response ----> Fetching ----+---- last block --> Over (Done)
//!             |  ^                              |
//!             |  +---- 4.08, ETag changed ------+   at most RESTARTS_MAX times
//!             +-- 4.13 with a smaller Block1: again in smaller blocks
//!
//!   each step:   CON --> (sent again) --> ACK with the response
//!                   \--> empty ACK --> CON or NON with the response --> ACK
//!                   \--> RST, or nothing: Over (Failed)
//! ```

mod in_flight;
mod spec;

use std::fmt;
use std::time::Instant;

use crate::time::{Due, Retransmission};
use crate::{
    Block, BlockSize, Code, ContentFormat, Encoder, Kind, Message, MessageId, MessageIds, Number, Outbox, Token,
};
use in_flight::{InFlight, RequestHead};

pub use spec::{ANSWER_BYTES_MAX, ExchangeFailure, ExchangeProgress, LOCATION_SEGMENTS_MAX, Reply, RequestSpec};

/// The largest body of a request: every block of it, even of 16 bytes, has a NUM of at most 20 bits.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// How often a transfer is restarted because the server lost it or its representation changed. Two restarts may be bad
/// luck; more indicate a server that cannot keep a transfer.
pub const RESTARTS_MAX: u8 = 2;
/// How many acknowledged separate responses are remembered, so that their duplicates are acknowledged again.
const ACKNOWLEDGED_MAX: usize = 4;

/// One request, from its first block to the last block of the answer.
pub struct Exchange {
    spec: RequestSpec,
    token: Token,
    jitter: u32,
    restarts: u8,
    phase: ExchangePhase,
    acknowledged: [Option<MessageId>; ACKNOWLEDGED_MAX],
    out: Outbox,
    sent: usize,
    /// The buffer of the previous request, reused for the next one.
    spare: Vec<u8>,
}

/// The state of the exchange; see the flow above.
#[derive(Debug)]
enum ExchangePhase {
    Sending(Sending),
    Fetching(Fetching),
    Over,
}

/// A piece of the request is in flight.
#[derive(Debug)]
struct Sending {
    in_flight: InFlight,
    offset: usize,
    size: BlockSize,
}

/// The answer has begun; the request for its next block is in flight.
#[derive(Debug)]
struct Fetching {
    in_flight: InFlight,
    etag: Option<Vec<u8>>,
    reply: Reply,
}

impl Exchange {
    /// Begins the exchange: its first datagram is available from [`Exchange::poll_transmit`]. The first request uses
    /// `token`, and each later one the next token in sequence; `jitter` is a random number that spreads
    /// retransmissions. A body above 16 MiB is not sent, because a NUM of 20 bits cannot number all its blocks: the
    /// exchange is over at once.
    pub fn new(now: Instant, mut spec: RequestSpec, ids: &mut MessageIds, token: Token, jitter: u32) -> Self {
        if spec.kind != Kind::NonConfirmable {
            spec.kind = Kind::Confirmable;
        }
        let mut exchange = Self {
            spec,
            token,
            jitter,
            restarts: 0,
            phase: ExchangePhase::Over,
            acknowledged: [None; ACKNOWLEDGED_MAX],
            out: Outbox::new(),
            sent: 0,
            spare: Vec::with_capacity(DATAGRAM_BYTES_USUAL),
        };
        if exchange.spec.body.len() <= BODY_BYTES_MAX {
            exchange.phase = exchange.send(now, 0, exchange.spec.block, ids);
        }
        exchange
    }

    /// Handles a message from the server.
    pub fn handle(&mut self, now: Instant, message: &Message<'_>, ids: &mut MessageIds) -> ExchangeProgress {
        let response_wait = self.spec.response_wait;
        let Some(in_flight) = self.in_flight_mut() else {
            return self.handle_late(message);
        };
        if message.code() == Code::EMPTY {
            return match message.kind() {
                Kind::Acknowledgement if in_flight.message_id == message.message_id() => {
                    if in_flight.acknowledge(now, response_wait) {
                        ExchangeProgress::Acknowledged
                    } else {
                        ExchangeProgress::Ignored
                    }
                }
                Kind::Reset if in_flight.message_id == message.message_id() => self.fail(ExchangeFailure::Reset),
                _ => self.handle_late(message),
            };
        }
        let is_answer = message.code().is_response()
            && message.token() == in_flight.token
            && (message.kind() != Kind::Acknowledgement || message.message_id() == in_flight.message_id)
            && message.kind() != Kind::Reset;
        if !is_answer {
            return self.handle_late(message);
        }
        if let Err(failure) = check_options(message) {
            // "Unrecognized options of class "critical" that occur in a Confirmable response [...] MUST cause the
            // response to be rejected" (RFC 7252 §5.4.1).
            if message.kind() == Kind::Confirmable {
                self.write_empty(Kind::Reset, message.message_id());
            }
            return self.fail(failure);
        }
        let separate = message.kind() != Kind::Acknowledgement;
        if message.kind() == Kind::Confirmable {
            self.acknowledge(message.message_id());
        }
        self.take_response(now, message, ids, separate)
    }

    /// The next datagram to send; call until `None` after `new`, `handle` and `handle_timeout`.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        if self.sent >= self.out.len() {
            self.out.clear();
            self.sent = 0;
            return None;
        }
        self.sent += 1;
        self.out.message(self.sent - 1)
    }

    /// The next moment at which [`Exchange::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            ExchangePhase::Sending(sending) => Some(sending.in_flight.deadline()),
            ExchangePhase::Fetching(fetching) => Some(fetching.in_flight.deadline()),
            ExchangePhase::Over => None,
        }
    }

    /// Retransmits, or gives up. A non-confirmable request is sent again under a new message id, since a copy would be
    /// ignored as a duplicate (RFC 7252 §4.5).
    pub fn handle_timeout(&mut self, now: Instant, ids: &mut MessageIds) -> ExchangeProgress {
        let kind = self.spec.kind;
        let (ExchangePhase::Sending(Sending { in_flight, .. }) | ExchangePhase::Fetching(Fetching { in_flight, .. })) =
            &mut self.phase
        else {
            return ExchangeProgress::Ignored;
        };
        match in_flight.due(now) {
            Due::NotYet => ExchangeProgress::Ignored,
            Due::SendAgain => {
                if kind == Kind::NonConfirmable {
                    in_flight.rename(ids.next_id());
                }
                self.out.push(|buffer| buffer.extend_from_slice(&in_flight.datagram));
                ExchangeProgress::Pending
            }
            Due::GiveUp if in_flight.repeats < self.spec.repeats => self.begin_again(now, ids),
            Due::GiveUp => self.fail(ExchangeFailure::Timeout),
        }
    }

    /// Sends an unanswered request as a new exchange: for the server's message layer it is another request, for the
    /// layers above the same one.
    fn begin_again(&mut self, now: Instant, ids: &mut MessageIds) -> ExchangeProgress {
        let head = self.next_head(ids);
        let retransmission = self.retransmission(now);
        let (ExchangePhase::Sending(Sending { in_flight, .. }) | ExchangePhase::Fetching(Fetching { in_flight, .. })) =
            &mut self.phase
        else {
            return ExchangeProgress::Ignored;
        };
        in_flight.begin_again(head, retransmission);
        self.out.push(|buffer| buffer.extend_from_slice(&in_flight.datagram));
        ExchangeProgress::Pending
    }

    /// Whether the exchange is done or failed. It may be kept for a while to acknowledge duplicates of a separate
    /// response.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, ExchangePhase::Over)
    }

    fn take_response(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        ids: &mut MessageIds,
        separate: bool,
    ) -> ExchangeProgress {
        match std::mem::replace(&mut self.phase, ExchangePhase::Over) {
            ExchangePhase::Sending(Sending { in_flight, offset, size }) => {
                self.spare = in_flight.datagram;
                self.answer_to_piece(now, message, ids, SentBlock { offset, size, separate })
            }
            ExchangePhase::Fetching(Fetching { in_flight, etag, reply }) => {
                self.spare = in_flight.datagram;
                self.next_block(now, message, ids, Fetched { etag, reply })
            }
            ExchangePhase::Over => ExchangeProgress::Ignored,
        }
    }

    /// The response to a piece of the request.
    fn answer_to_piece(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        ids: &mut MessageIds,
        sent: SentBlock,
    ) -> ExchangeProgress {
        let Ok(block1) = message.block(Number::BLOCK1) else {
            return ExchangeProgress::Failed(ExchangeFailure::BadBlock);
        };
        let end = self.piece_end(sent.offset, sent.size);
        let more = end < self.spec.body.len();
        match message.code() {
            Code::CONTINUE if more => {
                // "the client SHOULD heed the preference indicated and, for all further blocks, use the block size
                // preferred by the server or a smaller one" (RFC 7959 §2.5); the offset stays.
                let size = block1.map_or(sent.size, |block1| block1.size.min(sent.size));
                if block1.is_some_and(|block1| block1.num != 0 && block1.offset() > sent.offset) {
                    return ExchangeProgress::Failed(ExchangeFailure::BadBlock);
                }
                self.phase = self.send(now, end, size, ids);
                ExchangeProgress::Pending
            }
            Code::CONTINUE => ExchangeProgress::Failed(ExchangeFailure::BadBlock),
            // RFC 7959 §2.9.3: a smaller size in the Block1 of a 4.13 is a hint to try with that.
            Code::REQUEST_ENTITY_TOO_LARGE if block1.is_some_and(|block1| block1.size < sent.size) => {
                let size = block1.map_or(BlockSize::B16, |block1| block1.size);
                self.phase = self.send(now, 0, size, ids);
                ExchangeProgress::Pending
            }
            Code::REQUEST_ENTITY_INCOMPLETE if sent.offset > 0 && self.may_restart() => {
                self.phase = self.send(now, 0, sent.size, ids);
                ExchangeProgress::Pending
            }
            _ => self.first_block(now, message, ids, sent.separate),
        }
    }

    /// Handles the first block of the answer, usually the whole answer.
    fn first_block(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        ids: &mut MessageIds,
        separate: bool,
    ) -> ExchangeProgress {
        let Ok(block2) = message.block(Number::BLOCK2) else {
            return ExchangeProgress::Failed(ExchangeFailure::BadBlock);
        };
        if message.payload().len() > self.spec.answer_bytes_max {
            return ExchangeProgress::Failed(ExchangeFailure::TooLarge);
        }
        let reply = Reply {
            code: message.code(),
            content_format: content_format(message),
            max_age: message.uint(Number::MAX_AGE),
            location: location(message),
            body: message.payload().to_vec(),
            separate,
        };
        let block2 = match block2.filter(|_| message.code().is_success()) {
            None => return ExchangeProgress::Done(reply),
            Some(block2) if block2.num != 0 => return ExchangeProgress::Failed(ExchangeFailure::BadBlock),
            Some(block2) if !block2.more => return ExchangeProgress::Done(reply),
            Some(block2) => block2,
        };
        if reply.body.len() != block2.size.bytes() {
            return ExchangeProgress::Failed(ExchangeFailure::BadBlock);
        }
        let etag = message.option(Number::ETAG).map(<[u8]>::to_vec);
        self.fetch(now, ids, block2.size, Fetched { etag, reply })
    }

    /// Handles a later block of the answer.
    fn next_block(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        ids: &mut MessageIds,
        fetched: Fetched,
    ) -> ExchangeProgress {
        let Fetched { etag, mut reply } = fetched;
        // Blocks belong to one representation if ETag and Content-Format are the same (RFC 7959 §2.4). If they differ,
        // or if the server has lost the transfer, the transfer restarts: an enrolment request is idempotent (RFC 9148
        // §4.7).
        let same = message.option(Number::ETAG) == etag.as_deref() && content_format(message) == reply.content_format;
        let lost = message.code() == Code::REQUEST_ENTITY_INCOMPLETE;
        if lost || message.code().is_success() && !same {
            if !self.may_restart() {
                return ExchangeProgress::Failed(ExchangeFailure::Changing);
            }
            self.phase = self.send(now, 0, self.spec.block, ids);
            return ExchangeProgress::Pending;
        }
        if message.code().is_error() {
            reply.code = message.code();
            reply.content_format = content_format(message);
            reply.max_age = message.uint(Number::MAX_AGE);
            reply.body = message.payload().to_vec();
            return ExchangeProgress::Done(reply);
        }
        let payload = message.payload();
        let block2 = match message.block(Number::BLOCK2) {
            Ok(Some(block2)) if block2.offset() == reply.body.len() => block2,
            _ => return ExchangeProgress::Failed(ExchangeFailure::BadBlock),
        };
        let size = block2.size.bytes();
        if payload.len() > size || block2.more && payload.len() < size {
            return ExchangeProgress::Failed(ExchangeFailure::BadBlock);
        }
        if reply.body.len() + payload.len() > self.spec.answer_bytes_max {
            return ExchangeProgress::Failed(ExchangeFailure::TooLarge);
        }
        reply.body.extend_from_slice(payload);
        if !block2.more {
            return ExchangeProgress::Done(reply);
        }
        self.fetch(now, ids, block2.size, Fetched { etag, reply })
    }

    /// Handles messages that do not answer the request in flight: duplicates of separate responses are acknowledged
    /// again (RFC 7252 §4.5), other confirmable messages are rejected, the rest is ignored.
    fn handle_late(&mut self, message: &Message<'_>) -> ExchangeProgress {
        if message.kind() == Kind::Confirmable {
            let known = self.acknowledged.contains(&Some(message.message_id())) && message.code().is_response();
            let kind = if known { Kind::Acknowledgement } else { Kind::Reset };
            self.write_empty(kind, message.message_id());
        }
        ExchangeProgress::Ignored
    }

    /// Sends the piece of the body at `offset`; a body that fits one block is sent without Block1.
    fn send(&mut self, now: Instant, offset: usize, size: BlockSize, ids: &mut MessageIds) -> ExchangePhase {
        let end = self.piece_end(offset, size);
        let more = end < self.spec.body.len();
        let blockwise = offset > 0 || more;
        let block = Block::at(offset, size, more).expect("BODY_BYTES_MAX leaves a NUM for every offset");
        let size1 = (blockwise && offset == 0).then_some(self.spec.body.len()).and_then(|n| u32::try_from(n).ok());
        // The last piece selects the block size of the answer (RFC 7959 §3.3); the largest size needs no option.
        let block2 = (!more && self.spec.block < BlockSize::B1024).then_some(Block { num: 0, more: false, size });
        let (head, mut datagram) = self.new_datagram(ids);
        self.write_head(&mut datagram, head)
            .maybe_uint(Number::BLOCK2, block2.map(Block::value))
            .maybe_uint(Number::BLOCK1, blockwise.then_some(block.value()))
            .maybe_uint(Number::SIZE1, size1)
            .payload(&self.spec.body[offset..end]);
        ExchangePhase::Sending(Sending { in_flight: self.launch(now, head, datagram), offset, size })
    }

    /// Requests the block after those received: with a new token, without a payload, and with every option of the first
    /// request except Block1 and Size1, which describe a body that is not sent again (RFC 7959 §2.4, §3.3). Servers
    /// compare the other options.
    fn fetch(&mut self, now: Instant, ids: &mut MessageIds, size: BlockSize, fetched: Fetched) -> ExchangeProgress {
        let Fetched { etag, reply } = fetched;
        let Some(block2) = Block::at(reply.body.len(), size, false) else {
            return ExchangeProgress::Failed(ExchangeFailure::TooLarge);
        };
        let (head, mut datagram) = self.new_datagram(ids);
        self.write_head(&mut datagram, head).uint(Number::BLOCK2, block2.value());
        let in_flight = self.launch(now, head, datagram);
        self.phase = ExchangePhase::Fetching(Fetching { in_flight, etag, reply });
        ExchangeProgress::Pending
    }

    fn next_head(&mut self, ids: &mut MessageIds) -> RequestHead {
        let head = RequestHead { message_id: ids.next_id(), token: self.token };
        // A token is not reused, so that a late answer is never taken for another one (RFC 9175 §4).
        self.token = self.token.next();
        head
    }

    fn new_datagram(&mut self, ids: &mut MessageIds) -> (RequestHead, Vec<u8>) {
        let head = self.next_head(ids);
        let mut datagram = std::mem::take(&mut self.spare);
        datagram.clear();
        (head, datagram)
    }

    /// Header, host, path, Content-Format, queries and Accept, in the order of their numbers: the same in every request of the
    /// exchange.
    fn write_head<'b>(&self, buffer: &'b mut Vec<u8>, head: RequestHead) -> Encoder<'b> {
        let spec = &self.spec;
        let content_format = spec.content_format.filter(|_| !spec.body.is_empty());
        let mut encoder = Encoder::new(buffer, spec.kind, spec.method.code(), head.message_id, head.token);
        if let Some(host) = &spec.uri_host {
            encoder = encoder.option(Number::URI_HOST, host.as_bytes());
        }
        encoder = encoder.maybe_uint(Number::URI_PORT, spec.uri_port.map(u32::from));
        for segment in &spec.path {
            encoder = encoder.option(Number::URI_PATH, segment.as_bytes());
        }
        encoder = encoder.maybe_uint(Number::CONTENT_FORMAT, content_format.map(|format| format.0.into()));
        for query in &spec.queries {
            encoder = encoder.option(Number::URI_QUERY, query.as_bytes());
        }
        encoder.maybe_uint(Number::ACCEPT, spec.accept.map(|format| format.0.into()))
    }

    fn launch(&mut self, now: Instant, head: RequestHead, datagram: Vec<u8>) -> InFlight {
        self.out.push(|buffer| buffer.extend_from_slice(&datagram));
        InFlight::new(head, datagram, self.retransmission(now))
    }

    fn retransmission(&mut self, now: Instant) -> Retransmission {
        self.jitter = self.jitter.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        Retransmission::start(now, self.spec.ack_timeout, self.jitter)
    }

    fn acknowledge(&mut self, message_id: MessageId) {
        self.acknowledged.rotate_right(1);
        self.acknowledged[0] = Some(message_id);
        self.write_empty(Kind::Acknowledgement, message_id);
    }

    fn write_empty(&mut self, kind: Kind, message_id: MessageId) {
        self.out.push(|buffer| Encoder::empty(buffer, kind, message_id));
    }

    fn fail(&mut self, failure: ExchangeFailure) -> ExchangeProgress {
        self.phase = ExchangePhase::Over;
        ExchangeProgress::Failed(failure)
    }

    fn may_restart(&mut self) -> bool {
        self.restarts += 1;
        self.restarts <= RESTARTS_MAX
    }

    fn piece_end(&self, offset: usize, size: BlockSize) -> usize {
        self.spec.body.len().min(offset + size.bytes())
    }

    fn in_flight_mut(&mut self) -> Option<&mut InFlight> {
        match &mut self.phase {
            ExchangePhase::Sending(sending) => Some(&mut sending.in_flight),
            ExchangePhase::Fetching(fetching) => Some(&mut fetching.in_flight),
            ExchangePhase::Over => None,
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("spec", &self.spec).field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// The usual size of a request of this exchange: a block of 64 bytes and its options.
const DATAGRAM_BYTES_USUAL: usize = 128;

/// The piece that was in flight, and how its answer arrived.
#[derive(Clone, Copy)]
struct SentBlock {
    offset: usize,
    size: BlockSize,
    separate: bool,
}

/// The part of the answer that has been received.
struct Fetched {
    etag: Option<Vec<u8>>,
    reply: Reply,
}

/// Location-Path (RFC 7252 §5.10.7); empty if it is not there, or not one that a request could repeat.
fn location(message: &Message<'_>) -> Vec<String> {
    let texts = || message.options_of(Number::LOCATION_PATH).map(|value| str::from_utf8(value).ok().map(str::to_owned));
    if texts().count() > LOCATION_SEGMENTS_MAX {
        Vec::new()
    } else {
        texts().collect::<Option<_>>().unwrap_or_default()
    }
}

fn content_format(message: &Message<'_>) -> Option<ContentFormat> {
    message.option(Number::CONTENT_FORMAT).and_then(ContentFormat::from_value)
}

/// Every critical option must be known, have a length within its definition, and not be repeated unless it may be (RFC
/// 7252 §5.4).
fn check_options(message: &Message<'_>) -> Result<(), ExchangeFailure> {
    let mut previous = None;
    for option in message.options().filter(|option| option.number.is_critical()) {
        let understood = option.number.response_definition().is_some_and(|definition| {
            (definition.bytes_min..=definition.bytes_max).contains(&option.value.len())
                && (definition.repeatable || previous != Some(option.number))
        });
        if !understood {
            return Err(ExchangeFailure::BadOption(option.number));
        }
        previous = Some(option.number);
    }
    Ok(())
}
