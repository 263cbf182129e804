//! The fleet's identities: an IDevID, a new key and a request for each device, made before the run so that the run measures the server.
//!
//! Names and keys derive from the seed: a seed determines a fleet, and a device's key can be made again when its certificate is written
//! to a file. Signatures are randomised nevertheless. The keys are no more secret than the seed: use them only to play a fleet.

pub(crate) mod cache;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pki::issue::{NodePrefix, Serial};
use pki::make::{self, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, GeneralNames, KeyError, Name, PrivateKey, SigningKey, UnixTime, Validity};
use ring::rand::SystemRandom;

use crate::part::{Part, Segment};
use crate::seed::{Purpose, Stream};

pub use cache::{CacheFault, CacheUse, IdentityCache};

/// The maker of the devices: the manufacturer CA of a folder of `muster init`.
#[derive(Debug)]
pub struct Manufacturer {
    certificate: Certificate,
    key: SigningKey,
}

/// One device before it is enrolled.
#[derive(Debug, Clone, Copy)]
pub struct FleetIdentity<'f> {
    /// Its IDevID, DER.
    pub certificate: &'f [u8],
    /// The key of the IDevID, PKCS #8.
    pub pkcs8: &'f [u8],
    /// The request for its operational certificate, DER, with a key of its own.
    pub csr: &'f [u8],
}

/// Which devices of a fleet: `count` of them from `first` on, each `step`th one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRange {
    /// The number of the first one.
    pub first: usize,
    /// From one to the next.
    pub step: usize,
    /// How many.
    pub count: usize,
}

impl IdentityRange {
    /// The first devices of a fleet.
    #[must_use]
    pub fn first(count: usize) -> Self {
        Self { first: 0, step: 1, count }
    }

    /// The devices of one machine, of so many in the fleet, which begins at number `first`.
    #[must_use]
    pub fn of_segment(first: usize, devices: usize, segment: Segment) -> Self {
        let Part { index, of } = segment.part();
        Self { first: first + index, step: of, count: segment.part().count(devices) }
    }

    fn number(self, place: usize) -> usize {
        self.first + place * self.step
    }

    fn place(self, number: usize) -> Option<usize> {
        let offset = number.checked_sub(self.first)?;
        (offset % self.step.max(1) == 0).then_some(offset / self.step.max(1)).filter(|place| *place < self.count)
    }
}

/// The identities of a fleet, without an allocation for each: about a kilobyte a device.
#[derive(Debug)]
pub struct FleetIdentities {
    range: IdentityRange,
    chunks: Vec<IdentityChunk>,
}

/// Devices that are made, written and checked together.
pub(crate) const CHUNK_DEVICES: usize = 4_096;

/// The identities of up to [`CHUNK_DEVICES`] devices, one after the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct IdentityChunk {
    bytes: Vec<u8>,
    /// Where certificate, key and request of each device end.
    ends: Vec<[u32; 3]>,
}

impl IdentityChunk {
    fn push(&mut self, parts: [&[u8]; 3]) {
        let ends = parts.map(|part| {
            self.bytes.extend_from_slice(part);
            // 4,096 devices of a few kilobytes.
            u32::try_from(self.bytes.len()).expect("a chunk is far below 4 GiB")
        });
        self.ends.push(ends);
    }

    fn identity(&self, place: usize) -> Option<FleetIdentity<'_>> {
        let [certificate, key, csr] = *self.ends.get(place)?;
        let begin = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |ends| ends[2]);
        let part = |from: u32, to: u32| self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?);
        Some(FleetIdentity {
            certificate: part(begin, certificate)?,
            pkcs8: part(certificate, key)?,
            csr: part(key, csr)?,
        })
    }
}

impl FleetIdentities {
    /// The devices.
    #[must_use]
    pub fn range(&self) -> IdentityRange {
        self.range
    }

