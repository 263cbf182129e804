//! What a Registrar relayed is in the journal too: a start completes it, a crash leaves it unresolved, and a restore gets it back.

use std::fs;
use std::path::PathBuf;

use authority::{
    Actor, Begun, Function, Locator, RELAY_LIFETIME, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger,
    RelayQuery, RelayStage, State,
};
use ledger::SqliteLedger;
use ledger::resume::{ResumeReport, ResumeRequest, plan, resume};
use ledger::verify::verify_rows;
use pki::Digest;
use pki::issue::{NodePrefix, Serial};

use crate::maker::{Maker, START, ask, mark, relay, relay_record, relay_request, utc};
use crate::stage::Stage;

const DAY: u64 = 86_400;

/// A ledger with a journal, and what its devices ask for.
struct Relaying {
    stage: Stage,
    maker: Maker,
}

impl Relaying {
    fn new() -> Self {
        Self { stage: Stage::new(), maker: Maker::new() }
    }

    fn open(&self) -> SqliteLedger {
        self.stage.open_at(START)
    }

    /// The request and the certificate of the device with this number.
    fn row(&self, number: u8) -> (authority::Intent, authority::Record) {
        let (reserve, record) =
            self.maker.row(number.into(), Serial::new(NodePrefix::new(9), [number; 16]), START + u64::from(number));
        (reserve.intent, record)
    }

    /// Relays the requests of these devices; says the digests of their certificates.
    fn relay(&self, ledger: &SqliteLedger, numbers: std::ops::Range<u8>) -> Vec<Digest> {
        let relayed = numbers.map(|number| {
            let (intent, record) = self.row(number);
            relay(ledger, &intent, Some(&record));
            record.issued.digest
        });
        relayed.collect()
    }

    fn resume(&self) -> ResumeReport {
        let (file, actor) = (self.stage.file(), Actor::new("alice").unwrap());
        let request = ResumeRequest {
            file: &file,
            settings: &self.stage.settings,
            journals: &[],
            issuers: &[],
            gap: None,
            now: utc(START + DAY),
            actor: &actor,
        };
        let planned = plan(&request, &mut |_, _, _| ()).unwrap();
        let done = resume(&request, &mut |_, _, _| ()).unwrap();
        assert_eq!(planned, done, "what was planned was done");
        done
    }

    fn verifies(&self, requests: u64, certificates: u64) {
        let report = verify_rows(&self.stage.file(), &[], &mut |_, _| ()).unwrap();
        assert_eq!((report.relayed, report.relayed_certificates), (requests, certificates));
    }
}

fn rows(ledger: &SqliteLedger) -> Vec<RelayEntry> {
    ask(|done| ledger.relayed(RelayQuery { rows_max: 99, ..RelayQuery::default() }, done)).rows
}

fn holders(ledger: &SqliteLedger, of: &[Digest]) -> Vec<Option<RelayHolder>> {
    ask(|done| ledger.holders(of.to_vec(), done))
}

fn end(ledger: &SqliteLedger, id: RelayId, end: RelayEnd) {
    ledger.end(vec![(id, end)]);
    ask(|done| authority::Ledger::flush(ledger, done));
}

