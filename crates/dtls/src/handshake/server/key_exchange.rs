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
    CertificateRequest, HandshakeType, SERVER_HELLO_BYTES_MAX, ServerExtensions, encode_server_hello,
    encode_server_key_exchange, server_key_exchange_bytes,
};

pub(super) struct AwaitKeyExchange {
    pub(super) agreed: Agreed,
    pub(super) extensions: ServerExtensions,
    /// The identity whose key signs: a configuration change in between must not bring another certificate.
    pub(super) identity: Arc<Identity>,
}

/// Its number in RFC 6347 §4.2.4, Figure 1.
const SERVER_HELLO_FLIGHT: u8 = 4;
/// ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone.
const SERVER_HELLO_MESSAGES: usize = 5;

impl AwaitKeyExchange {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        done: KeyExchange,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<ExpectCertificate, HandshakeRefusal> {
        let conversation = &mut *context.conversation;
        let certificate = self.identity.certificate_message();
        let (group, point) = (done.ephemeral.group(), done.ephemeral.point());
        let signature = done.signature.as_ref();
        let authorities = context.config.verifier.authorities();
        let bytes = SERVER_HELLO_BYTES_MAX
            + certificate.len()
            + server_key_exchange_bytes(point, signature)
            + CertificateRequest::bytes(authorities);
        let mut flight = Flight::with_room(SERVER_HELLO_FLIGHT, SERVER_HELLO_MESSAGES, bytes);
        conversation.prepare_written(&mut flight, HandshakeType::SERVER_HELLO, |out| {
            encode_server_hello(out, &self.agreed.server_random, self.agreed.suite, self.extensions);
        });
        conversation.prepare(&mut flight, HandshakeType::CERTIFICATE, certificate);
        conversation.prepare_written(&mut flight, HandshakeType::SERVER_KEY_EXCHANGE, |out| {
            encode_server_key_exchange(out, (group, point), done.scheme, signature);
        });
        conversation.prepare_written(&mut flight, HandshakeType::CERTIFICATE_REQUEST, |out| {
            CertificateRequest::encode(out, authorities);
        });
        conversation.prepare(&mut flight, HandshakeType::SERVER_HELLO_DONE, &[]);
        conversation.send_flight(flight, context.port)?;
        Ok(ExpectCertificate { agreed: self.agreed, ephemeral: done.ephemeral })
    }
}
