//! The ends of an association, ours and those of `rtc-dtls`, behind one interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use dtls::{Client, ClientEvent, Closed, Endpoint, Event, HandshakeRefusal, Now, SessionFacts};
use rtc_dtls::config::HandshakeConfig;
use rtc_dtls::endpoint::EndpointEvent;

use crate::support::{Known, PeerEvent, ServerEvent, path};

/// What a wire needs from an end.
pub trait End {
    fn handle(&mut self, now: Now, datagram: &[u8]);
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Now);
    fn is_established(&self) -> bool;
    fn send(&mut self, now: Now, plaintext: &[u8]);
    fn close(&mut self, now: Now);
    /// Application data that arrived, in order.
    fn received(&self) -> &[Vec<u8>];
    /// Whether the peer's close_notify has arrived.
    fn is_closed_by_peer(&self) -> bool;
    /// The errors that it reports, as text.
    fn faults(&self) -> Vec<String>;
}

/// Our server, and what it reports about its only peer.
pub struct OurServer {
    pub endpoint: Endpoint<Known>,
    pub events: Vec<ServerEvent>,
    received: Vec<Vec<u8>>,
}

impl OurServer {
    pub fn new(endpoint: Endpoint<Known>) -> Self {
        Self { endpoint, events: Vec::new(), received: Vec::new() }
    }

    pub fn facts(&self) -> SessionFacts {
        self.endpoint.facts(self.endpoint.sessions().next().unwrap()).unwrap()
    }

    /// The leaf that the client showed.
    pub fn peer(&self) -> &[u8] {
        self.endpoint.peer(self.endpoint.sessions().next().unwrap()).unwrap()
    }

    /// The name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.events.iter().find_map(|event| match event {
            Event::Established { server_name, .. } => server_name.as_deref(),
            _ => None,
        })
    }

    pub fn refusals(&self) -> Vec<HandshakeRefusal> {
        let refused = |event: &ServerEvent| match event {
            Event::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        };
        self.events.iter().filter_map(refused).collect()
    }
}

impl End for OurServer {
    fn handle(&mut self, now: Now, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.endpoint.handle_datagram(now, path(40_000), &mut datagram);
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Data { plaintext, .. } = &event {
                self.received.push(datagram[plaintext.clone()].to_vec());
            }
            self.events.push(event);
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.bytes.to_vec())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now);
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
    }

    fn is_established(&self) -> bool {
        self.endpoint.counts().established == 1
    }

    fn send(&mut self, now: Now, plaintext: &[u8]) {
        let session = self.endpoint.sessions().next().unwrap();
        self.endpoint.send(now, session, plaintext).unwrap();
    }

    fn close(&mut self, now: Now) {
        let session = self.endpoint.sessions().next().unwrap();
        self.endpoint.close(now, session);
    }

    fn received(&self) -> &[Vec<u8>] {
        &self.received
    }

    fn is_closed_by_peer(&self) -> bool {
        matches!(self.events.last(), Some(Event::Closed { why: Closed::ByPeer, .. }))
    }

    fn faults(&self) -> Vec<String> {
        self.refusals().iter().map(|refusal| format!("{refusal:?}")).collect()
    }
}

/// Our client, and what it reports.
pub struct OurClient {
    pub client: Client<Known>,
    pub events: Vec<PeerEvent>,
    received: Vec<Vec<u8>>,
}

impl OurClient {
    pub fn new(client: Client<Known>) -> Self {
        Self { client, events: Vec::new(), received: Vec::new() }
    }

    pub fn refusals(&self) -> Vec<HandshakeRefusal> {
        let refused = |event: &PeerEvent| match event {
            ClientEvent::Failed { refusal, .. } => Some(*refusal),
            _ => None,
        };
        self.events.iter().filter_map(refused).collect()
    }
}

impl End for OurClient {
    fn handle(&mut self, now: Now, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.client.handle_datagram(now, &mut datagram);
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Data { plaintext } = &event {
                self.received.push(datagram[plaintext.clone()].to_vec());
            }
            self.events.push(event);
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.client.poll_transmit().map(<[u8]>::to_vec)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.client.handle_timeout(now);
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
    }

    fn is_established(&self) -> bool {
        self.client.facts().is_some()
    }

    fn send(&mut self, now: Now, plaintext: &[u8]) {
        self.client.send(now, plaintext).unwrap();
    }

    fn close(&mut self, now: Now) {
        self.client.close(now);
    }

    fn received(&self) -> &[Vec<u8>] {
        &self.received
    }

    fn is_closed_by_peer(&self) -> bool {
        matches!(self.events.last(), Some(ClientEvent::Closed { why: Closed::ByPeer }))
    }

    fn faults(&self) -> Vec<String> {
        self.refusals().iter().map(|refusal| format!("{refusal:?}")).collect()
    }
}

/// An endpoint of `rtc-dtls` with its only association, as server or client.
pub struct Rtc {
    endpoint: rtc_dtls::endpoint::Endpoint,
    peer: SocketAddr,
    is_established: bool,
    is_closed_by_peer: bool,
    received: Vec<Vec<u8>>,
    faults: Vec<String>,
}

impl Rtc {
    fn new(server: Option<HandshakeConfig>) -> Self {
        let own = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000));
        Self {
            endpoint: rtc_dtls::endpoint::Endpoint::new(own, Default::default(), server.map(Arc::new)),
            peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 254), 5_684)),
            is_established: false,
            is_closed_by_peer: false,
            received: Vec::new(),
            faults: Vec::new(),
        }
    }

    pub fn listen(config: HandshakeConfig) -> Self {
        Self::new(Some(config))
    }

    pub fn connect(config: HandshakeConfig, now: Now) -> Self {
        let mut client = Self::new(None);
        client.endpoint.connect(now.mono, client.peer, Arc::new(config), None).unwrap();
        client
    }

    /// The chain that the peer showed.
    pub fn peer_chain(&self) -> &[Vec<u8>] {
        &self.endpoint.get_connection_state(self.peer).unwrap().peer_certificates
    }
}

impl End for Rtc {
    fn handle(&mut self, now: Now, datagram: &[u8]) {
        match self.endpoint.read(now.mono, self.peer, None, datagram.into()) {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => self.is_established = true,
                        EndpointEvent::ApplicationData(data) => self.received.push(data.to_vec()),
                        EndpointEvent::PeerClosed => self.is_closed_by_peer = true,
                        _ => self.faults.push("an unknown event".to_owned()),
                    }
                }
            }
            Err(fault) => self.faults.push(fault.to_string()),
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&self.peer)
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_some_and(|due| due <= now.mono)
            && let Err(fault) = self.endpoint.handle_timeout(self.peer, now.mono)
        {
            self.faults.push(fault.to_string());
        }
    }

    fn is_established(&self) -> bool {
        self.is_established
    }

    fn send(&mut self, now: Now, plaintext: &[u8]) {
        self.endpoint.write(now.mono, self.peer, plaintext).unwrap();
    }

    fn close(&mut self, now: Now) {
        self.endpoint.stop(now.mono, self.peer).unwrap();
    }

    fn received(&self) -> &[Vec<u8>] {
        &self.received
    }

    fn is_closed_by_peer(&self) -> bool {
        self.is_closed_by_peer
    }

    fn faults(&self) -> Vec<String> {
        self.faults.clone()
    }
}
