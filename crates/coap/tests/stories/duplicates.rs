//! The network delivers a message twice, or late.

use std::time::Duration;

use coap::server::{Config, Done, Dropped, Response};
use coap::{BlockSize, Code, ContentFormat, Kind, MessageId};

use crate::harness::{Got, Make, Server, body, certificate, code, empty, parse, upload};

#[test]
fn c01_a_duplicate_of_what_changes_state_gets_the_same_bytes_and_runs_once() {
    let mut server = Server::new();
    let request = Make::enroll(0x1000).payload(b"csr").bytes();
    let first = server.exchange(&request, &certificate(&body(400, 1)));
    server.pass(Duration::from_secs(246));
    let (got, sent) = server.deliver(&request);
    assert_eq!(got, Got::Done(Done::Duplicate));
    assert_eq!(sent, [first], "byte for byte");
    server.pass(Duration::from_secs(2));
    server.request(&request);
}

#[test]
fn c01_a_duplicate_of_a_get_is_computed_to_the_same_bytes_and_remembers_nothing() {
    let mut server = Server::new();
    let request = Make::get("est/crts", 1).bytes();
    let certificates = body(900, 3);
    let response = Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, &certificates);
    let first = server.exchange(&request, &response);
    assert!(server.peer.is_idle(), "no state is kept for a request that is computed again");
    assert_eq!(server.exchange(&request, &response), first);
}

#[test]
fn c01_a_late_inner_block_is_acknowledged_again_and_breaks_nothing() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let first = Make::enroll(1).piece(&csr, 0, BlockSize::B64).bytes();
    let continued = server.reply(&first);
    server.reply(&Make::enroll(2).piece(&csr, 1, BlockSize::B64).bytes());
    // The network delivers block 0 once more: this must not restart the transfer.
    let (got, sent) = server.deliver(&first);
    assert_eq!((got, sent), (Got::Done(Done::Duplicate), vec![continued.clone()]));
    server.reply(&Make::enroll(3).piece(&csr, 2, BlockSize::B64).bytes());
    server.reply(&Make::enroll(4).piece(&csr, 3, BlockSize::B64).bytes());
    let (id, whole) = server.request(&Make::enroll(5).piece(&csr, 4, BlockSize::B64).bytes());
    assert_eq!(whole, csr);
    server.respond(id, &certificate(b"certificate"));
    // After the end of the transfer it does not begin another one.
    let (got, sent) = server.deliver(&first);
    assert_eq!((got, sent), (Got::Done(Done::Duplicate), vec![continued]));
    assert!(!server.peer.has_upload());
}

#[test]
fn a_late_first_block_of_an_abandoned_transfer_does_not_join_the_present_one() {
    let mut server = Server::new();
    let (old, new) = (body(128, 0), body(128, 100));
    let stray = Make::enroll(1).piece(&old, 0, BlockSize::B64).bytes();
    server.reply(&stray);
    server.reply(&Make::enroll(2).piece(&new, 0, BlockSize::B64).bytes());
    server.reply(&stray);
    let (_, whole) = server.request(&Make::enroll(3).piece(&new, 1, BlockSize::B64).bytes());
    assert_eq!(whole, new);
}

/// Found by fuzzing `coap_server`.
#[test]
fn a_late_copy_of_a_repeated_last_block_does_not_join_the_next_upload() {
    let mut server = Server::new();
    let (old, new) = (body(100, 0), body(128, 100));
    server.reply(&Make::enroll(1).piece(&old, 0, BlockSize::B64).bytes());
    let (id, _) = server.request(&Make::enroll(2).piece(&old, 1, BlockSize::B64).bytes());
    server.respond(id, &certificate(b"certificate"));
    // The client gives up on its last block twice, and sends it as a new message each time.
    let stray = Make::enroll(3).piece(&old, 1, BlockSize::B64).bytes();
    server.reply(&stray);
    server.reply(&Make::enroll(4).piece(&old, 1, BlockSize::B64).bytes());
    server.reply(&Make::enroll(5).piece(&new, 0, BlockSize::B64).bytes());
    let (got, _) = server.deliver(&stray);
    assert_eq!(got, Got::Done(Done::Duplicate), "it belongs to the previous upload");
    let (_, whole) = server.request(&Make::enroll(6).piece(&new, 1, BlockSize::B64).bytes());
    assert_eq!(whole, new);
}

#[test]
fn c02_a_duplicate_non_confirmable_request_is_ignored() {
    let mut server = Server::new();
    for request in [Make::get("est/crts", 5).non().bytes(), Make::enroll(6).non().payload(b"csr").bytes()] {
        server.exchange(&request, &certificate(b"answer"));
        server.pass(Duration::from_secs(144));
        assert_eq!(server.deliver(&request), (Got::Done(Done::Duplicate), vec![]));
    }
}

