//! The resource table over the network: every method, path and format that a client may try.

use coap::{Block, BlockSize, Code, ContentFormat, Kind};
use est::Reason;

use crate::support;
use crate::support::enrolled::enrolled;
use crate::support::raw::{Ask, DELETE, GET, POST, PUT, Raw, Said};
use crate::support::{Key, Pki, World, csr};

fn ask(method: u8, path: &str) -> Ask<'_> {
    Ask { method, path, ..Ask::default() }
}

fn connected() -> (World, Raw, Vec<u8>) {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let request = csr(holder.certificate.subject(), &Key::new());
    let raw = Raw::connect(&mut world, 1, &holder);
    (world, raw, request)
}

fn assert_refused(said: &Said, reason: Reason) {
    assert_eq!(Some(said.code), reason.response_code(), "{said:?}");
    assert_eq!(said.diagnostic(), reason.code());
    assert_eq!(said.content_format, None, "a diagnostic payload has no format");
    assert_eq!(said.block2, None);
    assert_eq!(said.kind, Kind::Acknowledgement, "piggybacked");
}

#[test]
fn c17_methods_and_paths() {
    let (mut world, mut raw, request) = connected();
    let long = "x".repeat(255);
    let many =
        ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; 10]
            .join("/");
    let cases = [
        (GET, "est/sen", Reason::CoapMethod),
        (PUT, "est/crts", Reason::CoapMethod),
        (POST, "est/crts", Reason::CoapMethod),
        (DELETE, ".well-known/est/sren", Reason::CoapMethod),
        (POST, ".well-known/core", Reason::CoapMethod),
        (GET, "est", Reason::CoapNoSuchResource),
        (GET, "est/crts/", Reason::CoapNoSuchResource),
        (GET, "est/CRTS", Reason::CoapNoSuchResource),
        (GET, "est/../est/crts", Reason::CoapNoSuchResource),
        (GET, "est/crts\0", Reason::CoapNoSuchResource),
        (GET, &long, Reason::CoapNoSuchResource),
        (GET, &many, Reason::CoapNoSuchResource),
        (GET, "est/pumps/crts", Reason::EstUnknownLabel),
        (POST, "est/att", Reason::CoapMethod),
        (POST, "est/skg", Reason::EstFunctionNotServed),
        (POST, ".well-known/est/skc", Reason::EstFunctionNotServed),
    ];
    for (method, path, reason) in cases {
        let said = raw.ask(&mut world, &ask(method, path));
        assert_refused(&said, reason);
        assert_eq!(world.attempts.last().unwrap().reason(), Some(reason), "{path}");
    }
    let said = raw.ask(&mut world, &Ask { payload: &request, content_format: Some(286), ..ask(POST, "est/sen") });
    assert_eq!(said.code, Code::CHANGED, "the session still works");
}

#[test]
fn c17_a_method_that_nobody_knows() {
    let (mut world, mut raw, _) = connected();
    let said = raw.ask(&mut world, &ask(30, "est/crts"));
    assert_refused(&said, Reason::CoapMethodUnknown);
}

/// RFC 9148 §4.5 by its numbers: the other tests compare with the table of reasons.
#[test]
fn refusals_have_the_codes_that_rfc_9148_names() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    let holder = world.pki.device(1);
    let request = csr(holder.certificate.subject(), &Key::new());
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let post = |payload| Ask { content_format: Some(286), payload, ..ask(POST, "est/sen") };
    let mut code = |asked: &Ask<'_>| raw.ask(&mut world, asked).code.to_string();
    assert_eq!(code(&ask(GET, "est/nothing")), "4.04");
    assert_eq!(code(&ask(GET, "est/pumps/crts")), "4.04");
    assert_eq!(code(&post(b"no request")), "4.00");
    // Only a certificate of this CA is renewed.
    assert_eq!(code(&Ask { path: "est/sren", ..post(&request) }), "4.03");
    // One enrolment waits, and no other one may.
    world.pace = support::Pace::Held;
    let first = raw.message(&post(&request));
    assert!(raw.send(&mut world, &first).is_empty());
    let other = csr(holder.certificate.subject(), &Key::new());
    let said = raw.ask(&mut world, &post(&other));
    assert_eq!((said.code.to_string().as_str(), said.max_age.is_some()), ("5.03", true));
}

