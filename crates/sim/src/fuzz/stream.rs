//! A whole server that receives arbitrary datagrams from the network.
//!
//! An input starts with one byte of [`SiteSetup`]. Frames follow: a port, a length and a datagram, or an operation and its argument. The
//! seeds are real exchanges, which this server accepts as the recording server did; the fuzzer changes, loses, repeats and reorders their
//! datagrams.

use std::time::Duration;

use super::site::{Site, SiteSetup};

/// Ports from this value on are operations; see [`operation`].
const OPERATIONS: u8 = 0xF0;
pub(super) const PASS: u8 = 0xF0;
pub(super) const DRAIN: u8 = 0xF1;
pub(super) const ANSWER: u8 = 0xF2;
pub(super) const RUN_STEPS: u8 = 0xF3;
const CLOSE_ALL: u8 = 0xF4;
const RELOAD: u8 = 0xF5;

/// The unit of [`PASS`].
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The most datagrams that the server sends for one that it receives: a flight in its smallest pieces, for every waiting device.
const SAID_AT_ONCE_MAX: usize = 200;

/// The target's body: a stream of datagrams to a server.
///
/// # Panics
/// If a stranger is served, a limit is exceeded, or state remains when everything has ended.
pub fn server_stream(data: &[u8]) {
    play(data).finish();
}

/// Plays the stream; the site at its end.
pub(super) fn play(data: &[u8]) -> Site {
    let (setup, mut rest) = data.split_first().map_or((0, data), |(setup, rest)| (*setup, rest));
    let mut site = Site::new(SiteSetup(setup), "server");
    while let Some((&[port, high, low], after)) = rest.split_first_chunk::<3>() {
        let argument = u16::from_be_bytes([high, low]);
        let length = if port < OPERATIONS { usize::from(argument).min(after.len()) } else { 0 };
        let (datagram, next) = after.split_at(length);
        let said = match port {
            PASS => site.pass(TICK * u32::from(argument)),
            ANSWER => site.answer(),
            RUN_STEPS => site.run_steps(),
            DRAIN => {
                let now = site.now();
                site.server.drain(now);
                site.serve()
            }
            CLOSE_ALL => {
                let now = site.now();
                site.server.close_all(now);
                site.serve()
            }
            RELOAD => {
                site.reload();
                site.serve()
            }
            port if port < OPERATIONS => site.hear(u16::from(port) + 1, &mut datagram.to_vec()),
            _ => Vec::new(),
        };
        assert!(port == PASS || said.len() <= SAID_AT_ONCE_MAX, "{} datagrams at once", said.len());
        rest = next;
    }
    site
}

/// Appends a frame with a datagram from a port.
pub(super) fn frame(stream: &mut Vec<u8>, port: u8, datagram: &[u8]) {
    stream.push(port);
    stream.extend_from_slice(&u16::try_from(datagram.len()).unwrap_or(u16::MAX).to_be_bytes());
    stream.extend_from_slice(datagram);
}

/// Appends a frame with an operation and its argument.
pub(super) fn operation(stream: &mut Vec<u8>, operation: u8, argument: u16) {
    stream.push(operation);
    stream.extend_from_slice(&argument.to_be_bytes());
}
