//! Checks what the server presents to devices, as they will: key usages, names, the path to a CA that they know (E61).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::KeyPackageSigner;
use est::IdentityFault;
use pki::chain::{self, Anchors, ChainError, ChainRefusal, Member};
use pki::{Certificate, GeneralName, PrivateKey, ServerName, SigningKey};

use super::authorities::LoadedCa;
use super::dates::{CertificateRole, Gravity};
use super::loading::Loading;
use super::secrets::PRIVATE_KEY;
use super::warning::Warning;
use crate::config::{self, Configuration, ConfigurationFault, ExpiredServer, Problem, ServerFlaw};

/// The chain that the server presents, with the key of its leaf.
#[derive(Clone)]
pub(super) struct ServerChain {
    /// What devices receive, leaf first: the file unchanged.
    der: Vec<Vec<u8>>,
    /// The readable certificates of the file, which always include the leaf.
    chain: Vec<Member>,
    pub(super) identity: Arc<dtls::Identity>,
    /// Signs packages of keys that the server makes.
    pub(super) package_signer: Option<Arc<KeyPackageSigner>>,
    path: PathBuf,
}

impl Loading {
    /// Loads chain and key, and checks that they belong together and are within their dates.
    pub(super) fn shown(&mut self, config: &Configuration) -> Option<ServerChain> {
        let certificate = &config.server.certificate;
        let chain = self.chain_in(certificate, &certificate.value, &config.file);
        let key = self.private_key(&config.server.key, &config.file);
        let ((der, listed), (key, key_path)) = (chain?, key?);
        let chain = listed.usable;
        let path = config::from_file(&config.file, &certificate.value);
        let gravity = match config.expired_server {
            ExpiredServer::Refused => Gravity::Fault,
            ExpiredServer::Served => Gravity::FaultUnlessExpired,
        };
        for Member { index, certificate: shown } in &chain {
            let role = if *index == 0 { CertificateRole::Server } else { CertificateRole::ServerIssuer };
            // A root that is sent along is an anchor, and not every device checks the dates of an anchor.
            let is_root = *index > 0 && shown.subject().matches(shown.issuer());
            self.check_validity(
                certificate,
                path.clone(),
                role,
                shown,
                if is_root { Gravity::Warning } else { gravity },
            );
        }
        let leaf = &chain.first()?.certificate;
        // RFC 7030 §3.6.1: devices require id-kp-serverAuth if the CA is the authority for it; ours is.
        if !leaf.extended_key_usage().is_some_and(|usage| usage.server_auth) {
            self.faults.push(certificate.fault(Problem::Server { path, flaw: ServerFlaw::Purpose }));
            return None;
        }
        match est::identity(der.clone(), key.pkcs8(), self.random.as_ref()) {
            Ok(identity) => {
                let package_signer = self.package_signer(leaf, &key);
                Some(ServerChain { der, chain, identity, package_signer, path })
            }
            Err(fault) => {
                let problem = match &fault {
                    IdentityFault::OtherKey => Problem::KeyMismatch { certificate: path, key: key_path },
                    IdentityFault::Key(_) => {
                        Problem::Content { path: key_path, wanted: PRIVATE_KEY, reason: fault.to_string() }
                    }
                    _ => Problem::Content { path, wanted: "server certificate", reason: fault.to_string() },
                };
                self.faults.push(config.server.key.fault(problem));
                None
            }
        }
    }

    /// The same key signs in a handshake and under a package: both say that this server made what it sends. `None` if `ring` cannot read the key,
    /// which the handshake would have refused.
    fn package_signer(&self, leaf: &Arc<Certificate>, key: &PrivateKey) -> Option<Arc<KeyPackageSigner>> {
        let mut signing = None;
        authority::Random::with_secure(self.random.as_ref(), &mut |random| {
            signing = SigningKey::from_pkcs8(key.pkcs8(), random).ok();
        });
        KeyPackageSigner::new(Arc::clone(leaf), signing?).map(Arc::new)
    }

