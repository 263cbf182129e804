//! Bodies of the fuzz targets: bytes in, nothing out, no panic. Tests replay them; a fuzzer calls them.

use crate::drops::DropReason;
use crate::handshake::reassembly::Reassembly;
use crate::limits::HANDSHAKE_MESSAGE_BYTES_MAX;
use crate::wire::{
    CertificateChain, CertificateRequest, CertificateVerify, ClientHello, ClientKeyExchange, Fragment, HandshakeType,
    HelloHead, HelloVerifyRequest, Reader, RecordHeader, ServerHello, ServerKeyExchange,
};

/// Every parser of a handshake message, with `body` as the body.
pub fn messages(body: &[u8]) {
    if let Ok(hello) = ClientHello::parse(body) {
        let line = hello.offered().to_string();
        debug_assert!(!line.contains('\n'));
        debug_assert!(HelloHead::parse(body).is_ok());
    }
    let _hello = ServerHello::parse(body);
    let _request = HelloVerifyRequest::parse(body);
    let _exchange = ServerKeyExchange::parse(body);
    let _exchange = ClientKeyExchange::parse(body);
    let _request = CertificateRequest::parse(body);
    let _verify = CertificateVerify::parse(body);
    if let Ok(chain) = CertificateChain::parse(body, 0) {
        chain.with_slices(body, |slices| debug_assert!(slices.iter().map(|der| der.len()).sum::<usize>() < body.len()));
    }
}

/// Records and fragments, with `datagram` as a datagram.
pub fn framing(datagram: &[u8]) {
    let _header = RecordHeader::parse(datagram);
    let mut records = crate::record::Records::new();
    while let Some(record) = records.next(datagram) {
        let Ok(record) = record else { continue };
        let mut reader = Reader::new(&datagram[record.payload]);
        while !reader.is_empty() {
            match Fragment::parse(&mut reader) {
                Ok(fragment) => debug_assert!(fragment.offset + fragment.body.len() <= fragment.length),
                Err(_) => break,
            }
        }
    }
}

/// Compares the reassembler with a model of it that keeps every byte it was given.
///
/// `script` is a list of fragments in five bytes each: message number and kind, length, offset, count, and the content.
///
/// # Panics
/// If a message comes out that was not put in like that, if one comes out of order, or if a complete one does not
/// come out.
pub fn reassembly(script: &[u8]) {
    let mut reassembly = Reassembly::starting_at(FIRST_SEQ, HANDSHAKE_MESSAGE_BYTES_MAX);
    let mut models: Vec<Model> = Vec::new();
    let mut popped: u16 = 0;
    for step in script.as_chunks::<FRAGMENT_STEP_BYTES>().0 {
        let [which, length, offset, count, filling] = step.map(usize::from);
        let number = which % MESSAGES;
        let kind = HandshakeType(if which < 0xE0 { 11 } else { 16 });
        // Long messages as well as short ones, and fragments of both.
        let length = if filling & 1 == 0 { length } else { length * LONG };
        let offset = (if filling & 2 == 0 { offset } else { offset * LONG }).min(length);
        let count = (if filling & 4 == 0 { count } else { count * LONG }).min(length - offset);
        let body: Vec<u8> = (0..count).map(|at| u8::try_from((at + filling) % 256).unwrap_or(0)).collect();
        let message_seq = FIRST_SEQ.wrapping_add(u16::try_from(number).unwrap_or(0));
        let inserted = reassembly.insert(&Fragment { kind, length, message_seq, offset, body: &body });
        if number >= usize::from(popped) && (inserted.is_ok() || inserted == Err(DropReason::ReassemblyFull)) {
            models.resize_with(models.len().max(number + 1), Model::default);
            let kept = inserted.is_ok();
            models[number].insert(kind, length, offset, body, kept);
        }
        while let Some(message) = reassembly.pop() {
            assert_eq!(message.message_seq, FIRST_SEQ.wrapping_add(popped), "in their order");
            let model = models.get(usize::from(popped)).expect("only what was put in comes out");
            model.check(message.kind, &message.body);
            popped += 1;
        }
        assert_eq!(reassembly.next_seq(), FIRST_SEQ.wrapping_add(popped));
        let due = models.get(usize::from(popped));
        assert!(!due.is_some_and(Model::is_whole), "what is whole comes out");
    }
}

/// The numbers wrap around in the middle of a script.
const FIRST_SEQ: u16 = u16::MAX - 3;
/// Some numbers are beyond those that are held, so some messages arrive too early.
const MESSAGES: usize = 20;
const FRAGMENT_STEP_BYTES: usize = 5;
const LONG: usize = 67;

/// One message, as the fragments described it.
#[derive(Default)]
struct Model {
    /// Kind and length, as the first fragment had them.
    announced: Option<(HandshakeType, usize)>,
    /// The first value given for each byte counts.
    bytes: Vec<Option<u8>>,
    missing: usize,
    /// Fragments for which there was no room, each with its offset: part of such a fragment may have been
    /// kept.
    refused: Vec<(usize, Vec<u8>)>,
}

impl Model {
    fn insert(&mut self, kind: HandshakeType, length: usize, offset: usize, body: Vec<u8>, kept: bool) {
        let announced = *self.announced.get_or_insert_with(|| {
            self.bytes = vec![None; length];
            self.missing = length;
            (kind, length)
        });
        assert!(!kept || announced == (kind, length), "another message was taken for this one");
        if kept {
            for (known, byte) in self.bytes[offset..].iter_mut().zip(&body) {
                self.missing -= usize::from(known.is_none());
                known.get_or_insert(*byte);
            }
        } else if announced == (kind, length) {
            self.refused.push((offset, body));
        }
    }

    fn is_whole(&self) -> bool {
        self.announced.is_some() && self.missing == 0
    }

    fn check(&self, kind: HandshakeType, body: &[u8]) {
        assert_eq!(self.announced, Some((kind, body.len())));
        for (at, (byte, known)) in body.iter().zip(&self.bytes).enumerate() {
            let refused = || {
                self.refused
                    .iter()
                    .any(|(offset, part)| at.checked_sub(*offset).and_then(|at| part.get(at)) == Some(byte))
            };
            assert!(*known == Some(*byte) || refused(), "spliced at {at}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::crypto::{Group, Suite};
    use crate::wire::{AuthorityKeyHash, ClientHelloOffer, RecordLimit};

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::messages(&bytes);
            super::framing(&bytes);
        }

        #[test]
        fn no_fragments_confuse_the_reassembler(script in prop::collection::vec(any::<u8>(), 0..600)) {
            super::reassembly(&script);
        }

        /// Nearly valid hellos reach deeper than random bytes.
        #[test]
        fn no_changed_hello_makes_a_parser_panic(
            changes in prop::collection::vec((0_usize..200, any::<u8>()), 0..6),
            end in 0_usize..200,
        ) {
            let mut body = ClientHelloOffer {
                version: 0xFEFD,
                random: &[7; 32],
                cookie: b"cookie",
                suites: &[Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128GcmSha256],
                groups: &[Group::Secp256r1, Group::X25519],
                record_limit: Some(RecordLimit::RecordSizeLimit(512)),
                extended_master_secret: true,
                server_name: Some("server.example"),
                trusted_authorities: &[AuthorityKeyHash::from_bytes([5; 20])],
            }
            .encode();
            for (at, value) in changes {
                let at = at % body.len();
                body[at] = value;
            }
            super::messages(&body);
            super::messages(&body[..end.min(body.len())]);
        }
    }
}
