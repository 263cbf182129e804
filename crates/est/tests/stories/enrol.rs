//! Whole enrolments, from the first hello to a checked certificate, under the faults of a network.

use std::time::Duration;

use coap::{Block, BlockSize, Kind};
use est::{Answer, ClientConfig, ClientEvent, Failure, Operation, Packing, Reason, Resource, Success};
use pki::{Certificate, chain};

use crate::support;
use crate::support::enrolled::enrolled;
use crate::support::raw::{Ask, POST, Raw};
use crate::support::{Fate, Key, Pace, World, csr, utc};

fn config(block: BlockSize) -> ClientConfig {
    ClientConfig { block, ..ClientConfig::default() }
}

#[test]
fn a_device_enrols_in_blocks_of_any_size() {
    for block in [BlockSize::B512, BlockSize::B64, BlockSize::B16] {
        let mut world = World::new();
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, config(block));

        world.ask(&mut device, Operation::CaCertificates);
        let ClientEvent::Done(Answer::CaCertificates(cas)) = device.event() else { panic!("no CA certificates") };
        let cas = support::sorted(cas.usable);
        assert_eq!(cas, world.pki.ca_certificates(), "the root and the issuing CA");

        let key = Key::new();
        let request = csr(holder.certificate.subject(), &key);
        world.ask(&mut device, Operation::Enroll { csr: request });
        let certificate = device.certificate();
        let parsed = Certificate::parse(&certificate).unwrap();
        assert_eq!(parsed.spki(), key.signing.spki());
        assert!(parsed.subject().matches(holder.certificate.subject()));

        // A client that trusts the certificates of /crts can verify the issued one.
        let anchors = cas.iter().map(|der| Certificate::parse(der).unwrap().into()).collect();
        let anchors = chain::Anchors::new(anchors).unwrap();
        chain::verify_device(&anchors, &[&certificate], world.now.utc).unwrap();
        assert_eq!(world.ledger.issued_count(), 1);
        let successes: Vec<Success> = world.attempts.iter().filter_map(|attempt| attempt.outcome.ok()).collect();
        let function = Success::Function;
        let expected = [Success::Handshake, function(Resource::CaCertificates), function(Resource::SimpleEnroll)];
        assert_eq!(successes, expected);
        let last = world.attempts.last().unwrap();
        assert_eq!(last.device.as_ref().unwrap().to_string(), "000001");
    }
}

#[test]
fn every_format_that_was_asked_for() {
    for accept in [None, Some(Packing::CertsOnly), Some(Packing::Single)] {
        let mut world = World::new();
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, ClientConfig { accept, ..ClientConfig::default() });
        let request = csr(holder.certificate.subject(), &Key::new());
        world.ask(&mut device, Operation::Enroll { csr: request });
        let certificate = device.certificate();
        assert_eq!(world.ledger.issued()[0].certificate, certificate);
    }
}

#[test]
fn a_certificate_is_renewed_with_itself() {
    let mut world = World::new();
    let enrolled = enrolled(&mut world);
    let first = enrolled.chain[0].clone();
    let mut device = world.connect(2, &enrolled, ClientConfig::default());
    let request = csr(enrolled.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Reenroll { csr: request });
    let second = device.certificate();
    assert_ne!(first, second);
    assert_eq!(world.ledger.issued_count(), 2);
}

#[test]
fn e09_renewal_with_a_revoked_certificate_is_refused() {
    let mut world = World::new();
    let enrolled = enrolled(&mut world);
    world.revoke(&enrolled.certificate);
    let mut device = world.connect(2, &enrolled, ClientConfig::default());
    for operation in [
        Operation::Reenroll { csr: csr(enrolled.certificate.subject(), &Key::new()) },
        Operation::Enroll { csr: csr(enrolled.certificate.subject(), &Key::new()) },
    ] {
        world.ask(&mut device, operation);
        assert_refused(&device.failure(), Reason::ClientRevoked);
    }
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn a_request_that_fits_no_datagram_is_not_sent() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let path = vec!["x".repeat(255); 6];
    let mut device = world.connect(1, &holder, ClientConfig { path, ..ClientConfig::default() });
    world.ask(&mut device, Operation::CaCertificates);
    let failure = device.failure();
    assert!(matches!(failure, Failure::TooLong { .. }));
    assert_eq!(failure.reason(), Some(Reason::RequestTooLong));
    assert!(!device.client.is_over(), "the next request may be shorter");
}

#[test]
fn public_key_steps_can_run_elsewhere() {
    let mut world = World::with(|_, spec| spec.public_key_steps = dtls::PublicKeySteps::Suspended);
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    device.certificate();
}

