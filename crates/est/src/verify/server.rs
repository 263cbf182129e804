//! Verifies the server that was dialled, on a device.

use std::sync::{Arc, Mutex};

use dtls::{
    AuthorityKeyHash, CertificateFault, CertificateRefusal, EcdsaPublicKey, Judgement, SignatureCheck, UnixTime,
    UnprovenPeer, Verdicts, VerifyPeer,
};
use pki::chain::{self, AnchorSet, Anchors, CHAIN_CERTIFICATES_MAX, Verified};
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
    /// Authorities for paths, in addition to those that the server sends.
    helpers: Vec<Arc<Certificate>>,
    database: AnchorDatabase,
    expected: ExpectedServer,
    /// The anchors as a hello names them, if it does.
    named: Vec<AuthorityKeyHash>,
    last: Mutex<Option<ProvenChain>>,
}

/// Where anchors come from (RFC 7030 §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorDatabase {
    /// They were given to the device, for this server or for many: the server's certificate has to contain the dialled name.
    Implicit,
    /// They are of the CA that the device belongs to, such as those of `/crts`: id-kp-cmcRA stands for the name.
    Explicit,
}

/// What a server's certificate has to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ExpectedServer {
    /// This name; under Explicit anchors, id-kp-cmcRA stands for it.
    Name(ServerName<'static>),
    /// id-kp-cmcRA.
    RegistrationAuthority,
}

/// A server that has proven its key.
#[derive(Debug)]
pub struct AuthenticatedServer {
    /// Its certificate.
    pub certificate: Arc<Certificate>,
    /// What it sent, its own certificate first: it is judged again if the anchors change.
    chain: Vec<Vec<u8>>,
}

/// The last chain that was accepted.
struct ProvenChain {
    chain: Digest,
    at: UnixTime,
    server: Arc<AuthenticatedServer>,
}

impl ServerVerifier {
    /// A verifier with the Implicit database. `name` is the dialled name: the client "MUST check either the configured URI or the most recent HTTP redirection
    /// URI against the server's identity" (RFC 7030 §3.6.1).
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(anchors: Vec<Arc<Certificate>>, name: ServerName<'static>) -> Result<Self, chain::AnchorError> {
        let set = AnchorSet { anchors, helpers: Vec::new() };
        Self::of(set, AnchorDatabase::Implicit, ExpectedServer::Name(name))
    }

    /// A verifier with the Explicit database: anchors of the device's own CA. The Implicit database plays no part in it.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn explicit(set: AnchorSet, name: ServerName<'static>) -> Result<Self, chain::AnchorError> {
        Self::of(set, AnchorDatabase::Explicit, ExpectedServer::Name(name))
    }

    /// A verifier with the Explicit database for a server whose name is not configured, such as one that answered a multicast: whoever answers
    /// picks the name. It takes registration authorities of the device's own CA, "or the EST server certificate MUST contain the id-kp-cmcRA"
    /// (RFC 7030 §3.6.1), and nobody else.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn registration_authority(set: AnchorSet) -> Result<Self, chain::AnchorError> {
        Self::of(set, AnchorDatabase::Explicit, ExpectedServer::RegistrationAuthority)
    }

    /// A verifier of the same server by the Explicit database.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn with_explicit(&self, set: AnchorSet) -> Result<Self, chain::AnchorError> {
        Self::of(set, AnchorDatabase::Explicit, self.expected.clone())
    }

    /// "If the client disables the Implicit TA database, and if the EST server certificate was verified using an Implicit TA database entry, then
    /// the client MUST include the "Trusted CA Indication" extension in future TLS sessions" (RFC 7030 §4.1.3). A client of the Explicit database
    /// does not know how its server was verified once, so it includes the extension always.
    fn of(set: AnchorSet, database: AnchorDatabase, expected: ExpectedServer) -> Result<Self, chain::AnchorError> {
        let AnchorSet { anchors, helpers } = set;
        let anchors = Arc::new(Anchors::new(anchors)?);
        let verifier = Self { anchors, helpers, database, expected, named: Vec::new(), last: Mutex::new(None) };
        Ok(if database == AnchorDatabase::Explicit { verifier.naming_its_anchors() } else { verifier })
    }

    /// The same, with the Trusted CA Indication in the client's hello whatever the database: RFC 7925 §4.4.6 recommends it to clients of
    /// servers that were discovered.
    #[must_use]
    pub fn naming_its_anchors(mut self) -> Self {
        self.named.clear();
        for anchor in self.anchors.certificates() {
            let hash = AuthorityKeyHash::from_bytes(anchor.public_key().trusted_ca_hash());
            // The root before and after it was certified anew has one key.
            if !self.named.contains(&hash) {
                self.named.push(hash);
            }
        }
        self
    }

    /// Which database the anchors are of.
    #[must_use]
    pub const fn database(&self) -> AnchorDatabase {
        self.database
    }

    /// Judges a server again that another verifier has accepted: its chain, its name, and every signature.
    ///
    /// # Errors
    /// The refusal that a handshake would end with.
    pub fn judge_again(&self, server: &AuthenticatedServer, utc: UnixTime) -> Result<(), CertificateRefusal> {
        let chain: Vec<&[u8]> = server.chain.iter().map(Vec::as_slice).collect();
        let judged = self.judge(&chain, utc).and_then(chain::Unproven::run);
        judged.map(drop).map_err(|refused| refusal(&refused))
    }

    fn judge(&self, chain: &[&[u8]], utc: UnixTime) -> Result<chain::Unproven<Arc<Anchors>>, chain::ChainRefusal> {
        let anchors = Arc::clone(&self.anchors);
        match (self.database, &self.expected) {
            (AnchorDatabase::Implicit, ExpectedServer::Name(name)) => chain::collect_server(anchors, chain, utc, name),
            (AnchorDatabase::Explicit, ExpectedServer::Name(name)) => {
                chain::collect_server_or_ra(anchors, &self.with_helpers(chain), utc, name)
            }
            (_, ExpectedServer::RegistrationAuthority) => chain::collect_ra(anchors, &self.with_helpers(chain), utc),
        }
    }

    /// The chain, and as many of our own authorities behind it as a chain may have.
    fn with_helpers<'a>(&'a self, chain: &[&'a [u8]]) -> Vec<&'a [u8]> {
        let mut all = chain.to_vec();
        for helper in self.helpers.iter().map(|helper| helper.der()) {
            if all.len() < CHAIN_CERTIFICATES_MAX && !all.contains(&helper) {
                all.push(helper);
            }
        }
        all
    }

    fn repeated(&self, chain: &Digest, utc: UnixTime) -> Option<Arc<AuthenticatedServer>> {
        let last = lock(&self.last);
        let verdict = last.as_ref().filter(|verdict| verdict.chain == *chain)?;
        let age = utc.as_secs().checked_sub(verdict.at.as_secs())?;
        (age <= VERDICT_SECONDS_MAX).then(|| Arc::clone(&verdict.server))
    }
}

