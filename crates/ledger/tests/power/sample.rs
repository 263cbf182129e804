//! Rows that follow from a number, so that another process knows what the ledger has to hold.

use std::sync::Arc;
use std::time::Duration;

use authority::{
    Actor, Device, DeviceId, FactoryKeys, Function, Intent, Issued, NewRow, Origin, ProfileVersion, Record,
    RepeatWindow, Reserve, Revocation,
};
use pki::issue::{RevocationReason, Serial};
use pki::{AnchorId, Digest, NameBuilder, UnixTime, Validity};

/// When everything happens.
pub(crate) const NOW: u64 = 1_000;
const LIFE: u64 = 900_000;
const WINDOW: Duration = Duration::from_secs(86_400);

pub(crate) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn digest(what: &str, number: u64) -> Digest {
    Digest::of(format!("{what} {number}").as_bytes())
}

fn validity() -> Validity {
    Validity { not_before: utc(NOW), not_after: utc(NOW + LIFE) }
}

/// Three rows a device.
fn device(number: u64) -> Device {
    let id = DeviceId::new(&format!("device-{}", number / 3)).unwrap();
    Device { manufacturer: AnchorId::from_bytes([1; 32]), id }
}

pub(crate) fn intent(number: u64, serial: Serial) -> Intent {
    let (device, csr) = (device(number), digest("csr", number));
    let profile = if number.is_multiple_of(5) { "q" } else { "p" };
    Intent {
        serial,
        ca: AnchorId::from_bytes([2; 32]),
        to_be_signed: digest("to be signed", number),
        function: Function::SimpleEnroll,
        profile: profile.into(),
        profile_version: ProfileVersion::from_bytes([3; 8]),
        anchor: device.manufacturer,
        device,
        vouched_by: Origin::Manufacturer,
        client: digest("certificate of the manufacturer", number),
        factory_key: Some(digest("key of the factory", number)),
        csr,
        spki: digest("key", number),
        names: digest("names", number),
        subject: NameBuilder::new().finish().unwrap(),
        validity: validity(),
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: utc(NOW),
    }
}

pub(crate) fn reserve(intent: Intent) -> Reserve {
    Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 8 }
}

pub(crate) fn issued(number: u64) -> Issued {
    let length = 300 + usize::try_from(number * 37 % 500).unwrap();
    let mut certificate = format!("certificate {number}").into_bytes();
    certificate.resize(length, u8::try_from(number % 251).unwrap());
    let intent_profile = if number.is_multiple_of(5) { "q" } else { "p" };
    Issued {
        device: device(number),
        profile: intent_profile.into(),
        digest: Digest::of(&certificate),
        certificate,
        validity: validity(),
        at: utc(NOW),
    }
}

pub(crate) fn record(number: u64, serial: Serial) -> Record {
    let window = RepeatWindow::new(utc(NOW), WINDOW, &validity());
    Record { serial, issued: Arc::new(issued(number)), window }
}

pub(crate) fn revocation(number: u64) -> Revocation {
    let actor = Actor::new(&format!("operator {number}")).unwrap();
    Revocation { reason: RevocationReason::KeyCompromise, at: utc(NOW + 1), actor }
}
