//! The parameters of a run: the server, the devices, what they do, and their patience.
//!
//! `fleet` plays the run, and `device` derives the shared part of all devices from it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use est::Persistence;
use pki::{Certificate, ServerName};

use crate::identities::FleetIdentities;
use crate::part::Segment;
use crate::plan::Plan;

/// A run to play.
#[derive(Debug)]
pub struct Run<'r> {
    /// The server.
    pub server: LoadedServer,
    /// The devices of this machine.
    pub devices: &'r FleetIdentities,
    /// What they do.
    pub plan: &'r Plan,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// How patient a device is.
    pub patience: Patience,
    /// Threads that play the fleet.
    pub threads: usize,
    /// Which share of the fleet this machine plays.
    pub segment: Segment,
    /// Whether the certificate of each device is kept.
    pub keep: bool,
    /// Plays a Registrar over HTTPS, instead of the devices themselves: the server's URI is then that of its EST service.
    pub registrar: Option<RegistrarIdentity>,
    /// Where each single measurement goes, if anywhere.
    pub samples: Option<crate::samples::SampleSender>,
}

/// A server, and what a device has to know of it.
#[derive(Debug, Clone)]
pub struct LoadedServer {
    /// Its address.
    pub address: SocketAddr,
    /// The name under which the devices reach it, for its certificate.
    pub name: ServerName<'static>,
    /// The URI, for the report.
    pub uri: String,
    /// The segments of the path above label and function: `.well-known`, `est` by default.
    pub root: Vec<String>,
    /// The trust anchors of the devices for the server.
    pub anchors: Vec<Arc<Certificate>>,
    /// Requests are linked to their session (RFC 9148 §3): signed when the session is there, instead of before the run.
    pub linked_requests: bool,
    /// Devices do not ask for `/crts` before they enrol.
    pub without_ca_certificates: bool,
}

impl LoadedServer {
    /// A server with the paths of RFC 9148.
    #[must_use]
    pub fn new(address: SocketAddr, name: ServerName<'static>, uri: String, anchors: Vec<Arc<Certificate>>) -> Self {
        let root = est::ClientConfig::default().path;
        Self { address, name, uri, root, anchors, linked_requests: false, without_ca_certificates: false }
    }
}

/// What a Registrar shows to the server.
#[derive(Clone)]
pub struct RegistrarIdentity {
    /// Its certificate chain, DER, leaf first.
    pub certificate: Vec<Vec<u8>>,
    /// The leaf's key, PKCS #8.
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

impl fmt::Debug for RegistrarIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrarIdentity").field("certificates", &self.certificate.len()).finish_non_exhaustive()
    }
}

/// How patient a device is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A device that holds no certificate this long after its start gives up.
    pub timeout: Duration,
    /// Sessions that a device opens before it gives up: it repeats a request without an answer, as real devices do.
    pub attempts: u32,
    /// CoAP's ACK_TIMEOUT (RFC 7252 §4.8).
    pub ack_timeout: Duration,
    /// DTLS's first retransmission timeout (RFC 6347 §4.2.4.1).
    pub handshake_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            attempts: 3,
            ack_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(1),
        }
    }
}

impl Patience {
    /// Time of one handshake. The timer of a flight doubles, so without it a handshake that loses one datagram again and again takes the time of
    /// all attempts.
    pub(crate) fn handshake_deadline(&self) -> Duration {
        self.timeout / self.attempts.max(1)
    }

    /// The persistence of the client. A refusal is a result of the run and is not repeated; "later" is obeyed until the time is over.
    pub(crate) fn persistence(&self) -> Persistence {
        Persistence {
            deadline: self.timeout,
            handshakes_max: self.attempts.saturating_sub(1),
            refusals_max: 0,
            delays_max: u32::MAX,
            ..Persistence::default()
        }
    }
}
