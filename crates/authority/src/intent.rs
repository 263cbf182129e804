//! The rows that an issuance writes: an intent before the signature, a record after it, and what the ledger answers to each.

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

/// A certificate about to be signed: the row that is durable before it is.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Which request it answers.
    pub key: Key,
    /// The serial to reserve.
    pub serial: Serial,
    /// The CA that issues, by name and key: what its CRL and its operator's lists select rows by. A certificate of the CA that is made anew for
    /// the same name and key is the same CA.
    pub ca: AnchorId,
    /// Digest of the to-be-signed bytes: a serial never stands for two contents.
    pub to_be_signed: Digest,
    /// What was asked for.
    pub function: Function,
    /// Name of the profile.
    pub profile: Arc<str>,
    /// The version of the profile that decided.
    pub profile_version: ProfileVersion,
    /// Who asked.
    pub device: Device,
    /// The anchor that the client's chain ended in: says, row by row, on whose word a certificate was issued, so that what hangs under an anchor
    /// that is distrusted later can be found.
    pub anchor: AnchorId,
    /// Whose certificate the client authenticated with: that of a manufacturer, or a predecessor that this CA had issued.
    pub vouched_by: Origin,
    /// Digest of that certificate.
    pub client: Digest,
    /// Digest of the key of the factory's certificate, where the client authenticated with that.
    pub factory_key: Option<Digest>,
    /// Digest of the CSR, whole: what an audit compares with the request that a device says it made.
    pub csr: Digest,
    /// Digest of the subject public key info to certify.
    pub spki: Digest,
    /// Digest of the names that the CSR asks for. A client that signs with randomness repeats its request with another CSR: same key, same names.
    pub names: Digest,
    /// The subject of the certificate: what an operator knows the row by.
    pub subject: Name,
    /// From when to when it is going to be valid: until then a certificate that was signed for a row which was given up could be shown, so that
    /// long its revocation matters.
    pub validity: Validity,
    /// The network address that asked, for the audit alone: nothing is decided by it.
    pub peer: SocketAddr,
    /// The time of the request.
    pub at: UnixTime,
}

/// An intent, and the conditions under which it may have a row. The ledger checks them and keeps none of them.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The row.
    pub intent: Intent,
    /// Whether keys of the factory may be certified: `allow_identity_key` of the profile.
    pub factory_keys: FactoryKeys,
    /// Whether a new row may be reserved for it.
    pub new_row: NewRow,
    /// How many certificates the device may hold that have not expired, this one included.
    pub certificates_max: u32,
}

impl Intent {
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

/// Whether the keys that a device's factory certificates hold may be certified for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactoryKeys {
    /// They may.
    Allowed,
    /// They live too long: no certificate for one of them, whatever the client authenticated with.
    Refused,
}

/// Whether a request that no row answers yet may have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRow {
    /// It may.
    Allowed,
    /// Its device waits, for an approval or for its limit: only a repeat is answered. The answer that was lost may be the one that brought the
    /// device to its limit.
    Held,
}

/// The ledger's answer to one [`Reserve`].
#[derive(Clone, Debug)]
pub enum Intended {
    /// The serial is reserved: sign.
    Reserved,
    /// The request is answered already; nothing was reserved.
    Repeat(Arc<Issued>),
    /// No row answers the request, and it was to have none ([`NewRow::Held`]); nothing was reserved. This comes before every other reason not to
    /// reserve.
    Held,
    /// The serial stands for something else: draw another.
    SerialTaken,
    /// Another intent for the same request is being signed (by another node, or before a restart).
    InProgress,
    /// Another device holds a certificate for this key.
    KeyOfAnother,
    /// The key is one that a factory certificate of this device holds, and the profile refuses those.
    FactoryKey,
    /// The device holds as many certificates as it may; all of its profiles count, and so do intents that may still become one. A repeat is
    /// answered all the same.
    DeviceFull,
    /// There is no room for another row.
    Full,
}

/// A certificate that was signed, to be kept before it is released.
#[derive(Clone, Debug)]
pub struct Record {
    /// The serial that was reserved for it.
    pub serial: Serial,
    /// The certificate and what belongs to it.
    pub issued: Arc<Issued>,
    /// Until when it answers repeats.
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
