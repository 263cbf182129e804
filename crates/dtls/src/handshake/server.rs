//! One handshake, server side.
//!
//! ```text
//!   Client                                        Server
//!   ClientHello (no cookie)    ──────►            (cookie, by `endpoint`; nothing is kept)
//!                              ◄──────            HelloVerifyRequest
//!   ClientHello (cookie)       ──────►            ExpectClientHello
//!                                                 AwaitKeyExchange         ephemeral key and its signature are being made
//!                              ◄──────            ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone
//!   Certificate                ──────►            ExpectCertificate
//!   ClientKeyExchange          ──────►            ExpectClientKeyExchange
//!   CertificateVerify          ──────►            ExpectCertificateVerify
//!                                                 AwaitAuthentication      chain, signature and key agreement are being computed
//!   [ChangeCipherSpec]         ──────►            ExpectChangeCipherSpec
//!   Finished                   ──────►            ExpectFinished
//!                              ◄──────            [ChangeCipherSpec], Finished      Established
//! ```
//!
//! Each state is a struct that its handler consumes. A state knows what it expects and holds what has been established so far;
//! `ExpectFinished` can only be reached through all the other states. Messages that arrive while a state waits for a public-key step stay in
//! reassembly.

mod authentication;
mod client_hello;
mod context;
mod finished;
mod key_exchange;

use std::sync::Arc;
use std::time::Instant;

use super::advance::{Awaited, Progress, States, advance};
use super::conversation::Conversation;
use super::public_key::{AuthenticationRefusal, Computed, Work};
use super::reassembly::HandshakeMessage;
use super::terms::{Numbering, Terms};
use crate::config::ServerConfig;
use crate::cookie::Promise;
use crate::limits::HANDSHAKE_MESSAGE_BYTES_MAX;
use crate::port::Port;
use crate::record::Record;
use crate::refusal::HandshakeRefusal;
use crate::verify::{Account, VerifyPeer};
use crate::wire::{CertificateChain, Epoch, Fragment, HandshakeType, Offered};
use authentication::{AwaitAuthentication, ExpectCertificate, ExpectCertificateVerify, ExpectClientKeyExchange};
use client_hello::ExpectClientHello;
use context::ServerContext;
use finished::{ExpectChangeCipherSpec, ExpectFinished};
use key_exchange::AwaitKeyExchange;

/// One handshake in progress. Its owner boxes it, and frees it as soon as it ends.
pub(crate) struct ServerHandshake<V: VerifyPeer> {
    conversation: Conversation,
    state: ServerHandshakeState<V>,
    offered: Offered,
    /// Further refusals that the ClientHello would have met.
    further: Vec<HandshakeRefusal>,
    /// Details for the report if the handshake fails.
    account: Account,
    config: Arc<ServerConfig<V>>,
}

/// The progress of a client. What it sends before its CertificateVerify proves nothing: anybody can copy a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientStage {
    /// A part of its hello is missing.
    Hello,
    /// Its hello is being answered or has been answered, and no message of its next flight has arrived.
    Answered,
    /// It has shown a chain.
    Shown,
    /// It has proven that it has the key of its certificate.
    Proven,
}

enum ServerHandshakeState<V: VerifyPeer> {
    ExpectClientHello(ExpectClientHello),
    AwaitKeyExchange(AwaitKeyExchange),
    ExpectCertificate(ExpectCertificate),
    ExpectClientKeyExchange(ExpectClientKeyExchange),
    ExpectCertificateVerify(ExpectCertificateVerify),
    AwaitAuthentication(AwaitAuthentication),
    ExpectChangeCipherSpec(ExpectChangeCipherSpec<V::Proven>),
    ExpectFinished(ExpectFinished<V::Proven>),
    /// Between two states, and after the last one.
    Over,
}

