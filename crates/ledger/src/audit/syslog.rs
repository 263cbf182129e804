//! Sends a message to the local syslog (RFC 5424), without waiting for it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Facility 13 (log audit), severity 6 (informational): 13 * 8 + 6 (RFC 5424 §6.2.1).
const PRIORITY: u32 = 110;

/// A connection to the local syslog.
pub(crate) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    /// Where it sends.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a message, or says that it is lost: nobody listens, or the syslog does not take it at once.
    pub(crate) fn send(&mut self, at: i64, message: &str) -> bool {
        if self.socket.is_none() {
            self.socket = UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        }
        let Some(socket) = &self.socket else { return false };
        socket.send_to(framed(at, message).as_bytes(), &self.path).is_ok()
    }
}

/// RFC 5424 §6: the host is left to the syslog, which knows it.
fn framed(at: i64, message: &str) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at).ok().and_then(|at| at.format(&Rfc3339).ok());
    let time = time.as_deref().unwrap_or("-");
    format!("<{PRIORITY}>1 {time} - muster {} audit.checkpoint - {message}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_header_of_rfc_5424() {
        let text = framed(1_800_000_000, "{}");
        let id = std::process::id();
        assert_eq!(text, format!("<110>1 2027-01-15T08:00:00Z - muster {id} audit.checkpoint - {{}}"));
    }

    #[test]
    fn a_syslog_that_is_absent_or_takes_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = Syslog::new(&path);
        assert!(!syslog.send(1, "nobody listens"));
        let receiver = UnixDatagram::bind(&path).unwrap();
        assert!(syslog.send(1, "one"), "a syslog that starts later is found");
        let mut sent = 1;
        while syslog.send(1, "more") {
            sent += 1;
            assert!(sent < 100_000, "its queue is bounded, and then the message is dropped");
        }
        let mut octets = [0; 512];
        let length = receiver.recv(&mut octets).unwrap();
        assert!(octets[..length].ends_with(b" - one"));
        assert!(syslog.send(1, "room again"));
    }
}
