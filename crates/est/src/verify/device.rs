//! Verifies devices, on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dtls::{
    CertificateFault, CertificateRefusal, EcdsaPublicKey, Judgement, SignatureCheck, UnixTime, UnprovenPeer, Verdicts,
    VerifyPeer,
};
use pki::chain::{self, Anchors, AuthoritySignature, Verified};
use pki::{AnchorId, Certificate, Digest, Encoding};

use super::certificates::{Authenticated, CertificateCache};
use super::refusal::{bounded, refusal};
use super::shown::ShownChain;

/// What a server session stores about its peer: enough to find the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerDevice {
    certificate: Digest,
}

impl PeerDevice {
    /// The digest of the certificate that the device authenticated with.
    #[must_use]
    pub const fn certificate(&self) -> &Digest {
        &self.certificate
    }
}

/// Verifies devices.
pub struct PeerVerifier {
    anchors: Arc<Anchors>,
    /// The ids of the anchors, in the same order.
    ids: Arc<[AnchorId]>,
    authorities: Vec<Vec<u8>>,
    certificates: Arc<CertificateCache>,
}

impl PeerVerifier {
    /// `anchors` may hold one certificate several times; `name_authorities` sends their names in CertificateRequest.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(
        anchors: impl IntoIterator<Item = Arc<Certificate>>,
        certificates: Arc<CertificateCache>,
        name_authorities: NameAuthorities,
    ) -> Result<Self, chain::AnchorError> {
        let distinct: BTreeMap<Digest, Arc<Certificate>> =
            anchors.into_iter().map(|anchor| (anchor.digest(), anchor)).collect();
        let anchors: Vec<Arc<Certificate>> = distinct.into_values().collect();
        let authorities = match name_authorities {
            NameAuthorities::LeaveEmpty => Vec::new(),
            NameAuthorities::List => anchors.iter().map(|anchor| anchor.subject().der().to_vec()).collect(),
        };
        let ids = anchors.iter().map(|anchor| anchor.anchor_id()).collect();
        Ok(Self { anchors: Arc::new(Anchors::new(anchors)?), ids, authorities, certificates })
    }

    /// Accepts devices below these anchors although their own certificate is past its notAfter.
    #[must_use]
    pub fn accepting_expired_below(self, anchors: impl IntoIterator<Item = AnchorId>) -> Self {
        let of_expired: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.accepting_expired_below(|anchor| of_expired.contains(&anchor.anchor_id())))
    }

    /// Ends every path at these anchors, the issuing CAs: a device certified by one of them does not count as a device
    /// of a manufacturer above it.
    #[must_use]
    pub fn ending_at(self, anchors: impl IntoIterator<Item = AnchorId>) -> Self {
        let last: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.ending_at(|anchor| last.contains(&anchor.anchor_id())))
    }

    /// Reads device certificates as the most lenient profile does. A strict profile refuses by
    /// [`Authenticated::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        self.with(|all| all.reading(encoding))
    }

    /// Judges a whole chain at once, as the steps of a handshake do one by one: for a caller that has no session.
    ///
    /// # Errors
    /// As [`VerifyPeer::collect`] and [`UnprovenPeer::conclude`].
    pub fn authenticate(&self, chain: &[&[u8]], utc: UnixTime) -> Result<Authenticated, CertificateRefusal> {
        let verified = chain::verify_device(&self.anchors, chain, utc).map_err(|refused| refusal(&refused))?;
        let Verified { leaf: certificate, anchor, deviations, .. } = verified;
        let anchor = *self.ids.get(anchor).ok_or(CertificateFault::UnknownIssuer)?;
        Ok(Authenticated { certificate, anchor, deviations })
    }

    fn with(self, change: impl FnOnce(Anchors) -> Anchors) -> Self {
        Self { anchors: Arc::new(change(Arc::unwrap_or_clone(self.anchors))), ..self }
    }
}

/// Whether CertificateRequest names the authorities that are trusted: `certificate_authorities` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameAuthorities {
    /// An empty list: small device buffers (RFC 5246 §7.4.4: "the client MAY send any certificate").
    #[default]
    LeaveEmpty,
    /// Lists all of them.
    List,
}

