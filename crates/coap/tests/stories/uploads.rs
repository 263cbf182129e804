//! Request bodies in Block1 pieces: lost, repeated, mixed, too large, abandoned.

use std::time::Duration;

use coap::server::{BlockFault, Config, Done, Peer, RequestRefusal};
use coap::{Block, BlockSize, Code, Number};

use crate::harness::{BODY_MAX, Got, Make, Server, Table, block1, block2, body, certificate, code, parse, upload};

const INCOMPLETE: Code = Code::REQUEST_ENTITY_INCOMPLETE;

#[test]
fn an_upload_works_at_every_size() {
    for size in BlockSize::ALL {
        let mut server = Server::new();
        let csr = body(1_500, 3);
        let last = upload(&mut server, &csr, size, 1);
        let (id, whole) = server.request(&last);
        assert_eq!(whole, csr);
        let sent = server.respond(id, &certificate(b"certificate"));
        assert_eq!(block1(&sent[0]), block1(&last), "echoed in the final response");
        assert_eq!(server.shared.upload_bytes(), 0);
    }
}

#[test]
fn c20_a_block_without_a_first_one_is_incomplete() {
    let mut server = Server::new();
    for (id, more) in [(1, true), (2, false)] {
        let request = Make::enroll(id).block1(3, more, BlockSize::B16).payload(&[0; 16]).bytes();
        let (done, sent) = server.done(&request);
        assert_eq!((done, code(&sent[0])), (Done::Refused(RequestRefusal::BlockMissing), INCOMPLETE));
        assert_eq!(server.done(&request), (Done::Duplicate, sent));
    }
    assert_eq!(server.shared.upload_bytes(), 0);
}

#[test]
fn a_late_copy_of_a_refused_block_does_not_fit_into_a_later_transfer() {
    let mut server = Server::new();
    let (old, new) = (body(192, 0), body(192, 100));
    let stray = Make::enroll(1).piece(&old, 1, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&stray)), INCOMPLETE);
    server.reply(&Make::enroll(2).piece(&new, 0, BlockSize::B64).bytes());
    assert_eq!(server.done(&stray).0, Done::Duplicate);
    server.reply(&Make::enroll(3).piece(&new, 1, BlockSize::B64).bytes());
    assert_eq!(server.request(&Make::enroll(4).piece(&new, 2, BlockSize::B64).bytes()).1, new);
}

#[test]
fn c21_a_missing_block_drops_the_upload_and_a_restart_works() {
    let mut server = Server::new();
    let csr = body(300, 0);
    server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B64).bytes());
    let gap = Make::enroll(2).piece(&csr, 2, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&gap)), INCOMPLETE);
    assert_eq!(server.shared.upload_bytes(), 0);
    let next = Make::enroll(3).piece(&csr, 1, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&next)), INCOMPLETE, "the state is gone");
    let last = upload(&mut server, &csr, BlockSize::B64, 10);
    assert_eq!(server.request(&last).1, csr);
}

#[test]
fn c22_a_block_repeated_under_a_new_message_id_is_not_doubled() {
    let mut server = Server::new();
    let csr = body(200, 0);
    server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B64).bytes());
    server.reply(&Make::enroll(2).piece(&csr, 1, BlockSize::B64).bytes());
    let again = server.reply(&Make::enroll(3).piece(&csr, 1, BlockSize::B64).bytes());
    assert_eq!(code(&again), Code::CONTINUE);
    server.reply(&Make::enroll(4).piece(&csr, 2, BlockSize::B64).bytes());
    assert_eq!(server.request(&Make::enroll(5).piece(&csr, 3, BlockSize::B64).bytes()).1, csr);
}

#[test]
fn c22_the_same_block_with_other_bytes_is_not_taken() {
    let mut server = Server::new();
    server.reply(&Make::enroll(1).piece(&body(200, 0), 0, BlockSize::B64).bytes());
    server.reply(&Make::enroll(2).piece(&body(200, 0), 1, BlockSize::B64).bytes());
    let other = Make::enroll(3).piece(&body(200, 9), 1, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&other)), INCOMPLETE);
}

#[test]
fn c23_block_zero_again_begins_anew() {
    let mut server = Server::new();
    let (one, two) = (body(200, 0), body(200, 90));
    server.reply(&Make::enroll(1).piece(&one, 0, BlockSize::B64).bytes());
    server.reply(&Make::enroll(2).piece(&one, 1, BlockSize::B64).bytes());
    let last = upload(&mut server, &two, BlockSize::B64, 10);
    assert_eq!(server.request(&last).1, two);
}

