//! The rows that an issuance writes: an intent before the signature and a record after it; and the ledger's answers.

use std::net::SocketAddr;
use std::sync::Arc;

use pki::issue::Serial;
use pki::{AnchorId, Digest, Name, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::function::Function;
use crate::idempotency::{Key, RepeatWindow};
use crate::issued::Issued;
use crate::origin::Origin;
use crate::profile_version::ProfileVersion;

/// A certificate about to be signed: the row becomes durable before the signature is made.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The serial to reserve.
    pub serial: Serial,
    /// The CA that issues, by name and key: its CRL and the operator's lists select rows by it. A new certificate for the same name and key is
    /// the same CA.
    pub ca: AnchorId,
    /// Digest of the to-be-signed bytes: a serial is never used for two contents.
    pub to_be_signed: Digest,
    /// The function that was requested.
    pub function: Function,
    /// Name of the profile.
    pub profile: Arc<str>,
    /// The version of the profile that decided.
    pub profile_version: ProfileVersion,
    /// The device that asked.
    pub device: Device,
    /// The anchor that the client's chain ended in: it shows for each row which anchor was trusted, so that all certificates below an anchor that
    /// is later distrusted can be found.
    pub anchor: AnchorId,
    /// The kind of certificate that the client authenticated with: that of a manufacturer, or a predecessor that this CA had issued.
    pub vouched_by: Origin,
    /// Digest of that certificate.
    pub client: Digest,
    /// Digest of the key of the factory certificate, if the client authenticated with that.
    pub factory_key: Option<Digest>,
    /// Digest of the whole CSR: an audit compares it with the request that a device claims to have made.
    pub csr: Digest,
    /// Digest of the subject public key info to certify.
    pub spki: Digest,
    /// Digest of the names that the CSR asks for. A client that signs with randomness repeats its request with another CSR: same key, same names.
    pub names: Digest,
    /// The subject of the certificate: an operator recognizes the row by it.
    pub subject: Name,
    /// The validity that the certificate will have. If the row is given up, a certificate that was signed for it could be presented until its
    /// end, so its revocation matters until then.
    pub validity: Validity,
    /// The network address of the client, only for the audit: no decision depends on it.
    pub peer: SocketAddr,
    /// The time of the request.
    pub at: UnixTime,
}

/// An intent, and the conditions under which it may have a row. The ledger checks the conditions, but does not keep them.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The row.
    pub intent: Intent,
    /// Whether factory keys may be certified: `allow_identity_key` of the profile.
    pub factory_keys: FactoryKeys,
    /// Whether a new row may be reserved for it.
    pub new_row: NewRow,
    /// The maximum of unexpired certificates of the device, including this one.
    pub certificates_max: u32,
}

impl Intent {
    /// Which request it answers.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.function, &self.profile, &self.device, &self.csr)
    }

    /// Whether the request is the same as that of an earlier row of the same device: the same function and profile, and the same CSR or the same
    /// key and names.
    #[must_use]
    pub fn asks_the_same_as(&self, earlier: &Self) -> bool {
        self.device == earlier.device
            && self.function == earlier.function
            && self.profile == earlier.profile
            && (self.csr == earlier.csr || (self.spki == earlier.spki && self.names == earlier.names))
    }
}

/// Whether the keys of a device's factory certificates may be certified for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactoryKeys {
    /// They may.
    Allowed,
    /// They may not, because they are kept too long: such a key gets no certificate, whatever the client authenticated with.
    Refused,
}

/// Whether a request that no row answers yet may have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRow {
    /// It may.
    Allowed,
    /// It may not: its device waits for approval, or is over its limit. Only a repeat is answered: the certificate whose delivery failed may be
    /// the one that brought the device to its limit.
    Held,
}

/// The ledger's answer to one [`Reserve`].
#[derive(Clone, Debug)]
pub enum Intended {
    /// The serial is reserved: sign.
    Reserved,
    /// The request already has an answer; nothing was reserved.
    Repeat(Arc<Issued>),
    /// The certificate that the client authenticated with was revoked since its standing was asked for; nothing was reserved, and an earlier answer is
    /// not repeated.
    ClientRevoked,
    /// The key is that of a certificate which was revoked because the key is compromised, whoever asks: see [`crate::Ledger::revoke`]. Nothing was
    /// reserved, and an earlier answer is not repeated.
    KeyCompromised,
    /// No row answers the request, and it may have no new one ([`NewRow::Held`]); nothing was reserved. This takes precedence over every reason
    /// below.
    Held,
    /// The serial is in use for other content: draw another.
    SerialTaken,
    /// Another intent for the same request is being signed (by another node, or before a restart).
    InProgress,
    /// Another device holds a certificate for this key.
    KeyOfAnother,
    /// The key is that of a factory certificate of this device, and the profile refuses those.
    FactoryKey,
    /// The device holds the maximum of certificates; those of all profiles count, and so do intents that may still become one. Repeats are still
    /// answered.
    DeviceFull,
    /// There is no room for another row.
    Full,
}

/// A signed certificate, which is recorded before it is released.
#[derive(Clone, Debug)]
pub struct Record {
    /// The serial that was reserved for it.
    pub serial: Serial,
    /// The certificate and what belongs to it.
    pub issued: Arc<Issued>,
    /// The time until which it answers repeats.
    pub window: RepeatWindow,
}

/// The ledger's answer to one [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The certificate is durable: release it.
    Durable,
    /// The reservation had been given up: the certificate must not be released.
    Abandoned,
}

/// The row of a certificate that its ledger lost, rebuilt from the certificate: see [`crate::Gap`].
#[derive(Clone, Debug)]
pub struct Adoption {
    /// What the certificate says about its request. What it does not say: `client` and `csr` are the digest of the certificate itself, which no
    /// request has, and the time is that of the adoption.
    pub intent: Intent,
    /// The certificate. It answers no repeats.
    pub record: Record,
}
