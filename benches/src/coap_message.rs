//! One CoAP message of an enrolment.

use coap::{Block, BlockSize, ContentFormat, Encoder, Kind, Message, MessageId, Method, Number, Token};

use crate::drag::{Drag, DraggedStep};

/// Messages that are parsed or built at a time: one alone has few instructions.
const MESSAGES: u16 = 32;

/// Messages of POST /sen with one block of a request each, as a device sends them.
pub struct CoapMessages {
    block: BlockSize,
    payload: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    drag: Drag,
}

impl CoapMessages {
    /// Messages with blocks of this many bytes.
    ///
    /// # Panics
    /// If RFC 7959 has no such block.
    #[must_use]
    pub fn new(block: usize) -> Self {
        let block_size = BlockSize::from_bytes(block).expect("a size that RFC 7959 has");
        let buffers = (0..MESSAGES).map(|_| Vec::with_capacity(block + 64)).collect();
        Self { block: block_size, payload: vec![0x30; block], buffers, drag: Drag::of(DraggedStep::CoapParse) }
    }

    /// The same, built.
    #[must_use]
    pub fn built(block: usize) -> Self {
        Self::new(block).build()
    }

    /// Builds the messages.
    ///
    /// # Panics
    /// Never: a block of a small body has a number.
    #[must_use]
    pub fn build(mut self) -> Self {
        let token = Token::new(&[0x5a; 4]).expect("four bytes");
        for (number, buffer) in (0..MESSAGES).zip(&mut self.buffers) {
            let offset = usize::from(number) * self.payload.len();
            let block = Block::at(offset, self.block, true).expect("a small body").value();
            let message = Encoder::new(buffer, Kind::Confirmable, Method::Post.code(), MessageId(number), token);
            let message = message.option(Number::URI_PATH, b".well-known").option(Number::URI_PATH, b"est");
            let message = message.option(Number::URI_PATH, b"sen");
            let message = message.uint(Number::CONTENT_FORMAT, u32::from(ContentFormat::PKCS10.0));
            message.uint(Number::BLOCK1, block).payload(&self.payload);
        }
        self
    }

    /// Parses the messages and reads what a server reads first.
    ///
    /// # Panics
    /// If a message that we built is malformed.
    #[must_use]
    pub fn parse(self) -> Self {
        self.drag.pull();
        for buffer in &self.buffers {
            let message = Message::parse(buffer).expect("a message that we built");
            let path = message.options_of(Number::URI_PATH).map(<[u8]>::len).sum::<usize>();
            let block = message.block(Number::BLOCK1).expect("a block that we built");
            assert!(path == 17 && block.is_some() && message.payload().len() == self.payload.len());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_can_be_parsed() {
        let messages = CoapMessages::built(64).parse();
        assert_eq!(messages.buffers.len(), usize::from(MESSAGES));
    }
}