impl<V: VerifyPeer> ServerHandshake<V> {
    /// Begins with a ClientHello, or its first fragment, whose cookie has been verified.
    pub(crate) fn new(
        config: Arc<ServerConfig<V>>,
        hello: &Fragment<'_>,
        promise: Promise,
        record_sequence: u64,
        now: Instant,
    ) -> Self {
        let limits = &config.limits;
        let terms = Terms {
            mtu: limits.mtu,
            message_bytes_max: HANDSHAKE_MESSAGE_BYTES_MAX,
            retransmission_initial: limits.retransmission_initial,
            handshake_deadline: limits.handshake_deadline,
        };
        let numbering =
            Numbering { record_sequence, own_message_seq: hello.message_seq, peer_message_seq: hello.message_seq };
        Self {
            conversation: Conversation::new(terms, numbering, now),
            state: ServerHandshakeState::ExpectClientHello(ExpectClientHello { promise }),
            offered: Offered::default(),
            further: Vec::new(),
            account: Account::default(),
            config,
        }
    }

    /// Takes a fragment of the ClientHello.
    pub(crate) fn handle_hello(
        &mut self,
        fragment: &Fragment<'_>,
        port: &mut Port<'_>,
    ) -> Result<Progress<V::Proven, Work<V>>, HandshakeRefusal> {
        self.conversation.handle_fragment(fragment, Epoch::PLAINTEXT, port);
        advance(self, port)
    }

    /// Whether a ClientHello with this message_seq has been answered already.
    pub(crate) fn has_taken(&self, message_seq: u16) -> bool {
        !matches!(self.state, ServerHandshakeState::ExpectClientHello(_))
            || message_seq != self.conversation.next_received_seq()
    }

    /// The client repeated its ClientHello.
    pub(crate) fn note_repeated_hello(&mut self) {
        self.conversation.note_repetition();
    }

