//! What the authority asks of the durable record.
//!
//! ```text
//!               intend                     record
//!   (nothing) ─────────► Intended ───────────────────► Recorded ──► answers repeats until its window ends
//!                           │ abandon, or INTENT_LIFETIME passes and the key is asked for again
//!                           ▼
//!                        Abandoned: a record that comes after all is turned away, its certificate never released
//! ```
//!
//! `revoke` marks a row in any of these states, for good.
//!
//! Every method takes a batch, so that the rows of many jobs share one write, and a completion that is called once: immediately or later, on any
//! thread, in any order. A completion that is dropped counts as a fault.

use std::fmt;
use std::time::Duration;

use pki::AnchorId;
use pki::issue::{NodePrefix, Serial};
use rustls_pki_types::UnixTime;

use crate::completion::Completion;
use crate::crl_list::{CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, NextCrl};
use crate::entry::{LedgerEntry, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, Revoke, Revoked, RowFilter};
use crate::intent::{Adoption, Intended, Record, Recorded, Reserve};
use crate::refusal_record::RefusalRecord;
use crate::standing::{Finding, Gap, Inquiry};

/// An intent that has not become a certificate this long after it was reserved counts as abandoned when its key is asked for again: longer than any signer and
/// ledger we wait for, shorter than MAX_TRANSMIT_WAIT (93 s, RFC 7252 §4.8.2), so that a device that still tries gets its certificate.
pub const INTENT_LIFETIME: Duration = Duration::from_secs(60);

/// The durable record of what was issued.
///
/// The first part serves issuances, for each job in turn. The second part serves the daemon and its operator: its answers are bounded, and no
/// call delays an issuance for longer than a batch of rows takes.
pub trait Ledger: Send + Sync {
    /// Identifies each client, and says whether its device may enrol. Called for every job, before it is decided. One answer per inquiry, in
    /// order.
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>);

    /// Every certificate of this node whose notBefore is later than this has a row: one without a row was never issued. `None` if the ledger
    /// cannot guarantee that. Called after [`Ledger::standing`] has answered that it does not know a certificate.
    fn complete_since(&self) -> Option<UnixTime>;

    /// The time of the latest row; nothing where there is none. An issuance is never dated before it.
    fn time(&self) -> Option<UnixTime>;

    /// The serial of the next row: the first step of an issuance, before anything is signed or written. A serial that is drawn and never reserved
    /// has no meaning. `random` is used for this serial only.
    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial;

    /// What becomes of a genuine certificate of this node that has no row: its serial number and its notBefore. `None` if it was never issued. Called
    /// after [`Ledger::standing`] has answered that it does not know the certificate.
    fn gap(&self, serial: &Serial, not_before: UnixTime) -> Option<Gap> {
        let _a_ledger_that_is_not_restored_has_none = (serial, not_before);
        None
    }

    /// Brings back rows that were lost, durably. One answer per row, in order: [`Recorded::Durable`] if the row has this certificate now. Called
    /// only for certificates of a [`Ledger::gap`] that are to be adopted.
    fn adopt(&self, rows: Vec<Adoption>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        drop(rows);
        done(Err(LedgerFault::Answer));
    }

    /// Reserves each serial for its request, durably, unless the request is already answered or may have no new row. One answer per row, in
    /// order.
    ///
    /// The search for an earlier answer and the reservation are one step: with two steps, two equal requests could both be issued.
    ///
    /// A client that was revoked after its standing was asked for gets neither: a revocation that is answered before this call has an effect on it.
    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>);

    /// Records the certificate of each reserved serial, durably, unless its client was revoked meanwhile: then the reservation is given up. One answer
    /// per row, in order.
    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>);

    /// Gives up reservations whose certificate will not be recorded; a recorded row stays. The caller does not wait for it: if the call is lost,
    /// [`INTENT_LIFETIME`] has the same effect later.
    fn abandon(&self, serials: Vec<Serial>);

    /// The keys of these certificates, which were made for their devices, have reached them. From its record on, a certificate of
    /// [`Function::ServerKeygen`](crate::Function::ServerKeygen) is pending, durably, until this call or its revocation: a process that opens the
    /// ledger revokes what an earlier one left pending ([`Actor::undelivered`](crate::Actor::undelivered)), because nobody has those keys any more.
    /// Nobody waits for it; if the call is lost, a certificate whose key was delivered is revoked by the next start.
    fn delivered(&self, serials: Vec<Serial>);

    /// Keeps these refusals in the audit, for a ledger that has one. Nobody waits for it, and no enrolment may have to wait behind it: a ledger
    /// without room counts what it drops. Never called with an empty list.
    fn refused(&self, records: Vec<RefusalRecord>);

    /// The row of each locator, if there is one. One answer per locator, in order.
    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>);

    /// One page of the rows that the query selects, in the order in which they were reserved. A row that is written meanwhile comes after the
    /// existing ones, and one that is removed moves no other: following [`Listing::next`] shows no row twice and misses none that stays.
    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>);

    /// The number of rows that the filter selects. Not a snapshot: rows that are added or removed meanwhile may be counted or not. A ledger
    /// without an index for the filter looks at every row, so it is not for frequent calls, except with only
    /// [`RowState::Issued`](crate::RowState::Issued), whose number a ledger keeps.
    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>);

    /// Revokes, durably: each [`Ledger::standing`] that is called after the answer sees it, and the certificates no longer answer repeats of
    /// their requests. A revocation is final; when a row is revoked again, the first reason and time remain. One answer per request, in order.
    ///
    /// The key of a row that is revoked for [`RevocationReason::KeyCompromise`](pki::issue::RevocationReason::KeyCompromise), at first or again, gets
    /// no certificate from then on ([`Intended::KeyCompromised`]), and its reservations are given up. That outlives the row.
    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>);

    /// Fixes how the revocation lists of a CA are divided, durably, unless that is fixed already and the CA has a row: before its first certificate
    /// the latest layout holds. Answers what holds: the caller compares it with what it wanted. Revocations of this CA that were recorded before are filed in the lists too, so the call may take seconds: it belongs to a start.
    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>);

    /// One page of the revocation lists of a CA, by their index. A CA whose layout is not fixed has no entries in any list.
    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>);

    /// The next CRL number of each of these lists, durably: higher than every earlier one of the same list, whatever became of the list that was to
    /// have it. Entries that are asked for after the answer contain every revocation that was answered before this call, and the list counts as up
    /// to date until the next revocation. One number per list, in order.
    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>);

    /// One page of the entries of a revocation list. The entries of a list, page by page, are a snapshot only as long as nothing of it is revoked
    /// meanwhile; then the list is outdated.
    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>);

    /// Whether it can read and write now; the fault is the one that an issuance would meet.
    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>);

    /// What it knows about its writes, at once: never waits for a disk or another thread's work.
    fn writes(&self) -> LedgerWrites;

    /// Completes once the effects of all earlier calls are durable: the daemon waits for this before it ends.
    fn flush(&self, done: Completion<Result<(), LedgerFault>>);
}

