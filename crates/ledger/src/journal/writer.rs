//! Appends the lines of each batch, and makes them durable.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use authority::{Intent, Record, RelayId, RelayedCertificate, Revocation};
use pki::Digest;
use pki::issue::Serial;

use super::frame::{AuditPoint, BatchEnd, Header};
use super::{JournalFault, JournalProblem, JournalSettings, segments};
use crate::line;
use crate::paths::{sync_folder, with_suffix};
use crate::relay_line::{self, RelayRow};

/// Bytes of lines that are written at a time when rows are appended that the journal lacks.
const CHUNK_BYTES: usize = 1 << 20;

/// A journal that is open. After a fault it is opened anew, with the book that it belongs to.
pub(crate) struct JournalWriter {
    settings: JournalSettings,
    header: Header,
    file: File,
    /// Bytes of the file.
    length: u64,
    /// The last batch that was ended, or what stands before it.
    last: AuditPoint,
    /// The last batch of the file.
    written: AuditPoint,
    /// The batches that were ended and not written, and the lines of the open one.
    text: String,
    /// Where the lines of the open batch begin.
    begun: usize,
    lines: i64,
    /// The hash of the audit's row before that of the open batch.
    before: Digest,
}

impl JournalWriter {
    /// Opens a file of which everything up to `end` is good, and cuts off what stands behind.
    pub(crate) fn open(
        settings: &JournalSettings,
        header: Header,
        (last, end, length): (AuditPoint, u64, u64),
    ) -> io::Result<Self> {
        let file = locked(&settings.file)?;
        if end < length {
            file.set_len(end)?;
            file.sync_all()?;
        }
        Ok(Self {
            settings: settings.clone(),
            header,
            file,
            length: end,
            last,
            written: last,
            text: String::new(),
            begun: 0,
            lines: 0,
            before: last.hash,
        })
    }