#[test]
fn c45_a_payload_of_crts_and_discovery_is_ignored() {
    let (mut world, mut raw, request) = connected();
    for path in ["est/crts", ".well-known/core"] {
        let bare = raw.ask(&mut world, &ask(GET, path));
        let said = raw.ask(&mut world, &Ask { payload: &request, content_format: Some(286), ..ask(GET, path) });
        assert_eq!((said.code, &said.payload), (Code::CONTENT, &bare.payload), "{path}");
    }
}

#[test]
fn c18_formats_in_and_out() {
    let (mut world, mut raw, request) = connected();
    for content_format in [None, Some(0), Some(281), Some(285), Some(65_535)] {
        let said = raw.ask(&mut world, &Ask { content_format, payload: &request, ..ask(POST, "est/sen") });
        assert_refused(&said, Reason::CoapContentFormat);
    }
    for (method, path) in [(GET, "est/crts"), (POST, "est/sen"), (POST, "est/sren"), (GET, "est/att")] {
        let content_format = (method == POST).then_some(286);
        let other = if path == "est/att" { 281 } else { 285 };
        for accept in [0, 40, 62, other, 286] {
            let payload = if method == POST { &request[..] } else { &[] };
            let said = raw.ask(&mut world, &Ask { accept: Some(accept), content_format, payload, ..ask(method, path) });
            assert_refused(&said, Reason::CoapNotAcceptable);
        }
    }
    let said = raw.ask(&mut world, &Ask { accept: Some(281), ..ask(GET, ".well-known/core") });
    assert_refused(&said, Reason::CoapNotAcceptable);
    assert_eq!(world.submitted, 0, "nothing of it reached the authority");
}

#[test]
fn c18_ca_certificates_come_bare_only_where_there_is_one() {
    let (mut world, mut raw, _) = connected();
    let said = raw.ask(&mut world, &Ask { accept: Some(287), ..ask(GET, "est/crts") });
    assert_refused(&said, Reason::EstManyCertificates);

    let mut world = of_one_ca();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let said = raw.ask(&mut world, &Ask { accept: Some(287), ..ask(GET, "est/crts") });
    assert_eq!(said.code, Code::CONTENT);
    assert_eq!(said.content_format, Some(ContentFormat::PKIX_CERT));
    assert_eq!(said.payload, world.pki.root.certificate.der());
}

/// An issuing CA that is also the root.
fn of_one_ca() -> World {
    let pki = Pki::new();
    let chain = vec![std::sync::Arc::clone(&pki.root.certificate)];
    let urls = authority::Urls::default();
    let ca = authority::Ca::new("main", chain, urls, authority::VerifySignatures::Always).unwrap();
    let mut profile = pki.profile_spec("meters");
    profile.ca = std::sync::Arc::new(ca);
    let profile = std::sync::Arc::new(authority::CaProfile::compile(profile).unwrap());
    let issuing = pki.root.key.again();
    World::signing(pki, vec![profile], issuing, |_, _| {})
}

/// RFC 9148 §4.1: the Content-Formats of a link "are the values that would be sent in the client request with an Accept Option".
#[test]
fn every_content_format_that_discovery_lists_is_answered() {
    for (mut world, of_crts) in [(World::new(), "281"), (of_one_ca(), "281 287")] {
        let (enrolled, idevid) = (enrolled(&mut world), world.pki.device(2));
        let mut device = Raw::connect(&mut world, 2, &idevid);
        let mut renewing = Raw::connect(&mut world, 3, &enrolled);
        let said = device.ask(&mut world, &ask(GET, ".well-known/core"));
        let list = String::from_utf8(said.payload).unwrap();
        for link in est::discovery::parse_links(&list) {
            let path = link.target.trim_start_matches('/');
            for format in link.content_formats.split(' ').map(|format| format.parse().unwrap()) {
                let (raw, holder) =
                    if path == "est/sren" { (&mut renewing, &enrolled) } else { (&mut device, &idevid) };
                let request = csr(holder.certificate.subject(), &Key::new());
                let asked = match path {
                    "est/sen" | "est/sren" => Ask { content_format: Some(286), payload: &request, ..ask(POST, path) },
                    _ => ask(GET, path),
                };
                let said = raw.ask(&mut world, &Ask { accept: Some(format), ..asked });
                assert!(said.code.is_success(), "{path} with Accept {format}: {said:?}");
                assert_eq!(said.content_format, Some(ContentFormat(format)), "{path}");
            }
            if path == "est/crts" {
                assert_eq!(link.content_formats, of_crts);
            }
        }
    }
}

