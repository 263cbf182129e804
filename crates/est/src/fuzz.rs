//! Bodies of fuzz targets, as library functions that tests replay. Each takes any bytes and holds an invariant.

use std::net::SocketAddr;

use dtls::{Direction, Now, Path, SocketIndex, TraceEvent};

use crate::server::{Output, Server};
use crate::trace::{Formatter, Style};

/// `discovery_filter`: any query against a small directory.
pub use crate::discovery::fuzz_filter as discovery_filter;

/// What may be sent to an address that is not proven: "three times the amount of data received" (RFC 9000 §8, a yardstick).
const AMPLIFICATION_MAX: usize = 3;

/// `server_datagrams`: a stream of datagrams to a server, each one byte of source port, two of length, and as many as there
/// are. It checks that a peer without a proven address makes the server neither work nor answer with three times what it received.
///
/// # Panics
/// When it does not hold.
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
            assert!(!matches!(output, Output::Submit(..)), "nobody was authenticated");
        }
        rest = next;
    }
    assert!(sent <= AMPLIFICATION_MAX * received, "{sent} bytes for {received}");
}

/// `trace_line`: any plaintext through the formatter in every style. Holds that a trace is printable, whatever a peer put
/// into it, and that a message is one line.
///
/// # Panics
/// When it is not.
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
