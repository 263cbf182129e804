//! A ledger in memory: bounded, lost at exit, for tests, benchmarks and first steps.
//!
//! It keeps every promise of the trait except durability, and one more: it never forgets a row that still answers repeats, or that carries a
//! revocation of a certificate that has not expired. Each device can use a bounded part of it. If it has no room and only such rows, it reports that
//! it is full. It first forgets the rows that are least likely to be needed: given-up intents, then the rows whose window ended longest ago.
//! Forgetting a row also forgets its standing: the certificate then gives access to no more than one that was never in the ledger
//! ([`crate::Unrecorded`]).

mod crls;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use pki::AnchorId;
use pki::issue::{NodePrefix, Serial};
use rustls_pki_types::UnixTime;

use self::rows::Rows;
use crate::completion::Completion;
use crate::crl_list::{CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, NextCrl};
use crate::entry::{
    LedgerEntry, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, Revoke, Revoked, RowFilter, RowState,
};
use crate::intent::{Intended, Record, Recorded, Reserve};
use crate::issued::Issued;
use crate::ledger::{Ledger, LedgerFault};
use crate::refusal_record::RefusalRecord;
use crate::standing::{Finding, Inquiry};

/// A million rows, about a kilobyte and a half each: enough for a benchmark, and within the memory of a small machine.
const ROWS_MAX_DEFAULT: usize = 1_000_000;

/// Rows that are looked at while the lock is held, which takes about 100 us. Listing or counting a large ledger lets issuances proceed in between.
const LOOKS_MAX: usize = 1_024;

/// See the module.
pub struct MemoryLedger {
    rows_max: usize,
    rows: Mutex<Rows>,
}

impl MemoryLedger {
    /// An empty ledger with room for `rows_max` certificates.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, rows: Mutex::new(Rows::default()) }
    }

    /// Sets when it began: every certificate that its node issues from then on is in it ([`Ledger::complete_since`]), and its rows come after those
    /// of every ledger that began earlier, so that a cursor of an earlier ledger stays valid.
    #[must_use]
    pub fn since(self, utc: UnixTime) -> Self {
        let mut rows = self.rows.into_inner().unwrap_or_default();
        rows.complete_since = Some(utc);
        rows.began = utc.as_secs();
        Self { rows: Mutex::new(rows), ..self }
    }

    /// Every certificate that it holds, oldest first.
    pub fn issued(&self) -> Vec<Arc<Issued>> {
        let Ok(rows) = self.lock() else { return Vec::new() };
        let mut issued: Vec<Arc<Issued>> = rows.entries().filter_map(|row| row.issued().cloned()).collect();
        issued.sort_by_key(|it| (it.at, it.digest));
        issued
    }

    /// The certificates whose keys were made for their devices and have not reached them. It ends with its process, so that only a simulation of one
    /// that starts again has to revoke them.
    pub fn undelivered(&self) -> Vec<Serial> {
        self.lock().map_or_else(|_| Vec::new(), |rows| rows.undelivered().collect())
    }

    /// How many certificates it holds.
    pub fn issued_count(&self) -> usize {
        self.lock().map_or(0, |rows| rows.issued_count())
    }

    /// One page, from one look at [`LOOKS_MAX`] rows.
    fn page(&self, query: &ListQuery) -> Result<Listing, LedgerFault> {
        let mut rows = Vec::new();
        let most = (query.bound(), LOOKS_MAX);
        let next = self.lock()?.scan(&query.filter, query.after, most, &mut |row| rows.push(row.clone()));
        Ok(Listing { rows, next })
    }

    /// Looks at every row, [`LOOKS_MAX`] of them at a time: an issuance that waits gets the lock between two looks. A million rows keep the calling
    /// thread for some 100 ms.
    fn count_by_looking(&self, filter: &RowFilter) -> Result<u64, LedgerFault> {
        let (mut counted, mut after) = (0, None);
        loop {
            after = self.lock()?.scan(filter, after, (usize::MAX, LOOKS_MAX), &mut |_| counted += 1);
            if after.is_none() {
                return Ok(counted);
            }
        }
    }

    /// A thread that panicked inside may have left half a row: from then on nothing is read from the ledger, and nothing is issued.
    fn lock(&self) -> Result<MutexGuard<'_, Rows>, LedgerFault> {
        self.rows.lock().map_err(|_| LedgerFault::Broken)
    }
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new(ROWS_MAX_DEFAULT)
    }
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLedger").field("rows_max", &self.rows_max).finish_non_exhaustive()
    }
}

impl Ledger for MemoryLedger {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        let answer = self.lock().map(|rows| of.iter().map(|inquiry| rows.finding(inquiry)).collect());
        done(answer);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.lock().ok().and_then(|rows| rows.complete_since)
    }

    fn time(&self) -> Option<UnixTime> {
        self.lock().ok().and_then(|rows| rows.latest)
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        Serial::new(node, random)
    }

    fn intend(&self, intents: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| {
            let answers = intents.into_iter().map(|intent| rows.intend(intent, self.rows_max)).collect();
            rows.check_invariants(self.rows_max);
            answers
        });
        done(answer);
    }

    fn record(&self, records: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| {
            let answers = records.into_iter().map(|record| rows.record(record)).collect();
            rows.check_invariants(self.rows_max);
            answers
        });
        done(answer);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        if let Ok(mut rows) = self.lock() {
            for serial in serials {
                rows.abandon(serial);
            }
            rows.check_invariants(self.rows_max);
        }
    }

    fn delivered(&self, serials: Vec<Serial>) {
        if let Ok(mut rows) = self.lock() {
            serials.iter().for_each(|serial| rows.delivered(serial));
        }
    }

    /// It has no audit: what it would keep is lost with the process.
    fn refused(&self, _: Vec<RefusalRecord>) {}

    fn find(&self, locators: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        let answer = self.lock().map(|rows| locators.iter().map(|locator| rows.find(locator)).collect());
        done(answer);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        done(self.page(&query));
    }

    fn count(&self, filter: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        // The metrics read this count again and again.
        if filter == (RowFilter { state: Some(RowState::Issued), ..RowFilter::default() }) {
            return done(self.lock().map(|rows| number(rows.issued_count())));
        }
        done(self.count_by_looking(&filter));
    }

    fn revoke(&self, rows_to_revoke: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| {
            let answers = rows_to_revoke.iter().map(|it| rows.revoke(&it.row, &it.revocation)).collect();
            rows.check_invariants(self.rows_max);
            answers
        });
        done(answer);
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| rows.fix_crl_layout(ca, layout));
        done(answer);
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        let answer = self.lock().map(|rows| rows.crls.lists(&query));
        done(answer);
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| lists.iter().map(|next| rows.crls.number(next)).collect());
        done(answer);
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        let answer = self.lock().map(|rows| rows.crls.entries(&query));
        done(answer);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        let answer = self.lock().map(|rows| {
            let held = rows.len();
            LedgerHealth { rows: number(held), room: Some(number(self.rows_max.saturating_sub(held))) }
        });
        done(answer);
    }

    fn writes(&self) -> LedgerWrites {
        let fault = if self.rows.is_poisoned() { Some(LedgerFault::Broken.to_string()) } else { None };
        LedgerWrites { fault, ..LedgerWrites::default() }
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        // There are no delayed writes.
        done(self.lock().map(drop));
    }
}

fn number(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
