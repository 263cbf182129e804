//! The cache of certificates of authenticated devices; each is stored once.

mod order;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use authority::Function;
use pki::{AnchorId, Certificate, Deviations, Digest};

use super::lock::lock;
use order::{EvictionOrder, Progress};

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
const SEGMENTS_MAX: usize = 16;

/// Certificates of one segment, unless there is only one: chance alone does not fill a segment of this size while others have room.
const SEGMENT_MIN: usize = 1_024;

/// The certificates of authenticated devices, by digest, shared by all shards and all configurations. The cache is
/// bounded. When it is full, certificates of devices whose sessions have ended give way first, then of those that have been
/// served, and then of those that have authenticated and not asked yet; a device that was asked to come back keeps its certificate for that time, as far as
/// three quarters of the places reach. A session in the middle of an enrolment holds its certificate itself; an idle
/// session whose certificate was evicted has to authenticate again. A lookup does not prolong the life of a certificate:
/// otherwise devices that have enrolled would displace those that are about to.
///
/// A certificate counts once, however many sessions its device has, so that a device with thousands of them takes nobody's place.
///
/// Beside a certificate stands the request that was answered last with a certificate: its device may repeat it over
/// another session, on another shard. The mark goes with the entry, and takes no memory of its own.
///
/// It is the only state that shards share during a handshake. A segment is locked when a device is authenticated, when
/// its enrolment begins and ends, when it is sent away, when its session ends, when a report names it, and not for each datagram.
#[derive(Debug)]
pub struct CertificateCache {
    segments: Box<[Mutex<Segment>]>,
    /// Devices that are away, in all segments.
    away: AtomicUsize,
    /// With so many of them it is crowded.
    crowded_from: usize,
}

#[derive(Debug)]
struct Segment {
    slots_max: usize,
    index: BTreeMap<Digest, u32>,
    slots: Vec<CachedCertificate>,
    order: EvictionOrder,
}

#[derive(Debug)]
struct CachedCertificate {
    authenticated: Authenticated,
    issued: Option<RequestMark>,
    /// Sessions of its device that have begun and not ended since it is here.
    sessions: u32,
    /// When its device comes back at the latest, if it was sent away.
    back_by: Option<Instant>,
}

impl CertificateCache {
    /// A parsed device certificate takes about 1.5 KiB: 65,536 of them about 100 MiB. Three quarters are as many devices as the
    /// Max-Age of one shard tells apart, twelve times 4,096: all of them may be away, and come back to their sessions.
    pub const CERTIFICATES_MAX_DEFAULT: usize = 65_536;

    /// A cache for about `certificates_max` certificates, at least one.
    #[must_use]
    pub fn new(certificates_max: usize) -> Self {
        let segments = (certificates_max / SEGMENT_MIN).clamp(1, SEGMENTS_MAX);
        let slots_max = certificates_max.div_ceil(segments).max(1);
        Self {
            segments: (0..segments).map(|_| Mutex::new(Segment::new(slots_max))).collect(),
            away: AtomicUsize::new(0),
            // Less than the three quarters that may be away: those whose handshakes are in progress may be sent away too, and chance fills
            // some segments before others.
            crowded_from: (segments * slots_max * 2 / 3).max(1),
        }
    }

    /// Whether so many devices are away that few more should get a session: those who are sent away beyond the bound have to authenticate again when they
    /// come back, which costs the server most when it has the least time.
    #[must_use]
    pub(crate) fn is_crowded(&self, now: Instant) -> bool {
        let is_crowded = || self.away.load(Ordering::Relaxed) >= self.crowded_from;
        if is_crowded() {
            self.segments.iter().for_each(|segment| self.change(lock(segment), |segment| segment.expire(now)));
        }
        is_crowded()
    }

