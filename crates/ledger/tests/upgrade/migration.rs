//! A ledger of the release before is used, migrated while it is used, and used again by both releases.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use authority::{Inquiry, Intended, Intent, Ledger, Locator, Reserve, State};
use ledger::audit::{AuditPublicKey, AuditSettings, VerifySources, public_path, verify};
use ledger::migrate::{MigrateProblem, Migration, migrate, plan};
use ledger::sqlite::connect_beside;
use ledger::sqlite::schema::SCHEMA_VERSION;
use ledger::verify::verify_rows;
use pki::issue::{NodePrefix, Serial};
use rusqlite::Connection;

use crate::maker::{Maker, START, ask, revocation, revoke};
use crate::release_before::{self, ReleaseBefore};
use crate::versions::{add_what_the_release_after_may_add, open, tables, version};

/// Rows that the release before has written, one in [`REVOKED_EVERY`] revoked: more than one transaction of a migration for the revocations.
const ROWS: u64 = 60;
const REVOKED_EVERY: u64 = 5;

/// A ledger that the release before has filled.
fn filled(file: &Path, maker: &Maker) -> Vec<Serial> {
    release_before::create(file);
    let mut release = ReleaseBefore::open(file);
    let mut serials = Vec::new();
    for number in 1..=ROWS {
        release.begin();
        let row = maker.row(number, release.draw(), START);
        release.issue(&row);
        if number % REVOKED_EVERY == 0 {
            release.revoke(&row, &revocation(START + number));
        }
        release.commit();
        serials.push(row.1.serial);
    }
    release.merge_and_remove();
    serials
}

/// Every row, and the audit.
#[track_caller]
fn verifies(file: &Path, maker: &Maker, certificates: u64) {
    let report = verify_rows(file, &maker.issuers(), &mut |_, _| ()).unwrap();
    assert_eq!((report.certificates, report.unsigned), (certificates, 0));
    let settings = AuditSettings::beside(file, NodePrefix::new(0));
    let keys = [AuditPublicKey::read(&public_path(&settings.key)).unwrap()];
    let sources = VerifySources { checkpoints: &[settings.checkpoints], keys: &keys };
    let report = verify(&connect_beside(file).unwrap(), sources, &mut |_, _, _| ()).unwrap();
    assert_eq!(report.fault, None);
}

/// Each row of the tables of the release before, as text.
fn contents(file: &Path) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    let columns = [
        ("party", "id || hex(digest)"),
        ("profile", "id || name || hex(version)"),
        (
            "intent",
            "number || place || hex(serial) || at || device || hex(csr) || hex(spki) || hex(to_be_signed) || abandoned",
        ),
        ("place", "place || ' ' || number"),
        ("certificate", "number || at || repeat_until || hex(digest) || hex(der)"),
        ("revocation", "number || at || reason || actor"),
        ("audit", "node || sequence || hex(hash) || body"),
    ];
    let mut all = Vec::new();
    for (table, columns) in columns {
        let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1")).unwrap();
        all.extend(statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap));
    }
    all
}

