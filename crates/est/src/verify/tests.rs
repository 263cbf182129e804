//! Keys and certificates for the tests of this module.

use std::sync::Arc;
use std::time::Duration;

use dtls::UnixTime;
use pki::issue::{NodePrefix, Serial};
use pki::make;
use pki::{Certificate, Curve, PrivateKey, SigningKey, Validity};

pub(super) const EPOCH: u64 = 1_767_225_600;

pub(super) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[allow(clippy::disallowed_methods, reason = "certificates for tests; which ones does not matter")]
pub(super) fn random() -> ring::rand::SystemRandom {
    ring::rand::SystemRandom::new()
}

pub(super) fn serial(number: u8) -> Serial {
    Serial::new(NodePrefix::new(1), [number; 16])
}

pub(super) fn life(seconds: u64) -> Validity {
    Validity { not_before: utc(EPOCH), not_after: utc(EPOCH + seconds) }
}

pub(super) fn key() -> SigningKey {
    let key = PrivateKey::generate(Curve::P256, &random()).unwrap();
    SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap()
}

pub(super) fn root(key: &SigningKey) -> Arc<Certificate> {
    let spec = make::AuthorityCertificateSpec {
        common_name: "Root",
        organization: None,
        serial: serial(1),
        validity: life(1_000_000),
        path_len: None,
    };
    Arc::new(make::root(&spec, key, &random()).unwrap())
}