    /// The certificate with this digest, if it is in the cache.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<Authenticated> {
        self.segment(digest).find(digest).map(|(_, entry)| entry.authenticated.clone())
    }

    /// The device with this certificate was issued something; `request`, if it may repeat that request.
    pub(crate) fn note_issued(&self, digest: &Digest, request: Option<RequestMark>) {
        self.change(self.segment(digest), |segment| {
            if let Some((slot, entry)) = segment.find(digest) {
                entry.issued = request.or(entry.issued);
                let progress = if entry.sessions == 0 { Progress::Ended } else { Progress::Served };
                segment.order.join(slot, progress);
            }
        });
    }

    /// The device with this certificate was asked to come back, `back_by` this time at the latest: until then it keeps its place, if
    /// there is room for it among those that are away.
    pub(crate) fn note_sent_away(&self, certificate: &Authenticated, now: Instant, back_by: Instant) {
        let segment = self.segment(&certificate.certificate.digest());
        self.change(segment, |segment| segment.send_away(certificate, now, back_by));
    }

    /// A session of the device with this certificate has ended: nobody comes back to it.
    pub(crate) fn note_ended(&self, digest: &Digest) {
        self.change(self.segment(digest), |segment| {
            if let Some((slot, entry)) = segment.find(digest) {
                entry.sessions = entry.sessions.saturating_sub(1);
                if entry.sessions == 0 {
                    segment.order.join(slot, Progress::Ended);
                }
            }
        });
    }

    /// The request of the device with this certificate that was answered last with a certificate, as far as it is known.
    pub(crate) fn issued(&self, digest: &Digest) -> Option<RequestMark> {
        self.segment(digest).find(digest)?.1.issued
    }

    /// The number of certificates in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| lock(segment).slots.len()).sum()
    }

    /// Whether the cache is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A device has authenticated, and has a session.
    pub(super) fn keep(&self, authenticated: Authenticated) {
        self.segment(&authenticated.certificate.digest()).keep(authenticated);
    }

    /// Changes a segment, and counts who is away.
    fn change(&self, mut segment: MutexGuard<'_, Segment>, change: impl FnOnce(&mut Segment)) {
        let before = segment.order.count(Progress::SentAway);
        change(&mut segment);
        let after = segment.order.count(Progress::SentAway);
        if after > before {
            self.away.fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            self.away.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    fn segment(&self, digest: &Digest) -> MutexGuard<'_, Segment> {
        let index = usize::from(digest.as_bytes()[0]) % self.segments.len();
        lock(&self.segments[index])
    }
}

impl Segment {
    fn new(slots_max: usize) -> Self {
        Self { slots_max, index: BTreeMap::new(), slots: Vec::new(), order: EvictionOrder::new(slots_max) }
    }

    fn find(&mut self, digest: &Digest) -> Option<(u32, &mut CachedCertificate)> {
        let slot = *self.index.get(digest)?;
        Some((slot, self.entry(slot)?))
    }

    fn entry(&mut self, slot: u32) -> Option<&mut CachedCertificate> {
        self.slots.get_mut(usize::try_from(slot).unwrap_or(usize::MAX))
    }

    fn keep(&mut self, authenticated: Authenticated) -> u32 {
        let digest = authenticated.certificate.digest();
        let Some((slot, entry)) = self.find(&digest) else { return self.insert(digest, authenticated) };
        // The same device again; its chain may end at another anchor if the anchors changed. Its certificate is
        // already in the cache.
        entry.authenticated.anchor = authenticated.anchor;
        entry.authenticated.deviations = authenticated.deviations;
        entry.sessions = entry.sessions.saturating_add(1);
        // A device that is away keeps its place: it was away before it lost its session.
        if self.order.progress(slot) != Some(Progress::SentAway) {
            self.order.join(slot, Progress::Arrived);
        }
        slot
    }

    fn insert(&mut self, digest: Digest, authenticated: Authenticated) -> u32 {
        let entry = CachedCertificate { authenticated, issued: None, sessions: 1, back_by: None };
        let gives_way = self.order.next_to_go().filter(|_| self.slots.len() >= self.slots_max);
        let slot = match gives_way.and_then(|slot| Some((slot, self.entry(slot)?))) {
            Some((slot, old)) => {
                let gone = std::mem::replace(old, entry);
                self.index.remove(&gone.authenticated.certificate.digest());
                self.order.join(slot, Progress::Arrived);
                slot
            }
            None => {
                self.slots.push(entry);
                self.order.add()
            }
        };
        self.index.insert(digest, slot);
        slot
    }

    fn send_away(&mut self, certificate: &Authenticated, now: Instant, back_by: Instant) {
        let known = self.find(&certificate.certificate.digest()).map(|(slot, _)| slot);
        // Its session held it while others took its place.
        let slot = known.unwrap_or_else(|| self.keep(certificate.clone()));
        self.expire(now);
        if self.order.has_room_away() || self.order.progress(slot) == Some(Progress::SentAway) {
            self.order.join(slot, Progress::SentAway);
            if let Some(entry) = self.entry(slot) {
                entry.back_by = Some(back_by);
            }
        }
    }

