//! What somebody changes in the file with plain SQL is found, and named with its row; and what is pruned is not taken for that.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: it looks at files")]

#[allow(dead_code, reason = "several tests share it")]
#[path = "../common/maker.rs"]
mod maker;
mod pruning;
mod relaying;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use authority::{CrlLayout, Ledger};
use ledger::SqliteLedger;
use ledger::audit::{AuditPublicKey, AuditReport, AuditSettings, VerifySources, public_path, verify};
use ledger::sqlite::{Fresh, connect_beside};
use ledger::verify::{RowFault, RowReport, verify_rows};
use pki::Digest;
use pki::issue::crl::CrlShards;
use pki::issue::{NodePrefix, Serial};
use rusqlite::Connection;

use crate::maker::{Maker, START, ask, revoke, utc};

/// A ledger in a folder of its own, under a clock that the test sets.
struct Stage {
    _folder: tempfile::TempDir,
    file: PathBuf,
    settings: AuditSettings,
    clock: Arc<AtomicU64>,
    maker: Maker,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let clock = Arc::new(AtomicU64::new(START));
        let told = Arc::clone(&clock);
        let clock_of_audit = Arc::new(move || utc(told.load(Ordering::Relaxed)));
        let settings = AuditSettings { clock: clock_of_audit, ..AuditSettings::beside(&file, NodePrefix::new(0)) };
        Self { _folder: folder, file, settings, clock, maker: Maker::new() }
    }

    fn open(&self) -> SqliteLedger {
        SqliteLedger::open_audited(&self.file, Fresh { serial_key: [7; 16] }, &self.settings, utc(self.now())).unwrap()
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Certificates of the devices with these numbers, every third revoked, every fifth given up instead.
    fn issue(&self, numbers: std::ops::Range<u64>) -> Vec<Serial> {
        let ledger = self.open();
        let mut serials = Vec::new();
        for number in numbers {
            let serial = if number % 5 == 0 {
                let serial = ledger.draw(NodePrefix::new(0), [5; 16]);
                let (reserve, _) = self.maker.row(number, serial, self.now());
                ask(|done| ledger.intend(vec![reserve], done));
                ledger.abandon(vec![serial]);
                serial
            } else {
                self.maker.issue(&ledger, number, self.now())
            };
            if number % 3 == 0 {
                revoke(&ledger, serial, self.now());
            }
            serials.push(serial);
        }
        ask(|done| ledger.flush(done));
        serials
    }

    fn rows(&self) -> Result<RowReport, RowFault> {
        verify_rows(&self.file, &self.maker.issuers(), &mut |_, _| ())
    }

    fn audit(&self) -> AuditReport {
        let keys = [AuditPublicKey::read(&public_path(&self.settings.key)).unwrap()];
        let checkpoints = [self.settings.checkpoints.clone()];
        let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
        verify(&connect_beside(&self.file).unwrap(), sources, &mut |_, _, _| ()).unwrap()
    }

    #[track_caller]
    fn verifies(&self) -> RowReport {
        assert_eq!(self.audit().fault, None);
        self.rows().unwrap()
    }

    fn sql(&self, sql: &str) {
        Connection::open(&self.file).unwrap().execute_batch(sql).unwrap();
    }
}

/// A change by SQL is found, and names this row and says this.
#[track_caller]
fn is_found(sql: &str, row: Option<i64>, says: &str) {
    let stage = Stage::new();
    stage.issue(1..12);
    stage.verifies();
    stage.sql(sql);
    let fault = stage.rows().expect_err(sql);
    assert_eq!(fault.row.as_ref().map(|row| row.number), row, "{sql}: {fault}");
    let text = fault.to_string();
    assert!(text.contains(says) && text.contains("ledger.db"), "{sql}: {text}");
}

#[test]
fn an_honest_ledger_verifies() {
    let stage = Stage::new();
    stage.issue(1..12);
    let report = stage.verifies();
    assert_eq!((report.rows, report.certificates, report.abandoned, report.revoked), (11, 9, 2, 3));
    assert!(report.is_file_checked);
    let ledger = stage.open();
    assert!(!stage.rows().unwrap().is_file_checked, "no long reading beside a server");
    drop(ledger);
}

