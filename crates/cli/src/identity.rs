//! The identity and the trust anchors of a device: `--identity`, `--cert` with `--key`, `--trust`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use est::{AnchorDatabase, ServerVerifier};
use pki::chain::{AnchorError, AnchorSet};
use pki::{Certificate, PrivateKey, ServerName, SigningKey};
use ring::rand::SystemRandom;

use crate::arguments::Connection;
use crate::outcome::{CommandFault, CommandResult, say};
use crate::pem;

/// The certificates and the key that a device presents.
pub(crate) struct Identity {
    /// Its own certificate.
    pub(crate) leaf: Certificate,
    /// What it presents: its own certificate first, then the other certificates of its file.
    chain: Vec<Vec<u8>>,
    /// Its private key.
    key: PrivateKey,
}

impl Identity {
    /// The identity of the command line; `None` if no option names one.
    pub(crate) fn of(connection: &Connection) -> CommandResult<Option<Self>> {
        match (&connection.identity, &connection.cert, &connection.key) {
            (Some(dir), ..) => {
                let (certificate, key) = files_of(dir)?;
                Self::read(&certificate, &key).map(Some)
            }
            (None, Some(certificate), Some(key)) => Self::read(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    /// The identity of the command line, for verbs that require one.
    pub(crate) fn required(connection: &Connection) -> CommandResult<Self> {
        Self::of(connection)?.ok_or_else(|| {
            CommandFault::usage("missing device identity")
                .remedy("add --identity DIR (a folder with idevid.pem and idevid.key), or --cert FILE --key FILE")
        })
    }

    /// The identity of these two files.
    pub(crate) fn read(certificate: &Path, key_file: &Path) -> CommandResult<Self> {
        let (leaf, chain) = pem::read_identity(certificate)?;
        let key = pem::read_private_key(key_file)?;
        let signing = signing_key(&key, key_file)?;
        if leaf.spki() != signing.spki() {
            return Err(CommandFault::failed(format!(
                "{} is not the key of {}",
                key_file.display(),
                certificate.display()
            ))
            .remedy("the first certificate of the file must be the device's own"));
        }
        Ok(Self { leaf, chain, key })
    }

    /// A copy of its private key, wiped when it is dropped.
    pub(crate) fn private_key(&self) -> PrivateKey {
        PrivateKey::from_pkcs8(self.key.pkcs8().to_vec())
    }

    /// The same identity as DTLS's type.
    pub(crate) fn dtls(&self) -> CommandResult<Arc<dtls::Identity>> {
        est::identity(self.chain.clone(), self.key.pkcs8(), &net::SystemRandom::new())
            .map_err(|fault| CommandFault::failed(format!("the device's identity cannot be used: {fault}")))
    }
}

/// The key as a signing key; an error names `file`.
pub(crate) fn signing_key(key: &PrivateKey, file: &Path) -> CommandResult<SigningKey> {
    SigningKey::from_pkcs8(key.pkcs8(), &SystemRandom::new()).map_err(|fault| {
        CommandFault::failed(format!("{} does not contain a usable private key: {fault}", file.display()))
    })
}

/// An enrolled device uses its issued certificate, a new one its manufacturer certificate.
fn files_of(dir: &Path) -> CommandResult<(PathBuf, PathBuf)> {
    let names = [("device.pem", "device.key"), ("idevid.pem", "idevid.key")];
    names
        .into_iter()
        .map(|(certificate, key)| (dir.join(certificate), dir.join(key)))
        .find(|(certificate, _)| certificate.exists())
        .ok_or_else(|| {
            CommandFault::failed(format!("{} contains neither device.pem nor idevid.pem", dir.display()))
                .remedy("`muster init DIR` writes DIR/device with an IDevID; `muster enroll --out DIR` writes device.pem and device.key")
        })
}

/// The file with the trust anchors for the server, and the option that named it: `--trust`, else the file that an earlier enrolment wrote beside the
/// identity.
pub(crate) fn anchors_file(connection: &Connection) -> Option<(PathBuf, &'static str)> {
    match (&connection.trust, &connection.identity) {
        (Some(file), _) => Some((file.clone(), "--trust")),
        (None, Some(dir)) => Some((dir.join("anchors.pem"), "--identity")).filter(|(file, _)| file.exists()),
        (None, None) => None,
    }
}

/// The trust anchors for a server.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    certificates: Vec<Arc<Certificate>>,
    database: AnchorDatabase,
    /// The server was found by discovery: whoever answered chose which one it is.
    found: bool,
}

impl Trust {
    /// The certificates of a file: those of `--trust` are of the Implicit database, those that a CA has sent are of the Explicit one (RFC 7030 §3.6).
    pub(crate) fn read(path: &Path, named_by: &str, database: AnchorDatabase) -> CommandResult<Self> {
        Ok(Self { certificates: pem::read_trust(path, named_by)?, database, found: false })
    }

    /// The same for a server that was found by discovery: the client's hello names the anchors (RFC 7925 §4.4.6), and a server without a configured
    /// name has to be a registration authority of the device's own CA.
    pub(crate) fn of_found_server(self) -> Self {
        Self { found: true, ..self }
    }

    /// Of which database they are.
    pub(crate) const fn database(&self) -> AnchorDatabase {
        self.database
    }

    /// What verifies the server that is dialled as `name`; `configured` says that this name is not the one that an answer picked.
    pub(crate) fn verifier(self, name: ServerName<'static>, configured: bool) -> Result<ServerVerifier, AnchorError> {
        let verifier = match self.database {
            AnchorDatabase::Implicit => ServerVerifier::new(self.certificates, name),
            AnchorDatabase::Explicit if self.found && !configured => {
                ServerVerifier::registration_authority(AnchorSet::sort(&self.certificates))
            }
            AnchorDatabase::Explicit => ServerVerifier::explicit(AnchorSet::sort(&self.certificates), name),
        };
        if self.found { verifier.map(ServerVerifier::naming_its_anchors) } else { verifier }
    }
}

/// The trust anchors for the server.
pub(crate) fn anchors(connection: &Connection) -> CommandResult<Trust> {
    let (path, named_by) = anchors_file(connection).ok_or_else(|| {
        CommandFault::usage("missing --trust: which CA verifies the server?")
            .remedy("add --trust FILE, such as ca/root.pem from `muster init`")
    })?;
    let database = if connection.trust.is_some() { AnchorDatabase::Implicit } else { AnchorDatabase::Explicit };
    let beside = connection.identity.as_deref().map(|dir| dir.join("anchors.pem")).filter(|file| file.exists());
    if let Some(file) = beside.filter(|_| database == AnchorDatabase::Implicit) {
        say!("muster: --trust is used instead of {}, the anchors of the device's own CA", file.display());
    }
    Trust::read(&path, named_by, database)
}
