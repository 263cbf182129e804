//! Rows whose function or origin the release before has no code for: it reads them, and this release reads what is meant.

use std::ops::ControlFlow;
use std::path::Path;

use authority::{Function, Ledger, Locator, Origin, Recorded};
use ledger::migrate::{migrate, plan};
use pki::issue::{NodePrefix, Serial};
use rusqlite::Connection;

use crate::maker::{Maker, START, ask};
use crate::release_before::{self, ReleaseBefore};
use crate::versions::open;

const MEANT: [(Function, Origin); 7] = [
    (Function::SimpleEnroll, Origin::Manufacturer),
    (Function::SimpleReenroll, Origin::ThisCa),
    (Function::SimpleReenroll, Origin::Manufacturer),
    (Function::SimpleEnroll, Origin::Registrar),
    (Function::SimpleReenroll, Origin::Registrar),
    (Function::ServerKeygen, Origin::Manufacturer),
    (Function::ServerKeygen, Origin::ThisCa),
];
/// Of these.
const UNKNOWN_BEFORE: u64 = 4;

/// Issues one certificate of each kind.
fn issue(file: &Path, maker: &Maker) -> Vec<Serial> {
    let ledger = open(file).unwrap();
    let mut serials = Vec::new();
    for (number, (function, origin)) in (1..).zip(MEANT) {
        let serial = ledger.draw(NodePrefix::new(0), [5; 16]);
        let (mut reserve, record) = maker.row(number, serial, START);
        (reserve.intent.function, reserve.intent.vouched_by) = (function, origin);
        ask(|done| ledger.intend(vec![reserve], done));
        assert_eq!(ask(|done| Ledger::record(&ledger, vec![record], done)), [Recorded::Durable]);
        // None of them waits for a delivery when the ledger is opened again.
        Ledger::delivered(&ledger, vec![serial]);
        serials.push(serial);
    }
    serials
}

#[track_caller]
fn are_meant(file: &Path, serials: &[Serial]) {
    let ledger = open(file).unwrap();
    let rows = ask(|done| ledger.find(serials.iter().map(|serial| Locator::Serial(*serial)).collect(), done));
    let found: Vec<_> = rows.iter().flatten().map(|row| (row.intent.function, row.intent.vouched_by)).collect();
    assert_eq!(found, MEANT);
}

#[track_caller]
fn release_before_reads_all(file: &Path) {
    assert_eq!(ReleaseBefore::open(file).read().0.len(), MEANT.len());
}

#[test]
fn the_release_before_reads_rows_whose_function_or_origin_it_does_not_know() {
    for is_migrated in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (file, maker) = (folder.path().join("ledger.db"), Maker::new());
        release_before::create(&file);
        if is_migrated {
            migrate(&file, &mut |_| ControlFlow::Continue(())).unwrap();
        }
        let serials = issue(&file, &maker);
        release_before_reads_all(&file);
        are_meant(&file, &serials);
        migrate(&file, &mut |_| ControlFlow::Continue(())).unwrap();
        release_before_reads_all(&file);
        are_meant(&file, &serials);
    }
}

#[test]
fn rows_that_an_earlier_build_wrote_with_its_own_codes_are_read_and_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let (file, maker) = (folder.path().join("ledger.db"), Maker::new());
    let serials = issue(&file, &maker);
    let as_before = "UPDATE intent SET function = n.function, vouched_by = n.vouched_by FROM newer_code n WHERE n.place = intent.place;
DROP TABLE newer_code";
    Connection::open(&file).unwrap().execute_batch(as_before).unwrap();
    are_meant(&file, &serials);
    let planned = plan(&file).unwrap();
    assert_eq!(planned.steps.iter().map(|step| step.rows).collect::<Vec<_>>(), [UNKNOWN_BEFORE]);
    let migrated = migrate(&file, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((&migrated.steps, migrated.longest_lock.is_some()), (&planned.steps, true));
    release_before_reads_all(&file);
    are_meant(&file, &serials);
    assert_eq!(plan(&file).unwrap().steps, []);
}
