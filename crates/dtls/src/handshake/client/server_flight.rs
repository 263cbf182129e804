//! The server's flight, message by message: `ExpectServerHello` to `ExpectServerHelloDone`.

use super::client_flight::{ExpectChangeCipherSpec, RequestedIdentity, send_client_flight};
use super::context::ClientContext;
use super::introduced_server::IntroducedServer;
use crate::config::{ClientConfig, ExtendedMasterSecret};
use crate::crypto::{Group, SignatureScheme, Suite, is_der_signature};
use crate::handshake::agreed::Agreed;
use crate::handshake::flight::Flight;
use crate::handshake::proof::{OwnCheck, ProofFault, prove};
use crate::handshake::public_key::signed_parameters;
use crate::handshake::reassembly::HandshakeMessage;
use crate::limits::{
    COOKIE_BYTES_EXPECTED, FLIGHTS_DISPROVED_MAX, HELLO_VERIFY_REQUESTS_MAX, RECORD_SIZE_LIMIT_MIN,
    SERVER_NAME_BYTES_MAX, TRUSTED_AUTHORITIES_MAX,
};
use crate::refusal::HandshakeRefusal;
use crate::verify::{CertificateFault, CertificateRefusal, VerifyPeer};
use crate::wire::{
    AuthorityKeyHash, CertificateChain, CertificateRequest, ChainFault, ClientHelloOffer, DTLS_1_2,
    HANDSHAKE_HEADER_BYTES, HandshakeType, HelloVerifyRequest, RECORD_HEADER_BYTES, RecordLimit, ServerHello,
    ServerKeyExchange, UNCOMPRESSED, extension,
};

/// A ClientHello has been sent.
pub(super) struct ExpectServerHello {
    random: [u8; 32],
    /// The body as sent: it enters the transcript once it is known to be the last ClientHello (RFC 6347
    /// §4.2.1).
    hello: Vec<u8>,
    message_seq: u16,
    verify_requests: u8,
    /// Flights that did not answer this hello.
    disproved: u8,
}

/// What a ServerKeyExchange shows.
pub(super) enum Introduction<P> {
    /// Who the server is.
    Server(ExpectCertificateRequest<P>),
    /// That this flight may answer another handshake of ours, from the same port.
    Disproved(ExpectServerHello),
}

impl ExpectServerHello {
    pub(super) fn begin<V: VerifyPeer>(context: &mut ClientContext<'_, '_, V>) -> Result<Self, HandshakeRefusal> {
        let mut random = [0; 32];
        context.port.random.fill(&mut random);
        Self::send(random, &[], 0, context)
    }

