//! What a Registrar asks of the durable record: each request that it relays to an upstream CA, and each certificate that came back.
//!
//! ```text
//!              begin                       record
//!   (nothing) ───────► InFlight ─────────────────────────► Recorded ──► answers repeats until its window ends
//!                        │  ▲ │ end(NotSent | Refused)
//!                        │  │ └───────────────────────────► (closed: the request is forgotten)
//!    end(Unknown | Later)│  │ begin, by the same request: the same upstream is asked again
//!   or RELAY_LIFETIME    ▼  │
//!                      Unresolved ──► forgotten when its window ends; not sent again before the time that its upstream named (Later)
//! ```
//!
//! These rows are not rows of a CA: the upstream has chosen their serial numbers, and revokes its certificates itself. Calls take effect in the
//! order in which they are made; each takes a batch and a completion, as those of [`Ledger`](crate::Ledger) do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pki::{AnchorId, Digest, Validity};
use rustls_pki_types::UnixTime;

use crate::completion::Completion;
use crate::device::Device;
use crate::entry::{LISTING_ROWS_MAX, LedgerHealth, Revoked};
use crate::function::Function;
use crate::idempotency::RepeatWindow;
use crate::intent::NewRow;
use crate::issued::Issued;
use crate::ledger::LedgerFault;
use crate::origin::Origin;
use crate::revocation::Revocation;
use crate::standing::State;

/// A request of which nothing was heard for this long counts as unresolved: longer than any exchange with an upstream may take, shorter than
/// MAX_TRANSMIT_WAIT (93 s, RFC 7252 §4.8.2), so that a device that still tries after a crash gets its certificate.
pub const RELAY_LIFETIME: Duration = Duration::from_secs(75);

/// The durable record of what was relayed.
pub trait RelayLedger: Send + Sync {
    /// Writes the request down, durably, before anything is sent to its upstream; unless it is known already, or may have no new row. One answer
    /// per request, in order. Looking for an earlier one and writing are one step.
    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>);

    /// Records certificates that came back, durably, before they are passed on. One answer per certificate, in order.
    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>);

    /// Ends exchanges that brought no certificate. The caller does not wait for it: if the call is lost, the row becomes unresolved after
    /// [`RELAY_LIFETIME`], which only keeps its repeats with one upstream. An end does not change a row that has a certificate.
    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>);

    /// The holder of each relayed certificate, by the digest of the whole certificate. One answer per digest, in order.
    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>);

    /// Marks relayed certificates as revoked, durably: their holders open nothing from then on, and they no longer answer repeats. What verifiers
    /// are told is the upstream's business. One answer per certificate, in order; the first revocation stays. A compromised key is never asked for
    /// again: see [`Ledger::revoke`](crate::Ledger::revoke).
    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    );

    /// The keys of these certificates, which were made for their devices, have reached them: see [`Ledger::delivered`](crate::Ledger::delivered). What
    /// an earlier process left pending is marked as revoked.
    fn delivered(&self, certificates: Vec<Digest>);

    /// One page of the rows, in the order in which they were begun.
    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>);

    /// Whether it can read and write now.
    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>);
}

/// The row of one request. Rows are numbered in the order in which they are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(u64);

