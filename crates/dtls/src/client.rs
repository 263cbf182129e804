//! Client side: one association with one server.
//!
//! The handshake is in `handshake::client` and its states; records, flights, transcript and established session are shared with the
//! server side.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::config::ClientConfig;
use crate::drops::{DropCounters, DropReason};
use crate::handshake::advance::Progress;
use crate::handshake::client::{ClientHandshake, IdentityUse, MetServer};
use crate::handshake::established::Established;
use crate::observer::{Direction, Observer, TraceEvent};
use crate::port::Outside;
use crate::random::Random;
use crate::record::{Record, Records, Role};
use crate::refusal::HandshakeRefusal;
use crate::session::{Closed, RecordEffect, SendFault, Session, SessionFacts};
use crate::time::Now;
use crate::verify::{Account, VerifyPeer};

/// Client side: one association, from its first ClientHello to its end.
///
/// After each call that takes a `Now`, drain `poll_event` and `poll_transmit`, and ask `poll_timeout` when to call `handle_timeout`.
pub struct Client<V: VerifyPeer> {
    state: ClientState<V>,
    outside: Outside,
    events: VecDeque<ClientEvent<V::Peer>>,
}

enum ClientState<V: VerifyPeer> {
    Handshaking(Box<ClientHandshake<V>>),
    Established(Box<Session<V::Peer>>),
    Over,
}

/// What happened to the association of a [`Client`].
#[derive(Clone, Debug)]
pub enum ClientEvent<P> {
    /// The server is authenticated; `send` works from now on.
    Established {
        /// What the verifier knows about the server.
        peer: P,
        /// Cipher suite and channel bindings.
        facts: SessionFacts,
        /// Whether the server asked for the client's certificate, and what it got.
        identity: IdentityUse,
    },
    /// Application data arrived.
    Data {
        /// Range of the plaintext in the datagram that was just given to `handle_datagram`.
        plaintext: Range<usize>,
    },
    /// The session ended.
    Closed {
        /// The reason.
        why: Closed,
    },
    /// The handshake failed. A new `Client` may try again.
    Failed {
        /// The reason.
        refusal: HandshakeRefusal,
        /// Details of the fault.
        account: Account,
    },
}

impl<V: VerifyPeer> Client<V> {
    /// Begins a handshake: `poll_transmit` returns the first ClientHello.
    pub fn new(config: Arc<ClientConfig<V>>, random: Arc<dyn Random>, now: Now) -> Self {
        Self::with_observer(config, random, now, None)
    }

    /// As [`Client::new`], with an observer that sees the first datagram too.
    pub fn with_observer(
        config: Arc<ClientConfig<V>>,
        random: Arc<dyn Random>,
        now: Now,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let mut outside = Outside::new(random);
        outside.observer = observer;
        let handshake = ClientHandshake::new(config, &mut outside.port(now, None));
        Self { state: ClientState::Handshaking(Box::new(handshake)), outside, events: VecDeque::new() }
    }

