//! Verifies the server that was dialled, on a device.

use std::sync::{Arc, Mutex};

use dtls::{
    CertificateFault, CertificateRefusal, EcdsaPublicKey, Judgement, SignatureCheck, UnixTime, UnprovenPeer, Verdicts,
    VerifyPeer,
};
use pki::chain::{self, Anchors, Verified};
use pki::{Certificate, Digest, ServerName};

use super::lock::lock;
use super::refusal::refusal;
use super::shown::ShownChain;
use crate::keys::session_key;

/// How long a verdict about a chain is reused without verifying its signatures again. A fleet in one process meets one
/// server a million times; at the end of a certificate's life, a verdict is outdated by at most this time.
const VERDICT_SECONDS_MAX: u64 = 60;

/// Verifies the server that a device dialled.
pub struct ServerVerifier {
    anchors: Arc<Anchors>,
    name: ServerName<'static>,
    last: Mutex<Option<ProvenChain>>,
}

/// The last chain that was accepted.
struct ProvenChain {
    chain: Digest,
    at: UnixTime,
    leaf: Arc<Certificate>,
}

impl ServerVerifier {
    /// `name` is the dialled name: the client "MUST check either the configured URI or the most recent HTTP redirection
    /// URI against the server's identity" (RFC 7030 §3.6.1).
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(anchors: Vec<Arc<Certificate>>, name: ServerName<'static>) -> Result<Self, chain::AnchorError> {
        Ok(Self { anchors: Arc::new(Anchors::new(anchors)?), name, last: Mutex::new(None) })
    }

    /// The dialled name.
    #[must_use]
    pub const fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    fn repeated(&self, chain: &Digest, utc: UnixTime) -> Option<Arc<Certificate>> {
        let last = lock(&self.last);
        let verdict = last.as_ref().filter(|verdict| verdict.chain == *chain)?;
        let age = utc.as_secs().checked_sub(verdict.at.as_secs())?;
        (age <= VERDICT_SECONDS_MAX).then(|| Arc::clone(&verdict.leaf))
    }
}

/// A server whose chain is being verified.
pub struct UnprovenServer {
    state: UnprovenServerState,
}

enum UnprovenServerState {
    New(Box<ShownChain>, UnixTime),
    /// The same chain was verified a moment ago; the server still has to prove that it holds the key.
    Repeated {
        leaf: Arc<Certificate>,
        key: EcdsaPublicKey,
    },
}

impl UnprovenPeer for UnprovenServer {
    type Proven = ProvenServer;

    fn key(&self) -> &EcdsaPublicKey {
        match &self.state {
            UnprovenServerState::New(shown, _) => &shown.key,
            UnprovenServerState::Repeated { key, .. } => key,
        }
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        let shown = match &self.state {
            UnprovenServerState::New(shown, _) => Some(&**shown),
            UnprovenServerState::Repeated { .. } => None,
        };
        shown.into_iter().flat_map(UnprovenPeer::checks)
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, ProvenServer>, CertificateRefusal> {
        let (shown, at) = match self.state {
            UnprovenServerState::Repeated { leaf, .. } => {
                return Ok(Judgement::Proven(ProvenServer { leaf, judged: None }));
            }
            UnprovenServerState::New(shown, at) => (shown, at),
        };
        let digest = shown.digest;
        Ok(match shown.conclude(verdicts)? {
            Judgement::Further(shown) => {
                Judgement::Further(Self { state: UnprovenServerState::New(Box::new(shown), at) })
            }
            Judgement::Proven(Verified { leaf, .. }) => {
                Judgement::Proven(ProvenServer { leaf, judged: digest.map(|digest| (digest, at)) })
            }
        })
    }
}

/// A server whose chain is verified and that has proven its leaf's key.
pub struct ProvenServer {
    leaf: Arc<Certificate>,
    /// The digest of its chain, and when it was verified; `None` if an earlier verdict was reused.
    judged: Option<(Digest, UnixTime)>,
}

impl VerifyPeer for ServerVerifier {
    type Peer = Arc<Certificate>;
    type Unproven = UnprovenServer;
    type Proven = ProvenServer;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<UnprovenServer, CertificateRefusal> {
        let digest = chain_digest(chain);
        if let Some(leaf) = self.repeated(&digest, utc) {
            let key = session_key(&leaf).ok_or(CertificateFault::UnsupportedAlgorithm)?;
            return Ok(UnprovenServer { state: UnprovenServerState::Repeated { leaf, key } });
        }
        let chain = chain::collect_server(Arc::clone(&self.anchors), chain, utc, &self.name)
            .map_err(|refused| refusal(&refused))?;
        Ok(UnprovenServer { state: UnprovenServerState::New(Box::new(ShownChain::new(chain, Some(digest))?), utc) })
    }

