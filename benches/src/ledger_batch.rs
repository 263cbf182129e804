//! One batch of rows on a small ledger in a file, on the thread that measures.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use authority::{
    Actor, Begun, Intended, Locator, Record, Recorded, RelayRecord, RelayRequest, Relayed, RepeatWindow, Reserve,
    Revocation, Revoke, Revoked,
};
use ledger::serial::SerialCipher;
use ledger::sqlite::alone::Alone;
use pki::issue::{RevocationReason, Serial};

use crate::Fleet;

const SERIAL_KEY: [u8; 16] = [7; 16];
/// Rows before the batch that is measured, and the entries of the indexes that are merged at a time: some are in memory, some in the tables.
const ROWS: u64 = 4_096;
const YOUNG_MAX: usize = 1_024;
const FILL_ROWS: u64 = 256;
/// How long a request to an upstream is repeated.
const REPEATED_FOR: Duration = Duration::from_secs(86_400);
/// The batches of this process: each has a folder of its own.
static BATCHES: AtomicU32 = AtomicU32::new(0);

/// A ledger, and the rows that are written to it while it is measured.
pub struct LedgerBatch {
    ledger: Alone,
    reserves: Vec<Reserve>,
    records: Vec<Record>,
    /// Certificates of the requests that [`Self::relay_begin`] has written.
    relayed: Vec<RelayRecord>,
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
        let mut batch = Self { ledger, reserves: Vec::new(), records: Vec::new(), relayed: Vec::new(), folder };
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

    /// Gives up the reservations, whose intents have to be written.
    ///
    /// # Panics
    /// If the ledger cannot be written.
    pub fn abandon(&mut self) {
        let serials: Vec<Serial> = self.reserves.iter().map(|reserve| reserve.intent.serial).collect();
        self.ledger.abandon(&serials).expect("reservations are given up");
    }

    /// Revokes the certificates, which have to be written, because their devices are retired: the list of compromised keys does not grow.
    ///
    /// # Panics
    /// If the ledger cannot be written, or does not have a row.
    pub fn revoke(&mut self) {
        let revoke = |record: &Record| Revoke {
            row: Locator::Serial(record.serial),
            revocation: Revocation {
                reason: RevocationReason::CessationOfOperation,
                at: record.issued.at,
                actor: Actor::server(),
            },
        };
        let rows: Vec<Revoke> = self.records.iter().map(revoke).collect();
        let revoked = self.ledger.revoke(&rows).expect("revocations are written");
        assert!(revoked.iter().all(|answer| *answer == Revoked::Now), "a row is not revoked");
    }

    /// Writes the same requests as a Registrar does, before they go to its upstream.
    ///
    /// # Panics
    /// If the ledger cannot be written, or refuses a request.
    pub fn relay_begin(&mut self) {
        let requests: Vec<RelayRequest> = self.reserves.iter().map(request).collect();
        let begun = self.ledger.relay_begin(&requests).expect("requests are written");
        let relayed = begun.iter().zip(&self.reserves).zip(&self.records).map(|((begun, reserve), record)| {
            let Begun::New(id) = *begun else { panic!("a request is refused: {begun:?}") };
            let (issued, window) = (Arc::clone(&record.issued), record.window);
            RelayRecord { id, issued, serial: record.serial.as_bytes()[..].into(), spki: reserve.intent.spki, window }
        });
        self.relayed = relayed.collect();
    }

    /// Writes the certificates that came back, whose requests have to be written.
    ///
    /// # Panics
    /// If the ledger cannot be written, or refuses a certificate.
    pub fn relay_record(&mut self) {
        let recorded = self.ledger.relay_record(&self.relayed).expect("certificates are written");
        assert!(!recorded.is_empty() && recorded.iter().all(|answer| *answer == Relayed::First), "{recorded:?}");
    }
}

fn request(reserve: &Reserve) -> RelayRequest {
    let intent = &reserve.intent;
    RelayRequest {
        function: intent.function,
        profile: Arc::clone(&intent.profile),
        device: intent.device.clone(),
        anchor: intent.anchor,
        vouched_by: intent.vouched_by,
        client: intent.client,
        csr: intent.csr,
        spki: Some(intent.spki),
        names: intent.names,
        upstream: Arc::from("upstream"),
        peer: intent.peer,
        at: intent.at,
        window: RepeatWindow::new(intent.at, REPEATED_FOR, &intent.validity),
        new_row: reserve.new_row,
        certificates_max: reserve.certificates_max,
    }
}

impl Drop for LedgerBatch {
    fn drop(&mut self) {
        // The folder is one of temporary files.
        #[allow(clippy::disallowed_methods, reason = "as above")]
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_row_is_written() {
        let mut issued = LedgerBatch::new(3);
        issued.intend();
        issued.record();
        issued.revoke();
        let mut given_up = LedgerBatch::new(3);
        given_up.intend();
        given_up.abandon();
        let mut relayed = LedgerBatch::new(3);
        relayed.relay_begin();
        relayed.relay_record();
    }
}
