//! `ExpectClientHello`: a ClientHello whose cookie is good is read wholly, and the parameters are chosen.

use super::key_exchange::AwaitKeyExchange;
use super::{Context, Next, State};
use crate::config::{ExtendedMasterSecret, ServerConfig};
use crate::crypto::Suite;
use crate::public_key::{KeyExchangeWork, SERVER_CURVE, Work};
use crate::reassembly::Message;
use crate::refusal::Refusal;
use crate::verify::VerifyPeer;
use crate::wire::{ClientHello, DTLS_1_2, HandshakeType, ServerExtensions, UNCOMPRESSED};

pub(super) struct ExpectClientHello;

/// What both ends have agreed on.
#[derive(Clone, Copy)]
pub(super) struct Agreed {
    pub(super) suite: Suite,
    pub(super) extended_master_secret: bool,
    pub(super) client_random: [u8; 32],
    pub(super) server_random: [u8; 32],
}

impl ExpectClientHello {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &Message,
        context: &mut Context<'_, '_, V>,
    ) -> Result<Next<V>, Refusal> {
        let decode = |_| Refusal::Decode { message: HandshakeType::CLIENT_HELLO };
        let hello = ClientHello::parse(&message.body).map_err(decode)?;
        *context.offered = hello.offered();
        let suite = choose(&hello, context.config)?;
        context.conversation.hash_received(message);
        let mut server_random = [0; 32];
        context.port.random.fill(&mut server_random);
        let agreed = Agreed {
            suite,
            extended_master_secret: hello.extended_master_secret,
            client_random: *hello.parameters.random,
            server_random,
        };
        let extensions = ServerExtensions {
            point_formats: hello.point_formats.is_some(),
            extended_master_secret: hello.extended_master_secret,
            // To a client that signals it the server answers with an empty renegotiation_info (RFC 5746 §3.6).
            renegotiation_info: hello.signals_renegotiation(),
        };
        let work = KeyExchangeWork {
            identity: context.config.identity.clone(),
            client_random: agreed.client_random,
            server_random,
        };
        let identity = context.config.identity.clone();
        let state = AwaitKeyExchange { agreed, extensions, identity };
        Ok(Next::Work(State::AwaitKeyExchange(state), Work::KeyExchange(work)))
    }
}

/// Each demand that a hello must meet, in the order in which a refusal is the most telling.
fn choose<V>(hello: &ClientHello<'_>, config: &ServerConfig<V>) -> Result<Suite, Refusal> {
    let offered = hello.parameters.version;
    // Versions of DTLS are the 1's complement of their numbers (RFC 6347 §4.1): they count downwards, and later ones include 1.2.
    if offered > DTLS_1_2 || offered >> 8 != DTLS_1_2 >> 8 {
        return Err(Refusal::Version { offered });
    }
    if !hello.compression_methods.contains(&0) {
        return Err(Refusal::NoCommonCompression);
    }
    // The renegotiated_connection of an initial handshake is empty, or the handshake is aborted (RFC 5746 §3.6).
    if hello.renegotiation_info.is_some_and(|connection| !connection.is_empty()) {
        return Err(Refusal::RenegotiationInfo);
    }
    let common = config.suites.iter().find(|suite| hello.suites.contains(suite.code()));
    let suite = *common.ok_or(Refusal::NoCommonSuite)?;
    // A client without the extension leaves the choice to us (RFC 8422 §4). With it, the curve of our certificate counts too (§5.1).
    let key = config.identity.key();
    if let Some(groups) = hello.groups
        && !(groups.contains(SERVER_CURVE.code()) && groups.contains(key.public_key().curve().code()))
    {
        return Err(Refusal::NoCommonGroup);
    }
    if hello.point_formats.is_some_and(|formats| !formats.contains(&UNCOMPRESSED)) {
        return Err(Refusal::NoCommonPointFormat);
    }
    // Without the extension a client means SHA-1 (RFC 5246 §7.4.1.4.1), with which we sign nothing.
    if !hello.signature_algorithms.is_some_and(|algorithms| algorithms.contains(key.scheme().code())) {
        return Err(Refusal::NoCommonSignatureAlgorithm);
    }
    if !hello.extended_master_secret && config.extended_master_secret == ExtendedMasterSecret::Require {
        return Err(Refusal::ExtendedMasterSecretRequired);
    }
    Ok(suite)
}
