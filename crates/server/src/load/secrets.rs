//! Private keys and shared secrets: files that only their owner reads.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dtls::CookieKeys;
use pki::PrivateKey;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{Loading, Process};
use crate::config::{self, Config, Problem, Read, SecretUri};

/// A key file is a kilobyte; more is the wrong file.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// What a cookie secret must hold: as much as the key made of it.
const COOKIE_SECRET_BYTES_MIN: usize = 32;
/// Anybody but the owner.
const OTHERS: u32 = 0o077;

impl Loading {
    /// The secret of the cookies: shared by the nodes behind one address, or this process's own.
    pub(super) fn cookie(&mut self, config: &Config, process: &Process) -> Option<CookieKeys> {
        let lifetime = config.dtls.cookie_lifetime;
        let Some(named) = &config.dtls.cookie_secret else {
            return Some(CookieKeys::shared(*process.cookie_secret, lifetime));
        };
        let (bytes, path) = self.secret(named, &config.file)?;
        if bytes.len() < COOKIE_SECRET_BYTES_MIN {
            let reason = format!(
                "{} bytes are fewer than {COOKIE_SECRET_BYTES_MIN}; `openssl rand -out FILE 32` makes one",
                bytes.len()
            );
            self.faults.push(named.fault(Problem::Content { path, wanted: "cookie secret", reason }));
            return None;
        }
        // Text or binary, of any length: one digest.
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Some(CookieKeys::shared(*secret, lifetime))
    }

    /// A private key in PEM, PKCS #8, with the path it came from.
    pub(super) fn private_key(&mut self, named: &Read<SecretUri>, file: &Path) -> Option<(PrivateKey, PathBuf)> {
        let (text, path) = self.secret(named, file)?;
        match pki::pem::private_key(&text) {
            Ok(key) => Some((key, path)),
            Err(error) => {
                self.faults.push(named.fault(Problem::Content {
                    path,
                    wanted: PRIVATE_KEY,
                    reason: error.to_string(),
                }));
                None
            }
        }
    }

    fn secret(&mut self, named: &Read<SecretUri>, file: &Path) -> Option<(Zeroizing<Vec<u8>>, PathBuf)> {
        let SecretUri::File(path) = &named.value;
        let path = config::from_file(file, path);
        match read_secret(&path) {
            Ok(bytes) => Some((bytes, path)),
            Err(problem) => {
                self.faults.push(named.fault(problem));
                None
            }
        }
    }
}

pub(super) const PRIVATE_KEY: &str = "private key in PKCS #8 (`-----BEGIN PRIVATE KEY-----`)";

/// The mode is that of the file that is open, not of what may lie at the path a moment later. A link is followed once; whatever has no end, or keeps its
/// reader waiting, is not read.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable { path: path.into(), error: error.to_string() };
    let other = |reason: String| Problem::Content { path: path.into(), wanted: "secret", reason };
    // A pipe without a writer would hold up an open that waits.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(other("it is a folder; name the file in it".into()));
    }
    if !metadata.is_file() {
        return Err(other("it is a pipe or a device; write the secret to a file of mode 0600 and name that".into()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    // What systemd's LoadCredential= writes: root's, read by the service through its group or an ACL.
    let credential = owner == 0 && mode & !0o440 == 0 && is_credential(&file);
    if mode & OTHERS != 0 && !credential {
        // `chmod` follows a link, to a file that somebody else may have meant otherwise.
        return Err(match std::fs::symlink_metadata(path) {
            Ok(named) if named.is_symlink() => other(format!(
                "it is a link to a file of mode {mode:04o}, which others can read; `install -m 600` makes a copy to name here"
            )),
            _ => Problem::SecretReadable { path: path.into(), mode },
        });
    }
    if owner != own && owner != 0 {
        return Err(other(format!(
            "it belongs to another user (uid {owner}; this is uid {own}), who can change it; `install -m 600 -o {own}` makes a copy to name here"
        )));
    }
    if metadata.len() > SECRET_FILE_BYTES_MAX {
        return Err(other(format!("{} bytes are more than any secret has", metadata.len())));
    }
    // At its full size from the start: a growing buffer would leave copies behind.
    let size = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(SECRET_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Whether the open file lies in the folder that the service manager made for this service (systemd.exec(5), `$CREDENTIALS_DIRECTORY`).
fn is_credential(file: &File) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").and_then(|folder| std::fs::canonicalize(folder).ok());
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    folder.zip(real).is_some_and(|(folder, real)| real.starts_with(folder))
}
