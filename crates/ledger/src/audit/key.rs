//! The key that signs checkpoints: the audit's own, never that of a CA.
//!
//! It is made at the first start, in a file that only its owner can read. Its public half is written beside it, for whoever verifies elsewhere.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pki::pem::{self, Label};
use pki::{Curve, Digest, PrivateKey, PublicKey, SigningKey};
use ring::rand::SystemRandom;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::paths::{sync_folder, with_suffix};

/// A key file has about a kilobyte; a larger file is the wrong one.
const BYTES_MAX: u64 = 64 * 1_024;

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Signs checkpoints and stubs.
#[derive(Debug)]
pub struct AuditKey {
    key: SigningKey,
    random: SystemRandom,
    id: Digest,
}

impl AuditKey {
    /// Reads the key in this file.
    ///
    /// # Errors
    /// [`KeyFileFault`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, KeyFileFault> {
        Self::try_read(path).map_err(|problem| KeyFileFault { path: path.to_owned(), problem })
    }

    /// Reads the key in this file, or makes one where there is no file. The public half stands in a file of the same name with `.pub` behind it.
    ///
    /// # Errors
    /// [`KeyFileFault`] names the file and what is wrong with it.
    pub fn read_or_make(path: &Path) -> Result<Self, KeyFileFault> {
        let fault = |problem| KeyFileFault { path: path.to_owned(), problem };
        if !path.try_exists().map_err(|error| fault(KeyFileProblem::File(error)))? {
            make(path).map_err(fault)?;
        }
        let key = Self::read(path)?;
        let public = public_path(path);
        if !public.exists() {
            let text = pem::encode(Label::PublicKey, key.key.spki());
            let written = write_whole(&public, text.as_bytes(), 0o644);
            written.map_err(|error| KeyFileFault { path: public, problem: KeyFileProblem::File(error) })?;
        }
        Ok(key)
    }

    fn try_read(path: &Path) -> Result<Self, KeyFileProblem> {
        let file = File::open(path).map_err(KeyFileProblem::File)?;
        // Of the open file, not of what may be at the path a moment later.
        let metadata = file.metadata().map_err(KeyFileProblem::File)?;
        if !metadata.is_file() || metadata.len() > BYTES_MAX {
            return Err(KeyFileProblem::NotAKey);
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(KeyFileProblem::Readable { mode: metadata.mode() & 0o7777 });
        }
        let size = usize::try_from(metadata.len()).unwrap_or(0);
        let mut text = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
        file.take(BYTES_MAX).read_to_end(&mut text).map_err(KeyFileProblem::File)?;
        let random = SystemRandom::new();
        let key = pem::private_key(&text).map_err(|_| KeyFileProblem::NotAKey)?;
        let key = SigningKey::from_pkcs8(key.pkcs8(), &random).map_err(|_| KeyFileProblem::NotAKey)?;
        let id = Digest::of(key.spki());
        Ok(Self { key, random, id })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> AuditPublicKey {
        AuditPublicKey { spki: self.key.spki().to_vec(), id: self.id }
    }

    /// Which key it is: the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The signature of this text, as DER.
    pub(crate) fn sign(&self, text: &str) -> Option<Vec<u8>> {
        self.key.sign(&self.random, text.as_bytes()).ok().map(|signature| signature.as_bytes().to_vec())
    }
}

/// Verifies checkpoints and stubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPublicKey {
    spki: Vec<u8>,
    id: Digest,
}

impl AuditPublicKey {
    /// Reads the public key in this file: PEM, a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyFileFault`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, KeyFileFault> {
        let fault = |problem| KeyFileFault { path: path.to_owned(), problem };
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text));
        read.map_err(|error| fault(KeyFileProblem::File(error)))?;
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(&text).map_err(|_| fault(KeyFileProblem::NotAKey))?;
        PublicKey::from_spki(&spki).map_err(|_| fault(KeyFileProblem::NotAKey))?;
        Ok(Self { id: Digest::of(&spki), spki: spki.to_vec() })
    }

    /// The SubjectPublicKeyInfo, DER: a server compares it with the keys of its CAs.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Which key it is: the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        PublicKey::from_spki(&self.spki).is_ok_and(|key| key.verify(text.as_bytes(), signature).is_ok())
    }
}

/// Where the public half of the key in this file stands.
#[must_use]
pub fn public_path(key: &Path) -> PathBuf {
    with_suffix(key, ".pub")
}

fn make(path: &Path) -> Result<(), KeyFileProblem> {
    let key = PrivateKey::generate(Curve::P256, &SystemRandom::new()).map_err(|_| KeyFileProblem::NoRandomness)?;
    write_whole(path, pem::encode_private_key(&key).as_bytes(), 0o600).map_err(KeyFileProblem::File)
}

/// Writes a file under another name first, so that a crash leaves either no file or a whole one, and makes its name durable.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = with_suffix(path, ".new");
    // What a crash left of an earlier attempt, with a mode of its own.
    if temporary.exists() {
        fs::remove_file(&temporary)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Why a key of the audit cannot be used.
#[derive(Debug)]
pub struct KeyFileFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: KeyFileProblem,
}

/// What is wrong with the file of a key of the audit.
#[derive(Debug)]
pub enum KeyFileProblem {
    /// It cannot be read or written.
    File(io::Error),
    /// Others can read it.
    Readable {
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key on P-256 or P-384 in PEM.
    NotAKey,
    /// The system provides no randomness.
    NoRandomness,
}

impl fmt::Display for KeyFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            KeyFileProblem::File(error) => write!(f, "the audit's key {path}: {error}"),
            KeyFileProblem::Readable { mode } => write!(
                f,
                "the audit's key {path} has mode {mode:04o}: others can read it. `chmod 600` it; if others could have read it, replace it"
            ),
            KeyFileProblem::NotAKey => write!(
                f,
                "the audit's key {path} is not a P-256 or P-384 key in PEM. Restore it from a backup, or move it away: the server then makes a new one"
            ),
            KeyFileProblem::NoRandomness => {
                write!(f, "cannot make the audit's key {path}: the system provides no randomness")
            }
        }
    }
}

impl std::error::Error for KeyFileFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            KeyFileProblem::File(error) => Some(error),
            KeyFileProblem::Readable { .. } | KeyFileProblem::NotAKey | KeyFileProblem::NoRandomness => None,
        }
    }
}
