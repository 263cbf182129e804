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
//! The server is judged as soon as its key exchange is there; nothing of ours but hellos is sent before that.

mod client_flight;
mod server_flight;

use std::sync::Arc;
use std::time::Instant;

use super::conversation::Conversation;
use super::established::Secured;
use super::reassembly::HandshakeMessage;
use super::terms::{Numbering, Terms};
use crate::config::ClientConfig;
use crate::port::Port;
use crate::record::Record;
use crate::refusal::HandshakeRefusal;
use crate::verify::{Account, VerifyPeer};
use crate::wire::HandshakeType;
use client_flight::{ExpectChangeCipherSpec, ExpectFinished};
use server_flight::{
    ExpectCertificate, ExpectCertificateRequest, ExpectServerHello, ExpectServerHelloDone, ExpectServerKeyExchange,
};

pub use client_flight::IdentityUse;

/// One handshake in progress.
pub(crate) struct Handshake<V: VerifyPeer> {
    conversation: Conversation,
    state: State<V::Proven>,
    /// What there is to say if it fails.
    account: Account,
    config: Arc<ClientConfig<V>>,
}

/// What a handshake wants of its owner.
pub(crate) enum Progress<P> {
    /// The next datagram, or the next timeout.
    Waiting,
    /// It is done.
    Established(Box<Established<P>>),
}

/// The fruit of a handshake.
pub(crate) struct Established<P> {
    pub(crate) proven: P,
    pub(crate) identity: IdentityUse,
    pub(crate) secured: Secured,
}

/// What a handler of a state may touch.
struct Context<'a, 'p, V: VerifyPeer> {
    conversation: &'a mut Conversation,
    config: &'a ClientConfig<V>,
    account: &'a mut Account,
    port: &'a mut Port<'p>,
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

/// What follows a message.
enum Next<P> {
    State(State<P>),
    Established(Box<Established<P>>),
}

impl<V: VerifyPeer> Handshake<V> {
    /// Sends the first ClientHello. Nothing has been sent before, so there is a sequence number for it.
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
    ) -> Result<Progress<V::Proven>, HandshakeRefusal> {
        self.conversation.handle_record(record, payload, port)?;
        self.advance(port)
    }

    /// To be called after the records of a datagram.
    pub(crate) fn after_datagram(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.answer_repetition(port)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.conversation.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.conversation.handle_timeout(self.expected(), port)
    }

    /// The server's Finished is verified: the verifier may remember it.
    pub(crate) fn admit(&self, proven: V::Proven) -> V::Peer {
        self.config.verifier.admit(proven)
    }

    /// What there is to say beyond the refusal.
    pub(crate) fn take_account(&mut self) -> Account {
        std::mem::take(&mut self.account)
    }

    /// Tells the server why it ends: protected, once our ChangeCipherSpec has been sent.
    pub(crate) fn refuse(&mut self, refusal: &HandshakeRefusal, port: &mut Port<'_>) {
        let protect = matches!(self.expected(), HandshakeType::FINISHED);
        if let Some(description) = refusal.alert() {
            self.conversation.send_last_alert(description, protect, port);
        }
    }

    fn advance(&mut self, port: &mut Port<'_>) -> Result<Progress<V::Proven>, HandshakeRefusal> {
        loop {
            if let State::ExpectChangeCipherSpec(_) = self.state {
                if !self.conversation.take_change_cipher_spec() {
                    return Ok(Progress::Waiting);
                }
                if let State::ExpectChangeCipherSpec(state) = std::mem::replace(&mut self.state, State::Over) {
                    self.state = State::ExpectFinished(state.handle());
                }
            }
            let Some(message) = self.conversation.next_message(port) else { return Ok(Progress::Waiting) };
            // "This message will be ignored by the client if the client is currently negotiating a session", and it is in no transcript
            // (RFC 5246 §7.4.1.1).
            if message.kind == HandshakeType::HELLO_REQUEST {
                continue;
            }
            match self.handle_message(&message, port)? {
                Next::State(state) => self.state = state,
                Next::Established(established) => return Ok(Progress::Established(established)),
            }
        }
    }

    fn handle_message(
        &mut self,
        message: &HandshakeMessage,
        port: &mut Port<'_>,
    ) -> Result<Next<V::Proven>, HandshakeRefusal> {
        let expected = self.expected();
        let optional = match &self.state {
            State::ExpectServerHello(_) => HandshakeType::HELLO_VERIFY_REQUEST,
            State::ExpectCertificateRequest(_) => HandshakeType::SERVER_HELLO_DONE,
            _ => expected,
        };
        if message.kind != expected && message.kind != optional {
            // With Over as state: an unexpected message in a state that awaits none ends here too.
            self.state = State::Over;
            return Err(HandshakeRefusal::UnexpectedMessage { message: message.kind, expected });
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        let context = &mut Context {
            conversation: &mut self.conversation,
            config: self.config.as_ref(),
            account: &mut self.account,
            port,
        };
        match state {
            State::ExpectServerHello(state) => state.handle(message, context).map(Next::State),
            State::ExpectCertificate(state) => state.handle(message, context).map(Next::State),
            State::ExpectServerKeyExchange(state) => state.handle(message, context).map(Next::State),
            State::ExpectCertificateRequest(state) => state.handle(message, context).map(Next::State),
            State::ExpectServerHelloDone(state) => state.handle(message, context).map(Next::State),
            State::ExpectFinished(state) => state.handle(message, context).map(Next::Established),
            State::ExpectChangeCipherSpec(_) | State::Over => {
                Err(HandshakeRefusal::UnexpectedMessage { message: message.kind, expected })
            }
        }
    }

    /// The message that is due.
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
