//! The cache of certificates of authenticated devices; each is stored once.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use authority::Function;
use pki::{AnchorId, Certificate, Deviations, Digest};

use super::lock::lock;

/// A certificate that a device authenticated with, and where its chain ended.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Its trust anchor, the same for all certificates of that anchor.
    pub anchor: AnchorId,
    /// What of DER the certificates of its chain do without.
    pub deviations: Deviations,
}

/// Recognises a repetition of an enrolment request of one certificate. Only a hint: two requests with the same mark differ in nothing but the
/// chance to wait while the server is full, and the authority decides about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestMark(u64);

impl RequestMark {
    /// The mark of a request for this function of the profile, with this CSR.
    pub(crate) fn of(function: Function, profile: &str, csr: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        (function, profile, csr).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Segments of the cache, each with its own lock: shards that look up at the same time rarely contend.
const SEGMENTS: usize = 16;

/// The certificates of authenticated devices, by digest, shared by all shards and all configurations. The cache is
/// bounded: when it is full, it evicts the certificate whose device has not authenticated for longest. A session in the
/// middle of an enrolment holds its certificate itself; an idle session whose certificate was evicted has to
/// authenticate again. A lookup does not prolong the life of a certificate: otherwise devices that have enrolled would
/// displace those that are about to.
///
/// Beside a certificate stands the request that was answered last with a certificate: its device may repeat it over
/// another session, on another shard. The mark goes with the entry, and takes no memory of its own.
///
/// It is the only state that shards share during a handshake. A segment is locked when a device is authenticated, when
/// its enrolment begins and ends, when a report names it, and not for each datagram.
#[derive(Debug)]
pub struct CertificateCache {
    segments: [Mutex<Segment>; SEGMENTS],
    per_segment_max: usize,
}

#[derive(Debug, Default)]
struct Segment {
    entries: BTreeMap<Digest, CachedCertificate>,
    /// In the order of arrival, or of the second chance that a device gets when it authenticates again.
    order: VecDeque<Digest>,
}

#[derive(Debug)]
struct CachedCertificate {
    authenticated: Authenticated,
    issued: Option<RequestMark>,
    again: bool,
}

impl CertificateCache {
    /// A parsed device certificate takes about 1.5 KiB: 65,536 of them about 100 MiB, an hour of enrolments at 18 a second
    /// for sessions that stay and come back to renew.
    pub const CERTIFICATES_MAX_DEFAULT: usize = 65_536;

    /// A cache for about `certificates_max` certificates, at least one in each segment.
    #[must_use]
    pub fn new(certificates_max: usize) -> Self {
        Self {
            segments: std::array::from_fn(|_| Mutex::default()),
            per_segment_max: certificates_max.div_ceil(SEGMENTS).max(1),
        }
    }

    /// The certificate with this digest, if it is in the cache.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<Authenticated> {
        self.segment(digest).entries.get(digest).map(|entry| entry.authenticated.clone())
    }

    /// A request of the device with this certificate was answered with a certificate.
    pub(crate) fn note_issued(&self, digest: &Digest, request: RequestMark) {
        if let Some(entry) = self.segment(digest).entries.get_mut(digest) {
            entry.issued = Some(request);
        }
    }

    /// The request of the device with this certificate that was answered last with a certificate, as far as it is known.
    pub(crate) fn issued(&self, digest: &Digest) -> Option<RequestMark> {
        self.segment(digest).entries.get(digest)?.issued
    }

    /// The number of certificates in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| lock(segment).entries.len()).sum()
    }

    /// Whether the cache is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn keep(&self, authenticated: Authenticated) {
        let digest = authenticated.certificate.digest();
        let mut segment = self.segment(&digest);
        if let Some(entry) = segment.entries.get_mut(&digest) {
            // The same device again; its chain may end at another anchor if the anchors changed. Its certificate is
            // already in the cache.
            entry.authenticated.anchor = authenticated.anchor;
            entry.authenticated.deviations = authenticated.deviations;
            entry.again = true;
            return;
        }
        if segment.entries.len() >= self.per_segment_max {
            segment.evict();
        }
        segment.order.push_back(digest);
        segment.entries.insert(digest, CachedCertificate { authenticated, issued: None, again: false });
    }

    fn segment(&self, digest: &Digest) -> MutexGuard<'_, Segment> {
        let index = usize::from(digest.as_bytes()[0]) % SEGMENTS;
        lock(&self.segments[index])
    }
}

impl Segment {
    /// Second chance: a certificate whose device authenticated again moves to the end once; the first other one is
    /// evicted. This ends after one round, because every pass removes a mark.
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

#[cfg(test)]
mod tests {
    use pki::make::{self, Parent};

    use super::*;
    use crate::verify::tests::{key, life, random, root, serial};

    fn devices(count: u8) -> Vec<Arc<Certificate>> {
        let key = key();
        let root = root(&key);
        let device = |number| {
            let spec = make::DeviceCertificateSpec {
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

    /// Three certificates in the same segment of the cache.
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
        // A lookup, as an enrolment makes it, is not a reason to keep it rather than a newcomer.
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
}
