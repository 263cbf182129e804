//! Shared by the tests: keys, a small PKI, and certificates with arbitrary extensions, valid or not.

use std::sync::Arc;
use std::time::Duration;

use pki::der::{Tag, Writer};
use pki::issue::crl::{CrlShards, CrlUrl};
use pki::issue::{NodePrefix, Serial};
use pki::make::{AuthorityCertificateSpec, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, Name, NameBuilder, Oid, PrivateKey, SigningKey, UnixTime, Validity, make, oid};
use ring::rand::{SecureRandom, SystemRandom};

/// 2026-01-01T00:00:00Z, the "now" of most stories.
pub(crate) const NOW: u64 = 1_767_225_600;
pub(crate) const DAY: u64 = 86_400;

#[allow(clippy::disallowed_methods, reason = "a test plays the shell that owns the randomness")]
pub(crate) fn random() -> SystemRandom {
    SystemRandom::new()
}

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn years(count: u64) -> Validity {
    Validity { not_before: at(NOW - DAY), not_after: at(NOW + count * 365 * DAY) }
}

pub(crate) fn serial() -> Serial {
    let mut octets = [0; 16];
    random().fill(&mut octets).unwrap();
    Serial::new(NodePrefix::new(7), octets)
}

pub(crate) fn key(curve: Curve) -> SigningKey {
    SigningKey::from_pkcs8(PrivateKey::generate(curve, &random()).unwrap().pkcs8(), &random()).unwrap()
}

pub(crate) fn p256() -> SigningKey {
    key(Curve::P256)
}

pub(crate) fn cn(text: &str) -> Name {
    NameBuilder::new().push(oid::COMMON_NAME, text).unwrap().finish().unwrap()
}

pub(crate) fn crl_url(text: &str) -> Option<CrlUrl> {
    Some(CrlUrl::new(text, CrlShards::DEFAULT).unwrap())
}

/// An authority with its key.
pub(crate) struct Authority {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) key: SigningKey,
}

impl Authority {
    pub(crate) fn root(common_name: &str) -> Self {
        Self::root_on(common_name, Curve::P256)
    }

    pub(crate) fn root_on(common_name: &str, curve: Curve) -> Self {
        let key = key(curve);
        let certificate = make::root(&spec(common_name, None), &key, &random()).unwrap();
        Self { certificate: Arc::new(certificate), key }
    }

    pub(crate) fn below(&self, common_name: &str, path_len: Option<u8>) -> Self {
        let key = p256();
        let certificate =
            make::authority(&spec(common_name, path_len), key.public_key(), self.as_parent(), &random()).unwrap();
        Self { certificate: Arc::new(certificate), key }
    }

    pub(crate) fn as_parent(&self) -> Parent<'_> {
        Parent { certificate: &self.certificate, key: &self.key }
    }

    pub(crate) fn idevid(&self, serial_number: &str) -> Certificate {
        let spec = DeviceCertificateSpec {
            common_name: "meter",
            serial_number,
            organization: Some("Example Energy"),
            serial: serial(),
            validity: Validity { not_before: at(NOW - DAY), not_after: pki::NO_WELL_DEFINED_EXPIRATION },
        };
        make::idevid(&spec, p256().public_key(), self.as_parent(), &random()).unwrap()
    }
}

fn spec(common_name: &str, path_len: Option<u8>) -> AuthorityCertificateSpec<'_> {
    AuthorityCertificateSpec {
        common_name,
        organization: Some("Example"),
        serial: serial(),
        validity: years(20),
        path_len,
    }
}

/// A certificate field by field, for contents that no ordinary tool produces.
pub(crate) struct Raw {
    pub(crate) version: Option<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Name,
    pub(crate) validity: Validity,
    pub(crate) subject: Name,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<(Oid<'static>, bool, Vec<u8>)>,
}

pub(crate) const CA: &[u8] = &[0x30, 0x03, 0x01, 0x01, 0xff];
pub(crate) const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];
pub(crate) const KEY_AGREEMENT: &[u8] = &[0x03, 0x02, 0x03, 0x08];
/// certificatePolicies: anyPolicy.
pub(crate) const POLICIES: &[u8] = &[0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x20, 0x00];
pub(crate) const CERT_SIGN: &[u8] = &[0x03, 0x02, 0x02, 0x04];