/// RFC 7959 does not say which blocks of a request carry its Accept: a client that sends it with the first one alone means the whole.
#[test]
fn accept_of_an_upload_may_come_with_any_of_its_blocks() {
    let size = BlockSize::B64;
    let enrol = |accepts: &dyn Fn(u32, u32) -> Option<u16>| {
        let (mut world, mut raw, request) = connected();
        let last = u32::try_from(request.len().div_ceil(size.bytes())).unwrap() - 1;
        let mut said = None;
        for (num, payload) in (0..).zip(request.chunks(size.bytes())) {
            let block1 = Some(Block { num, more: num < last, size });
            let part = Ask { block1, payload, content_format: Some(286), ..ask(POST, "est/sen") };
            said = Some(raw.ask(&mut world, &Ask { accept: accepts(num, last), ..part }));
        }
        said.unwrap()
    };
    let bare = Some(ContentFormat::PKIX_CERT);
    for said in [
        enrol(&|num, _| (num == 0).then_some(287)),
        enrol(&|num, _| (num == 1).then_some(287)),
        enrol(&|num, last| (num == last).then_some(287)),
        enrol(&|_, _| Some(287)),
    ] {
        assert_eq!((said.code, said.content_format), (Code::CHANGED, bare));
    }
    // The last one counts, where they differ.
    let said = enrol(&|num, _| Some(if num == 0 { 287 } else { 281 }));
    assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::PKCS7_CERTS_ONLY)));
    assert_refused(&enrol(&|num, _| (num == 1).then_some(285)), Reason::CoapNotAcceptable);
}

#[test]
fn a_success_has_the_code_of_its_method() {
    let (mut world, mut raw, request) = connected();
    let said = raw.ask(&mut world, &ask(GET, "est/crts"));
    assert_eq!((said.code, said.content_format), (Code::CONTENT, Some(ContentFormat::PKCS7_CERTS_ONLY)));
    let said = raw.ask(&mut world, &Ask { content_format: Some(286), payload: &request, ..ask(POST, "est/sen") });
    assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::PKCS7_CERTS_ONLY)));
    assert_eq!(pki::cms::parse_certs_only(&said.payload).unwrap(), [&world.ledger.issued()[0].certificate[..]]);
}

#[test]
fn a_renewal_is_a_change_too() {
    let mut world = World::new();
    let enrolled = enrolled(&mut world);
    let mut raw = Raw::connect(&mut world, 2, &enrolled);
    let request = csr(enrolled.certificate.subject(), &Key::new());
    let said = raw.ask(&mut world, &Ask { content_format: Some(286), payload: &request, ..ask(POST, "est/sren") });
    assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::PKCS7_CERTS_ONLY)));
    let renewed = pki::cms::parse_certs_only(&said.payload).unwrap()[0];
    assert!(enrolled.chain[0] != renewed && world.ledger.issued().iter().any(|it| it.certificate == renewed));
}

#[test]
fn a_bare_certificate_is_a_change_too() {
    let (mut world, mut raw, request) = connected();
    let bare = Ask { content_format: Some(286), accept: Some(287), payload: &request, ..ask(POST, "est/sen") };
    let said = raw.ask(&mut world, &bare);
    assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::PKIX_CERT)));
    assert_eq!(said.payload, world.ledger.issued()[0].certificate);
}

#[test]
fn c01_the_same_message_again_gets_the_same_answer_and_runs_once() {
    let (mut world, mut raw, request) = connected();
    let message = raw.message(&Ask { content_format: Some(286), payload: &request, ..ask(POST, "est/sen") });
    let first = raw.send(&mut world, &message);
    assert_eq!(first[0].code, Code::CHANGED);
    for seconds in [1, 60, 185] {
        world.advance(std::time::Duration::from_secs(seconds));
        world.server.handle_timeout(world.now);
        assert_eq!(raw.send(&mut world, &message), first, "{seconds} s later");
    }
    assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
}

#[test]
fn uri_host_and_uri_port_are_accepted() {
    let (mut world, mut raw, _) = connected();
    let port = 5684_u16.to_be_bytes();
    let more: [(u16, &[u8]); 2] = [(3, b"est.example.net"), (7, &port)];
    let said = raw.ask(&mut world, &Ask { more: &more, ..ask(GET, "est/crts") });
    assert_eq!(said.code, Code::CONTENT);
}

#[test]
fn c19_observe_is_ignored_and_proxying_is_not_done() {
    let (mut world, mut raw, _) = connected();
    let said = raw.ask(&mut world, &Ask { more: &[(6, &[])], ..ask(GET, "est/crts") });
    assert_eq!(said.code, Code::CONTENT);
    let said = raw.ask(&mut world, &Ask { more: &[(35, b"coap://example.net/")], ..ask(GET, "est/crts") });
    assert_refused(&said, Reason::CoapProxy);
}

