//! Devices that can receive small records only: the blocks of an answer, and all other messages to them, fit the
//! requested size.

use std::sync::{Arc, Mutex};

use coap::{Block, BlockSize, Code};
use dtls::{Direction, FragmentLength, RecordLimit, TraceEvent};
use est::{Answer, ClientConfig, ClientEvent, Now, Operation, Path, Reason};

use crate::support;
use crate::support::raw::{Ask, GET, POST, Raw, Said};
use crate::support::{Key, World, csr};

/// The requested limit, the size of one message under it, and the largest block that leaves room for the rest of the
/// message: 38 bytes with a token of eight, Content-Format, Max-Age, ETag, both blocks and Size2.
const LIMITS: [(RecordLimit, usize, BlockSize); 8] = [
    (RecordLimit::MaxFragmentLength(FragmentLength::Bytes512), 512, BlockSize::B256),
    (RecordLimit::MaxFragmentLength(FragmentLength::Bytes1024), 1_024, BlockSize::B512),
    (RecordLimit::MaxFragmentLength(FragmentLength::Bytes2048), 2_048, BlockSize::B1024),
    // "Endpoints MUST NOT send a "record_size_limit" extension with a value smaller than 64" (RFC 8449 §4).
    (RecordLimit::RecordSizeLimit(64), 64, BlockSize::B16),
    (RecordLimit::RecordSizeLimit(69), 69, BlockSize::B16),
    (RecordLimit::RecordSizeLimit(70), 70, BlockSize::B32),
    (RecordLimit::RecordSizeLimit(293), 293, BlockSize::B128),
    (RecordLimit::RecordSizeLimit(294), 294, BlockSize::B256),
];

/// Lengths of the messages that the server sent and received.
#[derive(Default)]
struct Lengths {
    sent: Mutex<Vec<usize>>,
    received: Mutex<Vec<usize>>,
}

impl dtls::Observer for Lengths {
    fn observe(&self, _: Now, _: Option<Path>, event: &TraceEvent<'_>) {
        if let TraceEvent::ApplicationData { direction, plaintext } = event {
            let lengths = if *direction == Direction::Sent { &self.sent } else { &self.received };
            lengths.lock().unwrap().push(plaintext.len());
        }
    }
}

impl Lengths {
    fn of(world: &mut World) -> Arc<Self> {
        let lengths = Arc::new(Self::default());
        world.server.set_observer(Some(Arc::clone(&lengths) as Arc<dyn dtls::Observer>));
        lengths
    }

    fn longest_sent(&self) -> usize {
        self.sent.lock().unwrap().iter().copied().max().unwrap()
    }

    fn longest_received(&self) -> usize {
        self.received.lock().unwrap().iter().copied().max().unwrap()
    }
}

