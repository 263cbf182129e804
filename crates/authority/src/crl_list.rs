//! What the ledger keeps about the revocation lists of a CA.
//!
//! ```text
//!  fix_crl_layout ──► one list, or so many shards at these URLs: for good
//!  revoke ──► an entry in one list, which is outdated from then on
//!  crl_lists ──► which lists are outdated
//!  number_crls ──► the next CRL number of each, durable before a list with it is signed
//!  crl_entries ──► the entries of one list, page by page ──► CrlBuilder
//! ```

use std::sync::Arc;

use pki::AnchorId;
use pki::issue::Serial;
use pki::issue::crl::{CrlEntry, CrlShards, CrlUrl, shard_of};
use rustls_pki_types::UnixTime;

use crate::entry::Cursor;

/// How the revocation lists of a CA are divided. The certificates name their list, so this does not change after the first one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CrlLayout {
    /// One list for the whole CA. It names no URL, so its URL may change as long as the old one leads to it.
    Whole,
    /// One list for each shard. Each names its own URL, which a certificate has to repeat exactly (RFC 5280 §6.3.3, step b 2 i): with another URL
    /// no list would be one of the certificates that were issued before.
    Sharded {
        /// The number of shards.
        shards: CrlShards,
        /// The URL as configured, with its placeholder.
        url: Arc<str>,
    },
}

impl CrlLayout {
    /// The layout that this URL means.
    #[must_use]
    pub fn of(url: &CrlUrl) -> Self {
        url.shards().map_or(Self::Whole, |shards| Self::Sharded { shards, url: url.to_string().into() })
    }

    /// The index of the list that the certificate with this serial number belongs to.
    #[must_use]
    pub fn list_of(&self, serial: &Serial) -> u32 {
        match self {
            Self::Whole => 0,
            Self::Sharded { shards, .. } => shard_of(serial, *shards).index(),
        }
    }
}

/// One revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlListState {
    /// Its index: that of its shard, or 0 if it covers the whole CA.
    pub list: u32,
    /// The last CRL number; 0 if it has had none.
    pub number: u64,
    /// Whether there are revocations that the list with this number may lack.
    pub is_outdated: bool,
}

/// Maximum lists in one answer of [`crate::Ledger::crl_lists`].
pub const CRL_LISTS_MAX: usize = 1_024;

/// A query for one page of the lists of a CA.
#[derive(Clone, Copy, Debug)]
pub struct CrlListQuery {
    /// The CA.
    pub ca: AnchorId,
    /// Which of its lists.
    pub which: CrlListFilter,
    /// Only lists with a higher index than this.
    pub after: Option<u32>,
}

/// Which lists of a CA are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlListFilter {
    /// Every list that has an entry or a number.
    Known,
    /// Those that are outdated.
    Outdated,
}

/// One page of lists, by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrlListing {
    /// The lists: at most [`CRL_LISTS_MAX`].
    pub lists: Vec<CrlListState>,
    /// Where to continue; `None` if no list is left.
    pub next: Option<u32>,
}

/// A request for the next CRL number of one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextCrl {
    /// The CA.
    pub ca: AnchorId,
    /// The index of the list.
    pub list: u32,
    /// The number is at least this, and higher than every earlier one. A caller that gives the time here gets numbers that grow even after the ledger
    /// was restored from a backup.
    pub number_min: u64,
    /// Entries of certificates whose notAfter is before this leave the list for good.
    pub expired_before: Option<UnixTime>,
}

/// Maximum entries in one answer of [`crate::Ledger::crl_entries`]: about 200 KB.
pub const CRL_ENTRIES_PAGE_MAX: usize = 4_096;

/// A query for one page of the entries of a list.
#[derive(Clone, Copy, Debug)]
pub struct CrlEntryQuery {
    /// The CA.
    pub ca: AnchorId,
    /// The index of the list.
    pub list: u32,
    /// Only entries after this one.
    pub after: Option<Cursor>,
}

/// One page of entries.
#[derive(Clone, Debug, Default)]
pub struct CrlEntryPage {
    /// The entries: at most [`CRL_ENTRIES_PAGE_MAX`].
    pub entries: Vec<CrlEntry>,
    /// Where to continue; `None` if no entry is left.
    pub next: Option<Cursor>,
}
