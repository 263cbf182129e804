//! Client side.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::*;

/// Client side: one association.
pub struct Client<V: VerifyPeer> { config: Arc<ClientConfig<V>> }

/// What happened.
#[derive(Clone, Debug)]
pub enum ClientEvent<P> {
    /// The server is authenticated.
    Established { peer: P, facts: SessionFacts },
    /// Application data: a range of the datagram just given.
    Data { plaintext: Range<usize> },
    /// The session ended.
    Closed { why: Closed },
    /// The handshake failed.
    Failed { refusal: Refusal },
}

#[allow(unused)]
impl<V: VerifyPeer> Client<V> {
    pub fn new(config: Arc<ClientConfig<V>>, random: Arc<dyn Random>, now: Now) -> Self { unimplemented!() }
    pub fn handle_datagram(&mut self, now: Now, datagram: &mut [u8]) { unimplemented!() }
    pub fn poll_event(&mut self) -> Option<ClientEvent<V::Peer>> { unimplemented!() }
    pub fn poll_transmit(&mut self) -> Option<&[u8]> { unimplemented!() }
    pub fn poll_timeout(&self) -> Option<Instant> { unimplemented!() }
    pub fn handle_timeout(&mut self, now: Now) { unimplemented!() }
    pub fn send(&mut self, now: Now, plaintext: &[u8]) -> Result<(), SendFault> { unimplemented!() }
    pub fn plaintext_max(&self) -> usize { unimplemented!() }
    pub fn close(&mut self, now: Now) { unimplemented!() }
    pub fn peer(&self) -> Option<&V::Peer> { unimplemented!() }
    pub fn facts(&self) -> Option<SessionFacts> { unimplemented!() }
    pub fn drops(&self) -> &DropCounters { unimplemented!() }
    pub fn set_observer(&mut self, observer: Option<Arc<dyn Observer>>) { unimplemented!() }
}
