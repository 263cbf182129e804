//! The trust anchors of upstream CAs' HTTPS certificates: rustls verifies with them, so that they may have keys of any algorithm that it takes. Most
//! roots of web servers are RSA.

use std::fmt;
use std::path::Path;

use pki::ForeignRoot;
use rustls_pki_types::CertificateDer;
use tokio_rustls::rustls::{self, RootCertStore};

use super::dates::{DatedCertificate, Gravity};
use super::loading::Loading;
use super::warning::Warning;
use crate::config::{self, Problem, Read};

impl Loading {
    /// The certificates of a file that can be anchors of HTTPS; at least one. One that cannot is skipped with a warning that names it.
    pub(super) fn https_roots_in<T>(
        &mut self,
        named: &Read<T>,
        path: &Path,
        file: &Path,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let list = self.list(named, path, file)?;
        let path = config::from_file(file, path);
        let (mut roots, mut skipped) = (Vec::new(), Vec::new());
        for (number, der) in (1..).zip(list) {
            let der = CertificateDer::from(der);
            match https_root(&der) {
                Ok(root) => {
                    let dated = DatedCertificate::foreign(named, path.clone(), &der, root);
                    self.check_dates(named, dated, Gravity::Warning);
                    roots.push(der);
                }
                Err(why) => skipped.push(format!("certificate {number}: {why}")),
            }
        }
        if roots.is_empty() {
            let problem = Problem::Content { path, wanted: "usable CA certificate", reason: skipped.join("; ") };
            self.faults.push(named.fault(problem));
            return None;
        }
        self.warnings.extend(skipped.into_iter().map(|why| Warning {
            key: named.key.clone(),
            what: format!("{}: {why}", path.display()),
            remedy: "remove it from the file; no upstream CA is trusted by it",
        }));
        Some(roots)
    }
}

/// Whether rustls takes the certificate for an anchor, and whether it is a CA's: rustls does not look.
fn https_root(der: &CertificateDer<'static>) -> Result<ForeignRoot, HttpsRootFault> {
    RootCertStore::empty().add(der.clone()).map_err(HttpsRootFault::Rustls)?;
    let root = ForeignRoot::read(der).ok_or(HttpsRootFault::Unreadable)?;
    if root.is_ca { Ok(root) } else { Err(HttpsRootFault::NotACa(root.subject)) }
}

/// Why a certificate cannot be an anchor of HTTPS.
#[derive(Debug)]
enum HttpsRootFault {
    Rustls(rustls::Error),
    Unreadable,
    NotACa(String),
}

impl fmt::Display for HttpsRootFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustls(error) => write!(f, "it cannot be a trust anchor: {error}"),
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::NotACa(subject) => write!(f, "the certificate of {subject} is not a CA's"),
        }
    }
}

impl std::error::Error for HttpsRootFault {}
