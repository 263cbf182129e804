//! The issuing CAs: certificate chain and key, and a trial of what their profiles would issue.
//!
//! A chain is verified from its certificates alone (E49), without the key. Whether its CA may still issue is checked separately: if it may not, that
//! is a warning, and its profiles answer 5.03 (E61).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{
    Ca, CaFault, CaKeyFault, CaProfile, ChainRule, ProbeFault, ProbeRule, Profile, RingSigner, RolloverFault, Urls,
};
use pki::Certificate;
use pki::chain::{Member, PassedOver};

use super::dates::{CertificateRole, Gravity};
use super::loading::Loading;
use super::secrets::PRIVATE_KEY;
use super::warning::Warning;
use crate::config::{self, CaSection, Configuration, Problem, Read};

/// The file of each certificate of a chain, and the position in that file, counted from 1.
type Places = Vec<(PathBuf, usize)>;

/// What was read from the files of a CA.
struct CaFiles {
    chain: Vec<Arc<Certificate>>,
    places: Places,
    /// What could not be read from these files.
    passed_over: Vec<(PathBuf, PassedOver)>,
}

/// A CA whose chain is valid.
pub(super) struct LoadedCa {
    pub(super) ca: Arc<Ca>,
    places: Places,
}

impl LoadedCa {
    fn problem(&self, index: usize, rule: String, remedy: &'static str) -> Option<Problem> {
        problem(self.ca.chain(), &self.places, index, rule, remedy)
    }
}

impl Loading {
    pub(super) fn authority(
        &mut self,
        section: &CaSection,
        config: &Configuration,
        signer: &mut RingSigner,
    ) -> Option<LoadedCa> {
        let (file, writes_crls) = (&config.file, config.crl.is_some());
        let CaFiles { chain, places, passed_over } = self.chain(section, file)?;
        let urls = Urls {
            crl: section.crl_url.as_ref().map(|url| url.value.clone()),
            ca_issuers: text(section.ca_issuers_url.as_ref()),
            ocsp: text(section.ocsp_url.as_ref()),
        };
        let ca = Ca::new(&section.name, chain.clone(), urls, section.verify_signatures);
        // The key is checked even if the chain is invalid, so that every fault is found.
        let key = self.private_key(&section.key, file);
        let ca = match ca {
            Ok(ca) => ca,
            Err(fault) => {
                self.faults.push(section.certificate.fault(chain_problem(&chain, &places, &fault)));
                // One of these certificates may be the missing one.
                let unread = passed_over.into_iter().map(|(path, it)| section.certificate.fault(unread(path, &it)));
                self.faults.extend(unread);
                return None;
            }
        };
        if !ca.reaches_root() {
            self.warnings.push(Warning {
                key: section.certificate.key.clone(),
                what: format!(
                    "the chain of the CA `{}` does not reach its root, which is missing: the chain is not verified up to it",
                    ca.name()
                ),
                remedy: "list the certificates above it in `root`, the root last",
            });
        }
        if let Some(url) = section.crl_url.as_ref().filter(|_| !writes_crls) {
            self.warnings.push(Warning {
                key: url.key.clone(),
                what: "certificates of this CA name revocation lists that this server does not write".into(),
                remedy: "add the section [crl], or remove `crl_url` before devices enrol",
            });
        }
        let ca = self.with_rollover(section, file, ca)?;
        let authority = LoadedCa { ca, places };
        if let Some((key, key_path)) = key
            && let Err(fault) = signer.add(&authority.ca, key)
        {
            let problem = match fault {
                CaKeyFault::NotOfThisCertificate => Problem::KeyMismatch {
                    certificate: config::from_file(file, &section.certificate.value),
                    key: key_path,
                },
                CaKeyFault::Unusable(_) => {
                    Problem::Content { path: key_path, wanted: PRIVATE_KEY, reason: fault.to_string() }
                }
            };
            self.faults.push(section.key.fault(problem));
        }
        // A missing key is already reported; its profiles are still tried.
        Some(authority)
    }

    /// The CA with the certificates of `rollover`, each of which has to be what it says.
    fn with_rollover(&mut self, section: &CaSection, file: &Path, ca: Ca) -> Option<Arc<Ca>> {
        let Some(rollover) = &section.rollover else { return Some(Arc::new(ca)) };
        let path = config::from_file(file, &rollover.value);
        let members = self.above_in(rollover, &rollover.value, file)?.usable;
        for Member { certificate, .. } in &members {
            self.check_validity(rollover, path.clone(), CertificateRole::Ca, certificate, Gravity::Warning);
        }
        match ca.with_rollover(members.iter().map(|member| Arc::clone(&member.certificate)).collect()) {
            Ok(ca) => Some(Arc::new(ca)),
            Err(RolloverFault { index, rule }) => {
                let Member { index, certificate } = members.get(index)?;
                self.faults.push(rollover.fault(Problem::Chain {
                    path,
                    position: index + 1,
                    subject: certificate.subject().to_string(),
                    rule: rule.to_string(),
                    remedy: "list the other root, the certificate of the old key that the new root has signed (OldWithNew), and the one of the new key \
                             that the old root has signed (NewWithOld)",
                }));
                None
            }
        }
    }

