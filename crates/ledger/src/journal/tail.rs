//! The end of a journal, read without the rest of it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::JournalProblem;
use super::frame::{BATCH_BEGINNING, BatchEnd, Header, LedgerId};
use crate::line::{LINE_BYTES_MAX, LineFault, RowEvent, RowLine};

/// How much of the end is looked at first; four times as much each time, until the end of a batch is in it.
const LOOK_BYTES: u64 = 64 * 1_024;

/// The end of a journal.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) header: Header,
    /// Bytes of the first line.
    header_bytes: u64,
    /// Its last batch; `None` if it has none.
    pub(crate) last: Option<BatchEnd>,
    /// Where the last batch ends. What stands behind was never synced.
    pub(crate) end: u64,
    /// Bytes of the file.
    pub(crate) length: u64,
}

impl Tail {
    /// Reads the first line and the last batch of a journal of this ledger.
    pub(crate) fn read(file: &Path, ledger: LedgerId) -> Result<Self, JournalProblem> {
        let file = File::open(file).map_err(JournalProblem::File)?;
        let length = file.metadata().map_err(JournalProblem::File)?.len();
        let (header, header_bytes) = read_header(&file, ledger)?;
        let found = last_batch(&file, header_bytes, length).map_err(JournalProblem::File)?;
        let end = found.map_or(header_bytes, |(_, end)| end);
        Ok(Self { header, header_bytes, last: found.map(|(last, _)| last), end, length })
    }

    /// What the lines of the last batch say.
    pub(crate) fn events(&self, file: &Path) -> Result<Vec<RowEvent>, JournalProblem> {
        let Some(last) = &self.last else { return Ok(Vec::new()) };
        let file = File::open(file).map_err(JournalProblem::File)?;
        // The lines of the batch and its last one, counted from the end.
        let wanted = usize::try_from(last.lines).unwrap_or(usize::MAX).saturating_add(1);
        let mut look = LOOK_BYTES;
        let text = loop {
            let beginning = self.end.saturating_sub(look).max(self.header_bytes);
            let mut text = read_range(&file, beginning, self.end).map_err(JournalProblem::File)?;
            if beginning > self.header_bytes {
                // The first line may have begun before.
                let first = text.iter().position(|octet| *octet == b'\n').map_or(text.len(), |newline| newline + 1);
                text.drain(..first);
            }
            if beginning == self.header_bytes || text.iter().filter(|octet| **octet == b'\n').count() >= wanted {
                break text;
            }
            look = look.saturating_mul(4);
        };
        let text =
            std::str::from_utf8(&text).map_err(|_| JournalProblem::Line { line: 0, fault: LineFault::NotJson })?;
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() < wanted {
            return Err(JournalProblem::Batch { line: 0 });
        }
        let of_batch = &lines[lines.len() - wanted..lines.len() - 1];
        of_batch
            .iter()
            .map(|line| {
                RowLine::read(line).map(|line| line.event).map_err(|fault| JournalProblem::Line { line: 0, fault })
            })
            .collect()
    }
}

fn read_header(file: &File, ledger: LedgerId) -> Result<(Header, u64), JournalProblem> {
    let mut line = Vec::new();
    let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    BufReader::new(file).take(most).read_until(b'\n', &mut line).map_err(JournalProblem::File)?;
    let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
    let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
    Ok((Header::read(text.ok_or(JournalProblem::NotAJournal)?, ledger)?, bytes))
}

/// The last batch that is whole, and where it ends.
fn last_batch(file: &File, from: u64, length: u64) -> io::Result<Option<(BatchEnd, u64)>> {
    let mut look = LOOK_BYTES;
    loop {
        let beginning = length.saturating_sub(look).max(from);
        let text = read_range(file, beginning, length)?;
        // The first line may have begun before.
        let mut end = text.len();
        while let Some(newline) = text[..end].iter().rposition(|octet| *octet == b'\n') {
            let start = text[..newline].iter().rposition(|octet| *octet == b'\n').map_or(0, |before| before + 1);
            if start == 0 && beginning > from {
                break;
            }
            let line = &text[start..newline];
            if line.starts_with(BATCH_BEGINNING.as_bytes())
                && let Some(last) = std::str::from_utf8(line).ok().and_then(|line| BatchEnd::read(line).ok())
            {
                let end = beginning + u64::try_from(newline + 1).unwrap_or(0);
                return Ok(Some((last, end)));
            }
            end = start;
        }
        if beginning == from {
            return Ok(None);
        }
        look = look.saturating_mul(4);
    }
}

fn read_range(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
