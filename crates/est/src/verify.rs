//! Who the peer is: the two judges that the DTLS engine asks, over `pki`'s path validation.
//!
//! [`PeerVerifier`] judges devices on the server, against the union of all profiles' anchors; which of them a profile
//! accepts is the authority's decision, request by request. [`ServerVerifier`] judges the server on a device, as RFC 7030
//! §3.6 says: an anchor that was given, the name that was dialled, a certificate for servers.
//!
//! A session keeps a [`Device`], which is a digest; the certificate itself lives once in a [`CertificateCache`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dtls::{
    CertificateFault, CertificateRefusal, Conclusion, PublicKey, SignatureCheck, SignatureScheme, UnixTime, Unproven,
    Verdicts, VerifyPeer,
};
use pki::chain::{self, Anchors, ChainError, ChainRefusal, Verified};
use pki::{AnchorId, Certificate, CertificateFlaw, Deviations, Digest, Encoding, ServerName};

use crate::keys::session_key;

/// What a server session knows of its peer: enough to find the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    certificate: Digest,
}

impl Device {
    /// The digest of the certificate that the device authenticated with.
    #[must_use]
    pub const fn certificate(&self) -> &Digest {
        &self.certificate
    }
}

/// Judges devices.
pub struct PeerVerifier {
    anchors: Arc<Anchors>,
    /// Of the anchors, in the same order.
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
    ) -> Result<PeerVerifier, chain::AnchorError> {
        let distinct: BTreeMap<Digest, Arc<Certificate>> =
            anchors.into_iter().map(|anchor| (anchor.digest(), anchor)).collect();
        let anchors: Vec<Arc<Certificate>> = distinct.into_values().collect();
        let authorities = match name_authorities {
            NameAuthorities::No => Vec::new(),
            NameAuthorities::Yes => anchors.iter().map(|anchor| anchor.subject().der().to_vec()).collect(),
        };
        let ids = anchors.iter().map(|anchor| anchor.anchor_id()).collect();
        Ok(PeerVerifier { anchors: Arc::new(Anchors::new(anchors)?), ids, authorities, certificates })
    }

    /// Lets devices below these anchors in although their own certificate is past its notAfter.
    #[must_use]
    pub fn accepting_expired_below(self, anchors: impl IntoIterator<Item = AnchorId>) -> PeerVerifier {
        let of_expired: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.accepting_expired_below(|anchor| of_expired.contains(&anchor.anchor_id())))
    }

    /// Lets no path lead past these anchors, the issuing CAs: a device that one of them has certified is not one of a manufacturer above.
    #[must_use]
    pub fn ending_at(self, anchors: impl IntoIterator<Item = AnchorId>) -> PeerVerifier {
        let last: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.ending_at(|anchor| last.contains(&anchor.anchor_id())))
    }

    /// Reads the certificates of devices as the most lenient of all profiles does. A strict one refuses by [`Authenticated::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> PeerVerifier {
        self.with(|all| all.reading(encoding))
    }

    fn with(self, change: impl FnOnce(Anchors) -> Anchors) -> PeerVerifier {
        PeerVerifier { anchors: Arc::new(change(Arc::unwrap_or_clone(self.anchors))), ..self }
    }
}

/// Whether CertificateRequest names the authorities that are trusted: `certificate_authorities` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameAuthorities {
    /// An empty list: small device buffers (RFC 5246 §7.4.4: "the client MAY send any certificate").
    #[default]
    No,
    /// All of them.
    Yes,
}

/// A chain that is in order but for its signatures, and the key of its leaf as the handshake wants it.
struct Shown {
    chain: chain::Unproven<Arc<Anchors>>,
    key: PublicKey,
    /// Of a server: the digest of its whole chain.
    digest: Option<Digest>,
}

impl Shown {
    fn new(chain: chain::Unproven<Arc<Anchors>>, digest: Option<Digest>) -> Result<Shown, CertificateRefusal> {
        let key = session_key(chain.leaf()).ok_or(CertificateFault::UnsupportedAlgorithm)?;
        Ok(Shown { chain, key, digest })
    }
}

impl Unproven for Shown {
    type Proven = Verified;

    fn key(&self) -> &PublicKey {
        &self.key
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        self.chain.checks().map(signature_check)
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Conclusion<Shown, Verified>, CertificateRefusal> {
        let Shown { chain, key, digest } = self;
        Ok(match chain.conclude(verdicts.iter()).map_err(|refused| refusal(&refused))? {
            chain::Conclusion::Proven(verified) => Conclusion::Proven(verified),
            chain::Conclusion::Further(chain) => Conclusion::Further(Shown { chain: *chain, key, digest }),
        })
    }
}

/// A device under judgement.
pub struct ShownDevice {
    shown: Shown,
    /// Of the verifier's anchors.
    ids: Arc<[AnchorId]>,
}

impl Unproven for ShownDevice {
    type Proven = ProvenDevice;

