//! Records of an established session, opened and sealed.

use std::net::SocketAddr;
use std::sync::Arc;

use dtls::{Client, ClientEvent, CookieKeys, Endpoint, Event, Path, SessionId, SocketIndex, Suite};
use est::{CertificateCache, DtlsConfig, NameAuthorities, Now, PeerVerifier, ServerVerifier};
use rustls_pki_types::ServerName;
use sim::{DerivedRandom, TestCa, VirtualClock};

const SEED: u64 = 9148;

/// An established session, datagrams that its server has not opened, and payload to seal.
pub struct RecordSession {
    server: Endpoint<PeerVerifier>,
    session: SessionId,
    now: Now,
    sealed: Vec<Vec<u8>>,
    payload: Vec<u8>,
    records: u32,
}

impl RecordSession {
    /// A session of this suite, and so many records with so much plaintext.
    ///
    /// # Panics
    /// If the handshake fails: the benchmarks would measure a refusal.
    #[must_use]
    pub fn new(suite: Suite, bytes: usize, records: u32) -> Self {
        let (ca, now) = (TestCa::new(SEED), VirtualClock::start().now());
        let random = Arc::new(DerivedRandom::new(SEED, "server"));
        let devices = PeerVerifier::new(
            [Arc::clone(ca.manufacturer())],
            Arc::new(CertificateCache::new(16)),
            NameAuthorities::LeaveEmpty,
        );
        let identity = ca.server().for_dtls(&random);
        let cookie = CookieKeys::from_random(&*random);
        let config = dtls::ServerConfig::new(identity, Arc::new(devices.expect("an anchor")), cookie);
        let mut server = Endpoint::new(Arc::new(config), random);
        let random = Arc::new(DerivedRandom::new(SEED, "device"));
        let name = ServerName::try_from(sim::trust::SERVER_NAME).expect("a DNS name");
        let verifier = ServerVerifier::new(vec![Arc::clone(ca.root())], name).expect("the root is an anchor");
        let mut asks = DtlsConfig::new(Some(ca.device(1).for_dtls(&random)), Arc::new(verifier));
        asks.suites = vec![suite];
        let mut client = Client::new(Arc::new(asks), random, now);
        let session = connect(&mut server, &mut client, now);
        let payload = vec![0x5a; bytes];
        let sealed = (0..records).map(|_| {
            client.send(now, &payload).expect("an established session");
            client.poll_transmit().expect("a record").to_vec()
        });
        let sealed = sealed.collect();
        Self { server, session, now, sealed, payload, records }
    }

    /// The server opens each record.
    ///
    /// # Panics
    /// If a record is not accepted.
    pub fn open(&mut self) {
        for datagram in &mut self.sealed {
            self.server.handle_datagram(self.now, path(), datagram);
            let opened = self.server.poll_event();
            assert!(matches!(opened, Some(Event::Data { .. })), "a record is not accepted: {opened:?}");
        }
    }

    /// The server seals as many records.
    ///
    /// # Panics
    /// If the session has ended.
    pub fn seal(&mut self) {
        for _ in 0..self.records {
            self.server.send(self.now, self.session, &self.payload).expect("an established session");
            assert!(self.server.poll_transmit().is_some(), "nothing was sealed");
        }
    }
}

fn connect(server: &mut Endpoint<PeerVerifier>, client: &mut Client<ServerVerifier>, now: Now) -> SessionId {
    let mut established = None;
    loop {
        let mut sent: Vec<Vec<u8>> = Vec::new();
        while let Some(bytes) = client.poll_transmit() {
            sent.push(bytes.to_vec());
        }
        let mut answers: Vec<Vec<u8>> = Vec::new();
        for datagram in &mut sent {
            server.handle_datagram(now, path(), datagram);
            while let Some(event) = server.poll_event() {
                match event {
                    Event::Established { session, .. } => established = Some(session),
                    other => panic!("the handshake failed: {other:?}"),
                }
            }
            while let Some(transmit) = server.poll_transmit() {
                answers.push(transmit.bytes.to_vec());
            }
        }
        for answer in &mut answers {
            client.handle_datagram(now, answer);
            while let Some(event) = client.poll_event() {
                assert!(matches!(event, ClientEvent::Established { .. }), "the handshake failed: {event:?}");
            }
        }
        if sent.is_empty() {
            return established.expect("a handshake without losses ends with a session");
        }
    }
}

fn path() -> Path {
    let peer = SocketAddr::from(([192, 0, 2, 1], 40_000));
    Path { peer, local: None, socket: SocketIndex(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_suites_are_opened_and_sealed() {
        for (_, suite) in crate::SUITES {
            let mut session = RecordSession::new(suite, 90, 3);
            session.open();
            session.seal();
        }
    }
}
