//! The end of a journal, read without the rest of it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use pki::Digest;

use super::JournalProblem;
use super::event::JournalEvent;
use super::frame::{AuditPoint, BATCH_BEGINNING, BatchEnd, Header, LedgerId};
use crate::line::{LINE_BYTES_MAX, LineFault};

/// How much of the end is looked at first; four times as much each time, until the end of a batch is in it.
const LOOK_BYTES: u64 = 64 * 1_024;

/// The end of a journal.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) header: Header,
    /// Its last batch that is whole; `None` if it has none.
    pub(crate) last: Option<LastBatch>,
    /// Where that batch ends. What stands behind was never synced.
    pub(crate) end: u64,
    /// Bytes of the file.
    pub(crate) length: u64,
}

/// The last batch of a journal.
#[derive(Debug)]
pub(crate) struct LastBatch {
    pub(crate) end: BatchEnd,
    /// Where its first line begins.
    pub(crate) begin: u64,
    text: Vec<u8>,
}

impl Tail {
    /// Reads the first line and the last batch of a journal of this ledger. One batch behind it may be in parts: a power loss came before it was
    /// synced.
    pub(crate) fn read(file: &Path, ledger: LedgerId) -> Result<Self, JournalProblem> {
        let file = File::open(file).map_err(JournalProblem::File)?;
        let length = file.metadata().map_err(JournalProblem::File)?.len();
        let (header, header_bytes) = read_header(&file, ledger)?;
        let (mut until, mut in_parts) = (length, false);
        loop {
            let found = last_end(&file, header_bytes, until).map_err(JournalProblem::File)?;
            let Some((end, line_begin, line_end)) = found else {
                return Ok(Self { header, last: None, end: header_bytes, length });
            };
            let begin = u64::try_from(end.bytes).ok().and_then(|bytes| line_begin.checked_sub(bytes));
            if let Some(begin) = begin.filter(|begin| *begin >= header_bytes) {
                let text = read_range(&file, begin, line_begin).map_err(JournalProblem::File)?;
                if Digest::of(&text) == end.digest {
                    let last = Some(LastBatch { end, begin, text });
                    return Ok(Self { header, last, end: line_end, length });
                }
            }
            if in_parts {
                return Err(JournalProblem::Batch { line: 0 });
            }
            (until, in_parts) = (line_begin, true);
        }
    }

    /// The row of the audit up to which the journal lacks nothing.
    pub(crate) fn at(&self) -> AuditPoint {
        self.last.as_ref().map_or(self.header.after, |last| last.end.at)
    }
}

impl LastBatch {
    /// What its lines say.
    pub(crate) fn events(&self) -> Result<Vec<JournalEvent>, JournalProblem> {
        let fault = |fault| JournalProblem::Line { line: 0, fault };
        let text = std::str::from_utf8(&self.text).map_err(|_| fault(LineFault::NotJson))?;
        text.lines().map(|line| JournalEvent::read(line).map_err(fault)).collect()
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

/// The last line of a batch before this place, and where that line begins and ends.
fn last_end(file: &File, from: u64, until: u64) -> io::Result<Option<(BatchEnd, u64, u64)>> {
    let mut look = LOOK_BYTES;
    loop {
        let beginning = until.saturating_sub(look).max(from);
        let text = read_range(file, beginning, until)?;
        let mut end = text.len();
        while let Some(newline) = text[..end].iter().rposition(|octet| *octet == b'\n') {
            let start = text[..newline].iter().rposition(|octet| *octet == b'\n').map_or(0, |before| before + 1);
            // The first line may have begun before.
            if start == 0 && beginning > from {
                break;
            }
            let line = &text[start..newline];
            if line.starts_with(BATCH_BEGINNING.as_bytes())
                && let Some(last) = std::str::from_utf8(line).ok().and_then(|line| BatchEnd::read(line).ok())
            {
                let place = |at: usize| beginning + u64::try_from(at).unwrap_or(0);
                return Ok(Some((last, place(start), place(newline + 1))));
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
