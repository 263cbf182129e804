//! Which sockets a server has that runs as `muster init` configures it: the kernel's list, not the configuration.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::common::Pki;

/// CoAP without security (RFC 7252 §12.6).
const COAP_PORT: u16 = 5683;
/// Longer than an answer takes on loopback.
const SILENCE: Duration = Duration::from_millis(700);
/// NON, GET, message ID 0x0102, Uri-Path .well-known, Uri-Path core.
const DISCOVERY: &[u8] = b"\x50\x01\x01\x02\xbb.well-known\x04core";

/// The sockets of a process, by their numbers.
fn sockets_of(process: u32) -> BTreeSet<String> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    let inode =
        |target: std::path::PathBuf| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    targets.filter_map(inode).collect()
}

/// The local addresses of the UDP sockets of this process, as `/proc/net/udp` and `udp6` have them: hexadecimal address and port.
fn udp_sockets(process: u32) -> Vec<String> {
    let own = sockets_of(process);
    let mut found = Vec::new();
    for table in ["udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if own.contains(fields[9]) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}

/// RFC 9148 §4: "EST-coaps ... CoAP over DTLS"; plain CoAP and the groups of discovery are for those who configure `[discovery]`.
#[test]
fn c41_a_server_has_no_socket_for_plain_coap_or_a_group_and_answers_no_plain_request() {
    // The list is read well: it has a socket of this process.
    let own = UdpSocket::bind("127.0.0.1:0").unwrap();
    let expected = |port: u16| format!("0100007F:{port:04X}");
    assert!(udp_sockets(std::process::id()).contains(&expected(own.local_addr().unwrap().port())));

    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let address: SocketAddr = server.uri().strip_prefix("coaps://").unwrap().parse().unwrap();
    let listens: BTreeSet<String> = udp_sockets(server.running.0.id()).into_iter().collect();
    assert_eq!(listens, BTreeSet::from([expected(address.port())]), "one address, however many shards");
    assert_ne!(address.port(), COAP_PORT);
    // A socket gets the datagrams of a group if it is bound to the group or to no address.
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);

    // Nor is plain CoAP understood where DTLS is expected.
    own.set_read_timeout(Some(SILENCE)).unwrap();
    own.send_to(DISCOVERY, address).unwrap();
    let mut answer = [0; 64];
    let heard = own.recv_from(&mut answer);
    assert!(heard.is_err(), "{:?}", &answer[..heard.map_or(0, |(length, _)| length)]);
    assert_eq!(server.terminate().0, Some(0));
}
