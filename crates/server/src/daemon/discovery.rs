//! Starts what `[discovery]` names: the listener of multicast groups, and the registration with a resource directory.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use arc_swap::ArcSwap;
use dtls::Random as _;
use est::discovery::{GroupResponder, RegistrationSpec};
use net::SystemRandom;
use net::udp::join_group;

use super::control::Control;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use super::startup_fault::StartupFault;
use crate::config::{Configuration, DiscoverySection};
use crate::discovery::{GroupListener, RegistrationParts, register};
use crate::metrics::Meters;

/// A directory that does not answer holds up the end of the process for no longer: it forgets the server after the lifetime anyway. One
/// retransmission fits (RFC 7252 §4.8).
const REMOVAL: Duration = Duration::from_secs(4);

/// The registration with a directory. Dropping it waits until the directory has removed it.
pub(super) struct Registration {
    ended: Option<Receiver<()>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            let _removed_or_given_up = ended.recv_timeout(REMOVAL);
        }
    }
}

/// Starts both, as far as the configuration names them.
pub(super) fn start(
    config: &Configuration,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    meters: &Meters,
    (runtime, control): (&Runtime, &Arc<Control>),
) -> Result<Registration, StartupFault> {
    let Some(section) = &config.discovery else { return Ok(Registration { ended: None }) };
    if !section.multicast.value.is_empty() {
        listen(section, snapshot, meters, (runtime, control))?;
    }
    let Some(directory) = &section.resource_directory else { return Ok(Registration { ended: None }) };
    let (ending, ended) = mpsc::channel();
    let parts = RegistrationParts {
        directory: directory.value.clone(),
        spec: Box::new(registered(section, Arc::clone(snapshot))),
        ending: is_ending(control),
        seed: seed(),
        registered: meters.directory_registered.clone(),
        ended: ending,
    };
    runtime.spawn("the registration with the resource directory", register(parts));
    Ok(Registration { ended: Some(ended) })
}

fn listen(
    section: &DiscoverySection,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    meters: &Meters,
    (runtime, control): (&Runtime, &Arc<Control>),
) -> Result<(), StartupFault> {
    let mut sockets = Vec::new();
    for group in &section.multicast.value {
        for interface in &section.interfaces.value {
            let socket = join_group(*group, section.port, interface).map_err(|source| StartupFault::Group {
                group: *group,
                interface: interface.clone(),
                source,
            })?;
            sockets.push(socket);
        }
    }
    let responder = GroupResponder::new(section.leisure, section.on_link.value.clone(), seed());
    let snapshot = Arc::clone(snapshot);
    let current = move || Arc::clone(&snapshot.load().est);
    let _context = runtime.enter();
    let listener = GroupListener::new(sockets, responder, current, is_ending(control), meters.groups.clone());
    runtime.spawn("the listener of multicast groups", listener.map_err(StartupFault::System)?.run());
    tracing::info!(
        groups = section.multicast.value.len(),
        port = section.port,
        interfaces = section.interfaces.value.join(" "),
        "answering discovery by multicast over plain CoAP"
    );
    Ok(())
}

/// What is registered under the configuration in force.
fn registered(
    section: &DiscoverySection,
    snapshot: Arc<ArcSwap<Snapshot>>,
) -> impl Fn() -> Option<RegistrationSpec> + Send + Sync + use<> {
    let (endpoint, lifetime) = (section.endpoint.as_ref().map(|name| name.value.clone()), section.lifetime);
    move || {
        let est = Arc::clone(&snapshot.load().est);
        let base = est.public()?.clone();
        let endpoint = endpoint.clone().unwrap_or_else(|| base.host().to_owned());
        Some(RegistrationSpec { endpoint, lifetime, base, links: est.directory().whole().to_vec() })
    }
}

fn is_ending(control: &Arc<Control>) -> Box<dyn Fn() -> bool + Send + Sync> {
    let control = Arc::clone(control);
    Box::new(move || control.is_ending())
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed);
    u64::from_be_bytes(seed)
}
