//! Draining, as SIGTERM begins it: no new handshakes; enrolments in flight are finished; the other sessions get close_notify; the server ends within
//! `drain_timeout`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and devices run on threads"
)]

mod support;

use std::time::Duration;

use net::blocking_client::{BlockingClient, ConnectionFault};
use server::Drained;

use support::{PATIENCE, Pki, enrol, http, loopbacks};

#[test]
fn idle_sessions_are_closed_and_the_server_ends() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let server = pki.start(&pki.configuration(&[listen]));
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        enrol(&mut device, &identity);
        server.drain();
        assert_eq!(server.join().unwrap(), Drained::default());
        // The close_notify is in the receive buffer of the device's socket.
        let fault = device.ask(est::Operation::CaCertificates, PATIENCE).expect_err("the session is over");
        assert!(
            matches!(fault, ConnectionFault::Closed(_) | ConnectionFault::Failed(est::Failure::Closed(_))),
            "{fault:?}"
        );
    }
}

#[test]
fn new_devices_are_not_admitted_and_readiness_says_so() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let text = format!("{}[metrics]\nlisten = \"{listen}\"\n", pki.configuration(&[listen]));
        let server = pki.start(&text);
        let metrics = server.metrics_address().unwrap();
        let (identity, late) = (pki.device(1), pki.device(2));
        let device = pki.connect(&identity, server.addresses()[0]);
        server.drain();
        assert_eq!(http(metrics, "/readyz").0, 503);
        assert_eq!(http(metrics, "/readyz/issue"), (503, "the server is draining\n".into()));
        assert_eq!(http(metrics, "/healthz").0, 200);
        let mut setup = pki.setup(&late, server.addresses()[0]);
        setup.local = None;
        let fault = BlockingClient::connect(setup, Duration::from_millis(300)).expect_err("no new handshakes");
        assert!(
            matches!(
                fault,
                ConnectionFault::TimedOut(_) | ConnectionFault::Unreachable(_) | ConnectionFault::Failed(_)
            ),
            "{fault}"
        );
        drop(device);
        server.join().unwrap();
    }
}

/// Eight devices, four over each address family, enrol again and again until draining begins. Every issued certificate has reached its device:
/// loopback loses nothing, so a certificate that is in the ledger only would be an enrolment that was cut off.
#[test]
fn enrolments_in_flight_are_finished() {
    let pki = Pki::new();
    let ledger = support::memory_ledger();
    let loaded = server::load(&pki.sources(&pki.configuration(&loopbacks()))).unwrap();
    let issuing = std::sync::Arc::clone(&ledger);
    let server = server::start(loaded, issuing, server::StartOptions::default()).unwrap();
    let addresses = server.addresses().to_vec();
    let (enrolled, first) = std::sync::mpsc::channel();
    let devices: Vec<_> = (1..=8)
        .map(|number| {
            let identity = pki.device(number);
            let mut device = pki.connect(&identity, addresses[usize::try_from(number).unwrap() % 2]);
            let enrolled = enrolled.clone();
            std::thread::spawn(move || {
                let mut certificates = 0_u64;
                loop {
                    let key = support::new_key();
                    let operation = est::Operation::Enroll { csr: support::csr(&identity, &key) };
                    match device.ask(operation, PATIENCE) {
                        Ok(_) => certificates += 1,
                        Err(ConnectionFault::Closed(_) | ConnectionFault::Start(_) | ConnectionFault::Failed(_)) => {
                            return certificates;
                        }
                        Err(fault) => panic!("{fault}"),
                    }
                    // The test receives the first message only.
                    let _ = enrolled.send(());
                }
            })
        })
        .collect();
    first.recv_timeout(PATIENCE).unwrap();
    server.drain();
    let received: u64 = devices.into_iter().map(|device| device.join().unwrap()).sum();
    assert_eq!(server.join().unwrap(), Drained::default());
    assert!(received > 0);
    assert_eq!(u64::try_from(ledger.issued_count()).unwrap(), received);
}

#[test]
fn a_stop_ends_at_once_whatever_is_open() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let server = pki.start(&pki.configuration(&[listen]));
        let identity = pki.device(1);
        let _device = pki.connect(&identity, server.addresses()[0]);
        server.stopper().stop();
        server.join().unwrap();
    }
}
