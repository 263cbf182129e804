//! SIGTERM drains the server. A separate test program, because a signal reaches the whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use server::Drained;
use signal_hook::consts::SIGTERM;

use support::{PATIENCE, Pki, enrol, loopbacks};

#[test]
fn sigterm_drains_and_the_server_ends_in_time() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&loopbacks()));
    let text = pki.configuration(&loopbacks());
    let sources = pki.sources(&text);
    let _obeying = server::signals::obey(&server, move || Ok(sources.clone())).unwrap();
    let mut devices: Vec<_> = (1..)
        .zip(server.addresses())
        .map(|(number, address)| {
            let identity = pki.device(number);
            let mut device = pki.connect(&identity, *address);
            enrol(&mut device, &identity);
            device
        })
        .collect();
    signal_hook::low_level::raise(SIGTERM).unwrap();
    assert_eq!(server.join().unwrap(), Drained::default());
    for device in &mut devices {
        assert!(device.ask(est::Operation::CaCertificates, PATIENCE).is_err(), "the session is closed");
    }
}
