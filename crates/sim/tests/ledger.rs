//! The existing ledgers keep the contract of every ledger, whether they answer immediately, late or on another thread.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use authority::{Ledger, MemoryLedger, MemoryRelayLedger, RelayLedger};
use sim::faulty::{Behaviour, FaultyRelayLedger};
use sim::{Agenda, Chance, CrashingStore, FaultyLedger, VirtualClock, ledger_contract, relay_contract};

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

/// The process ends, and the next one starts on the rows that were durable.
#[test]
fn e39_a_key_that_was_on_its_way_when_a_simulated_process_ended_leaves_no_good_certificate() {
    let clock = VirtualClock::start();
    let agenda = Agenda::new(clock.now().mono);
    let durable = Arc::new(MemoryLedger::new(ROWS_MAX));
    let store = CrashingStore::new(durable, 0, Chance::new(1, "ledger"), agenda.clone());
    let mut starts = 0;
    let mut start = || -> Arc<dyn Ledger> {
        if starts > 0 {
            store.crash();
        }
        starts += 1;
        store.start(clock.now().utc)
    };
    ledger_contract::holds_over_starts(&mut start, &|| turn(&agenda));
    assert_eq!((store.tally().undelivered, store.tally().crashes), (1, 2));
}

#[test]
fn the_simulated_ledger_of_a_relay_keeps_its_contract_where_nothing_fails() {
    let agenda = Agenda::new(VirtualClock::start().now().mono);
    let behaviour = Behaviour { delay_max: Duration::from_secs(1), ..Behaviour::default() };
    let driven = agenda.clone();
    let make = || -> Arc<dyn RelayLedger> {
        let inner = Arc::new(MemoryRelayLedger::default());
        Arc::new(FaultyRelayLedger::new(inner, behaviour, Chance::new(1, "ledger"), agenda.clone()))
    };
    relay_contract::holds_in_turns(&make, move || turn(&driven));
}

/// A relay whose ledger fails before, after and without a word asks again, as devices make it: what it was told is true, and one request has one row.
#[test]
fn e42_what_a_failing_ledger_told_a_relay_is_true() {
    for seed in 0..200 {
        let agenda = Agenda::new(VirtualClock::start().now().mono);
        let inner = Arc::new(MemoryRelayLedger::default());
        let behaviour =
            Behaviour { delay_max: Duration::from_secs(1), faults: 300, silences: 100, ..Behaviour::default() };
        let durable = Arc::clone(&inner) as Arc<dyn RelayLedger>;
        let ledger = FaultyRelayLedger::new(durable, behaviour, Chance::new(seed, "relay"), agenda.clone());
        relay_contract::asks_until_told(&ledger, &*inner, &|| turn(&agenda), seed);
    }
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
