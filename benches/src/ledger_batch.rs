//! One batch of rows on a small ledger in a file, on the thread that measures.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use authority::{Intended, Record, Recorded, Reserve};
use ledger::serial::SerialCipher;
use ledger::sqlite::alone::Alone;

use crate::Fleet;

const SERIAL_KEY: [u8; 16] = [7; 16];
/// Rows before the batch that is measured, and the entries of the indexes that are merged at a time: some are in memory, some in the tables.
const ROWS: u64 = 4_096;
const YOUNG_MAX: usize = 1_024;
const FILL_ROWS: u64 = 256;
/// The batches of this process: each has a folder of its own.
static BATCHES: AtomicU32 = AtomicU32::new(0);

/// A ledger, and the rows that are written to it while it is measured.
pub struct LedgerBatch {
    ledger: Alone,
    reserves: Vec<Reserve>,
    records: Vec<Record>,
    folder: PathBuf,
}

impl LedgerBatch {
    /// A ledger with some thousand rows, and so many rows to write.
    ///
    /// # Panics
    /// If the ledger cannot be written.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
    pub fn new(rows: u64) -> Self {
        // Names of one length: SQLite copies them, and each byte is an instruction.
        let number = BATCHES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("muster-ledger-{:07}-{number:06}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let ledger = Alone::create(&folder.join("ledger.db"), SERIAL_KEY, YOUNG_MAX).expect("a new ledger");
        let mut batch = Self { ledger, reserves: Vec::new(), records: Vec::new(), folder };
        for first in (0..ROWS).step_by(usize::try_from(FILL_ROWS).expect("a small number")) {
            batch.take(first, FILL_ROWS);
            batch = batch.run();
        }
        batch.take(ROWS, rows);
        batch
    }

    fn take(&mut self, first: u64, rows: u64) {
        let (fleet, cipher) = (Fleet::of(ROWS), SerialCipher::new(&SERIAL_KEY));
        let issuance = |row| fleet.issuance_with(row, |node, random| cipher.serial(node, row + 1, random));
        (self.reserves, self.records) =
            (first..first + rows).map(issuance).map(|rows| (rows.reserve, rows.record)).unzip();
    }

    /// Writes the rows: intents, then certificates.
    ///
    /// # Panics
    /// If the ledger cannot be written, or refuses a row.
    #[must_use]
    pub fn run(mut self) -> Self {
        self.intend();
        self.record();
        self
    }

    /// Writes the intents.
    ///
    /// # Panics
    /// If the ledger cannot be written, or refuses a row.
    pub fn intend(&mut self) {
        let intended = self.ledger.intend(&self.reserves).expect("intents are written");
        assert!(intended.iter().all(|answer| matches!(answer, Intended::Reserved)), "a row is refused");
    }

    /// Writes the certificates, whose intents have to be written.
    ///
    /// # Panics
    /// If the ledger cannot be written, or refuses a row.
    pub fn record(&mut self) {
        let recorded = self.ledger.record(&self.records).expect("certificates are written");
        assert!(recorded.iter().all(|answer| *answer == Recorded::Durable), "a certificate is refused");
    }
}

impl Drop for LedgerBatch {
    fn drop(&mut self) {
        // The folder is one of temporary files.
        #[allow(clippy::disallowed_methods, reason = "as above")]
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