#[test]
fn c26_a_request_that_is_too_large_is_refused_at_once() {
    let (mut world, mut raw, _) = connected();
    let size = 100_000_u32.to_be_bytes();
    let block1 = Some(Block { num: 0, more: true, size: BlockSize::B64 });
    let more: [(u16, &[u8]); 1] = [(60, &size)];
    let start = Ask { content_format: Some(286), payload: &[0; 64], block1, more: &more, ..ask(POST, "est/sen") };
    let said = raw.ask(&mut world, &start);
    assert_eq!((said.code, said.size1), (Code::REQUEST_ENTITY_TOO_LARGE, Some(4_096)), "with the size that would fit");
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::CoapBodyTooLarge));
    // A client that announces no size is refused once the body is too large.
    let size = BlockSize::B1024;
    for num in 0..=4 {
        let block1 = Some(Block { num, more: true, size });
        let said = raw.ask(&mut world, &Ask { payload: &[0; 1_024], block1, more: &[], ..start.clone() });
        let expected = if num < 4 { (Code::CONTINUE, None) } else { (Code::REQUEST_ENTITY_TOO_LARGE, Some(4_096)) };
        assert_eq!((said.code, said.size1), expected, "block {num}");
    }
}

#[test]
fn an_enrolment_without_a_payload_is_refused() {
    let (mut world, mut raw, _) = connected();
    let said = raw.ask(&mut world, &Ask { content_format: Some(286), ..ask(POST, "est/sen") });
    assert_refused(&said, Reason::EstEmptyRequest);
}

#[test]
fn c06_a_duplicate_while_signing_gets_the_empty_acknowledgement_again() {
    let (mut world, mut raw, request) = connected();
    world.pace = support::Pace::Held;
    let message = raw.message(&Ask { content_format: Some(286), payload: &request, ..ask(POST, "est/sen") });
    assert!(raw.send(&mut world, &message).is_empty());
    assert!(raw.send(&mut world, &message).iter().all(|said| said.code == Code::EMPTY));
    world.advance(std::time::Duration::from_millis(1_100));
    world.server.handle_timeout(world.now);
    raw.carry(&mut world);
    let said = raw.send(&mut world, &message);
    assert!(said.iter().all(|said| said.code == Code::EMPTY && said.kind == Kind::Acknowledgement), "{said:?}");
    assert_eq!(said.len(), 1);
    assert_eq!(world.submitted, 1);
    world.release();
    let said: Vec<Said> = raw.carry(&mut world).iter().map(|bytes| Said::of(bytes)).collect();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].kind, said[0].code), (Kind::Confirmable, Code::CHANGED));
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn c33_every_block_of_an_answer_has_etag_and_format() {
    let (mut world, mut raw, _) = connected();
    let size = BlockSize::B64;
    let mut etags = Vec::new();
    let mut body = Vec::new();
    for num in 0.. {
        let block2 = Some(Block { num, more: false, size });
        let said = raw.ask(&mut world, &Ask { block2, ..ask(GET, "est/crts") });
        assert_eq!((said.code, said.content_format), (Code::CONTENT, Some(ContentFormat::PKCS7_CERTS_ONLY)));
        body.extend_from_slice(&said.payload);
        etags.push(said.etag.expect("an ETag"));
        if !said.block2.unwrap().more {
            break;
        }
    }
    assert!(etags.windows(2).all(|pair| pair[0] == pair[1]));
    let certificates = pki::cms::parse_certs_only(&body).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(support::sorted(certificates), world.pki.ca_certificates());
}

#[test]
fn a_profile_can_keep_its_reasons_to_itself() {
    let pki = Pki::new();
    let mut profile = pki.profile_spec("meters");
    profile.profile.diagnostics = authority::Diagnostics::None;
    let profile = std::sync::Arc::new(authority::CaProfile::compile(profile).unwrap());
    let holder = pki.device(1);
    let mut world = World::of(pki, vec![profile], |_, _| {});
    let mut raw = Raw::connect(&mut world, 1, &holder);
    for asked in [ask(GET, "est/nothing"), Ask { content_format: Some(286), payload: b"0", ..ask(POST, "est/sen") }] {
        let said = raw.ask(&mut world, &asked);
        assert!(said.code.is_error());
        assert_eq!(said.payload, b"");
    }
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::CsrMalformed), "the operator is told");
}