    fn key(&self) -> &PublicKey {
        self.shown.key()
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        self.shown.checks()
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Conclusion<Self, ProvenDevice>, CertificateRefusal> {
        let ids = self.ids;
        Ok(match self.shown.conclude(verdicts)? {
            Conclusion::Further(shown) => Conclusion::Further(ShownDevice { shown, ids }),
            Conclusion::Proven(Verified { leaf: certificate, anchor, deviations }) => {
                let anchor = *ids.get(anchor).ok_or(CertificateFault::UnknownIssuer)?;
                Conclusion::Proven(ProvenDevice { authenticated: Authenticated { certificate, anchor, deviations } })
            }
        })
    }
}

/// A device whose chain is verified and which has the key of its leaf. Nothing shared knows of it before its Finished is verified.
pub struct ProvenDevice {
    authenticated: Authenticated,
}

impl VerifyPeer for PeerVerifier {
    type Peer = Device;
    type Unproven = ShownDevice;
    type Proven = ProvenDevice;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<ShownDevice, CertificateRefusal> {
        let chain =
            chain::collect_device(Arc::clone(&self.anchors), chain, utc).map_err(|refused| refusal(&refused))?;
        Ok(ShownDevice { shown: Shown::new(chain, None)?, ids: Arc::clone(&self.ids) })
    }

    fn admit(&self, proven: ProvenDevice) -> Device {
        let device = Device { certificate: proven.authenticated.certificate.digest() };
        self.certificates.keep(proven.authenticated);
        device
    }

    fn holder(proven: &ProvenDevice) -> u64 {
        let digest = proven.authenticated.certificate.digest();
        digest.as_bytes().first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
    }

    fn claimed(&self, leaf: &[u8]) -> Option<Box<str>> {
        // Whom it claims to be is of use to an operator above all where its encoding is what it is refused for.
        Certificate::parse_as(leaf, Encoding::AsIssued).ok().map(|leaf| subject_of(&leaf))
    }

    fn claimed_by(&self, proven: &ProvenDevice) -> Option<Box<str>> {
        Some(subject_of(&proven.authenticated.certificate))
    }

    fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }
}

/// Bytes of a subject in a report: what a line of a log can hold.
const SUBJECT_SHOWN_BYTES_MAX: usize = 128;

fn subject_of(certificate: &Certificate) -> Box<str> {
    bounded(certificate.subject().to_string(), SUBJECT_SHOWN_BYTES_MAX)
}

/// The first `bytes_max` bytes of a text, cut between characters.
fn bounded(mut text: String, bytes_max: usize) -> Box<str> {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text.into()
}

/// The check of a chain as the handshake's cryptography wants it.
fn signature_check(check: chain::Check<'_>) -> SignatureCheck<'_> {
    let curve = match check.key.curve() {
        pki::Curve::P256 => dtls::Curve::P256,
        pki::Curve::P384 => dtls::Curve::P384,
    };
    let scheme = match check.algorithm {
        pki::SignatureAlgorithm::EcdsaWithSha256 => SignatureScheme::EcdsaSecp256r1Sha256,
        pki::SignatureAlgorithm::EcdsaWithSha384 => SignatureScheme::EcdsaSecp384r1Sha384,
    };
    SignatureCheck { curve, point: check.key.point(), scheme, message: check.message, signature: check.signature }
}

/// A certificate that a device authenticated with, and where its chain ended.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Who its trust anchor is, whichever certificate of that anchor is in use.
    pub anchor: AnchorId,
    /// What of DER the certificates of its chain do without.
    pub deviations: Deviations,
}

/// Segments of the cache, each under a lock of its own: shards that look up at once rarely meet.
const SEGMENTS: usize = 16;

/// The certificates of authenticated devices, by digest, shared by all shards and all configurations. Bounded: when it is
/// full, the one whose device has not authenticated for longest goes. A session in the middle of an enrolment holds its certificate
/// itself; an idle one whose certificate has gone has to authenticate anew. That a certificate was asked for spares it nothing, or
/// those who have enrolled would push out those who are about to.
#[derive(Debug)]
pub struct CertificateCache {
    segments: [Mutex<Segment>; SEGMENTS],
    per_segment_max: usize,
}

#[derive(Debug, Default)]
struct Segment {
    entries: BTreeMap<Digest, Entry>,
    /// In the order of their coming, or of their second chance: for devices that authenticated again.
    order: VecDeque<Digest>,
}

#[derive(Debug)]
struct Entry {
    authenticated: Authenticated,
    again: bool,
}

impl CertificateCache {
    /// A parsed device certificate takes about 1.5 KiB: 65,536 of them about 100 MiB, an hour of enrolments at 18 a second
    /// for sessions that stay and come back to renew.
    pub const CERTIFICATES_MAX_DEFAULT: usize = 65_536;

