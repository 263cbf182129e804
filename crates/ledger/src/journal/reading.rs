//! Reads a journal from its first line to its last, and checks that its batches are whole.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use pki::Digest;

use super::event::JournalEvent;
use super::frame::{AuditPoint, BATCH_BEGINNING, BatchEnd, Header, LedgerId};
use super::{JournalFault, JournalProblem};
use crate::line::{LINE_BYTES_MAX, LineFault};

/// A journal that is being read.
pub(crate) struct Reading<'f> {
    file: &'f Path,
    reader: BufReader<File>,
    pub(crate) header: Header,
    line: u64,
    /// Bytes that were read.
    pub(crate) bytes: u64,
}

/// One batch.
pub(crate) struct Batch {
    pub(crate) at: AuditPoint,
    pub(crate) events: Vec<JournalEvent>,
}

/// What comes next in a journal.
pub(crate) enum Next {
    Batch(Batch),
    /// Nothing: it ends behind a batch, or with so many lines of one that was never synced.
    End {
        unfinished: u64,
    },
}

impl<'f> Reading<'f> {
    pub(crate) fn open(file: &'f Path, ledger: LedgerId) -> Result<Self, JournalFault> {
        let fault = |problem| JournalFault { file: file.to_owned(), problem };
        let mut reader = BufReader::new(File::open(file).map_err(|error| fault(JournalProblem::File(error)))?);
        let mut line = Vec::new();
        read_line(&mut reader, &mut line).map_err(|error| fault(JournalProblem::File(error)))?;
        let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        let header = Header::read(text.ok_or(fault(JournalProblem::NotAJournal))?, ledger).map_err(fault)?;
        Ok(Self { file, reader, header, line: 1, bytes: u64::try_from(line.len()).unwrap_or(0) })
    }

    fn fault(&self, problem: JournalProblem) -> JournalFault {
        JournalFault { file: self.file.to_owned(), problem }
    }

    fn is_at_end(&mut self) -> Result<bool, JournalFault> {
        let file = self.file;
        let rest = self.reader.fill_buf();
        rest.map(<[u8]>::is_empty)
            .map_err(|error| JournalFault { file: file.to_owned(), problem: JournalProblem::File(error) })
    }

    /// Reads the next batch. A batch of a journal has at most some thousand lines.
    pub(crate) fn next(&mut self) -> Result<Next, JournalFault> {
        let (mut events, mut line, mut text_of_batch) = (Vec::new(), Vec::new(), Vec::new());
        // What is wrong with a line matters only if the batch comes to its end.
        let mut flaw = None;
        loop {
            line.clear();
            read_line(&mut self.reader, &mut line).map_err(|error| self.fault(JournalProblem::File(error)))?;
            self.bytes += u64::try_from(line.len()).unwrap_or(0);
            if line.is_empty() {
                let unfinished = if text_of_batch.is_empty() { 0 } else { events.len().max(1) };
                return Ok(Next::End { unfinished: u64::try_from(unfinished).unwrap_or(0) });
            }
            self.line += 1;
            let at = self.line;
            let Some(text) = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) else {
                flaw = flaw.or(Some((at, LineFault::NotJson)));
                text_of_batch.extend_from_slice(&line);
                continue;
            };
            if text.starts_with(BATCH_BEGINNING) {
                let is_whole = |end: &BatchEnd| end.digest == Digest::of(&text_of_batch);
                if !BatchEnd::read(text).is_ok_and(|end| is_whole(&end)) && self.is_at_end()? {
                    // A write that was never synced came to the disk in parts.
                    return Ok(Next::End { unfinished: u64::try_from(events.len().max(1)).unwrap_or(0) });
                }
                if let Some((line, fault)) = flaw {
                    return Err(self.fault(JournalProblem::Line { line, fault }));
                }
                let end = BatchEnd::read(text).map_err(|fault| self.fault(JournalProblem::Line { line: at, fault }))?;
                if usize::try_from(end.lines) != Ok(events.len()) || !is_whole(&end) {
                    return Err(self.fault(JournalProblem::Batch { line: at }));
                }
                return Ok(Next::Batch(Batch { at: end.at, events }));
            }
            text_of_batch.extend_from_slice(&line);
            match JournalEvent::read(text) {
                Ok(event) => events.push(event),
                Err(fault) => flaw = flaw.or(Some((at, fault))),
            }
        }
    }
}

/// Reads a line with its newline; one that is too long comes in parts, of which none is a line.
fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let most = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    reader.by_ref().take(most).read_until(b'\n', line)
}
