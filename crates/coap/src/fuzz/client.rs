//! One client exchange with a server that answers correctly, wrongly, late, twice or not at all.

use std::time::{Duration, Instant};

use super::Script;
use crate::client::{Exchange, ExchangeFailure, ExchangeProgress, Reply, RequestSpec};
use crate::{Block, BlockSize, Code, ContentFormat, Encoder, Kind, Message, MessageId, MessageIds, Number, Token};

/// Drives one exchange through a script: correct answers, answers with one flaw, arbitrary datagrams, duplicates and
/// time, as `data` says.
///
/// # Panics
/// If a correct server is misunderstood, a limit is exceeded, or the exchange does not end.
pub fn client_operations(start: Instant, data: &[u8]) {
    let mut script = Script::new(data);
    let mut run = Run::new(start, &mut script);
    while let Some(operation) = script.byte() {
        run.step(operation, &mut script);
    }
    run.finish();
}

const ANSWER_BYTES_MAX: usize = 2_000;
/// A client that sends more than one datagram and an acknowledgement for one that it received would be an amplifier.
const SENT_AT_ONCE_MAX: usize = 2;
/// Enough for the restarts, blocks of 16 bytes and all retransmissions of each.
const TURNS_MAX: u32 = 10_000;

struct Run {
    exchange: Exchange,
    ids: MessageIds,
    now: Instant,
    /// The request that waits for its answer.
    asked: Vec<u8>,
    heard: Vec<Vec<u8>>,
    answer: Vec<u8>,
    next_id: u16,
    /// Whether the server has sent only what a correct server sends.
    honest: bool,
}

impl Run {
    fn new(start: Instant, script: &mut Script<'_>) -> Self {
        let shape = script.or_zero();
        let body = vec![5; usize::from(script.or_zero()) * 4];
        let answer: Vec<u8> = (0..usize::from(script.or_zero()) * 4).map(|at| at.to_be_bytes()[7]).collect();
        let mut spec = match shape & 1 {
            0 => RequestSpec::post("est/sen", ContentFormat::PKCS10, body),
            _ => RequestSpec::get("est/crts"),
        };
        spec.block = BlockSize::ALL[usize::from(shape >> 1) % 7];
        spec.kind = if shape & 0x80 == 0 { Kind::Confirmable } else { Kind::NonConfirmable };
        spec.answer_bytes_max = ANSWER_BYTES_MAX;
        let mut ids = MessageIds::new(u16::MAX - 2);
        let token = Token::new(&[0xFF, 0xFE]).unwrap_or(Token::EMPTY);
        let exchange = Exchange::new(start, spec, &mut ids, token, u32::from(shape) << 24);
        let mut run =
            Self { exchange, ids, now: start, asked: Vec::new(), heard: Vec::new(), answer, next_id: 0, honest: true };
        run.collect();
        run
    }

    fn step(&mut self, operation: u8, script: &mut Script<'_>) {
        match operation % 8 {
            0..=2 => self.respond(script),
            3 => {
                let length = usize::from(script.or_zero());
                let datagram = script.take(length).to_vec();
                self.honest = false;
                self.hear(datagram);
            }
            4 => self.empty(script),
            5 => {
                let latest = usize::from(script.or_zero());
                if let Some(datagram) = self.heard.get(latest % self.heard.len().max(1)).cloned() {
                    self.deliver(&datagram);
                }
            }
            _ => {
                self.now += Duration::from_millis(u64::from(script.or_zero()) * 400);
                let progress = self.exchange.handle_timeout(self.now, &mut self.ids);
                self.judge(&progress);
                self.collect();
            }
        }
    }

