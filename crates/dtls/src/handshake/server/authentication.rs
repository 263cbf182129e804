//! The client proves its identity: `ExpectCertificate`, `ExpectClientKeyExchange`, `ExpectCertificateVerify`,
//! `AwaitAuthentication`.

use super::context::ServerContext;
use super::finished::ExpectChangeCipherSpec;
use crate::crypto::{EphemeralKey, Hash, SignatureScheme};
use crate::handshake::agreed::Agreed;
use crate::handshake::public_key::{Authentication, AuthenticationWork};
use crate::handshake::reassembly::HandshakeMessage;
use crate::limits::SIGNATURE_BYTES_MAX;
use crate::record::Role;
use crate::refusal::HandshakeRefusal;
use crate::verify::{CertificateFault, CertificateRefusal, VerifyPeer};
use crate::wire::{CertificateChain, CertificateVerify, ChainFault, ClientKeyExchange, HandshakeType};

pub(super) struct ExpectCertificate {
    pub(super) agreed: Agreed,
    pub(super) ephemeral: EphemeralKey,
}

impl ExpectCertificate {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<ExpectClientKeyExchange, HandshakeRefusal> {
        let at = context.conversation.hash_received(message);
        let chain = CertificateChain::parse(&message.body, at).map_err(|fault| match fault {
            ChainFault::Malformed => HandshakeRefusal::Decode { message: HandshakeType::CERTIFICATE },
            ChainFault::TooMany => HandshakeRefusal::Certificate(CertificateFault::TooManyCertificates),
        })?;
        // "If no suitable certificate is available, the client MUST send a certificate message containing no certificates." RFC 5246 §7.4.6
        // then leaves the server two answers; this server always sends the fatal handshake_failure.
        #[cfg(not(muster_seam = "empty_certificate"))]
        if chain.is_empty() {
            return Err(HandshakeRefusal::MissingCertificate);
        }
        let Self { agreed, ephemeral } = self;
        Ok(ExpectClientKeyExchange(Box::new(Shown { agreed, ephemeral, chain })))
    }
}

/// What a client that has shown a chain is to be judged by. Boxed: the states before and after it take half as much, and a handshake has room for the
/// largest of its states.
struct Shown {
    agreed: Agreed,
    ephemeral: EphemeralKey,
    chain: CertificateChain,
}

pub(super) struct ExpectClientKeyExchange(Box<Shown>);

impl ExpectClientKeyExchange {
    pub(super) const fn chain(&self) -> &CertificateChain {
        &self.0.chain
    }

    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<ExpectCertificateVerify, HandshakeRefusal> {
        let decode = |_| HandshakeRefusal::Decode { message: HandshakeType::CLIENT_KEY_EXCHANGE };
        let point = ClientKeyExchange::parse(&message.body).map_err(decode)?.point.to_vec();
        context.conversation.hash_received(message);
        // "session_hash = Hash(handshake_messages) ... up to and including the ClientKeyExchange" (RFC 7627 §3).
        let session_hash = context.conversation.transcript.hash();
        Ok(ExpectCertificateVerify { shown: self.0, point, session_hash })
    }
}

pub(super) struct ExpectCertificateVerify {
    shown: Box<Shown>,
    point: Vec<u8>,
    session_hash: Hash,
}

impl ExpectCertificateVerify {
    pub(super) const fn chain(&self) -> &CertificateChain {
        &self.shown.chain
    }

    pub(super) fn handle<V: VerifyPeer>(
        self,
        message: &HandshakeMessage,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<(AwaitAuthentication, Box<AuthenticationWork<V>>), HandshakeRefusal> {
        let decode = |_| HandshakeRefusal::Decode { message: HandshakeType::CERTIFICATE_VERIFY };
        let verify = CertificateVerify::parse(&message.body).map_err(decode)?;
        // CertificateRequest offered all schemes that we know.
        let Some(scheme) = SignatureScheme::from_code(verify.scheme) else {
            return Err(
                self.refuse_proof(HandshakeRefusal::SignatureAlgorithmNotOffered { scheme: verify.scheme }, context)
            );
        };
        // The signature stays in the job until the pool has time for it, so no more bytes are copied than a
        // valid one can have.
        if verify.signature.len() > SIGNATURE_BYTES_MAX {
            return Err(self.refuse_proof(HandshakeRefusal::CertificateVerifyEncoding, context));
        }
        let Self { shown, point, session_hash } = self;
        let Shown { agreed, ephemeral, chain } = *shown;
        let work = AuthenticationWork {
            verifier: context.config.verifier.clone(),
            utc: context.port.now.utc,
            chain,
            signed: context.conversation.transcript.take_bytes(),
            scheme,
            signature: verify.signature.to_vec(),
            ephemeral,
            point,
            binding: agreed.binding(|| session_hash),
        };
        context.conversation.hash_received(message);
        Ok((AwaitAuthentication { agreed }, Box::new(work)))
    }
}

impl ExpectCertificateVerify {
    /// A CertificateVerify that cannot be checked. If the certificate itself is the cause, such as one with an RSA key, the refusal is that
    /// of the certificate, because it names the cause. No signature is verified for this.
    fn refuse_proof<V: VerifyPeer>(
        self,
        refusal: HandshakeRefusal,
        context: &mut ServerContext<'_, '_, V>,
    ) -> HandshakeRefusal {
        let (verifier, utc) = (context.config.verifier.as_ref(), context.port.now.utc);
        let (collected, claimed) = self.shown.chain.with_slices(context.conversation.transcript.bytes(), |chain| {
            (verifier.collect(chain, utc), chain.first().and_then(|leaf| verifier.claimed(leaf)))
        });
        context.account.claimed = claimed;
        let Err(CertificateRefusal { fault, detail }) = collected else { return refusal };
        context.account.detail = detail;
        HandshakeRefusal::Certificate(fault)
    }
}

/// The client is being judged and the keys are being agreed on.
pub(super) struct AwaitAuthentication {
    agreed: Agreed,
}

impl AwaitAuthentication {
    pub(super) fn handle<V: VerifyPeer>(
        self,
        done: Authentication<V::Proven>,
        context: &mut ServerContext<'_, '_, V>,
    ) -> Result<ExpectChangeCipherSpec<V::Proven>, HandshakeRefusal> {
        context.conversation.install_keys(&self.agreed, Role::Server, &done.master_secret, context.port);
        context.conversation.resume_timer(context.port.now.mono);
        context.conversation.handle_early_records(context.port)?;
        Ok(ExpectChangeCipherSpec {
            proven: done.proven,
            master_secret: done.master_secret,
            extended_master_secret: self.agreed.extended_master_secret,
        })
    }
}
