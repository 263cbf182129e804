//! The ledger as its operator sees it: rows, how to find and list them, and revocation.

use std::sync::Arc;

use pki::issue::Serial;
use pki::{AnchorId, Certificate, Digest, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::intent::{Intent, Record};
use crate::issued::Issued;
use crate::revocation::Revocation;
use crate::standing::{Standing, State};

/// One row.
#[derive(Clone, Debug)]
pub struct LedgerEntry {
    /// Its place in the order of [`crate::Ledger::list`].
    pub cursor: Cursor,
    /// The reservation: the request that it answers, and everything that was decided about it.
    pub intent: Intent,
    /// The progress of its issuance.
    pub stage: RowStage,
    /// Its revocation. A row without a certificate can have one too: whether its certificate was signed before a crash is not known.
    pub revocation: Option<Revocation>,
}

/// The progress of an issuance.
#[derive(Clone, Debug)]
pub enum RowStage {
    /// The serial is reserved; the certificate has not been recorded yet.
    Reserved,
    /// The reservation was given up: no certificate with its serial is released.
    Abandoned,
    /// The certificate is recorded.
    Issued(Record),
}

impl LedgerEntry {
    /// The certificate, if there is one.
    #[must_use]
    pub fn issued(&self) -> Option<&Arc<Issued>> {
        match &self.stage {
            RowStage::Issued(record) => Some(&record.issued),
            RowStage::Reserved | RowStage::Abandoned => None,
        }
    }

    /// What the row says about the holder of its certificate; `None` if it has none.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        Some(self.standing_of(self.issued()?.validity))
    }

    /// What a revoked row without a certificate says about a client with a certificate of its serial: the certificate was signed, and a crash
    /// happened before it was recorded.
    #[must_use]
    pub fn revocation_of_unissued(&self) -> Option<Standing> {
        let is_revoked = self.issued().is_none() && self.revocation.is_some();
        is_revoked.then(|| self.standing_of(self.intent.validity))
    }

    fn standing_of(&self, validity: Validity) -> Standing {
        let intent = &self.intent;
        Standing {
            device: intent.device.clone(),
            profile: Arc::clone(&intent.profile),
            serial: intent.serial,
            validity,
            anchor: intent.anchor,
            vouched_by: intent.vouched_by,
            state: self.revocation.clone().map_or(State::Good, State::Revoked),
        }
    }
}

/// A key that finds one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// The row of this serial number, whatever its stage.
    Serial(Serial),
    /// The row of this serial number if it has the certificate with this digest.
    Certificate(Serial, Digest),
    /// The device's certificate in the profile: the newest one that is not revoked, or else the newest one. So neither a certificate of another
    /// profile stands before it, nor one whose key did not reach the device, which is revoked.
    NewestOf {
        /// The device.
        device: Device,
        /// The name of the profile.
        profile: Arc<str>,
    },
}

impl Locator {
    /// The locator of this certificate's row; `None` if its serial number does not have Muster's form, so that no row can have it.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Option<Self> {
        Some(Self::Certificate(Serial::from_bytes(certificate.serial()).ok()?, certificate.digest()))
    }
}

/// Selects rows: those that fulfil all conditions that are set. The default selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// Rows of this device.
    pub device: Option<Device>,
    /// Rows of the profile with this name.
    pub profile: Option<Arc<str>>,
    /// Rows of this issuing CA.
    pub ca: Option<AnchorId>,
    /// Rows in this state.
    pub state: Option<RowState>,
    /// Certificates whose notAfter is this or later. A row without a certificate has no notAfter.
    pub expires_from: Option<UnixTime>,
    /// Certificates whose notAfter is before this.
    pub expires_before: Option<UnixTime>,
}

/// A state to select rows by. A row can be in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// Reserved, without a certificate yet.
    Reserved,
    /// Given up, revoked or not.
    Abandoned,
    /// With a certificate, revoked or not.
    Issued,
    /// With a certificate that is not revoked.
    Good,
    /// Revoked, with a certificate or without.
    Revoked,
}

