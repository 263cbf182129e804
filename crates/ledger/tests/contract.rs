//! A ledger in SQLite does what every ledger has to do.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use authority::Ledger;
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use rustls_pki_types::UnixTime;

#[test]
fn the_contract_of_every_ledger_holds() {
    let folders = RefCell::new(Vec::new());
    let make = || -> Arc<dyn Ledger> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        folders.borrow_mut().push(folder);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
        Arc::new(SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, now).unwrap())
    };
    sim::ledger_contract::holds(&make);
}