    /// Whether devices that use the server's names and the answer to `/crts` would trust the server.
    pub(super) fn judge_as_devices_do(
        &mut self,
        config: &Configuration,
        shown: &ServerChain,
        authorities: &[LoadedCa],
    ) {
        let trust = &config.server.trust;
        let beside: Vec<_> = trust.value.iter().map(|path| self.trusted(config, path)).collect();
        let beside: Option<Vec<_>> = beside.into_iter().collect();
        let Some(beside) = beside else { return };
        self.judge_names(config, shown);
        self.judge_path(config, shown, authorities, &beside.concat());
    }

    /// The anchors that devices hold in addition to the answer of `/crts`. Devices decide about their dates: invalid dates are only a warning.
    fn trusted(&mut self, config: &Configuration, path: &Path) -> Option<Vec<Arc<Certificate>>> {
        let trust = &config.server.trust;
        let certificates = self.trusted_in(trust, path, &config.file)?;
        for certificate in &certificates {
            let path = config::from_file(&config.file, path);
            self.check_validity(trust, path, CertificateRole::TrustedCa, certificate, Gravity::Warning);
        }
        Some(certificates)
    }

    fn judge_names(&mut self, config: &Configuration, shown: &ServerChain) {
        let bears: Vec<String> = shown.leaf().san().iter().filter_map(|name| shown_name(&name)).collect();
        if bears.is_empty() {
            self.faults.push(shown.fault(config, ServerFlaw::Nameless));
            return;
        }
        let mut lacks = Vec::new();
        for text in &config.server.names.value {
            match ServerName::try_from(text.as_str()) {
                Ok(name) if chain::bears_name(shown.leaf(), &name) => {}
                Ok(_) => lacks.push(text.clone()),
                Err(_) => {
                    let wanted = "a DNS name or an address, without a port, such as `est.example.net`".into();
                    self.faults.push(config.server.names.fault(Problem::Value { found: text.clone(), wanted }));
                }
            }
        }
        if !lacks.is_empty() {
            self.faults.push(shown.fault(config, ServerFlaw::Names { lacks, bears }));
        }
    }

    /// One CA whose devices trust the server is enough to start; every other CA gets a warning.
    fn judge_path(
        &mut self,
        config: &Configuration,
        shown: &ServerChain,
        authorities: &[LoadedCa],
        beside: &[Arc<Certificate>],
    ) {
        let used = |name: &str| config.profiles.iter().any(|profile| profile.spec.ca.value == name);
        let (mut refused, mut by_trust_alone) = (Vec::new(), Vec::new());
        let mut trusted = 0;
        for authority in authorities.iter().filter(|authority| used(authority.ca.name())) {
            let published = authority.ca.published();
            let known: Vec<_> = published.iter().chain(beside).cloned().collect();
            match shown.verify(known, self.utc) {
                Ok(()) => {
                    trusted += 1;
                    by_trust_alone.extend(shown.verify(published, self.utc).err().map(|error| (authority, error)));
                }
                Err(error) => refused.push((authority.ca.name(), error)),
            }
        }
        self.warn_of_replaced_anchors(config, shown, by_trust_alone);
        if trusted == 0 {
            // Of several CAs, the one that the path comes closest to gives the most useful message.
            let nearest =
                refused.iter().find(|(_, refusal)| refusal.error != ChainError::UnknownIssuer).or(refused.first());
            let roots = authorities.iter().filter_map(|authority| authority.ca.chain().last()).chain(beside);
            let known: Vec<String> = roots.map(|root| root.subject().to_string()).collect();
            let flaw = nearest.and_then(|(_, refusal)| shown.flaw(refusal, known));
            self.faults.extend(flaw.map(|flaw| shown.fault(config, flaw)));
            return;
        }
        for (name, error) in refused {
            self.warnings.push(Warning {
                key: format!("ca.{name}.certificate"),
                what: format!(
                    "devices that use the answer to /crts for this CA will not trust the server certificate {}: {error}",
                    shown.path.display()
                ),
                remedy: "list the CA above both in `root`, or add the CA that devices trust for this server to `server.trust`",
            });
        }
    }
}

