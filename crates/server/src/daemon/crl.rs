//! Starts what publishes revocation lists, and holds their layout to what the first certificate of each CA was issued with.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use arc_swap::ArcSwap;
use authority::{Ca, CrlLayout, CrlSigner, Ledger, LedgerFault};
use net::udp::BindFault;
use rustls_pki_types::UnixTime;

use super::control::{Breakdown, Control};
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use super::startup_fault::StartupFault;
use crate::config::{CaSection, Configuration, ConfigurationFault, ConfigurationFaults, Problem, Read};
use crate::crl::{CrlListener, CrlPage, CrlPlan, CrlStatuses, CrlWriter, CrlWriterParts, ask, layout_words};
use crate::load::Loaded;
use crate::panics::guarded;

/// The ledger answers within milliseconds, unless it files many earlier revocations; after this time its disk hangs.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(120);

const DAY: Duration = Duration::from_secs(86_400);

/// A write that hangs does not hold up the end of the process for longer.
const END: Duration = Duration::from_secs(5);

/// The thread that writes the lists. Dropping it ends the thread.
pub(super) struct CrlThread {
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl CrlThread {
    fn start(writer: CrlWriter, control: Arc<Control>) -> Result<Self, StartupFault> {
        let (stop, stopped) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        super::thread("muster-crl".into(), move || {
            const NAME: &str = "the writer of the revocation lists";
            // Dropped at the end of the thread, whatever ends it.
            let _ending: Sender<()> = ending;
            if guarded(NAME, move || writer.run(&stopped)).is_none() {
                control.broke(Breakdown::Service(NAME));
            }
        })?;
        Ok(Self { stop: Some(stop), ended })
    }
}

impl Drop for CrlThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ended_or_hanging = self.ended.recv_timeout(END);
    }
}

/// What the lists of this configuration are. Without a section it is not used.
pub(super) fn plan(loaded: &Loaded) -> CrlPlan {
    let section = loaded.config.crl.as_ref();
    let (validity, interval) = section.map_or((7 * DAY, Duration::from_secs(60)), |crl| (crl.validity, crl.interval));
    let cas = loaded.cas.iter().filter(|ca| ca.crl_url().is_some()).cloned().collect();
    CrlPlan { cas, signer: Arc::clone(&loaded.signer) as Arc<dyn CrlSigner>, validity, interval }
}

/// What was started.
pub(super) struct Crls {
    pub(super) _thread: Option<CrlThread>,
    pub(super) address: Option<SocketAddr>,
}

/// Starts the writer and the listener, if the configuration has a section for them.
pub(super) fn start(
    config: &Configuration,
    (ledger, statuses): (Arc<dyn Ledger>, Arc<CrlStatuses>),
    snapshot: &Arc<ArcSwap<Snapshot>>,
    (runtime, control): (&Runtime, &Arc<Control>),
) -> Result<Crls, StartupFault> {
    let (Some(section), Some(folder)) = (&config.crl, config.crl_folder()) else {
        return Ok(Crls { _thread: None, address: None });
    };
    let plan = {
        let snapshot = Arc::clone(snapshot);
        move || Arc::clone(&snapshot.load().crls)
    };
    let address = match &section.listen {
        None => None,
        Some(listen) => {
            let address = listen.value;
            let socket = TcpListener::bind(address)
                .map_err(|source| StartupFault::CrlListener(BindFault::listening(address, source)))?;
            let _context = runtime.enter();
            let page = CrlPage::new(folder.clone(), plan.clone());
            let listener = CrlListener::new(socket, page).map_err(StartupFault::System)?;
            let address = listener.address();
            runtime.spawn("the listener of the revocation lists", listener.run());
            Some(address)
        }
    };
    tracing::info!(folder = %folder.display(), address = address.map(tracing::field::display), "revocation lists");
    let writer = CrlWriter::new(CrlWriterParts {
        ledger,
        folder,
        plan: Box::new(plan),
        clock: Box::new(UnixTime::now),
        statuses,
    });
    let thread = CrlThread::start(writer, Arc::clone(control))?;
    Ok(Crls { _thread: Some(thread), address })
}