/// A ledger in front of another one that changes some calls; calls that it does not define pass unchanged.
pub trait LedgerOver: Send + Sync {
    /// The ledger behind it.
    fn inner(&self) -> &dyn Ledger;

    /// See [`Ledger::standing`].
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.inner().standing(of, done);
    }

    /// See [`Ledger::time`].
    fn time(&self) -> Option<UnixTime> {
        self.inner().time()
    }

    /// See [`Ledger::writes`].
    fn writes(&self) -> LedgerWrites {
        self.inner().writes()
    }

    /// See [`Ledger::intend`].
    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.inner().intend(rows, done);
    }

    /// See [`Ledger::record`].
    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.inner().record(rows, done);
    }

    /// See [`Ledger::abandon`].
    fn abandon(&self, serials: Vec<Serial>) {
        self.inner().abandon(serials);
    }

    /// See [`Ledger::delivered`].
    fn delivered(&self, serials: Vec<Serial>) {
        self.inner().delivered(serials);
    }

    /// See [`Ledger::refused`].
    fn refused(&self, records: Vec<RefusalRecord>) {
        self.inner().refused(records);
    }
}

impl<L: LedgerOver> Ledger for L {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        LedgerOver::standing(self, of, done);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.inner().complete_since()
    }

    fn time(&self) -> Option<UnixTime> {
        LedgerOver::time(self)
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        self.inner().draw(node, random)
    }

    fn gap(&self, serial: &Serial, not_before: UnixTime) -> Option<Gap> {
        self.inner().gap(serial, not_before)
    }

    fn adopt(&self, rows: Vec<Adoption>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.inner().adopt(rows, done);
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        LedgerOver::intend(self, rows, done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        LedgerOver::record(self, rows, done);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        LedgerOver::abandon(self, serials);
    }

    fn delivered(&self, serials: Vec<Serial>) {
        LedgerOver::delivered(self, serials);
    }

    fn refused(&self, records: Vec<RefusalRecord>) {
        LedgerOver::refused(self, records);
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.inner().find(rows, done);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.inner().list(query, done);
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.inner().count(rows, done);
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.inner().revoke(rows, done);
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        self.inner().fix_crl_layout(ca, layout, done);
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        self.inner().crl_lists(query, done);
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.inner().number_crls(lists, done);
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        self.inner().crl_entries(query, done);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.inner().health(done);
    }

    fn writes(&self) -> LedgerWrites {
        LedgerOver::writes(self)
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.inner().flush(done);
    }
}

/// Why the ledger could not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerFault {
    /// It cannot be reached, or cannot write.
    Unavailable,
    /// It panicked in the middle of a step: its rows may be inconsistent, and every call fails from then on. The process has to be restarted.
    Broken,
    /// It has no room for another row.
    Full,
    /// It gave up the reservation before the certificate was recorded.
    Abandoned,
    /// Its tables are those of an earlier release and have no place for what is asked for.
    NeedsMigration,
    /// Its answer does not fit the request, for example by its number of rows: a defect in the ledger.
    Answer,
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Broken => "broken: it panicked half way through a step, and the process has to start again",
            Self::Full => "full: every row still answers repeats or carries a revocation",
            Self::Abandoned => "the reservation was given up before the certificate came",
            Self::NeedsMigration => "of an earlier release and has no place for this: run `muster ledger migrate`",
            Self::Answer => "its answer does not fit the request",
        })
    }
}