    pub(crate) fn handle_record(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<Progress<V::Proven, Work<V>>, HandshakeRefusal> {
        self.conversation.handle_record(record, payload, port)?;
        advance(self, port)
    }

    /// Called after the records of a datagram.
    pub(crate) fn after_datagram(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.answer_repetition(port)
    }

    /// Takes the result of a public-key step.
    pub(crate) fn resume(
        &mut self,
        outcome: Computed<V>,
        port: &mut Port<'_>,
    ) -> Result<Progress<V::Proven, Work<V>>, HandshakeRefusal> {
        let (state, mut context) = self.take_state(port);
        let context = &mut context;
        self.state = match (state, outcome) {
            (ServerHandshakeState::AwaitKeyExchange(state), Computed::KeyExchange(done)) => {
                ServerHandshakeState::ExpectCertificate(state.handle(done?, context)?)
            }
            (ServerHandshakeState::AwaitAuthentication(state), Computed::Authentication(Ok(done))) => {
                ServerHandshakeState::ExpectChangeCipherSpec(state.handle(done, context)?)
            }
            (
                ServerHandshakeState::AwaitAuthentication(_),
                Computed::Authentication(Err(AuthenticationRefusal { refusal, account })),
            ) => {
                *context.account = account;
                return Err(refusal);
            }
            // A job is handed out once for each awaiting state, and its generation has been checked.
            (state, _) => {
                debug_assert!(false, "the result of another step");
                state
            }
        };
        advance(self, port)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.conversation.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.handle_timeout(self.expected(), port)
    }

    /// Sends the client the alert that ends the handshake. Our side protects nothing before its Finished, and
    /// then the handshake is complete.
    pub(crate) fn refuse(&mut self, refusal: &HandshakeRefusal, port: &mut Port<'_>) {
        if let Some(description) = refusal.alert() {
            self.conversation.send_last_alert(description, false, port);
        }
    }

    /// The reduced datagram size, if datagrams were reduced.
    pub(crate) fn narrowed_to(&self) -> Option<usize> {
        self.conversation.narrowed_to()
    }

    /// The refusal for a handshake that has run out of time.
    pub(crate) fn timed_out(&self) -> HandshakeRefusal {
        HandshakeRefusal::TimedOut { expected: self.expected() }
    }

    pub(crate) const fn stage(&self) -> ClientStage {
        match self.state {
            ServerHandshakeState::ExpectClientHello(_) => ClientStage::Hello,
            ServerHandshakeState::AwaitKeyExchange(_) | ServerHandshakeState::ExpectCertificate(_) => {
                ClientStage::Answered
            }
            ServerHandshakeState::ExpectClientKeyExchange(_)
            | ServerHandshakeState::ExpectCertificateVerify(_)
            | ServerHandshakeState::AwaitAuthentication(_)
            | ServerHandshakeState::Over => ClientStage::Shown,
            ServerHandshakeState::ExpectChangeCipherSpec(_) | ServerHandshakeState::ExpectFinished(_) => {
                ClientStage::Proven
            }
        }
    }

    /// The certificate that has been proven, if any, as the verifier numbers it.
    pub(crate) fn holder(&self) -> Option<u64> {
        match &self.state {
            ServerHandshakeState::ExpectChangeCipherSpec(state) => Some(V::holder(state.proven())),
            ServerHandshakeState::ExpectFinished(state) => Some(V::holder(state.proven())),
            _ => None,
        }
    }

    /// Number of flights sent so far, repetitions included, and the time of the last one.
    pub(crate) fn flights_sent(&self) -> (u8, Option<Instant>) {
        self.conversation.flights_sent()
    }

    /// The configuration that the handshake began under.
    pub(crate) const fn config(&self) -> &Arc<ServerConfig<V>> {
        &self.config
    }

    /// What the client offered, as far as it is known, and further refusals that the offer would have met.
    pub(crate) fn into_offered(self) -> (Offered, Vec<HandshakeRefusal>, Account) {
        let mut account = self.account;
        if account.claimed.is_none() {
            account.claimed = match &self.state {
                ServerHandshakeState::ExpectClientKeyExchange(state) => {
                    claimed(&*self.config.verifier, state.chain(), self.conversation.transcript.bytes())
                }
                ServerHandshakeState::ExpectCertificateVerify(state) => {
                    claimed(&*self.config.verifier, state.chain(), self.conversation.transcript.bytes())
                }
                ServerHandshakeState::ExpectChangeCipherSpec(state) => self.config.verifier.claimed_by(state.proven()),
                ServerHandshakeState::ExpectFinished(state) => self.config.verifier.claimed_by(state.proven()),
                ServerHandshakeState::ExpectClientHello(_)
                | ServerHandshakeState::AwaitKeyExchange(_)
                | ServerHandshakeState::ExpectCertificate(_)
                | ServerHandshakeState::AwaitAuthentication(_)
                | ServerHandshakeState::Over => None,
            };
        }
        (self.offered, self.further, account)
    }

    /// Takes the server_name that the client sent, which the handshake needs no more.
    pub(crate) fn take_server_name(&mut self) -> Option<Box<str>> {
        self.offered.server_name.take()
    }

    /// The state, to be consumed, and the context that its handler works on.
    fn take_state<'a, 'p>(&'a mut self, port: &'a mut Port<'p>) -> (ServerHandshakeState<V>, ServerContext<'a, 'p, V>) {
        let state = std::mem::replace(&mut self.state, ServerHandshakeState::Over);
        let context = ServerContext {
            conversation: &mut self.conversation,
            config: &self.config,
            offered: &mut self.offered,
            further: &mut self.further,
            account: &mut self.account,
            port,
        };
        (state, context)
    }

    /// The message that is expected, for refusals.
    fn expected(&self) -> HandshakeType {
        match self.state {
            ServerHandshakeState::ExpectClientHello(_) => HandshakeType::CLIENT_HELLO,
            ServerHandshakeState::AwaitKeyExchange(_) | ServerHandshakeState::ExpectCertificate(_) => {
                HandshakeType::CERTIFICATE
            }
            ServerHandshakeState::ExpectClientKeyExchange(_) => HandshakeType::CLIENT_KEY_EXCHANGE,
            ServerHandshakeState::ExpectCertificateVerify(_) => HandshakeType::CERTIFICATE_VERIFY,
            ServerHandshakeState::AwaitAuthentication(_)
            | ServerHandshakeState::ExpectChangeCipherSpec(_)
            | ServerHandshakeState::ExpectFinished(_)
            | ServerHandshakeState::Over => HandshakeType::FINISHED,
        }
    }
}

impl<V: VerifyPeer> States for ServerHandshake<V> {
    type Proven = V::Proven;
    type Work = Work<V>;