/// A server whose chain is being verified.
pub struct UnprovenServer {
    state: UnprovenServerState,
}

enum UnprovenServerState {
    New(Box<ShownChain>, NewChain),
    /// The same chain was verified a moment ago; the server still has to prove that it holds the key.
    Repeated {
        server: Arc<AuthenticatedServer>,
        key: EcdsaPublicKey,
    },
}

/// What a server sent, and when.
struct NewChain {
    certificates: Vec<Vec<u8>>,
    at: UnixTime,
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
        let (shown, new) = match self.state {
            UnprovenServerState::Repeated { server, .. } => {
                return Ok(Judgement::Proven(ProvenServer { server, judged: None }));
            }
            UnprovenServerState::New(shown, new) => (shown, new),
        };
        let digest = shown.digest;
        Ok(match shown.conclude(verdicts)? {
            Judgement::Further(shown) => {
                Judgement::Further(Self { state: UnprovenServerState::New(Box::new(shown), new) })
            }
            Judgement::Proven(Verified { leaf, .. }) => {
                let NewChain { certificates, at } = new;
                let server = Arc::new(AuthenticatedServer { certificate: leaf, chain: certificates });
                Judgement::Proven(ProvenServer { server, judged: digest.map(|digest| (digest, at)) })
            }
        })
    }
}

/// A server whose chain is verified and that has proven its leaf's key.
pub struct ProvenServer {
    server: Arc<AuthenticatedServer>,
    /// The digest of its chain, and when it was verified; `None` if an earlier verdict was reused.
    judged: Option<(Digest, UnixTime)>,
}

impl VerifyPeer for ServerVerifier {
    type Peer = Arc<AuthenticatedServer>;
    type Unproven = UnprovenServer;
    type Proven = ProvenServer;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<UnprovenServer, CertificateRefusal> {
        let digest = chain_digest(chain);
        if let Some(server) = self.repeated(&digest, utc) {
            let key = session_key(&server.certificate).ok_or(CertificateFault::UnsupportedAlgorithm)?;
            return Ok(UnprovenServer { state: UnprovenServerState::Repeated { server, key } });
        }
        let judged = self.judge(chain, utc).map_err(|refused| refusal(&refused))?;
        let new = NewChain { certificates: chain.iter().map(|der| der.to_vec()).collect(), at: utc };
        let shown = ShownChain::new(judged, Some(digest))?;
        Ok(UnprovenServer { state: UnprovenServerState::New(Box::new(shown), new) })
    }

    fn trusted_authorities(&self) -> &[AuthorityKeyHash] {
        &self.named
    }

    fn admit(&self, proven: ProvenServer) -> Arc<AuthenticatedServer> {
        if let Some((chain, at)) = proven.judged {
            *lock(&self.last) = Some(ProvenChain { chain, at, server: Arc::clone(&proven.server) });
        }
        proven.server
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
            let UnprovenServerState::New(shown, new) = shown.state else { return Ok(()) };
            let ShownChain { chain, digest, .. } = *shown;
            let results: Vec<bool> =
                chain.checks().map(|check| check.key.verify(check.message, check.signature).is_ok()).collect();
            match chain.conclude(results.into_iter()).map_err(|refused| refusal(&refused).fault)? {
                chain::Conclusion::Proven(Verified { leaf, .. }) => {
                    let server = Arc::new(AuthenticatedServer { certificate: leaf, chain: new.certificates });
                    verifier.admit(ProvenServer { server, judged: digest.map(|digest| (digest, new.at)) });
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
