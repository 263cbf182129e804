//! What makes a running server observable for its operator: the metrics, and the log of certificates that expire.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use net::udp::BindFault;
use rustls_pki_types::UnixTime;

use super::ledger::CertificateCount;
use super::readiness::IssueReadiness;
use super::runtime::Runtime;
use super::startup_fault::StartupFault;
use super::{clock, dates};
use crate::config::Configuration;
use crate::crl::CrlStatuses;
use crate::load::Loaded;
use crate::metrics::{Capacities, Exposition, Listener, Readings};

/// What is watched.
pub(super) struct Watch {
    pub(super) certificates: Arc<CertificateCount>,
    pub(super) readiness: Arc<IssueReadiness>,
    pub(super) crls: Arc<CrlStatuses>,
}

/// The metrics of a server that starts with this configuration.
pub(super) fn exposition(loaded: &Loaded, utc: UnixTime) -> Arc<Exposition> {
    let config = &loaded.config;
    let exposition = if config.metrics.is_some() { Exposition::new() } else { Exposition::none() };
    let outside_max = u64::try_from(loaded.outside_max).unwrap_or(u64::MAX);
    exposition.started(
        utc,
        &Capacities {
            sessions: loaded.sessions_max.into(),
            half_open: config.limits.half_open_max.into(),
            enrolments_in_flight: config.limits.enrolments_in_flight_max.into(),
            pool_jobs: outside_max.saturating_mul(loaded.shards.into()),
            ledger_certificates: config.ledger_bound().map(u64::from),
        },
    );
    exposition.reloaded(Some(utc));
    Arc::new(exposition)
}

impl Watch {
    /// Starts what watches. Gives the address of the metrics, if they are anywhere.
    pub(super) fn start(
        self,
        config: &Configuration,
        exposition: &Exposition,
        runtime: &Runtime,
    ) -> Result<Option<SocketAddr>, StartupFault> {
        let Self { certificates: tally, readiness, crls } = self;
        let IssueReadiness { control, clock, ledger, snapshot } = &*readiness;
        let (control, snapshot, relayed) = (Arc::clone(control), Arc::clone(snapshot), Arc::clone(snapshot));
        let (watched, of_ledger) = (Arc::clone(clock), Arc::clone(ledger));
        let check = move || watched.check_with(UnixTime::now(), of_ledger.time());
        runtime.spawn("the clock check", clock::watch(check));
        let certificates = move || Arc::clone(&snapshot.load().certificates);
        runtime.spawn("the certificate expiry check", dates::watch(certificates.clone(), UnixTime::now));
        let Some(section) = &config.metrics else { return Ok(None) };
        let address = section.listen.value;
        let socket = TcpListener::bind(address)
            .map_err(|source| StartupFault::Metrics(BindFault::listening(address, source)))?;
        let ending = Arc::clone(&control);
        let (writing, of_clock) = (Arc::clone(ledger), Arc::clone(&readiness));
        let page = exposition.page(Readings {
            ready: Box::new(move || control.is_admitting()),
            draining: Box::new(move || ending.is_ending()),
            ledger_rows: Box::new(move || tally.read()),
            ledger_writes: Box::new(move || writing.writes()),
            clock: Box::new(move || of_clock.clock(UnixTime::now())),
            issuing: Box::new(move || readiness.check(UnixTime::now())),
            crls: Box::new(move || crls.all()),
            upstreams: Box::new(move || relayed.load().upstream_reading()),
            certificates: Box::new(certificates),
        });
        let Some(page) = page else { return Ok(None) };
        let _context = runtime.enter();
        let listener = Listener::new(socket, page).map_err(StartupFault::System)?;
        let address = listener.address();
        runtime.spawn("the metrics listener", listener.run());
        Ok(Some(address))
    }
}
