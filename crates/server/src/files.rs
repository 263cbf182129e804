//! Reads files that an operator names: up to a limit, and without waiting for them.
//!
//! Opening a named pipe blocks until a writer opens it, and reading it blocks until that writer closes it; a device may never end; opening a terminal
//! can make it the controlling terminal of this process. Such a path is refused by its file type. The daemon reads its files again on SIGHUP, so it
//! accepts regular files only ([`read_file`]). A command that runs once also accepts the pipe of a shell ([`read_file_or_pipe`]): `/dev/stdin` behind
//! `|` and `<(...)` are open already, and their other end has a writer.

use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a whole file of at most `most` bytes. The length in the metadata is not used: a file of `/proc` has the length 0.
///
/// # Errors
/// `FileTooLarge` if the file is longer, `IsADirectory`, `InvalidInput` with [`FileKindFault`] for anything else that is not a file; otherwise the
/// system's error.
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    match FileKindFault::of(metadata.file_type()) {
        Some(what) => Err(what.into()),
        None => bounded(file, most),
    }
}

/// Like [`read_file`], but also reads an anonymous pipe until its writer closes it.
///
/// # Errors
/// Those of [`read_file`]; for a pipe, `FileTooLarge` once more than `most` bytes have arrived.
pub fn read_file_or_pipe(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    match FileKindFault::of(metadata.file_type()) {
        Some(FileKindFault::NamedPipe) if is_without_name(&file) => {
            // The pipe has a writer that is slower than we are: the user of the shell asked for this wait.
            let flags = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
            bounded(file, most)
        }
        Some(what) => Err(what.into()),
        None => bounded(file, most),
    }
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Opens a path without blocking. The metadata is that of the open file, not of what may be at the path a moment later.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // A blocking open would wait for the writer of a pipe; a terminal would become the controlling terminal of this process.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match std::fs::metadata(path) {
        // The system's message would be "No such device or address".
        Ok(there) if there.file_type().is_socket() => FileKindFault::Socket.into(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Whether an open pipe was made by pipe(2): `/proc` shows such a pipe by a number, and one of mkfifo(3) by its path.
fn is_without_name(pipe: &File) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd()))
        .is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"pipe:["))
}

/// What the path leads to instead of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKindFault {
    /// A folder.
    Folder,
    /// A named pipe, which may never get a writer.
    NamedPipe,
    /// A socket.
    Socket,
    /// A terminal, a device such as `/dev/null`, or a disk.
    Device,
}

impl FileKindFault {
    fn of(kind: FileType) -> Option<Self> {
        match () {
            () if kind.is_file() => None,
            () if kind.is_dir() => Some(Self::Folder),
            () if kind.is_fifo() => Some(Self::NamedPipe),
            () if kind.is_socket() => Some(Self::Socket),
            () => Some(Self::Device),
        }
    }
}

impl fmt::Display for FileKindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "it is a folder",
            Self::NamedPipe => "it is a pipe, not a file",
            Self::Socket => "it is a socket, not a file",
            Self::Device => "it is a device, not a file",
        })
    }
}

impl std::error::Error for FileKindFault {}

impl From<FileKindFault> for io::Error {
    fn from(what: FileKindFault) -> Self {
        let kind =
            if what == FileKindFault::Folder { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
        Self::new(kind, what)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_of_just_the_size_is_read_and_one_byte_more_is_too_large() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"four").unwrap();
        for read in [read_file, read_file_or_pipe] {
            assert_eq!(read(file.path(), 4).unwrap(), b"four");
            let fault = read(file.path(), 3).unwrap_err();
            assert_eq!((fault.kind(), fault.to_string().as_str()), (io::ErrorKind::FileTooLarge, "more than 3 bytes"));
        }
    }

    #[test]
    fn e75_what_is_no_file_is_named_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        // A pipe that is held open but never written to does not block the read either.
        let held = folder.path().join("held");
        rustix::fs::mknodat(rustix::fs::CWD, &held, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let _writer = OpenOptions::new().read(true).write(true).open(&held).unwrap();
        for (path, said) in [
            (pipe.as_path(), "it is a pipe, not a file"),
            (&held, "it is a pipe, not a file"),
            (&socket, "it is a socket, not a file"),
            (folder.path(), "it is a folder"),
            (Path::new("/dev/zero"), "it is a device, not a file"),
        ] {
            for read in [read_file, read_file_or_pipe] {
                assert_eq!(read(path, 3).unwrap_err().to_string(), said, "{}", path.display());
            }
        }
    }

    #[test]
    fn the_pipe_of_a_shell_is_read_where_a_command_runs_once() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let path = Path::new(&path);
        assert_eq!(read_file(path, 4).unwrap_err().to_string(), "it is a pipe, not a file");
        std::thread::scope(|scope| {
            let read = scope.spawn(|| read_file_or_pipe(path, 8).unwrap());
            for part in [b"in ", b"two"] {
                writer.write_all(part).unwrap();
                std::thread::yield_now();
            }
            drop(writer);
            assert_eq!(read.join().unwrap(), b"in two");
        });
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"four").unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(read_file_or_pipe(Path::new(&path), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
