//! A request that arrives in Block1 blocks, up to the whole body.

use std::time::Instant;

use coap::client::{Exchange, RequestSpec};
use coap::server::{Admit, Config, Handled, Head, Peer, Repeat, Resources, Response, Shared};
use coap::{BlockSize, ContentFormat, Message, MessageIds, Outbox, Token};
use sim::VirtualClock;

/// A CSR with a P-256 key, a subject and one extension.
const BODY_BYTES: usize = 310;

/// One resource that takes every request.
struct Everything;

impl Resources for Everything {
    type Target = ();
    type Refusal = ();

    fn find(&self, _: &Head<'_>) -> Result<(), ()> {
        Ok(())
    }

    fn admit(&self, (): &()) -> Result<Admit, ()> {
        Ok(Admit { body_bytes_max: BODY_BYTES, repeat: Repeat::Remembered })
    }

    fn response(&self, (): &()) -> Response<'static> {
        Response::empty(coap::Code::NOT_FOUND)
    }
}

/// A server without peers, and the blocks of a request.
pub struct BlockUpload {
    peer: Peer,
    shared: Shared,
    out: Outbox,
    now: Instant,
    blocks: Vec<Vec<u8>>,
}

impl BlockUpload {
    /// A request in blocks of this many bytes, as our client sends it.
    ///
    /// # Panics
    /// If RFC 7959 has no such block, or the server does not take the blocks.
    #[must_use]
    pub fn new(block: usize) -> Self {
        let now = VirtualClock::start().now().mono;
        let mut recorded = Self::empty(now);
        let mut spec = RequestSpec::post("/.well-known/est/sen", ContentFormat::PKCS10, vec![0x30; BODY_BYTES]);
        spec.block = BlockSize::from_bytes(block).expect("a size that RFC 7959 has");
        let (mut ids, token) = (MessageIds::new(1), Token::new(&[0x5a; 4]).expect("four bytes"));
        let mut exchange = Exchange::new(now, spec, &mut ids, token, 0);
        while let Some(datagram) = exchange.poll_transmit() {
            let datagram = datagram.to_vec();
            recorded.out.clear();
            let is_whole = recorded.take(&datagram);
            recorded.blocks.push(datagram);
            if is_whole {
                return Self { blocks: recorded.blocks, ..Self::empty(now) };
            }
            let answer = recorded.out.message(0).expect("2.31 for each block").to_vec();
            exchange.handle(now, &Message::parse(&answer).expect("a message of ours"), &mut ids);
        }
        panic!("the request ended before its last block");
    }

    fn empty(now: Instant) -> Self {
        Self {
            peer: Peer::new(),
            shared: Shared::new(Config::default(), 1),
            out: Outbox::new(),
            now,
            blocks: Vec::new(),
        }
    }

    /// Whether the request is whole with this block.
    fn take(&mut self, datagram: &[u8]) -> bool {
        let handled = self.peer.handle(self.now, datagram, &mut self.shared, &Everything, &mut self.out);
        matches!(handled, Handled::Request { .. })
    }

    /// Takes the blocks.
    ///
    /// # Panics
    /// If the last one does not make the request whole.
    #[must_use]
    pub fn run(mut self) -> Self {
        let mut is_whole = false;
        for block in std::mem::take(&mut self.blocks) {
            self.out.clear();
            is_whole = self.take(&block);
        }
        assert!(is_whole, "the last block makes the request whole");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_blocks_are_more_of_them() {
        let blocks = |block| BlockUpload::new(block).blocks.len();
        assert_eq!((blocks(64), blocks(512)), (5, 1));
        drop(BlockUpload::new(64).run());
    }
}