#[test]
fn c24_blocks_may_shrink_on_the_way() {
    let mut server = Server::new();
    let csr = body(300, 0);
    server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B128).bytes());
    // 128 bytes have arrived: block 4 of 32 bytes is next.
    for num in 4..9 {
        let reply = server.reply(&Make::enroll(num).piece(&csr, num.into(), BlockSize::B32).bytes());
        assert_eq!(block1(&reply), Some(Block { num: num.into(), more: true, size: BlockSize::B32 }));
    }
    assert_eq!(server.request(&Make::enroll(20).piece(&csr, 9, BlockSize::B32).bytes()).1, csr);
}

#[test]
fn c25_szx_7_and_short_blocks_are_bad_requests() {
    let mut server = Server::new();
    let reserved = Make::enroll(1).option(Number::BLOCK1, &[0x0f]).payload(&[0; 64]).bytes();
    let short = Make::enroll(2).block1(0, true, BlockSize::B64).payload(&[0; 63]).bytes();
    let long = Make::enroll(3).block1(0, false, BlockSize::B64).payload(&[0; 65]).bytes();
    let in_block2 = Make::enroll(4).option(Number::BLOCK2, &[0x07]).payload(&[0; 64]).bytes();
    for (request, fault) in [
        (reserved, BlockFault::ReservedSize),
        (short, BlockFault::Short),
        (long, BlockFault::LastLong),
        (in_block2, BlockFault::ReservedSize),
    ] {
        let (done, sent) = server.done(&request);
        assert_eq!((done, code(&sent[0])), (Done::Refused(RequestRefusal::BadBlock(fault)), Code::BAD_REQUEST));
    }
    assert!(!server.peer.has_upload() && !server.peer.has_pending());
}

#[test]
fn c26_what_is_too_large_is_refused_with_the_limit_and_freed() {
    let mut server = Server::new();
    let announced = Make::enroll(1).block1(0, true, BlockSize::B64).uint(Number::SIZE1, 2_001).payload(&[0; 64]);
    let reply = server.reply(&announced.bytes());
    assert_eq!(code(&reply), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(parse(&reply).uint(Number::SIZE1), Some(2_000));
    assert_eq!(server.shared.upload_bytes(), 0);
    server.reply(&Make::enroll(2).block1(0, true, BlockSize::B1024).payload(&[0; 1024]).bytes());
    let reached = Make::enroll(3).block1(1, true, BlockSize::B1024).payload(&[0; 1024]).bytes();
    let (done, sent) = server.done(&reached);
    assert_eq!(done, Done::Refused(RequestRefusal::TooLarge { body_bytes_max: BODY_MAX }));
    assert_eq!(parse(&sent[0]).uint(Number::SIZE1), Some(2_000));
    assert_eq!(server.shared.upload_bytes(), 0, "freed at once");
    let in_one = Make::enroll(4).payload(&[0; 2_001]).bytes();
    assert_eq!(code(&server.reply(&in_one)), Code::REQUEST_ENTITY_TOO_LARGE);
}

#[test]
fn c27_a_block_a_gibibyte_away_allocates_nothing() {
    let mut server = Server::new();
    let far = |id| Make::enroll(id).block1(Block::NUM_MAX, true, BlockSize::B1024).payload(&[0; 1024]).bytes();
    assert_eq!(code(&server.reply(&far(1))), INCOMPLETE);
    let again = far(6);
    let counted = allocation_counter::measure(|| {
        server.out.clear();
        server.peer.handle(server.now, &again, &mut server.shared, &Table, &mut server.out);
    });
    assert_eq!(counted.count_total, 0);
    server.reply(&Make::enroll(2).block1(0, true, BlockSize::B1024).payload(&[0; 1024]).bytes());
    let held = server.shared.upload_bytes();
    let far = Make::enroll(3).block1(Block::NUM_MAX, false, BlockSize::B1024).payload(&[0; 1024]).bytes();
    assert_eq!(code(&server.reply(&far)), INCOMPLETE);
    assert!(server.shared.upload_bytes() <= held);
    for (id, num) in [(4, 4_096), (5, 65_535)] {
        let far = Make::enroll(id).block1(num, true, BlockSize::B16).payload(&[0; 16]).bytes();
        assert_eq!(code(&server.reply(&far)), INCOMPLETE);
    }
}

#[test]
fn c28_content_format_and_request_tag_may_not_change_between_blocks() {
    let csr = body(200, 0);
    let mut server = Server::new();
    server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B64).bytes());
    let other = Make::post("est/sen", 2).uint(Number::CONTENT_FORMAT, 42).piece(&csr, 1, BlockSize::B64).bytes();
    let (done, sent) = server.done(&other);
    assert_eq!((done, code(&sent[0])), (Done::Refused(RequestRefusal::ContentFormatChanged), INCOMPLETE));
    server.reply(&Make::enroll(3).option(Number::REQUEST_TAG, b"a").piece(&csr, 0, BlockSize::B64).bytes());
    for tagged in [Make::enroll(4).option(Number::REQUEST_TAG, b"b"), Make::enroll(5)] {
        let (done, _) = server.done(&tagged.piece(&csr, 1, BlockSize::B64).bytes());
        assert_eq!(done, Done::Refused(RequestRefusal::BlockMissing));
    }
}

