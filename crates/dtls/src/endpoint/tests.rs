//! Cases that tests from outside cannot bring about, such as a session that has used up its sequence numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::SecureRandom;
use rustls_pki_types::UnixTime;

use super::*;
use crate::{
    CertificateRefusal, Client, ClientConfig, ClientEvent, CookieKeys, EcdsaPublicKey, EcdsaSigningKey, Identity,
    KeyAlone, NamedCurve, Path, SocketIndex,
};

struct TestRandom;

#[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
fn system() -> ring::rand::SystemRandom {
    ring::rand::SystemRandom::new()
}

impl Random for TestRandom {
    fn fill(&self, out: &mut [u8]) {
        system().fill(out).unwrap();
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&system());
    }
}

/// All peers have the same certificate.
struct Same(EcdsaPublicKey);

impl VerifyPeer for Same {
    type Peer = Arc<()>;
    type Unproven = KeyAlone<Arc<()>>;
    type Proven = Arc<()>;

    fn collect(&self, _: &[&[u8]], _: UnixTime) -> Result<Self::Unproven, CertificateRefusal> {
        Ok(KeyAlone::new(Arc::default(), self.0.clone()))
    }

    fn admit(&self, proven: Self::Proven) -> Self::Peer {
        proven
    }
}

struct Ends {
    now: Now,
    path: Path,
    endpoint: Endpoint<Same>,
    client: Client<Same>,
}

impl Ends {
    fn established() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap();
        let key = EcdsaSigningKey::from_pkcs8(&pair.serialize_der(), &TestRandom).unwrap();
        assert_eq!(key.public_key().curve(), NamedCurve::P256);
        let verifier = Arc::new(Same(key.public_key().clone()));
        let identity = Arc::new(Identity::new(vec![certificate.der().to_vec()], key));
        let cookie = CookieKeys::shared([7; 32], Duration::from_secs(60));
        let config = Arc::new(ServerConfig::new(identity.clone(), verifier.clone(), cookie));
        let random: Arc<dyn Random> = Arc::new(TestRandom);
        #[allow(
            clippy::disallowed_methods,
            reason = "an Instant can only come from the clock; its value does not matter"
        )]
        let mono = Instant::now();
        let now = Now { mono, utc: UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)) };
        let client = Client::new(Arc::new(ClientConfig::new(Some(identity), verifier)), random.clone(), now);
        let peer = "192.0.2.1:5000".parse().unwrap();
        let path = Path { peer, local: None, socket: SocketIndex(0) };
        let mut ends = Self { now, path, endpoint: Endpoint::new(config, random), client };
        ends.exchange();
        assert!(ends.client.facts().is_some() && ends.endpoint.counts().established == 1);
        ends
    }

    /// Runs until neither side has anything to send.
    fn exchange(&mut self) {
        loop {
            let to_server = self.client.poll_transmit().map(<[u8]>::to_vec);
            let to_client = self.endpoint.poll_transmit().map(|transmit| transmit.bytes.to_vec());
            if to_server.is_none() && to_client.is_none() {
                return;
            }
            if let Some(mut datagram) = to_server {
                self.endpoint.handle_datagram(self.now, self.path, &mut datagram);
            }
            if let Some(mut datagram) = to_client {
                self.client.handle_datagram(self.now, &mut datagram);
            }
        }
    }
}

#[test]
fn d11_at_the_last_sequence_number_a_session_sends_once_more_and_then_ends() {
    let mut ends = Ends::established();
    while ends.endpoint.poll_event().is_some() {}
    let session = ends.endpoint.sessions().next().unwrap();
    let (_, member) = ends.endpoint.table.member_at(session.slot).unwrap();
    member.session.use_up_sequence();
    assert_eq!(ends.endpoint.send(ends.now, session, b"last"), Ok(()));
    assert_eq!(ends.endpoint.send(ends.now, session, b"none"), Err(SendFault::SequenceExhausted));
    assert_eq!(ends.endpoint.counts().established, 0);
    let why = ends.endpoint.poll_event();
    assert!(matches!(why, Some(Event::Closed { why: Closed::SequenceExhausted, .. })), "{why:?}");
    assert_eq!(ends.endpoint.send(ends.now, session, b"none"), Err(SendFault::Gone));
    ends.exchange();
    let received: Vec<_> = std::iter::from_fn(|| ends.client.poll_event()).collect();
    assert_eq!(received.iter().filter(|event| matches!(event, ClientEvent::Data { .. })).count(), 1, "{received:?}");
}

#[test]
fn d11_a_client_ends_its_session_as_well_and_repeats_nothing_under_a_used_number() {
    let mut ends = Ends::established();
    ends.client.use_up_sequence();
    assert_eq!(ends.client.send(ends.now, b"last"), Ok(()));
    assert_eq!(ends.client.send(ends.now, b"none"), Err(SendFault::SequenceExhausted));
    assert_eq!(ends.client.send(ends.now, b"none"), Err(SendFault::Gone));
    let sent: Vec<_> = std::iter::from_fn(|| ends.client.poll_transmit().map(<[u8]>::to_vec)).collect();
    assert_eq!(sent.len(), 1);
}

#[test]
fn a_session_is_found_by_its_association_and_answers_go_to_the_path_it_keeps() {
    let mut ends = Ends::established();
    let session = ends.endpoint.sessions().next().unwrap();
    ends.client.send(ends.now, b"here").unwrap();
    let datagram = ends.client.poll_transmit().unwrap().to_vec();
    let elsewhere = [
        Path { socket: SocketIndex(1), ..ends.path },
        Path { local: Some("192.0.2.200".parse().unwrap()), ..ends.path },
        Path { peer: "192.0.2.1:5001".parse().unwrap(), ..ends.path },
    ];
    for path in elsewhere {
        ends.endpoint.handle_datagram(ends.now, path, &mut datagram.clone());
    }
    assert_eq!(ends.endpoint.drops().count(DropReason::NoAssociation), 3);
    while ends.endpoint.poll_event().is_some() {}
    ends.endpoint.handle_datagram(ends.now, ends.path, &mut datagram.clone());
    assert!(matches!(ends.endpoint.poll_event(), Some(Event::Data { session: of, .. }) if of == session));
    ends.endpoint.send(ends.now, session, b"there").unwrap();
    assert_eq!(ends.endpoint.poll_transmit().map(|transmit| transmit.path), Some(ends.path));
    assert_eq!(ends.endpoint.path(session), Some(ends.path));
}