    /// A cache for about `certificates_max`, at least one in each of its parts.
    #[must_use]
    pub fn new(certificates_max: usize) -> CertificateCache {
        CertificateCache {
            segments: std::array::from_fn(|_| Mutex::default()),
            per_segment_max: certificates_max.div_ceil(SEGMENTS).max(1),
        }
    }

    /// The certificate with this digest, if it is still here.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<Authenticated> {
        self.segment(digest).entries.get(digest).map(|entry| entry.authenticated.clone())
    }

    /// How many are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| lock(segment).entries.len()).sum()
    }

    /// Whether none is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keep(&self, authenticated: Authenticated) {
        let digest = authenticated.certificate.digest();
        let mut segment = self.segment(&digest);
        if let Some(entry) = segment.entries.get_mut(&digest) {
            // The same device again; its chain may end elsewhere since the anchors changed. Its certificate is here already.
            entry.authenticated.anchor = authenticated.anchor;
            entry.authenticated.deviations = authenticated.deviations;
            entry.again = true;
            return;
        }
        if segment.entries.len() >= self.per_segment_max {
            segment.evict();
        }
        segment.order.push_back(digest);
        segment.entries.insert(digest, Entry { authenticated, again: false });
    }

    fn segment(&self, digest: &Digest) -> MutexGuard<'_, Segment> {
        let index = usize::from(digest.as_bytes()[0]) % SEGMENTS;
        lock(&self.segments[index])
    }
}

