//! Server side: all sessions of one shard.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::*;

/// Server side: all sessions of one shard.
pub struct Endpoint<V: VerifyPeer> { config: Arc<ServerConfig<V>> }

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A peer is authenticated.
    Established { session: SessionId, route: Route, peer: P, facts: SessionFacts },
    /// Application data: a range of the datagram just given.
    Data { session: SessionId, plaintext: Range<usize> },
    /// A session ended.
    Closed { session: SessionId, why: Closed },
    /// A handshake failed.
    Refused { route: Route, refusal: Refusal, offered: Offered },
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> { /// Where to.
    pub route: Route, /// UDP payload.
    pub bytes: &'a [u8] }

/// Whether new handshakes are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission { /// Yes.
    Open, /// No.
    Draining }

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCounts { /// Established.
    pub established: usize, /// Handshakes.
    pub half_open: usize }

#[allow(unused)]
impl<V: VerifyPeer> Endpoint<V> {
    pub fn new(config: Arc<ServerConfig<V>>, random: Arc<dyn Random>) -> Self { unimplemented!() }
    pub fn set_config(&mut self, config: Arc<ServerConfig<V>>) { unimplemented!() }
    pub fn handle_datagram(&mut self, now: Now, route: Route, datagram: &mut [u8]) { unimplemented!() }
    pub fn poll_event(&mut self) -> Option<Event<V::Peer>> { unimplemented!() }
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> { unimplemented!() }
    pub fn poll_public_key_job(&mut self) -> Option<PublicKeyJob<V>> { unimplemented!() }
    pub fn complete_public_key_job(&mut self, now: Now, done: PublicKeyDone<V>) { unimplemented!() }
    pub fn poll_timeout(&self) -> Option<Instant> { unimplemented!() }
    pub fn handle_timeout(&mut self, now: Now) { unimplemented!() }
    pub fn send(&mut self, now: Now, session: SessionId, plaintext: &[u8]) -> Result<(), SendFault> { unimplemented!() }
    pub fn plaintext_max(&self, session: SessionId) -> usize { unimplemented!() }
    pub fn close(&mut self, now: Now, session: SessionId) { unimplemented!() }
    pub fn peer(&self, session: SessionId) -> Option<&V::Peer> { unimplemented!() }
    pub fn facts(&self, session: SessionId) -> Option<SessionFacts> { unimplemented!() }
    pub fn route(&self, session: SessionId) -> Option<Route> { unimplemented!() }
    pub fn refuse_new(&mut self, refuse: Admission) { unimplemented!() }
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ { std::iter::empty() }
    pub fn counts(&self) -> SessionCounts { unimplemented!() }
    pub fn drops(&self) -> &DropCounters { unimplemented!() }
    pub fn set_observer(&mut self, observer: Option<Arc<dyn Observer>>) { unimplemented!() }
}