    fn admit(&self, proven: ProvenServer) -> Arc<Certificate> {
        if let Some((chain, at)) = proven.judged {
            *lock(&self.last) = Some(ProvenChain { chain, at, leaf: Arc::clone(&proven.leaf) });
        }
        proven.leaf
    }
}

/// A digest over certificates; each one encodes its own length.
fn chain_digest(chain: &[&[u8]]) -> Digest {
    match chain {
        [leaf] => Digest::of(leaf),
        _ => Digest::of(&chain.concat()),
    }
}

#[cfg(test)]
mod tests {
    use pki::SigningKey;
    use pki::make::{self, Parent};

    use super::*;
    use crate::verify::tests::{EPOCH, key, life, random, root, serial, utc};

    fn server_of(root: &Arc<Certificate>, root_key: &SigningKey, seconds: u64) -> Arc<Certificate> {
        let names = [ServerName::try_from("est.example.net").unwrap()];
        let spec = make::ServerCertificateSpec { names: &names, serial: serial(9), validity: life(seconds) };
        let parent = Parent { certificate: root, key: root_key };
        Arc::new(make::server(&spec, key().public_key(), parent, &random()).unwrap())
    }

    #[test]
    fn a_repeated_verdict_does_not_outlive_the_certificate_by_much() {
        let (key, other_key) = (key(), key());
        // Another root with the same name.
        let impostor = server_of(&root(&other_key), &other_key, 1_000);
        let root = root(&key);
        let server = server_of(&root, &key, 1_000);
        let name = ServerName::try_from("est.example.net").unwrap();
        let verifier = ServerVerifier::new(vec![Arc::clone(&root)], name).unwrap();
        // The server has the key in each case: the test is about its chain.
        let verify = |certificate: &Certificate, at| {
            let shown = verifier.collect(&[certificate.der()], utc(at)).map_err(|refusal| refusal.fault)?;
            let UnprovenServerState::New(shown, at) = shown.state else { return Ok(()) };
            let ShownChain { chain, digest, .. } = *shown;
            let results: Vec<bool> =
                chain.checks().map(|check| check.key.verify(check.message, check.signature).is_ok()).collect();
            match chain.conclude(results.into_iter()).map_err(|refused| refusal(&refused).fault)? {
                chain::Conclusion::Proven(Verified { leaf, .. }) => {
                    verifier.admit(ProvenServer { leaf, judged: digest.map(|digest| (digest, at)) });
                    Ok(())
                }
                chain::Conclusion::Further(_) => panic!("there is one path"),
            }
        };

        assert_eq!(verify(&server, EPOCH + 990), Ok(()));
        assert!(verify(&impostor, EPOCH + 990).is_err(), "the verdict is about one chain");
        assert_eq!(verify(&server, EPOCH + 995), Ok(()));
        assert_eq!(verify(&server, EPOCH + 990 + VERDICT_SECONDS_MAX + 1), Err(CertificateFault::Expired));
        assert_eq!(verify(&server, EPOCH - 1), Err(CertificateFault::NotYetValid), "a clock that goes back asks anew");
    }
}
