//! The parameters of a run: the server, the devices, and their patience.
//!
//! `fleet` plays the run, and `device` derives the shared part of all devices from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coap::BlockSize;
use dtls::Suite;
use est::Persistence;
use pki::{Certificate, ServerName};

use crate::function::FleetFunctions;
use crate::identities::FleetIdentity;
use crate::link::LinkSpec;
use crate::schedule::Arrivals;

/// A run to play.
#[derive(Debug)]
pub struct Run<'r> {
    /// The server's address.
    pub server: SocketAddr,
    /// The name under which the devices reach it, for its certificate.
    pub server_name: ServerName<'static>,
    /// The URI, for the report.
    pub uri: String,
    /// The label that selects the profile.
    pub label: Option<String>,
    /// The trust anchors of the devices for the server.
    pub anchors: Vec<Arc<Certificate>>,
    /// The devices.
    pub devices: &'r [FleetIdentity],
    /// What they ask for.
    pub functions: FleetFunctions,
    /// How they arrive.
    pub arrivals: Arrivals,
    /// Bytes a block.
    pub block: BlockSize,
    /// The suite offered.
    pub suite: Suite,
    /// The seed of arrivals and link.
    pub seed: u64,
    /// How patient a device is.
    pub patience: Patience,
    /// Devices per 1,000 that leave without close_notify; the seed decides which.
    pub vanish_per_mille: u16,
    /// A bad link between some of the devices and the server.
    pub link: Option<LinkSpec>,
    /// Whether the certificate of each device is kept.
    pub keep: bool,
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