/// A device whose chain is being verified.
pub struct UnprovenDevice {
    shown: ShownChain,
    /// The ids of the verifier's anchors.
    ids: Arc<[AnchorId]>,
}

impl UnprovenPeer for UnprovenDevice {
    type Proven = ProvenDevice;

    fn key(&self) -> &EcdsaPublicKey {
        self.shown.key()
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        self.shown.checks()
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, ProvenDevice>, CertificateRefusal> {
        let ids = self.ids;
        Ok(match self.shown.conclude(verdicts)? {
            Judgement::Further(shown) => Judgement::Further(Self { shown, ids }),
            Judgement::Proven(Verified { leaf: certificate, anchor, deviations, authorities }) => {
                let anchor = *ids.get(anchor).ok_or(CertificateFault::UnknownIssuer)?;
                let authenticated = Authenticated { certificate, anchor, deviations };
                Judgement::Proven(ProvenDevice { authenticated, authorities })
            }
        })
    }
}

/// A device whose chain is verified and that has proven its leaf's key. Shared state does not change before its
/// Finished is verified.
pub struct ProvenDevice {
    authenticated: Authenticated,
    /// The signatures of authorities that its chain has proven.
    authorities: Vec<AuthoritySignature>,
}

impl VerifyPeer for PeerVerifier {
    type Peer = PeerDevice;
    type Unproven = UnprovenDevice;
    type Proven = ProvenDevice;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<UnprovenDevice, CertificateRefusal> {
        let chain =
            chain::collect_device(Arc::clone(&self.anchors), chain, utc).map_err(|refused| refusal(&refused))?;
        Ok(UnprovenDevice { shown: ShownChain::new(chain, None)?, ids: Arc::clone(&self.ids) })
    }

    fn admit(&self, proven: ProvenDevice) -> PeerDevice {
        let device = PeerDevice { certificate: proven.authenticated.certificate.digest() };
        self.anchors.remember(&proven.authorities);
        self.certificates.keep(proven.authenticated);
        device
    }

    fn holder(proven: &ProvenDevice) -> u64 {
        number_of(&proven.authenticated.certificate.digest())
    }

    fn holder_of(peer: &PeerDevice) -> Option<u64> {
        Some(number_of(&peer.certificate))
    }

    fn claimed(&self, leaf: &[u8]) -> Option<Box<str>> {
        // The claimed name is most useful to an operator if the certificate is refused for its encoding.
        Certificate::parse_as(leaf, Encoding::AsIssued).ok().map(|leaf| subject_of(&leaf))
    }

    fn claimed_by(&self, proven: &ProvenDevice) -> Option<Box<str>> {
        Some(subject_of(&proven.authenticated.certificate))
    }

    fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }
}

