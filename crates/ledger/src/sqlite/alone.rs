//! The writer's work on the thread that calls, without queues: for instruction counts, which see one thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use authority::{Intended, Record, Recorded, Reserve};
use pki::issue::NodePrefix;

use super::book::Book;
use super::connect::connect_writer;
use super::index::Unmerged;
use super::schema::{self, Meta};
use crate::fault::OpenProblem;
use crate::serial::{SERIAL_KEY_BYTES, SerialCipher};

/// A ledger without threads. Its serial numbers are those of its key.
pub struct Alone(Book);

impl Alone {
    /// A ledger in a new file, which merges its indexes from so many entries on.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn create(file: &Path, serial_key: [u8; SERIAL_KEY_BYTES], young_max: usize) -> Result<Self, OpenProblem> {
        super::create(file)?;
        let mut connection = connect_writer(file)?;
        schema::prepare(&mut connection, &Meta { serial_key, complete_since: 0 })?;
        let serials = Arc::new(SerialCipher::new(&serial_key));
        let remembered = (serials, Arc::new(Unmerged::new(young_max)));
        Ok(Self(Book::new(connection, remembered, NodePrefix::new(1))?))
    }

    /// Reserves these rows in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn intend(&mut self, rows: &[Reserve]) -> Result<Vec<Intended>, OpenProblem> {
        self.0.begin()?;
        let answers = rows.iter().map(|row| self.0.intend(row, 0)).collect::<Result<_, _>>()?;
        self.0.commit()?;
        Ok(answers)
    }

    /// Records these certificates in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn record(&mut self, rows: &[Record]) -> Result<Vec<Recorded>, OpenProblem> {
        self.0.begin()?;
        let answers = rows.iter().map(|row| self.0.record(row)).collect::<Result<_, _>>()?;
        self.0.commit()?;
        Ok(answers)
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").finish_non_exhaustive()
    }
}