#[test]
fn e10_renewal_with_a_manufacturer_certificate_is_refused() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    let request = csr(idevid.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Reenroll { csr: request });
    assert_refused(&device.failure(), Reason::RenewalNotOfThisCa);
    assert_eq!(world.ledger.issued_count(), 0);
    let last = world.attempts.last().unwrap();
    assert_eq!(last.reason(), Some(Reason::RenewalNotOfThisCa));
    assert_eq!(last.device.as_ref().unwrap().to_string(), "000001", "a refusal names the device");
}

#[test]
fn e07_renewal_for_another_subject_is_refused() {
    let mut world = World::new();
    let other = world.pki.device(2);
    let enrolled = enrolled(&mut world);

    let mut device = world.connect(2, &enrolled, ClientConfig::default());
    let request = csr(other.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Reenroll { csr: request });
    assert_refused(&device.failure(), Reason::SrenSubjectMismatch);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn e01_a_request_that_another_key_signed_is_refused() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    let mut request = csr(idevid.certificate.subject(), &Key::new());
    // The last letter of the subject is covered by the signature.
    let at = request.windows(6).position(|window| window == b"000001").unwrap();
    request[at + 5] = b'2';
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert_refused(&device.failure(), Reason::CsrSignature);
    assert_eq!(world.ledger.issued_count(), 0);
}

#[test]
fn c01_every_datagram_twice_yields_one_certificate() {
    for block in [BlockSize::B512, BlockSize::B64] {
        let mut world = World::new();
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, config(block));
        let request = csr(holder.certificate.subject(), &Key::new());
        device.client.start(world.now, Operation::Enroll { csr: request }).unwrap();
        world.run_over(&mut device, |_| Fate::Twice);
        device.certificate();
        assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
    }
}

#[test]
fn c03_any_one_datagram_lost_yields_one_certificate() {
    for lost in 0..60 {
        let mut world = World::new();
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, config(BlockSize::B64));
        let request = csr(holder.certificate.subject(), &Key::new());
        device.client.start(world.now, Operation::Enroll { csr: request }).unwrap();
        let mut seen = 0;
        world.run_over(&mut device, |count| {
            seen = count;
            if count == lost { Fate::Lost } else { Fate::Arrives }
        });
        let everything_arrived = seen < lost;
        world.sleep(&mut device, Duration::from_secs(10));
        device.certificate();
        assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1), "datagram {lost}");
        if everything_arrived {
            assert!(lost > 20, "an enrolment in blocks of 64 bytes has more than {lost} datagrams");
            return;
        }
    }
    panic!("more datagrams than were tried");
}

#[test]
fn c04_the_same_request_under_a_new_token_gets_the_same_certificate() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    let request = csr(holder.certificate.subject(), &Key::new());
    let mut certificates = Vec::new();
    for _ in 0..3 {
        world.ask(&mut device, Operation::Enroll { csr: request.clone() });
        certificates.push(device.certificate());
    }
    assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn c05_the_same_request_in_a_new_session_gets_the_same_certificate() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let request = csr(holder.certificate.subject(), &Key::new());
    let mut certificates = Vec::new();
    // The second handshake from the same address and port, as from a device that lost its state (RFC 6347 §4.2.8).
    for port in [1, 1, 2] {
        let mut device = world.connect(port, &holder, ClientConfig::default());
        world.ask(&mut device, Operation::Enroll { csr: request.clone() });
        certificates.push(device.certificate());
    }
    assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn c42_a_non_confirmable_enrolment_is_answered_once() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let kind = Kind::NonConfirmable;
    let mut device = world.connect(1, &holder, ClientConfig { kind, ..ClientConfig::default() });
    let request = csr(holder.certificate.subject(), &Key::new());
    device.client.start(world.now, Operation::Enroll { csr: request }).unwrap();
    world.run_over(&mut device, |_| Fate::Twice);
    device.certificate();
    assert!(device.events.is_empty(), "answered once: {:?}", device.events);
    assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
}

#[test]
fn a_late_outcome_becomes_a_separate_response() {
    for block in [BlockSize::B512, BlockSize::B64] {
        let mut world = World::new();
        world.pace = Pace::Held;
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, config(block));
        let request = csr(holder.certificate.subject(), &Key::new());
        world.ask(&mut device, Operation::Enroll { csr: request });
        assert!(device.events.is_empty());
        world.sleep(&mut device, Duration::from_millis(1_100));
        assert!(matches!(device.event(), ClientEvent::Acknowledged), "the empty acknowledgement");
        world.sleep(&mut device, Duration::from_secs(20));
        assert_eq!(world.submitted, 1, "a client that waits does not ask again");
        world.release();
        world.run(&mut device);
        device.certificate();
        assert_eq!(world.server.counters().coap.separate, 1);
        assert_eq!(world.ledger.issued_count(), 1);
    }
}

