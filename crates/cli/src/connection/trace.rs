//! The files and lines that show the exchanges of a session: `--trace`, `--keylog`, `--pcap`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use net::capture::{Addresses, KeyLog, Pcapng, Tee, TracePrinter};

use crate::arguments::{Connection, TraceStyle};
use crate::outcome::say;

/// The observers of the exchanges: `--trace`, `--keylog`, `--pcap`.
#[derive(Clone)]
pub(super) struct Trace {
    printer: Option<Arc<TracePrinter>>,
    keylog: Option<Box<Path>>,
    pcap: Option<Box<Path>>,
    /// The files that were written, one of each per connection; reported when the command ends.
    files: Arc<Mutex<TraceFiles>>,
}

#[derive(Default)]
struct TraceFiles {
    keylogs: Vec<Arc<KeyLog>>,
    pcaps: Vec<Arc<Pcapng>>,
}

impl Trace {
    pub(super) fn new(connection: &Connection) -> Self {
        let printer = |style: TraceStyle| Arc::new(TracePrinter::new(style.style(), Box::new(std::io::stderr())));
        Self {
            printer: connection.trace.map(printer),
            keylog: connection.keylog.clone().map(Into::into),
            pcap: connection.pcap.clone().map(Into::into),
            files: Arc::default(),
        }
    }

    pub(super) fn observer(
        &self,
        own: SocketAddr,
        peer: SocketAddr,
    ) -> std::io::Result<Option<Arc<dyn dtls::Observer>>> {
        let named = |path: &Path, source: std::io::Error| {
            std::io::Error::new(source.kind(), format!("cannot write {}: {source}", path.display()))
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut observers: Vec<Arc<dyn dtls::Observer>> = Vec::new();
        if let Some(printer) = &self.printer {
            observers.push(Arc::<TracePrinter>::clone(printer));
        }
        if let Some(path) = &self.keylog {
            let keylog = Arc::new(KeyLog::open(path).map_err(|source| named(path, source))?);
            files.keylogs.push(Arc::clone(&keylog));
            observers.push(keylog);
        }
        if let Some(path) = &self.pcap {
            let addresses = Addresses { local: own, peer, ports: Vec::new() };
            let pcap = Arc::new(Pcapng::create(path, addresses).map_err(|source| named(path, source))?);
            files.pcaps.push(Arc::clone(&pcap));
            observers.push(pcap);
        }
        Ok(Tee::of(observers))
    }

    /// Reports the totals and what is missing in the files; missing data does not make the command fail.
    pub(super) fn finish(&self) {
        if let Some(printer) = &self.printer {
            printer.finish();
        }
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |path: Option<&Path>, why: Option<String>| {
            if let (Some(path), Some(why)) = (path, why) {
                say!("muster: warning: {} is not complete: {why}", path.display());
            }
        };
        short(self.keylog.as_deref(), files.keylogs.iter().find_map(|keylog| keylog.fault()));
        short(self.pcap.as_deref(), files.pcaps.iter().find_map(|pcap| pcap.fault()));
    }
}