    /// The number of devices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device of this number, if it is here.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<FleetIdentity<'_>> {
        let place = self.range.place(number)?;
        self.chunks.get(place / CHUNK_DEVICES)?.identity(place % CHUNK_DEVICES)
    }

    /// A copy, to count what it holds.
    #[cfg(test)]
    pub(crate) fn clone_for_test(&self) -> Self {
        let copy = |chunk: &IdentityChunk| IdentityChunk { bytes: chunk.bytes.clone(), ends: chunk.ends.clone() };
        Self { range: self.range, chunks: self.chunks.iter().map(copy).collect() }
    }

    /// The bytes that they take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| {
            chunk.bytes.capacity() + chunk.ends.capacity() * size_of::<[u32; 3]>() + size_of::<IdentityChunk>()
        });
        chunks.sum()
    }
}

/// Why a fleet cannot be made.
#[derive(Debug)]
pub enum FleetIdentityFault {
    /// The manufacturer's key cannot sign, or does not belong to its certificate.
    ManufacturerKey,
    /// A key could not be made or used.
    Key(KeyError),
    /// A certificate or a request could not be made.
    Make(make::MakeError),
    /// The caller asked to stop.
    Interrupted,
}

impl fmt::Display for FleetIdentityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManufacturerKey => f.write_str("the manufacturer's key does not belong to its certificate"),
            Self::Key(fault) => write!(f, "a device's key cannot be used: {fault}"),
            Self::Make(fault) => write!(f, "a device's certificate cannot be made: {fault}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for FleetIdentityFault {}

impl From<KeyError> for FleetIdentityFault {
    fn from(fault: KeyError) -> Self {
        Self::Key(fault)
    }
}

impl From<make::MakeError> for FleetIdentityFault {
    fn from(fault: make::MakeError) -> Self {
        Self::Make(fault)
    }
}

impl Manufacturer {
    /// A manufacturer with its CA certificate and that certificate's key.
    ///
    /// # Errors
    /// [`FleetIdentityFault::ManufacturerKey`]: the key cannot sign, or belongs to another certificate.
    pub fn new(certificate: Certificate, key: &PrivateKey) -> Result<Self, FleetIdentityFault> {
        let key = SigningKey::from_pkcs8(key.pkcs8(), &SystemRandom::new())
            .map_err(|_| FleetIdentityFault::ManufacturerKey)?;
        if key.spki() != certificate.spki() {
            return Err(FleetIdentityFault::ManufacturerKey);
        }
        Ok(Self { certificate, key })
    }
}

/// Makes devices of the fleet of `seed`, on all cores. `made` counts the finished ones, for a progress bar; `stop` ends the work early.
///
/// # Errors
/// The first fault of any thread.
pub fn make_fleet(
    manufacturer: &Manufacturer,
    range: IdentityRange,
    seed: u64,
    made: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<FleetIdentities, FleetIdentityFault> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let count = range.count.div_ceil(CHUNK_DEVICES);
    let (next, chunks) = (AtomicUsize::new(0), Mutex::new((0..count).map(|_| None).collect::<Vec<_>>()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let from = number * CHUNK_DEVICES;
            if from >= range.count {
                return Ok::<(), FleetIdentityFault>(());
            }
            let places = from..range.count.min(from + CHUNK_DEVICES);
            let chunk = make_chunk(manufacturer, range, places, seed, made, stop)?;
            chunks.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(chunk);
        }
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads.min(count.max(1))).map(|_| scope.spawn(work)).collect();
        parts.into_iter().try_for_each(|part| part.join().expect("making identities does not panic"))
    })?;
    let chunks = chunks.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(FleetIdentities { range, chunks: chunks.into_iter().flatten().collect() })
}