impl Loading {
    /// RFC 9148 §9.1 lets `/crts` replace the anchors with which a device came: `server.trust` then counts for nothing.
    fn warn_of_replaced_anchors(
        &mut self,
        config: &Configuration,
        shown: &ServerChain,
        by_trust_alone: Vec<(&LoadedCa, ChainRefusal)>,
    ) {
        let (key, path) = (config.server.trust.key.clone(), shown.path.display());
        for (authority, error) in by_trust_alone {
            let name = authority.ca.name();
            self.warnings.push(Warning {
                key: key.clone(),
                what: format!(
                    "a device that takes the answer to /crts of `{name}` for its trust anchors (RFC 9148 §9.1) will not trust {path} any more: {error}"
                ),
                remedy: "have the server certificate issued below a CA of `root`, or publish the CA above it with `rollover`",
            });
        }
        if config.registrar.is_some() && !config.server.trust.value.is_empty() {
            self.warnings.push(Warning {
                key,
                what: format!(
                    "/crts of a Registrar is that of the upstream CA: a device that takes it for its trust anchors (RFC 9148 §9.1) trusts {path} only below a CA in it"
                ),
                remedy: "have the server certificate issued below a root of the upstream CA",
            });
        }
    }
}

impl ServerChain {
    /// Why a device that knows only these CAs does not trust the server.
    pub(super) fn distrusted_below(&self, known: Vec<Arc<Certificate>>, utc: pki::UnixTime) -> Option<String> {
        self.verify(known, utc).err().map(|refusal| refusal.to_string())
    }

    fn leaf(&self) -> &Certificate {
        &self.chain[0].certificate
    }

    fn fault(&self, config: &Configuration, flaw: ServerFlaw) -> ConfigurationFault {
        config.server.certificate.fault(Problem::Server { path: self.path.clone(), flaw })
    }

    /// Dates are reported separately: the leaf is checked at a time within its own validity.
    fn verify(&self, known: Vec<Arc<Certificate>>, utc: pki::UnixTime) -> Result<(), ChainRefusal> {
        let validity = self.leaf().validity();
        let at = utc.min(validity.not_after).max(validity.not_before);
        let chain: Vec<&[u8]> = self.der.iter().map(Vec::as_slice).collect();
        let anchors = Anchors::new(known).map_err(|_| ChainError::NotAnAuthority)?;
        chain::verify_server_of_any_name(&anchors, &chain, at).map(drop)
    }

    fn flaw(&self, refusal: &ChainRefusal, known: Vec<String>) -> Option<ServerFlaw> {
        match refusal.error {
            // Already reported for the certificate that it is about.
            ChainError::Expired { .. } | ChainError::NotYetValid { .. } => None,
            ChainError::KeyUsage { index: 0 } => Some(ServerFlaw::KeyUsage),
            ChainError::UnknownIssuer | ChainError::BadSignature => Some(self.broken_link().unwrap_or_else(|| {
                let issuer = self.chain.last().map(|last| last.certificate.issuer().to_string()).unwrap_or_default();
                ServerFlaw::Root { issuer, known }
            })),
            _ => Some(ServerFlaw::Path(refusal.to_string())),
        }
    }

    /// RFC 5246 §7.4.2: "Each following certificate MUST directly certify the one preceding it."
    fn broken_link(&self) -> Option<ServerFlaw> {
        let mut pairs = self.chain.iter().zip(self.chain.iter().skip(1));
        let (below, above) = pairs.find(|(below, above)| {
            let (below, above) = (&below.certificate, &above.certificate);
            !below.issuer().matches(above.subject()) || below.verify_signed_by(above).is_err()
        })?;
        Some(ServerFlaw::Link {
            number: above.index + 1,
            subject: above.certificate.subject().to_string(),
            wanted: below.certificate.issuer().to_string(),
        })
    }
}

/// The names that devices compare with the name that they connect to.
fn shown_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::Dns(name) => Some((*name).to_owned()),
        GeneralName::Ip(address) => Some(address.to_string()),
        _ => None,
    }
}
