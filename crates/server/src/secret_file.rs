//! Private keys and shared secrets: files that only their owner can read, or also a group that the operator has allowed (E75).
//!
//! Mode and owner are checked on the open file, not on what may be at the path a moment later. The open follows a symbolic link once; files that
//! never end or that block their reader are not read. The server and the device-side commands read their keys through this module.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{files, shell};

/// A key file has about a kilobyte; a larger file is the wrong one.
const BYTES_MAX: u64 = 64 * 1024;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// The most that a secret of root may allow its group when group-readable secrets are accepted: to read.
const ROOT_AND_GROUP: u32 = 0o640;

/// Whether a secret that root owns may be readable by its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupReadable {
    /// Only in `$CREDENTIALS_DIRECTORY`: the service manager writes its files as root and gives the service access through a group or an ACL.
    #[default]
    InCredentials,
    /// Anywhere: the operator states that the group belongs to the service.
    Anywhere,
}

/// Why a secret file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFault {
    /// The path, as the caller gave it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: SecretFlaw,
}

/// What is wrong with a secret file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFlaw {
    /// It cannot be opened or read.
    Unreadable {
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The message of the system's error.
        error: String,
    },
    /// It is a folder.
    Folder,
    /// It is a pipe or a device.
    NotAFile,
    /// Its owner is neither this user nor root.
    OtherOwner {
        /// The owner of the file.
        owner: u32,
        /// The user of this process.
        own: u32,
    },
    /// Users other than its owner can read it.
    Readable {
        /// Its permission bits.
        mode: u32,
    },
    /// Root owns it, and other users, this one included, can read it.
    OfRoot {
        /// Its permission bits.
        mode: u32,
        /// The user of this process.
        own: u32,
    },
    /// The path is a symbolic link to a file that other users can read.
    LinkToReadable {
        /// The permission bits of that file.
        mode: u32,
        /// The user of this process.
        own: u32,
    },
    /// It is longer than any secret.
    TooLarge {
        /// Its length.
        bytes: u64,
    },
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.flaw {
            SecretFlaw::Unreadable { error, .. } => write!(f, "cannot read {path}: {error}"),
            SecretFlaw::Folder => write!(f, "{path} is not a secret file: it is a folder"),
            SecretFlaw::NotAFile => write!(f, "{path} is not a secret file: it is a pipe or a device"),
            SecretFlaw::OtherOwner { owner, own } => {
                write!(
                    f,
                    "{path} contains a secret and belongs to another user (uid {owner}; this process is uid {own}), who can change it"
                )
            }
            SecretFlaw::Readable { mode } | SecretFlaw::OfRoot { mode, .. } => {
                write!(f, "{path} contains a secret and has mode {mode:04o}: others can read it")
            }
            SecretFlaw::LinkToReadable { mode, .. } => {
                write!(f, "{path} is a link to a file of mode {mode:04o}, which others can read")
            }
            SecretFlaw::TooLarge { bytes } => {
                write!(f, "{path} is not a secret file: {bytes} bytes are more than any secret has")
            }
        }
    }
}

impl std::error::Error for SecretFault {}

impl SecretFault {
    /// Whether [`GroupReadable::Anywhere`] would allow the file to be read.
    pub(crate) fn is_for_group(&self) -> bool {
        matches!(self.flaw, SecretFlaw::OfRoot { mode, .. } if mode & !ROOT_AND_GROUP == 0)
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let path = shell::path(&self.path);
        match &self.flaw {
            SecretFlaw::Unreadable { kind: io::ErrorKind::PermissionDenied, .. } => {
                "a private key must be readable by its owner only: run as that user".into()
            }
            SecretFlaw::Unreadable { .. } => "give the path of a file that this user can read".into(),
            SecretFlaw::Folder => "give the path of the file in it".into(),
            SecretFlaw::NotAFile => "write the secret to a file of mode 0600 and configure that file".into(),
            // As root there are two remedies: the owner of the file may be right and the user of the process wrong.
            SecretFlaw::OtherOwner { owner, own: 0 } => {
                format!("run as its owner (`sudo -u '#{owner}' ...`), or, if root should hold it, `chown 0 {path}`")
            }
            SecretFlaw::OtherOwner { own, .. } => {
                format!("as root, `install -m 600 -o {own} {path} COPY`; configure the copy")
            }
            SecretFlaw::Readable { .. } => {
                format!("`chmod 600 {path}`; if others could have read it, replace the key")
            }
            // `chmod 600` would also deny this user access.
            SecretFlaw::OfRoot { own, .. } => format!(
                "as root, `install -m 600 -o {own} {path} COPY` and configure the copy, or let the service manager pass it (systemd's LoadCredential=)"
            ),
            // `chmod` follows the link, and the mode of the target may be intended.
            SecretFlaw::LinkToReadable { own, .. } => {
                format!("`install -m 600 -o {own} {path} COPY`; configure the copy")
            }
            SecretFlaw::TooLarge { .. } => "configure the file that contains the key".into(),
        }
    }
}

/// Reads a secret, or reports why it cannot be used.
///
/// # Errors
/// [`SecretFault`]; nothing was read then.
pub fn read(path: &Path, group: GroupReadable) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    let fault = |flaw| SecretFault { path: path.into(), flaw };
    let unreadable = |error: io::Error| fault(SecretFlaw::Unreadable { kind: error.kind(), error: error.to_string() });
    let (file, metadata) = files::open(path).map_err(unreadable)?;
    if let Some(flaw) = flaw(path, &file, &metadata, group) {
        return Err(fault(flaw));
    }
    // Allocated at its full size: a buffer that grows would leave copies of the secret in memory.
    let size = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn flaw(path: &Path, file: &File, metadata: &Metadata, group: GroupReadable) -> Option<SecretFlaw> {
    if metadata.is_dir() {
        return Some(SecretFlaw::Folder);
    }
    if !metadata.is_file() {
        return Some(SecretFlaw::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    // The owner is checked first: a user who does not own a file cannot follow advice about its mode.
    if owner != own && owner != 0 {
        return Some(SecretFlaw::OtherOwner { owner, own });
    }
    let of_group = owner == 0 && mode & !ROOT_AND_GROUP == 0;
    let allowed = of_group && (group == GroupReadable::Anywhere || is_credential(file));
    if mode & OTHERS != 0 && !allowed {
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|named| named.is_symlink());
        return Some(match () {
            () if is_link => SecretFlaw::LinkToReadable { mode, own },
            () if own != owner => SecretFlaw::OfRoot { mode, own },
            () => SecretFlaw::Readable { mode },
        });
    }
    (metadata.len() > BYTES_MAX).then_some(SecretFlaw::TooLarge { bytes: metadata.len() })
}

/// Whether the open file is in the folder that the service manager made for this service (systemd.exec(5), `$CREDENTIALS_DIRECTORY`).
fn is_credential(file: &File) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| Path::new(folder).is_absolute());
    let folder = folder.and_then(|folder| std::fs::canonicalize(folder).ok());
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    folder.zip(real).is_some_and(|(folder, real)| real.starts_with(folder))
}
