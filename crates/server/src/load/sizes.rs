//! The sizes of the server's handshake messages: a device reassembles each message in a buffer, and the buffers of small stacks are small.
//!
//! The sizes are measured, not computed: the configured server answers a client in memory, and its event stream reports what it sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use dtls::{
    CertificateFault, Client, ClientConfig, Direction, HandshakeType, Now, Observer, Path, SocketIndex, TraceEvent,
    UnixTime, VerifyPeer,
};
use net::{Clock, SystemRandom};

/// Buffer sizes of deployed stacks: a message above one of them does not reach the devices with that buffer size.
const BUFFERS_BYTES: [usize; 3] = [768, 900, 1024];

/// One message of the server's first flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeSize {
    /// Its name in RFC 5246.
    pub message: &'static str,
    /// Bytes of its body and the handshake header of 12 bytes: a device's buffer has to hold both.
    pub bytes: usize,
}

impl HandshakeSize {
    /// The largest of these buffer sizes that the message exceeds.
    #[must_use]
    pub fn warning(&self) -> Option<SizeWarning> {
        let buffer_bytes = BUFFERS_BYTES.into_iter().rev().find(|buffer| self.bytes > *buffer)?;
        let remedy = match self.message {
            "Certificate" => {
                "use a compact certificate directly under the root, without intermediates; `muster init` makes one"
            }
            "CertificateRequest" => "set `certificate_authorities = false`, which sends an empty list",
            _ => "only devices with larger buffers can enrol",
        };
        Some(SizeWarning { buffer_bytes, remedy })
    }
}

/// A message that some devices cannot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeWarning {
    /// The buffer size that the message exceeds.
    pub buffer_bytes: usize,
    /// How to make the message shorter.
    pub remedy: &'static str,
}

impl std::fmt::Display for SizeWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "longer than the {}-byte buffers of some device stacks: {}", self.buffer_bytes, self.remedy)
    }
}

/// The messages that the server sends between the hellos and its ServerHelloDone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeSizes(Vec<HandshakeSize>);

impl HandshakeSizes {
    /// In the order in which the server sends them.
    pub fn iter(&self) -> impl Iterator<Item = &HandshakeSize> {
        self.0.iter()
    }
}

/// Header of a handshake message (RFC 6347 §4.2.2).
const HEADER_BYTES: usize = 12;
/// Upper bound for the datagrams of a ClientHello, its cookie and one flight: the loop ends even if the engines never do.
const DATAGRAMS_MAX: usize = 64;

/// Makes a client without a certificate send a ClientHello to the server's engine, and notes what the server answers.
pub(super) fn measure(config: &Arc<est::ServerConfig>, random: &Arc<SystemRandom>) -> HandshakeSizes {
    let now = Clock.now();
    let seen = Arc::new(Seen::default());
    let mut server = est::Server::new(0, Arc::clone(config), Arc::clone(random) as Arc<dyn dtls::Random>);
    server.set_observer(Some(Arc::clone(&seen) as Arc<dyn Observer>));
    let client_config = Arc::new(ClientConfig::new(None, Arc::new(Nobody)));
    let mut client = Client::new(client_config, Arc::clone(random) as Arc<dyn dtls::Random>, now);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let path = Path { peer, local: None, socket: SocketIndex(0) };
    for _ in 0..DATAGRAMS_MAX {
        let Some(mut datagram) = client.poll_transmit().map(<[u8]>::to_vec) else { break };
        server.handle_datagram(now, path, &mut datagram);
        run_public_key_steps(&mut server, now);
        while let Some(mut answer) = server.poll_transmit().map(|transmit| transmit.bytes.to_vec()) {
            client.handle_datagram(now, &mut answer);
            while client.poll_event().is_some() {}
        }
    }
    let sizes = std::mem::take(&mut *seen.0.lock().unwrap_or_else(PoisonError::into_inner));
    HandshakeSizes(sizes)
}

/// The ServerKeyExchange is signed in a suspended step.
fn run_public_key_steps(server: &mut est::Server, now: Now) {
    while let Some(output) = server.poll_output() {
        if let est::Output::PublicKey(job) = output {
            server.complete_public_key(now, job.run());
        }
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<HandshakeSize>>);

impl Observer for Seen {
    fn observe(&self, _at: Now, _path: Option<Path>, event: &TraceEvent<'_>) {
        let TraceEvent::Handshake { direction: Direction::Sent, message, length, .. } = event else { return };
        if *message == HandshakeType::HELLO_VERIFY_REQUEST {
            return;
        }
        let size = HandshakeSize { message: message.name(), bytes: length + HEADER_BYTES };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(size);
    }
}

/// Trusts no server: by the time trust matters, everything to be measured has been sent.
struct Nobody;

impl VerifyPeer for Nobody {
    type Peer = ();
    type Unproven = dtls::KeyAlone<()>;
    type Proven = ();

    fn collect(&self, _chain: &[&[u8]], _utc: UnixTime) -> Result<Self::Unproven, dtls::CertificateRefusal> {
        Err(CertificateFault::UnknownIssuer.into())
    }

    fn admit(&self, (): Self::Proven) -> Self::Peer {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_buffer_that_is_too_small_is_named() {
        let warning = |bytes| HandshakeSize { message: "Certificate", bytes }.warning().map(|it| it.buffer_bytes);
        let cases =
            [(768, None), (769, Some(768)), (900, Some(768)), (901, Some(900)), (1024, Some(900)), (1025, Some(1024))];
        for (bytes, expected) in cases {
            assert_eq!(warning(bytes), expected, "{bytes} bytes");
        }
    }
}
