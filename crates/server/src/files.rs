//! Files that somebody names: read as far as they may reach.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The whole of a file of at most `most` bytes. Not what its metadata says counts: a pipe has no length, and a device no end.
///
/// # Errors
/// `FileTooLarge` if there is more; else what the system says.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_just_the_size_is_read_and_one_byte_more_is_too_large() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"four").unwrap();
        assert_eq!(read_bounded(file.path(), 4).unwrap(), b"four");
        let fault = read_bounded(file.path(), 3).unwrap_err();
        assert_eq!((fault.kind(), fault.to_string().as_str()), (io::ErrorKind::FileTooLarge, "more than 3 bytes"));
        assert_eq!(read_bounded(Path::new("/dev/zero"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