    /// Sends the answer of a server; each bit of `flaw` damages one part.
    fn respond(&mut self, script: &mut Script<'_>) {
        let (shape, flaw) = (script.or_zero(), script.or_zero());
        self.honest &= flaw == 0;
        let flawed = |bit: u8| flaw & bit != 0;
        let Ok(asked) = Message::parse(&self.asked) else { return };
        let block1 = asked.block(Number::BLOCK1).ok().flatten();
        let block2 = asked.block(Number::BLOCK2).ok().flatten();
        let smaller = BlockSize::ALL[usize::from(shape >> 2) % 7];
        let code = match block1 {
            _ if flawed(0x01) => Code::from_byte(script.or_zero()),
            Some(block1) if block1.more => Code::CONTINUE,
            _ => Code::CHANGED,
        };
        let token = if flawed(0x02) { Token::EMPTY } else { asked.token() };
        let (kind, id) = self.envelope(shape, asked.message_id());
        let mut block = block2.unwrap_or(Block { num: 0, more: false, size: smaller });
        if flawed(0x10) {
            block.num = block.num.saturating_add(1);
        }
        let start = block.offset().min(self.answer.len());
        let end = (start + block.size.bytes()).min(self.answer.len());
        block.more = end < self.answer.len();
        let last = if flawed(0x40) { end.saturating_sub(3).max(start) } else { end };
        let has_body = code != Code::CONTINUE;
        let etag: &[u8] = if flawed(0x20) { b"other" } else { b"tag" };
        let mut datagram = Vec::new();
        let mut encoder = Encoder::new(&mut datagram, kind, code, id, token);
        if has_body {
            encoder = encoder.option(Number::ETAG, etag).uint(Number::CONTENT_FORMAT, 281);
            if block2.is_some() || block.more {
                encoder = encoder.uint(Number::BLOCK2, block.value());
            }
        }
        if let Some(mut block1) = block1 {
            block1.size = if flawed(0x80) { smaller } else { block1.size };
            encoder = encoder.uint(Number::BLOCK1, block1.value());
        }
        encoder.payload(if has_body { &self.answer[start..last] } else { b"" });
        self.hear(datagram);
    }

    /// Puts the answer into the acknowledgement, or into a message of its own.
    fn envelope(&mut self, shape: u8, asked: MessageId) -> (Kind, MessageId) {
        self.next_id = self.next_id.wrapping_add(1);
        match shape & 3 {
            0 | 1 => (Kind::Acknowledgement, asked),
            2 => (Kind::Confirmable, MessageId(self.next_id)),
            _ => (Kind::NonConfirmable, MessageId(self.next_id)),
        }
    }

    fn empty(&mut self, script: &mut Script<'_>) {
        let Ok(asked) = Message::parse(&self.asked) else { return };
        let reset = script.or_zero() & 1 == 1;
        self.honest &= !reset;
        let kind = if reset { Kind::Reset } else { Kind::Acknowledgement };
        let mut datagram = Vec::new();
        Encoder::empty(&mut datagram, kind, asked.message_id());
        self.hear(datagram);
    }

    fn hear(&mut self, datagram: Vec<u8>) {
        self.deliver(&datagram);
        self.heard.push(datagram);
    }

    fn deliver(&mut self, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return };
        let progress = self.exchange.handle(self.now, &message, &mut self.ids);
        self.judge(&progress);
        self.collect();
    }

    fn judge(&self, progress: &ExchangeProgress) {
        let over = matches!(progress, ExchangeProgress::Done(_) | ExchangeProgress::Failed(_));
        assert!(!over || self.exchange.is_over(), "an end is an end");
        match progress {
            ExchangeProgress::Done(Reply { body, .. }) => {
                assert!(body.len() <= ANSWER_BYTES_MAX);
                assert!(!self.honest || *body == self.answer, "what was sent is what is received");
            }
            ExchangeProgress::Failed(failure) => {
                let excused = *failure == ExchangeFailure::Timeout || *failure == ExchangeFailure::TooLarge;
                assert!(!self.honest || excused, "an honest server was refused: {failure}");
            }
            ExchangeProgress::Ignored | ExchangeProgress::Pending | ExchangeProgress::Acknowledged => {}
        }
    }

    fn collect(&mut self) {
        let mut sent = 0;
        while let Some(datagram) = self.exchange.poll_transmit() {
            let message = Message::parse(datagram).expect("what we write we can read");
            if message.code().is_request() {
                self.asked = datagram.to_vec();
            }
            sent += 1;
        }
        assert!(sent <= SENT_AT_ONCE_MAX);
    }

    /// Lets time pass without further answers.
    fn finish(mut self) {
        let mut turns = 0;
        while let Some(at) = self.exchange.poll_timeout() {
            self.now = self.now.max(at);
            let progress = self.exchange.handle_timeout(self.now, &mut self.ids);
            self.judge(&progress);
            self.collect();
            turns += 1;
            assert!(turns < TURNS_MAX, "time comes to an end");
        }
        assert!(self.exchange.is_over());
    }
}
