//! The writer's work on the thread that calls, without queues: for instruction counts, which see one thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use authority::{Begun, Intended, Record, Recorded, RelayRecord, RelayRequest, Relayed, Reserve, Revoke, Revoked};
use pki::issue::{NodePrefix, Serial};
use rusqlite::Error;

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
        self.written(|book| rows.iter().map(|row| book.intend(row, 0)).collect())
    }

    /// Records these certificates in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn record(&mut self, rows: &[Record]) -> Result<Vec<Recorded>, OpenProblem> {
        self.written(|book| rows.iter().map(|row| book.record(row)).collect())
    }

    /// Gives up these reservations in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn abandon(&mut self, rows: &[Serial]) -> Result<(), OpenProblem> {
        self.written(|book| rows.iter().try_for_each(|serial| book.abandon_serial(serial)))
    }

    /// Revokes these rows in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn revoke(&mut self, rows: &[Revoke]) -> Result<Vec<Revoked>, OpenProblem> {
        self.written(|book| rows.iter().map(|row| book.revoke(row)).collect())
    }

    /// Begins these requests to an upstream in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn relay_begin(&mut self, rows: &[RelayRequest]) -> Result<Vec<Begun>, OpenProblem> {
        Ok(self.written(|book| book.relay_begin(rows))?.unwrap_or_default())
    }

    /// Records these certificates of an upstream in one transaction.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn relay_record(&mut self, rows: &[RelayRecord]) -> Result<Vec<Relayed>, OpenProblem> {
        Ok(self.written(|book| book.relay_record(rows))?.unwrap_or_default())
    }

    fn written<T>(&mut self, write: impl FnOnce(&mut Book) -> Result<T, Error>) -> Result<T, OpenProblem> {
        self.0.begin()?;
        let answers = write(&mut self.0)?;
        self.0.commit()?;
        Ok(answers)
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").finish_non_exhaustive()
    }
}