impl Segment {
    /// Second chance: one whose device authenticated again goes to the end once, the first of the others goes. Ends after one round, for
    /// every pass takes a mark away.
    fn evict(&mut self) {
        while let Some(digest) = self.order.pop_front() {
            match self.entries.get_mut(&digest) {
                Some(entry) if entry.again => {
                    entry.again = false;
                    self.order.push_back(digest);
                }
                _ => {
                    self.entries.remove(&digest);
                    return;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is a cache: what a thread left when it panicked is at worst an entry short.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For how long a verdict over the same chain is repeated without the arithmetic. A fleet in one process meets one server
/// a million times; a verdict this old is wrong by at most this at the end of a certificate's life.
const VERDICT_SECONDS_MAX: u64 = 60;

/// Judges the server that a device dialled.
pub struct ServerVerifier {
    anchors: Arc<Anchors>,
    name: ServerName<'static>,
    last: Mutex<Option<Verdict>>,
}

/// The last chain that was found good.
struct Verdict {
    chain: Digest,
    at: UnixTime,
    leaf: Arc<Certificate>,
}

impl ServerVerifier {
    /// `name` is what was dialled: the client "MUST check either the configured URI or the most recent HTTP redirection
    /// URI against the server's identity" (RFC 7030 §3.6.1).
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(
        anchors: Vec<Arc<Certificate>>,
        name: ServerName<'static>,
    ) -> Result<ServerVerifier, chain::AnchorError> {
        Ok(ServerVerifier { anchors: Arc::new(Anchors::new(anchors)?), name, last: Mutex::new(None) })
    }

    /// What was dialled.
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

/// A server under judgement.
pub struct ShownServer {
    state: ShownServerState,
}

enum ShownServerState {
    New(Box<Shown>, UnixTime),
    /// The same chain was found good a moment ago; that the server has its key is to be shown anew.
    Repeated {
        leaf: Arc<Certificate>,
        key: PublicKey,
    },
}

impl Unproven for ShownServer {
    type Proven = ProvenServer;

    fn key(&self) -> &PublicKey {
        match &self.state {
            ShownServerState::New(shown, _) => &shown.key,
            ShownServerState::Repeated { key, .. } => key,
        }
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        let shown = match &self.state {
            ShownServerState::New(shown, _) => Some(&**shown),
            ShownServerState::Repeated { .. } => None,
        };
        shown.into_iter().flat_map(Unproven::checks)
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Conclusion<Self, ProvenServer>, CertificateRefusal> {
        let (shown, at) = match self.state {
            ShownServerState::Repeated { leaf, .. } => {
                return Ok(Conclusion::Proven(ProvenServer { leaf, judged: None }));
            }
            ShownServerState::New(shown, at) => (shown, at),
        };
        let digest = shown.digest;
        Ok(match shown.conclude(verdicts)? {
            Conclusion::Further(shown) => {
                Conclusion::Further(ShownServer { state: ShownServerState::New(Box::new(shown), at) })
            }
            Conclusion::Proven(Verified { leaf, .. }) => {
                Conclusion::Proven(ProvenServer { leaf, judged: digest.map(|digest| (digest, at)) })
            }
        })
    }
}

/// A server whose chain is verified and which has the key of its leaf.
pub struct ProvenServer {
    leaf: Arc<Certificate>,
    /// The digest of its chain, and when it was judged; nothing where a former verdict was repeated.
    judged: Option<(Digest, UnixTime)>,
}

impl VerifyPeer for ServerVerifier {
    type Peer = Arc<Certificate>;
    type Unproven = ShownServer;
    type Proven = ProvenServer;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<ShownServer, CertificateRefusal> {
        let digest = chain_digest(chain);
        if let Some(leaf) = self.repeated(&digest, utc) {
            let key = session_key(&leaf).ok_or(CertificateFault::UnsupportedAlgorithm)?;
            return Ok(ShownServer { state: ShownServerState::Repeated { leaf, key } });
        }
        let chain = chain::collect_server(Arc::clone(&self.anchors), chain, utc, &self.name)
            .map_err(|refused| refusal(&refused))?;
        Ok(ShownServer { state: ShownServerState::New(Box::new(Shown::new(chain, Some(digest))?), utc) })
    }

    fn admit(&self, proven: ProvenServer) -> Arc<Certificate> {
        if let Some((chain, at)) = proven.judged {
            *lock(&self.last) = Some(Verdict { chain, at, leaf: Arc::clone(&proven.leaf) });
        }
        proven.leaf
    }
}

/// A digest over certificates of which each says its own length.
fn chain_digest(chain: &[&[u8]]) -> Digest {
    match chain {
        [leaf] => Digest::of(leaf),
        _ => Digest::of(&chain.concat()),
    }
}

/// Bytes of what is said about a chain: two subjects of 128 bytes and a sentence.
const DETAIL_BYTES_MAX: usize = 512;

/// A refusal of `pki` in the words of the handshake, with `pki`'s own for the log.
fn refusal(refused: &ChainRefusal) -> CertificateRefusal {
    CertificateRefusal { fault: fault(refused.error), detail: Some(bounded(refused.to_string(), DETAIL_BYTES_MAX)) }
}

/// The faults of `pki` for the handshake, which has fewer: the alert is what the peer sees.
fn fault(error: ChainError) -> CertificateFault {
    match error {
        // The key is of a kind that we do not do; the certificate may be in perfect order.
        ChainError::Certificate { error, .. } if matches!(error.flaw, CertificateFlaw::Key(_)) => {
            CertificateFault::UnsupportedAlgorithm
        }
        ChainError::Empty
        | ChainError::Certificate { .. }
        | ChainError::BadEncoding
        | ChainError::SignatureEncoding => CertificateFault::BadEncoding,
        ChainError::TooManyCertificates { .. } => CertificateFault::TooManyCertificates,
        ChainError::UnknownIssuer => CertificateFault::UnknownIssuer,
        ChainError::Expired { .. } => CertificateFault::Expired,
        ChainError::NotYetValid { .. } => CertificateFault::NotYetValid,
        ChainError::BadSignature => CertificateFault::BadSignature,
        ChainError::UnsupportedAlgorithm => CertificateFault::UnsupportedAlgorithm,
        ChainError::KeyUsage { .. } | ChainError::AuthorityAsLeaf | ChainError::AnchorAsLeaf => {
            CertificateFault::KeyUsage
        }
        ChainError::ExtendedKeyUsage => CertificateFault::ExtendedKeyUsage,
        ChainError::NameMismatch => CertificateFault::NameMismatch,
        ChainError::PathLength => CertificateFault::PathLength,
        ChainError::NotAnAuthority => CertificateFault::NotAnAuthority,
        ChainError::NameConstraints => CertificateFault::NameConstraints,
        ChainError::CriticalExtension => CertificateFault::CriticalExtension,
        ChainError::TooMuchWork => CertificateFault::TooMuchWork,
        ChainError::DeviceAsServer => CertificateFault::DeviceAsServer,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::issue::{NodePrefix, Serial};
    use pki::make::{self, Parent};
    use pki::{Curve, PrivateKey, SigningKey, Validity};

    use super::*;

    const EPOCH: u64 = 1_767_225_600;

    fn utc(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[allow(clippy::disallowed_methods, reason = "certificates for tests; which ones does not matter")]
    fn random() -> ring::rand::SystemRandom {
        ring::rand::SystemRandom::new()
    }

    fn serial(number: u8) -> Serial {
        Serial::new(NodePrefix::new(1), [number; 16])
    }

    fn life(seconds: u64) -> Validity {
        Validity { not_before: utc(EPOCH), not_after: utc(EPOCH + seconds) }
    }

    fn key() -> SigningKey {
        let key = PrivateKey::generate(Curve::P256, &random()).unwrap();
        SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap()
    }

    fn root(key: &SigningKey) -> Arc<Certificate> {
        let spec = make::AuthoritySpec {
            common_name: "Root",
            organization: None,
            serial: serial(1),
            validity: life(1_000_000),
            path_len: None,
        };
        Arc::new(make::root(&spec, key, &random()).unwrap())
    }

    fn devices(count: u8) -> Vec<Arc<Certificate>> {
        let key = key();
        let root = root(&key);
        let device = |number| {
            let spec = make::DeviceSpec {
                common_name: "device",
                serial_number: "1",
                organization: None,
                serial: serial(number),
                validity: life(1_000),
            };
            let parent = Parent { certificate: &root, key: &key };
            Arc::new(make::idevid(&spec, key.public_key(), parent, &random()).unwrap())
        };
        (1..=count).map(device).collect()
    }

    /// Three that lie in one segment of the cache.
    fn neighbours() -> [Arc<Certificate>; 3] {
        let devices = devices(64);
        let segment = |device: &&Arc<Certificate>| usize::from(device.digest().as_bytes()[0]) % SEGMENTS;
        let mut shared = (0..SEGMENTS).map(|index| devices.iter().filter(move |device| segment(device) == index));
        let found = shared.find_map(|mut neighbours| {
            Some([neighbours.next()?.clone(), neighbours.next()?.clone(), neighbours.next()?.clone()])
        });
        found.expect("64 in 16 segments")
    }

    fn authenticated(certificate: &Arc<Certificate>, anchor: AnchorId) -> Authenticated {
        Authenticated { certificate: Arc::clone(certificate), anchor, deviations: certificate.deviations() }
    }

    #[test]
    fn c47_the_certificate_whose_device_authenticated_longest_ago_goes_first() {
        let [one, two, three] = neighbours();
        let anchor = AnchorId::from_bytes([1; 32]);
        let cache = CertificateCache::new(2 * SEGMENTS);
        let keep = |certificate: &Arc<Certificate>| cache.keep(authenticated(certificate, anchor));
        keep(&one);
        keep(&two);
        keep(&one);
        // It has enrolled: no reason to keep it rather than a newcomer.
        assert!(cache.find(&two.digest()).is_some());
        keep(&three);
        assert!(cache.find(&one.digest()).is_some());
        assert!(cache.find(&two.digest()).is_none());
        assert!(cache.find(&three.digest()).is_some());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn one_certificate_is_kept_once() {
        let [one, ..] = neighbours();
        let cache = CertificateCache::new(64);
        cache.keep(authenticated(&one, AnchorId::from_bytes([1; 32])));
        cache.keep(authenticated(&one, AnchorId::from_bytes([2; 32])));
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.find(&one.digest()).unwrap().anchor, AnchorId::from_bytes([2; 32]));
    }

    fn server_of(root: &Arc<Certificate>, root_key: &SigningKey, seconds: u64) -> Arc<Certificate> {
        let names = [ServerName::try_from("est.example.net").unwrap()];
        let spec = make::ServerSpec { names: &names, serial: serial(9), validity: life(seconds) };
        let parent = Parent { certificate: root, key: root_key };
        Arc::new(make::server(&spec, key().public_key(), parent, &random()).unwrap())
    }

    #[test]
    fn a_repeated_verdict_does_not_outlive_the_certificate_by_much() {
        let (key, other_key) = (key(), key());
        // Another root of the same name.
        let impostor = server_of(&root(&other_key), &other_key, 1_000);
        let root = root(&key);
        let server = server_of(&root, &key, 1_000);
        let name = ServerName::try_from("est.example.net").unwrap();
        let verifier = ServerVerifier::new(vec![Arc::clone(&root)], name).unwrap();
        // The server has the key in each case: what is in question is its chain.
        let verify = |certificate: &Certificate, at| {
            let shown = verifier.collect(&[certificate.der()], utc(at)).map_err(|refusal| refusal.fault)?;
            let ShownServerState::New(shown, at) = shown.state else { return Ok(()) };
            let Shown { chain, digest, .. } = *shown;
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