#[test]
fn a_revocation_that_was_taken_back_is_found() {
    is_found("DELETE FROM revocation WHERE number = 6", Some(6), "revocation, which is missing");
    is_found("UPDATE revocation SET reason = 0 WHERE number = 6", Some(6), "another reason, time or actor");
    is_found("UPDATE revocation SET actor = 'mallory' WHERE number = 6", Some(6), "another reason, time or actor");
    is_found("UPDATE revocation SET at = at + 1 WHERE number = 6", Some(6), "another reason, time or actor");
    is_found("INSERT INTO revocation VALUES (4, 1800000000, 1, 'mallory')", Some(4), "no record of its revocation");
}

#[test]
fn a_certificate_that_was_removed_is_found() {
    let counted = "UPDATE tally SET issued = issued - 1";
    let removed = format!("DELETE FROM certificate WHERE number = 4; {counted}");
    is_found(&removed, Some(4), "a record of its certificate, which is missing");
    let given_up = format!("{removed}; UPDATE intent SET abandoned = 1 WHERE number = 4");
    is_found(&given_up, Some(4), "a record of its certificate, which is missing");
    let whole = format!(
        "{removed}; DELETE FROM intent WHERE number = 4; DELETE FROM place WHERE number = 4; UPDATE tally SET rows = rows - 1"
    );
    is_found(&whole, Some(4), "has records, and is missing");
    let called_pruned = "DELETE FROM certificate WHERE number = 4; DELETE FROM intent WHERE number = 4; DELETE FROM place WHERE number = 4;
UPDATE pruned SET rows = 1, issued = 1";
    is_found(called_pruned, Some(4), "has records, and is missing");
    is_found("DELETE FROM intent WHERE number = 4", Some(4), "a certificate without a row");
    is_found(
        "DELETE FROM intent WHERE number = 5; DELETE FROM place WHERE number = 5",
        Some(5),
        "has records, and is missing",
    );
}

#[test]
fn a_certificate_that_nobody_accepted_is_found() {
    // Somebody with the key of the CA and the file, without the key of the audit.
    let stage = Stage::new();
    stage.issue(1..5);
    let other = Stage::new();
    other.issue(1..8);
    stage.sql(&format!(
        "ATTACH '{}' AS other;
INSERT INTO intent SELECT * FROM other.intent WHERE number = 7;
INSERT INTO place SELECT * FROM other.place WHERE number = 7;
INSERT INTO certificate SELECT * FROM other.certificate WHERE number = 7;
UPDATE tally SET rows = rows + 1, issued = issued + 1, places = 7, numbers = 7",
        other.file.display()
    ));
    let fault = stage.rows().unwrap_err();
    assert_eq!(fault.row.as_ref().unwrap().number, 7, "{fault}");
    assert!(fault.to_string().contains("no record of its certificate"), "{fault}");
}

#[test]
fn a_row_that_was_edited_is_found() {
    is_found("UPDATE intent SET device = 'other' WHERE number = 4", Some(4), "differs in the device");
    is_found("UPDATE intent SET peer = '192.0.2.9:1' WHERE number = 4", Some(4), "differs in the device");
    is_found("UPDATE intent SET client = zeroblob(32) WHERE number = 4", Some(4), "differs in the device");
    is_found("UPDATE intent SET function = 2 WHERE number = 4", Some(4), "differs in the device");
    is_found("UPDATE profile SET name = 'other'", Some(1), "differs in the device");
    is_found("UPDATE intent SET spki = zeroblob(32) WHERE number = 4", Some(4), "the public key");
    is_found("UPDATE intent SET abandoned = 0 WHERE number = 10", Some(10), "given up, and it is reserved");
    is_found("UPDATE tally SET rows = rows + 1", None, "12 rows are counted, and 11 are there");
    is_found("UPDATE intent SET place = 99 WHERE number = 4", Some(4), "a row without a place");
    is_found("DELETE FROM place WHERE number = 4", Some(4), "a row without a place");
}

/// The certificate of one row under another one, with everything in the row that the certificate says.
#[test]
fn a_certificate_that_was_put_in_the_place_of_another_is_found() {
    is_found(
        "UPDATE certificate SET (der, digest) = (SELECT der, digest FROM certificate WHERE number = 1) WHERE number = 4",
        Some(4),
        "the serial number of the certificate",
    );
}

#[test]
fn an_index_that_does_not_lead_to_its_row_is_found() {
    // As after many rows: each one is in the tables of the indexes.
    let stage = Stage::new();
    stage.issue(1..5);
    stage.sql("UPDATE tally SET indexed = 4");
    let fault = stage.rows().unwrap_err();
    assert_eq!(fault.row.as_ref().unwrap().number, 1, "{fault}");
    assert!(fault.to_string().contains("an index does not lead to the row"), "{fault}");
}