    /// Devices that did not come back in time need their place no longer.
    fn expire(&mut self, now: Instant) {
        while let Some(first) = self.order.first(Progress::SentAway)
            && self.entry(first).is_some_and(|entry| entry.back_by.is_some_and(|at| at <= now))
        {
            self.order.join(first, Progress::Served);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    fn authenticated(certificate: &Arc<Certificate>, anchor: AnchorId) -> Authenticated {
        Authenticated { certificate: Arc::clone(certificate), anchor, deviations: certificate.deviations() }
    }

    /// A cache, and what became of each of these devices.
    struct Story {
        cache: CertificateCache,
        devices: Vec<Authenticated>,
    }

    impl Story {
        fn new(places: usize, count: u8) -> Self {
            let anchor = AnchorId::from_bytes([1; 32]);
            let devices = devices(count).iter().map(|certificate| authenticated(certificate, anchor)).collect();
            Self { cache: CertificateCache::new(places), devices }
        }

        fn digest(&self, device: usize) -> Digest {
            self.devices[device].certificate.digest()
        }

        fn arrive(&self, devices: impl IntoIterator<Item = usize>) {
            devices.into_iter().for_each(|device| self.cache.keep(self.devices[device].clone()));
        }

        fn serve(&self, device: usize) {
            self.cache.note_issued(&self.digest(device), Some(RequestMark(0)));
        }

        fn send_away(&self, device: usize, now: Instant) {
            self.cache.note_sent_away(&self.devices[device], now, now + BACK);
        }

        fn end(&self, device: usize) {
            self.cache.note_ended(&self.digest(device));
        }

        /// The devices whose certificates are in the cache.
        fn known(&self) -> Vec<usize> {
            let known: Vec<_> =
                (0..self.devices.len()).filter(|device| self.cache.find(&self.digest(*device)).is_some()).collect();
            assert_eq!(known.len(), self.cache.len());
            known
        }
    }

    const BACK: Duration = Duration::from_secs(60);

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn c47_the_certificate_whose_device_authenticated_longest_ago_goes_first() {
        let story = Story::new(2, 3);
        story.arrive([0, 1, 0]);
        // A lookup, as an enrolment makes it, is not a reason to keep it rather than a newcomer.
        assert!(story.cache.find(&story.digest(1)).is_some());
        story.arrive([2]);
        assert_eq!(story.known(), [0, 2]);
    }

    #[test]
    fn c47_a_device_that_waits_keeps_its_certificate_while_others_have_been_served() {
        let story = Story::new(8, 20);
        story.arrive([0]);
        for device in 1..20 {
            story.arrive([device]);
            story.serve(device);
        }
        assert_eq!(story.known(), [0, 13, 14, 15, 16, 17, 18, 19]);
        // Those who close their sessions go before those who may not have their answers.
        story.end(16);
        story.end(18);
        story.arrive([1, 2]);
        assert_eq!(story.known(), [0, 1, 2, 13, 14, 15, 17, 19]);
        // Its session ends: nobody waits any more.
        story.end(0);
        for device in 1..12 {
            story.arrive([device]);
            story.serve(device);
        }
        assert!(!story.known().contains(&0));
    }

    #[test]
    fn c47_of_those_who_were_sent_away_a_bounded_number_keeps_its_certificate_for_a_bounded_time() {
        let (story, now) = (Story::new(8, 40), start());
        story.arrive(0..8);
        // Six of eight, however often each is sent away.
        (0..8).chain(0..3).for_each(|device| story.send_away(device, now));
        story.arrive(8..30);
        assert_eq!(story.known(), [0, 1, 2, 3, 4, 5, 28, 29], "strangers displace each other");
        // Another one takes the place of one that is served, or whose last session ends.
        story.serve(2);
        story.send_away(28, now);
        story.arrive([3]);
        story.end(3);
        assert_eq!(story.known().len(), 8);
        story.send_away(29, now);
        story.arrive([30, 31]);
        assert_eq!(story.known(), [0, 1, 2, 3, 4, 5, 28, 31], "3 has another session");
        assert!(story.cache.is_crowded(now), "six of eight are away");
        // Those who did not come back in time make room.
        let later = now + BACK;
        story.send_away(31, later);
        story.arrive(32..40);
        assert!(story.known().contains(&31), "{:?}", story.known());
        assert!(!story.cache.is_crowded(later));
    }

    #[test]
    fn c47_a_certificate_that_its_session_held_meanwhile_is_kept_when_its_device_is_sent_away() {
        let (story, now) = (Story::new(8, 20), start());
        story.arrive(0..12);
        assert!(!story.known().contains(&0));
        story.send_away(0, now);
        story.arrive(12..20);
        assert!(story.known().contains(&0));
    }

    #[test]
    fn one_certificate_is_kept_once() {
        let [one] = devices(1).try_into().expect("one");
        let cache = CertificateCache::new(64);
        cache.keep(authenticated(&one, AnchorId::from_bytes([1; 32])));
        cache.keep(authenticated(&one, AnchorId::from_bytes([2; 32])));
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.find(&one.digest()).unwrap().anchor, AnchorId::from_bytes([2; 32]));
    }

    #[test]
    fn a_cache_of_the_default_size_has_one_lock_for_each_of_its_segments_and_a_small_one_fills_up_whole() {
        assert_eq!(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT).segments.len(), SEGMENTS_MAX);
        let story = Story::new(30, 40);
        story.arrive(0..40);
        assert_eq!(story.known().len(), 30);
    }
}
