//! The issuing CAs: certificate chain, key, and whether they may still issue (TESTS E61: one that may not is a warning, and its profiles answer 5.03).

use std::path::Path;
use std::sync::Arc;

use authority::{Ca, KeyFault, RingSigner, Urls};

use super::{Gravity, Loading};
use crate::config::{self, CaSection, Problem, Read};

/// A CA that can issue.
pub(super) struct Authority {
    pub(super) ca: Arc<Ca>,
}

impl Loading {
    pub(super) fn authority(&mut self, section: &CaSection, file: &Path, signer: &mut RingSigner) -> Option<Authority> {
        let issuing = self.certificates(&section.certificate, &section.certificate.value, file);
        let above = match &section.root {
            Some(root) => self.certificates(root, &root.value, file),
            None => Some(Vec::new()),
        };
        let key = self.private_key(&section.key, file);
        let mut chain = issuing?;
        let above = above?;
        // A file that holds the chain already and a root beside it say the same thing twice.
        for certificate in above {
            if chain.iter().all(|known| known.digest() != certificate.digest()) {
                chain.push(certificate);
            }
        }
        let path = config::from_file(file, &section.certificate.value);
        for certificate in &chain {
            self.check_validity(&section.certificate, path.clone(), "CA", certificate, Gravity::Warning);
        }
        let urls = Urls {
            crl: text(section.crl_url.as_ref()),
            ca_issuers: text(section.ca_issuers_url.as_ref()),
            ocsp: text(section.ocsp_url.as_ref()),
        };
        let ca = match Ca::new(&section.name, chain, urls, section.verify_signatures) {
            Ok(ca) => Arc::new(ca),
            Err(fault) => {
                let problem = Problem::Content { path, wanted: "chain of CA certificates", reason: fault.to_string() };
                self.faults.push(section.certificate.fault(problem));
                return None;
            }
        };
        let (key, key_path) = key?;
        match signer.add(&ca, key) {
            Ok(()) => Some(Authority { ca }),
            Err(fault) => {
                let problem = match fault {
                    KeyFault::NotOfThisCertificate => Problem::KeyMismatch { certificate: path, key: key_path },
                    KeyFault::NotAKey => {
                        Problem::Content { path: key_path, wanted: "private key", reason: fault.to_string() }
                    }
                };
                self.faults.push(section.key.fault(problem));
                None
            }
        }
    }
}

fn text(url: Option<&Read<String>>) -> Option<String> {
    url.map(|url| url.value.clone())
}
