//! Rows of a ledger as a fleet of devices makes them: each device has one to three certificates, of a few CAs, with keys and digests of their own.

use std::sync::Arc;
use std::time::Duration;

use authority::{
    Device, DeviceId, FactoryKeys, Function, Intent, Issued, Ledger, NewRow, Origin, ProfileVersion, Record,
    RepeatWindow, Reserve,
};
use pki::issue::{NodePrefix, Serial};
use pki::{AnchorId, Digest, Name, NameBuilder, Validity};
use rustls_pki_types::UnixTime;

/// When the first row is written; a thousand rows follow in each second.
const START: u64 = 1_767_225_600;
const ROWS_PER_SECOND: u64 = 1_000;
const YEAR: u64 = 31_536_000;
/// Bytes of a certificate for a P-256 key with one subject attribute, a URI and the usual extensions.
const CERTIFICATE_BYTES: usize = 450;
/// Certificates of one device that its profile allows.
const CERTIFICATES_MAX: u32 = 8;
const CAS: u64 = 4;
/// A prime: neighbours in time are not neighbours in the order of devices.
const STRIDE: u64 = 2_654_435_761;

/// The rows of a ledger that is filled with this many.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    rows: u64,
}

/// One issuance: what is reserved, and the certificate that is recorded for it.
pub struct IssuanceRows {
    /// Written before the signature.
    pub reserve: Reserve,
    /// Written after it.
    pub record: Record,
}

impl Fleet {
    /// A fleet whose first rows fill a ledger.
    #[must_use]
    pub fn of(rows: u64) -> Self {
        Self { rows }
    }

    /// The device of a row. Half of the first rows are the first ones of their device, the other half are renewals. Of the rows behind them, every second
    /// one is a renewal, until each of the devices has had one.
    fn device(self, row: u64) -> u64 {
        let devices = (self.rows / 2).max(1);
        let renewing = (devices * 3 / 4).max(1);
        let renewals = match row.checked_sub(self.rows) {
            None => row.checked_sub(devices),
            Some(behind) if behind.is_multiple_of(2) && behind / 2 < renewing => Some(behind / 2),
            Some(_) => None,
        };
        renewals.map_or(row, |renewals| renewals.wrapping_mul(STRIDE) % renewing)
    }

    /// The rows of one issuance, with a serial number that `ledger` draws.
    #[must_use]
    pub fn issuance(self, row: u64, ledger: &dyn Ledger) -> IssuanceRows {
        self.issuance_with(row, |node, random| ledger.draw(node, random))
    }

    /// The same with a serial number of `draw`.
    ///
    /// # Panics
    /// If the constants of this file make no name: a defect.
    pub(crate) fn issuance_with(self, row: u64, draw: impl FnOnce(NodePrefix, [u8; 16]) -> Serial) -> IssuanceRows {
        let number = self.device(row);
        let digest = |what: u8, of: u64| Digest::of_parts(&[&[what], &of.to_be_bytes()]);
        let at = time(START + row / ROWS_PER_SECOND);
        let validity = Validity { not_before: at, not_after: time(at.as_secs() + YEAR) };
        let id = DeviceId::new(&format!("urn:dev:sn:{number:012}")).expect("the name of a device");
        let device = Device { manufacturer: AnchorId::from_bytes([1; 32]), id };
        let csr = digest(1, row);
        let mut random = [0; 16];
        random.copy_from_slice(&digest(2, row).as_bytes()[..16]);
        let serial = draw(NodePrefix::new(1), random);
        let certificate = certificate(row);
        let profile: Arc<str> = "gateways".into();
        let intent = Intent {
            serial,
            ca: AnchorId::from_bytes([u8::try_from(number % CAS).unwrap_or(0) + 2; 32]),
            to_be_signed: digest(3, row),
            function: Function::SimpleEnroll,
            profile: Arc::clone(&profile),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            device: device.clone(),
            anchor: device.manufacturer,
            vouched_by: Origin::Manufacturer,
            client: digest(4, number),
            factory_key: Some(digest(5, number)),
            csr,
            spki: digest(6, row),
            names: digest(7, number),
            subject: subject(number),
            validity,
            peer: ([10, 0, 0, 1], 40_000).into(),
            at,
        };
        let issued = Issued { device, profile, digest: Digest::of(&certificate), certificate, validity, at };
        let window = RepeatWindow::new(at, Duration::from_secs(86_400), &validity);
        let reserve = Reserve {
            intent,
            factory_keys: FactoryKeys::Refused,
            new_row: NewRow::Allowed,
            certificates_max: CERTIFICATES_MAX,
        };
        IssuanceRows { reserve, record: Record { serial, issued: Arc::new(issued), window } }
    }
}

fn subject(number: u64) -> Name {
    NameBuilder::new()
        .push(pki::oid::COMMON_NAME, &format!("gateway {number:012}"))
        .and_then(NameBuilder::finish)
        .expect("a name of a device")
}

/// Bytes that differ from row to row.
fn certificate(row: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CERTIFICATE_BYTES + 32);
    let mut block = Digest::of(&row.to_be_bytes());
    while bytes.len() < CERTIFICATE_BYTES {
        bytes.extend_from_slice(block.as_bytes());
        block = Digest::of(block.as_bytes());
    }
    bytes.truncate(CERTIFICATE_BYTES);
    bytes
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
