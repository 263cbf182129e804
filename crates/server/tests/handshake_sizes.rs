//! The sizes of the server's handshake messages by `muster check`, compared with those that a device receives.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and its files are real"
)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dtls::{Direction, DropReason, Now, Observer, Path, TraceEvent};
use net::blocking_client::{BlockingClient, ConnectionFault};
use server::Loaded;

use support::{PATIENCE, Pki, days, loopbacks};

/// Records the name and body length of each handshake message that arrives.
#[derive(Default)]
struct Received(Mutex<Vec<(&'static str, usize)>>);

impl Observer for Received {
    fn observe(&self, _at: Now, _path: Option<Path>, event: &TraceEvent<'_>) {
        if let TraceEvent::Handshake { direction: Direction::Received, message, length, .. } = event {
            self.0.lock().unwrap().push((message.name(), *length));
        }
    }
}

#[test]
fn the_sizes_are_those_that_a_device_receives() {
    let pki = Pki::new();
    let text = pki.configuration(&loopbacks());
    let loaded = server::load(&pki.sources(&text)).unwrap();
    let said: Vec<(&str, usize)> = loaded.handshake_sizes().iter().map(|size| (size.message, size.bytes)).collect();
    let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ServerHello", "Certificate", "ServerKeyExchange", "CertificateRequest", "ServerHelloDone"]);
    assert!(loaded.handshake_sizes().iter().all(|size| size.warning().is_none()), "{said:?}");

    let server = server::start(loaded, support::memory_ledger(), server::StartOptions::default()).unwrap();
    let identity = pki.device(1);
    for address in server.addresses() {
        let received = Arc::new(Received::default());
        let mut setup = pki.setup(&identity, *address);
        let observer: Arc<dyn Observer> = Arc::clone(&received) as Arc<dyn Observer>;
        setup.observer = Some(Box::new(move |_| Ok(Some(observer))));
        BlockingClient::connect(setup, PATIENCE).unwrap();
        let received = received.0.lock().unwrap();
        for (name, bytes) in &said {
            let (_, length) = received.iter().find(|(received, _)| received == name).unwrap();
            // The length of an ECDSA signature varies by up to three bytes from one handshake to the next; nothing else does.
            let spread = if *name == "ServerKeyExchange" { 3 } else { 0 };
            assert!(
                (length + HEADER_BYTES).abs_diff(*bytes) <= spread,
                "{name}: {bytes} expected, {length} + 12 received"
            );
        }
    }
}

/// The header of a handshake message (RFC 6347 §4.2.2).
const HEADER_BYTES: usize = 12;

/// Stops the device when a message is too long for its buffer: no answer will follow.
struct StopsAtOversize(Arc<AtomicBool>);

impl Observer for StopsAtOversize {
    fn observe(&self, _at: Now, _path: Option<Path>, event: &TraceEvent<'_>) {
        if matches!(event, TraceEvent::Dropped { reason: DropReason::MessageOversize }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether a device gets its session if it reassembles handshake messages, headers included, in a buffer of this size.
fn gets_in(pki: &Pki, server: SocketAddr, buffer_bytes: usize) -> bool {
    let mut setup = pki.setup(&pki.device(1), server);
    Arc::get_mut(&mut setup.dtls).unwrap().message_bytes_max = buffer_bytes - HEADER_BYTES;
    let observer = StopsAtOversize(Arc::clone(&setup.stop));
    setup.observer = Some(Box::new(move |_| Ok(Some(Arc::new(observer) as Arc<dyn Observer>))));
    match BlockingClient::connect(setup, PATIENCE) {
        Ok(_) => true,
        Err(ConnectionFault::Stopped) => false,
        Err(fault) => panic!("{fault}"),
    }
}

/// The longest message, by `muster check`.
fn longest(loaded: &Loaded) -> usize {
    loaded.handshake_sizes().iter().map(|size| size.bytes).max().unwrap()
}

/// A server whose Certificate message, header included, has this length: names are added and signatures repeated until it fits.
fn write_server_of(pki: &Pki, message_bytes: usize) {
    // Two lengths of three bytes precede the one certificate (RFC 5246 §7.4.2).
    let wanted = message_bytes - HEADER_BYTES - 3 - 3;
    let mut filling = 100_usize;
    for _ in 0..1_000 {
        // Labels have at most 63 letters and names at most 253: some labels of 60, and one with the remaining letters.
        let mut names = vec!["a".repeat(60); filling / 60];
        let rest = filling % 60;
        names.extend((rest > 0).then(|| "b".repeat(rest)));
        let bytes = pki.write_server_with(days(-1, 365), &names);
        if bytes == wanted {
            return;
        }
        // The length of a signature varies by up to three bytes: a near miss is tried again unchanged.
        if bytes.abs_diff(wanted) > 1 {
            filling = filling.saturating_add(wanted).saturating_sub(bytes).max(1);
        }
    }
    panic!("no certificate of {wanted} bytes");
}

#[test]
fn the_sizes_decide_to_the_byte_which_devices_get_in() {
    let pki = Pki::new();
    for (message_bytes, warned_of) in [(768, None), (769, Some(768)), (900, Some(768)), (901, Some(900))] {
        write_server_of(&pki, message_bytes);
        let loaded = server::load(&pki.sources(&pki.configuration(&loopbacks()))).unwrap();
        assert_eq!(longest(&loaded), message_bytes);
        let warnings: Vec<usize> =
            loaded.handshake_sizes().iter().filter_map(|size| Some(size.warning()?.buffer_bytes)).collect();
        assert_eq!(warnings, Vec::from_iter(warned_of));
        let server = server::start(loaded, support::memory_ledger(), server::StartOptions::default()).unwrap();
        for address in server.addresses() {
            for buffer_bytes in [768, 900, message_bytes - 1, message_bytes] {
                let expected = message_bytes <= buffer_bytes;
                assert_eq!(gets_in(&pki, *address, buffer_bytes), expected, "{message_bytes} into {buffer_bytes}");
            }
        }
    }
}

#[test]
fn a_list_of_authorities_that_is_warned_of_keeps_the_same_devices_out() {
    let pki = Pki::new();
    pki.write_factories(19);
    for (listed, gets) in [("false", true), ("true", false)] {
        let text = format!("{}[dtls]\ncertificate_authorities = {listed}\n", pki.configuration(&loopbacks()));
        let loaded = server::load(&pki.sources(&text)).unwrap();
        let warned: Vec<&str> =
            loaded.handshake_sizes().iter().filter(|size| size.warning().is_some()).map(|size| size.message).collect();
        assert_eq!(warned, if gets { vec![] } else { vec!["CertificateRequest"] });
        let most = longest(&loaded);
        assert_eq!(most <= 768, gets, "{most}");
        let server = server::start(loaded, support::memory_ledger(), server::StartOptions::default()).unwrap();
        for address in server.addresses() {
            assert_eq!(gets_in(&pki, *address, 768), gets);
            assert!(gets_in(&pki, *address, most));
        }
    }
}

#[test]
fn a_list_of_authorities_and_a_long_chain_are_warned_of() {
    let pki = Pki::new();
    let text = format!("{}[dtls]\ncertificate_authorities = true\n", pki.configuration(&["127.0.0.1:0"]));
    let plain = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let listed = server::load(&pki.sources(&text)).unwrap();
    let size = |loaded: &Loaded, name: &str| {
        loaded.handshake_sizes().iter().find(|size| size.message == name).unwrap().clone()
    };
    assert!(size(&listed, "CertificateRequest").bytes > size(&plain, "CertificateRequest").bytes + 20);
    // The server's certificate followed by the root, twice.
    let server_pem = std::fs::read_to_string(pki.path("server.pem")).unwrap();
    let root_pem = std::fs::read_to_string(pki.path("root.pem")).unwrap();
    std::fs::write(pki.path("server.pem"), format!("{server_pem}{root_pem}{root_pem}")).unwrap();
    let long = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let warning = size(&long, "Certificate").warning().unwrap();
    assert!(warning.buffer_bytes >= 900, "{warning}");
    assert!(warning.to_string().contains("compact certificate"), "{warning}");
}
