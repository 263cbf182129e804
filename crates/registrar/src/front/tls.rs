//! TLS of the front: the server's certificate, and the client's, which the verifiers of [`super::Front`] judge.
//!
//! TLS 1.2 and 1.3, the suites of the provider (all with ECDHE and AEAD). There is no resumption: in a resumed session nobody would have judged the
//! client's certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dtls::{CertificateFault, CertificateRefusal};
use pki::{Certificate, Encoding, SignatureAlgorithm};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, PeerMisbehaved, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::Front;
use super::client::FrontClient;

/// The certificate and the key that the front shows.
#[derive(Clone)]
pub struct FrontIdentity {
    provider: Arc<CryptoProvider>,
    shown: Arc<CertifiedKey>,
}

impl FrontIdentity {
    /// `chain` in DER, leaf first, and the leaf's key in PKCS #8. That they belong together is checked by whoever loads them.
    ///
    /// # Errors
    /// The library's, about the key.
    pub fn new(chain: Vec<Vec<u8>>, pkcs8: &[u8]) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let key = ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))?;
        let shown = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key);
        Ok(Self { provider, shown: Arc::new(shown) })
    }

    /// What one connection needs: the configuration of TLS, and where the verdict about the client will be.
    ///
    /// # Errors
    /// The library's, if its provider lacks what both versions need.
    pub fn for_connection(&self, front: &Arc<Front>) -> Result<(Arc<ServerConfig>, Arc<FrontVerdict>), rustls::Error> {
        let verdict = Arc::new(FrontVerdict::default());
        let verifier = ConnectionVerifier { front: Arc::clone(front), verdict: Arc::clone(&verdict) };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&self.shown))));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((Arc::new(config), verdict))
    }
}

impl fmt::Debug for FrontIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontIdentity").finish_non_exhaustive()
    }
}

/// The strength of a suite's cipher in bits. A suite that is not known here protects nothing.
#[must_use]
pub const fn cipher_bits(suite: CipherSuite) -> u16 {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => 256,
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 128,
        _ => 0,
    }
}

/// What the verifier of one connection found. It counts once the handshake is complete: the client's proof of possession comes after the verdict.
#[derive(Debug, Default)]
pub struct FrontVerdict(Mutex<Option<Result<FrontClient, CertificateRefusal>>>);

impl FrontVerdict {
    /// Takes the verdict; `None` if the client has sent no certificate.
    #[must_use]
    pub fn take(&self) -> Option<Result<FrontClient, CertificateRefusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, verdict: Result<FrontClient, CertificateRefusal>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }
}

struct ConnectionVerifier {
    front: Arc<Front>,
    verdict: Arc<FrontVerdict>,
}

impl fmt::Debug for ConnectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionVerifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ConnectionVerifier {
    /// RFC 7030 §4.1.2 and §4.5: no client authentication is expected for /cacerts and /csrattrs.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// An empty list: "the client MAY send any certificate" (RFC 5246 §7.4.4). The anchors of all profiles would make it long.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<&[u8]> = std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        let verdict = self.front.authenticate(&chain, now);
        let answer = match &verdict {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(alert(refusal.fault).into()),
        };
        self.verdict.put(verdict);
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, cert, dss, CurveOfScheme::Free)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, cert, dss, CurveOfScheme::Binding)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384]
    }
}

/// Whether the curve in the name of a signature scheme has to be that of the key. In TLS 1.3 the scheme defines
/// the curve (RFC 8446 §4.2.3); in TLS 1.2 the name stands for the hash alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CurveOfScheme {
    Binding,
    Free,
}

/// Verifies the proof of possession with the parser that read the certificate, which may read what the library's would refuse
/// (`identity_encoding = "as_issued"`).
fn verify(
    message: &[u8],
    leaf: &[u8],
    signed: &DigitallySignedStruct,
    curve_of_scheme: CurveOfScheme,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let (algorithm, curve) = match signed.scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => (SignatureAlgorithm::EcdsaWithSha256, pki::Curve::P256),
        SignatureScheme::ECDSA_NISTP384_SHA384 => (SignatureAlgorithm::EcdsaWithSha384, pki::Curve::P384),
        _ => return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()),
    };
    let leaf = Certificate::parse_as(leaf, Encoding::AsIssued).map_err(|_| CertificateError::BadEncoding)?;
    let key = leaf.public_key();
    if curve_of_scheme == CurveOfScheme::Binding && key.curve() != curve {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    key.verify_as(algorithm, message, signed.signature()).map_err(|_| CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// The error whose alert says what the handshake of EST-coaps says.
fn alert(fault: CertificateFault) -> CertificateError {
    match fault {
        CertificateFault::UnknownIssuer => CertificateError::UnknownIssuer,
        CertificateFault::Expired => CertificateError::Expired,
        CertificateFault::NotYetValid => CertificateError::NotValidYet,
        CertificateFault::BadSignature => CertificateError::BadSignature,
        CertificateFault::BadEncoding => CertificateError::BadEncoding,
        CertificateFault::ExtendedKeyUsage => CertificateError::InvalidPurpose,
        _ => CertificateError::ApplicationVerificationFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_of_the_provider_has_the_strength_of_its_cipher() {
        for suite in ring::default_provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            let bits = if name.contains("AES_128") { 128 } else { 256 };
            assert_eq!(cipher_bits(suite.suite()), bits, "{name}");
        }
        assert_eq!(cipher_bits(CipherSuite::TLS_RSA_WITH_NULL_SHA256), 0);
    }
}
