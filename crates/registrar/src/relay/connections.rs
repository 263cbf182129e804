//! How many connections there are to one upstream, and which of them are idle. A burst of devices makes no more of them: its requests wait for their
//! turn.
//!
//! A request holds a [`Place`] for as long as it has a connection, and begins a new one only where none is idle: those in use and those that are idle
//! are never more than the places. The pool of hyper-util races a new connection with one that is given back, and keeps both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::uri::Authority;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connector::{Connection, Identity};

/// Connections to one upstream, in use and idle. A front of ours gives one Registrar 64, begins 64 handshakes of a network at once, and closes what is
/// beyond. The difference of a quarter is for connections that were just closed and still count there.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 48;

/// Our own front closes an idle connection after 15 s; a server that closes one just before a request costs that request a repeat.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the end of an answer until the connection takes the next request: one whose server does not read the rest of a request is closed then.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections to each upstream. They outlive a client: the requests of the one before a reload count too.
#[derive(Default)]
pub(super) struct UpstreamConnections(Mutex<HashMap<Authority, Arc<HostConnections>>>);

/// Those to one host and port.
struct HostConnections {
    places: Arc<Semaphore>,
    /// The one that was in use last is at the end, and is used next.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// Whether it can take a request: neither its server nor its age has ended it.
    fn is_usable(&self) -> bool {
        self.since.elapsed() < IDLE_TIMEOUT && !self.connection.is_closed()
    }
}

/// What a request holds while it has a connection.
pub(super) struct Place {
    host: Arc<HostConnections>,
    _permit: OwnedSemaphorePermit,
}

impl UpstreamConnections {
    /// A place at this host and port, once there is one.
    pub(super) async fn place(&self, host: &Authority) -> Result<Place, AcquireError> {
        let host = self.at(host);
        let permit = Arc::clone(&host.places).acquire_owned().await?;
        Ok(Place { host, _permit: permit })
    }

    fn at(&self, host: &Authority) -> Arc<HostConnections> {
        // Nothing between two steps of a change can panic.
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(host) {
            return Arc::clone(known);
        }
        // Hosts that are no longer configured.
        hosts.retain(|_, kept| Arc::strong_count(kept) > 1 || !kept.lock_idle().is_empty());
        let places = Arc::new(Semaphore::new(UPSTREAM_CONNECTIONS_MAX));
        let new = Arc::new(HostConnections { places, idle: Mutex::default() });
        hosts.insert(host.clone(), Arc::clone(&new));
        new
    }

    /// Closes what has been idle for too long.
    pub(super) fn reap(&self) {
        self.retain_idle(Idle::is_usable);
    }

    /// Closes all that are idle, whose client shows another certificate now.
    pub(super) fn close_idle(&self) {
        self.retain_idle(|_| false);
    }

    fn retain_idle(&self, stays: impl Fn(&Idle) -> bool) {
        for host in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            host.lock_idle().retain(&stays);
        }
    }
}

impl HostConnections {
    fn lock_idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// An idle connection of this client. On the way to it, those that are closed, too old, or of another client are dropped.
    pub(super) fn take_idle(&self, of: Identity) -> Option<Connection> {
        let mut idle = self.host.lock_idle();
        std::iter::from_fn(|| idle.pop()).find(|it| it.connection.is_of(of) && it.is_usable()).map(|it| it.connection)
    }

    /// Keeps this connection for another request, and gives up the place then: whoever has it next finds the connection.
    pub(super) fn keep(self, mut connection: Connection) {
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, connection.ready()).await {
                self.host.lock_idle().push(Idle { connection, since: Instant::now() });
            }
        });
    }
}