#[test]
fn discovery_over_the_wire() {
    let (mut world, mut raw, _) = connected();
    let links = |said: &Said| String::from_utf8(said.payload.clone()).unwrap();
    let said = raw.ask(&mut world, &Ask { queries: &["rt=ace.est*"], ..ask(GET, ".well-known/core") });
    assert_eq!((said.code, said.content_format), (Code::CONTENT, Some(ContentFormat::LINK_FORMAT)));
    let expected = concat!(
        r#"</est/crts>;rt="ace.est.crts";ct=281,</est/sen>;rt="ace.est.sen";ct="281 287","#,
        r#"</est/sren>;rt="ace.est.sren";ct="281 287",</est/att>;rt="ace.est.att";ct=285"#
    );
    assert_eq!(links(&said), expected, "the resource types of RFC 9148 §8.2");
    let said = raw.ask(&mut world, &Ask { queries: &["rt=ace.est.sren"], ..ask(GET, ".well-known/core") });
    assert_eq!(links(&said), r#"</est/sren>;rt="ace.est.sren";ct="281 287""#);
    let said = raw.ask(&mut world, &Ask { queries: &["ct=285"], ..ask(GET, ".well-known/core") });
    assert_eq!(links(&said), r#"</est/att>;rt="ace.est.att";ct=285"#, "as RFC 9148 §4.1 writes it");
    let said = raw.ask(&mut world, &Ask { queries: &["rt=nothing"], ..ask(GET, ".well-known/core") });
    assert_eq!((said.code, said.payload.len()), (Code::CONTENT, 0));
    let said = raw.ask(&mut world, &Ask { queries: &["rt=*"; 9], ..ask(GET, ".well-known/core") });
    assert_refused(&said, Reason::EstTooManyFilters);
}

#[test]
fn c33_the_blocks_of_a_certificate_need_no_content_format_and_issue_nothing() {
    let (mut world, mut raw, request) = connected();
    let size = BlockSize::B64;
    let count = u32::try_from(request.len().div_ceil(size.bytes())).unwrap();
    let post =
        |block1, block2, payload| Ask { block1, block2, payload, content_format: Some(286), ..ask(POST, "est/sen") };
    let mut last = None;
    for (num, payload) in (0..).zip(request.chunks(size.bytes())) {
        let block1 = Block { num, more: num + 1 < count, size };
        let said = raw.ask(&mut world, &post(Some(block1), None, payload));
        assert_eq!(said.block1.map(|block| block.num), Some(num), "Block1 is echoed in every answer, the last too");
        assert_eq!(said.code, if block1.more { Code::CONTINUE } else { Code::CHANGED });
        last = Some(said);
    }
    let first = last.unwrap();
    let block2 = first.block2.unwrap();
    assert_eq!((block2.num, block2.more, block2.size), (0, true, size), "in blocks of the size that the client chose");
    let mut body = first.payload.clone();
    for num in 1.. {
        let block2 = Some(Block { num, more: false, size });
        // The way libcoap and others ask: Block2 and the path, no payload, no Content-Format.
        let said = raw.ask(&mut world, &Ask { block2, ..ask(POST, "est/sen") });
        assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::PKCS7_CERTS_ONLY)));
        assert_eq!(said.etag, first.etag);
        body.extend_from_slice(&said.payload);
        if !said.block2.unwrap().more {
            break;
        }
    }
    assert_eq!(pki::cms::parse_certs_only(&body).unwrap(), [&world.ledger.issued()[0].certificate[..]]);
    assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
}

#[test]
fn an_upload_that_has_begun_is_finished_while_draining() {
    let (mut world, mut raw, request) = connected();
    let size = BlockSize::B64;
    let count = u32::try_from(request.len().div_ceil(size.bytes())).unwrap();
    let mut code = Code::EMPTY;
    for (num, payload) in (0..).zip(request.chunks(size.bytes())) {
        let block1 = Some(Block { num, more: num + 1 < count, size });
        let said = raw.ask(&mut world, &Ask { block1, content_format: Some(286), payload, ..ask(POST, "est/sen") });
        code = said.code;
        if num == 1 {
            world.server.drain(world.now);
            assert!(!world.server.is_drained());
        }
    }
    assert_eq!((code, world.ledger.issued_count()), (Code::CHANGED, 1));
    // A new upload is not begun.
    let said = raw.ask(&mut world, &Ask { content_format: Some(286), payload: &request, ..ask(POST, "est/sen") });
    assert_refused(&said, Reason::EstDraining);
    assert!(said.max_age.is_some_and(|seconds| seconds > 0));
}

