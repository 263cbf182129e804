//! Bodies of fuzz targets, as library functions that tests replay. Each accepts any bytes and checks an invariant.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dtls::{Direction, Now, Path, SocketIndex, TraceEvent};

use crate::discovery::{
    COAP_PORT, Directory, DirectoryUri, GroupLinks, GroupResponder, LinkBase, Registrant, RegistrationSpec,
    ResourceLink,
};
use crate::server::{Output, Server};
use crate::trace::{Formatter, Style};

/// `discovery_filter`: any query against a small directory.
pub use crate::discovery::fuzz_filter as discovery_filter;

/// `key_answer`: any answer to `/skg`.
pub use crate::client::fuzz_key_answer as key_answer;

/// `renewal_info`: any bytes as an answer of `ren`.
pub use crate::renewal_info::fuzz_renewal_info as renewal_info;

/// `plain_coap`: one byte chooses a group or a directory, the rest is a datagram from there. It checks that an answer to a
/// group is not longer than its request beyond the link, and that a registrant goes on after any answer.
///
/// # Panics
/// If the property does not hold.
pub fn plain_coap(at: Instant, input: &[u8]) {
    let Some((&kind, datagram)) = input.split_first() else { return };
    let base = LinkBase::of_address(IpAddr::from([192, 0, 2, 1]), 5690);
    if kind & 1 == 0 {
        let link = ResourceLink { href: "/est/sen".into(), resource_type: "ace.est.sen", content_formats: "281 287" };
        let links = GroupLinks { directory: &Directory::new(vec![link]), base: &base };
        let mut responder = GroupResponder::new(Duration::ZERO, Vec::new(), 1);
        let peer = SocketAddr::from(([198, 51, 100, 7], 40_000));
        let judged = responder.handle_datagram(at, (0, peer), datagram, links);
        let answer = responder.poll_transmit(at);
        assert_eq!(judged.is_ok(), answer.is_some(), "an answer or a reason");
        assert!(answer.is_none_or(|answer| answer.bytes.len() <= datagram.len()), "no amplification");
        return;
    }
    let directory = DirectoryUri { host: "192.0.2.9".to_owned(), port: COAP_PORT, path: String::new() };
    let links = b"</est/sen>;rt=\"ace.est.sen\"".to_vec();
    let spec = RegistrationSpec { endpoint: "est".to_owned(), lifetime: Duration::from_secs(3_600), base, links };
    let mut registrant = Registrant::new(at, &directory, spec, 1);
    while registrant.poll_transmit().is_some() {}
    // As the directory repeats message id and token of the question, which is always the same here.
    registrant.handle_datagram(at, datagram);
    assert!(registrant.poll_timeout().is_some(), "it goes on");
}

/// The limit for datagrams to an unproven address: "three times the amount of data received" (RFC 9000 §8, used as a
/// yardstick).
const AMPLIFICATION_MAX: usize = 3;

/// `server_datagrams`: a stream of datagrams to a server, each with one byte of source port, two bytes of length, and
/// the bytes themselves. It checks that for a peer without a proven address, the server does no work and answers with
/// at most three times the bytes that it received.
///
/// # Panics
/// If the property does not hold.
pub fn server_datagrams(server: &mut Server, now: Now, input: &[u8]) {
    let (mut received, mut sent) = (0, 0);
    let mut rest = input;
    while let Some((&[port, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (datagram, next) = after.split_at(length);
        let peer = SocketAddr::from(([192, 0, 2, 1], u16::from(port) + 1));
        let path = Path { peer, local: None, socket: SocketIndex(0) };
        server.handle_datagram(now, path, &mut datagram.to_vec());
        received += length;
        while let Some(transmit) = server.poll_transmit() {
            assert_eq!(transmit.path, path, "an answer goes to who asked");
            sent += transmit.bytes.len();
        }
        while let Some(output) = server.poll_output() {
            assert!(!matches!(output, Output::Submit(..)), "no client was authenticated");
        }
        rest = next;
    }
    assert!(sent <= AMPLIFICATION_MAX * received, "{sent} bytes for {received}");
}

/// `trace_line`: formats any plaintext in every style. It checks that a trace is printable, whatever a peer put into
/// it, and that a message takes one line.
///
/// # Panics
/// If the property does not hold.
pub fn trace_line(at: Now, input: &[u8]) {
    for style in [Style::Text, Style::Hex, Style::Json] {
        let mut text = String::new();
        let event = TraceEvent::ApplicationData { direction: Direction::Received, plaintext: input };
        Formatter::new(style).event(at, None, &event, &mut text).expect("a String takes everything");
        assert!(text.chars().all(|character| character == '\n' || (' '..='~').contains(&character)), "{text:?}");
        if style != Style::Hex {
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        }
    }
}
