//! What is wrong with a configuration: where, what, and how to correct it.

use std::fmt;
use std::path::{Path, PathBuf};

use pki::pem::PemError;

use super::flaw::ServerFlaw;
use crate::secret_file::SecretFault;
use crate::shell;

/// One fault. A configuration is read to its end, so that all of its faults are reported at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationFault {
    /// Where the value at fault comes from.
    pub place: Location,
    /// The dotted key, such as `server.listen`; empty if the fault concerns the file as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A line of the configuration file, counted from 1.
    Line(PathBuf, usize),
    /// The configuration file, if no line can be named.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// What can be wrong. Its text says what was found; [`Problem::remedy`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The file is not TOML.
    Syntax {
        /// What the parser said.
        message: String,
    },
    /// The key does not exist.
    UnknownKey {
        /// The most similar existing key, if one is similar.
        nearest: Option<String>,
        /// All keys of the section.
        known: Vec<String>,
    },
    /// A variable of the environment with our prefix whose name is not that of a key.
    UnknownVariable {
        /// The most similar known name, if one is similar.
        nearest: Option<String>,
    },
    /// A variable of the environment with our prefix whose name or value is not UTF-8.
    NotUtf8,
    /// The configuration itself cannot be read.
    NoConfiguration {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// A required key is missing.
    Missing {
        /// An example of what to write.
        example: &'static str,
    },
    /// The value is of another type.
    Type {
        /// What is wanted.
        wanted: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The value has the right type, but is not valid for this key.
    Value {
        /// What was found.
        found: String,
        /// What is wanted.
        wanted: String,
    },
    /// A number outside its bounds.
    Range {
        /// What was found.
        found: String,
        /// The smallest allowed value.
        min: String,
        /// The largest allowed value.
        max: String,
    },
    /// A feature that is not available in this version.
    NotAvailable {
        /// The feature.
        what: String,
        /// What to write instead.
        instead: &'static str,
    },
    /// A name that nothing defines.
    UnknownReference {
        /// The kind of section that the name refers to, such as `ca`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// Something occurs twice.
    Duplicate {
        /// What occurs twice.
        what: String,
        /// Where it occurs first.
        first: String,
    },
    /// A secret whose file cannot be used.
    Secret(SecretFault),
    /// A key that does not belong to the certificate.
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A file whose content is not what it should be.
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that holds something else, or in another form.
    Form {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What it contains instead.
        found: PemError,
    },
    /// A certificate that is outside its validity or will expire soon.
    Validity {
        /// The file.
        path: PathBuf,
        /// Whose it is, such as `CA`.
        whose: &'static str,
        /// How its dates relate to the clock.
        standing: ValidityProblem,
        /// The notAfter or notBefore in question, RFC 3339.
        at: String,
    },
    /// A server certificate that no device would trust.
    Server {
        /// The file.
        path: PathBuf,
        /// The reason.
        flaw: ServerFlaw,
    },
    /// A certificate of a CA's chain breaks a rule: its own, or for what a profile would issue below it.
    Chain {
        /// The file that it is in.
        path: PathBuf,
        /// The number of the certificate in that file, counted from 1.
        position: usize,
        /// Its subject.
        subject: String,
        /// The rule, as the end of a sentence about the certificate.
        rule: String,
        /// What to change.
        remedy: &'static str,
    },
    /// A value that contradicts another.
    Conflict {
        /// The contradiction.
        what: String,
        /// What to change.
        remedy: &'static str,
    },
}

/// The server's own certificate, as the owner in a [`Problem::Validity`].
pub(crate) const SERVER: &str = "server";
/// An issuing certificate in the server's chain, likewise.
pub(crate) const SERVER_ISSUER: &str = "server's issuing";

/// How a certificate's dates relate to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityProblem {
    /// Its notAfter has passed.
    Expired,
    /// Its notAfter is near.
    Expiring,
    /// Its notBefore has not come.
    NotYetValid,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            // The place names the file already.
            Self::NoConfiguration { error, .. } => write!(f, "cannot be read: {error}"),
            Self::Syntax { message } => write!(f, "not TOML: {message}"),
            Self::UnknownKey { .. } => f.write_str("unknown key"),
            Self::UnknownVariable { .. } => f.write_str("this variable does not match a configuration key"),
            Self::NotUtf8 => f.write_str("this variable is not UTF-8"),
            Self::Missing { .. } => f.write_str("missing"),
            Self::Type { wanted, found } => write!(f, "found {found}, expected {wanted}"),
            Self::Value { found, .. } => write!(f, "`{found}` is not a valid value"),
            Self::Range { found, .. } => write!(f, "{found} is out of range"),
            Self::NotAvailable { what, .. } => write!(f, "{what} is not available in this version"),
            Self::UnknownReference { kind, name, .. } => write!(f, "no {kind} is named `{name}`"),
            Self::Duplicate { what, first } => write!(f, "{what} is already used by {first}"),
            Self::Secret(fault) => fault.fmt(f),
            Self::KeyMismatch { certificate, key } => {
                write!(f, "{} is not the key of {}", key.display(), certificate.display())
            }
            Self::Content { path, wanted, reason } => write!(f, "{} is not a {wanted}: {reason}", path.display()),
            Self::Form { path, wanted, found } => {
                write!(f, "{} does not contain a {wanted}: {found}", path.display())
            }
            Self::Validity { path, whose, standing, at } => {
                let path = path.display();
                match standing {
                    ValidityProblem::Expired => write!(f, "the {whose} certificate {path} expired on {at}"),
                    ValidityProblem::Expiring => write!(f, "the {whose} certificate {path} expires on {at}"),
                    ValidityProblem::NotYetValid => {
                        write!(f, "the {whose} certificate {path} is not valid before {at}")
                    }
                }
            }
            Self::Server { path, flaw } => write!(f, "{}: {flaw}", path.display()),
            Self::Chain { path, position, subject, rule, .. } => {
                write!(f, "{}, certificate {position} (`{subject}`) {rule}", path.display())
            }
            Self::Conflict { what, .. } => f.write_str(what),
        }
    }
}

