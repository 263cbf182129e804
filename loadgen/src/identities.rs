//! The fleet's identities: an IDevID, a new key and a request for each device, made before the run so that the run measures the server.
//!
//! Names and keys derive from the seed: a seed determines a fleet, and a device's key can be made again when its certificate is written
//! to a file. Signatures are randomised nevertheless. The keys are no more secret than the seed: use them only to play a fleet.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pki::issue::{NodePrefix, Serial};
use pki::make::{self, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, GeneralNames, KeyError, Name, PrivateKey, SigningKey, UnixTime, Validity};
use ring::rand::SystemRandom;

use crate::seed::{Purpose, Stream};

/// The maker of the devices: the manufacturer CA of a folder of `muster init`.
#[derive(Debug)]
pub struct Manufacturer {
    certificate: Certificate,
    key: SigningKey,
}

/// One device before it is enrolled.
#[derive(Debug)]
pub struct FleetIdentity {
    /// Its IDevID, DER.
    pub certificate: Box<[u8]>,
    /// The key of the IDevID.
    pub key: PrivateKey,
    /// The request for its operational certificate, DER, with a key of its own.
    pub csr: Box<[u8]>,
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

/// Makes devices `0..devices` of `seed`, on all cores. `made` counts the finished ones, for a progress bar; `stop` ends the work early.
///
/// # Errors
/// The first fault of any thread.
pub fn make_fleet(
    manufacturer: &Manufacturer,
    devices: usize,
    seed: u64,
    made: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<Vec<FleetIdentity>, FleetIdentityFault> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = devices.div_ceil(threads).max(1);
    let work = |from: usize| {
        (from..devices.min(from + share))
            .map(|index| {
                if stop.load(Ordering::Relaxed) {
                    return Err(FleetIdentityFault::Interrupted);
                }
                let identity = make_device(manufacturer, index, seed)?;
                made.fetch_add(1, Ordering::Relaxed);
                Ok(identity)
            })
            .collect::<Result<Vec<_>, _>>()
    };
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = (0..devices).step_by(share).map(|from| scope.spawn(move || work(from))).collect();
        let mut fleet = Vec::with_capacity(devices);
        for part in parts {
            fleet.extend(part.join().expect("making identities does not panic")?);
        }
        Ok(fleet)
    })
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

/// A request for the successor of a certificate with this subject, signed with `key`; DER.
///
/// # Errors
/// [`FleetIdentityFault`], if the key cannot be used or the source of randomness fails.
pub(crate) fn renewal_request(key: &PrivateKey, subject: &Name) -> Result<Box<[u8]>, FleetIdentityFault> {
    let random = SystemRandom::new();
    let key = SigningKey::from_pkcs8(key.pkcs8(), &random)?;
    let request = CsrSpec { subject, san: &GeneralNames::empty(), challenge_password: None };
    Ok(make::csr(&request, &key, &random)?.into())
}

fn make_device(manufacturer: &Manufacturer, index: usize, seed: u64) -> Result<FleetIdentity, FleetIdentityFault> {
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

    let operational = operational_key(seed, index)?;
    let operational = SigningKey::from_pkcs8(operational.pkcs8(), &random)?;
    let request = CsrSpec { subject: certificate.subject(), san: &GeneralNames::empty(), challenge_password: None };
    let csr = make::csr(&request, &operational, &random)?;
    Ok(FleetIdentity { certificate: certificate.der().into(), key, csr: csr.into() })
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

    pub(crate) fn fleet(manufacturer: &Manufacturer, devices: usize, seed: u64) -> Vec<FleetIdentity> {
        make_fleet(manufacturer, devices, seed, &AtomicUsize::new(0), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn every_device_is_its_manufacturers_and_asks_for_its_own_name() {
        let manufacturer = manufacturer();
        let anchors = chain::Anchors::new(vec![Arc::new(manufacturer.certificate.clone())]).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOT_BEFORE + 1000));
        for (index, device) in fleet(&manufacturer, 5, 9).iter().enumerate() {
            let verified = chain::verify_device(&anchors, &[&device.certificate], now).unwrap();
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
        let keys =
            |seed| fleet(&manufacturer, 3, seed).iter().map(|device| device.key.pkcs8().to_vec()).collect::<Vec<_>>();
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
    }

    #[test]
    fn a_stopped_fleet_is_an_error() {
        let made = AtomicUsize::new(0);
        let fault = make_fleet(&manufacturer(), 10, 1, &made, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(fault, FleetIdentityFault::Interrupted));
        assert_eq!(made.load(Ordering::Relaxed), 0);
    }
}
