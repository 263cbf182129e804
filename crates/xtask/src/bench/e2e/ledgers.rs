//! The files of the ledgers that a run uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::process::Program;
use crate::tree;

/// Ten million rows are written in this time.
const FILL_TIMEOUT: Duration = Duration::from_secs(7200);
/// What decides how rows are written.
const CODE: &str = "crates/ledger/src";
/// The names that `muster init` gives them.
const LEDGER: &str = "ledger.db";
const JOURNAL: &str = "ledger.journal";

/// A ledger on disk and its journal, in a folder; or one in memory.
pub(in super::super) struct LedgerFiles {
    pub(in super::super) folder: Option<PathBuf>,
}

impl LedgerFiles {
    /// The environment of a server that uses them.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(folder) = &self.folder else { return vec![("MUSTER_LEDGER__URL", "memory:".to_owned())] };
        let [ledger, journal] = [LEDGER, JOURNAL].map(|name| folder.join(name).display().to_string());
        vec![("MUSTER_LEDGER__URL", format!("sqlite:{ledger}")), ("MUSTER_LEDGER__JOURNAL", journal)]
    }

    /// Bytes of the ledger and of its journal. A log that was not copied into the ledger counts as much as what it has.
    pub(super) fn sizes(&self) -> [u64; 2] {
        let size = |name: &str| {
            let file = self.folder.as_ref().map(|folder| folder.join(name));
            file.and_then(|file| file.metadata().ok()).map_or(0, |it| it.len())
        };
        [size(LEDGER), size(JOURNAL)]
    }

    /// By how many bytes they grew since.
    pub(super) fn growth(&self, since: [u64; 2]) -> [f64; 2] {
        let now = self.sizes();
        [0, 1].map(|index| float(now[index].saturating_sub(since[index])))
    }
}

#[allow(clippy::cast_precision_loss, reason = "the files of a measurement are far below 2^52 bytes")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// A folder of this name with the same files.
pub(super) fn copied(folder: &Path, name: &str) -> Result<PathBuf> {
    let copy = tree::scratch(name)?;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        std::fs::copy(file.path(), copy.join(file.file_name()))?;
    }
    Ok(copy)
}

/// The folder of a ledger with so many rows. It is filled once for each version of the code.
pub(super) fn filled(filler: &Path, rows: u64) -> Result<PathBuf> {
    let folder = tree::target().join("filled-ledgers").join(rows.to_string());
    let code = Program::new("git").args(["rev-parse", &format!("HEAD:{CODE}")]).directory(&tree::root());
    let code = code.expect_success()?.stdout;
    let mark = folder.join("filled");
    if std::fs::read_to_string(&mark).is_ok_and(|filled| filled == code) {
        return Ok(folder);
    }
    println!("   filling a ledger with {rows} rows in {} ...", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Program::new(filler).arg(&folder).arg(rows.to_string()).arg("fill").timeout(FILL_TIMEOUT).expect_success()?;
    std::fs::write(mark, code)?;
    Ok(folder)
}
