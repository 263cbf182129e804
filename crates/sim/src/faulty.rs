//! A ledger and a signer that are slow, answer out of order, fail before or after a call has taken effect, or never answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authority::{
    Begun, Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, Custody, Finding, Inquiry,
    Intended, Ledger, LedgerEntry, LedgerFault, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, NextCrl,
    Record, Recorded, RefusalRecord, RelayEnd, RelayHolder, RelayId, RelayLedger, RelayListing, RelayQuery,
    RelayRecord, RelayRequest, Relayed, Reserve, Revocation, Revoke, Revoked, RingSigner, RowFilter, Signer,
    SignerFault, ToSign,
};
use pki::issue::{NodePrefix, Serial};
use pki::{AnchorId, Digest, Signature, UnixTime};

use crate::agenda::Agenda;
use crate::chance::Chance;

/// How a ledger or signer behaves. The default answers at once and never fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// The longest delay of a call; each call has its own delay, so answers can overtake each other.
    pub delay_max: Duration,
    /// Calls per thousand that report a fault, half of them after they have taken effect.
    pub faults: u16,
    /// Calls per thousand that take effect but are never answered.
    pub silences: u16,
    /// The ledger treats every request as a new one: the defect that the simulator must find.
    pub forgets: bool,
}

/// The fate of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallFate {
    Good,
    FaultBefore,
    FaultAfter,
    Silent,
}

/// Draws fate and delay of the calls to one ledger or signer.
struct CallFaults {
    behaviour: Behaviour,
    chance: Mutex<Chance>,
    agenda: Agenda,
}

impl CallFaults {
    /// Draws a fate and a delay, and calls `act` with the fate after the delay.
    fn call(&self, act: impl FnOnce(CallFate) + Send + 'static) {
        let (fate, delay) = self.draw();
        self.agenda.after(delay, move || act(fate));
    }

    /// The same after the longest delay, so that every call made before comes first.
    fn call_last(&self, act: impl FnOnce(CallFate) + Send + 'static) {
        let (fate, _) = self.draw();
        self.agenda.after(self.behaviour.delay_max, move || act(fate));
    }

    fn draw(&self) -> (CallFate, Duration) {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = if chance.permille(self.behaviour.silences) {
            CallFate::Silent
        } else if chance.permille(self.behaviour.faults) {
            if chance.permille(500) { CallFate::FaultBefore } else { CallFate::FaultAfter }
        } else {
            CallFate::Good
        };
        (fate, chance.between(Duration::ZERO, self.behaviour.delay_max))
    }
}

/// A ledger with injected faults.
pub struct FaultyLedger<L: ?Sized = dyn Ledger> {
    inner: Arc<L>,
    faults: CallFaults,
}

impl<L: Send + Sync + ?Sized + 'static> FaultyLedger<L> {
    /// A ledger that answers on `agenda`; `chance` draws its faults and delays.
    #[must_use]
    pub fn new(inner: Arc<L>, behaviour: Behaviour, chance: Chance, agenda: Agenda) -> Self {
        Self { inner, faults: CallFaults { behaviour, chance: Mutex::new(chance), agenda } }
    }

    fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&L, Completion<Result<T, LedgerFault>>) + Send + 'static,
        done: Completion<Result<T, LedgerFault>>,
    ) {
        self.faults.call(self.fated(effect, done));
    }

    /// Runs a call according to its fate.
    fn fated<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&L, Completion<Result<T, LedgerFault>>) + Send + 'static,
        done: Completion<Result<T, LedgerFault>>,
    ) -> impl FnOnce(CallFate) + Send + 'static {
        let inner = Arc::clone(&self.inner);
        move |fate| match fate {
            CallFate::Good => effect(&*inner, done),
            CallFate::FaultBefore => done(Err(LedgerFault::Unavailable)),
            CallFate::FaultAfter => effect(&*inner, Box::new(|_| done(Err(LedgerFault::Unavailable)))),
            CallFate::Silent => effect(&*inner, Box::new(|_| drop(done))),
        }
    }
}