fn revocations_in_order(file: &Path) -> Vec<i64> {
    let connection = Connection::open(file).unwrap();
    let mut statement = connection.prepare("SELECT number FROM revocation_order ORDER BY sequence").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn migrate_whole(file: &Path) -> Migration {
    migrate(file, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_dry_run_says_what_is_done_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    filled(&file, &Maker::new());
    let before = (contents(&file), tables(&Connection::open(&file).unwrap()));
    let planned = plan(&file).unwrap();
    assert_eq!((contents(&file), tables(&Connection::open(&file).unwrap())), before);
    assert_eq!((planned.from, planned.to), (1, SCHEMA_VERSION));
    assert!(planned.steps.iter().any(|step| step.what.contains("table revocation_order")), "{planned:?}");
    assert!(planned.steps.iter().any(|step| step.rows == ROWS / REVOKED_EVERY), "{planned:?}");
    let done = migrate_whole(&file);
    assert_eq!(done.steps, planned.steps, "what was planned is done");
    assert!(done.longest_lock.is_some());
    assert_eq!(contents(&file), before.0, "no row of the release before is changed");
    let none = plan(&file).unwrap();
    assert_eq!((none.from, none.to, &none.steps[..]), (2, 2, &[][..]));
    assert_eq!(migrate_whole(&file), none);
}

#[test]
fn a_migrated_ledger_has_the_tables_of_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    release_before::create(&old);
    migrate_whole(&old);
    drop(open(&new).unwrap());
    assert_eq!(tables(&Connection::open(&old).unwrap()), tables(&Connection::open(&new).unwrap()));
    let meta = |file: &Path| -> i64 {
        Connection::open(file).unwrap().query_row("SELECT count(*) FROM meta", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(meta(&old), meta(&new), "nothing that only the migration needs is left");
}

/// Whether the key of this row is refused, for another device.
fn is_refused(ledger: &dyn Ledger, maker: &Maker, row: Serial) -> bool {
    let found = ask(|done| ledger.find(vec![Locator::Serial(row)], done)).remove(0).unwrap();
    let serial = ledger.draw(NodePrefix::new(0), [2; 16]);
    let (reserve, _) = maker.row(900, serial, START + 1_000);
    let intent = Intent { spki: found.intent.spki, ..reserve.intent };
    let answer = ask(|done| ledger.intend(vec![Reserve { intent, ..reserve }], done)).remove(0);
    let is_refused = matches!(answer, Intended::KeyCompromised);
    assert!(is_refused || matches!(answer, Intended::KeyOfAnother), "{answer:?}");
    is_refused
}

/// [`filled`] revokes for keyCompromise.
#[test]
fn e23_keys_that_were_compromised_before_there_was_a_table_of_them_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (old, maker) = (folder.path().join("old.db"), Maker::new());
    let serials = filled(&old, &maker);
    // Version 1 gets the table with the next such revocation, and all keys of before with it.
    let ledger = open(&old).unwrap();
    let [fifth, last] = [4, 59].map(|index| serials[index]);
    assert!(!is_refused(&ledger, &maker, fifth));
    revoke(&ledger, serials[0], START + 500);
    for compromised in [serials[0], fifth, last] {
        assert!(is_refused(&ledger, &maker, compromised), "{compromised}");
    }
    assert!(!is_refused(&ledger, &maker, serials[1]), "a good one");
    drop(ledger);
    // The release before goes on, and its trigger notes what it revokes.
    let mut release = ReleaseBefore::open(&old);
    release.begin();
    let row = maker.row(2, serials[1], START);
    release.revoke(&row, &revocation(START + 600));
    release.commit();
    drop(release);
    let ledger = open(&old).unwrap();
    assert!(is_refused(&ledger, &maker, serials[1]));
    drop(ledger);

    let migrated = folder.path().join("migrated.db");
    let serials = filled(&migrated, &maker);
    migrate_whole(&migrated);
    // An earlier build of this version had no such table.
    let without = folder.path().join("without.db");
    std::fs::copy(&migrated, &without).unwrap();
    let drop_table = "DROP TRIGGER revocation_compromised; DROP TABLE compromised_key";
    Connection::open(&without).unwrap().execute_batch(drop_table).unwrap();
    for file in [migrated, without] {
        let ledger = open(&file).unwrap();
        let refused = [59, 1].map(|index| is_refused(&ledger, &maker, serials[index]));
        assert_eq!(refused, [true, false], "{}", file.display());
        drop(ledger);
        verifies(&file, &maker, ROWS);
    }
}

#[test]
fn a_migration_that_was_stopped_anywhere_goes_on() {
    let mut stops = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let (file, maker) = (folder.path().join("ledger.db"), Maker::new());
        filled(&file, &maker);
        let mut calls = 0;
        let stopped = migrate(&file, &mut |_| {
            calls += 1;
            if calls > stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if stopped.is_ok() {
            break;
        }
        assert!(matches!(stopped.unwrap_err().problem, MigrateProblem::Stopped));
        assert_eq!(version(&file), 1, "the version is that of the last step");
        // Both releases write meanwhile.
        let mut before = ReleaseBefore::open(&file);
        before.begin();
        let row = maker.row(ROWS + 1, before.draw(), START + 100);
        before.issue(&row);
        before.revoke(&row, &revocation(START + 1_000));
        before.commit();
        drop(before);
        let ledger = open(&file).unwrap();
        let serial = maker.issue(&ledger, ROWS + 2, START + 200);
        revoke(&ledger, serial, START + 1_100);
        drop(ledger);
        migrate_whole(&file);
        assert_eq!(version(&file), SCHEMA_VERSION);
        let order = revocations_in_order(&file);
        let mut all = order.clone();
        all.sort_unstable();
        let expected = (1..=ROWS).filter(|number| number % REVOKED_EVERY == 0).chain([ROWS + 1, ROWS + 2]);
        assert_eq!(all, expected.map(|number| i64::try_from(number).unwrap()).collect::<Vec<_>>(), "{order:?}");
        verifies(&file, &maker, ROWS + 2);
        stops += 1;
    }
    assert!(stops >= 2, "{stops}");
}

/// Rows are written a bounded number at a time; one that was written before the stop is not written again.
#[test]
fn a_migration_that_was_stopped_half_way_through_its_rows_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    release_before::create(&file);
    let connection = Connection::open(&file).unwrap();
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500)
INSERT INTO revocation SELECT n, 10000 - n, 0, 'alice' FROM n";
    connection.execute(many, []).unwrap();
    let mut seen = Vec::new();
    let stopped = migrate(&file, &mut |progress| {
        seen.push((progress.done, progress.total));
        if progress.done > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped.unwrap_err().problem, MigrateProblem::Stopped));
    let (done, total) = *seen.last().unwrap();
    assert!(done < total && total == 2_500, "{seen:?}");
    assert_eq!(revocations_in_order(&file).len(), usize::try_from(done).unwrap());
    connection.execute("INSERT INTO revocation VALUES (3000, 1, 0, 'bob')", []).unwrap();
    migrate_whole(&file);
    let order = revocations_in_order(&file);
    assert_eq!(order.len(), 2_501);
    assert_eq!(order[..3], [2_500, 2_499, 2_498], "the earliest first");
    assert_eq!(order.iter().collect::<std::collections::BTreeSet<_>>().len(), order.len());
}

/// A snapshot that lasted as long as the migration would let the log of a server grow: it could not begin anew.
#[test]
fn the_log_can_be_shortened_between_any_two_steps_and_every_lock_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    release_before::create(&file);
    let connection = Connection::open(&file).unwrap();
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 25000)
INSERT INTO revocation SELECT n, 100000 - n, 0, 'alice' FROM n";
    connection.execute(many, []).unwrap();
    // What a server has in its log is made durable first, which is a lock too.
    let began = std::time::Instant::now();
    let mut steps = 0;
    let migrated = migrate(&file, &mut |progress| {
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0, "{progress:?}");
        steps += 1;
        ControlFlow::Continue(())
    });
    assert!(steps > 25);
    let longest = migrated.unwrap().longest_lock.unwrap();
    assert!(!longest.is_zero() && longest < began.elapsed());
    assert_eq!(revocations_in_order(&file).len(), 25_000);
}