    /// Takes a datagram and opens its records in place. Ranges in the events that follow index `datagram`.
    pub fn handle_datagram(&mut self, now: Now, datagram: &mut [u8]) {
        self.outside.port(now, None).trace(&TraceEvent::Datagram { direction: Direction::Received, bytes: datagram });
        let mut records = Records::new();
        while let Some(record) = records.next(datagram) {
            match record {
                Ok(record) => self.handle_record(now, &record, &mut datagram[record.payload.clone()]),
                Err(reason) => self.outside.port(now, None).drop(reason),
            }
        }
        if let ClientState::Handshaking(handshake) = &mut self.state
            && let Err(refusal) = handshake.after_datagram(&mut self.outside.port(now, None))
        {
            self.fail(now, refusal);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent<V::Peer>> {
        self.events.pop_front()
    }

    /// The next datagram to be sent to the server.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.outside.transmits.poll().map(|(_, bytes)| bytes)
    }

    /// When `handle_timeout` is due; `None` once the handshake is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            ClientState::Handshaking(handshake) => Some(handshake.poll_timeout()),
            ClientState::Established(_) | ClientState::Over => None,
        }
    }

    /// Retransmits, or gives up.
    pub fn handle_timeout(&mut self, now: Now) {
        if let ClientState::Handshaking(handshake) = &mut self.state
            && let Err(refusal) = handshake.handle_timeout(&mut self.outside.port(now, None))
        {
            self.fail(now, refusal);
        }
    }

    /// Sends `plaintext` as one record in one datagram.
    ///
    /// # Errors
    /// [`SendFault`]; after `SequenceExhausted` the session no longer exists.
    pub fn send(&mut self, now: Now, plaintext: &[u8]) -> Result<(), SendFault> {
        let ClientState::Established(session) = &mut self.state else { return Err(SendFault::Gone) };
        let sent = session.send(plaintext, &mut self.outside.port(now, None));
        if sent == Err(SendFault::SequenceExhausted) {
            self.end(Closed::SequenceExhausted);
        }
        sent
    }

    /// Bytes of plaintext that fit one datagram; 0 without a session.
    #[must_use]
    pub fn plaintext_max(&self) -> usize {
        self.session().map_or(0, |session| session.plaintext_max())
    }

    /// Sends close_notify and drops the session, or gives up a handshake in progress.
    pub fn close(&mut self, now: Now) {
        match &mut self.state {
            ClientState::Handshaking(_) => self.fail(now, HandshakeRefusal::Cancelled),
            ClientState::Established(session) => {
                session.close(&mut self.outside.port(now, None));
                self.end(Closed::ByUs);
            }
            ClientState::Over => {}
        }
    }

    /// Sets the state after 2^48 - 1 records.
    #[cfg(test)]
    pub(crate) fn use_up_sequence(&mut self) {
        if let ClientState::Established(session) = &mut self.state {
            session.use_up_sequence();
        }
    }

    /// What the verifier knows about the server.
    pub fn peer(&self) -> Option<&V::Peer> {
        self.session().map(Session::peer)
    }

    /// Cipher suite and channel bindings of the session.
    pub fn facts(&self) -> Option<SessionFacts> {
        self.session().map(Session::facts)
    }

    /// Counts of dropped input, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.outside.drops
    }

    /// Sets the observer. After `new` it sees everything but the first ClientHello.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn Observer>>) {
        self.outside.observer = observer;
    }

    fn session(&self) -> Option<&Session<V::Peer>> {
        match &self.state {
            ClientState::Established(session) => Some(session),
            ClientState::Handshaking(_) | ClientState::Over => None,
        }
    }

    fn handle_record(&mut self, now: Now, record: &Record, payload: &mut [u8]) {
        let mut port = self.outside.port(now, None);
        match &mut self.state {
            ClientState::Handshaking(handshake) => match handshake.handle_record(record, payload, &mut port) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Work(none)) => match none {},
                Ok(Progress::Established(established)) => {
                    let Established { proven: MetServer { proven, identity }, secured } = *established;
                    let peer = handshake.admit(proven);
                    let session = Session::new(secured, peer.clone(), now.mono);
                    let facts = session.facts();
                    self.state = ClientState::Established(Box::new(session));
                    self.events.push_back(ClientEvent::Established { peer, facts, identity });
                }
                Err(refusal) => self.fail(now, refusal),
            },
            ClientState::Established(session) => {
                match session.handle_record(Role::Client, record, payload, &mut port) {
                    RecordEffect::Nothing | RecordEffect::Forged | RecordEffect::Alive => {}
                    RecordEffect::Data(range) => {
                        let start = record.payload.start;
                        self.events.push_back(ClientEvent::Data { plaintext: start + range.start..start + range.end });
                    }
                    RecordEffect::Closed(why) => self.end(why),
                }
            }
            ClientState::Over => port.drop(DropReason::NoAssociation),
        }
    }

    fn fail(&mut self, now: Now, refusal: HandshakeRefusal) {
        if let ClientState::Handshaking(handshake) = &mut self.state {
            handshake.refuse(&refusal, &mut self.outside.port(now, None));
            let account = handshake.take_account();
            self.state = ClientState::Over;
            self.events.push_back(ClientEvent::Failed { refusal, account });
        }
    }

    fn end(&mut self, why: Closed) {
        self.state = ClientState::Over;
        self.events.push_back(ClientEvent::Closed { why });
    }
}