#[test]
fn c30_a_block_of_another_device_never_joins() {
    let (mut world, mut raw, request) = connected();
    let size = BlockSize::B64;
    let block = |num: u32| {
        let payload = &request[usize::try_from(num).unwrap() * 64..][..64];
        let block1 = Some(Block { num, more: true, size });
        let ask = Ask { block1, content_format: Some(286), payload, ..ask(POST, "est/sen") };
        support::raw::message(&ask, 500 + u16::try_from(num).unwrap(), b"tk")
    };
    assert_eq!(raw.send(&mut world, &block(0))[0].code, Code::CONTINUE);
    // A second device at the same time, and a third in its place after it has gone.
    let (two, three) = (world.pki.device(2), world.pki.device(3));
    let mut beside = Raw::connect(&mut world, 2, &two);
    assert_eq!(beside.send(&mut world, &block(1))[0].code, Code::REQUEST_ENTITY_INCOMPLETE);
    raw.dtls.close(world.now);
    raw.carry(&mut world);
    // An address gets one flight each half second.
    world.advance_to(world.now.mono + std::time::Duration::from_millis(500));
    let mut after = Raw::connect(&mut world, 1, &three);
    assert_eq!(after.send(&mut world, &block(1))[0].code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn c11_an_empty_token_is_echoed_empty() {
    let (mut world, mut raw, _) = connected();
    let message = support::raw::message(&ask(GET, "est/crts"), 7, &[]);
    let said = raw.send(&mut world, &message);
    assert_eq!((said[0].token.len(), said[0].id, said[0].code), (0, 7, Code::CONTENT));
}

#[test]
fn c40_coap_without_a_session_is_nothing() {
    let (mut world, mut raw, _) = connected();
    let message = raw.message(&ask(GET, "est/crts"));
    let stranger = World::path(999);
    world.server.handle_datagram(world.now, stranger, &mut message.clone());
    assert!(world.server.poll_transmit().is_none());
    // The same bytes in the clear from the address of a session (epoch 0, application data).
    let mut record = vec![23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend_from_slice(&message);
    world.server.handle_datagram(world.now, raw.path, &mut record);
    assert!(world.server.poll_transmit().is_none());
    assert_eq!(world.server.counters().requests, 0);
}

/// The links that a server of these names lists, when it listens on this address and is asked with these options.
fn absolute(listen: &str, public: Option<&str>, more: &[(u16, &[u8])]) -> String {
    let mut world = World::with(|pki, spec| {
        let names = ["est.example.net", "192.0.2.9", "2001:db8:3::123"];
        spec.identity = support::server_of(&pki.root, &names, support::life(365)).identity();
        spec.public = public.map(|public| est::discovery::LinkBase::parse(public).unwrap());
    });
    world.server.set_addresses(&[listen.parse().unwrap()]);
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let said = raw.ask(&mut world, &Ask { queries: &["rt=ace.est.crts"], more, ..ask(GET, ".well-known/core") });
    let text = String::from_utf8(said.payload).unwrap();
    est::discovery::parse_links(&text)[0].target.to_owned()
}

#[test]
fn links_are_absolute_on_another_port_than_that_of_coaps() {
    let (host, port) = (coap::Number::URI_HOST.0, coap::Number::URI_PORT.0);
    let v6 = "[2001:db8:3::123]:61617";
    assert_eq!(absolute(v6, None, &[]), "coaps://[2001:db8:3::123]:61617/est/crts", "the example of RFC 9148 §4.1");
    assert_eq!(absolute("192.0.2.9:5684", None, &[]), "/est/crts");
    assert_eq!(absolute(v6, None, &[(host, b"EST.example.net")]), "coaps://est.example.net:61617/est/crts");
    assert_eq!(absolute(v6, None, &[(host, b"evil.example")]), "coaps://[2001:db8:3::123]:61617/est/crts");
    assert_eq!(absolute("192.0.2.9:61617", None, &[(port, &[0x16, 0x34])]), "/est/crts", "5684 as the client sees it");
    assert_eq!(absolute("192.0.2.8:61617", None, &[]), "/est/crts", "the certificate does not name this address");
    let public = Some("coaps://est.example.net:5690");
    assert_eq!(absolute("192.0.2.9:5684", public, &[]), "coaps://est.example.net:5690/est/crts");
}
