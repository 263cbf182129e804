//! `muster.toml`: it is read as a whole, every fault is explained, and every value keeps its origin.
//!
//! This module knows which keys exist and which values they accept. It opens no file but the configuration itself; `load` checks the files that
//! it names. Order of precedence: command line, environment (`MUSTER_SERVER__LISTEN`), file, default.
//!
//! ```text
//! text ──document──► tree with lines ──overlay──► + environment ──reader──► sections here ──► Configuration ──load──► Loaded
//!                                                                              └──► ConfigurationFaults (all of them)
//! ```

mod audit;
mod discovery;
mod document;
mod environment;
mod fault;
mod flaw;
mod https;
mod model;
mod nearest;
mod reader;
mod registrar;
mod sections;
mod urls;
mod value;
mod words;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::files::read_file;

pub use fault::{ConfigurationFault, ConfigurationFaults, Location, Problem, ValidityProblem, from_file};
pub(crate) use fault::{SERVER, SERVER_ISSUER};
pub use flaw::ServerFlaw;
pub use model::{
    AdminSection, AuditSection, AuditSyslog, AuthorityKind, CaSection, Configuration, CrlSection, DiscoverySection,
    DtlsSection, EstSection, ExpiredServer, HttpsSection, LedgerSection, LedgerUrl, LimitsSection, MetricsSection,
    ProfileSection, RegistrarSection, RelaySection, ServerSection, UpstreamSection,
};
pub use reader::{Effective, Read, ValueOrigin};
pub use value::SecretUri;

/// What a configuration is made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file; relative paths in it count from its folder.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// Environment variables. Every name that begins with `MUSTER_` must be known; the others are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Addresses of the command line, which replace the file's.
    pub listen: Option<Vec<SocketAddr>>,
    /// What the command line allows for an expired server certificate.
    pub expired_server: ExpiredServer,
}

impl Sources {
    /// A file's text and an environment, without a command line.
    #[must_use]
    pub fn new(file: PathBuf, text: String, environment: Vec<(OsString, OsString)>) -> Self {
        Self { file, text, environment, listen: None, expired_server: ExpiredServer::Refused }
    }

    /// Reads `file` and takes the environment of this process.
    ///
    /// # Errors
    /// One fault, if the file cannot be read.
    pub fn of(file: &Path) -> Result<Self, ConfigurationFaults> {
        let text = read_text(file).map_err(|error| {
            let problem = Problem::NoConfiguration { path: file.into(), error };
            ConfigurationFaults(vec![ConfigurationFault {
                place: Location::File(file.into()),
                key: String::new(),
                problem,
            }])
        })?;
        Ok(Self::new(file.into(), text, std::env::vars_os().collect()))
    }
}

/// A configuration of a thousand profiles is half of this; a larger file is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read_text(file: &Path) -> Result<String, String> {
    let bytes = read_file(file, FILE_BYTES_MAX);
    bytes.and_then(|bytes| std::io::read_to_string(bytes.as_slice())).map_err(|error| error.to_string())
}

/// Reads a configuration. The files it names are not opened.
///
/// # Errors
/// All faults of the configuration.
pub fn read(sources: &Sources) -> Result<Configuration, ConfigurationFaults> {
    let mut table = document::parse(&sources.file, &sources.text).map_err(ConfigurationFaults)?;
    let mut reader = reader::SectionReader::new(sources.file.clone());
    let variables = environment::Variables::of(&sources.environment);
    reader.faults = document::overlay(&mut table, &variables.overrides);
    let config = sections::read(&mut reader, &table, sources.listen.as_deref());
    let stray = variables.stray_faults(reader.effective.iter().map(|effective| effective.key.as_str()));
    reader.faults.extend(stray);
    match config {
        Some(config) if reader.faults.is_empty() => {
            Ok(Configuration { effective: reader.effective, expired_server: sources.expired_server, ..config })
        }
        _ => {
            debug_assert!(!reader.faults.is_empty(), "a value is missing and no fault says so");
            Err(ConfigurationFaults(reader.faults))
        }
    }
}

#[cfg(test)]
mod tests;
