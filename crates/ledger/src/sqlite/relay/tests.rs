#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use authority::{Device, DeviceId, Function, Issued, NewRow, Origin, RelayId, RelayRecord, RelayRequest, RepeatWindow};
use pki::{AnchorId, Digest, Validity};

use crate::seconds::time;

/// A request at this time for this key.
pub(crate) fn request(at: i64, key: &str) -> RelayRequest {
    RelayRequest {
        function: Function::SimpleEnroll,
        profile: "p".into(),
        device: Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("d").unwrap() },
        anchor: AnchorId::from_bytes([1; 32]),
        vouched_by: Origin::Manufacturer,
        client: Digest::of(b"idevid"),
        csr: Digest::of(format!("csr of {key}").as_bytes()),
        spki: Some(Digest::of(key.as_bytes())),
        names: Digest::of(b"names"),
        upstream: "a \"quoted\" one".into(),
        peer: "127.0.0.1:1".parse().unwrap(),
        at: time(at),
        window: RepeatWindow { until: time(at + 1_000) },
        new_row: NewRow::Allowed,
        certificates_max: 4,
    }
}

/// A certificate for it.
pub(crate) fn certificate(id: RelayId, certificate: &str, key: &str) -> RelayRecord {
    let issued = Issued {
        device: request(0, key).device,
        profile: "p".into(),
        certificate: certificate.as_bytes().to_vec(),
        digest: Digest::of(certificate.as_bytes()),
        validity: Validity { not_before: time(0), not_after: time(9_000) },
        at: time(10),
    };
    let window = RepeatWindow { until: time(2_000) };
    RelayRecord { id, issued: Arc::new(issued), serial: vec![0, 0xAB].into(), spki: Digest::of(key.as_bytes()), window }
}
