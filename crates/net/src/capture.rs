//! What the engines do, written down: key logs, capture files, traces.
//!
//! Each is an [`Observer`] and sees the engines' one event stream; [`Tee`] gives it to several, [`OnlyPeer`] narrows it to one device. They hold a
//! lock while they write, and they write what decrypts a session: a shell attaches them for one device or for a diagnosis, never by default.

mod keylog;
mod packet;
mod pcapng;
mod print;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use dtls::{Now, Observer, TraceEvent};

pub use keylog::KeyLog;
pub use pcapng::{Addresses, Pcapng};
pub use print::TracePrinter;

/// Gives each event to several observers, in order.
pub struct Tee {
    observers: Vec<Arc<dyn Observer>>,
}

impl Tee {
    /// None for none, the observer itself for one, a `Tee` for more.
    #[must_use]
    pub fn of(mut observers: Vec<Arc<dyn Observer>>) -> Option<Arc<dyn Observer>> {
        match observers.len() {
            0 | 1 => observers.pop(),
            _ => Some(Arc::new(Self { observers })),
        }
    }
}

impl Observer for Tee {
    fn observe(&self, at: Now, path: Option<dtls::Path>, event: &TraceEvent<'_>) {
        for observer in &self.observers {
            observer.observe(at, path, event);
        }
    }
}

/// Passes on what happens with one peer, at any of its ports.
pub struct OnlyPeer {
    peer: IpAddr,
    inner: Arc<dyn Observer>,
}

impl OnlyPeer {
    /// Narrows `inner` to `peer`.
    #[must_use]
    pub fn new(peer: IpAddr, inner: Arc<dyn Observer>) -> Self {
        Self { peer, inner }
    }
}

impl Observer for OnlyPeer {
    fn observe(&self, at: Now, path: Option<dtls::Path>, event: &TraceEvent<'_>) {
        if path.is_some_and(|path| path.peer.ip() == self.peer) {
            self.inner.observe(at, path, event);
        }
    }
}

/// What a writer did not bring to its file: said in the log once, for a disk stays full, and asked for by who has no log.
#[derive(Debug, Default)]
struct Lost(Option<String>);

impl Lost {
    fn note(&mut self, error: &io::Error, what: &'static str) {
        if self.0.is_none() {
            tracing::warn!(%error, "{what}");
            self.0 = Some(error.to_string());
        }
    }

    fn any(&self) -> bool {
        self.0.is_some()
    }

    fn why(&self) -> Option<String> {
        self.0.clone()
    }
}

/// A capture that only its owner reads: what goes into it decrypts sessions. Nothing is overwritten: one that is there gets a further section, and a file
/// that is no capture is refused. What is no regular file, such as a pipe to Wireshark, takes what comes.
fn append_capture(path: &Path, magic: [u8; 4]) -> io::Result<File> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => OpenOptions::new().write(true).open(path),
        Ok(there) if there.len() > 0 => {
            let mut file = OpenOptions::new().read(true).append(true).open(path)?;
            let mut beginning = [0; 4];
            match file.read_exact(&mut beginning) {
                Ok(()) if beginning == magic => Ok(file),
                _ => Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it is there, and no capture: nothing is overwritten",
                )),
            }
        }
        _ => append_secret(path),
    }
}

/// A file that only its owner reads, keeping what is there.
fn append_secret(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
