//! The client's flight and the states after it: `ExpectChangeCipherSpec`, `ExpectFinished`.

use std::sync::Arc;

use super::context::ClientContext;
use super::introduced_server::IntroducedServer;
use crate::crypto::{EphemeralKey, MasterSecret, VerifyData, WhoseFinished};
use crate::handshake::established::{Bindings, Established};
use crate::handshake::flight::Flight;
use crate::handshake::reassembly::HandshakeMessage;
use crate::identity::Identity;
use crate::record::Role;
use crate::refusal::HandshakeRefusal;
use crate::verify::VerifyPeer;
use crate::wire::{CertificateVerify, HandshakeType, NO_CERTIFICATES, encode_client_key_exchange};

/// What the server asked for.
pub(super) enum RequestedIdentity {
    Nothing,
    /// A certificate; `None` if we have none that it accepts.
    Certificate(Option<Arc<Identity>>),
}

/// How a handshake used the client's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityUse {
    /// The server sent no CertificateRequest: the client's identity, if any, was not used, and the server does not know its
    /// client.
    NotRequested,
    /// The server asked for a certificate and got ours.
    Presented,
    /// The server asked for a certificate, and we have none that it accepts: it got an empty list (RFC 5246 §7.4.6).
    NoneSuitable,
}

impl RequestedIdentity {
    fn identity_use(&self) -> IdentityUse {
        match self {
            Self::Nothing => IdentityUse::NotRequested,
            Self::Certificate(Some(_)) => IdentityUse::Presented,
            Self::Certificate(None) => IdentityUse::NoneSuitable,
        }
    }
}

/// Its number in RFC 6347 §4.2.4, Figure 1.
const CLIENT_KEY_FLIGHT: u8 = 5;

/// Agrees on the keys, shows our identity and sends flight 5.
pub(super) fn send_client_flight<V: VerifyPeer>(
    server: IntroducedServer<V::Proven>,
    requested: &RequestedIdentity,
    context: &mut ClientContext<'_, '_, V>,
) -> Result<ExpectChangeCipherSpec<V::Proven>, HandshakeRefusal> {
    let (conversation, port) = (&mut *context.conversation, &mut *context.port);
    let agreed = server.agreed;
    let random = port.random.as_ref();
    let mut flight = Flight::new(CLIENT_KEY_FLIGHT);
    if let RequestedIdentity::Certificate(identity) = requested {
        // "If no suitable certificate is available, the client MUST send a certificate message containing no certificates."
        let message = identity.as_ref().map_or(NO_CERTIFICATES, |identity| identity.certificate_message());
        conversation.prepare(&mut flight, HandshakeType::CERTIFICATE, message);
    }
    let ephemeral = EphemeralKey::generate(server.group, random).map_err(|_| HandshakeRefusal::Internal)?;
    let exchange = encode_client_key_exchange(ephemeral.point());
    conversation.prepare(&mut flight, HandshakeType::CLIENT_KEY_EXCHANGE, &exchange);
    let premaster = ephemeral.agree(&server.point).ok_or(HandshakeRefusal::BadKeyShare)?;
    let master_secret = agreed.binding(|| conversation.transcript.hash()).master_secret(&premaster);
    let signed = conversation.transcript.take_bytes();
    if let RequestedIdentity::Certificate(Some(identity)) = requested {
        let key = identity.key();
        let signature = key.sign(&signed, random).map_err(|_| HandshakeRefusal::Internal)?;
        let verify = CertificateVerify::encode(key.scheme(), signature.as_ref());
        conversation.prepare(&mut flight, HandshakeType::CERTIFICATE_VERIFY, &verify);
    }
    conversation.install_keys(&agreed, Role::Client, &master_secret, port);
    flight.change_cipher_spec();
    let tls_unique = master_secret.verify_data(WhoseFinished::Client, &conversation.transcript.hash());
    conversation.prepare(&mut flight, HandshakeType::FINISHED, &tls_unique);
    conversation.send_flight(flight, port)?;
    conversation.handle_early_records(port)?;
    let met = MetServer { proven: server.proven, identity: requested.identity_use() };
    let extended_master_secret = agreed.extended_master_secret;
    Ok(ExpectChangeCipherSpec { met, master_secret, extended_master_secret, tls_unique })
}

/// What a client knows when its handshake is complete.
pub(crate) struct MetServer<P> {
    pub(crate) proven: P,
    pub(crate) identity: IdentityUse,
}

/// Flight 5 has been sent.
pub(super) struct ExpectChangeCipherSpec<P> {
    met: MetServer<P>,
    master_secret: MasterSecret,
    extended_master_secret: bool,
    tls_unique: VerifyData,
}

impl<P> ExpectChangeCipherSpec<P> {
    pub(super) fn handle(self) -> ExpectFinished<P> {
        ExpectFinished(self)
    }
}

pub(super) struct ExpectFinished<P>(ExpectChangeCipherSpec<P>);

impl<P> ExpectFinished<P> {
    pub(super) fn handle<V: VerifyPeer<Proven = P>>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<Box<Established<MetServer<P>>>, HandshakeRefusal> {
        let Self(ExpectChangeCipherSpec { met, master_secret, extended_master_secret, tls_unique }) = self;
        let transcript = context.conversation.transcript.hash();
        if !master_secret.finished_matches(WhoseFinished::Server, &transcript, &message.body) {
            return Err(HandshakeRefusal::BadFinished);
        }
        let bindings = Bindings { tls_unique, extended_master_secret, final_flight: None };
        let secured = context.conversation.secure(bindings).ok_or(HandshakeRefusal::Internal)?;
        Ok(Box::new(Established { proven: met, secured }))
    }
}