fn make_chunk(
    manufacturer: &Manufacturer,
    range: IdentityRange,
    places: std::ops::Range<usize>,
    seed: u64,
    made: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<IdentityChunk, FleetIdentityFault> {
    let mut chunk = IdentityChunk::default();
    for place in places {
        if stop.load(Ordering::Relaxed) {
            return Err(FleetIdentityFault::Interrupted);
        }
        let (certificate, key, csr) = make_device(manufacturer, range.number(place), seed)?;
        chunk.push([&certificate, key.pkcs8(), &csr]);
        made.fetch_add(1, Ordering::Relaxed);
    }
    chunk.bytes.shrink_to_fit();
    chunk.ends.shrink_to_fit();
    Ok(chunk)
}

/// The serialNumber in the subject of device `index`.
#[must_use]
pub fn serial_number(seed: u64, index: usize) -> String {
    format!("{seed:x}-{index:07}")
}

/// The commonName in the subject of device `index`.
#[must_use]
pub fn common_name(seed: u64, index: usize) -> String {
    format!("load-{}", serial_number(seed, index))
}

/// The key for which device `index` requests a certificate.
///
/// # Errors
/// [`KeyError::NoRandomness`], with a probability of 2^-32 per draw.
pub fn operational_key(seed: u64, index: usize) -> Result<PrivateKey, KeyError> {
    seeded_key(&mut stream(seed, index, 1))
}

/// A request for a certificate with this subject, signed with `key`, and linked to a session if `link` is there; DER.
///
/// # Errors
/// [`FleetIdentityFault`], if the key cannot be used or the source of randomness fails.
pub(crate) fn request(key: &PrivateKey, subject: &Name, link: Option<&str>) -> Result<Box<[u8]>, FleetIdentityFault> {
    let random = SystemRandom::new();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random)?;
    let request = CsrSpec { subject, san: &GeneralNames::empty(), challenge_password: link };
    Ok(make::csr(&request, &key, &random)?.into())
}

/// Certificate, key and request of a device.
type MadeDevice = (Vec<u8>, PrivateKey, Box<[u8]>);

fn make_device(manufacturer: &Manufacturer, index: usize, seed: u64) -> Result<MadeDevice, FleetIdentityFault> {
    let random = SystemRandom::new();
    let mut stream = stream(seed, index, 0);
    let key = seeded_key(&mut stream)?;
    let mut serial = [0; 16];
    stream.fill(&mut serial);
    let spec = DeviceCertificateSpec {
        common_name: &common_name(seed, index),
        serial_number: &serial_number(seed, index),
        organization: None,
        serial: Serial::new(NodePrefix::new(0), serial),
        validity: Validity {
            not_before: UnixTime::since_unix_epoch(Duration::from_secs(NOT_BEFORE)),
            // IEEE 802.1AR: an IDevID does not expire.
            not_after: pki::NO_WELL_DEFINED_EXPIRATION,
        },
    };
    let public = SigningKey::from_pkcs8(key.pkcs8(), &random)?;
    let parent = Parent { certificate: &manufacturer.certificate, key: &manufacturer.key };
    let certificate = make::idevid(&spec, public.public_key(), parent, &random)?;

    let csr = request(&operational_key(seed, index)?, certificate.subject(), None)?;
    Ok((certificate.der().to_vec(), key, csr))
}

/// 2024-01-01, when the devices left the factory. A manufacturer CA that a test makes today is younger, which does no harm: each certificate of a
/// chain is checked at the present time, not against the dates of the others.
const NOT_BEFORE: u64 = 1_704_067_200;

/// The stream for a key of device `index`: `which` is 0 for the key of its IDevID, 1 for that of its request.
fn stream(seed: u64, index: usize, which: u32) -> Stream {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    Stream::new(seed, Purpose::Key(index.wrapping_mul(2).wrapping_add(which)))
}

