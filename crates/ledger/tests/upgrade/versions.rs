//! Which versions of the tables are used, and which are refused by name.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use authority::{Ledger, RelayLedger};
use ledger::fault::OpenProblem;
use ledger::migrate::migrate;
use ledger::sqlite::schema::{SCHEMA_VERSION, SCHEMA_VERSION_MAX, SCHEMA_VERSION_MIN, require};
use ledger::sqlite::{Fresh, connect, connect_beside};
use ledger::{OpenFault, SqliteLedger};
use pki::UnixTime;
use rusqlite::Connection;

use crate::VERSION_1;
use crate::release_before::{self, APPLICATION_ID};

/// A database in the mode that SQLite begins with, which names this version.
fn write_version(file: &Path, application: i32, version: u32) {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch(VERSION_1).unwrap();
    connection.pragma_update(None, "application_id", application).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
}

pub(crate) fn open(file: &Path) -> Result<SqliteLedger, OpenFault> {
    SqliteLedger::open(
        file,
        Fresh { serial_key: [7; 16] },
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000)),
    )
}

pub(crate) fn version(file: &Path) -> u32 {
    Connection::open(file).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// Each table, index and view, with its text.
pub(crate) fn tables(connection: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_new_ledger_has_every_table_of_the_release_before_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    release_before::create(&old);
    drop(open(&new).unwrap());
    assert_eq!(version(&new), SCHEMA_VERSION);
    let new = tables(&Connection::open(&new).unwrap());
    for table in tables(&Connection::open(&old).unwrap()) {
        assert!(new.contains(&table), "{table:?}");
    }
}

#[test]
fn a_file_of_the_release_before_is_used_as_it_is() {
    assert_eq!(SCHEMA_VERSION_MIN, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    release_before::create(&file);
    let before = tables(&Connection::open(&file).unwrap());
    let ledger = open(&file).unwrap();
    assert_eq!(ledger.complete_since().unwrap().as_secs(), 1_000, "it is not taken for a new one");
    drop(ledger);
    assert_eq!(version(&file), 1, "a start does not migrate");
    assert_eq!(tables(&Connection::open(&file).unwrap()), before);
}

#[test]
fn what_needs_the_newer_tables_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    release_before::create(&file);
    let connection = connect_beside(&file).unwrap();
    let problem = require(&connection, 2).unwrap_err();
    assert!(matches!(problem, OpenProblem::NeedsMigration { found: 1, needed: 2 }), "{problem:?}");
    assert!(problem.to_string().contains("version 1") && problem.to_string().contains("`muster ledger migrate`"));
    connection.pragma_update(None, "user_version", 2).unwrap();
    require(&connection, 2).unwrap();
}

#[test]
fn every_property_of_a_ledger_holds_on_every_version() {
    for version in SCHEMA_VERSION_MIN..=SCHEMA_VERSION_MAX {
        let folders = RefCell::new(Vec::new());
        let make = || {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ledger.db");
            release_before::create(&file);
            if version > SCHEMA_VERSION_MIN {
                migrate(&file, &mut |_| ControlFlow::Continue(())).unwrap();
            }
            if version == SCHEMA_VERSION_MAX {
                add_what_the_release_after_may_add(&file);
            }
            folders.borrow_mut().push(folder);
            Arc::new(open(&file).unwrap())
        };
        let of_ca = || -> Arc<dyn Ledger> { make() };
        let of_relay = || -> Arc<dyn RelayLedger> { make() };
        match version == SCHEMA_VERSION_MIN {
            true => {
                sim::ledger_contract::holds_before_migration(&of_ca);
                sim::relay_contract::holds_before_migration(&of_relay);
            }
            false => {
                sim::ledger_contract::holds(&of_ca);
                sim::relay_contract::holds(&of_relay);
            }
        }
    }
}

/// A ledger of version 2 that an earlier build made gets the tables of a relay with the first request.
#[test]
fn a_ledger_without_the_tables_of_a_relay_gets_them_when_it_relays() {
    let folders = RefCell::new(Vec::new());
    let make = || -> Arc<dyn RelayLedger> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        drop(open(&file).unwrap());
        let without = "DROP VIEW relayed; DROP TABLE relay_request; DROP TABLE relay_certificate";
        Connection::open(&file).unwrap().execute_batch(without).unwrap();
        folders.borrow_mut().push(folder);
        Arc::new(open(&file).unwrap())
    };
    sim::relay_contract::holds(&make);
}

/// A table, a column that may be absent in each table that gets rows, and its version.
pub(crate) fn add_what_the_release_after_may_add(file: &Path) {
    drop(open(file).unwrap());
    let connection = connect(file).unwrap();
    for table in [
        "meta",
        "party",
        "profile",
        "intent",
        "place",
        "of_device",
        "of_key",
        "certificate",
        "revocation",
        "audit",
        "tally",
        "crl_layout",
        "crl_list",
        "crl_entry",
        "crl_unfiled",
    ] {
        connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN of_3 INTEGER")).unwrap();
    }
    connection.execute_batch("CREATE TABLE of_3 (number INTEGER PRIMARY KEY) STRICT").unwrap();
    connection.pragma_update(None, "user_version", SCHEMA_VERSION_MAX).unwrap();
}

/// The file is refused, its fault names this, and not an octet of it is changed.
#[track_caller]
fn is_refused(application: i32, version: u32, names: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    write_version(&file, application, version);
    let before = fs::read(&file).unwrap();
    let faults = [open(&file).map(drop), connect(&file).map(drop), connect_beside(&file).map(drop)];
    for fault in faults.map(Result::unwrap_err) {
        let text = fault.to_string();
        assert!(text.contains(&file.display().to_string()), "{text}");
        for name in names {
            assert!(text.contains(name), "{text}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), before, "it is as it was");
    assert!(!file.with_extension("db-wal").exists() && !file.with_extension("db.audit.key").exists());
}

#[test]
fn a_version_that_is_not_known_is_refused_by_name_and_not_touched() {
    is_refused(APPLICATION_ID, SCHEMA_VERSION_MAX + 1, &["version 4", "up to 3"]);
    is_refused(APPLICATION_ID, u32::from(u16::MAX), &["version 65535"]);
    is_refused(APPLICATION_ID, 0, &["version 0", "from 1 on", "`muster ledger migrate`"]);
    is_refused(0, 0, &["another program"]);
    is_refused(0, 2, &["another program"]);
    is_refused(17, 2, &["another program"]);
}