    /// Begins a file that reaches `at` with what `rows` appends; it has its name once all of that is durable.
    pub(crate) fn begin<E: From<io::Error>>(
        settings: &JournalSettings,
        header: Header,
        at: AuditPoint,
        rows: impl FnOnce(&mut Filling) -> Result<(), E>,
    ) -> Result<Self, E> {
        let part = with_suffix(&settings.file, ".part");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        let mut filling =
            Filling { file, at, before: header.after.hash, text: String::new(), begun: 0, lines: 0, length: 0 };
        header.push(&mut filling.text);
        filling.begun = filling.text.len();
        let filled = rows(&mut filling).and_then(|()| Ok(filling.finish(at != header.after)?));
        let length = filling.length;
        drop(filling);
        if let Err(error) = filled {
            let _the_fault_is_reported = fs::remove_file(&part);
            return Err(error);
        }
        fs::rename(&part, &settings.file)?;
        sync_folder(&settings.file)?;
        let file = locked(&settings.file)?;
        Ok(Self {
            settings: settings.clone(),
            header,
            file,
            length,
            last: at,
            written: at,
            text: String::new(),
            begun: 0,
            lines: 0,
            before: at.hash,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.file
    }

    pub(crate) fn issued(&mut self, intent: &Intent, record: &Record) {
        line::push_issued(&mut self.text, intent, record);
        self.lines += 1;
    }

    pub(crate) fn abandoned(&mut self, intent: &Intent) {
        line::push_abandoned(&mut self.text, intent);
        self.lines += 1;
    }

    pub(crate) fn revoked(&mut self, serial: &Serial, revocation: &Revocation) {
        line::push_revoked(&mut self.text, serial, revocation);
        self.lines += 1;
    }

    pub(crate) fn relay_request(&mut self, row: &RelayRow) {
        relay_line::push_relay_request(&mut self.text, None, row);
        self.lines += 1;
    }

    pub(crate) fn relay_certificate(&mut self, of: &RelayedCertificate) {
        relay_line::push_relay_certificate(&mut self.text, None, of);
        self.lines += 1;
    }

    /// Both kinds of lines of this row.
    pub(crate) fn relay_row(&mut self, row: &RelayRow) {
        self.lines += relay_line::push_relay_row(&mut self.text, row);
    }

    pub(crate) fn relay_closed(&mut self, id: RelayId) {
        relay_line::push_relay_closed(&mut self.text, None, id);
        self.lines += 1;
    }

    /// Ends the batch with its row of the audit, and makes it durable. A batch without lines is not written.
    pub(crate) fn append(&mut self, at: AuditPoint) -> Result<(), JournalFault> {
        self.end(at);
        self.flush()
    }

    /// Ends a batch that is written with the ones behind it.
    pub(crate) fn end(&mut self, at: AuditPoint) {
        if self.lines > 0 {
            self.reach(at);
        }
    }

    /// Says that the journal lacks nothing up to this row of the audit, which may be one of refusals alone.
    pub(crate) fn reach(&mut self, at: AuditPoint) {
        if self.last != at {
            BatchEnd::of(&self.text[self.begun..], self.lines, at, self.before).push(&mut self.text);
            (self.lines, self.last, self.begun) = (0, at, self.text.len());
        }
    }

    /// The hash of the audit's row before that of the next batch.
    pub(crate) fn follows(&mut self, before: Digest) {
        self.before = before;
    }

    /// Whether so much waits that it is time to write it.
    pub(crate) fn is_long(&self) -> bool {
        self.text.len() >= CHUNK_BYTES
    }

    /// Writes the batches that were ended, and makes them durable.
    pub(crate) fn flush(&mut self) -> Result<(), JournalFault> {
        if self.text.is_empty() {
            return Ok(());
        }
        let written = self.write();
        written.map_err(|error| self.settings.fault(JournalProblem::File(error)))
    }

    fn write(&mut self) -> io::Result<()> {
        if self.length >= self.settings.segment_bytes {
            self.rotate()?;
        }
        self.file.write_all(self.text.as_bytes())?;
        self.file.sync_data()?;
        self.length += u64::try_from(self.text.len()).unwrap_or(0);
        self.written = self.last;
        self.text.clear();
        self.begun = 0;
        Ok(())
    }

    /// Closes the file and begins the next one. A crash between the two leaves no file, and the next start begins it.
    fn rotate(&mut self) -> io::Result<()> {
        let header = Header { after: self.written, ..self.header };
        segments::close(&self.settings.file, self.header.life, (self.header.after.sequence, self.written.sequence))?;
        let next = Self::begin(&self.settings, header, self.written, |_| io::Result::Ok(()))?;
        (self.file, self.length, self.header) = (next.file, next.length, header);
        Ok(())
    }
}

/// Opens a journal for this process alone: a copy of the ledger that names the same journal must not append to it.
fn locked(path: &Path) -> io::Result<File> {
    let file = File::options().append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process has it open")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A file that is being filled with rows that were there before.
pub(crate) struct Filling {
    file: File,
    /// The row of the audit up to which they are all of them.
    at: AuditPoint,
    before: Digest,
    text: String,
    /// Where the lines of the open batch begin.
    begun: usize,
    lines: i64,
    length: u64,
}

impl Filling {
    /// Where lines are appended; [`Filling::added`] says how many were.
    pub(crate) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    pub(crate) fn added(&mut self, lines: i64) -> io::Result<()> {
        self.lines += lines;
        if self.text.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.end();
        self.flush()
    }

    fn end(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        BatchEnd::of(&self.text[self.begun..], lines, self.at, self.before).push(&mut self.text);
    }

    fn finish(&mut self, has_batch: bool) -> io::Result<()> {
        if has_batch {
            self.end();
        }
        self.flush()?;
        self.file.sync_all()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(self.text.as_bytes())?;
        self.length += u64::try_from(self.text.len()).unwrap_or(0);
        self.text.clear();
        self.begun = 0;
        Ok(())
    }
}
