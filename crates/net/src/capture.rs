//! Records what the engines do: key logs, capture files, traces; and reads captures.
//!
//! Each is an [`Observer`] of the engines' event stream; [`Tee`] passes the stream to several observers, [`OnlyPeer`] narrows it to one device.
//! Observers hold a lock while they write, and they write what decrypts a session: a shell attaches them for one device or for a diagnosis, never by
//! default.

mod dissect;
mod keylog;
mod packet;
mod pcapng;
mod print;
mod reader;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use dtls::{Now, Observer, TraceEvent};

pub use dissect::DissectedRecord;
pub use keylog::KeyLog;
pub use pcapng::{Addresses, Pcapng};
pub use print::TracePrinter;
pub use reader::{CaptureFile, CapturedDatagram, CapturedPacket};

/// Passes each event to several observers, in order.
pub struct Tee {
    observers: Vec<Arc<dyn Observer>>,
}

impl Tee {
    /// `None` for no observer, the observer itself for one, a `Tee` for more.
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

/// Passes on the events of one peer, whatever port it uses.
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

/// What a writer could not write to its file. Logged once, because a disk stays full; kept for callers without a log.
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

/// Opens a capture that only its owner can read, because its contents decrypt sessions. Nothing is overwritten: an existing capture gets a further
/// section, and a file that is not a capture is refused. A file that is not a regular one, such as a pipe to Wireshark, is written without a check.
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

/// Opens a file that only its owner can read, and keeps its contents.
fn append_secret(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
