//! A ledger whose lists say what a test wants them to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use authority::{
    Completion, Finding, Inquiry, Intended, Intent, Ledger, LedgerEntry, LedgerFault, LedgerHealth, ListQuery, Listing,
    Locator, MemoryLedger, Record, Recorded, Registration, Revoke, Revoked, RowFilter,
};
use est::UnixTime;
use pki::issue::Serial;

/// A ledger in memory, and lists of devices.
pub(crate) struct Desk {
    inner: Arc<MemoryLedger>,
    lists: Mutex<HashMap<String, Registration>>,
    /// Every question that was asked.
    pub(crate) asked: Mutex<Vec<Inquiry>>,
}

impl Desk {
    pub(crate) fn new(inner: Arc<MemoryLedger>) -> Desk {
        Desk { inner, lists: Mutex::default(), asked: Mutex::default() }
    }

    /// From now on the lists say this of the device with this identity.
    pub(crate) fn says(&self, device: &str, registration: Registration) {
        self.lists.lock().unwrap().insert(device.to_owned(), registration);
    }

    fn lists(&self, inquiry: &Inquiry, finding: &mut Finding) {
        let device = inquiry.device.as_ref().or(finding.holder.as_ref().map(|holder| &holder.device));
        if let Some(said) = device.and_then(|device| self.lists.lock().unwrap().get(device.id.as_str()).copied()) {
            finding.registration = said;
        }
    }
}

impl Ledger for Desk {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.asked.lock().unwrap().extend(of.iter().cloned());
        let (sender, answer) = std::sync::mpsc::channel();
        self.inner.standing(of.clone(), Box::new(move |findings| sender.send(findings).unwrap()));
        let answer = answer.recv().unwrap().map(|mut findings| {
            of.iter().zip(&mut findings).for_each(|(inquiry, finding)| self.lists(inquiry, finding));
            findings
        });
        done(answer);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.inner.complete_since()
    }

    fn intend(&self, rows: Vec<Intent>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.inner.intend(rows, done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.inner.record(rows, done);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        self.inner.abandon(serials);
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.inner.find(rows, done);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.inner.list(query, done);
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.inner.count(rows, done);
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.inner.revoke(rows, done);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.inner.health(done);
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.inner.flush(done);
    }
}
