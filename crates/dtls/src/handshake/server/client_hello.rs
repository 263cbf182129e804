//! `ExpectClientHello`: reads and judges a whole ClientHello whose cookie is good, and chooses the parameters.

use super::context::ServerContext;
use super::key_exchange::AwaitKeyExchange;
use crate::config::{ExtendedMasterSecret, ServerConfig};
use crate::cookie::Promise;
use crate::crypto::{Group, Suite};
use crate::handshake::agreed::Agreed;
use crate::handshake::public_key::KeyExchangeWork;
use crate::handshake::reassembly::HandshakeMessage;
use crate::limits::{PLAINTEXT_BYTES_MAX, RECORD_SIZE_LIMIT_MIN};
use crate::refusal::HandshakeRefusal;
use crate::verify::VerifyPeer;
use crate::wire::{
    ClientHello, DTLS_1_2, FragmentLength, HandshakeType, RecordLimitAnswer, ServerExtensions, UNCOMPRESSED, X509,
    to_u16,
};

pub(super) struct ExpectClientHello {
    /// What the cookie says about the part of the hello that the first fragment did not show.
    pub(super) promise: Promise,
}

/// The parameters of the answer to an accepted hello.
struct Choice {
    suite: Suite,
    group: Group,
    record_limit: RecordLimitAnswer,
    record_bytes_max: usize,
}

impl ExpectClientHello {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<(AwaitKeyExchange, KeyExchangeWork), HandshakeRefusal> {
        if !self.promise.is_kept(&message.body) {
            return Err(HandshakeRefusal::HelloChanged);
        }
        let decode = |_| HandshakeRefusal::Decode { message: HandshakeType::CLIENT_HELLO };
        let hello = ClientHello::parse(&message.body).map_err(decode)?;
        *context.offered = hello.offered();
        let choice = judge(&hello, context.config).map_err(|mut refusals| {
            let first = refusals.remove(0);
            *context.further = refusals;
            first
        })?;
        context.conversation.limit_records(choice.record_bytes_max);
        if let RecordLimitAnswer::MaxFragmentLength(length) = choice.record_limit {
            context.conversation.limit_received_records(length.bytes());
        }
        context.conversation.hash_received(message);
        let mut server_random = [0; 32];
        context.port.random.fill(&mut server_random);
        let agreed = Agreed {
            suite: choice.suite,
            extended_master_secret: hello.extended_master_secret,
            client_random: *hello.parameters.random,
            server_random,
        };
        let extensions = ServerExtensions {
            point_formats: hello.point_formats.is_some(),
            extended_master_secret: hello.extended_master_secret,
            // The server answers a client that signals it with an empty renegotiation_info (RFC 5746 §3.6).
            renegotiation_info: hello.signals_renegotiation(),
            client_certificate_type: hello.client_certificate_types.is_some(),
            server_certificate_type: hello.server_certificate_types.is_some(),
            record_limit: choice.record_limit,
        };
        let identity = context.config.identity.clone();
        let work = KeyExchangeWork {
            group: choice.group,
            identity: identity.clone(),
            client_random: agreed.client_random,
            server_random,
        };
        Ok((AwaitKeyExchange { agreed, extensions, identity }, work))
    }
}