#[test]
fn a_restored_ledger_gets_back_what_was_relayed_since() {
    let it = Relaying::new();
    let ledger = it.open();
    let old = it.relay(&ledger, 1..4);
    let open = relay(&ledger, &it.row(20).0, None);
    it.stage.backup("backup");
    let new = it.relay(&ledger, 4..10);
    mark(&ledger, old[1], START + 60);
    mark(&ledger, new[1], START + 60);
    // Its certificate comes after the backup, and of this one nothing is known.
    let (_, record) = it.row(20);
    ask(|done| ledger.record(vec![relay_record(open, &record)], done));
    let lost = relay(&ledger, &it.row(21).0, None);
    end(&ledger, lost, RelayEnd::Unknown);
    let refused = relay(&ledger, &it.row(22).0, None);
    end(&ledger, refused, RelayEnd::Refused);
    let before = format!("{:?}", rows(&ledger));
    drop(ledger);
    it.stage.restore("backup");
    let said = it.stage.try_open().unwrap_err().to_string();
    assert!(said.contains("muster ledger resume --after-restore"), "{said}");

    let report = it.resume();
    assert_eq!((report.rows, report.relayed, report.revocations), (0, 6 + 1, 2));
    it.verifies(3 + 6 + 2, 3 + 6 + 1);
    let ledger = it.open();
    assert_eq!(format!("{:?}", rows(&ledger)), before, "every row is as it was");
    let marked = |holder: &Option<RelayHolder>| matches!(holder.as_ref().unwrap().state, State::Revoked(_));
    assert_eq!(holders(&ledger, &old).iter().map(marked).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(holders(&ledger, &new).iter().filter(|holder| marked(holder)).count(), 1);
    // The repeat of what is unknown goes to the same upstream.
    let again = authority::RelayRequest { upstream: "another".into(), ..relay_request(&it.row(21).0) };
    let begun = ask(|done| ledger.begin(vec![again], done));
    assert!(matches!(&begun[..], [Begun::Unresolved { id, upstream }] if *id == lost && &**upstream == "upstream"));
    // A number that was given is not given again.
    assert!(relay(&ledger, &it.row(30).0, None) > refused);
}

/// The lines are in the journal, and the transaction was not committed: whoever asked got no answer.
#[test]
fn a_start_completes_what_is_in_the_journal_alone() {
    let it = Relaying::new();
    let ledger = it.open();
    it.relay(&ledger, 1..3);
    drop(ledger);
    it.stage.backup("before");
    let ledger = it.open();
    let (intent, record) = it.row(3);
    let id = relay(&ledger, &intent, None);
    drop(ledger);
    let begun = fs::read(it.stage.journal()).unwrap();
    it.stage.restore("before");
    assert_eq!(it.stage.lines().iter().filter(|line| line.contains("relay.request")).count(), 5);
    let ledger = it.open();
    let row = rows(&ledger).pop().unwrap();
    assert_eq!((row.id, row.attempts), (id, 1));
    assert!(matches!(row.stage, RelayStage::InFlight));
    ask(|done| ledger.record(vec![relay_record(id, &record)], done));
    drop(ledger);
    assert!(fs::read(it.stage.journal()).unwrap().starts_with(&begun));
    it.verifies(3, 3);
}

/// A crash between the request and its answer: after the restart the same request goes to the same upstream once its lifetime is over, and an unknown end
/// is one after each restart.
#[test]
fn what_was_in_flight_or_unresolved_at_a_crash_stays_so() {
    let it = Relaying::new();
    let ledger = it.open();
    let (flying, _) = it.row(1);
    let (unresolved, _) = it.row(2);
    let in_flight = relay(&ledger, &flying, None);
    let unknown = relay(&ledger, &unresolved, None);
    end(&ledger, unknown, RelayEnd::Unknown);
    // As a process leaves it that is killed.
    let copied = Stage::new();
    for name in ["ledger.db", "ledger.db-wal", "ledger.journal", "ledger.db.audit.key", "ledger.db.audit.key.pub"] {
        fs::copy(it.stage.path(name), copied.path(name)).unwrap();
    }
    drop(ledger);
    for _ in 0..2 {
        drop(copied.open_at(START));
    }
    let ledger = copied.open_at(START);
    let stages: Vec<String> = rows(&ledger).iter().map(|row| format!("{:?}", row.stage)).collect();
    assert_eq!(stages, ["InFlight", "Unresolved"]);
    let later = |of: &authority::Intent, seconds| authority::RelayRequest {
        at: utc(of.at.as_secs() + seconds),
        upstream: "another".into(),
        ..relay_request(of)
    };
    let begin = |request| ask(|done| ledger.begin(vec![request], done)).remove(0);
    let is_again = |begun: Begun, of: RelayId| {
        assert!(
            matches!(&begun, Begun::Unresolved { id, upstream } if *id == of && &**upstream == "upstream"),
            "{begun:?}"
        );
    };
    is_again(begin(later(&unresolved, 1)), unknown);
    assert!(matches!(begin(later(&flying, 1)), Begun::InProgress));
    is_again(begin(later(&flying, RELAY_LIFETIME.as_secs())), in_flight);
}

/// A journal that the operator adds later, or whose end was lost, gets every row.
#[test]
fn a_journal_gets_what_it_lacks() {
    let it = Relaying::new();
    let ledger = it.stage.open_without_journal();
    it.relay(&ledger, 1..3);
    drop(ledger);
    drop(it.open());
    let journal: PathBuf = it.stage.journal();
    let whole = || fs::read_to_string(&journal).unwrap();
    let count = |kind: &str| whole().matches(&format!("\"type\":\"{kind}\"")).count();
    assert_eq!((count("relay.request"), count("relay.certificate")), (2, 2));
    let early = whole();
    let ledger = it.open();
    it.relay(&ledger, 3..5);
    let refused = relay(&ledger, &it.row(9).0, None);
    end(&ledger, refused, RelayEnd::NotSent);
    drop(ledger);
    fs::write(&journal, early).unwrap();
    drop(it.open());
    assert_eq!(count("relay.certificate"), 2 + 2 * 2, "the row of each record as it is now");
    assert!(count("relay.closed") > 0);
    it.verifies(4, 4);
}

/// What became of a key between the backup and the loss stands in the journal as a revocation, or is not known: a restore revokes nothing for it.
#[test]
fn e39_a_restore_revokes_no_certificate_whose_key_was_delivered_after_the_backup() {
    let relaying = Relaying::new();
    let ledger = relaying.open();
    let issue = |number: u64| {
        let serial = authority::Ledger::draw(&ledger, NodePrefix::new(1), [9; 16]);
        let (mut reserve, record) = relaying.maker.row(number, serial, START);
        reserve.intent.function = Function::ServerKeygen;
        ask(|done| authority::Ledger::intend(&ledger, vec![reserve], done));
        ask(|done| authority::Ledger::record(&ledger, vec![record], done));
        serial
    };
    let before = issue(1);
    relaying.stage.backup("backup");
    let after = issue(2);
    authority::Ledger::delivered(&ledger, vec![before, after]);
    drop(ledger);
    relaying.stage.restore("backup");
    relaying.resume();
    let ledger = relaying.open();
    let rows =
        ask(|done| authority::Ledger::find(&ledger, vec![Locator::Serial(before), Locator::Serial(after)], done));
    assert!(rows.iter().all(|row| row.as_ref().is_some_and(|row| row.issued().is_some() && row.revocation.is_none())));
}