impl RelayId {
    /// A number that a ledger gives to a row.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// A request about to be sent upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRequest {
    /// The function that was requested.
    pub function: Function,
    /// Name of the profile.
    pub profile: Arc<str>,
    /// The device that asked.
    pub device: Device,
    /// The anchor that the client's chain ended in.
    pub anchor: AnchorId,
    /// The kind of certificate that the client authenticated with.
    pub vouched_by: Origin,
    /// Digest of that certificate.
    pub client: Digest,
    /// Digest of the whole CSR as the device sent it.
    pub csr: Digest,
    /// Digest of the subject public key info to certify; `None` if the key is made for the device.
    pub spki: Option<Digest>,
    /// Digest of the names that the CSR asks for, and, if the key is made for the device, of how it is to be protected. A client that signs with
    /// randomness, or links its request to another session, repeats it with another CSR: same key, same names.
    pub names: Digest,
    /// The upstream that is asked.
    pub upstream: Arc<str>,
    /// The network address of the device, only for the audit.
    pub peer: SocketAddr,
    /// The time of the request.
    pub at: UnixTime,
    /// Until when the same request is a repeat of this one as long as no certificate came back: longer than the repeat window of a certificate, if
    /// that is less than a device may take to come again.
    pub window: RepeatWindow,
    /// Whether a new row may be written for it.
    pub new_row: NewRow,
    /// The maximum of the device's unexpired certificates and open requests, including this one.
    pub certificates_max: u32,
}

impl RelayRequest {
    /// Whether it is the same request as an earlier one of the same device. If the key is made for the device, the key in the CSR says nothing, and
    /// the earlier request is repeated only until it has an answer: a key belongs to one request.
    #[must_use]
    pub fn asks_the_same_as(&self, earlier: &Self) -> bool {
        self.device == earlier.device
            && self.function == earlier.function
            && self.profile == earlier.profile
            && (self.csr == earlier.csr || (self.spki == earlier.spki && self.names == earlier.names))
    }
}

/// The ledger's answer to one [`RelayRequest`].
#[derive(Clone, Debug)]
pub enum Begun {
    /// The request has a row now: send it.
    New(RelayId),
    /// An earlier attempt has an unknown end. The row is in flight again; the same CSR goes to this upstream once more, and to no other.
    Unresolved {
        /// The row of the earlier attempt.
        id: RelayId,
        /// The upstream that it was sent to.
        upstream: Arc<str>,
    },
    /// The upstream of an earlier attempt has named a time, which has not come: nothing is sent, and nothing was written.
    Waits {
        /// The row of the earlier attempt.
        id: RelayId,
        /// The upstream that it was sent to.
        upstream: Arc<str>,
        /// The time.
        until: UnixTime,
    },
    /// The request already has an answer; nothing was written. Never for a key that is made for the device: nobody has it any more.
    Repeat(Arc<Issued>),
    /// The same request is in flight.
    InProgress,
    /// The certificate that the client authenticated with is marked as revoked.
    ClientRevoked,
    /// The key is that of a relayed certificate which was marked as revoked because the key is compromised, whoever asks.
    KeyCompromised,
    /// No row answers the request, and it may have no new one ([`NewRow::Held`]).
    Held,
    /// Another device holds a relayed certificate for this key.
    KeyOfAnother,
    /// The device holds the maximum of certificates and open requests.
    DeviceFull,
    /// There is no room for another row.
    Full,
}

/// A certificate that came back. Its serial number is the upstream's and stands in the certificate.
#[derive(Clone, Debug)]
pub struct RelayRecord {
    /// The row of its request.
    pub id: RelayId,
    /// The certificate, and what belongs to it.
    pub issued: Arc<Issued>,
    /// Its serial number, as the upstream chose it: the contents of the INTEGER.
    pub serial: Box<[u8]>,
    /// Digest of the key that it certifies.
    pub spki: Digest,
    /// The time until which it answers repeats.
    pub window: RepeatWindow,
}

/// The ledger's answer to one [`RelayRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It is durable, and the answer to its request. If an earlier request of the same device and profile has it already, it stays there, and this
    /// request is forgotten.
    First,
    /// It is durable, and its request had been answered with this certificate before: the device gets that one.
    Second(Arc<Issued>),
    /// Another device, or this one by another profile, has this certificate: nothing was written. The upstream is at fault.
    OfAnother,
    /// Its key was marked as compromised while its request was upstream: it is recorded, marked, and not passed on.
    KeyCompromised,
    /// There is no such row: the ledger has forgotten it.
    Unknown,
}

