//! A ledger with a journal in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use authority::{Completion, Intended, Ledger, LedgerEntry, LedgerFault, Locator, Recorded, Revoke, Revoked};
use ledger::line::{RowEvent, RowLine};
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, JournalSettings, LedgerSettings, OpenFault, SqliteLedger};
use pki::issue::{NodePrefix, Serial};

use crate::sample::{self, NOW, utc};

/// Longer than any answer takes.
const ANSWER_TIME: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) settings: LedgerSettings,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let audit = AuditSettings::beside(&file, NodePrefix::new(1));
        let journal = Some(JournalSettings::beside(&file));
        Self { folder, settings: LedgerSettings { audit, journal } }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("ledger.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("ledger.journal")
    }

    pub(crate) fn try_open(&self) -> Result<SqliteLedger, OpenFault> {
        SqliteLedger::open_with(&self.file(), Fresh { serial_key: [7; 16] }, &self.settings, utc(NOW))
    }

    pub(crate) fn open(&self) -> SqliteLedger {
        self.try_open().unwrap()
    }

    pub(crate) fn open_at(&self, seconds: u64) -> SqliteLedger {
        let fresh = Fresh { serial_key: [7; 16] };
        SqliteLedger::open_with(&self.file(), fresh, &self.settings, utc(seconds)).unwrap()
    }

    /// The records of the audit.
    pub(crate) fn audit_records(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        let mut statement = connection.prepare("SELECT body FROM audit ORDER BY node, sequence").unwrap();
        let bodies = statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
        bodies.flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn open_without_journal(&self) -> SqliteLedger {
        let settings = LedgerSettings { journal: None, ..self.settings.clone() };
        SqliteLedger::open_with(&self.file(), Fresh { serial_key: [7; 16] }, &settings, utc(NOW)).unwrap()
    }

    /// The lines of the journal.
    pub(crate) fn lines(&self) -> Vec<String> {
        lines(&self.journal())
    }

    /// What the journal says about rows, in its order.
    pub(crate) fn events(&self) -> Vec<String> {
        self.lines().iter().filter_map(|line| event(line)).collect()
    }

    pub(crate) fn backup(&self, name: &str) {
        ledger::backup::backup(&self.file(), &self.path(name)).unwrap();
    }

    /// Puts a copy in the place of the ledger.
    pub(crate) fn restore(&self, name: &str) {
        for suffix in ["-wal", "-shm"] {
            let _there_may_be_none = fs::remove_file(self.path(&format!("ledger.db{suffix}")));
        }
        fs::copy(self.path(name), self.file()).unwrap();
    }
}

pub(crate) fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn event(line: &str) -> Option<String> {
    let RowLine { event, .. } = RowLine::read(line).ok()?;
    let kind = match event {
        RowEvent::Reserved(_) => "reserved",
        RowEvent::Issued(..) => "issued",
        RowEvent::Abandoned(_) => "abandoned",
        RowEvent::Revoked(..) => "revoked",
    };
    Some(format!("{kind} {}", event.serial()))
}

pub(crate) fn answer<T: Send + 'static>(
    ask: impl FnOnce(Completion<Result<T, LedgerFault>>),
) -> Result<T, LedgerFault> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv_timeout(ANSWER_TIME).unwrap()
}

pub(crate) fn reserve(ledger: &SqliteLedger, number: u64) -> Serial {
    let serial = ledger.draw(NodePrefix::new(1), [9; 16]);
    let row = sample::reserve(sample::intent(number, serial));
    let answers = answer(|done| ledger.intend(vec![row], done)).unwrap();
    assert!(matches!(answers[..], [Intended::Reserved]), "{answers:?}");
    serial
}

pub(crate) fn record(ledger: &SqliteLedger, number: u64, serial: Serial) {
    let recorded = answer(|done| ledger.record(vec![sample::record(number, serial)], done));
    assert_eq!(recorded, Ok(vec![Recorded::Durable]));
}

pub(crate) fn issue(ledger: &SqliteLedger, number: u64) -> Serial {
    let serial = reserve(ledger, number);
    record(ledger, number, serial);
    serial
}

pub(crate) fn revoke(ledger: &SqliteLedger, number: u64, serial: Serial) {
    let revoke = Revoke { row: Locator::Serial(serial), revocation: sample::revocation(number) };
    assert_eq!(answer(|done| ledger.revoke(vec![revoke], done)), Ok(vec![Revoked::Now]));
}

pub(crate) fn find(ledger: &SqliteLedger, serial: Serial) -> Option<LedgerEntry> {
    answer(|done| ledger.find(vec![Locator::Serial(serial)], done)).unwrap().swap_remove(0)
}

/// The row of this number is there, byte for byte, with its certificate.
pub(crate) fn is_whole(ledger: &SqliteLedger, number: u64, serial: Serial) {
    let row = find(ledger, serial).unwrap();
    assert_eq!(format!("{:?}", row.intent), format!("{:?}", sample::intent(number, serial)));
    assert_eq!(*row.issued().unwrap().as_ref(), sample::issued(number));
}
