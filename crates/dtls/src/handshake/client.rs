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
//! The server is judged as soon as its key exchange has arrived; before that we send nothing but hellos. A key exchange whose signature does not cover
//! this hello leads back from ExpectServerKeyExchange to ExpectServerHello, a few times.

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
use context::ClientContext;
use server_flight::{
    ExpectCertificate, ExpectCertificateRequest, ExpectServerHello, ExpectServerHelloDone, ExpectServerKeyExchange,
    Introduction,
};

pub use client_flight::IdentityUse;
pub(crate) use client_flight::MetServer;

/// One handshake in progress.
pub(crate) struct ClientHandshake<V: VerifyPeer> {
    conversation: Conversation,
    state: ClientHandshakeState<V::Proven>,
    /// Details for the report if the handshake fails.
    account: Account,
    config: Arc<ClientConfig<V>>,
}

enum ClientHandshakeState<P> {
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

impl<V: VerifyPeer> ClientHandshake<V> {
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
        let context =
            &mut ClientContext { conversation: &mut conversation, config: &config, account: &mut account, port };
        let state = ExpectServerHello::begin(context)
            .map_or(ClientHandshakeState::Over, ClientHandshakeState::ExpectServerHello);
        Self { conversation, state, account, config }
    }

    pub(crate) fn handle_record(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<Progress<MetServer<V::Proven>, Infallible>, HandshakeRefusal> {
        self.conversation.handle_record(record, payload, port)?;
        if self.conversation.take_contradiction() {
            self.doubt(port);
        }
        advance(self, port)
    }

    /// Two flights are mixed: until the server has signed for one of them, neither is believed.
    fn doubt(&mut self, port: &mut Port<'_>) {
        let sent = match std::mem::replace(&mut self.state, ClientHandshakeState::Over) {
            ClientHandshakeState::ExpectServerHello(sent) if sent.may_doubt() => sent,
            ClientHandshakeState::ExpectCertificate(state) if state.sent.may_doubt() => state.sent,
            ClientHandshakeState::ExpectServerKeyExchange(state) if state.sent.may_doubt() => state.sent,
            later => {
                self.state = later;
                return;
            }
        };
        let Self { conversation, account, config, .. } = self;
        let context = &mut ClientContext { conversation, config, account, port };
        self.state = ClientHandshakeState::ExpectServerHello(sent.doubt(context));
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
            ClientHandshakeState::ExpectServerHello(_) => HandshakeType::SERVER_HELLO,
            ClientHandshakeState::ExpectCertificate(_) => HandshakeType::CERTIFICATE,
            ClientHandshakeState::ExpectServerKeyExchange(_) => HandshakeType::SERVER_KEY_EXCHANGE,
            ClientHandshakeState::ExpectCertificateRequest(_) => HandshakeType::CERTIFICATE_REQUEST,
            ClientHandshakeState::ExpectServerHelloDone(_) => HandshakeType::SERVER_HELLO_DONE,
            ClientHandshakeState::ExpectChangeCipherSpec(_)
            | ClientHandshakeState::ExpectFinished(_)
            | ClientHandshakeState::Over => HandshakeType::FINISHED,
        }
    }
}

impl<V: VerifyPeer> States for ClientHandshake<V> {
    type Proven = MetServer<V::Proven>;
    /// A client runs its public-key steps at once.
    type Work = Infallible;

    fn awaited(&self) -> Awaited {
        match self.state {
            ClientHandshakeState::ExpectChangeCipherSpec(_) => Awaited::ChangeCipherSpec,
            ClientHandshakeState::Over => Awaited::Nothing,
            ClientHandshakeState::ExpectServerHello(_)
            | ClientHandshakeState::ExpectCertificate(_)
            | ClientHandshakeState::ExpectServerKeyExchange(_)
            | ClientHandshakeState::ExpectCertificateRequest(_)
            | ClientHandshakeState::ExpectServerHelloDone(_)
            | ClientHandshakeState::ExpectFinished(_) => Awaited::Message,
        }
    }

    fn conversation(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    fn change_cipher_spec(&mut self) {
        if let ClientHandshakeState::ExpectChangeCipherSpec(state) =
            std::mem::replace(&mut self.state, ClientHandshakeState::Over)
        {
            self.state = ClientHandshakeState::ExpectFinished(state.handle());
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
        let state = std::mem::replace(&mut self.state, ClientHandshakeState::Over);
        let context = &mut ClientContext {
            conversation: &mut self.conversation,
            config: self.config.as_ref(),
            account: &mut self.account,
            port,
        };
        self.state = match (state, message.kind) {
            (ClientHandshakeState::ExpectServerHello(state), HandshakeType::HELLO_VERIFY_REQUEST) => {
                ClientHandshakeState::ExpectServerHello(state.ask_again(message, context)?)
            }
            (ClientHandshakeState::ExpectCertificateRequest(state), HandshakeType::SERVER_HELLO_DONE) => {
                ClientHandshakeState::ExpectChangeCipherSpec(state.unasked().handle(message, context)?)
            }
            // The state is Over here: an unexpected message ends the handshake.
            (_, unexpected) if unexpected != expected => {
                return Err(HandshakeRefusal::UnexpectedMessage { message: unexpected, expected });
            }
            (ClientHandshakeState::ExpectServerHello(state), _) => {
                ClientHandshakeState::ExpectCertificate(state.handle(message, context)?)
            }
            (ClientHandshakeState::ExpectCertificate(state), _) => {
                ClientHandshakeState::ExpectServerKeyExchange(state.handle(message, context)?)
            }
            (ClientHandshakeState::ExpectServerKeyExchange(state), _) => match state.handle(message, context)? {
                Introduction::Server(state) => ClientHandshakeState::ExpectCertificateRequest(state),
                Introduction::Disproved(state) => ClientHandshakeState::ExpectServerHello(state),
            },
            (ClientHandshakeState::ExpectCertificateRequest(state), _) => {
                ClientHandshakeState::ExpectServerHelloDone(state.handle(message, context)?)
            }
            (ClientHandshakeState::ExpectServerHelloDone(state), _) => {
                ClientHandshakeState::ExpectChangeCipherSpec(state.handle(message, context)?)
            }
            (ClientHandshakeState::ExpectFinished(state), _) => {
                return state.handle(message, context).map(Progress::Established);
            }
            (ClientHandshakeState::ExpectChangeCipherSpec(_) | ClientHandshakeState::Over, unexpected) => {
                return Err(HandshakeRefusal::UnexpectedMessage { message: unexpected, expected });
            }
        };
        Ok(Progress::Waiting)
    }
}