#[test]
fn an_outcome_for_a_session_that_is_gone_is_dropped_and_counted() {
    let mut world = World::new();
    world.pace = Pace::Held;
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    let request = csr(holder.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Enroll { csr: request.clone() });
    device.client.close(world.now);
    world.run(&mut device);
    assert_eq!(world.server.counters().pending, 1, "the authority still works on the request of that session");

    // Another device uses the slot now: the outcome must not reach it.
    let other = world.pki.device(2);
    let mut second = world.connect(2, &other, ClientConfig::default());
    world.release();
    world.run(&mut second);
    assert!(second.events.is_empty());
    assert_eq!(world.server.counters().stale_outcomes, 1);
    assert_eq!(world.server.counters().pending, 0);

    // The certificate is in the ledger; a repeated request gets it.
    world.pace = Pace::AtOnce;
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert_eq!(device.certificate(), world.ledger.issued()[0].certificate);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn c36_who_comes_when_all_is_full_is_told_when_to_come_back() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    world.pace = Pace::Held;
    let (one, two) = (world.pki.device(1), world.pki.device(2));
    let mut first = world.connect(1, &one, ClientConfig::default());
    let mut second = world.connect(2, &two, ClientConfig::default());
    world.ask(&mut first, Operation::Enroll { csr: csr(one.certificate.subject(), &Key::new()) });
    let request = csr(two.certificate.subject(), &Key::new());
    for _ in 0..2 {
        world.ask(&mut second, Operation::Enroll { csr: request.clone() });
        let Failure::Later { refused, max_age } = second.failure() else { panic!("not told to come later") };
        assert_eq!(refused.reason(), Some(Reason::EstPendingFull));
        assert!((5..60).contains(&max_age), "{max_age}: a minute is what an answer without Max-Age means");
    }
    world.pace = Pace::AtOnce;
    world.release();
    world.run(&mut first);
    first.certificate();
    world.ask(&mut second, Operation::Enroll { csr: request });
    second.certificate();
    assert_eq!(world.ledger.issued_count(), 2);
}

/// Devices that ask for a certificate while the first one uses up `pending_max`.
struct Crowd {
    world: World,
    first: support::Device,
    others: Vec<(support::Device, Vec<u8>)>,
}

impl Crowd {
    fn of(count: u16) -> Self {
        let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
        world.pace = Pace::Held;
        let come = |world: &mut World, number: u16| {
            let holder = world.pki.device(number.into());
            let request = csr(holder.certificate.subject(), &Key::new());
            (world.connect(number, &holder, ClientConfig::default()), request)
        };
        let (mut first, request) = come(&mut world, 1);
        world.ask(&mut first, Operation::Enroll { csr: request });
        let others = (2..2 + count).map(|number| come(&mut world, number)).collect();
        Self { world, first, others }
    }

    /// The Max-Age that a device gets if it asks now.
    fn max_age(&mut self, index: usize) -> u32 {
        let (device, request) = &mut self.others[index];
        self.world.ask(device, Operation::Enroll { csr: request.clone() });
        let Failure::Later { max_age, .. } = device.failure() else { panic!("not told to come later") };
        max_age
    }
}