    /// The certificates of `certificate` and `root`, with their positions.
    fn chain(&mut self, section: &CaSection, file: &Path) -> Option<CaFiles> {
        let issuing = self.chain_in(&section.certificate, &section.certificate.value, file).map(|(_, listed)| listed);
        let above = match &section.root {
            Some(root) => Some(self.above_in(root, &root.value, file)?),
            None => None,
        };
        let (mut chain, mut places, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
        let named = [(&section.certificate, issuing?)].into_iter().chain(section.root.as_ref().zip(above));
        for (named, listed) in named {
            let path = config::from_file(file, &named.value);
            for Member { index, certificate } in listed.usable {
                // A file that already holds the whole chain makes a separate root file redundant.
                if chain.iter().any(|known: &Arc<Certificate>| known.digest() == certificate.digest()) {
                    continue;
                }
                self.check_validity(named, path.clone(), CertificateRole::Ca, &certificate, Gravity::Warning);
                chain.push(certificate);
                places.push((path.clone(), index + 1));
            }
            passed_over.extend(listed.passed_over.into_iter().map(|it| (path.clone(), it)));
        }
        Some(CaFiles { chain, places, passed_over })
    }

    /// Tries what the profile would issue, on copies of its CA with throw-away keys.
    pub(super) fn try_out(&mut self, named: &Read<String>, authority: &LoadedCa, profile: &Profile) -> Option<()> {
        let rules = CaProfile::of(profile).expect("it is compiled for a CA");
        match authority::probe(&rules, self.utc, self.random.as_ref()) {
            Ok(_) => Some(()),
            Err(ProbeFault { index, rule }) => {
                let problem = authority.problem(index, rule.to_string(), probe_remedy(&rule))?;
                self.faults.push(named.fault(problem));
                None
            }
        }
    }
}

fn problem(
    chain: &[Arc<Certificate>],
    places: &[(PathBuf, usize)],
    index: usize,
    rule: String,
    remedy: &'static str,
) -> Option<Problem> {
    let ((path, position), certificate) = places.get(index).zip(chain.get(index))?;
    let subject = certificate.subject().to_string();
    Some(Problem::Chain { path: path.clone(), position: *position, subject, rule, remedy })
}

fn unread(path: PathBuf, passed_over: &PassedOver) -> Problem {
    let subject = passed_over.subject.as_ref().map_or_else(|| "unreadable subject".to_owned(), ToString::to_string);
    let rule = format!("is ignored: {}", passed_over.reason);
    let remedy = "if it belongs to the chain, have it reissued in a usable form";
    Problem::Chain { path, position: passed_over.index + 1, subject, rule, remedy }
}

fn chain_problem(chain: &[Arc<Certificate>], places: &[(PathBuf, usize)], fault: &CaFault) -> Problem {
    let (rule, remedy) = match fault {
        CaFault::Certificate { rule, .. } => (rule.to_string(), remedy(rule)),
        CaFault::Empty | CaFault::Issuer(_) => {
            (format!("is not an issuing certificate: {fault}"), "put the certificate of the issuing CA first")
        }
    };
    let path = places.first().map(|(path, _)| path.clone()).unwrap_or_default();
    let empty = || Problem::Content { path, wanted: "chain of CA certificates", reason: fault.to_string() };
    fault.index().and_then(|index| problem(chain, places, index, rule, remedy)).unwrap_or_else(empty)
}

fn remedy(rule: &ChainRule) -> &'static str {
    match rule {
        ChainRule::NotACa => "list CA certificates only, the issuing one first and the root last",
        ChainRule::KeyUsage => "have it reissued with keyCertSign in its keyUsage",
        ChainRule::PathLength { .. } => {
            "have it reissued with a larger pathLenConstraint, or issue directly below it: there is one CA more below it than it allows"
        }
        ChainRule::Purpose => "have it reissued without extKeyUsage, or with clientAuth in it",
        ChainRule::NotIssuedByNext { .. } => {
            "put the issuing certificate first, each followed by its issuer, and the root last; `openssl x509 -noout -issuer -subject -in FILE` prints the names"
        }
        ChainRule::NotSignedByNext { .. } => {
            "use the certificate whose key signed it: this one has the same name and another key, such as the root of another installation, or an older key of the same CA"
        }
        ChainRule::SelfSignature => "use the root as its owner publishes it: this file was changed",
        ChainRule::Algorithm(_) => "have it signed with ECDSA on P-256 or P-384",
        ChainRule::CrlSign => "have it reissued with cRLSign in its keyUsage, or remove `crl_url`",
        ChainRule::NeverValidTogether => {
            "use the certificate that was valid at the time of those below it, or renew them"
        }
    }
}

fn probe_remedy(rule: &ProbeRule) -> &'static str {
    match rule {
        ProbeRule::Subject => {
            "have it reissued without nameConstraints on directory names, or use another CA for this profile"
        }
        ProbeRule::Names(_) => "remove this kind of name from `issue.san`, or use a CA whose nameConstraints allow it",
        ProbeRule::Chain(_) => "have it reissued as RFC 5280 requires, or use another CA for this profile",
        ProbeRule::Issue(_) | ProbeRule::Copy(_) => "check the CA's certificate and the profile's `issue` section",
    }
}

fn text(url: Option<&Read<String>>) -> Option<String> {
    url.map(|url| url.value.clone())
}
