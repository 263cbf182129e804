//! One handshake, client side.
//!
//! ```text
//!   Client                                        Server
//!   ClientHello                ──────►
//!                              ◄──────            HelloVerifyRequest             ExpectServerHello (and asks again)
//!   ClientHello (cookie)       ──────►
//!                              ◄──────            ServerHello                    ExpectServerHello
//!                              ◄──────            Certificate                    ExpectCertificate
//!                              ◄──────            ServerKeyExchange              ExpectServerKeyExchange
//!                              ◄──────            CertificateRequest, if any     ExpectCertificateRequest
//!                              ◄──────            ServerHelloDone                ExpectServerHelloDone
//!   Certificate, ClientKeyExchange, CertificateVerify, [ChangeCipherSpec], Finished  ──────►
//!                              ◄──────            [ChangeCipherSpec]             ExpectChangeCipherSpec
//!                              ◄──────            Finished                       ExpectFinished
//! ```
//!
//! The server is judged as soon as its key exchange has arrived; before that we send nothing but hellos.

mod client_flight;
mod context;
mod introduced_server;
mod server_flight;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use super::advance::{Awaited, Progress, States, advance};
use super::conversation::Conversation;
use super::reassembly::HandshakeMessage;
use super::terms::{Numbering, Terms};
use crate::config::ClientConfig;
use crate::port::Port;
use crate::record::Record;
use crate::refusal::HandshakeRefusal;
use crate::verify::{Account, VerifyPeer};
use crate::wire::HandshakeType;
use client_flight::{ExpectChangeCipherSpec, ExpectFinished};
use context::Context;
use server_flight::{
    ExpectCertificate, ExpectCertificateRequest, ExpectServerHello, ExpectServerHelloDone, ExpectServerKeyExchange,
};

pub use client_flight::IdentityUse;
pub(crate) use client_flight::MetServer;

/// One handshake in progress.
pub(crate) struct Handshake<V: VerifyPeer> {
    conversation: Conversation,
    state: State<V::Proven>,
    /// Details for the report if the handshake fails.
    account: Account,
    config: Arc<ClientConfig<V>>,
}

enum State<P> {
    ExpectServerHello(ExpectServerHello),
    ExpectCertificate(ExpectCertificate),
    ExpectServerKeyExchange(Box<ExpectServerKeyExchange>),
    ExpectCertificateRequest(ExpectCertificateRequest<P>),
    ExpectServerHelloDone(ExpectServerHelloDone<P>),
    ExpectChangeCipherSpec(ExpectChangeCipherSpec<P>),
    ExpectFinished(ExpectFinished<P>),
    /// Between two states, and after the last one.
    Over,
}

impl<V: VerifyPeer> Handshake<V> {
    /// Sends the first ClientHello. Nothing was sent before it, so a sequence number is available.
    pub(crate) fn new(config: Arc<ClientConfig<V>>, port: &mut Port<'_>) -> Self {
        let terms = Terms {
            mtu: config.mtu,
            message_bytes_max: config.message_bytes_max,
            retransmission_initial: config.retransmission_initial,
            handshake_deadline: config.handshake_deadline,
        };
        let numbering = Numbering { record_sequence: 0, own_message_seq: 0, peer_message_seq: 0 };
        let mut conversation = Conversation::new(terms, numbering, port.now.mono);
        let mut account = Account::default();
        let context = &mut Context { conversation: &mut conversation, config: &config, account: &mut account, port };
        let state = ExpectServerHello::begin(context).map_or(State::Over, State::ExpectServerHello);
        Self { conversation, state, account, config }
    }