#[test]
fn c29_interleaved_uploads_are_never_spliced() {
    let mut server = Server::new();
    let (one, two) = (body(200, 0), body(200, 100));
    for num in 0..3 {
        let id = u16::try_from(num).unwrap();
        let first = Make::enroll(id).option(Number::REQUEST_TAG, b"1").piece(&one, num, BlockSize::B64);
        let second = Make::enroll(100 + id).option(Number::REQUEST_TAG, b"2").piece(&two, num, BlockSize::B64);
        assert_eq!(code(&server.reply(&first.bytes())), Code::CONTINUE);
        assert_eq!(code(&server.reply(&second.bytes())), Code::CONTINUE);
    }
    let second = Make::enroll(200).option(Number::REQUEST_TAG, b"2").piece(&two, 3, BlockSize::B64).bytes();
    let first = Make::enroll(201).option(Number::REQUEST_TAG, b"1").piece(&one, 3, BlockSize::B64).bytes();
    assert_eq!(server.request(&second).1, two);
    assert_eq!(server.request(&first).1, one);
}

#[test]
fn c29_without_a_request_tag_the_second_upload_replaces_the_first() {
    let mut server = Server::new();
    let (one, two) = (body(128, 0), body(128, 100));
    server.reply(&Make::enroll(1).piece(&one, 0, BlockSize::B64).bytes());
    server.reply(&Make::enroll(2).piece(&two, 0, BlockSize::B64).bytes());
    assert_eq!(server.request(&Make::enroll(3).piece(&two, 1, BlockSize::B64).bytes()).1, two);
    assert_eq!(code(&server.reply(&Make::enroll(4).piece(&one, 1, BlockSize::B64).bytes())), INCOMPLETE);
}

#[test]
fn c30_a_block_of_another_session_never_joins() {
    let mut server = Server::new();
    let csr = body(128, 0);
    server.reply(&Make::enroll(1).token(b"t").piece(&csr, 0, BlockSize::B64).bytes());
    let mut first = std::mem::replace(&mut server.peer, Peer::new());
    let last = Make::enroll(2).token(b"t").piece(&csr, 1, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&last)), INCOMPLETE);
    std::mem::swap(&mut server.peer, &mut first);
    assert_eq!(server.request(&last).1, csr);
}

#[test]
fn c32_abandoned_uploads_stay_under_the_cap_and_expire() {
    const PEERS: usize = 10_000;
    let mut server = Server::with(Config { upload_bytes_total_max: 64 << 10, ..Config::default() });
    let mut peers = Vec::with_capacity(PEERS);
    let mut full = 0;
    let held = allocation_counter::measure(|| {
        for _ in 0..PEERS {
            let reply = server.reply(&Make::enroll(1).block1(0, true, BlockSize::B64).payload(&[1; 64]).bytes());
            full += usize::from(code(&reply) == Code::SERVICE_UNAVAILABLE);
            peers.push(server.other_peer());
            assert!(server.shared.upload_bytes() <= 64 << 10);
        }
    });
    assert!(full > 9_000);
    // Bodies stay below the limit; beside them, each peer uses 128 bytes to remember how its block was answered.
    let bytes = usize::try_from(held.bytes_current).unwrap();
    assert!(bytes <= (64 << 10) + 128 * PEERS + (64 << 10), "{bytes} bytes");
    server.now += Duration::from_secs(247);
    for peer in &mut peers {
        peer.handle_timeout(server.now, &mut server.shared, &mut server.out);
        assert!(peer.is_idle());
    }
    assert_eq!(server.shared.upload_bytes(), 0);
    server.peer = peers.swap_remove(0);
    let next = Make::enroll(2).block1(1, true, BlockSize::B64).payload(&[1; 64]).bytes();
    assert_eq!(code(&server.reply(&next)), INCOMPLETE);
}

