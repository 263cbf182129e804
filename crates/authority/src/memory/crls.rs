//! The revocation lists of the CAs in memory. The caller holds the lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use pki::AnchorId;
use pki::issue::crl::CrlEntry;
use rustls_pki_types::UnixTime;

use crate::crl_list::{
    CRL_ENTRIES_PAGE_MAX, CRL_LISTS_MAX, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery,
    CrlListState, CrlListing, NextCrl,
};
use crate::entry::{Cursor, LedgerEntry};

/// The lists of every CA. Their entries are those of rows that the ledger holds, so they are bounded with it.
#[derive(Default)]
pub(super) struct Crls {
    cas: HashMap<AnchorId, CaCrls>,
}

#[derive(Default)]
struct CaCrls {
    layout: Option<CrlLayout>,
    lists: BTreeMap<u32, List>,
}

#[derive(Default)]
struct List {
    number: u64,
    is_outdated: bool,
    entries: BTreeMap<Cursor, Filed>,
}

struct Filed {
    entry: CrlEntry,
    not_after: UnixTime,
}

impl Crls {
    /// `rows` are those that the ledger holds.
    pub(super) fn fix<'r>(
        &mut self,
        ca: AnchorId,
        layout: CrlLayout,
        rows: impl Iterator<Item = &'r LedgerEntry>,
    ) -> CrlLayout {
        let mut rows = rows.filter(|row| row.intent.ca == ca).peekable();
        let of_ca = self.cas.entry(ca).or_default();
        if let Some(fixed) = of_ca.layout.clone().filter(|_| rows.peek().is_some()) {
            return fixed;
        }
        of_ca.layout = Some(layout.clone());
        rows.for_each(|row| self.file(row));
        layout
    }

    /// Adds the entry of a revoked row to its list.
    pub(super) fn file(&mut self, row: &LedgerEntry) {
        let (serial, not_after) = (row.intent.serial, row.intent.validity.not_after);
        let Some(entry) = row.revocation.as_ref().map(|revocation| revocation.crl_entry(serial)) else { return };
        let Some(of_ca) = self.cas.get_mut(&row.intent.ca) else { return };
        let Some(layout) = &of_ca.layout else { return };
        let list = of_ca.lists.entry(layout.list_of(&serial)).or_default();
        list.is_outdated = true;
        list.entries.insert(row.cursor, Filed { entry, not_after });
    }

    /// Removes the entry of a row that the ledger forgets.
    pub(super) fn forget(&mut self, row: &LedgerEntry) {
        let Some(of_ca) = self.cas.get_mut(&row.intent.ca).filter(|_| row.revocation.is_some()) else { return };
        let Some(layout) = &of_ca.layout else { return };
        if let Some(list) = of_ca.lists.get_mut(&layout.list_of(&row.intent.serial)) {
            list.entries.remove(&row.cursor);
        }
    }

    pub(super) fn lists(&self, query: &CrlListQuery) -> CrlListing {
        let Some(of_ca) = self.cas.get(&query.ca) else { return CrlListing::default() };
        let after = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let meant = of_ca
            .lists
            .range((after, Bound::Unbounded))
            .filter(|(_, list)| query.which == CrlListFilter::Known || list.is_outdated);
        let mut states = meant.map(|(&list, of)| CrlListState { list, number: of.number, is_outdated: of.is_outdated });
        let lists: Vec<CrlListState> = states.by_ref().take(CRL_LISTS_MAX).collect();
        let next = states.next().and(lists.last()).map(|last| last.list);
        CrlListing { lists, next }
    }

    pub(super) fn number(&mut self, next: &NextCrl) -> u64 {
        let list = self.cas.entry(next.ca).or_default().lists.entry(next.list).or_default();
        list.number = next.number_min.max(list.number + 1);
        list.is_outdated = false;
        if let Some(before) = next.expired_before {
            list.entries.retain(|_, filed| filed.not_after >= before);
        }
        list.number
    }

    pub(super) fn entries(&self, query: &CrlEntryQuery) -> CrlEntryPage {
        let list = self.cas.get(&query.ca).and_then(|of_ca| of_ca.lists.get(&query.list));
        let Some(list) = list else { return CrlEntryPage::default() };
        let after = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = list.entries.range((after, Bound::Unbounded));
        let mut page = CrlEntryPage::default();
        let mut last = None;
        for (cursor, filed) in rows.by_ref().take(CRL_ENTRIES_PAGE_MAX) {
            page.entries.push(filed.entry);
            last = Some(*cursor);
        }
        page.next = rows.next().and(last);
        page
    }
}