/// A request with a token of maximum length, which asks for Size2.
fn ask_at_length(raw: &mut Raw, world: &mut World, id: u16, ask: &Ask<'_>) -> Said {
    let message = support::raw::message(&Ask { more: &[(28, &[])], ..ask.clone() }, id, b"eight by");
    let mut said = raw.send(world, &message);
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

#[test]
fn the_blocks_of_an_answer_are_the_largest_that_fit_the_record() {
    for (limit, bytes, block) in LIMITS {
        let mut world = World::new();
        let lengths = Lengths::of(&mut world);
        let holder = world.pki.device(1);
        let mut raw = Raw::connect_with(&mut world, 1, &holder, |dtls| dtls.record_limit = Some(limit));
        // Without a requested size, with a larger one, and after an upload in blocks that are larger than any answer
        // can be.
        let larger = Some(Block { num: 0, more: false, size: BlockSize::B1024 });
        let crts = Ask { method: GET, path: "est/crts", ..Ask::default() };
        let request = csr(holder.certificate.subject(), &Key::new());
        let sen = Ask { method: POST, path: "est/sen", content_format: Some(286), ..Ask::default() };
        let whole = Block { num: 0, more: false, size: BlockSize::B512 };
        let cases = [
            crts.clone(),
            Ask { block2: larger, ..crts },
            Ask { payload: &request, block1: Some(whole), ..sen.clone() },
            Ask { payload: &request, ..sen },
        ];
        for (id, ask) in (1..).zip(&cases) {
            let said = ask_at_length(&mut raw, &mut world, id, ask);
            assert!(said.code.is_success());
            // "A server MUST use the block size indicated or a smaller size" (RFC 7959 §2.4); an upload indicates one too.
            let expected = ask.block1.map_or(block, |block1| block.min(block1.size));
            match said.block2 {
                Some(block2) => assert_eq!(block2.size, expected, "{limit:?} {ask:?}"),
                None => assert!(said.payload.len() <= expected.bytes(), "{limit:?} {ask:?}"),
            }
        }
        assert!(lengths.longest_sent() <= bytes, "{limit:?}: {} bytes", lengths.longest_sent());
        assert_eq!(world.server.counters().unsent, 0);
    }
}

#[test]
fn a_small_device_gets_its_certificates_and_sends_blocks_that_fit_too() {
    for (limit, bytes, _) in LIMITS {
        let mut world = World::new();
        let lengths = Lengths::of(&mut world);
        let holder = world.pki.device(1);
        let mut dtls = world.dtls_config(&holder);
        dtls.record_limit = Some(limit);
        let mut device = world.dial(1, dtls, ClientConfig { block: BlockSize::B1024, ..ClientConfig::default() });
        world.run(&mut device);
        assert!(matches!(device.event(), ClientEvent::Connected { .. }));
        world.ask(&mut device, Operation::CaCertificates);
        let ClientEvent::Done(Answer::CaCertificates(cas)) = device.event() else { panic!("no CA certificates") };
        assert_eq!(support::sorted(cas.usable), world.pki.ca_certificates());
        world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
        assert_eq!(device.certificate(), world.ledger.issued()[0].certificate);
        world.ask(&mut device, Operation::Discover { query: None });
        assert!(matches!(device.event(), ClientEvent::Done(Answer::Links(_))));
        assert!(lengths.longest_sent() <= bytes, "{limit:?}");
        // max_fragment_length applies in both directions (RFC 6066 §4); with record_size_limit each side announces its
        // own (RFC 8449 §4).
        if matches!(limit, RecordLimit::MaxFragmentLength(_)) {
            assert!(lengths.longest_received() <= bytes, "{limit:?}");
        }
        assert_eq!(world.server.counters().unsent, 0);
    }
}

#[test]
fn an_upload_in_larger_blocks_than_the_device_can_take_is_taken_and_answered_in_smaller_ones() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let limit = Some(RecordLimit::RecordSizeLimit(150));
    let mut raw = Raw::connect_with(&mut world, 1, &holder, |dtls| dtls.record_limit = limit);
    let request = csr(holder.certificate.subject(), &Key::new());
    let size = BlockSize::B128;
    let count = u32::try_from(request.len().div_ceil(size.bytes())).unwrap();
    assert!(count > 1);
    let mut said = None;
    for (num, payload) in (0..).zip(request.chunks(size.bytes())) {
        let block1 = Some(Block { num, more: num + 1 < count, size });
        let ask = Ask { method: POST, path: "est/sen", content_format: Some(286), block1, payload, ..Ask::default() };
        let answer = raw.ask(&mut world, &ask);
        // The limit of the device does not reduce what the server can receive: the blocks of the upload stay as they
        // are.
        assert_eq!(answer.block1.map(|block1| (block1.num, block1.size)), Some((num, size)));
        said = Some(answer);
    }
    let said = said.unwrap();
    assert_eq!((said.code, said.block2.map(|block2| block2.size)), (Code::CHANGED, Some(BlockSize::B64)));
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn every_refusal_fits_the_smallest_record() {
    // A message consists of header, token, Max-Age, Block1 and the payload marker, besides the code.
    let around = 4 + 8 + 5 + 4 + 1;
    for reason in Reason::ALL.iter().filter(|reason| reason.response_code().is_some()) {
        assert!(reason.code().len() + around <= 64, "{reason}");
    }
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    let lengths = Lengths::of(&mut world);
    world.pace = support::Pace::Held;
    let (one, two) = (world.pki.device(1), world.pki.device(2));
    let limit = Some(RecordLimit::RecordSizeLimit(64));
    let mut raw = Raw::connect_with(&mut world, 1, &one, |dtls| dtls.record_limit = limit);
    let mut other = Raw::connect(&mut world, 2, &two);
    let request = csr(two.certificate.subject(), &Key::new());
    let sen = Ask { method: POST, path: "est/sen", content_format: Some(286), ..Ask::default() };
    let message = other.message(&Ask { payload: &request, ..sen.clone() });
    assert!(other.send(&mut world, &message).is_empty(), "it waits for its signature, and uses the only place");
    let cases = [
        (Ask { method: GET, path: "est/pumps/crts", ..Ask::default() }, Reason::EstUnknownLabel),
        (Ask { method: GET, path: "est/crts", accept: Some(287), ..Ask::default() }, Reason::EstManyCertificates),
        (Ask { payload: &request, ..sen }, Reason::EstPendingFull),
    ];
    for (id, (ask, reason)) in (1..).zip(&cases) {
        let said = ask_at_length(&mut raw, &mut world, id, ask);
        assert_eq!((Some(said.code), said.diagnostic()), (reason.response_code(), reason.code()));
    }
    assert!(lengths.longest_sent() <= 64);
    assert_eq!(world.server.counters().unsent, 0);
}