#[test]
fn one_peer_holds_few_uploads_and_the_oldest_goes_first() {
    let mut server = Server::new();
    for tag in 0..5_u8 {
        let id = u16::from(tag);
        let first = Make::enroll(id).option(Number::REQUEST_TAG, &[tag]).piece(&body(128, tag), 0, BlockSize::B64);
        server.reply(&first.bytes());
        server.now += Duration::from_millis(1);
    }
    assert!(server.shared.upload_bytes() <= 2 * 512);
    let tagged =
        |tag: u8, id| Make::enroll(id).option(Number::REQUEST_TAG, &[tag]).piece(&body(128, tag), 1, BlockSize::B64);
    assert_eq!(code(&server.reply(&tagged(2, 50).bytes())), INCOMPLETE);
    assert_eq!(server.request(&tagged(4, 51).bytes()).1, body(128, 4));
    assert_eq!(server.request(&tagged(3, 52).bytes()).1, body(128, 3));
}

#[test]
fn an_unknown_resource_is_refused_on_the_first_block() {
    let mut server = Server::new();
    let first = Make::post("est/nothing", 1).block1(0, true, BlockSize::B64).payload(&[0; 64]).bytes();
    let (got, sent) = server.deliver(&first);
    assert_eq!((got, code(&sent[0])), (Got::RefusedByTable(Code::NOT_FOUND), Code::NOT_FOUND));
    assert!(!server.peer.has_upload());
    assert_eq!(server.shared.upload_bytes(), 0);
}

#[test]
fn a_computed_request_that_came_in_blocks_is_remembered() {
    // A copy of its last block would not bring a body to compute the answer from.
    let mut server = Server::new();
    let input = body(100, 0);
    server.reply(&Make::post("calc", 1).piece(&input, 0, BlockSize::B64).bytes());
    let last = Make::post("calc", 2).piece(&input, 1, BlockSize::B64).bytes();
    let reply = server.exchange(&last, &certificate(b"sum"));
    assert_eq!(server.reply(&last), reply);
}

#[test]
fn a_last_block_inside_what_is_there_does_not_cut_the_body_short() {
    let mut server = Server::new();
    let csr = body(192, 0);
    server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B64).bytes());
    server.reply(&Make::enroll(2).piece(&csr, 1, BlockSize::B64).bytes());
    let inside = Make::enroll(3).block1(1, false, BlockSize::B32).payload(&csr[32..64]).bytes();
    assert_eq!(code(&server.reply(&inside)), INCOMPLETE);
}

#[test]
fn the_upload_that_waits_longest_makes_room() {
    let mut server = Server::new();
    let piece = |tag: u8, num, id| {
        Make::enroll(id).option(Number::REQUEST_TAG, &[tag]).piece(&body(192, tag), num, BlockSize::B64).bytes()
    };
    for (tag, num, id) in [(1, 0, 1), (2, 0, 2), (1, 1, 3), (3, 0, 4)] {
        assert_eq!(code(&server.reply(&piece(tag, num, id))), Code::CONTINUE);
        server.now += Duration::from_millis(1);
    }
    assert_eq!(code(&server.reply(&piece(2, 1, 5))), INCOMPLETE);
    assert_eq!(server.request(&piece(1, 2, 6)).1, body(192, 1));
}

#[test]
fn a_request_carries_block1_or_a_later_block2_never_both() {
    let mut server = Server::new();
    let both = Make::enroll(1).block1(0, false, BlockSize::B64).block2(1, BlockSize::B64).payload(b"csr").bytes();
    assert_eq!(server.done(&both).0, Done::Refused(RequestRefusal::BadBlock(BlockFault::BothDirections)));
}

#[test]
fn a_late_last_block_whose_outcome_is_gone_does_not_join_the_present_transfer() {
    let mut server = Server::with(Config { exchanges_per_peer_max: 1, ..Config::default() });
    let (old, new) = (body(128, 0), body(192, 100));
    let stray = upload(&mut server, &old, BlockSize::B64, 1);
    server.exchange(&stray, &certificate(b"old"));
    // Another request takes the only room there is.
    server.exchange(&Make::enroll(10).payload(b"csr").bytes(), &certificate(b"other"));
    server.reply(&Make::enroll(11).piece(&new, 0, BlockSize::B64).bytes());
    assert_eq!(server.done(&stray), (Done::Duplicate, vec![]));
    server.reply(&Make::enroll(12).piece(&new, 1, BlockSize::B64).bytes());
    assert_eq!(server.request(&Make::enroll(13).piece(&new, 2, BlockSize::B64).bytes()).1, new);
}