impl Ledger for FaultyLedger {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.call(move |inner, done| inner.standing(of, done), done);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.inner.complete_since()
    }

    fn time(&self) -> Option<UnixTime> {
        self.inner.time()
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        self.inner.draw(node, random)
    }

    fn intend(&self, mut rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        if self.faults.behaviour.forgets {
            for row in &mut rows {
                let intent = &mut row.intent;
                (intent.csr, intent.names) = (intent.to_be_signed, intent.to_be_signed);
            }
        }
        self.call(move |inner, done| inner.intend(rows, done), done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.call(move |inner, done| inner.record(rows, done), done);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        let inner = Arc::clone(&self.inner);
        self.faults.call(move |fate| {
            if fate != CallFate::FaultBefore {
                inner.abandon(serials);
            }
        });
    }

    /// It draws nothing, so that keys change no other call of a seed.
    fn delivered(&self, serials: Vec<Serial>) {
        let inner = Arc::clone(&self.inner);
        self.faults.agenda.after(self.faults.behaviour.delay_max, move || inner.delivered(serials));
    }

    fn refused(&self, records: Vec<RefusalRecord>) {
        let inner = Arc::clone(&self.inner);
        self.faults.call(move |fate| {
            if fate != CallFate::FaultBefore {
                inner.refused(records);
            }
        });
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.call(move |inner, done| inner.find(rows, done), done);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.call(move |inner, done| inner.list(query, done), done);
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.call(move |inner, done| inner.count(rows, done), done);
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.call(move |inner, done| inner.revoke(rows, done), done);
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        self.call(move |inner, done| inner.fix_crl_layout(ca, layout, done), done);
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        self.call(move |inner, done| inner.crl_lists(query, done), done);
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.call(move |inner, done| inner.number_crls(lists, done), done);
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        self.call(move |inner, done| inner.crl_entries(query, done), done);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.call(move |inner, done| inner.health(done), done);
    }

    fn writes(&self) -> LedgerWrites {
        self.inner.writes()
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.faults.call_last(self.fated(|inner, done| inner.flush(done), done));
    }
}

/// A relay's ledger with injected faults. Its calls take effect in the order in which they are made, as those of every relay's ledger do, and each
/// after the longest delay.
pub type FaultyRelayLedger = FaultyLedger<dyn RelayLedger>;

impl FaultyRelayLedger {
    fn call_in_turn<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&(dyn RelayLedger + 'static), Completion<Result<T, LedgerFault>>) + Send + 'static,
        done: Completion<Result<T, LedgerFault>>,
    ) {
        self.faults.call_last(self.fated(effect, done));
    }

    /// A call that nobody waits for is lost with a fault.
    fn tell(&self, effect: impl FnOnce(&dyn RelayLedger) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        self.faults.call_last(move |fate| {
            if fate != CallFate::FaultBefore {
                effect(&*inner);
            }
        });
    }
}

impl RelayLedger for FaultyRelayLedger {
    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>) {
        self.call_in_turn(move |inner, done| inner.begin(requests, done), done);
    }

    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>) {
        self.call_in_turn(move |inner, done| inner.record(certificates, done), done);
    }

    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>) {
        self.tell(move |inner| inner.end(exchanges));
    }

    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>) {
        self.call_in_turn(move |inner, done| inner.holders(certificates, done), done);
    }

    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    ) {
        self.call_in_turn(move |inner, done| inner.mark_revoked(certificates, done), done);
    }

    fn delivered(&self, certificates: Vec<Digest>) {
        self.tell(move |inner| inner.delivered(certificates));
    }

    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>) {
        self.call_in_turn(move |inner, done| inner.relayed(query, done), done);
    }

    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.call_in_turn(|inner, done| inner.relay_health(done), done);
    }
}

/// A [`RingSigner`] with injected faults.
pub struct FaultySigner {
    inner: Arc<RingSigner>,
    faults: CallFaults,
}

impl FaultySigner {
    /// A signer that answers on `agenda`; `chance` draws its faults and delays.
    #[must_use]
    pub fn new(inner: Arc<RingSigner>, behaviour: Behaviour, chance: Chance, agenda: Agenda) -> Self {
        Self { inner, faults: CallFaults { behaviour, chance: Mutex::new(chance), agenda } }
    }
}

impl Signer for FaultySigner {
    fn custody(&self) -> Custody {
        Custody::External
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        let inner = Arc::clone(&self.inner);
        self.faults.call(move |fate| match fate {
            CallFate::Good => inner.sign(batch, done),
            CallFate::FaultBefore | CallFate::FaultAfter => done(vec![Err(SignerFault::Unavailable); batch.len()]),
            CallFate::Silent => drop(done),
        });
    }
}
