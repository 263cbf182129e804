//! What all devices of a run share: whom they trust, what each phase asks for, how patient they are.

use std::sync::Arc;

use dtls::{Now, Random};
use est::{AnchorUpdate, Client, ClientConfig, DtlsConfig, ServerVerifier};
use pki::PrivateKey;

use super::{HeldCertificate, unusable};
use crate::function::FleetFunction;
use crate::identities;
use crate::plan::{Phase, Plan};
use crate::run::{LoadedServer, Patience};
use crate::stats::MeasuredStage;

/// The shared part of all devices of a run.
pub(crate) struct RunScript {
    verifier: Arc<ServerVerifier>,
    pub(super) server_name: Option<String>,
    pub(super) seed: u64,
    /// The number of the fleet's first device.
    pub(super) first: usize,
    pub(super) patience: Patience,
    pub(super) linked_requests: bool,
    pub(super) without_ca_certificates: bool,
    pub(super) phases: Vec<PhaseScript>,
}

/// The shared part of the devices of a phase.
pub(super) struct PhaseScript {
    pub(super) client: Arc<ClientConfig>,
    pub(super) phase: Phase,
}

impl RunScript {
    /// The script of a run whose fleet begins with device `first`.
    pub(crate) fn new(
        server: &LoadedServer,
        plan: &Plan,
        patience: Patience,
        seed: u64,
        first: usize,
    ) -> Result<Self, String> {
        let verifier = ServerVerifier::new(server.anchors.clone(), server.name.clone())
            .map_err(|fault| format!("the devices cannot trust that: {fault}"))?;
        // An address belongs neither in server_name (RFC 6066 §3) nor in Uri-Host (RFC 7252 §5.10.1).
        let name = match &server.name {
            pki::ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let phases = plan.phases.iter().map(|phase| {
            let client = ClientConfig {
                path: server.root.iter().cloned().chain(phase.label.clone()).collect(),
                anchor_update: AnchorUpdate::Ignore,
                block: phase.block,
                ack_timeout: patience.ack_timeout,
                uri_host: name.clone(),
                persistence: Some(patience.persistence()),
                ..ClientConfig::default()
            };
            PhaseScript { client: Arc::new(client), phase: phase.clone() }
        });
        Ok(Self {
            verifier: Arc::new(verifier),
            phases: phases.collect(),
            server_name: name,
            seed,
            first,
            patience,
            linked_requests: server.linked_requests,
            without_ca_certificates: server.without_ca_certificates,
        })
    }

    /// Connects with a certificate and its key.
    pub(super) fn connect(
        &self,
        phase: usize,
        (certificate, pkcs8): (&[u8], &[u8]),
        random: &Arc<dyn Random>,
        now: Now,
    ) -> Result<Client, String> {
        let PhaseScript { client, phase } = &self.phases[phase];
        let shown = est::identity(vec![certificate.to_vec()], pkcs8, &**random)
            .map_err(|fault| format!("a device's identity cannot be used: {fault}"))?;
        let dtls = DtlsConfig {
            suites: vec![phase.suite],
            server_name: self.server_name.clone(),
            retransmission_initial: self.patience.handshake_timeout,
            handshake_deadline: self.patience.handshake_deadline(),
            ..DtlsConfig::new(Some(shown), Arc::clone(&self.verifier))
        };
        Ok(Client::new(Arc::clone(client), Arc::new(dtls), Arc::clone(random), now))
    }

    /// The key of a certificate that device `index` holds.
    pub(super) fn key_of(&self, index: usize, held: &HeldCertificate) -> Result<Arc<PrivateKey>, String> {
        match &held.key {
            Some(key) => Ok(Arc::clone(key)),
            None => identities::operational_key(self.seed, self.first + index).map(Arc::new).map_err(unusable),
        }
    }

    /// What a device that has enrolled nowhere measures after its first handshake.
    pub(super) fn first_stage(&self, function: FleetFunction) -> MeasuredStage {
        match function.certifying_stage() {
            Some(stage) if self.without_ca_certificates => stage,
            _ => function.first_stage(),
        }
    }
}