    pub(crate) fn handle_record(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<Progress<MetServer<V::Proven>, Infallible>, HandshakeRefusal> {
        self.conversation.handle_record(record, payload, port)?;
        advance(self, port)
    }

    /// Called after the records of a datagram.
    pub(crate) fn after_datagram(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.answer_repetition(port)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.conversation.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.handle_timeout(self.expected(), port)
    }

    /// The server's Finished is verified: the verifier may now remember the server.
    pub(crate) fn admit(&self, proven: V::Proven) -> V::Peer {
        self.config.verifier.admit(proven)
    }

    /// Details for the report beyond the refusal.
    pub(crate) fn take_account(&mut self) -> Account {
        std::mem::take(&mut self.account)
    }

    /// Sends the server the alert that ends the handshake: protected, once our ChangeCipherSpec has been
    /// sent.
    pub(crate) fn refuse(&mut self, refusal: &HandshakeRefusal, port: &mut Port<'_>) {
        let protect = matches!(self.expected(), HandshakeType::FINISHED);
        if let Some(description) = refusal.alert() {
            self.conversation.send_last_alert(description, protect, port);
        }
    }

    /// The message that is expected next.
    fn expected(&self) -> HandshakeType {
        match self.state {
            State::ExpectServerHello(_) => HandshakeType::SERVER_HELLO,
            State::ExpectCertificate(_) => HandshakeType::CERTIFICATE,
            State::ExpectServerKeyExchange(_) => HandshakeType::SERVER_KEY_EXCHANGE,
            State::ExpectCertificateRequest(_) => HandshakeType::CERTIFICATE_REQUEST,
            State::ExpectServerHelloDone(_) => HandshakeType::SERVER_HELLO_DONE,
            State::ExpectChangeCipherSpec(_) | State::ExpectFinished(_) | State::Over => HandshakeType::FINISHED,
        }
    }
}

impl<V: VerifyPeer> States for Handshake<V> {
    type Proven = MetServer<V::Proven>;
    /// A client runs its public-key steps at once.
    type Work = Infallible;

    fn awaited(&self) -> Awaited {
        match self.state {
            State::ExpectChangeCipherSpec(_) => Awaited::ChangeCipherSpec,
            State::Over => Awaited::Nothing,
            State::ExpectServerHello(_)
            | State::ExpectCertificate(_)
            | State::ExpectServerKeyExchange(_)
            | State::ExpectCertificateRequest(_)
            | State::ExpectServerHelloDone(_)
            | State::ExpectFinished(_) => Awaited::Message,
        }
    }

    fn conversation(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    fn change_cipher_spec(&mut self) {
        if let State::ExpectChangeCipherSpec(state) = std::mem::replace(&mut self.state, State::Over) {
            self.state = State::ExpectFinished(state.handle());
        }
    }

    fn handle_message(
        &mut self,
        message: &HandshakeMessage,
        port: &mut Port<'_>,
    ) -> Result<Progress<MetServer<V::Proven>, Infallible>, HandshakeRefusal> {
        // "This message will be ignored by the client if the client is currently negotiating a session", and it is left out of the transcript
        // (RFC 5246 §7.4.1.1).
        if message.kind == HandshakeType::HELLO_REQUEST {
            return Ok(Progress::Waiting);
        }
        let expected = self.expected();
        let state = std::mem::replace(&mut self.state, State::Over);
        let context = &mut Context {
            conversation: &mut self.conversation,
            config: self.config.as_ref(),
            account: &mut self.account,
            port,
        };
        self.state = match (state, message.kind) {
            (State::ExpectServerHello(state), HandshakeType::HELLO_VERIFY_REQUEST) => {
                State::ExpectServerHello(state.ask_again(message, context)?)
            }
            (State::ExpectCertificateRequest(state), HandshakeType::SERVER_HELLO_DONE) => {
                State::ExpectChangeCipherSpec(state.unasked().handle(message, context)?)
            }
            // The state is Over here: an unexpected message ends the handshake.
            (_, unexpected) if unexpected != expected => {
                return Err(HandshakeRefusal::UnexpectedMessage { message: unexpected, expected });
            }
            (State::ExpectServerHello(state), _) => State::ExpectCertificate(state.handle(message, context)?),
            (State::ExpectCertificate(state), _) => State::ExpectServerKeyExchange(state.handle(message, context)?),
            (State::ExpectServerKeyExchange(state), _) => {
                State::ExpectCertificateRequest(state.handle(message, context)?)
            }
            (State::ExpectCertificateRequest(state), _) => {
                State::ExpectServerHelloDone(state.handle(message, context)?)
            }
            (State::ExpectServerHelloDone(state), _) => State::ExpectChangeCipherSpec(state.handle(message, context)?),
            (State::ExpectFinished(state), _) => return state.handle(message, context).map(Progress::Established),
            (State::ExpectChangeCipherSpec(_) | State::Over, unexpected) => {
                return Err(HandshakeRefusal::UnexpectedMessage { message: unexpected, expected });
            }
        };
        Ok(Progress::Waiting)
    }
}
