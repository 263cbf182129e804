//! The existing ledgers keep the contract of every ledger, whether they answer immediately, late or on another thread.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use authority::{Ledger, MemoryLedger, MemoryRelayLedger};
use sim::faulty::Behaviour;
use sim::{Agenda, Chance, FaultyLedger, VirtualClock, ledger_contract, relay_contract};

/// The capacity in rows of a ledger under test.
const ROWS_MAX: usize = 1_000;

/// Makes ledgers that answer on this agenda, with delays but without faults.
fn late(agenda: &Agenda) -> impl Fn() -> Arc<dyn Ledger> + use<> {
    let behaviour = Behaviour { delay_max: Duration::from_secs(1), ..Behaviour::default() };
    let agenda = agenda.clone();
    move || {
        let inner: Arc<dyn Ledger> = Arc::new(MemoryLedger::new(ROWS_MAX));
        Arc::new(FaultyLedger::new(inner, behaviour, Chance::new(1, "ledger"), agenda.clone()))
    }
}

/// Runs the next tasks of the agenda, in virtual time; false if there are none.
fn turn(agenda: &Agenda) -> bool {
    let next = agenda.next();
    if let Some(next) = next {
        agenda.run(next);
    }
    next.is_some()
}

#[test]
fn the_ledger_in_memory_keeps_the_contract() {
    ledger_contract::holds(&|| Arc::new(MemoryLedger::new(ROWS_MAX)));
}

#[test]
fn the_ledger_of_a_relay_in_memory_keeps_its_contract() {
    relay_contract::holds(&|| Arc::new(MemoryRelayLedger::default()));
}

#[test]
fn the_simulated_ledger_keeps_the_contract_where_nothing_fails() {
    let agenda = Agenda::new(VirtualClock::start().now().mono);
    ledger_contract::holds_in_turns(&late(&agenda), &|| turn(&agenda));
}

#[test]
fn a_ledger_that_answers_on_another_thread_keeps_the_contract() {
    let agenda = Agenda::new(VirtualClock::start().now().mono);
    let (wake, woken) = mpsc::channel();
    let make = late(&agenda);
    thread::scope(|scope| {
        scope.spawn(move || {
            while woken.recv().is_ok() {
                while turn(&agenda) {}
            }
        });
        ledger_contract::holds_in_turns(&make, &move || {
            wake.send(()).unwrap();
            false
        });
    });
}
