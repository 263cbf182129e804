//! The HTTPS front: its certificate, and the Registrars that it knows.

use std::path::PathBuf;
use std::sync::Arc;

use est::IdentityFault;
use pki::ServerName;
use pki::chain::Member;
use registrar::{Front, FrontIdentity, FrontRegistrar};

use super::dates::{CertificateRole, Gravity};
use super::loading::Loading;
use super::secrets::PRIVATE_KEY;
use crate::config::{self, Configuration, ExpiredServer, Problem, Read, RegistrarSection, SecretUri, ServerFlaw};

/// What serves EST over HTTPS.
#[derive(Clone)]
pub(crate) struct LoadedFront {
    pub(crate) front: Arc<Front>,
    pub(crate) identity: FrontIdentity,
}

impl LoadedFront {
    /// The same with other answers.
    pub(crate) fn answering(&self, est: &Arc<est::ServerConfig>) -> Self {
        Self { front: Arc::new(self.front.answering(Arc::clone(est))), identity: self.identity.clone() }
    }
}

impl Loading {
    /// The front; `None` without the section, or after a fault.
    pub(super) fn front(&mut self, config: &Configuration, est: &Arc<est::ServerConfig>) -> Option<LoadedFront> {
        let registrars: Vec<_> = config.registrars.iter().map(|section| self.registrar(section, config)).collect();
        let registrars: Option<Vec<FrontRegistrar>> = registrars.into_iter().collect();
        let https = config.https.as_ref()?;
        let identity = match &https.identity {
            // Read and checked already.
            None => self.front_identity(&config.server.certificate, &config.server.key, config),
            Some((certificate, key)) => {
                self.front_chain(certificate, config)?;
                self.front_identity(certificate, key, config)
            }
        };
        Some(LoadedFront { front: Arc::new(Front::new(Arc::clone(est), registrars?)), identity: identity? })
    }

    /// Dates and purpose of a certificate of the front's own.
    fn front_chain(&mut self, certificate: &Read<PathBuf>, config: &Configuration) -> Option<()> {
        let (_, listed) = self.chain_in(certificate, &certificate.value, &config.file)?;
        let path = config::from_file(&config.file, &certificate.value);
        let gravity = match config.expired_server {
            ExpiredServer::Refused => Gravity::Fault,
            ExpiredServer::Served => Gravity::FaultUnlessExpired,
        };
        for Member { index, certificate: shown } in &listed.usable {
            let role = if *index == 0 { CertificateRole::Server } else { CertificateRole::ServerIssuer };
            let gravity = if *index == 0 { gravity } else { Gravity::Warning };
            self.check_validity(certificate, path.clone(), role, shown, gravity);
        }
        let leaf = &listed.usable.first()?.certificate;
        if !leaf.extended_key_usage().is_some_and(|usage| usage.server_auth) {
            self.faults.push(certificate.fault(Problem::Server { path, flaw: ServerFlaw::Purpose }));
            return None;
        }
        Some(())
    }

    fn front_identity(
        &mut self,
        certificate: &Read<PathBuf>,
        key: &Read<SecretUri>,
        config: &Configuration,
    ) -> Option<FrontIdentity> {
        let (der, _) = self.chain_in(certificate, &certificate.value, &config.file)?;
        let (private_key, key_path) = self.private_key(key, &config.file)?;
        let path = config::from_file(&config.file, &certificate.value);
        // The check of EST-coaps: one key cannot be good for one front and wrong for the other.
        let problem = match est::identity(der.clone(), private_key.pkcs8(), self.random.as_ref()) {
            Ok(_) => match FrontIdentity::new(der, private_key.pkcs8()) {
                Ok(identity) => return Some(identity),
                Err(error) => Problem::Content { path: key_path, wanted: PRIVATE_KEY, reason: error.to_string() },
            },
            Err(IdentityFault::OtherKey) => Problem::KeyMismatch { certificate: path, key: key_path },
            Err(fault @ IdentityFault::Key(_)) => {
                Problem::Content { path: key_path, wanted: PRIVATE_KEY, reason: fault.to_string() }
            }
            Err(fault) => Problem::Content { path, wanted: "server certificate", reason: fault.to_string() },
        };
        self.faults.push(key.fault(problem));
        None
    }

    fn registrar(&mut self, section: &RegistrarSection, config: &Configuration) -> Option<FrontRegistrar> {
        let trust = &section.trust;
        let files: Vec<_> = trust.value.iter().map(|path| (path, self.trusted_in(trust, path, &config.file))).collect();
        let mut anchors = Vec::new();
        for (path, certificates) in files {
            let certificates = certificates?;
            for certificate in &certificates {
                let path = config::from_file(&config.file, path);
                self.check_validity(trust, path, CertificateRole::RegistrarCa, certificate, Gravity::Warning);
            }
            anchors.extend(certificates);
        }
        let Ok(name) = ServerName::try_from(section.certified_as.value.clone()) else {
            let wanted = "a DNS name or an address, without a port, such as `ra.example.net`".into();
            let found = section.certified_as.value.clone();
            self.faults.push(section.certified_as.fault(Problem::Value { found, wanted }));
            return None;
        };
        match FrontRegistrar::new(&section.name, anchors, name) {
            Ok(registrar) => Some(registrar),
            Err(error) => {
                let what = format!("a trust anchor cannot be used: {error}");
                let remedy = "list CA certificates that can be anchors";
                self.faults.push(trust.fault(Problem::Conflict { what, remedy }));
                None
            }
        }
    }
}
