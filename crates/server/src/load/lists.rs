//! Files of certificates: trust anchors, and the server's own chains.
//!
//! A certificate that cannot be used is skipped with a warning that names it, as in the chain of a device: a root with an RSA key does not make the
//! rest of a bundle unusable. It is a fault only if no certificate is left, or if the first certificate of a chain cannot be read.

use std::path::Path;
use std::sync::Arc;

use pki::chain::{CertificateListError, Listed, PassedOver, Unusable};
use pki::{Certificate, Encoding};

use super::loading::Loading;
use super::warning::Warning;
use crate::config::{self, Problem, ProfileSection, Read};
use crate::files::read_file;

/// Enough for a thousand CA certificates; a larger file is the wrong one, or never ends.
const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;
const CERTIFICATE: &str = "certificate (`-----BEGIN CERTIFICATE-----`)";

/// What a file of certificates is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Trust anchors for devices or servers.
    Trust,
    /// Trust anchors of a profile, which defines how strictly their DER is read.
    Manufacturers,
    /// The server's own chain.
    Chain,
}

impl Loading {
    /// The certificates of a trust file that can be anchors; at least one. CA certificates are read strictly, whatever a profile allows its devices.
    pub(super) fn trusted_in<T>(&mut self, named: &Read<T>, path: &Path, file: &Path) -> Option<Vec<Arc<Certificate>>> {
        let list = self.list(named, path, file)?;
        let listed = Listed::anchors(&list, Encoding::Strict);
        self.take(named, &config::from_file(file, path), listed, Use::Trust).map(|listed| listed.certificates())
    }

    /// Like `anchors`, but for manufacturers, whose certificates are read as the profile reads those of its devices.
    pub(super) fn manufacturers_in(
        &mut self,
        section: &ProfileSection,
        path: &Path,
        file: &Path,
    ) -> Option<Vec<Arc<Certificate>>> {
        let named = &section.manufacturers;
        let list = self.list(named, path, file)?;
        let listed = Listed::anchors(&list, section.spec.profile.identity_encoding);
        self.take(named, &config::from_file(file, path), listed, Use::Manufacturers).map(|listed| listed.certificates())
    }

    /// A chain of the server's own: the contents of the file, and its readable certificates, which always include the first one.
    pub(super) fn chain_in<T>(&mut self, named: &Read<T>, path: &Path, file: &Path) -> Option<(Vec<Vec<u8>>, Listed)> {
        let list = self.list(named, path, file)?;
        let listed = Listed::chain(&list, Encoding::Strict);
        let listed = self.take(named, &config::from_file(file, path), listed, Use::Chain)?;
        Some((list, listed))
    }

    /// The readable certificates that may be above one of the server's own chains; at least one.
    pub(super) fn above_in<T>(&mut self, named: &Read<T>, path: &Path, file: &Path) -> Option<Listed> {
        let list = self.list(named, path, file)?;
        self.take(named, &config::from_file(file, path), Listed::readable(&list, Encoding::Strict), Use::Chain)
    }

    /// The certificates, in DER, of a file that a key names.
    pub(super) fn list<T>(&mut self, named: &Read<T>, path: &Path, file: &Path) -> Option<Vec<Vec<u8>>> {
        let path = config::from_file(file, path);
        let problem = match read_file(&path, CERTIFICATES_BYTES_MAX) {
            Ok(text) => match pki::pem::certificates(&text) {
                Ok(list) => return Some(list),
                Err(found) => Problem::Form { path, wanted: CERTIFICATE, found },
            },
            Err(error) => Problem::Unreadable { path, error: error.to_string() },
        };
        self.faults.push(named.fault(problem));
        None
    }

    /// Warns about each skipped certificate; if none is left, that is a fault.
    fn take<T>(
        &mut self,
        named: &Read<T>,
        path: &Path,
        listed: Result<Listed, CertificateListError>,
        used: Use,
    ) -> Option<Listed> {
        match listed {
            Ok(listed) => {
                let warnings = listed.passed_over.iter().map(|passed_over| Warning {
                    key: named.key.clone(),
                    what: format!("{}: {passed_over}", path.display()),
                    remedy: used.remedy(passed_over),
                });
                self.warnings.extend(warnings);
                Some(listed)
            }
            Err(nothing) => {
                let switched = nothing.passed_over.iter().map(|it| used.remedy(it)).find(|remedy| *remedy == SWITCH);
                let reason = switched.map_or_else(|| nothing.to_string(), |switch| format!("{nothing}; {switch}"));
                let wanted = if used == Use::Chain { CERTIFICATE } else { "usable CA certificate" };
                self.faults.push(named.fault(Problem::Content { path: path.to_owned(), wanted, reason }));
                None
            }
        }
    }
}

/// What to do about a manufacturer that only the other encoding can read.
const SWITCH: &str =
    "if the factory cannot replace it, set `identity_encoding = \"as_issued\"` in the profile to accept it";

impl Use {
    const fn remedy(self, passed_over: &PassedOver) -> &'static str {
        match (self, passed_over.reason) {
            (Self::Manufacturers, Unusable::NotStrict(_)) => SWITCH,
            (Self::Manufacturers, _) => "remove it from the file; devices whose path needs it are refused",
            (Self::Trust, _) => "remove it from the file; no path of this server needs it",
            (Self::Chain, _) => "remove it from the file, unless devices need it: no path that is verified here does",
        }
    }
}
