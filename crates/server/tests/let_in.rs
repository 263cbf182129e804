//! Devices that are accepted with a notice are in the log, with their identity. A separate test program, because a log belongs
//! to the whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use net::blocking_client::BlockingClient;

use support::{Identity, Log, PATIENCE, Pki, days, enrol, loopbacks};

fn enrol_asking_for(pki: &Pki, identity: &Identity, server: SocketAddr, name: Option<&str>) {
    let mut setup = pki.setup(identity, server);
    Arc::get_mut(&mut setup.dtls).unwrap().server_name = name.map(str::to_owned);
    let (mut device, _) = BlockingClient::connect(setup, PATIENCE).unwrap_or_else(|fault| panic!("{name:?}: {fault}"));
    enrol(&mut device, identity);
    device.close();
}

#[test]
fn an_unknown_server_name_and_an_expired_identity_are_served_and_logged() {
    let mut log = Log::of_this_process();
    let pki = Pki::new();
    let text = pki.configuration(&loopbacks()).replace("[ledger]", "allow_expired_identity = true\n[ledger]");
    let server = pki.start(&text);
    let addresses = server.addresses().to_vec();
    for (number, address) in (1..).zip(&addresses) {
        let identity = pki.device(number);
        enrol_asking_for(&pki, &identity, *address, Some("nowhere.example"));
        // `init` always includes localhost, and libcoap asks for it when it connects to an address.
        enrol_asking_for(&pki, &identity, *address, Some("localhost"));
        enrol_asking_for(&pki, &identity, *address, None);
        // The device with the expired certificate connects twice: each of its handshakes is logged.
        let expired = pki.device_living(days(-30, -1), 10 + number);
        enrol_asking_for(&pki, &expired, *address, None);
        enrol_asking_for(&pki, &expired, *address, None);
    }
    assert_eq!(server.issued(), 10);
    server.drain();
    server.join().unwrap();

    let lines = log.lines_with("accepted with a notice");
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let tells = |words: &[&str]| lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count();
    for (number, address) in (1..).zip(&addresses) {
        let peer = format!("peer={}", SocketAddr::new(address.ip(), 0).to_string().trim_end_matches('0'));
        let device = |number: u32| format!("device={number:06}");
        assert_eq!(
            tells(&[&peer, &device(number), "INFO", "`nowhere.example`, which our certificate does not contain"]),
            1
        );
        assert_eq!(tells(&[&peer, &device(10 + number), "INFO", "its manufacturer certificate has expired"]), 2);
    }
}