#[test]
fn c03_a_lost_acknowledgement_of_the_final_block_is_sent_again() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    let lost = server.exchange(&last, &certificate(&body(700, 9)));
    let (got, sent) = server.deliver(&last);
    assert_eq!(got, Got::Done(Done::Duplicate));
    assert_eq!(sent, [lost]);
    assert_eq!(server.shared.counters().requests, 1);
}

#[test]
fn c04_the_final_block_under_a_new_message_id_and_token_gets_the_same_outcome() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    let first = server.exchange(&last, &certificate(&body(40, 9)));
    let again = Make::enroll(900).token(b"new").piece(&csr, 4, BlockSize::B64).bytes();
    let reply = server.reply(&again);
    assert_eq!((parse(&reply).token().as_bytes(), parse(&reply).message_id()), (&b"new"[..], MessageId(900)));
    assert_eq!(parse(&reply).payload(), parse(&first).payload());
    assert_eq!(server.shared.counters().requests, 1);
    // Once another upload of the same name has begun, its last block no longer counts as a repeat.
    server.reply(&Make::enroll(901).piece(&body(300, 50), 0, BlockSize::B64).bytes());
    let reply = server.reply(&Make::enroll(902).piece(&csr, 4, BlockSize::B64).bytes());
    assert_eq!(code(&reply), Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn c04_the_final_block_under_a_new_message_id_while_the_request_is_pending() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    let (id, _) = server.request(&last);
    let again = Make::enroll(900).token(b"new").piece(&csr, 4, BlockSize::B64).bytes();
    assert_eq!(server.done(&again), (Done::Duplicate, vec![empty(Kind::Acknowledgement, 900)]));
    let sent = server.respond(id, &certificate(b"certificate"));
    assert_eq!(parse(&sent[0]).token().as_bytes(), b"new", "the answer goes to the newest request");
}

#[test]
fn c06_a_duplicate_while_the_request_is_pending_gets_only_the_empty_acknowledgement() {
    let mut server = Server::new();
    let request = Make::enroll(77).payload(b"csr").bytes();
    let (id, _) = server.request(&request);
    let acknowledgement = vec![empty(Kind::Acknowledgement, 77)];
    // Before the deadline, after it, and while the separate response is in flight.
    assert_eq!(server.done(&request), (Done::Duplicate, acknowledgement.clone()));
    assert!(server.pass(Duration::from_secs(3)).is_empty(), "it has been acknowledged");
    assert_eq!(server.done(&request), (Done::Duplicate, acknowledgement.clone()));
    let sent = server.respond(id, &certificate(b"certificate"));
    assert_eq!(parse(&sent[0]).kind(), Kind::Confirmable);
    assert_eq!(server.done(&request), (Done::Duplicate, acknowledgement));
    assert_eq!(server.shared.counters().requests, 1);
}

#[test]
fn c07_message_id_zero_is_no_duplicate_and_our_ids_do_not_shadow_the_clients() {
    let mut server = Server::new();
    let (id, _) = server.request(&Make::enroll(0).payload(b"csr").bytes());
    server.pass(Duration::from_secs(2));
    let sent = server.respond(id, &certificate(b"certificate"));
    let ours = parse(&sent[0]).message_id();
    // The client happens to use the same message id for another request.
    server.request(&Make::get("est/crts", ours.0).bytes());
    assert_eq!(server.done(&empty(Kind::Acknowledgement, ours.0)).0, Done::Acknowledged);
}

#[test]
fn c08_a_message_id_that_comes_round_is_no_duplicate_of_another_request() {
    let mut server = Server::new();
    server.exchange(&Make::enroll(9).payload(b"one").bytes(), &certificate(b"1"));
    let (id, whole) = server.request(&Make::enroll(9).payload(b"two").bytes());
    assert_eq!(whole, b"two");
    server.respond(id, &certificate(b"2"));
    let reply = server.reply(&Make::enroll(9).payload(b"one").bytes());
    assert_eq!(parse(&reply).payload(), b"1", "each finds its own outcome");
}

