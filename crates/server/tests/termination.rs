//! SIGTERM drains. A process of its own, for a signal reaches a whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use server::Drained;
use signal_hook::consts::SIGTERM;
use support::{PATIENCE, Pki, enrol};

#[test]
fn sigterm_drains_and_the_server_ends_in_time() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&["127.0.0.1:0", "[::1]:0"]));
    let _termination = server::signals::drain_on_termination(&server).unwrap();
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    enrol(&mut device, &identity);
    signal_hook::low_level::raise(SIGTERM).unwrap();
    assert_eq!(server.join().unwrap(), Drained::default());
    assert!(device.ask(est::Operation::CaCertificates, PATIENCE).is_err(), "the session was closed");
}