#[test]
fn c26_a_late_copy_of_a_block_that_was_too_large_does_not_fit_into_a_later_transfer() {
    let mut server = Server::new();
    let (old, new) = (body(2_500, 0), body(1_900, 100));
    server.reply(&Make::enroll(1).piece(&old, 0, BlockSize::B1024).bytes());
    let stray = Make::enroll(2).block1(1, false, BlockSize::B1024).payload(&old[1_024..2_048]).bytes();
    assert_eq!(code(&server.reply(&stray)), Code::REQUEST_ENTITY_TOO_LARGE);
    server.reply(&Make::enroll(3).piece(&new, 0, BlockSize::B1024).bytes());
    assert_eq!(code(&server.reply(&stray)), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(server.request(&Make::enroll(4).piece(&new, 1, BlockSize::B1024).bytes()).1, new);
}

/// RFC 7959 §2.2 sets M=0 on the last block, which is as long as its size or shorter, never longer.
#[test]
fn c46_a_refused_block_is_told_what_contradicts_its_option() {
    let mut server = Server::new();
    let cases = [
        (Block { num: 0, more: false, size: BlockSize::B64 }, 286, BlockFault::LastLong),
        (Block { num: 3, more: false, size: BlockSize::B64 }, 65, BlockFault::LastLong),
        (Block { num: 0, more: true, size: BlockSize::B64 }, 65, BlockFault::Long),
        (Block { num: 0, more: true, size: BlockSize::B64 }, 0, BlockFault::Short),
    ];
    for (id, (block, bytes, fault)) in (1..).zip(cases) {
        let request = Make::enroll(id).block1(block.num, block.more, block.size).payload(&body(bytes, 0)).bytes();
        let (done, sent) = server.done(&request);
        assert_eq!(done, Done::Refused(RequestRefusal::BadBlock(fault)));
        assert_eq!(server.done(&request), (Done::Duplicate, sent), "its copy is refused with the same message");
    }
}

/// A wrong block of an upload in progress: a gap, or other bytes for a position that is already filled.
#[test]
fn c46_a_block_that_differs_is_told_from_one_that_came_too_early() {
    let csr = body(256, 0);
    for (num, payload, refusal) in
        [(3, &csr[192..], RequestRefusal::BlockMissing), (1, &csr[..64], RequestRefusal::BlockDiffers)]
    {
        let mut server = Server::new();
        server.reply(&Make::enroll(1).piece(&csr, 0, BlockSize::B128).bytes());
        let request = Make::enroll(2).block1(num, true, BlockSize::B64).payload(payload).bytes();
        assert_eq!(server.done(&request).0, Done::Refused(refusal));
    }
}

/// RFC 7959 §3.3: Block2 with NUM 0 beside the last Block1 selects the block size of the answer, whether it arrives
/// with the first copy of the last block or only with a repeated one.
#[test]
fn c46_the_last_block_repeated_beside_block2_num_0_is_answered() {
    let (csr, answer) = (body(200, 0), body(300, 7));
    for first_has_block2 in [false, true] {
        let mut server = Server::new();
        let last = upload(&mut server, &csr, BlockSize::B64, 1);
        let beside = |id| Make::enroll(id).piece(&csr, 3, BlockSize::B64).block2(0, BlockSize::B64).bytes();
        let first = if first_has_block2 { beside(4) } else { last };
        server.exchange(&first, &certificate(&answer));
        for id in [20, 21] {
            let reply = server.reply(&beside(id));
            assert_eq!(code(&reply), Code::CHANGED);
            assert_eq!(block2(&reply), Some(Block { num: 0, more: true, size: BlockSize::B64 }));
            assert_eq!(block1(&reply), Some(Block { num: 3, more: false, size: BlockSize::B64 }));
            assert_eq!(parse(&reply).payload(), &answer[..64]);
        }
        let rest = server.reply(&Make::enroll(30).block2(4, BlockSize::B64).bytes());
        assert_eq!(parse(&rest).payload(), &answer[256..]);
        assert_eq!(server.shared.counters().requests, 1, "one request, executed once");
    }
}
