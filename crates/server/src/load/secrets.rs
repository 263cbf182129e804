//! Private keys and shared secrets: files that only their owner can read.

use std::path::{Path, PathBuf};

use dtls::CookieKeys;
use pki::{KeyEncryptionKeys, PrivateKey};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::loading::Loading;
use super::process::Process;
use crate::config::{self, Configuration, Problem, Read, SecretUri};
use crate::secret_file;

/// The minimum length of a cookie secret: the length of the key that is derived from it.
const COOKIE_SECRET_BYTES_MIN: usize = 32;

impl Loading {
    /// The cookie secret: shared by the nodes behind one address, or random for this process.
    pub(super) fn cookie(&mut self, config: &Configuration, process: &Process) -> Option<CookieKeys> {
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
        // The file is text or binary, of any length: it is hashed to one digest.
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Some(CookieKeys::shared(*secret, lifetime))
    }

    /// A private key, with the path of its file.
    pub(super) fn private_key(&mut self, named: &Read<SecretUri>, file: &Path) -> Option<(PrivateKey, PathBuf)> {
        let (text, path) = self.secret(named, file)?;
        match pki::pem::private_key(&text) {
            Ok(key) => Some((key, path)),
            Err(error) => {
                self.faults.push(named.fault(Problem::Form { path, wanted: PRIVATE_KEY, found: error }));
                None
            }
        }
    }

    /// The keys to which private keys can be encrypted.
    pub(super) fn key_encryption_keys(&mut self, named: &Read<SecretUri>, file: &Path) -> Option<KeyEncryptionKeys> {
        let (text, path) = self.secret(named, file)?;
        match KeyEncryptionKeys::parse(&text) {
            Ok(keys) => Some(keys),
            Err(error) => {
                let wanted = "list of key-encryption keys (an identifier and an AES key a line, in hex)";
                self.faults.push(named.fault(Problem::Content { path, wanted, reason: error.to_string() }));
                None
            }
        }
    }

    fn secret(&mut self, named: &Read<SecretUri>, file: &Path) -> Option<(Zeroizing<Vec<u8>>, PathBuf)> {
        let SecretUri::File(path) = &named.value;
        let path = config::from_file(file, path);
        match secret_file::read(&path, self.group_readable) {
            Ok(bytes) => Some((bytes, path)),
            Err(fault) => {
                self.faults.push(named.fault(Problem::Secret(fault)));
                None
            }
        }
    }
}

pub(super) const PRIVATE_KEY: &str = "private key on P-256 or P-384 (`-----BEGIN PRIVATE KEY-----`)";
