//! A file that is written piece by piece, and appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::files::{parent, unwritable};
use crate::outcome::CommandResult;

/// See the module. It is readable by its owner alone, and removed if it is not finished.
pub(crate) struct WholeFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// Begins a file beside `path`.
    pub(crate) fn create(path: &Path) -> CommandResult<Self> {
        let file = NamedTempFile::with_prefix_in(".muster-", parent(path));
        let file = file.map_err(|source| unwritable(path, &source))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(file) })
    }

    /// Makes it durable, and gives it its name.
    pub(crate) fn finish(self) -> CommandResult {
        let path = self.path;
        let failed = |source: io::Error| unwritable(&path, &source);
        let file = self.out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        File::open(parent(&path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