/// A ledger whose rows are all in the tables of the indexes, and whose CA has revocation lists.
fn indexed() -> Stage {
    let stage = Stage::new();
    let ca = stage.maker.issuers()[0].anchor_id();
    let ledger = stage.open();
    let layout = CrlLayout::Sharded { shards: CrlShards::DEFAULT, url: "http://crl.example/{shard}".into() };
    ask(|done| ledger.fix_crl_layout(ca, layout, done));
    drop(ledger);
    stage.issue(1..12);
    let connection = Connection::open(&stage.file).unwrap();
    let entries = |table: &str| -> i64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    // As the ledger merges them when there are many: the tables have what is in memory.
    let short = |digest: Vec<u8>| i64::from_be_bytes(digest[..8].try_into().unwrap());
    let tag = |digest: &[u8]| i32::from_be_bytes(digest[..4].try_into().unwrap());
    let sql = "SELECT i.number, m.digest, i.device, i.spki, i.not_after, i.csr FROM intent i JOIN party m ON m.id = i.manufacturer WHERE NOT i.abandoned";
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (number, manufacturer, device): (i64, Vec<u8>, String) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let (spki, not_after, csr): (Vec<u8>, i64, Vec<u8>) =
            (row.get(3).unwrap(), row.get(4).unwrap(), row.get(5).unwrap());
        let device = short(Digest::of_parts(&[&manufacturer, device.as_bytes()]).as_bytes().to_vec());
        let values = (device, number, not_after, tag(&csr), tag(&spki));
        connection.execute("INSERT INTO of_device VALUES (?1, ?2, ?3, ?4, ?5, NULL)", values).unwrap();
        connection.execute("INSERT INTO of_key VALUES (?1, ?2)", (short(spki), number)).unwrap();
    }
    connection.execute("UPDATE tally SET indexed = places", []).unwrap();
    assert_eq!((entries("of_device"), entries("of_key"), entries("crl_entry")), (9, 9, 3));
    drop(rows);
    drop(statement);
    drop(connection);
    stage.verifies();
    stage
}

/// A change by SQL to one of the tables that lead to rows is found, and names the row and says this.
#[track_caller]
fn is_found_in_index(sql: &str, row: i64, says: &str) {
    let stage = indexed();
    stage.sql(sql);
    let fault = stage.rows().expect_err(sql);
    assert_eq!(fault.row.as_ref().map(|row| row.number), Some(row), "{sql}: {fault}");
    assert!(fault.to_string().contains(says), "{sql}: {fault}");
}

#[test]
fn an_entry_of_an_index_that_was_removed_or_added_or_changed_is_found() {
    for table in ["of_device", "of_key"] {
        is_found_in_index(&format!("DELETE FROM {table} WHERE number = 4"), 4, "an index does not lead to the row");
    }
    let of_device = "an entry of the index of devices that is not of its row";
    is_found_in_index("INSERT INTO of_device VALUES (77, 4, 1, 2, 3, NULL)", 4, of_device);
    is_found_in_index("INSERT INTO of_device VALUES (77, 99, 1, 2, 3, NULL)", 99, of_device);
    is_found_in_index(
        "UPDATE of_device SET not_after = not_after + 1 WHERE number = 4",
        4,
        "an index does not lead to the row",
    );
    is_found_in_index("UPDATE of_device SET csr = csr + 1 WHERE number = 4", 4, "an index does not lead to the row");
    is_found_in_index("UPDATE of_device SET factory_key = 1 WHERE number = 4", 4, "an index does not lead to the row");
    // Given up: its entry was removed then.
    is_found_in_index(
        "INSERT INTO of_device SELECT device, 5, not_after, csr, spki, NULL FROM of_device WHERE number = 4",
        5,
        of_device,
    );
    let of_key = "an entry of the index of keys that is not of its row";
    is_found_in_index("INSERT INTO of_key VALUES (77, 4)", 4, of_key);
    is_found_in_index("INSERT INTO of_key VALUES (77, 99)", 99, of_key);
    is_found_in_index(
        "DELETE FROM revocation_order WHERE number = 6",
        6,
        "without a place in the order of revocations",
    );
    is_found_in_index("INSERT INTO revocation_order VALUES (77, 4)", 4, "order of revocations without a revocation");
    let foreign = "INSERT INTO foreign_serial VALUES (zeroblob(19), 3)";
    is_found_in_index(foreign, 3, "a serial number of another ledger without a row");
}