/// What one thread of the load has done.
#[derive(Default)]
struct Done {
    issued: Vec<Serial>,
    revoked: Vec<Serial>,
}

/// Four threads issue, revoke and ask, until they are told to stop; each of them has had an answer after that.
struct Load {
    threads: Vec<thread::JoinHandle<Done>>,
    stops: Vec<mpsc::Sender<()>>,
    steps: Arc<AtomicU64>,
}

impl Load {
    fn start(ledger: &Arc<dyn Ledger>, maker: &Arc<Maker>, known: &[Serial], (first, at): (u64, u64)) -> Self {
        let next = Arc::new(AtomicU64::new(first));
        let steps = Arc::<AtomicU64>::default();
        let (mut threads, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (ledger, maker, next, steps) =
                (Arc::clone(ledger), Arc::clone(maker), Arc::clone(&next), Arc::clone(&steps));
            let known = known.to_vec();
            let (stop, stopped) = mpsc::channel();
            stops.push(stop);
            threads.push(thread::spawn(move || {
                let mut done = Done::default();
                while stopped.try_recv() != Ok(()) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (reserve, record) = maker.issue_row(&*ledger, number, at);
                    let serial = record.serial;
                    if number.is_multiple_of(3) {
                        revoke(&*ledger, serial, START + 2_000);
                        done.revoked.push(serial);
                    }
                    done.issued.push(serial);
                    let inquiry = Inquiry {
                        client: record.issued.digest,
                        serial: Some(serial),
                        device: None,
                        profile: "meters".into(),
                    };
                    let standing = ask(|answer| ledger.standing(vec![inquiry], answer)).remove(0).holder.unwrap();
                    assert_eq!(standing.device, reserve.intent.device);
                    assert_eq!(matches!(standing.state, State::Revoked(_)), number.is_multiple_of(3));
                    let old = known[usize::try_from(number).unwrap() % known.len()];
                    assert!(ask(|answer| ledger.find(vec![Locator::Serial(old)], answer))[0].is_some());
                    steps.fetch_add(1, Ordering::Relaxed);
                }
                done
            }));
        }
        Self { threads, stops, steps }
    }

    /// Waits until the load has done so many steps more.
    fn goes_on(&self, steps: u64) {
        let until = self.steps.load(Ordering::Relaxed) + steps;
        while self.steps.load(Ordering::Relaxed) < until {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a thread of the load failed");
            thread::yield_now();
        }
    }

    fn stop(self) -> Done {
        for stop in self.stops {
            let _it_may_have_failed = stop.send(());
        }
        let mut all = Done::default();
        for thread in self.threads {
            let done = thread.join().unwrap();
            all.issued.extend(done.issued);
            all.revoked.extend(done.revoked);
        }
        all
    }
}