impl Problem {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreadable { .. } => {
                "give the path of a file that this user can read; relative paths count from the configuration file"
                    .into()
            }
            Self::NoConfiguration { path, .. } if path.is_dir() => {
                format!("give the path of the file in it: {}", shell::path(path.join("muster.toml")))
            }
            Self::NoConfiguration { .. } => {
                "give the path of a file that this user can read; `muster init DIR` writes DIR/muster.toml".into()
            }
            Self::Syntax { .. } => "see https://toml.io; `muster init` writes a commented example".into(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::UnknownKey { nearest: None, known } if known.is_empty() => "remove it".into(),
            Self::UnknownKey { nearest: None, known } => format!("remove it; known here: {}", known.join(", ")),
            Self::UnknownVariable { nearest: Some(nearest) } => format!("did you mean {nearest}?"),
            Self::UnknownVariable { nearest: None } => {
                "unset it; MUSTER_SERVER__LISTEN overrides `listen` in [server], with two underscores between the parts"
                    .into()
            }
            Self::NotUtf8 => "set it to UTF-8 text, or unset it".into(),
            Self::Missing { example } => format!("add `{example}`"),
            Self::Type { wanted, .. } => format!("write {wanted}"),
            Self::Value { wanted, .. } => format!("write {wanted}"),
            Self::Range { min, max, .. } => format!("choose between {min} and {max}"),
            Self::NotAvailable { instead, .. } => (*instead).into(),
            Self::UnknownReference { kind, known, .. } if known.is_empty() => format!("add a section [{kind}.NAME]"),
            Self::UnknownReference { known, .. } => format!("known: {}", known.join(", ")),
            Self::Duplicate { .. } => "remove one of them".into(),
            Self::Secret(fault) if fault.is_for_group() => format!(
                "{}; if the group belongs to the service alone, set `allow_group_readable_keys = true` in [server]",
                fault.remedy()
            ),
            Self::Secret(fault) => fault.remedy(),
            Self::KeyMismatch { .. } => "configure the key that belongs to the certificate; \
                 `openssl x509 -noout -pubkey -in CERT` and `openssl pkey -pubout -in KEY` must print the same"
                .into(),
            Self::Content { wanted, .. } => format!("give the path of a file with a {wanted}"),
            Self::Form { path, wanted, found } => match shell::conversion(found, path) {
                Some(command) => format!("`{command}` writes a file that can be read; configure that one"),
                None => format!("give the path of a file with a {wanted}"),
            },
            Self::Validity { standing: ValidityProblem::NotYetValid, .. } => {
                "check this machine's clock; if it is right, wait or renew the certificate".into()
            }
            Self::Validity { whose, standing: ValidityProblem::Expired, .. } if *whose == SERVER || *whose == SERVER_ISSUER => {
                "renew it, and check this machine's clock; if the devices do not check dates, `muster serve --allow-expired-server-certificate` starts with it".into()
            }
            Self::Validity { .. } => "renew it, and check this machine's clock".into(),
            Self::Server { flaw, .. } => flaw.remedy().into(),
            Self::Chain { remedy, .. } | Self::Conflict { remedy, .. } => (*remedy).into(),
        }
    }
}

impl fmt::Display for ConfigurationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    {}", self.problem, self.problem.remedy())
    }
}

impl ConfigurationFault {
    /// Logs the fault as one line.
    pub(crate) fn log(&self) {
        let (key, remedy) = (Some(self.key.as_str()).filter(|key| !key.is_empty()), self.problem.remedy());
        tracing::error!(place = %self.place, key, problem = %self.problem, remedy, "invalid configuration");
    }
}

/// All faults of one configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationFaults(pub Vec<ConfigurationFault>);

impl fmt::Display for ConfigurationFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigurationFaults {}

/// Resolves a path of the file, relative to the file's folder.
#[must_use]
pub fn from_file(file: &Path, path: &Path) -> PathBuf {
    file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}
