//! Cuts blocks out of a response and writes the message (RFC 7959 §2.4).

use std::ops::Range;

use super::refusal::{BlockFault, RequestRefusal};
use super::request::Head;
use super::response::Response;
use crate::hash::Hash64;
use crate::{Block, BlockSize, Encoder, Kind, Message, MessageId, MessageIds, Number, Outbox, Token};

/// Domain of the hashes that serve as ETags; see [`Hash64::new`].
const PURPOSE_ETAG: u64 = 3;

/// The head of the outgoing message.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHead {
    pub(super) kind: Kind,
    pub(super) message_id: MessageId,
    pub(super) token: Token,
}

impl ResponseHead {
    /// The answer to a confirmable request is piggybacked in its acknowledgement; the answer to a non-confirmable one
    /// is non-confirmable too (RFC 7252 §5.2.1, §5.2.3).
    pub(super) fn answering(request: &Message<'_>, ids: &mut MessageIds) -> Self {
        match request.kind() {
            Kind::NonConfirmable => {
                Self { kind: Kind::NonConfirmable, message_id: ids.next_id(), token: request.token() }
            }
            _ => Self { kind: Kind::Acknowledgement, message_id: request.message_id(), token: request.token() },
        }
    }
}

/// The form of the answer that a request asked for; the same for each copy of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Echoed in the final response of an upload (RFC 7959 §2.3).
    pub(super) block1: Option<Block>,
    /// The requested block, or the first one at the size that suits this client.
    pub(super) block: Block,
    /// The answer carries Block2 even if the body fits one block, because the request carried it.
    pub(super) block2_asked: bool,
    /// Size2 in the request asks for the size of the body (RFC 7959 §4).
    pub(super) size2_asked: bool,
}

impl Form {
    /// Without Block2, the first block has the size of the client's own Block1 blocks: the client can receive what it
    /// can send, and nothing more is known. Without either, or above `block_max`, it has the size `block_max`: "A
    /// server MUST use the block size indicated or a smaller size" (RFC 7959 §2.4).
    pub(super) fn new(head: &Head<'_>, blocks: Blocks, block_max: BlockSize) -> Self {
        let asked = blocks.block2.unwrap_or(Block {
            num: 0,
            more: false,
            size: blocks.block1.map_or(block_max, |block1| block1.size),
        });
        let size = asked.size.min(block_max);
        // The same offset in smaller blocks; NUM can express it as long as the body has at most 16 MiB.
        let block = Block::at(asked.offset(), size, false).unwrap_or(Block { num: Block::NUM_MAX, more: false, size });
        Self {
            block1: blocks.block1,
            block,
            block2_asked: blocks.block2.is_some(),
            size2_asked: head.option(Number::SIZE2).is_some(),
        }
    }

    /// Whether the whole body fits one message without Block2.
    pub(super) fn fits(&self, response: &Response<'_>) -> bool {
        response.code.is_error() || response.body.len() <= self.block.size.bytes()
    }

    /// Whether the requested block reaches the end of the body.
    pub(super) fn reaches_end(&self, response: &Response<'_>) -> bool {
        self.fits(response) || !self.cut(response.body.len()).0.more
    }

    /// Whether the requested block begins past the end of the body.
    pub(super) fn is_past_end(&self, response: &Response<'_>) -> bool {
        response.code.is_success() && self.block.num > 0 && self.block.offset() >= response.body.len()
    }

    /// The part of the body that this form asks for; empty past the end.
    fn cut(&self, body_bytes: usize) -> (Block, Range<usize>) {
        let start = body_bytes.min(self.block.offset());
        let end = body_bytes.min(start.saturating_add(self.block.size.bytes()));
        (Block { more: end < body_bytes, ..self.block }, start..end)
    }
}

/// Block1 and Block2 of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
}

impl Blocks {
    /// SZX 7 in either option is a bad request (RFC 7959 §2.2). If the method defines no payload, there is nothing to
    /// cut into blocks: Block1 is then ignored like the payload.
    pub(super) fn of(head: &Head<'_>) -> Result<Self, RequestRefusal> {
        let block = |number| head.block(number).map_err(|_| RequestRefusal::BadBlock(BlockFault::ReservedSize));
        let block1 = if head.method().has_payload() { block(Number::BLOCK1)? } else { None };
        Ok(Self { block1, block2: block(Number::BLOCK2)? })
    }
}

/// Writes the part of `response` that `form` asks for. ETag and Content-Format are part of every block (RFC 7959 §2.4),
/// so that a client can tell that all blocks belong to one representation.
pub(super) fn write(out: &mut Outbox, head: ResponseHead, form: &Form, response: &Response<'_>, etag: Option<u64>) {
    // A diagnostic payload is not a representation and is not sent in blocks (RFC 7252 §5.5.2). An empty body is not
    // either.
    if response.code.is_error() || response.body.is_empty() || !form.block2_asked && form.fits(response) {
        write_whole(out, head, response, Sizes { block1: form.block1, size1: None });
        return;
    }
    let (block, range) = form.cut(response.body.len());
    let etag = etag.unwrap_or_else(|| entity_tag(response)).to_be_bytes();
    let size2 = form.size2_asked.then_some(response.body.len()).and_then(|bytes| u32::try_from(bytes).ok());
    out.push(|buffer| {
        Encoder::new(buffer, head.kind, response.code, head.message_id, head.token)
            .option(Number::ETAG, &etag)
            .maybe_uint(Number::CONTENT_FORMAT, response.content_format.map(|format| format.0.into()))
            .maybe_uint(Number::MAX_AGE, response.max_age)
            .uint(Number::BLOCK2, block.value())
            .maybe_uint(Number::BLOCK1, form.block1.map(Block::value))
            .maybe_uint(Number::SIZE2, size2)
            .payload(&response.body[range]);
    });
}

/// The size options of a response that is sent in one piece.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) block1: Option<Block>,
    pub(super) size1: Option<u32>,
}

/// Writes a response in one piece.
pub(super) fn write_whole(out: &mut Outbox, head: ResponseHead, response: &Response<'_>, sizes: Sizes) {
    let body = if response.code.is_error() { diagnostic(response.body) } else { response.body };
    out.push(|buffer| {
        Encoder::new(buffer, head.kind, response.code, head.message_id, head.token)
            .maybe_uint(Number::CONTENT_FORMAT, response.content_format.map(|format| format.0.into()))
            .maybe_uint(Number::MAX_AGE, response.max_age)
            .maybe_uint(Number::BLOCK1, sizes.block1.map(Block::value))
            .maybe_uint(Number::SIZE1, sizes.size1)
            .payload(body);
    });
}

/// The ETag: the 64-bit hash of the body and its Content-Format, the same on every node and after every restart.
pub(super) fn entity_tag(response: &Response<'_>) -> u64 {
    let format = response.content_format.map_or(u64::MAX, |format| format.0.into());
    Hash64::new(PURPOSE_ETAG).number(format).field(response.body).finish()
}

/// An empty acknowledgement or a reset.
pub(super) fn write_empty(out: &mut Outbox, kind: Kind, message_id: MessageId) {
    out.push(|buffer| Encoder::empty(buffer, kind, message_id));
}

/// The part of a diagnostic payload that is sent: whole characters, because it is UTF-8 (RFC 7252 §5.5.2).
fn diagnostic(text: &[u8]) -> &[u8] {
    if text.len() <= Response::DIAGNOSTIC_BYTES_MAX {
        return text;
    }
    let mut end = Response::DIAGNOSTIC_BYTES_MAX;
    while end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}
