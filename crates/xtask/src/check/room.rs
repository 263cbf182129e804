//! Room on the disk for what a full check builds. Without it parts fail one after the other, minutes into the run, by words of linkers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tree;

const MIB: u64 = 1 << 20;
/// What a full check leaves in the target directory, and room for what its parts write while they run.
const NEEDED: u64 = 8 << 10;
/// A unit of `st_blocks` in bytes, whatever the file system's blocks are (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Fails unless the target directory, with what it holds already, can grow to what a full check needs.
pub(super) fn check() -> Result<()> {
    let target = tree::target();
    let existing = target.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let disk =
        rustix::fs::statvfs(existing).with_context(|| format!("cannot ask for the room at {}", existing.display()))?;
    judge(&target, held(&target) / MIB, disk.f_bavail.saturating_mul(disk.f_frsize) / MIB)
}

fn judge(target: &Path, held_mib: u64, free_mib: u64) -> Result<()> {
    ensure!(
        held_mib + free_mib >= NEEDED,
        "the disk has {free_mib} MiB free, and {} holds {held_mib} MiB: a full check builds about {NEEDED} MiB there. Free some room, or set CARGO_TARGET_DIR to a disk that has it",
        target.display()
    );
    Ok(())
}

/// The bytes on the disk of all files below a folder. What cannot be read counts nothing.
fn held(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => held(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_named_with_the_remedy() {
        let target = Path::new("/build");
        assert!(judge(target, 0, NEEDED).is_ok());
        assert!(judge(target, NEEDED - 100, 100).is_ok(), "built already");
        let said = judge(target, 500, 4_000).unwrap_err().to_string();
        assert!(said.contains("4000 MiB free, and /build holds 500 MiB"), "{said}");
        assert!(said.contains("CARGO_TARGET_DIR"), "{said}");
    }

    #[test]
    fn a_folder_holds_what_is_below_it() {
        let folder = tree::scratch("room").unwrap();
        assert_eq!(held(&folder), 0);
        tree::write(&folder.join("deep/file"), &"x".repeat(100_000)).unwrap();
        assert!((100_000..200_000).contains(&held(&folder)), "{}", held(&folder));
        assert_eq!(held(&folder.join("nothing")), 0);
    }
}