/// Who reads the lists would take a revoked certificate for a good one, or a good one for revoked.
#[test]
fn an_entry_of_a_revocation_list_that_was_removed_or_added_or_changed_is_found() {
    is_found_in_index("DELETE FROM crl_entry WHERE number = 6", 6, "a revocation that is not in its revocation list");
    let entry = "an entry of a revocation list that is not its revocation";
    is_found_in_index(
        "INSERT INTO crl_entry SELECT ca, 1, number, serial, at, 1, not_after FROM intent WHERE number = 4",
        4,
        entry,
    );
    is_found_in_index("UPDATE crl_entry SET reason = 0 WHERE number = 6", 6, entry);
    is_found_in_index("UPDATE crl_entry SET at = at + 1 WHERE number = 6", 6, entry);
    is_found_in_index("UPDATE crl_entry SET not_after = 1 WHERE number = 6", 6, entry);
    is_found_in_index("UPDATE crl_entry SET list = (list + 1) % 128 WHERE number = 6", 6, entry);
    is_found_in_index(
        "UPDATE crl_entry SET serial = (SELECT serial FROM intent WHERE number = 4) WHERE number = 6",
        6,
        entry,
    );
    is_found_in_index("INSERT INTO crl_unfiled VALUES (1, 4)", 4, "waits for its list, and is not there");
}

/// What the certificate of a row says of it.
#[test]
fn a_row_or_certificate_that_was_changed_in_a_byte_is_found() {
    // A byte of the signature, and one of the subject.
    let with_digest = |edit: &str| {
        let stage = Stage::new();
        stage.issue(1..5);
        stage.sql(&format!("UPDATE certificate SET der = {edit} WHERE number = 4"));
        let (connection, sql) =
            (Connection::open(&stage.file).unwrap(), "SELECT der FROM certificate WHERE number = 4");
        let der: Vec<u8> = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let fault = stage.rows().unwrap_err().to_string();
        connection
            .execute("UPDATE certificate SET digest = ?1 WHERE number = 4", [&Digest::of(&der).as_bytes()[..]])
            .unwrap();
        (fault, stage.rows().unwrap_err().to_string())
    };
    let flipped = "substr(der, 1, length(der) - 1) || CASE substr(der, -1) WHEN x'00' THEN x'01' ELSE x'00' END";
    let flipped = format!("CAST({flipped} AS BLOB)");
    let (first, second) = with_digest(&flipped);
    assert!(first.contains("the digest of the certificate"), "{first}");
    assert!(second.contains("signature") || second.contains("no certificate"), "{second}");
    is_found("UPDATE certificate SET digest = zeroblob(32) WHERE number = 4", Some(4), "the digest of the certificate");
    is_found(
        "UPDATE intent SET to_be_signed = zeroblob(32) WHERE number = 4",
        Some(4),
        "the digest of what was signed",
    );
    is_found("UPDATE intent SET not_after = not_after + 1 WHERE number = 4", Some(4), "the validity");
    is_found(
        "UPDATE intent SET subject = (SELECT subject FROM intent WHERE number = 2) WHERE number = 4",
        Some(4),
        "the subject",
    );
    is_found(
        "CREATE TEMP TABLE s AS SELECT number, serial FROM intent; UPDATE intent SET serial = (SELECT serial FROM s WHERE number = 6 - intent.number) WHERE number IN (2, 4)",
        Some(2),
        "the serial number, which leads to another row",
    );
}

/// Rows that are written while it reads are no fault; nor is a page that was read before its row was revoked.
#[test]
fn a_ledger_is_verified_beside_a_server_that_writes_it() {
    let stage = Stage::new();
    stage.issue(1..700);
    let ledger = stage.open();
    let mut next = 700;
    let report = verify_rows(&stage.file, &stage.maker.issuers(), &mut |_, _| {
        for _ in 0..3 {
            let serial = stage.maker.issue(&ledger, next, stage.now());
            revoke(&ledger, serial, stage.now());
            next += 1;
        }
    });
    assert_eq!(report.unwrap().rows, 699);
    assert!(next > 703, "it has read in several ranges");
    drop(ledger);
    stage.verifies();
}