#[test]
fn c37_max_age_grows_with_those_who_were_sent_away() {
    let mut crowd = Crowd::of(20);
    let ages: Vec<u32> = (0..20).map(|index| crowd.max_age(index)).collect();
    assert!((5..=9).contains(&ages[0]), "{ages:?}");
    assert!(ages[19] >= 60 && ages.iter().all(|age| *age <= 100), "{ages:?}");

    // All of them are served: no device counts as sent away any more.
    crowd.world.pace = Pace::AtOnce;
    crowd.world.release();
    crowd.world.run(&mut crowd.first);
    crowd.first.certificate();
    for (device, request) in &mut crowd.others {
        crowd.world.ask(device, Operation::Enroll { csr: request.clone() });
        device.certificate();
    }
    crowd.world.pace = Pace::Held;
    let (device, _) = &mut crowd.others[1];
    let holder = crowd.world.pki.device(3);
    crowd.world.ask(device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    crowd.others[0].1 = csr(crowd.world.pki.device(2).certificate.subject(), &Key::new());
    let max_age = crowd.max_age(0);
    assert!((5..=9).contains(&max_age), "{max_age}");
}

#[test]
fn c37_max_age_is_the_queue_over_the_rate_at_which_the_authority_answers() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 40);
    world.pace = Pace::Held;
    let mut waiting = Vec::new();
    for number in 1..=50 {
        // Ten have come and gone when the last ten come: two are answered in a second.
        if number > 40 {
            let later = world.held.split_off(1);
            world.now.mono += Duration::from_millis(500);
            world.release();
            world.held = later;
            let first: &mut support::Device = &mut waiting[usize::try_from(number).unwrap() - 41];
            world.run(first);
        }
        let holder = world.pki.device(number);
        let mut device = world.connect(u16::try_from(number).unwrap(), &holder, ClientConfig::default());
        world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
        waiting.push(device);
    }
    let holder = world.pki.device(51);
    let mut late = world.connect(51, &holder, ClientConfig::default());
    world.ask(&mut late, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    let Failure::Later { refused, max_age } = late.failure() else { panic!("not told to come later") };
    assert_eq!(refused.reason(), Some(Reason::EstPendingFull));
    // Forty wait: twenty seconds, and the random part.
    assert!((19..=31).contains(&max_age), "{max_age}");
}

#[test]
fn c49_a_device_that_does_not_wait_makes_nobody_else_wait() {
    let mut crowd = Crowd::of(2);
    let own: Vec<u32> = (0..1_000).map(|_| crowd.max_age(0)).collect();
    let other = crowd.max_age(1);
    // It counts once: the other device gets the Max-Age of the second in the queue.
    assert!(own.iter().all(|age| (5..=20).contains(age)) && (5..=20).contains(&other), "{other}, {own:?}");
}

#[test]
fn c49_max_age_falls_again_after_a_storm_whose_clients_never_return() {
    let mut crowd = Crowd::of(30);
    let in_the_storm = (0..29).map(|index| crowd.max_age(index)).last();
    assert!(in_the_storm.is_some_and(|age| age >= 60), "{in_the_storm:?}");
    // The longest Max-Age is 90 s: after twice that time, no device is expected any more.
    crowd.world.now.mono += Duration::from_secs(180);
    let after = crowd.max_age(29);
    assert!((5..=9).contains(&after), "{after}");
}

#[test]
fn e03_challenge_password_is_the_tls_unique_of_this_session_or_refused() {
    use base64::Engine as _;
    let mut world = World::new();
    let holder = world.pki.device(1);
    let challenge = |unique: &[u8]| base64::engine::general_purpose::STANDARD.encode(unique);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    let first = device.client.facts().unwrap();
    assert!(first.extended_master_secret);
    let key = Key::new();
    let request = support::csr_linked(holder.certificate.subject(), &challenge(&first.tls_unique), &key);
    world.ask(&mut device, Operation::Enroll { csr: request.clone() });
    device.certificate();

    // The same CSR in another session carries an earlier session's tls-unique.
    let mut device = world.connect(2, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert_refused(&device.failure(), Reason::ChallengeMismatch);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn a_certificate_that_runs_out_while_the_session_lasts_enrols_nobody() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    // Only the calendar moves: the session does not age.
    world.now.utc = utc(support::EPOCH + 3_651 * support::DAY);
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    assert_refused(&device.failure(), Reason::ClientExpired);
}

#[test]
fn draining_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut world = World::new();
    world.pace = Pace::Held;
    let (one, two, three) = (world.pki.device(1), world.pki.device(2), world.pki.device(3));
    let mut busy = world.connect(1, &one, config(BlockSize::B64));
    let mut idle = world.connect(2, &two, ClientConfig::default());
    world.ask(&mut busy, Operation::Enroll { csr: csr(one.certificate.subject(), &Key::new()) });

    world.server.drain(world.now);
    world.run(&mut idle);
    assert!(matches!(idle.event(), ClientEvent::Closed(_)), "an idle session is closed at once");
    assert!(!world.server.is_drained());
    let dtls = world.dtls_config(&three);
    let mut late = world.dial(3, dtls, ClientConfig::default());
    world.run(&mut late);
    assert!(late.events.is_empty(), "no new handshake");

    world.release();
    world.run(&mut busy);
    busy.certificate();
    assert!(!world.server.is_drained(), "the client may want a block again");
    world.ask(&mut busy, Operation::Enroll { csr: csr(one.certificate.subject(), &Key::new()) });
    let failure = busy.failure();
    assert!(matches!(failure, Failure::Later { .. }));
    assert_eq!(failure.reason(), Some(Reason::EstDraining));
    world.sleep(&mut busy, Duration::from_secs(300));
    assert!(world.server.is_drained());
    assert!(matches!(busy.event(), ClientEvent::Closed(_)));
}

