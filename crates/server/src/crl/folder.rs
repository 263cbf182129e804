//! The folder with the revocation lists. A file appears whole or not at all, also when the power fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::files::read_file;

/// As long as a list can be.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What is being written. The name is not one of a list: these end in `.crl`.
const NEW: &str = "new";

pub(super) struct CrlFolder {
    path: PathBuf,
}

impl CrlFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder if it is absent.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// The file of this name; nothing if there is none that can be read.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        read_file(&self.path.join(name), FILE_BYTES_MAX).ok()
    }

    /// Puts a file in the place of another one. Its name is durable after [`CrlFolder::sync`].
    pub(super) fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let new = self.path.join(name).with_extension(NEW);
        let written = self.write(&new, contents).and_then(|()| fs::rename(&new, self.path.join(name)));
        if written.is_err() {
            // It takes room on a disk that may be full. What cannot be removed is overwritten by the next attempt.
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn write(&self, new: &Path, contents: &[u8]) -> io::Result<()> {
        match fs::remove_file(new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Everybody may read a revocation list. Nobody else's file is written to: the name is new.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(new)?;
        file.write_all(contents)?;
        file.sync_all()
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
