//! The file of a ledger: that it is there if there was one, that it is the same one after a fault, and whose it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};
use tracing::warn;

use crate::audit::{AuditSettings, public_path};
use crate::fault::OpenProblem;
use crate::paths::folder_of;

/// The permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// What a ledger keeps outside of its file shows that there was one: a new one must not begin in its place. The disk may not be mounted, or somebody
/// removed the file. A key alone shows nothing, because an operator can have made it before the first start: with its public half it does, which a
/// start writes once the name of the ledger is durable.
pub(super) fn expect_ledger_of_audit(file: &Path, audit: &AuditSettings) -> Result<(), OpenProblem> {
    let is_written = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    // A new file has its first page before it has a log. A log without its file is what somebody left, and SQLite removes it.
    if is_written(file) {
        return Ok(());
    }
    let public = public_path(&audit.key);
    let (has_checkpoints, has_key) = (audit.checkpoints.exists(), audit.key.exists());
    // They are made after the name of the ledger is durable.
    let is_lost = is_written(&audit.checkpoints) || has_key && (has_checkpoints || public.exists());
    if !is_lost {
        return Ok(());
    }
    let kept = [&audit.checkpoints, &audit.key, &public].into_iter().filter(|path| path.exists()).cloned().collect();
    Err(OpenProblem::Missing { kept })
}

/// A file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(file)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// After a fault: whether the file of this name is still this one. A restored backup lacks rows, and another ledger has none of them.
    pub(super) fn expect(self, file: &Path) -> Result<(), String> {
        match Self::of(file) {
            Ok(found) if found == self => Ok(()),
            Ok(_) => Err(format!(
                "another file has the name {} since the server started. Put the ledger back, or start the server again with the file that is there",
                file.display()
            )),
            Err(error) => Err(format!("{}: {error}. Put the ledger back, or mount its disk", file.display())),
        }
    }
}

/// Creates the file if there is none, readable by its owner alone: it names every device, and has the key of the serial numbers.
pub(super) fn create(file: &Path) -> Result<(), OpenProblem> {
    open_or_create(File::options().write(true), file, 0o600, file).map_err(OpenProblem::File)?;
    warn_if_exposed(file);
    Ok(())
}

/// Others can read what only the owner should: a restored copy often has the wrong mode.
pub(super) fn warn_if_exposed(file: &Path) {
    let Ok(metadata) = fs::metadata(file) else { return };
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 {
        warn!(
            file = %file.display(),
            mode = format!("{mode:o}"),
            "other users can read the ledger, which names every device and has the key of its serial numbers. `chmod 600` it"
        );
    }
}

/// Opens a file of this mode, and creates it if there is none. It gets the owner of the ledger: a command that root runs must not leave a file that the
/// user of the server cannot open.
pub(super) fn open_or_create(options: &mut OpenOptions, path: &Path, mode: u32, ledger: &Path) -> io::Result<File> {
    // Asked before: the file may be the ledger itself.
    let owner = owner_to_be(ledger)?;
    match options.clone().create_new(true).mode(mode).open(path) {
        Ok(created) => {
            if let Some(owner) = owner {
                // The file itself and not its name, which another user may have changed meanwhile.
                fchown(&created, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))?;
            }
            Ok(created)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Gives files that were created by name to the owner of the ledger.
pub(super) fn give_to_owner(created: &[&Path], ledger: &Path) -> io::Result<()> {
    let Some(owner) = owner_to_be(ledger)? else { return Ok(()) };
    created.iter().try_for_each(|path| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())))
}

/// The owner of the ledger, or of its folder as long as there is no ledger; nothing if this process cannot give files away.
fn owner_to_be(ledger: &Path) -> io::Result<Option<Metadata>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    fs::metadata(ledger).or_else(|_| fs::metadata(folder_of(ledger))).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use pki::issue::NodePrefix;
    use rustls_pki_types::UnixTime;

    use super::super::{Fresh, SqliteLedger};
    use super::*;
    use crate::paths::with_suffix;

    fn open(file: &Path) -> Result<SqliteLedger, crate::OpenFault> {
        SqliteLedger::open(file, Fresh { serial_key: [7; 16] }, UnixTime::now())
    }

    #[test]
    fn no_new_ledger_begins_where_one_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let audit = AuditSettings::beside(&file, NodePrefix::new(0));
        drop(open(&file).unwrap());
        fs::rename(&file, folder.path().join("elsewhere")).unwrap();
        let fault = open(&file).unwrap_err().to_string();
        let checkpoints = audit.checkpoints.display().to_string();
        assert!(fault.contains("it does not exist, and ") && fault.contains(&checkpoints), "{fault}");
        assert!(!file.exists(), "nothing was made");
        fs::rename(folder.path().join("elsewhere"), &file).unwrap();
        drop(open(&file).unwrap());

        // The checkpoints were lost, too.
        fs::rename(&file, folder.path().join("elsewhere")).unwrap();
        fs::remove_file(&audit.checkpoints).unwrap();
        let (fault, public) = (open(&file).unwrap_err().to_string(), public_path(&audit.key));
        assert!(fault.contains("it does not exist, and files of its audit do"), "{fault}");
        assert!(fault.contains(&format!(" {} {}. ", audit.key.display(), public.display())), "{fault}");
        assert!(fault.contains("restore a backup; to begin a new ledger, move these files away"), "{fault}");
        assert!(!file.exists(), "nothing was made");

        // A key that was made before the first start, and the lock of a start that was interrupted.
        let folder = tempfile::tempdir().unwrap();
        let fresh = folder.path().join("ledger.db");
        fs::copy(&audit.key, AuditSettings::beside(&fresh, NodePrefix::new(0)).key).unwrap();
        fs::write(with_suffix(&fresh, ".lock"), "").unwrap();
        drop(open(&fresh).unwrap());
    }

    #[test]
    fn a_file_that_takes_the_name_is_not_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        fs::write(&file, "one").unwrap();
        let identity = FileIdentity::of(&file).unwrap();
        assert_eq!(identity.expect(&file), Ok(()));
        let aside = folder.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        assert!(identity.expect(&file).unwrap_err().contains("mount its disk"));
        fs::copy(&aside, &file).unwrap();
        assert!(identity.expect(&file).unwrap_err().contains("another file has the name"));
        fs::rename(&aside, &file).unwrap();
        assert_eq!(identity.expect(&file), Ok(()));
    }

    #[test]
    fn what_root_creates_belongs_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        const NOBODY: u32 = 65_534;
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let file = folder.path().join("ledger.db");
        for _ in 0..2 {
            let ledger = open(&file).unwrap();
            for entry in fs::read_dir(folder.path()).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.metadata().unwrap().uid(), NOBODY, "{:?}", entry.file_name());
            }
            drop(ledger);
            // A restored backup stands alone.
            fs::remove_file(with_suffix(&file, ".lock")).unwrap();
        }
    }
}