#[test]
fn draining_leaves_an_answer_in_blocks_time_for_its_last_one() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let request = csr(holder.certificate.subject(), &Key::new());
    let block = |num| Some(Block { num, more: false, size: BlockSize::B256 });
    let ask = Ask { method: POST, path: "est/sen", accept: Some(287), content_format: Some(286), ..Ask::default() };
    let mut said = raw.ask(&mut world, &Ask { payload: &request, block2: block(0), ..ask.clone() });
    world.server.drain(world.now);
    let mut certificate = said.payload;
    while let Some(Block { num, more: true, .. }) = said.block2 {
        // Later than the first retransmission of a lost request, earlier than the end of the session.
        world.advance(Duration::from_secs(3));
        world.server.handle_timeout(world.now);
        said = raw.ask(&mut world, &Ask { block2: block(num + 1), ..ask.clone() });
        certificate.extend(said.payload);
    }
    assert_eq!(world.ledger.issued()[0].certificate, certificate);
    assert!(!world.server.is_drained());
    world.advance(Duration::from_secs(5));
    world.server.handle_timeout(world.now);
    assert!(world.server.is_drained());
}

#[test]
fn a_new_configuration_keeps_sessions_and_pins_requests() {
    let mut world = World::new();
    world.pace = Pace::Held;
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    let mut profile = world.pki.profile_spec("other");
    profile.profile.labels = vec!["other".into()];
    let profile = std::sync::Arc::new(authority::CaProfile::compile(profile).unwrap());
    let cookie = dtls::CookieKeys::from_random(&support::TestRandom);
    let mut spec = est::ServerSpec::new(world.pki.server.identity(), cookie, vec![profile]);
    spec.certificates = std::sync::Arc::new(est::CertificateCache::new(64));
    world.server.set_config(std::sync::Arc::new(est::ServerConfig::new(spec).unwrap()));
    world.release();
    world.run(&mut device);
    device.certificate();
    world.ask(&mut device, Operation::CaCertificates);
    assert_refused(&device.failure(), Reason::EstUnknownLabel);
}

#[test]
fn a_session_whose_certificate_left_the_cache_is_closed() {
    let mut world = World::with(|_, spec| spec.certificates = std::sync::Arc::new(est::CertificateCache::new(1)));
    let holders: Vec<_> = (0..64).map(|number| world.pki.device(number)).collect();
    let mut first = world.connect(1, &holders[0], ClientConfig::default());
    for (port, holder) in (2..).zip(&holders[1..]) {
        world.connect(port, holder, ClientConfig::default());
    }
    let request = csr(holders[0].certificate.subject(), &Key::new());
    world.ask(&mut first, Operation::Enroll { csr: request });
    assert!(matches!(first.failure(), Failure::Closed(_)));
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstSessionForgotten));
}

fn assert_refused(failure: &Failure, reason: Reason) {
    let Failure::Refused(refused) = failure else { panic!("{failure:?}") };
    assert_eq!(refused.reason(), Some(reason));
    assert_eq!(Some(refused.code), reason.response_code());
}

#[test]
fn an_attempt_names_its_profile_once_the_path_has_named_it() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    let profile = |world: &World| world.attempts.last().unwrap().profile.clone();
    let (one, two) = (world.pki.device(1), world.pki.device(2));
    let mut device = world.connect(1, &one, ClientConfig::default());
    assert_eq!(profile(&world), None, "a handshake comes before the path");
    world.ask(&mut device, Operation::CaCertificates);
    let name = profile(&world);
    assert!(name.is_some_and(|name| world.server.config().profiles().any(|known| known.name() == &*name)));
    let name = profile(&world);
    world.ask(&mut device, Operation::Reenroll { csr: csr(one.certificate.subject(), &Key::new()) });
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::RenewalNotOfThisCa));
    assert_eq!(profile(&world), name, "refused by the authority");
    world.pace = Pace::Held;
    world.ask(&mut device, Operation::Enroll { csr: csr(one.certificate.subject(), &Key::new()) });
    let mut second = world.connect(2, &two, ClientConfig::default());
    world.ask(&mut second, Operation::Enroll { csr: csr(two.certificate.subject(), &Key::new()) });
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstPendingFull));
    assert_eq!(profile(&world), name, "refused before its blocks were gathered");
    world.release();
    world.run(&mut device);
    assert_eq!((world.attempts.last().unwrap().reason(), profile(&world)), (None, name), "and issued");
}