/// A number for a certificate.
fn number_of(digest: &Digest) -> u64 {
    digest.as_bytes().first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

/// Bytes of a subject in a report: what fits a log line.
const SUBJECT_SHOWN_BYTES_MAX: usize = 128;

fn subject_of(certificate: &Certificate) -> Box<str> {
    bounded(certificate.subject().to_string(), SUBJECT_SHOWN_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use dtls::{Client, ClientConfig, CookieKeys, Endpoint, Now, Path, Random, ServerConfig, SocketIndex};
    use pki::make::{self, Parent};
    use pki::{Curve, PrivateKey, ServerName, SigningKey};
    use ring::rand::SecureRandom;

    use super::*;
    use crate::ServerVerifier;
    use crate::keys::identity;
    use crate::verify::tests::{EPOCH, key, life, random, root, serial, utc};

    struct System;

    impl Random for System {
        fn fill(&self, out: &mut [u8]) {
            random().fill(out).unwrap();
        }

        fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
            operation(&random());
        }
    }

    fn key_pair() -> (PrivateKey, SigningKey) {
        let private = PrivateKey::generate(Curve::P256, &random()).unwrap();
        let signing = SigningKey::from_pkcs8(private.pkcs8(), &random()).unwrap();
        (private, signing)
    }

    /// A server of this verifier and a device with this chain, before their first datagram.
    fn ends(
        verifier: &Arc<PeerVerifier>,
        (chain, device): (Vec<Vec<u8>>, &PrivateKey),
        now: Now,
    ) -> (Endpoint<PeerVerifier>, Client<ServerVerifier>) {
        let (root_key, (private, signing)) = (key(), key_pair());
        let root = root(&root_key);
        let name = ServerName::try_from("est.example").unwrap();
        let spec = make::ServerCertificateSpec {
            names: std::slice::from_ref(&name),
            serial: serial(2),
            validity: life(1_000),
        };
        let parent = Parent { certificate: &root, key: &root_key };
        let server = make::server(&spec, signing.public_key(), parent, &random()).unwrap();
        let server = identity(vec![server.der().to_vec()], private.pkcs8(), &System).unwrap();
        let config = ServerConfig::new(server, Arc::clone(verifier), CookieKeys::from_random(&System));
        let judge = Arc::new(ServerVerifier::new(vec![root], name).unwrap());
        let asks = ClientConfig::new(Some(identity(chain, device.pkcs8(), &System).unwrap()), judge);
        let endpoint = Endpoint::new(Arc::new(config), Arc::new(System));
        (endpoint, Client::new(Arc::new(asks), Arc::new(System), now))
    }

    fn deliver(server: &mut Endpoint<PeerVerifier>, now: Now, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 40_000));
        let path = Path { peer, local: None, socket: SocketIndex(0) };
        let mut answers = Vec::new();
        for datagram in datagrams {
            server.handle_datagram(now, path, &mut datagram.clone());
            while server.poll_event().is_some() {}
            while let Some(transmit) = server.poll_transmit() {
                answers.push(transmit.bytes.to_vec());
            }
        }
        answers
    }

    fn sent(client: &mut Client<ServerVerifier>, now: Now, answers: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        for mut answer in answers {
            client.handle_datagram(now, &mut answer);
        }
        let mut sent = Vec::new();
        while let Some(bytes) = client.poll_transmit() {
            sent.push(bytes.to_vec());
        }
        sent
    }

    #[test]
    fn an_authority_is_remembered_once_a_device_below_it_has_finished_its_handshake() {
        let (maker_key, (_, issuing_key), (device, device_key)) = (key(), key_pair(), key_pair());
        let maker = root(&maker_key);
        let spec = make::AuthorityCertificateSpec {
            common_name: "Issuing",
            organization: None,
            serial: serial(3),
            validity: life(10_000),
            path_len: None,
        };
        let parent = Parent { certificate: &maker, key: &maker_key };
        let issuing = make::authority(&spec, issuing_key.public_key(), parent, &random()).unwrap();
        let spec = make::DeviceCertificateSpec {
            common_name: "device",
            serial_number: "1",
            organization: None,
            serial: serial(4),
            validity: life(1_000),
        };
        let parent = Parent { certificate: &issuing, key: &issuing_key };
        let leaf = make::idevid(&spec, device_key.public_key(), parent, &random()).unwrap();
        let chain = vec![leaf.der().to_vec(), issuing.der().to_vec()];

        let cache = Arc::new(CertificateCache::new(16));
        let verifier = Arc::new(PeerVerifier::new([maker], cache, NameAuthorities::LeaveEmpty).unwrap());
        let asked = || {
            let slices: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            verifier.collect(&slices, utc(EPOCH)).map(|unproven| unproven.checks().count()).ok()
        };
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Now { mono: Instant::now() + Duration::from_secs(1), utc: utc(EPOCH) };
        let (mut server, mut client) = ends(&verifier, (chain.clone(), &device), now);
        let hello = sent(&mut client, now, Vec::new());
        let hello = sent(&mut client, now, deliver(&mut server, now, &hello));
        let last = sent(&mut client, now, deliver(&mut server, now, &hello));
        assert_eq!(asked(), Some(2));
        // All of the flight but its Finished: the device has proven its key, and the chain is good.
        let mut spoilt = last.clone();
        *spoilt.last_mut().and_then(|datagram| datagram.last_mut()).unwrap() ^= 1;
        assert_eq!(deliver(&mut server, now, &spoilt).len(), 0);
        assert_eq!((asked(), server.counts().established), (Some(2), 0));
        assert_eq!(deliver(&mut server, now, &last).len(), 1);
        assert_eq!((asked(), server.counts().established), (Some(1), 1));
    }
}
