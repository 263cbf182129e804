//! How many connections there are to one upstream. A burst of devices makes no more of them: its requests wait for their turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::http::uri::Authority;
use tokio::sync::Semaphore;

/// Connections to one upstream, in use and idle. A front of ours gives one Registrar 64, begins 64 handshakes of a network at once, and closes what is
/// beyond. The difference of a quarter is for connections that were just closed and still count there, and for one that hyper begins while another
/// is given back.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 48;

/// The places for requests at each upstream. They outlive a client: the requests of the one before a reload count too.
#[derive(Debug, Default)]
pub(super) struct ConnectionPlaces(Mutex<HashMap<Authority, Arc<Semaphore>>>);

impl ConnectionPlaces {
    /// Those at this host and port, whose connections are kept together.
    pub(super) fn at(&self, host: &Authority) -> Arc<Semaphore> {
        // Nothing between two steps of a change can panic.
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(host) {
            return Arc::clone(known);
        }
        // Hosts that are no longer configured.
        places.retain(|_, kept| Arc::strong_count(kept) > 1);
        let new = Arc::new(Semaphore::new(UPSTREAM_CONNECTIONS_MAX));
        places.insert(host.clone(), Arc::clone(&new));
        new
    }
}
