//! What `muster check` says about the server's handshake messages, against what a device sees of them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and its files are real"
)]

mod support;

use std::sync::{Arc, Mutex};

use dtls::{Direction, Now, Observer, Route, TraceEvent};
use net::device::Device;
use support::{PATIENCE, Pki};

/// Notes (name, body length) of each handshake message that comes.
#[derive(Default)]
struct Received(Mutex<Vec<(&'static str, usize)>>);

impl Observer for Received {
    fn observe(&self, _at: Now, _route: Option<Route>, event: &TraceEvent<'_>) {
        if let TraceEvent::Handshake { direction: Direction::Received, message, length, .. } = event {
            self.0.lock().unwrap().push((message.name(), *length));
        }
    }
}

#[test]
fn the_sizes_are_those_that_a_device_receives() {
    let pki = Pki::new();
    let text = pki.configuration(&["127.0.0.1:0"]);
    let loaded = server::load(&pki.sources(&text)).unwrap();
    let said: Vec<(&str, usize)> = loaded.handshake_sizes().iter().map(|size| (size.message, size.bytes)).collect();
    let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ServerHello", "Certificate", "ServerKeyExchange", "CertificateRequest", "ServerHelloDone"]);
    assert!(loaded.handshake_sizes().iter().all(|size| size.warning().is_none()), "{said:?}");

    let server = server::Server::start(loaded, server::Options::default()).unwrap();
    let identity = pki.device(1);
    let received = Arc::new(Received::default());
    let mut setup = pki.setup(&identity, server.addresses()[0]);
    let observer: Arc<dyn Observer> = Arc::clone(&received) as Arc<dyn Observer>;
    setup.observer = Some(Box::new(move |_| Ok(Some(observer))));
    Device::connect(setup, PATIENCE).unwrap();
    let received = received.0.lock().unwrap();
    for (name, bytes) in said {
        let (_, length) = received.iter().find(|(received, _)| *received == name).unwrap();
        // An ECDSA signature is a byte or three shorter or longer from one handshake to the next.
        assert!((length + 12).abs_diff(bytes) <= 3, "{name}: said {bytes}, came {length} + 12");
    }
}

#[test]
fn a_list_of_authorities_and_a_long_chain_are_warned_of() {
    let pki = Pki::new();
    let text = format!("{}[dtls]\ncertificate_authorities = true\n", pki.configuration(&["127.0.0.1:0"]));
    let plain = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let listed = server::load(&pki.sources(&text)).unwrap();
    let size = |loaded: &server::Loaded, name: &str| {
        loaded.handshake_sizes().iter().find(|size| size.message == name).unwrap().clone()
    };
    assert!(size(&listed, "CertificateRequest").bytes > size(&plain, "CertificateRequest").bytes + 20);
    // The server's certificate with the root behind it, twice.
    let server_pem = std::fs::read_to_string(pki.path("server.pem")).unwrap();
    let root_pem = std::fs::read_to_string(pki.path("root.pem")).unwrap();
    std::fs::write(pki.path("server.pem"), format!("{server_pem}{root_pem}{root_pem}")).unwrap();
    let long = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let warning = size(&long, "Certificate").warning().unwrap();
    assert!(warning.buffer_bytes >= 900, "{warning}");
    assert!(warning.to_string().contains("compact certificate"), "{warning}");
}
