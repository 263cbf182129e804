//! A ledger whose lists say what a test wants them to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use authority::{Completion, Finding, Inquiry, Ledger, LedgerFault, LedgerOver, MemoryLedger, Registration};

/// A ledger in memory, and lists of devices.
pub(crate) struct Desk {
    inner: Arc<MemoryLedger>,
    lists: Mutex<HashMap<String, Registration>>,
    /// Every question that was asked.
    pub(crate) asked: Mutex<Vec<Inquiry>>,
}

impl Desk {
    pub(crate) fn new(inner: Arc<MemoryLedger>) -> Self {
        Self { inner, lists: Mutex::default(), asked: Mutex::default() }
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

impl LedgerOver for Desk {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

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
}
