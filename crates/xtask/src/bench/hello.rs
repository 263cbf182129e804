//! The few DTLS 1.2 messages that an attack needs, as bytes: this crate links none of our crates.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long a HelloVerifyRequest may take.
const COOKIE_TIMEOUT: Duration = Duration::from_millis(500);
/// Length of DTLS's handshake header (RFC 6347 section 4.2.2), and of the fields before the cookie in a ClientHello without a
/// session id.
const HEADER: usize = 12;
const BEFORE_COOKIE: usize = 2 + 32 + 1 + 1;

/// One address that sends to the server.
pub(super) struct HelloPeer {
    socket: UdpSocket,
}

impl HelloPeer {
    pub(super) fn new(source: Ipv4Addr, server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((source, 0)).with_context(|| format!("cannot send from {source}"))?;
        socket.connect(server)?;
        Ok(Self { socket })
    }

    pub(super) fn send(&self, datagram: &[u8]) -> Result<()> {
        self.socket.send(datagram).map(drop).context("cannot send")
    }

    /// The next datagram that arrives before `until`.
    pub(super) fn receive(&self, until: Instant) -> Result<Option<Vec<u8>>> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut buffer = vec![0; 2048];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(fault) if matches!(fault.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(fault) => Err(fault).context("cannot receive"),
        }
    }

    /// The cookie that the server gives for the hello with this random.
    pub(super) fn cookie(&self, random: &[u8; 32]) -> Result<Vec<u8>> {
        self.send(&record(0, &client_hello(random, &[], 0)))?;
        let answer = self.receive(Instant::now() + COOKIE_TIMEOUT)?.context("no HelloVerifyRequest arrived")?;
        cookie_of(&answer).context("the answer is not a HelloVerifyRequest")
    }
}

/// A record of epoch 0 around one handshake message.
pub(super) fn record(sequence: u8, message: &[u8]) -> Vec<u8> {
    plaintext(22, sequence, message)
}

/// handshake_failure.
pub(super) fn fatal_alert(sequence: u8) -> Vec<u8> {
    plaintext(21, sequence, &[2, 40])
}

fn plaintext(content_type: u8, sequence: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, sequence];
    record.extend(length_of(content));
    record.extend_from_slice(content);
    record
}

/// A ClientHello for TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 on P-256.
pub(super) fn client_hello(random: &[u8; 32], cookie: &[u8], message_sequence: u8) -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend_from_slice(random);
    body.extend([0, u8::try_from(cookie.len()).unwrap_or(u8::MAX)]);
    body.extend_from_slice(cookie);
    body.extend([0, 2, 0xC0, 0xAE, 1, 0]);
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 23, 0, 0, // extended_master_secret
        0xFF, 1, 0, 1, 0, // renegotiation_info
    ];
    body.extend(length_of(extensions));
    body.extend_from_slice(extensions);
    let [high, low] = length_of(&body);
    let mut message = vec![1, 0, high, low, 0, message_sequence, 0, 0, 0, 0, high, low];
    message.extend(body);
    message
}

/// The beginning of a ClientHello as its first fragment, up to the end of the cookie.
pub(super) fn first_fragment(message: &[u8], cookie: usize) -> Vec<u8> {
    let length = BEFORE_COOKIE + cookie;
    let mut fragment = message[..HEADER + length].to_vec();
    let [high, low] = length_of(&message[HEADER..HEADER + length]);
    fragment[9..12].copy_from_slice(&[0, high, low]);
    fragment
}

fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// The body of the first handshake message in a datagram if the message has this type; it may be truncated.
fn body_of(datagram: &[u8], message_type: u8) -> Option<&[u8]> {
    (datagram.first() == Some(&22) && datagram.get(13) == Some(&message_type)).then(|| datagram.get(25..)).flatten()
}

fn cookie_of(datagram: &[u8]) -> Option<Vec<u8>> {
    let body = body_of(datagram, 3)?;
    let length = usize::from(*body.get(2)?);
    Some(body.get(3..3 + length)?.to_vec())
}

/// The random of the ServerHello at the beginning of a datagram.
pub(super) fn server_random(datagram: &[u8]) -> Option<Vec<u8>> {
    Some(body_of(datagram, 2)?.get(2..34)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_fragment_ends_with_the_cookie_and_says_so() {
        let hello = client_hello(&[9; 32], &[5; 20], 1);
        assert_eq!(usize::from(hello[3]) + HEADER, hello.len());
        let fragment = first_fragment(&hello, 20);
        assert_eq!((&fragment[1..4], usize::from(fragment[11])), (&hello[1..4], fragment.len() - HEADER));
        assert!(fragment.ends_with(&[5; 20]) && fragment.len() < hello.len());
    }

    #[test]
    fn answers_are_told_apart() {
        let mut verify = vec![3, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0xFE, 0xFF, 2, 8, 9];
        assert_eq!(cookie_of(&record(0, &verify)), Some(vec![8, 9]));
        verify[0] = 2;
        assert_eq!(cookie_of(&record(0, &verify)), None);
        let hello = [&[2; 12][..], &[0xFE, 0xFD], &[4; 32]].concat();
        assert_eq!(server_random(&record(0, &hello)), Some(vec![4; 32]));
        assert_eq!(server_random(&fatal_alert(0)), None);
    }
}