/// Checks a hello against every requirement. A refusal is the whole list of faults, never empty, the most telling first: a person who fixes
/// the first does not find a second one the next day.
fn judge<V>(hello: &ClientHello<'_>, config: &ServerConfig<V>) -> Result<Choice, Vec<HandshakeRefusal>> {
    let mut refusals = Vec::new();
    let offered = hello.parameters.version;
    // Versions of DTLS are the 1's complement of their numbers (RFC 6347 §4.1): they count downwards, and later ones include 1.2.
    if offered > DTLS_1_2 || offered >> 8 != DTLS_1_2 >> 8 {
        refusals.push(HandshakeRefusal::Version { offered });
    } else if hello.supported_versions.is_some_and(|versions| !versions.contains(DTLS_1_2)) {
        // If the extension is present, it alone says which versions the client accepts, and client_version does not (RFC 8446
        // §4.2.1).
        refusals.push(HandshakeRefusal::SupportedVersions);
    }
    if !hello.parameters.compression_methods.contains(&0) {
        refusals.push(HandshakeRefusal::NoCommonCompression);
    }
    // The renegotiated_connection of an initial handshake is empty, or the handshake is aborted (RFC 5746 §3.6).
    if hello.renegotiation_info.is_some_and(|connection| !connection.is_empty()) {
        refusals.push(HandshakeRefusal::RenegotiationInfo);
    }
    let suite = config.suites.iter().find(|suite| hello.parameters.suites.contains(suite.code())).copied();
    if suite.is_none() {
        refusals.push(HandshakeRefusal::NoCommonSuite);
    }
    let key = config.identity.key();
    let group = choose_group(hello, key.public_key().curve().code());
    if group.is_none() {
        refusals.push(HandshakeRefusal::NoCommonGroup);
    }
    if hello.point_formats.is_some_and(|formats| !formats.contains(&UNCOMPRESSED)) {
        refusals.push(HandshakeRefusal::NoCommonPointFormat);
    }
    // Without the extension a client means SHA-1 (RFC 5246 §7.4.1.4.1), which we do not sign with.
    if !hello.signature_algorithms.is_some_and(|algorithms| algorithms.contains(key.scheme().code())) {
        refusals.push(HandshakeRefusal::NoCommonSignatureAlgorithm);
    }
    // If the types do not include X.509, there is none in common (RFC 7250 §4.2).
    let without_x509 = |types: Option<&[u8]>| types.is_some_and(|types| !types.contains(&X509));
    if without_x509(hello.client_certificate_types) || without_x509(hello.server_certificate_types) {
        refusals.push(HandshakeRefusal::CertificateType);
    }
    if !hello.extended_master_secret && config.extended_master_secret == ExtendedMasterSecret::Require {
        refusals.push(HandshakeRefusal::ExtendedMasterSecretRequired);
    }
    let limit = record_limit(hello).map_err(|refusal| refusals.push(refusal)).ok();
    match (suite, group, limit) {
        (Some(suite), Some(group), Some((record_limit, record_bytes_max))) if refusals.is_empty() => {
            Ok(Choice { suite, group, record_limit, record_bytes_max })
        }
        _ => Err(refusals),
    }
}

/// The group of the key agreement: secp256r1 or x25519, whichever the client lists first. The client knows what its hardware is good at, and
/// the list is "ordered according to client's preferences" (RFC 8422 §5.1.1); for us both cost about the same.
///
/// A client without the extension leaves the choice to us (RFC 8422 §4). With it, the curve of our certificate must be in the list as well:
/// "The server MUST consider the extension in both cases" (§5.1).
fn choose_group(hello: &ClientHello<'_>, certificate_curve: u16) -> Option<Group> {
    let Some(groups) = hello.groups else { return Some(Group::Secp256r1) };
    if !groups.contains(certificate_curve) {
        return None;
    }
    let ours = |group: &Group| matches!(group, Group::Secp256r1 | Group::X25519);
    groups.iter().filter_map(Group::from_code).find(ours)
}

/// The answer to a client that asks for small records, and the maximum length of ours.
fn record_limit(hello: &ClientHello<'_>) -> Result<(RecordLimitAnswer, usize), HandshakeRefusal> {
    // "A server that supports the "record_size_limit" extension MUST ignore a "max_fragment_length" that appears in a ClientHello
    // if both extensions appear" (RFC 8449 §5).
    if let Some(offered) = hello.record_size_limit {
        let bytes = usize::from(offered);
        if bytes < RECORD_SIZE_LIMIT_MIN {
            return Err(HandshakeRefusal::RecordLimit { offered });
        }
        // A client may ask for more than TLS 1.2 allows, for a version that we do not support (RFC 8449 §4).
        let ours = RecordLimitAnswer::RecordSizeLimit(to_u16(PLAINTEXT_BYTES_MAX));
        return Ok((ours, bytes.min(PLAINTEXT_BYTES_MAX)));
    }
    match hello.max_fragment_length {
        None => Ok((RecordLimitAnswer::Nothing, PLAINTEXT_BYTES_MAX)),
        Some(code) => {
            // A value that is not allowed "MUST abort the handshake with an "illegal_parameter" alert" (RFC 6066 §4).
            let length =
                FragmentLength::from_code(code).ok_or(HandshakeRefusal::RecordLimit { offered: code.into() })?;
            Ok((RecordLimitAnswer::MaxFragmentLength(length), length.bytes()))
        }
    }
}