impl Raw {
    pub(crate) fn device(key: &SigningKey) -> Self {
        Self {
            version: Some(2),
            serial: vec![1],
            issuer: cn("nobody"),
            validity: years(1),
            subject: cn("device"),
            spki: key.spki().to_vec(),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn authority(common_name: &str, key: &SigningKey) -> Self {
        Self { subject: cn(common_name), ..Self::device(key) }.with(oid::BASIC_CONSTRAINTS, true, CA).with(
            oid::KEY_USAGE,
            true,
            CERT_SIGN,
        )
    }

    pub(crate) fn with(mut self, id: Oid<'static>, critical: bool, value: &[u8]) -> Self {
        self.extensions.retain(|(other, _, _)| *other != id);
        self.extensions.push((id, critical, value.to_vec()));
        self
    }

    pub(crate) fn without(mut self, id: Oid<'static>) -> Self {
        self.extensions.retain(|(other, _, _)| *other != id);
        self
    }

    pub(crate) fn signed_by(mut self, issuer: &Authority) -> Vec<u8> {
        self.issuer = issuer.certificate.subject().clone();
        self.signed_with(&issuer.key)
    }

    pub(crate) fn signed_with(&self, key: &SigningKey) -> Vec<u8> {
        let mut tbs = Writer::default();
        tbs.sequence(|out| {
            if let Some(version) = self.version {
                out.nested(Tag::context_constructed(0), |out| out.unsigned(&[version]));
            }
            out.element(Tag::INTEGER, &self.serial);
            out.raw(key.algorithm().identifier());
            out.raw(self.issuer.der());
            out.sequence(|out| {
                out.time(self.validity.not_before);
                out.time(self.validity.not_after);
            });
            out.raw(self.subject.der());
            out.raw(&self.spki);
            if !self.extensions.is_empty() {
                out.nested(Tag::context_constructed(3), |out| {
                    out.sequence(|out| self.extensions.iter().for_each(|extension| write_extension(out, extension)));
                });
            }
        });
        signed(&tbs.into_vec(), key)
    }

    pub(crate) fn into_authority(self, key: SigningKey, issuer: &Authority) -> Authority {
        let der = self.signed_by(issuer);
        Authority { certificate: Arc::new(Certificate::parse(&der).unwrap()), key }
    }
}

fn write_extension(out: &mut Writer, (id, critical, value): &(Oid<'static>, bool, Vec<u8>)) {
    out.sequence(|out| {
        out.oid(*id);
        if *critical {
            out.true_value();
        }
        out.element(Tag::OCTET_STRING, value);
    });
}

/// `SEQUENCE { contents, algorithm, signature }` over any contents.
pub(crate) fn signed(contents: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = key.sign(&random(), contents).unwrap();
    let mut out = Writer::default();
    out.sequence(|out| {
        out.raw(contents);
        out.raw(key.algorithm().identifier());
        out.bit_string(signature.as_bytes());
    });
    out.into_vec()
}

/// A vector of RFC 9148.
pub(crate) fn vector(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text.split_whitespace().collect::<String>()).unwrap()
}

pub(crate) const CRTS_RESPONSE: &str = include_str!("../vectors/rfc9148/crts-response-281.hex");
pub(crate) const SEN_REQUEST: &str = include_str!("../vectors/rfc9148/sen-request-286.hex");
pub(crate) const SEN_RESPONSE: &str = include_str!("../vectors/rfc9148/sen-response-281.hex");
pub(crate) const SKG_REQUEST: &str = include_str!("../vectors/rfc9148/skg-request-286.hex");
pub(crate) const SKG_RESPONSE: &str = include_str!("../vectors/rfc9148/skg-response-62.hex");
pub(crate) const ATT_RESPONSE: &str = include_str!("../vectors/rfc9148/att-response-285.hex");
