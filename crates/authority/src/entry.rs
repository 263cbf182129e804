//! The ledger as its operator sees it: rows, what finds and lists them, and what revokes.

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
    /// Where it stands in the order of [`crate::Ledger::list`].
    pub cursor: Cursor,
    /// What was reserved: whose request it answers, and everything that was decided about it.
    pub intent: Intent,
    /// How far its issuance came.
    pub stage: RowStage,
    /// Its revocation. A row without a certificate can have one too: whether its certificate was signed before a crash is not known.
    pub revocation: Option<Revocation>,
}

/// How far an issuance came.
#[derive(Clone, Debug)]
pub enum RowStage {
    /// The serial is reserved; the certificate has not come yet.
    Reserved,
    /// The reservation was given up: no certificate of it is released.
    Abandoned,
    /// The certificate is recorded.
    Issued(Record),
}

impl LedgerEntry {
    /// The certificate, where there is one.
    #[must_use]
    pub fn issued(&self) -> Option<&Arc<Issued>> {
        match &self.stage {
            RowStage::Issued(record) => Some(&record.issued),
            RowStage::Reserved | RowStage::Abandoned => None,
        }
    }

    /// What the row says of the holder of its certificate; nothing where it has none.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        Some(self.standing_of(self.issued()?.validity))
    }

    /// What the row says of whoever shows a certificate with its serial, if it has none and is revoked: the certificate was signed, and a crash
    /// came before it was recorded.
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

/// What finds one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// The row of this serial number, whatever its stage.
    Serial(Serial),
    /// The row of this serial number if it has the certificate with this digest.
    Certificate(Serial, Digest),
    /// The newest row of the device that has a certificate, of whatever profile.
    NewestOf(Device),
}

impl Locator {
    /// What finds the row of this certificate; `None` if its serial number is not of Muster's form, so that no row can have it.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Option<Self> {
        Some(Self::Certificate(Serial::from_bytes(certificate.serial()).ok()?, certificate.digest()))
    }
}

/// Which rows are meant: those for which everything holds that is set. The default means all.
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

/// A state that rows are asked for by. A row can be in several.
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
    /// Whether the row is meant.
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

/// A place in the order of rows: what comes after it is what was reserved later. It is kept by whoever lists, over calls and restarts; only the
/// ledger that made it can tell what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor([u8; 16]);

impl Cursor {
    /// A cursor as a ledger makes it, or as it was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What is kept of it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Rows that one answer of [`crate::Ledger::list`] holds at most, whatever is asked for: a certificate and its intent are about a kilobyte and
/// a half, so this is some 400 KB, and a batch of this size stays below what a device waits for behind it.
pub const LISTING_ROWS_MAX: usize = 256;

/// One page of rows that is asked for.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Which rows.
    pub filter: RowFilter,
    /// Only rows after this one; from the beginning where there is none.
    pub after: Option<Cursor>,
    /// How many at most: at least one, never more than [`LISTING_ROWS_MAX`].
    pub rows_max: usize,
}

impl ListQuery {
    /// How many rows the answer may have.
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
    /// Where to go on; nothing where no row was left. A page may have fewer rows than were asked for, even none, and be followed by others:
    /// a ledger looks at so many rows a call, whether they are meant or not.
    pub next: Option<Cursor>,
}

/// A revocation that is asked for.
#[derive(Clone, Debug)]
pub struct Revoke {
    /// Of which row.
    pub row: Locator,
    /// What is to stand in it.
    pub revocation: Revocation,
}

/// The ledger's answer to one [`Revoke`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is revoked from now on, durably. A reservation was given up with it: its certificate is turned away if it comes.
    Now,
    /// It was revoked before, and that revocation stands.
    Before(Revocation),
    /// No such row.
    Unknown,
}

/// How the ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHealth {
    /// How many rows it holds.
    pub rows: u64,
    /// How many more it has room for without forgetting one; nothing where it sets no bound itself.
    pub room: Option<u64>,
}
