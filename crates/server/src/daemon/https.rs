//! The HTTPS front of the daemon: a listener with a thread of its own, in front of the authority that the shards use.
//!
//! ```text
//!   accept ──► pace ──► TLS ──► share ──► head ──► body ──► pool ──► answer ──┐
//!                                          ▲                                  │
//!                                          └──────── the next request ◄───────┘
//! ```
//!
//! Handshakes and base64 are computed on that one thread, so that clients of HTTPS cost the devices of EST-coaps at most a core, and neither the
//! metrics nor the admin socket wait for them. Certificates are issued in the pool.
//!
//! What a client can take is bounded: connections in all and per certificate, handshakes per network, the time and the bytes of each request, and the
//! life of a connection.

mod conversation;
mod pace;
mod request;
mod shares;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use est::Jitter;
use net::udp::BindFault;

use super::control::Control;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use super::startup_fault::StartupFault;
use super::work::Pool;
use crate::config::Configuration;
use crate::http::connections::{self, Places};
use crate::logging::{Journal, Refusals};
use crate::metrics::Meters;
use conversation::FrontConversation;
use pace::HandshakePace;
use shares::ConnectionShares;

/// Connections open at once; each is a descriptor, a task and about 50 KiB of buffers.
const CONNECTIONS_MAX: usize = 256;

/// Of these, the places of clients that have not authenticated: some of them read /cacerts, and everybody begins there. Handshakes take a few round
/// trips, so that many newcomers pass through them in a second.
const STRANGERS_MAX: usize = 64;

/// The interval in which the end of the server looks for requests that are still being answered.
const SETTLE_STEP: Duration = Duration::from_millis(10);

const PLACES: Places = Places { connections: CONNECTIONS_MAX, strangers: STRANGERS_MAX };

/// The parts from which a front is made.
pub(super) struct FrontParts<'r> {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) control: Arc<Control>,
    pub(super) pool: Arc<Pool>,
    pub(super) meters: Meters,
    pub(super) logs: (Refusals, Journal),
    pub(super) random: &'r dyn dtls::Random,
}

/// What the front shares with the rest of the daemon.
struct DaemonParts {
    snapshot: Arc<ArcSwap<Snapshot>>,
    control: Arc<Control>,
    pool: Arc<Pool>,
    meters: Meters,
    refusals: Refusals,
    journal: Journal,
    jitter: Jitter,
}

/// What all connections share.
struct Shared {
    parts: DaemonParts,
    pace: Mutex<HandshakePace>,
    shares: Arc<ConnectionShares>,
    /// Requests that are being answered.
    at_work: AtomicUsize,
}

/// The running front.
pub(super) struct HttpsFront {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends with the front.
    _runtime: Runtime,
}

impl HttpsFront {
    /// Starts the front, if the configuration has one.
    pub(super) fn start(config: &Configuration, parts: FrontParts<'_>) -> Result<Option<Self>, StartupFault> {
        let Some(section) = &config.https else { return Ok(None) };
        let address = section.listen.value;
        let socket =
            TcpListener::bind(address).map_err(|source| StartupFault::Https(BindFault::listening(address, source)))?;
        socket.set_nonblocking(true).map_err(StartupFault::System)?;
        let address = socket.local_addr().map_err(StartupFault::System)?;
        let runtime = Runtime::start("muster-https", Arc::clone(&parts.control)).map_err(StartupFault::System)?;
        let FrontParts { snapshot, control, pool, meters, logs: (refusals, journal), random } = parts;
        let mut seed = [0; 8];
        random.fill(&mut seed);
        let jitter = Jitter::new(u64::from_be_bytes(seed));
        let parts = DaemonParts { snapshot, control, pool, meters, refusals, journal, jitter };
        let shared =
            Arc::new(Shared { parts, pace: Mutex::default(), shares: Arc::default(), at_work: AtomicUsize::new(0) });
        let conversation = FrontConversation(Arc::clone(&shared));
        let context = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(socket).map_err(StartupFault::System)?;
        drop(context);
        let serving = connections::serve_conversations(listener, conversation, PLACES);
        runtime.spawn("the HTTPS listener", serving);
        Ok(Some(Self { address, shared, _runtime: runtime }))
    }

    /// Waits until the requests that have begun are answered, or draining is over.
    pub(super) fn settle(&self) {
        let is_over = || self.shared.parts.control.deadline().is_none_or(|at| at <= Instant::now());
        while self.shared.at_work.load(Ordering::Acquire) > 0 && !is_over() {
            std::thread::sleep(SETTLE_STEP);
        }
    }
}