    /// Flight 1, or 3 with a cookie (RFC 6347 §4.2.4, Figure 1).
    fn send<V: VerifyPeer>(
        random: [u8; 32],
        cookie: &[u8],
        verify_requests: u8,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<Self, HandshakeRefusal> {
        let mut offer = ClientHelloOffer {
            version: DTLS_1_2,
            random: &random,
            cookie,
            suites: &context.config.suites,
            groups: &context.config.groups,
            record_limit: context.config.record_limit,
            extended_master_secret: context.config.offers_extended_master_secret,
            server_name: context.config.server_name.as_deref().filter(|name| name.len() <= SERVER_NAME_BYTES_MAX),
            trusted_authorities: &[],
        };
        let mut hello = offer.encode();
        let trusted = context.config.verifier.trusted_authorities();
        if !trusted.is_empty() {
            // The second hello differs from the first by its cookie alone, so the cookie does not count.
            offer.trusted_authorities = that_fit(trusted, hello.len() - cookie.len(), context.config.mtu);
            hello = offer.encode();
        }
        let mut flight = Flight::new(if cookie.is_empty() { 1 } else { 3 });
        let message_seq = context.conversation.prepare_unhashed(&mut flight, HandshakeType::CLIENT_HELLO, &hello);
        context.conversation.send_flight(flight, context.port)?;
        Ok(Self { random, hello, message_seq, verify_requests, disproved: 0 })
    }

    /// A HelloVerifyRequest: the server wants the same hello again, with its cookie.
    pub(super) fn ask_again<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<Self, HandshakeRefusal> {
        if self.verify_requests >= HELLO_VERIFY_REQUESTS_MAX {
            return Err(HandshakeRefusal::TooManyHelloVerifyRequests);
        }
        let decode = |_| HandshakeRefusal::Decode { message: message.kind };
        let request = HelloVerifyRequest::parse(&message.body).map_err(decode)?;
        // A device that begins again from the same port may hear the flight that a server repeats for its handshake before. By its numbers it would
        // be the answer to the hello with the cookie.
        context.conversation.forget_waiting();
        Self::send(self.random, request.cookie, self.verify_requests + 1, context)
    }

    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<ExpectCertificate, HandshakeRefusal> {
        let decode = |_| HandshakeRefusal::Decode { message: message.kind };
        let hello = ServerHello::parse(&message.body).map_err(decode)?;
        let suite = accept(&hello, context.config)?;
        if let Some(plaintext_bytes_max) = record_limit(&hello, context.config)? {
            context.conversation.limit_records(plaintext_bytes_max);
            match context.config.record_limit {
                Some(RecordLimit::MaxFragmentLength(length)) => {
                    context.conversation.limit_received_records(length.bytes());
                }
                Some(RecordLimit::RecordSizeLimit(bytes)) => {
                    context.conversation.limit_received_records(bytes.into());
                }
                None => {}
            }
        }
        context.conversation.transcript.add(HandshakeType::CLIENT_HELLO, self.message_seq, &self.hello);
        context.conversation.hash_received(message);
        Ok(ExpectCertificate {
            agreed: Agreed {
                suite,
                extended_master_secret: hello.extended_master_secret,
                client_random: self.random,
                server_random: *hello.random,
            },
            sent: self,
        })
    }

    /// Whether what has arrived may be discarded, as the answer to another hello.
    pub(super) const fn may_doubt(&self) -> bool {
        self.disproved < FLIGHTS_DISPROVED_MAX
    }

    /// What has arrived does not answer our hello: its signature does not cover both hellos, or its messages contradict each other. Nothing of it is
    /// authenticated yet, and a device that began again from the same port hears what the server still sends for its handshake before: the answer to
    /// this hello is awaited further, as if the messages were not there (RFC 6347 §4.1.2.7), a limited number of times.
    pub(super) fn doubt<V: VerifyPeer>(self, context: &mut ClientContext<'_, '_, V>) -> Self {
        context.conversation.await_answer_again(context.port);
        Self { disproved: self.disproved.saturating_add(1), ..self }
    }
}

/// As many authorities as a hello of one datagram has room for beside its cookie, and never none: "clients may include none, some, or all of
/// the CA root keys they possess" (RFC 6066 §6), and EST requires the indication (RFC 7030 §4.1.3).
fn that_fit(trusted: &[AuthorityKeyHash], hello_bytes: usize, mtu: usize) -> &[AuthorityKeyHash] {
    let around = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES + COOKIE_BYTES_EXPECTED + AuthorityKeyHash::FRAME_BYTES;
    let room = mtu.saturating_sub(hello_bytes + around) / AuthorityKeyHash::BYTES;
    &trusted[..trusted.len().min(room.clamp(1, TRUSTED_AUTHORITIES_MAX))]
}

/// Whether the server chose from what was offered.
fn accept<V: VerifyPeer>(hello: &ServerHello<'_>, config: &ClientConfig<V>) -> Result<Suite, HandshakeRefusal> {
    let not_offered = HandshakeRefusal::NotOffered { message: HandshakeType::SERVER_HELLO };
    if hello.version != DTLS_1_2 {
        return Err(HandshakeRefusal::Version { offered: hello.version });
    }
    let suite = Suite::from_code(hello.suite).filter(|suite| config.suites.contains(suite));
    let suite = suite.ok_or(not_offered)?;
    if hello.compression_method != 0 {
        return Err(not_offered);
    }
    if let Some(extension) = hello.unexpected_extension {
        return Err(HandshakeRefusal::UnsupportedExtension { extension });
    }
    if hello.server_name && config.server_name.is_none() {
        return Err(HandshakeRefusal::UnsupportedExtension { extension: extension::SERVER_NAME });
    }
    if hello.trusted_ca_keys && config.verifier.trusted_authorities().is_empty() {
        return Err(HandshakeRefusal::UnsupportedExtension { extension: extension::TRUSTED_CA_KEYS });
    }
    if hello.renegotiation_info.is_some_and(|connection| !connection.is_empty()) {
        return Err(HandshakeRefusal::RenegotiationInfo);
    }
    if hello.point_formats.is_some_and(|formats| !formats.contains(&UNCOMPRESSED)) {
        return Err(HandshakeRefusal::NoCommonPointFormat);
    }
    if hello.extended_master_secret && !config.offers_extended_master_secret {
        return Err(HandshakeRefusal::UnsupportedExtension { extension: extension::EXTENDED_MASTER_SECRET });
    }
    if !hello.extended_master_secret && config.extended_master_secret == ExtendedMasterSecret::Require {
        return Err(HandshakeRefusal::ExtendedMasterSecretRequired);
    }
    Ok(suite)
}

/// The server's answer to our request for small records, applied to the records that we send.
fn record_limit<V: VerifyPeer>(
    hello: &ServerHello<'_>,
    config: &ClientConfig<V>,
) -> Result<Option<usize>, HandshakeRefusal> {
    let unasked = |extension| HandshakeRefusal::UnsupportedExtension { extension };
    match (config.record_limit, hello.max_fragment_length, hello.record_size_limit) {
        (_, None, None) => Ok(None),
        (Some(RecordLimit::MaxFragmentLength(asked)), Some(code), None) => {
            // Another length than the one asked for ends the handshake (RFC 6066 §4).
            let refusal = HandshakeRefusal::RecordLimit { offered: code.into() };
            if code == asked.code() { Ok(Some(asked.bytes())) } else { Err(refusal) }
        }
        (Some(RecordLimit::RecordSizeLimit(_)), None, Some(bytes)) => {
            let refusal = HandshakeRefusal::RecordLimit { offered: bytes };
            if usize::from(bytes) < RECORD_SIZE_LIMIT_MIN { Err(refusal) } else { Ok(Some(bytes.into())) }
        }
        // Nothing that was not offered, and never both (RFC 5246 §7.4.1.4, RFC 8449 §5).
        (Some(RecordLimit::MaxFragmentLength(_)), _, _) => Err(unasked(extension::RECORD_SIZE_LIMIT)),
        (Some(RecordLimit::RecordSizeLimit(_)), _, _) | (None, Some(_), _) => {
            Err(unasked(extension::MAX_FRAGMENT_LENGTH))
        }
        (None, None, Some(_)) => Err(unasked(extension::RECORD_SIZE_LIMIT)),
    }
}

pub(super) struct ExpectCertificate {
    agreed: Agreed,
    /// The hello that the server answers.
    pub(super) sent: ExpectServerHello,
}

impl ExpectCertificate {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<Box<ExpectServerKeyExchange>, HandshakeRefusal> {
        let at = context.conversation.hash_received(message);
        let decode = HandshakeRefusal::Decode { message: HandshakeType::CERTIFICATE };
        let chain = CertificateChain::parse(&message.body, at).map_err(|fault| match fault {
            ChainFault::Malformed => decode,
            ChainFault::TooMany => HandshakeRefusal::Certificate(CertificateFault::TooManyCertificates),
        })?;
        // With this key exchange a server always has a certificate (RFC 5246 §7.4.2); a list without a leaf does not
        // count as one.
        if chain.is_empty() {
            return Err(decode);
        }
        Ok(Box::new(ExpectServerKeyExchange { agreed: self.agreed, sent: self.sent, chain }))
    }
}

pub(super) struct ExpectServerKeyExchange {
    agreed: Agreed,
    pub(super) sent: ExpectServerHello,
    chain: CertificateChain,
}

impl ExpectServerKeyExchange {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<Introduction<V::Proven>, HandshakeRefusal> {
        let decode = |_| HandshakeRefusal::Decode { message: HandshakeType::SERVER_KEY_EXCHANGE };
        let exchange = ServerKeyExchange::parse(&message.body).map_err(decode)?;
        let group = Group::from_code(exchange.named_curve)
            .filter(|group| context.config.groups.contains(group))
            .ok_or(HandshakeRefusal::NotOffered { message: HandshakeType::SERVER_KEY_EXCHANGE })?;
        let scheme = SignatureScheme::from_code(exchange.scheme)
            .ok_or(HandshakeRefusal::SignatureAlgorithmNotOffered { scheme: exchange.scheme })?;
        let randoms = [&self.agreed.client_random, &self.agreed.server_random];
        let signed = signed_parameters(randoms, exchange.parameters.len(), |out| {
            out.extend_from_slice(exchange.parameters);
        });
        let own = OwnCheck { scheme, message: &signed, signature: exchange.signature };
        let (verifier, utc) = (context.config.verifier.as_ref(), context.port.now.utc);
        let bytes = context.conversation.transcript.bytes();
        let proven = match self.chain.with_slices(bytes, |chain| prove(verifier, chain, utc, own)) {
            Ok(proven) => proven,
            Err(ProofFault::Proof) if self.sent.may_doubt() => {
                return Ok(Introduction::Disproved(self.sent.doubt(context)));
            }
            Err(ProofFault::Proof) if is_der_signature(exchange.signature) => {
                return Err(HandshakeRefusal::BadServerKeyExchange);
            }
            Err(ProofFault::Proof) => return Err(HandshakeRefusal::ServerKeyExchangeEncoding),
            Err(ProofFault::Certificate(CertificateRefusal { fault, detail })) => {
                context.account.detail = detail;
                return Err(HandshakeRefusal::Certificate(fault));
            }
        };
        context.conversation.hash_received(message);
        let server = IntroducedServer { agreed: self.agreed, proven, group, point: exchange.point.to_vec() };
        Ok(Introduction::Server(ExpectCertificateRequest { server }))
    }
}

/// CertificateRequest, or ServerHelloDone if the server wants no certificate.
pub(super) struct ExpectCertificateRequest<P> {
    server: IntroducedServer<P>,
}

impl<P> ExpectCertificateRequest<P> {
    /// The server wants no certificate: ServerHelloDone arrived instead.
    pub(super) fn unasked(self) -> ExpectServerHelloDone<P> {
        ExpectServerHelloDone { server: self.server, requested: RequestedIdentity::Nothing }
    }