/// Forward and back, under load: a ledger of the release before is used by this one, migrated meanwhile, used on, used by the release before again,
/// and by this one with tables of the release after.
#[test]
fn a_ledger_goes_through_three_versions_under_load_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, maker) = (folder.path().join("ledger.db"), Arc::new(Maker::new()));
    let mut known = filled(&file, &maker);
    let before = contents(&file);

    // This release on the tables of the release before; then they are migrated, and it goes on without a restart.
    let ledger: Arc<dyn Ledger> = Arc::new(open(&file).unwrap());
    let load = Load::start(&ledger, &maker, &known, (ROWS + 1, START + 100));
    load.goes_on(20);
    let migrated = migrate_whole(&file);
    assert_eq!((migrated.from, migrated.to), (1, SCHEMA_VERSION));
    load.goes_on(20);
    let done = load.stop();
    drop(ledger);
    known.extend(&done.issued);
    let mut revoked = usize::try_from(ROWS / REVOKED_EVERY).unwrap() + done.revoked.len();
    assert_eq!(revocations_in_order(&file).len(), revoked, "those before, during and after the migration");
    verifies(&file, &maker, u64::try_from(known.len()).unwrap());
    let after = contents(&file);
    assert!(before.iter().all(|row| after.binary_search(row).is_ok() || after.contains(row)), "no row was changed");

    // The release before, on the migrated tables.
    let mut release = ReleaseBefore::open(&file);
    assert_eq!(release.read().0.len(), known.len());
    for _ in 0..10 {
        release.begin();
        let row = maker.row(u64::try_from(known.len()).unwrap() + 10_000, release.draw(), START + 300);
        release.issue(&row);
        release.revoke(&row, &revocation(START + 3_000));
        release.commit();
        known.push(row.1.serial);
        revoked += 1;
    }
    release.merge_and_remove();
    drop(release);
    assert_eq!(revocations_in_order(&file).len(), revoked, "revocations of the release before have a place");
    verifies(&file, &maker, u64::try_from(known.len()).unwrap());

    // This release on the tables of the release after.
    add_what_the_release_after_may_add(&file);
    let ledger: Arc<dyn Ledger> = Arc::new(open(&file).unwrap());
    let load = Load::start(&ledger, &maker, &known, (20_000, START + 400));
    load.goes_on(20);
    let done = load.stop();
    drop(ledger);
    known.extend(&done.issued);
    revoked += done.revoked.len();
    assert_eq!(revocations_in_order(&file).len(), revoked);
    verifies(&file, &maker, u64::try_from(known.len()).unwrap());
    assert_eq!(migrate_whole(&file).from, 3, "and leaves their version alone");
    assert_eq!(version(&file), 3);

    // Each certificate is there once, byte for byte as it was recorded.
    let ledger = open(&file).unwrap();
    let rows = ask(|answer| ledger.find(known.iter().map(|serial| Locator::Serial(*serial)).collect(), answer));
    assert!(rows.iter().all(|row| row.as_ref().is_some_and(|row| row.issued().is_some())));
    assert_eq!(ledger.rows(), u64::try_from(known.len()).unwrap());
    assert_eq!(
        known.iter().map(|serial| *serial.as_bytes()).collect::<std::collections::BTreeSet<_>>().len(),
        known.len()
    );
}

/// It would be written again in one piece, and the server would wait meanwhile.
#[test]
fn a_log_of_more_than_128_mebibytes_is_not_migrated_beside_a_server() {
    const MEBIBYTE: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("ledger.db"), folder.path().join("ledger.db-wal"));
    release_before::create(&file);
    let server = open(&file).unwrap();
    // Somebody reads for a long time, and the log cannot begin anew.
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM intent;").unwrap();
    let writer = Connection::open(&file).unwrap();
    writer.execute_batch("CREATE TABLE ballast (x)").unwrap();
    let log_bytes = || std::fs::metadata(&log).unwrap().len();
    while log_bytes() <= 128 * MEBIBYTE {
        writer.execute("INSERT INTO ballast VALUES (zeroblob(4000000))", []).unwrap();
    }
    let fault = migrate(&file, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(fault.problem, MigrateProblem::LongLog { .. }), "{fault}");
    let said = fault.to_string();
    assert!(said.contains(&format!("its log is {} MiB long", log_bytes() / MEBIBYTE)), "{said}");
    assert!(said.contains("ledger.db") && said.contains("Run this again when that has ended"), "{said}");
    assert_eq!(version(&file), 1, "nothing was changed");
    drop(server);
    migrate_whole(&file);
    assert_eq!(version(&file), SCHEMA_VERSION, "without a server nobody waits");
    drop((reader, writer));
}