#[test]
fn c09_the_cache_is_capped_per_peer_and_never_drops_what_is_in_flight() {
    let mut server = Server::with(Config { exchanges_per_peer_max: 4, ..Config::default() });
    let in_flight = Make::enroll(1).payload(b"slow").bytes();
    let (slow, _) = server.request(&in_flight);
    for id in 100..200 {
        server.exchange(&Make::enroll(id).payload(b"fast").bytes(), &certificate(&body(500, 0)));
    }
    assert!(server.shared.response_bytes() <= 3 * 500 + 1024, "three outcomes and one reservation");
    assert_eq!(server.done(&in_flight).0, Done::Duplicate);
    server.respond(slow, &certificate(b"certificate"));
    // While only requests in flight are remembered, a new one has to wait.
    for id in 200..203 {
        server.request(&Make::enroll(id).payload(b"slow").bytes());
    }
    let refused = server.reply(&Make::enroll(204).payload(b"one too many").bytes());
    assert_eq!(code(&refused), Code::SERVICE_UNAVAILABLE);
    assert!(parse(&refused).uint(coap::Number::MAX_AGE).is_some_and(|seconds| seconds > 0));
}

#[test]
fn c09_the_kept_responses_are_capped_in_total() {
    let mut server = Server::with(Config { response_bytes_total_max: 8 << 10, ..Config::default() });
    let mut peers = Vec::new();
    let mut refused = 0;
    for id in 0..40 {
        let request = Make::enroll(id).payload(b"csr").bytes();
        match server.deliver(&request) {
            (Got::Request { id, .. }, _) => {
                server.respond(id, &certificate(&body(500, 0)));
            }
            (Got::Done(done), sent) => {
                refused += 1;
                assert!(matches!(done, Done::Refused(_)));
                assert_eq!(code(&sent[0]), Code::SERVICE_UNAVAILABLE);
            }
            (Got::RefusedByTable(code), _) => panic!("the table refuses nothing here: {code}"),
        }
        peers.push(server.other_peer());
        assert!(server.shared.response_bytes() <= 8 << 10);
    }
    assert!(refused > 20, "refused before it was executed");
    drop(peers);
    assert_eq!(server.shared.response_bytes(), 0, "a session that ends frees its memory");
}

#[test]
fn c16_pings_are_reset_and_unmatched_acknowledgements_ignored() {
    let mut server = Server::new();
    assert_eq!(server.done(&empty(Kind::Confirmable, 3)), (Done::Ping, vec![empty(Kind::Reset, 3)]));
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        assert_eq!(server.done(&empty(kind, 4)), (Done::Dropped(Dropped::Unmatched), vec![]));
    }
    assert_eq!(server.done(&empty(Kind::NonConfirmable, 4)), (Done::Dropped(Dropped::NotARequest), vec![]));
    assert!(server.peer.is_idle());
}

#[test]
fn c42_a_non_confirmable_enrolment_is_answered_once() {
    let mut server = Server::new();
    let request = Make::enroll(8).non().payload(b"csr").bytes();
    let reply = server.exchange(&request, &certificate(b"certificate"));
    assert_eq!((parse(&reply).kind(), parse(&reply).token().as_bytes()), (Kind::NonConfirmable, &[0, 8][..]));
    assert_eq!(server.deliver(&request), (Got::Done(Done::Duplicate), vec![]));
    assert_eq!(server.shared.counters().requests, 1);
}

#[test]
fn c04_a_refusal_is_not_repeated_to_a_new_message_id() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    server.exchange(&last, &Response::unavailable(5, "later"));
    let again = Make::enroll(900).piece(&csr, 4, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&again)), Code::REQUEST_ENTITY_INCOMPLETE, "the client starts again");
}

#[test]
fn c04_the_last_block_of_a_transfer_that_was_begun_anew_is_no_repeat() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    server.exchange(&last, &certificate(b"certificate"));
    server.reply(&Make::enroll(20).piece(&body(300, 50), 0, BlockSize::B64).bytes());
    server.pass(Duration::from_secs(246));
    assert!(server.peer.has_upload());
    server.pass(Duration::from_secs(1));
    assert!(!server.peer.has_upload());
    let again = Make::enroll(21).piece(&csr, 4, BlockSize::B64).bytes();
    assert_eq!(code(&server.reply(&again)), Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn c04_copies_of_the_new_message_get_the_outcome_too() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let (id, _) = {
        let last = upload(&mut server, &csr, BlockSize::B64, 1);
        server.request(&last)
    };
    server.pass(Duration::from_secs(2));
    let sent = server.respond(id, &certificate(b"certificate"));
    server.done(&empty(Kind::Acknowledgement, parse(&sent[0]).message_id().0));
    let again = Make::enroll(900).piece(&csr, 4, BlockSize::B64).bytes();
    let reply = server.reply(&again);
    assert_eq!(parse(&reply).payload(), b"certificate");
    assert_eq!(server.reply(&again), reply);
}