    pub(super) fn handle<V: VerifyPeer<Proven = P>>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<ExpectServerHelloDone<P>, HandshakeRefusal> {
        let decode = |_| HandshakeRefusal::Decode { message: HandshakeType::CERTIFICATE_REQUEST };
        let request = CertificateRequest::parse(&message.body).map_err(decode)?;
        let identity = context.config.identity.clone().filter(|identity| request.accepts(identity.key().scheme()));
        context.conversation.hash_received(message);
        Ok(ExpectServerHelloDone { server: self.server, requested: RequestedIdentity::Certificate(identity) })
    }
}

pub(super) struct ExpectServerHelloDone<P> {
    server: IntroducedServer<P>,
    requested: RequestedIdentity,
}

impl<P> ExpectServerHelloDone<P> {
    pub(super) fn handle<V: VerifyPeer<Proven = P>>(
        self,
        message: &HandshakeMessage,
        context: &mut ClientContext<'_, '_, V>,
    ) -> Result<ExpectChangeCipherSpec<P>, HandshakeRefusal> {
        if !message.body.is_empty() {
            return Err(HandshakeRefusal::Decode { message: HandshakeType::SERVER_HELLO_DONE });
        }
        context.conversation.hash_received(message);
        send_client_flight(self.server, &self.requested, context)
    }
}
