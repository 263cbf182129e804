//! `AwaitKeyExchange`: the ephemeral key is being made and signed; then the server sends its first flight.

use std::sync::Arc;

use super::authentication::ExpectCertificate;
use super::context::ServerContext;
use crate::handshake::agreed::Agreed;
use crate::handshake::flight::Flight;
use crate::handshake::public_key::KeyExchange;
use crate::identity::Identity;
use crate::refusal::HandshakeRefusal;
use crate::verify::VerifyPeer;
use crate::wire::{
    CertificateRequest, HandshakeType, ServerExtensions, encode_certificate, encode_server_hello,
    encode_server_key_exchange,
};

pub(super) struct AwaitKeyExchange {
    pub(super) agreed: Agreed,
    pub(super) extensions: ServerExtensions,
    /// The identity whose key signs: a configuration change in between must not bring another certificate.
    pub(super) identity: Arc<Identity>,
}

/// Its number in RFC 6347 §4.2.4, Figure 1.
const SERVER_HELLO_FLIGHT: u8 = 4;

impl AwaitKeyExchange {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        done: KeyExchange,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<ExpectCertificate, HandshakeRefusal> {
        let conversation = &mut *context.conversation;
        let hello = encode_server_hello(&self.agreed.server_random, self.agreed.suite, self.extensions);
        let certificate = encode_certificate(self.identity.chain());
        let (group, point) = (done.ephemeral.group(), done.ephemeral.point());
        let exchange = encode_server_key_exchange(group, point, done.scheme, done.signature.as_ref());
        let request = CertificateRequest::encode(context.config.verifier.authorities());
        let messages: [(HandshakeType, &[u8]); 5] = [
            (HandshakeType::SERVER_HELLO, &hello),
            (HandshakeType::CERTIFICATE, &certificate),
            (HandshakeType::SERVER_KEY_EXCHANGE, &exchange),
            (HandshakeType::CERTIFICATE_REQUEST, &request),
            (HandshakeType::SERVER_HELLO_DONE, &[]),
        ];
        let bytes = messages.iter().map(|(_, body)| body.len()).sum();
        let mut flight = Flight::with_room(SERVER_HELLO_FLIGHT, messages.len(), bytes);
        for (kind, body) in messages {
            conversation.prepare(&mut flight, kind, body);
        }
        conversation.send_flight(flight, context.port)?;
        Ok(ExpectCertificate { agreed: self.agreed, ephemeral: done.ephemeral })
    }
}
