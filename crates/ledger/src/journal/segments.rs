//! The names of closed segments.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::paths::{folder_of, sync_folder, with_suffix};

/// A closed segment of a journal, as its name says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) life: i64,
    /// The row of the audit before its first batch.
    pub(crate) first: i64,
    /// The row of the audit of its last batch.
    pub(crate) last: i64,
    pub(crate) file: PathBuf,
}

/// The closed segments beside a journal, in their order.
pub(crate) fn closed(journal: &Path) -> io::Result<Vec<Segment>> {
    let Some(name) = journal.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let folder = match fs::read_dir(folder_of(journal)) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for found in folder {
        let file = found?.path();
        let numbers = file.file_name().and_then(|found| found.to_str()?.strip_prefix(name)?.strip_prefix('.'));
        if let Some((life, first, last)) = numbers.and_then(numbers_of) {
            segments.push(Segment { life, first, last, file });
        }
    }
    segments.sort();
    Ok(segments)
}

fn numbers_of(name: &str) -> Option<(i64, i64, i64)> {
    let (life, rows) = name.split_once('.')?;
    let (first, last) = rows.split_once('-')?;
    Some((life.parse().ok()?, first.parse().ok()?, last.parse().ok()?))
}

/// Closes a journal: renames it, durably. A name that is taken, by a file that was closed and brought back, gets another last number.
pub(crate) fn close(journal: &Path, life: i64, (first, last): (i64, i64)) -> io::Result<PathBuf> {
    let name = |last: i64| with_suffix(journal, &format!(".{life}.{first:012}-{last:012}"));
    let mut closed = name(last);
    let mut next = last;
    while closed.exists() {
        next += 1;
        closed = name(next);
    }
    fs::rename(journal, &closed)?;
    sync_folder(journal)?;
    Ok(closed)
}
