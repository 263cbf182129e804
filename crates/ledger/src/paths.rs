//! Files that stand beside another file, and their folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The file of the same name with this text behind it.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The folder that the file is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of a file durable.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

/// Bytes that are free on the disk of a file, for users other than root.
pub(crate) fn free_bytes(file: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder_of(file))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
