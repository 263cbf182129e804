//! A ledger in a folder of its own, under a clock that the test sets, and ways to change its audit behind its back.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use authority::{
    Completion, Device, DeviceId, FactoryKeys, Function, Intended, Intent, Issued, Ledger, LedgerFault, NewRow, Origin,
    ProfileVersion, Record, Recorded, RefusalRecord, RepeatWindow, Reserve,
};
use ledger::SqliteLedger;
use ledger::audit::chain::AuditHead;
use ledger::audit::{AuditFault, AuditFlaw, AuditPublicKey, AuditReport, AuditSettings, VerifySources, verify};
use ledger::sqlite::{Fresh, connect};
use pki::issue::{NodePrefix, Serial};
use pki::{AnchorId, Digest, NameBuilder, UnixTime, Validity};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const NODE: u16 = 7;

pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) file: PathBuf,
    pub(crate) settings: AuditSettings,
    clock: Arc<AtomicU64>,
    numbers: Cell<u64>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let clock = Arc::new(AtomicU64::new(START));
        let told = Arc::clone(&clock);
        let settings = AuditSettings {
            clock: Arc::new(move || utc(told.load(Ordering::Relaxed))),
            ..AuditSettings::beside(&file, NodePrefix::new(NODE))
        };
        Self { folder, file, settings, clock, numbers: Cell::new(0) }
    }

    /// A ledger that has issued `certificates`, one a batch, and was closed.
    pub(crate) fn with(certificates: u64) -> Self {
        let stage = Self::new();
        let ledger = stage.open();
        for _ in 0..certificates {
            stage.issue(&ledger);
        }
        drop(ledger);
        stage
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// How many rows were reserved.
    pub(crate) fn issued(&self) -> u64 {
        self.numbers.get()
    }

    /// Goes on behind the rows of another stage.
    pub(crate) fn skip(&self, numbers: u64) {
        self.numbers.set(numbers);
    }

    pub(crate) fn open(&self) -> SqliteLedger {
        let fresh = Fresh { serial_key: [7; 16] };
        SqliteLedger::open_audited(&self.file, fresh, &self.settings, utc(self.now())).unwrap()
    }

    /// Reserves one row and does not go on.
    pub(crate) fn reserve(&self, ledger: &SqliteLedger) -> Intent {
        let number = self.numbers.get() + 1;
        self.numbers.set(number);
        let intent = self.intent(number, ledger.draw(NodePrefix::new(NODE), [5; 16]));
        let row = Reserve {
            intent: intent.clone(),
            factory_keys: FactoryKeys::Refused,
            new_row: NewRow::Allowed,
            certificates_max: 8,
        };
        let answers = ask(|done| ledger.intend(vec![row], done));
        assert!(matches!(answers[..], [Intended::Reserved]), "{answers:?}");
        intent
    }

    /// Issues one certificate: one row of the audit.
    pub(crate) fn issue(&self, ledger: &SqliteLedger) -> Intent {
        let intent = self.reserve(ledger);
        let certificate = intent.serial.as_bytes().to_vec();
        let issued = Issued {
            device: intent.device.clone(),
            profile: Arc::clone(&intent.profile),
            digest: Digest::of(&certificate),
            certificate,
            validity: intent.validity,
            at: intent.at,
        };
        let window = RepeatWindow::new(intent.at, Duration::from_secs(86_400), &intent.validity);
        let record = Record { serial: intent.serial, issued: Arc::new(issued), window };
        assert_eq!(ask(|done| ledger.record(vec![record], done)), [Recorded::Durable]);
        intent
    }

    fn intent(&self, number: u64, serial: Serial) -> Intent {
        let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
        let (device, csr) = (device(number), digest("csr"));
        Intent {
            serial,
            ca: AnchorId::from_bytes([2; 32]),
            to_be_signed: digest("to be signed"),
            function: Function::SimpleEnroll,
            profile: "meters".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            anchor: device.manufacturer,
            device,
            vouched_by: Origin::Manufacturer,
            client: digest("client"),
            factory_key: None,
            csr,
            spki: digest("key"),
            names: Digest::of(b"no names"),
            subject: NameBuilder::new().finish().unwrap(),
            validity: Validity { not_before: utc(self.now()), not_after: utc(self.now() + 900_000) },
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: utc(self.now()),
        }
    }

    pub(crate) fn refusal(&self, device_number: u64, reason: &'static str) -> RefusalRecord {
        RefusalRecord {
            reason,
            function: Function::SimpleEnroll,
            profile: "meters".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            device: Some(device(device_number)),
            client: Digest::of(&device_number.to_be_bytes()),
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: utc(self.now()),
        }
    }

    pub(crate) fn keys(&self) -> Vec<AuditPublicKey> {
        let mut public = self.settings.key.clone().into_os_string();
        public.push(".pub");
        vec![AuditPublicKey::read(&PathBuf::from(public)).unwrap()]
    }

    pub(crate) fn verify(&self) -> AuditReport {
        let (keys, checkpoints) = (self.keys(), vec![self.settings.checkpoints.clone()]);
        let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
        verify(&connect(&self.file).unwrap(), sources, &mut |_, _, _| ()).unwrap()
    }

    #[track_caller]
    pub(crate) fn verifies(&self) -> AuditReport {
        let report = self.verify();
        assert_eq!(report.fault, None);
        report
    }

    /// The row and what is wrong with it.
    #[track_caller]
    pub(crate) fn fault(&self) -> (i64, AuditFlaw) {
        let AuditFault { node, sequence, flaw } = self.verify().fault.expect("a fault is found");
        assert!(node == NODE || matches!(flaw, AuditFlaw::Checkpoint(_)), "{node}");
        (sequence, flaw)
    }

    pub(crate) fn sql(&self, sql: &str) {
        let changed = Connection::open(&self.file).unwrap().execute(sql, []).unwrap();
        assert!(changed > 0, "{sql}");
    }

    pub(crate) fn rows(&self) -> Vec<(i64, String)> {
        let connection = Connection::open(&self.file).unwrap();
        let mut statement = connection.prepare("SELECT sequence, body FROM audit ORDER BY sequence").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    /// Every record, each a JSON object.
    pub(crate) fn records(&self) -> Vec<Value> {
        let rows = self.rows();
        let lines = rows.iter().flat_map(|(_, body)| body.lines());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Computes every hash anew, as somebody with the file and without the key can.
    pub(crate) fn rehash(&self) {
        let connection = Connection::open(&self.file).unwrap();
        let mut statement =
            connection.prepare("SELECT sequence, at, records, body FROM audit ORDER BY sequence").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        let rows: Vec<(i64, i64, i64, String)> = rows.map(Result::unwrap).collect();
        let mut head = AuditHead::start(NodePrefix::new(NODE));
        for (sequence, at, records, body) in rows {
            let prev = head.hash;
            head = head.with_row(at, records, &body);
            let sql = "UPDATE audit SET prev = ?1, hash = ?2 WHERE sequence = ?3";
            let values = (&prev.as_bytes()[..], &head.hash.as_bytes()[..], sequence);
            assert_eq!(connection.execute(sql, values).unwrap(), 1);
        }
    }

    pub(crate) fn checkpoint_lines(&self) -> Vec<String> {
        fs::read_to_string(&self.settings.checkpoints).unwrap().lines().map(str::to_owned).collect()
    }
}

pub(crate) fn device(number: u64) -> Device {
    let id = DeviceId::new(&format!("device-{number}")).unwrap();
    Device { manufacturer: AnchorId::from_bytes([1; 32]), id }
}

pub(crate) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Waits for the answer of a ledger.
pub(crate) fn ask<T: Send + 'static>(ask: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> T {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap()
}

/// Waits until everything is written that was asked for, and until the writer has looked at the clock.
pub(crate) fn flush(ledger: &SqliteLedger) {
    for _ in 0..2 {
        ask(|done| ledger.flush(done));
    }
}
