//! The file of single measurements, written while the fleet is at work: it appears when the run is over, whole, or not at all.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use loadgen::{SampleSender, SampleWriter};
use tempfile::NamedTempFile;

use crate::files::{self, Access};
use crate::outcome::CommandResult;

/// Where the lines go.
enum Place {
    /// To a file beside the target, which takes its name at the end.
    Beside(NamedTempFile),
    /// To what is there: a pipe or a device.
    There(File),
}

/// A file of single measurements, opened before the work whose result goes there.
pub(super) struct OpenSamples {
    place: Place,
    path: PathBuf,
}

impl OpenSamples {
    pub(super) fn open(path: &Path) -> CommandResult<Self> {
        let place = if files::is_no_regular_file(path) {
            Place::There(File::options().append(true).open(path).map_err(|source| files::unwritable(path, &source))?)
        } else {
            files::require_writable(path)?;
            Place::Beside(files::begin(path, Access::Public).map_err(|source| files::unwritable(path, &source))?)
        };
        Ok(Self { place, path: path.to_owned() })
    }

    /// Begins to write.
    pub(super) fn begin(self) -> CommandResult<(SampleSender, SamplesFile)> {
        let Self { place, path } = self;
        let file = match &place {
            Place::Beside(file) => file.as_file(),
            Place::There(file) => file,
        };
        let file = file.try_clone().map_err(|source| files::unwritable(&path, &source))?;
        let (sender, writer): (_, SampleWriter) = loadgen::samples();
        let thread = std::thread::spawn(move || writer.write_all(BufWriter::new(file)));
        Ok((sender, SamplesFile { thread, place, path }))
    }
}

/// A file of single measurements, written while the fleet is at work.
pub(super) struct SamplesFile {
    thread: std::thread::JoinHandle<std::io::Result<()>>,
    place: Place,
    path: PathBuf,
}

impl SamplesFile {
    /// Waits for the last line, and puts the file into its place; the senders are gone.
    pub(super) fn end(self) -> CommandResult {
        let Self { thread, place, path } = self;
        let written = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the writer panicked")));
        let placed = written.and_then(|()| match place {
            Place::Beside(file) => {
                file.as_file().sync_all()?;
                file.persist(&path).map(drop).map_err(|fault| fault.error)
            }
            Place::There(_) => Ok(()),
        });
        placed.map_err(|source| files::unwritable(&path, &source))
    }

    /// Waits for the last line of a run that has no result. What was at the target stays there.
    pub(super) fn abandon(self) {
        // The fault of the run says more than one of the writer.
        drop(self.thread.join());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_file_appears_at_the_end_and_the_old_one_stays_until_then() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("samples.csv");
        fs::write(&path, "of before\n").unwrap();
        let (sender, file) = OpenSamples::open(&path).unwrap().begin().unwrap();
        drop(sender);
        file.abandon();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(scratch.path())), ("of before\n", 1));
        let (sender, file) = OpenSamples::open(&path).unwrap().begin().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "of before\n", "a kill leaves it as it was");
        drop(sender);
        file.end().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(scratch.path())), (loadgen::SAMPLES_HEADER, 1));
    }

    #[test]
    fn a_pipe_is_written_to_and_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let there = path.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(there).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        let (sender, file) = OpenSamples::open(&path).unwrap().begin().unwrap();
        drop(sender);
        file.end().unwrap();
        assert_eq!((reader.join().unwrap().as_str(), names(scratch.path())), (loadgen::SAMPLES_HEADER, 1));
    }
}
