//! A server with real sockets and devices that enrol with it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use net::blocking_client::{BlockingClient, ConnectionFault};

use support::{PATIENCE, Pki, enrol, http, loopbacks};

#[test]
fn a_device_enrols_over_every_address_that_is_listened_on() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&[loopbacks()[0], "127.0.0.2:0", loopbacks()[1]]));
    let addresses = server.addresses().to_vec();
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| address.port() != 0), "{addresses:?}");
    // The server's certificate names 127.0.0.1 and ::1: at 127.0.0.2 it must not be trusted.
    for (number, address) in (1..).zip([addresses[0], addresses[2]]) {
        let identity = pki.device(number);
        let mut device = pki.connect(&identity, address);
        let enrolled = enrol(&mut device, &identity);
        assert!(enrolled.certificate.subject().matches(identity.certificate.subject()));
        device.close();
    }
    let stranger = pki.device(3);
    let fault = BlockingClient::connect(pki.setup(&stranger, addresses[1]), PATIENCE)
        .expect_err("the name is not the dialled one");
    assert!(matches!(&fault, ConnectionFault::Failed(failure) if failure.is_untrusted_server()), "{fault}");
    assert_eq!(server.issued(), 2);
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&["0.0.0.0:0", "[::]:0"]));
    for (number, (ip, wildcard)) in (1..).zip([("127.0.0.1", server.addresses()[0]), ("::1", server.addresses()[1])]) {
        // The device's socket is connected: an answer from another address would not reach it.
        let identity = pki.device(number);
        let mut device = pki.connect(&identity, SocketAddr::new(ip.parse().unwrap(), wildcard.port()));
        enrol(&mut device, &identity);
    }
    assert_eq!(server.issued(), 2);
}

#[test]
fn crts_answers_issuing_and_root_and_a_certificate_renews_itself() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let server = pki.start(&pki.configuration(&[listen]));
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        let est::Answer::CaCertificates(anchors) = device.ask(est::Operation::CaCertificates, PATIENCE).unwrap() else {
            panic!("no certificates")
        };
        assert_eq!(anchors.usable.len(), 2);
        assert!(anchors.usable.iter().any(|der| der == pki.root.der()));
        let enrolled = enrol(&mut device, &identity);
        device.close();
        let mut renewing = pki.connect(&enrolled, server.addresses()[0]);
        let key = support::new_key();
        let operation = est::Operation::Reenroll { csr: support::csr(&enrolled, &key) };
        assert!(matches!(renewing.ask(operation, PATIENCE).unwrap(), est::Answer::Certificate(_)));
        assert_eq!(server.issued(), 2);
    }
}

#[test]
fn more_shards_serve_one_address() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = pki.configuration(&[listen]).replace("[server]", "[server]\nshards = 3\npool_threads = 2");
        let server = pki.start(&text);
        // Sixteen ports over three sockets: each shard serves some of them.
        for number in 1..=16 {
            let identity = pki.device(number);
            let mut device = pki.connect(&identity, server.addresses()[0]);
            enrol(&mut device, &identity);
            device.close();
        }
        assert_eq!(server.issued(), 16);
    }
}

#[test]
fn handshakes_in_the_pool_end_as_well() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = format!("{}[dtls]\npublic_key_steps = \"pool\"\n", pki.configuration(&[listen]));
        let server = pki.start(&text);
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        enrol(&mut device, &identity);
        assert_eq!(server.issued(), 1);
    }
}

#[test]
fn a_second_server_on_the_same_address_is_refused() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let first = pki.start(&pki.configuration(&[listen]));
        let taken = first.addresses()[0].to_string();
        let loaded = server::load(&pki.sources(&pki.configuration(&[&taken]))).unwrap();
        let fault = server::start(loaded, support::memory_ledger(), server::StartOptions::default())
            .expect_err("the address is taken");
        assert!(fault.to_string().contains(&format!("cannot listen on {taken}")), "{fault}");
        assert!(fault.to_string().contains("another process uses it"), "{fault}");
    }
}

#[test]
fn a_new_configuration_holds_for_new_requests_and_sessions_stay() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = pki.configuration(&[listen]);
        let server = pki.start(&text);
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        let before = enrol(&mut device, &identity).certificate.validity();
        let shorter = text.replace("[ledger]", "issue.validity = \"2h\"\n[ledger]");
        let reloaded = server.reload(&pki.sources(&shorter)).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(reloaded.needs_restart.is_empty(), "{reloaded:?}");
        let after = enrol(&mut device, &identity).certificate.validity();
        let life = |validity: pki::Validity| validity.not_after.as_secs() - validity.not_before.as_secs();
        assert_eq!((life(before), life(after)), (365 * 86_400 - 1, 2 * 3_600 - 1));
        let elsewhere = shorter
            .replace(listen, &listen.replace(":0", ":1"))
            .replace("[ledger]", "[limits]\nsessions_max = 5\n[ledger]");
        let reloaded = server.reload(&pki.sources(&elsewhere)).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(reloaded.needs_restart, ["server.listen", "limits.sessions_max"]);
        let faults = server.reload(&pki.sources("[server]")).unwrap_err();
        assert!(faults.0.len() > 3, "{faults}");
        enrol(&mut device, &identity);
    }
}

