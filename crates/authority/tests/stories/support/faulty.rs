//! A ledger and a signer whose calls wait in one queue until the test lets one happen: late, in any order, with a fault
//! before or after the effect, with an answer of the wrong length, or with the completion dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use authority::{
    Completion, Custody, Finding, Inquiry, Intended, Ledger, LedgerFault, LedgerOver, MemoryLedger, Random, Record,
    Recorded, Registration, Reserve, Signer, SignerFault, ToSign,
};
use pki::Signature;
use pki::issue::Serial;

use crate::support::Derived;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// A fault without any effect.
    FaultBefore,
    /// A fault after the effect.
    FaultAfter,
    /// The effect, but the completion is dropped.
    Dropped,
    /// The effect, but the answer has one row too few.
    Short,
}

const FAULTS: [Fate; 4] = [Fate::FaultBefore, Fate::FaultAfter, Fate::Dropped, Fate::Short];

type Call = Box<dyn FnOnce(Fate) + Send>;

#[derive(Clone, Default)]
pub(crate) struct Queue(Arc<Mutex<Vec<Call>>>);

impl Queue {
    fn push(&self, call: impl FnOnce(Fate) + Send + 'static) {
        self.0.lock().unwrap().push(Box::new(call));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Runs the call at this index; it may queue more.
    pub(crate) fn step(&self, index: usize, fate: Fate) {
        let call = self.0.lock().unwrap().remove(index);
        call(fate);
    }

    /// Runs all calls, in an order derived from the seed, with a fault in one of `fault_in` calls.
    pub(crate) fn run(&self, random: &Derived, fault_in: Option<u8>) {
        while self.len() > 0 {
            let mut bytes = [0; 3];
            random.fill(&mut bytes);
            let fate = match fault_in {
                Some(calls) if bytes[1] % calls == 0 => FAULTS[usize::from(bytes[2]) % FAULTS.len()],
                _ => Fate::Good,
            };
            self.step(usize::from(bytes[0]) % self.len(), fate);
        }
    }

    pub(crate) fn run_in_order(&self) {
        while self.len() > 0 {
            self.step(0, Fate::Good);
        }
    }
}

pub(crate) struct FaultyLedger {
    pub(crate) inner: Arc<MemoryLedger>,
    pub(crate) queue: Queue,
    /// Number of next intents whose serials are reported as taken.
    pub(crate) taken: Mutex<usize>,
    /// What the lists say about devices, by identity.
    pub(crate) lists: Arc<Mutex<HashMap<String, Registration>>>,
    /// Every batch of inquiries.
    pub(crate) asked: Mutex<Vec<Vec<Inquiry>>>,
}

impl FaultyLedger {
    pub(crate) fn new(queue: &Queue) -> Self {
        Self {
            inner: Arc::new(MemoryLedger::new(1_000)),
            queue: queue.clone(),
            taken: Mutex::new(0),
            lists: Arc::default(),
            asked: Mutex::default(),
        }
    }

    /// Sets what the lists say about the device with this identity.
    pub(crate) fn says(&self, device: &str, registration: Registration) {
        self.lists.lock().unwrap().insert(device.to_owned(), registration);
    }

    fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(Completion<Result<Vec<T>, LedgerFault>>) + Send + 'static,
        done: Completion<Result<Vec<T>, LedgerFault>>,
    ) {
        self.queue.push(move |fate| match fate {
            Fate::Good => effect(done),
            Fate::FaultBefore => done(Err(LedgerFault::Unavailable)),
            Fate::FaultAfter => effect(Box::new(|_| done(Err(LedgerFault::Unavailable)))),
            Fate::Dropped => effect(Box::new(|_| drop(done))),
            Fate::Short => effect(Box::new(|answer| {
                done(answer.map(|mut rows| {
                    rows.pop();
                    rows
                }));
            })),
        });
    }
}

impl LedgerOver for FaultyLedger {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.asked.lock().unwrap().push(of.clone());
        let again = of.clone();
        let (inner, lists) = (Arc::clone(&self.inner), Arc::clone(&self.lists));
        let listed = move |inquiry: &Inquiry, finding: &mut Finding| {
            let device = inquiry.device.as_ref().or(finding.holder.as_ref().map(|holder| &holder.device));
            if let Some(said) = device.and_then(|device| lists.lock().unwrap().get(device.id.as_str()).copied()) {
                finding.registration = said;
            }
        };
        let effect = move |done: Completion<Result<Vec<Finding>, LedgerFault>>| {
            let with_lists = move |answer: Result<Vec<Finding>, _>| {
                done(answer.map(|mut findings| {
                    of.iter().zip(&mut findings).for_each(|(inquiry, finding)| listed(inquiry, finding));
                    findings
                }));
            };
            inner.standing(again, Box::new(with_lists));
        };
        self.call(effect, done);
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        let mut taken = self.taken.lock().unwrap();
        if *taken > 0 {
            *taken -= 1;
            return self.queue.push(move |_| done(Ok(rows.iter().map(|_| Intended::SerialTaken).collect())));
        }
        let inner = Arc::clone(&self.inner);
        self.call(move |done| inner.intend(rows, done), done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        let inner = Arc::clone(&self.inner);
        self.call(move |done| inner.record(rows, done), done);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        let inner = Arc::clone(&self.inner);
        self.queue.push(move |fate| {
            if fate == Fate::Good {
                inner.abandon(serials);
            }
        });
    }
}

pub(crate) struct FaultySigner<S> {
    pub(crate) inner: Arc<S>,
    pub(crate) queue: Queue,
    pub(crate) custody: Custody,
    /// Everything that was signed.
    pub(crate) signed: Mutex<Vec<Vec<u8>>>,
}

impl<S: Signer> FaultySigner<S> {
    pub(crate) fn new(inner: S, queue: &Queue) -> Self {
        let signed = Mutex::new(Vec::new());
        Self { inner: Arc::new(inner), queue: queue.clone(), custody: Custody::InProcess, signed }
    }
}

impl<S: Signer + 'static> Signer for FaultySigner<S> {
    fn custody(&self) -> Custody {
        self.custody
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        self.signed.lock().unwrap().extend(batch.iter().map(|work| work.to_be_signed.der().to_vec()));
        let (inner, count) = (Arc::clone(&self.inner), batch.len());
        self.queue.push(move |fate| match fate {
            Fate::Good => inner.sign(batch, done),
            Fate::FaultBefore | Fate::FaultAfter => done(vec![Err(SignerFault::Unavailable); count]),
            Fate::Dropped => drop(done),
            Fate::Short => inner.sign(
                batch,
                Box::new(|mut results| {
                    results.pop();
                    done(results);
                }),
            ),
        });
    }
}
