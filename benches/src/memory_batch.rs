//! One batch of rows on the ledger in memory.

use authority::{Completion, Intended, Ledger, LedgerFault, MemoryLedger, Record, Recorded, Reserve};

use crate::Fleet;

/// Rows before the batch that is measured.
const ROWS: u64 = 4_096;

/// A ledger with some thousand rows, and the rows that are written to it while it is measured.
pub struct MemoryBatch {
    ledger: MemoryLedger,
    reserves: Vec<Reserve>,
    records: Vec<Record>,
}

impl MemoryBatch {
    /// So many rows to write.
    ///
    /// # Panics
    /// If the ledger refuses a row.
    #[must_use]
    pub fn new(rows: u64) -> Self {
        let all = usize::try_from(ROWS + rows).expect("a small number");
        let mut batch = Self { ledger: MemoryLedger::new(all), reserves: Vec::new(), records: Vec::new() };
        batch.take(0, ROWS);
        batch = batch.run();
        batch.take(ROWS, rows);
        batch
    }

    fn take(&mut self, first: u64, rows: u64) {
        let fleet = Fleet::of(ROWS);
        let issuances = (first..first + rows).map(|row| fleet.issuance(row, &self.ledger));
        (self.reserves, self.records) = issuances.map(|rows| (rows.reserve, rows.record)).unzip();
    }

    /// Writes the rows: intents, then certificates.
    ///
    /// # Panics
    /// If the ledger refuses a row.
    #[must_use]
    pub fn run(mut self) -> Self {
        let intended: Completion<Result<Vec<Intended>, LedgerFault>> = Box::new(|answers| {
            let answers = answers.expect("a ledger in memory answers");
            assert!(answers.iter().all(|answer| matches!(answer, Intended::Reserved)), "a row is refused");
        });
        self.ledger.intend(std::mem::take(&mut self.reserves), intended);
        let recorded: Completion<Result<Vec<Recorded>, LedgerFault>> = Box::new(|answers| {
            let answers = answers.expect("a ledger in memory answers");
            assert!(answers.iter().all(|answer| *answer == Recorded::Durable), "a certificate is refused");
        });
        self.ledger.record(std::mem::take(&mut self.records), recorded);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_recorded() {
        assert_eq!(MemoryBatch::new(3).run().ledger.issued_count(), 4_099);
    }
}