impl RowFilter {
    /// Whether the filter selects the row.
    #[must_use]
    pub fn matches(&self, row: &LedgerEntry) -> bool {
        let intent = &row.intent;
        let not_after = row.issued().map(|issued| issued.validity.not_after);
        self.device.as_ref().is_none_or(|device| *device == intent.device)
            && self.profile.as_ref().is_none_or(|profile| *profile == intent.profile)
            && self.ca.is_none_or(|ca| ca == intent.ca)
            && self.state.is_none_or(|state| state.holds_for(row))
            && self.expires_from.is_none_or(|from| not_after.is_some_and(|end| from <= end))
            && self.expires_before.is_none_or(|before| not_after.is_some_and(|end| end < before))
    }
}

impl RowState {
    /// Whether the row is in this state.
    #[must_use]
    pub fn holds_for(self, row: &LedgerEntry) -> bool {
        match self {
            Self::Reserved => matches!(row.stage, RowStage::Reserved),
            Self::Abandoned => matches!(row.stage, RowStage::Abandoned),
            Self::Issued => row.issued().is_some(),
            Self::Good => row.issued().is_some() && row.revocation.is_none(),
            Self::Revoked => row.revocation.is_some(),
        }
    }
}

/// A place in the order of rows: later rows come after it. The caller of a listing keeps it, across calls and restarts; only the ledger that
/// made it can interpret it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor([u8; 16]);

impl Cursor {
    /// A cursor that a ledger makes, or that a caller has kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The value to keep.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Maximum rows in one answer of [`crate::Ledger::list`], whatever the query asks for: a certificate and its intent take about a kilobyte and a
/// half, so this is about 400 KB, and handling such a batch takes less time than a device waits.
pub const LISTING_ROWS_MAX: usize = 256;

/// A query for one page of rows.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The filter.
    pub filter: RowFilter,
    /// Only rows after this one; from the beginning if it is `None`.
    pub after: Option<Cursor>,
    /// The maximum number of rows: at least one, never more than [`LISTING_ROWS_MAX`].
    pub rows_max: usize,
}

impl ListQuery {
    /// The number of rows that the answer may have.
    #[must_use]
    pub fn bound(&self) -> usize {
        self.rows_max.clamp(1, LISTING_ROWS_MAX)
    }
}

/// One page of rows, in the order in which they were reserved.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The rows.
    pub rows: Vec<LedgerEntry>,
    /// Where to continue; `None` if no row is left. A page may have fewer rows than were asked for, even none, and others may follow: a ledger
    /// looks at a limited number of rows per call, whether the filter selects them or not.
    pub next: Option<Cursor>,
}

/// A request to revoke.
#[derive(Clone, Debug)]
pub struct Revoke {
    /// The row.
    pub row: Locator,
    /// The revocation to record.
    pub revocation: Revocation,
}

/// The ledger's answer to one [`Revoke`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is now revoked, durably. If it was only reserved, it is given up too: a certificate that arrives for it later is refused.
    Now,
    /// It was revoked before, and that revocation remains.
    Before(Revocation),
    /// There is no such row.
    Unknown,
}

/// The condition of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHealth {
    /// Number of rows that it holds.
    pub rows: u64,
    /// Number of rows that fit without forgetting one; `None` if the ledger has no limit.
    pub room: Option<u64>,
}

/// What a ledger knows about its writes without waiting for anything: for probes and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerWrites {
    /// Why no row can be written now, in words for an operator; `None` while rows can be written.
    pub fault: Option<String>,
    /// Batches that could not be written since it was opened. A batch that is refused because an earlier one failed does not count.
    pub faults: u64,
    /// Batches that it has made durable since it was opened, each with one sync of the disk; 0 if it is in memory.
    pub commits: u64,
    /// Rows that wait to be written.
    pub waiting_rows: u64,
    /// The room on its disk, or on the disk of its journal if that is shorter of what it needs; `None` if it is in memory, or if the system does not say.
    pub disk: Option<DiskRoom>,
}

/// The room on the disk of a ledger or of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// What is free for the user of the ledger.
    pub free_bytes: u64,
    /// What has to be free before a ledger that found its disk full writes again.
    pub needed_bytes: u64,
}