/// Fixes the layout of the lists of each CA before its first certificate, and refuses another one. Of the CAs that are `running`, no layout changes:
/// their first certificate may be issued meanwhile.
pub(super) fn fix_layouts(
    ledger: &dyn Ledger,
    config: &Configuration,
    (cas, running): (&[Arc<Ca>], &[Arc<Ca>]),
) -> Result<(), LayoutFault> {
    let mut faults = Vec::new();
    for ca in cas {
        let section = config.cas.iter().find(|section| section.name == ca.name());
        let named = section.and_then(|section| section.crl_url.as_ref().map(|url| (section, url)));
        let Some((section, url)) = named else { continue };
        let (anchor, wanted) = (ca.certificate().anchor_id(), CrlLayout::of(&url.value));
        let in_force = running.iter().find(|it| it.certificate().anchor_id() == anchor).and_then(|it| it.crl_url());
        if let Some(in_force) = in_force.map(CrlLayout::of).filter(|in_force| *in_force != wanted) {
            faults.push(conflict(section, url, (&in_force, &wanted)));
            continue;
        }
        match ask(ledger, LEDGER_TIMEOUT, |ledger, done| ledger.fix_crl_layout(anchor, wanted.clone(), done)) {
            Ok(fixed) if fixed == wanted => {}
            Ok(fixed) => faults.push(conflict(section, url, (&fixed, &wanted))),
            // The ledger issues as it did before; the writer says what is missing, and fixes the layout after the migration.
            Err(LedgerFault::NeedsMigration) => {
                tracing::warn!(
                    ca = ca.name(),
                    remedy = "run `muster ledger migrate`",
                    "no revocation lists: the ledger is {}",
                    LedgerFault::NeedsMigration
                );
            }
            Err(fault) => return Err(LayoutFault::Ledger(fault)),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(LayoutFault::Other(ConfigurationFaults(faults))) }
}

fn conflict(
    section: &CaSection,
    url: &Read<pki::issue::crl::CrlUrl>,
    (fixed, wanted): (&CrlLayout, &CrlLayout),
) -> ConfigurationFault {
    let what = format!(
        "the ledger has {} for the revocation lists of this CA, and the configuration {}: certificates name the list that they are in, so this \
         can't be changed",
        layout_words(fixed),
        layout_words(wanted)
    );
    let (key, remedy) = match (fixed, wanted) {
        (CrlLayout::Sharded { shards, .. }, CrlLayout::Sharded { shards: other, .. }) if shards == other => (
            url.key.clone(),
            "write the URL that the ledger has: certificates and lists name it, and no list at another URL would be theirs; what answers there can be another host behind the same name",
        ),
        (CrlLayout::Sharded { .. }, CrlLayout::Sharded { .. }) => (
            format!("ca.{}.crl_shards", section.name),
            "write the number of shards that the ledger has; a CA with another key can have another number",
        ),
        (CrlLayout::Sharded { .. }, CrlLayout::Whole) => (
            url.key.clone(),
            "write `{shard}` into `crl_url`, and the number of shards that the ledger has into `crl_shards`; a CA with another key can do without",
        ),
        (CrlLayout::Whole, _) => (
            url.key.clone(),
            "remove `{shard}` from `crl_url`, and `crl_shards`; a CA with another key can have shards",
        ),
    };
    ConfigurationFault { place: url.place.clone(), key, problem: Problem::Conflict { what, remedy } }
}

/// A ledger that does not answer, as a fault of the configuration that needs its answer.
pub(super) fn ledger_fault(config: &Configuration, fault: LedgerFault) -> ConfigurationFault {
    let problem = Problem::Conflict {
        what: format!("the layout of the revocation lists is kept in the ledger, and the ledger is {fault}"),
        remedy: "try again when the ledger writes again",
    };
    config.ledger.url.fault(problem)
}

/// Why a layout is not fixed.
#[derive(Debug)]
pub(super) enum LayoutFault {
    /// The ledger holds another one.
    Other(ConfigurationFaults),
    /// The ledger does not answer.
    Ledger(LedgerFault),
}

impl From<LayoutFault> for StartupFault {
    fn from(fault: LayoutFault) -> Self {
        match fault {
            LayoutFault::Other(faults) => Self::CrlLayout(faults),
            LayoutFault::Ledger(fault) => Self::Ledger(fault),
        }
    }
}