/// How an exchange without a certificate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// Nothing was sent: any upstream may be asked.
    NotSent,
    /// The upstream answered, and it was not a certificate that can be passed on.
    Refused,
    /// The request was sent, and nobody knows what became of it.
    Unknown,
    /// The same, and the device was told to come again later.
    Later {
        /// The row is unresolved at least until this time.
        until: UnixTime,
        /// It is not sent again before this one. RFC 7030 §4.2.3: "The client MUST wait at least the specified 'Retry-After' time before repeating
        /// the same request", and towards the upstream the Registrar is the client.
        not_before: UnixTime,
    },
}

/// A device that was told when to come again may be late by this much, because it sleeps or has no network, and still finds its row.
const LATENESS: Duration = Duration::from_secs(86_400);

impl RelayEnd {
    /// The end of an exchange whose upstream says at `at` to come again after `wait`.
    #[must_use]
    pub fn later(at: UnixTime, wait: Duration) -> Self {
        Self::Later { until: Self::open_until(at, wait), not_before: after(at, wait) }
    }

    /// The end of an exchange whose upstream said nothing, and whose device is told at `at` to come again after `wait`: it may come sooner.
    #[must_use]
    pub fn unheard(at: UnixTime, wait: Duration) -> Self {
        Self::Later { until: Self::open_until(at, wait), not_before: at }
    }

    /// Until when a row is open whose device comes again at `at` after `wait`, which a server prolongs by up to a half.
    #[must_use]
    pub fn open_until(at: UnixTime, wait: Duration) -> UnixTime {
        after(at, wait.saturating_add(wait / 2).saturating_add(LATENESS))
    }
}

fn after(at: UnixTime, wait: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.as_secs().saturating_add(wait.as_secs())))
}

/// The holder of a relayed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayHolder {
    /// The device that the certificate was relayed for.
    pub device: Device,
    /// The name of the profile that it was relayed by, the only one that it gives access to.
    pub profile: Arc<str>,
    /// Its validity.
    pub validity: Validity,
    /// Whether an operator has marked it as revoked.
    pub state: State,
}

/// One row, as an operator sees it.
#[derive(Clone, Debug)]
pub struct RelayEntry {
    /// Its number.
    pub id: RelayId,
    /// The request.
    pub request: RelayRequest,
    /// How often it was sent, or was about to be.
    pub attempts: u32,
    /// Its progress.
    pub stage: RelayStage,
}

/// The progress of a relayed request.
#[derive(Clone, Debug)]
pub enum RelayStage {
    /// It is in flight.
    InFlight,
    /// It was sent, and its end is unknown.
    Unresolved,
    /// Its certificates, oldest first; the first one is its answer.
    Recorded(Vec<RelayedCertificate>),
}

/// A certificate of a row.
#[derive(Clone, Debug)]
pub struct RelayedCertificate {
    /// The certificate as it was recorded.
    pub record: RelayRecord,
    /// The operator's mark.
    pub revocation: Option<Revocation>,
}

/// A query for one page of rows.
#[derive(Clone, Debug, Default)]
pub struct RelayQuery {
    /// Rows of this device.
    pub device: Option<Device>,
    /// Only rows after this one.
    pub after: Option<RelayId>,
    /// The maximum number of rows: at least one, never more than [`LISTING_ROWS_MAX`].
    pub rows_max: usize,
}

impl RelayQuery {
    /// The number of rows that the answer may have.
    #[must_use]
    pub fn bound(&self) -> usize {
        self.rows_max.clamp(1, LISTING_ROWS_MAX)
    }
}

/// One page of rows.
#[derive(Clone, Debug, Default)]
pub struct RelayListing {
    /// The rows.
    pub rows: Vec<RelayEntry>,
    /// Where to continue; `None` if no row is left.
    pub next: Option<RelayId>,
}

/// Maximum of certificates of one row: an upstream that issues anew for each repeat is recorded this often.
pub const CERTIFICATES_PER_RELAY_MAX: usize = 8;