#[test]
fn metrics_health_and_readiness_are_shown() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = format!("{}[metrics]\nlisten = \"{listen}\"\n", pki.configuration(&[listen]));
        let server = pki.start(&text);
        let address = server.metrics_address().unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(http(address, "/healthz").0, 200);
        assert_eq!(http(address, "/readyz"), (200, "ready\n".into()));
        assert_eq!(http(address, "/").0, 404);
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        enrol(&mut device, &identity);
        let refused =
            device.ask(est::Operation::Reenroll { csr: support::csr(&identity, &support::new_key()) }, PATIENCE);
        assert!(refused.is_err(), "a manufacturer's certificate does not renew");
        // A shard updates the metrics once a turn, after it has sent the answers of that turn.
        let scrapes = (0..100).map(|_| http(address, "/metrics"));
        let mut scrapes = scrapes.skip_while(|(_, text)| text.contains("\nmuster_enrolments_in_flight 1\n"));
        let (status, text) = scrapes.next().expect("the scrapes do not end");
        assert_eq!(status, 200);
        for line in [
            "muster_handshakes_total 1",
            "muster_requests_total{profile=\"meters\",function=\"sen\"} 1",
            "muster_requests_total{profile=\"meters\",function=\"sren\"} 0",
            "muster_ledger_certificates 1",
            "muster_sessions{state=\"established\"} 1",
            "muster_sessions{state=\"half_open\"} 0",
            "muster_enrolments_in_flight 0",
            "muster_ready 1",
            "muster_draining 0",
            "muster_handshake_duration_seconds_count 1",
            "muster_request_duration_seconds_count{profile=\"meters\",function=\"sen\"} 1",
            "muster_issuance_duration_seconds_count{profile=\"meters\"} 2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        let refusals: Vec<&str> =
            text.lines().filter(|line| line.starts_with("muster_refusals_total") && line.ends_with(" 1")).collect();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].contains("{profile=\"meters\",stage=\"decision\",class=\"refused\","), "{refusals:?}");
        for kind in ["server", "ca", "manufacturer"] {
            let series = format!("muster_certificate_expiry_timestamp_seconds{{kind=\"{kind}\",");
            assert!(text.contains(&series), "{series} is not in\n{text}");
        }
        let scrape = |name: &str| http(address, "/metrics").1.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(scrape("muster_draining 0"), 1);
        server.drain();
        let drains = (0..100).any(|_| scrape("muster_draining 1") == 1 && scrape("muster_ready 0") == 1);
        assert!(drains, "a server that drains is not ready");
    }
}

#[test]
fn a_request_that_is_repeated_yields_one_certificate() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let server = pki.start(&pki.configuration(&[listen]));
        let identity = pki.device(1);
        let key = support::new_key();
        let csr = support::csr(&identity, &key);
        let mut certificates = Vec::new();
        for _ in 0..3 {
            // Each request uses a new session.
            let mut device = pki.connect(&identity, server.addresses()[0]);
            certificates.push(device.ask(est::Operation::Enroll { csr: csr.clone() }, PATIENCE).unwrap());
            device.close();
        }
        assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(server.issued(), 1);
    }
}

#[test]
fn a_device_is_told_when_nothing_listens_and_when_it_is_stopped() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let identity = pki.device(1);
        let nobody = silent_socket(listen).local_address();
        let fault = BlockingClient::connect(pki.setup(&identity, nobody), PATIENCE).expect_err("nothing listens");
        assert!(matches!(fault, ConnectionFault::Unreachable(server) if server == nobody), "{fault}");
        // A socket that never answers.
        let silent = silent_socket(listen);
        let setup = pki.setup(&identity, silent.local_address());
        let stop = Arc::clone(&setup.stop);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let fault = BlockingClient::connect(setup, PATIENCE).expect_err("it was stopped");
        assert!(matches!(fault, ConnectionFault::Stopped), "{fault}");
    }
}

fn silent_socket(address: &str) -> net::udp::Socket {
    net::udp::Socket::bind(address.parse().unwrap(), &net::udp::SocketOptions::default()).unwrap()
}