    fn awaited(&self) -> Awaited {
        match self.state {
            ServerHandshakeState::ExpectChangeCipherSpec(_) => Awaited::ChangeCipherSpec,
            ServerHandshakeState::AwaitKeyExchange(_)
            | ServerHandshakeState::AwaitAuthentication(_)
            | ServerHandshakeState::Over => Awaited::Nothing,
            ServerHandshakeState::ExpectClientHello(_)
            | ServerHandshakeState::ExpectCertificate(_)
            | ServerHandshakeState::ExpectClientKeyExchange(_)
            | ServerHandshakeState::ExpectCertificateVerify(_)
            | ServerHandshakeState::ExpectFinished(_) => Awaited::Message,
        }
    }

    fn conversation(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    fn change_cipher_spec(&mut self) {
        if let ServerHandshakeState::ExpectChangeCipherSpec(state) =
            std::mem::replace(&mut self.state, ServerHandshakeState::Over)
        {
            self.state = ServerHandshakeState::ExpectFinished(state.handle());
        }
    }

    fn handle_message(
        &mut self,
        message: &HandshakeMessage,
        port: &mut Port<'_>,
    ) -> Result<Progress<V::Proven, Work<V>>, HandshakeRefusal> {
        let expected = self.expected();
        if message.kind != expected {
            return Err(HandshakeRefusal::UnexpectedMessage { message: message.kind, expected });
        }
        let (state, mut context) = self.take_state(port);
        let context = &mut context;
        let (state, progress) = match state {
            ServerHandshakeState::ExpectClientHello(state) => {
                let (state, work) = state.handle(message, context)?;
                (ServerHandshakeState::AwaitKeyExchange(state), Progress::Work(Work::KeyExchange(work)))
            }
            ServerHandshakeState::ExpectCertificate(state) => {
                (ServerHandshakeState::ExpectClientKeyExchange(state.handle(message, context)?), Progress::Waiting)
            }
            ServerHandshakeState::ExpectClientKeyExchange(state) => {
                (ServerHandshakeState::ExpectCertificateVerify(state.handle(message, context)?), Progress::Waiting)
            }
            ServerHandshakeState::ExpectCertificateVerify(state) => {
                let (state, work) = state.handle(message, context)?;
                (ServerHandshakeState::AwaitAuthentication(state), Progress::Work(Work::Authentication(work)))
            }
            ServerHandshakeState::ExpectFinished(state) => {
                return state.handle(message, context).map(Progress::Established);
            }
            ServerHandshakeState::AwaitKeyExchange(_)
            | ServerHandshakeState::AwaitAuthentication(_)
            | ServerHandshakeState::ExpectChangeCipherSpec(_)
            | ServerHandshakeState::Over => {
                return Err(HandshakeRefusal::UnexpectedMessage { message: message.kind, expected });
            }
        };
        self.state = state;
        Ok(progress)
    }
}

/// The identity that the leaf of a chain names.
fn claimed<V: VerifyPeer>(verifier: &V, chain: &CertificateChain, bytes: &[u8]) -> Option<Box<str>> {
    chain.with_slices(bytes, |chain| chain.first().and_then(|leaf| verifier.claimed(leaf)))
}
