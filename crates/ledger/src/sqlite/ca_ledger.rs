//! What a CA asks of the ledger: see [`Ledger`].

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use authority::{
    Adoption, Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, DiskRoom, Finding, Gap,
    Inquiry, Intended, Ledger, LedgerEntry, LedgerFault, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator,
    NextCrl, Record, Recorded, RefusalRecord, Registration, Reserve, Revoke, Revoked, RowFilter,
};
use crashpoint::Step;
use pki::AnchorId;
use pki::issue::{NodePrefix, Serial};
use rustls_pki_types::UnixTime;

use super::reader::Question;
use super::writer::Write;
use super::{Shared, SqliteLedger, WriteState, restore};
use crate::seconds::time;

impl Ledger for SqliteLedger {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        // Factory certificates, which nearly every first enrolment shows, need no thread that reads: a hop there and back costs more than reading.
        if of.iter().all(|inquiry| self.shared.is_without_row(inquiry)) {
            let unknown = |_| Finding { holder: None, registration: Registration::Unlisted };
            return done(Ok(of.iter().map(unknown).collect()));
        }
        Shared::ask(&self.shared.points, Question::Standing(of, done));
    }

    fn complete_since(&self) -> Option<UnixTime> {
        Some(self.complete_since)
    }

    fn time(&self) -> Option<UnixTime> {
        let latest = self.shared.time.load(Ordering::Acquire);
        (latest > 0).then(|| time(latest))
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        let number = self.shared.next_number.fetch_add(1, Ordering::Relaxed);
        let serial = self.shared.serials.serial(node, number, random);
        crashpoint::passed(Step::Drawn);
        serial
    }

    fn gap(&self, serial: &Serial, not_before: UnixTime) -> Option<Gap> {
        restore::gap_of(&self.restores, &self.shared.serials, serial, not_before)
    }

    fn adopt(&self, rows: Vec<Adoption>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        // Before the rows are there: whoever asks meanwhile asks the tables.
        self.shared.has_foreign.store(true, Ordering::Release);
        self.shared.write(Write::Adopt(rows, done));
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.shared.write(Write::Intend(rows, Instant::now(), done));
        crashpoint::passed(Step::IntentQueued);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        crashpoint::passed(Step::Signed);
        self.shared.write(Write::Record(rows, done));
        crashpoint::passed(Step::RecordQueued);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        self.shared.write(Write::Abandon(serials));
    }

    fn delivered(&self, serials: Vec<Serial>) {
        crashpoint::passed(Step::KeyDelivered);
        self.shared.deliveries.add(serials, Vec::new());
    }

    fn refused(&self, records: Vec<RefusalRecord>) {
        let mut refusals = self.shared.refusals();
        records.into_iter().for_each(|record| refusals.add(record));
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        Shared::ask(&self.shared.points, Question::Find(rows, done));
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        Shared::ask(&self.shared.scans, Question::List(query, done));
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        Shared::ask(&self.shared.scans, Question::Count(rows, done));
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.shared.write(Write::Revoke(rows, done));
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        self.shared.write(Write::FixCrlLayout(ca, layout, done));
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        Shared::ask(&self.shared.scans, Question::CrlLists(query, done));
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.shared.write(Write::NumberCrls(lists, done));
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        Shared::ask(&self.shared.scans, Question::CrlEntries(query, done));
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        done(match self.shared.write_fault() {
            Some(fault) => Err(fault),
            None => Ok(LedgerHealth { rows: self.rows(), room: None }),
        });
    }

    fn writes(&self) -> LedgerWrites {
        let fault = match &*self.shared.state.lock().unwrap_or_else(PoisonError::into_inner) {
            WriteState::Writes => None,
            WriteState::Fails(why) => Some(format!("the ledger {} cannot write: {why}", self.shared.file.display())),
            WriteState::Broken => Some(LedgerFault::Broken.to_string()),
        };
        LedgerWrites {
            fault,
            faults: self.shared.faults.load(Ordering::Relaxed),
            commits: self.commits(),
            waiting_rows: u64::try_from(self.shared.writes.weight()).unwrap_or(u64::MAX),
            disk: self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner).map(DiskRoom::from),
        }
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.shared.write(Write::Flush(done));
    }
}