#[allow(
    deprecated,
    reason = "ring's SecureRandom is sealed: its test module is the only way to derive a key from a seed"
)]
fn seeded_key(stream: &mut Stream) -> Result<PrivateKey, KeyError> {
    /// A draw fails with a probability of 2^-32, if it is not below the group order.
    const DRAWS: usize = 4;
    let mut last = KeyError::NoRandomness;
    for _ in 0..DRAWS {
        let mut scalar = [0; 32];
        stream.fill(&mut scalar);
        match PrivateKey::generate(Curve::P256, &ring::test::rand::FixedSliceRandom { bytes: &scalar }) {
            Ok(key) => return Ok(key),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use pki::make::AuthorityCertificateSpec;
    use pki::{Csr, chain};

    use super::*;

    pub(crate) fn manufacturer() -> Manufacturer {
        let random = SystemRandom::new();
        let key = PrivateKey::generate(Curve::P256, &random).unwrap();
        let signing = SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap();
        let spec = AuthorityCertificateSpec {
            common_name: "manufacturer",
            organization: None,
            serial: Serial::new(NodePrefix::new(0), [1; 16]),
            validity: Validity {
                not_before: UnixTime::since_unix_epoch(Duration::from_secs(NOT_BEFORE)),
                not_after: pki::NO_WELL_DEFINED_EXPIRATION,
            },
            path_len: Some(0),
        };
        let certificate = make::root(&spec, &signing, &random).unwrap();
        Manufacturer::new(certificate, &key).unwrap()
    }

    pub(crate) fn authority(manufacturer: &Manufacturer) -> Certificate {
        manufacturer.certificate.clone()
    }

    pub(crate) fn fleet(manufacturer: &Manufacturer, devices: usize, seed: u64) -> FleetIdentities {
        let range = IdentityRange::first(devices);
        make_fleet(manufacturer, range, seed, &AtomicUsize::new(0), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn every_device_is_its_manufacturers_and_asks_for_its_own_name() {
        let manufacturer = manufacturer();
        let anchors = chain::Anchors::new(vec![Arc::new(manufacturer.certificate.clone())]).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOT_BEFORE + 1000));
        let fleet = fleet(&manufacturer, 5, 9);
        for index in 0..fleet.len() {
            let device = fleet.get(index).unwrap();
            let verified = chain::verify_device(&anchors, &[device.certificate], now).unwrap();
            let csr = Csr::parse(device.csr.to_vec()).unwrap().verify().unwrap();
            assert!(csr.subject().matches(verified.leaf.subject()));
            assert!(csr.subject().to_string().contains(&serial_number(9, index)));
            assert_ne!(csr.spki(), verified.leaf.spki(), "the request has a key of its own");
            let again = operational_key(9, index).unwrap();
            let again = SigningKey::from_pkcs8(again.pkcs8(), &SystemRandom::new()).unwrap();
            assert_eq!(csr.spki(), again.spki());
        }
    }

    #[test]
    fn one_seed_one_fleet() {
        let manufacturer = manufacturer();
        let keys = |seed| {
            let fleet = fleet(&manufacturer, 3, seed);
            (0..3).map(|index| fleet.get(index).unwrap().pkcs8.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
    }

    #[test]
    fn a_stopped_fleet_is_an_error() {
        let made = AtomicUsize::new(0);
        let range = IdentityRange::first(10);
        let fault = make_fleet(&manufacturer(), range, 1, &made, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(fault, FleetIdentityFault::Interrupted));
        assert_eq!(made.load(Ordering::Relaxed), 0);
    }

    /// The second of three machines makes the devices that it plays, and they are those of the whole fleet.
    #[test]
    fn a_segment_has_its_own_devices() {
        let manufacturer = manufacturer();
        let whole = fleet(&manufacturer, 8, 3);
        let range = IdentityRange::of_segment(0, 8, "2/3".parse().unwrap());
        assert_eq!(range, IdentityRange { first: 1, step: 3, count: 3 });
        let part = make_fleet(&manufacturer, range, 3, &AtomicUsize::new(0), &AtomicBool::new(false)).unwrap();
        for number in 0..9 {
            let device = part.get(number);
            assert_eq!(device.is_some(), [1, 4, 7].contains(&number), "{number}");
            if let Some(device) = device {
                assert_eq!(device.pkcs8, whole.get(number).unwrap().pkcs8);
            }
        }
    }
}
