//! The configuration of a client.

use std::sync::Arc;
use std::time::Duration;

use coap::{BlockSize, Kind};

use super::persistence::Persistence;
use crate::discovery::FoundResources;
use crate::resources::{Packing, WELL_KNOWN_ROOT};
use crate::verify::ServerVerifier;

/// The DTLS side of a client's configuration; it contains the device's identity, so each device has its own.
pub type DtlsConfig = dtls::ClientConfig<ServerVerifier>;

/// The configuration of a client. A fleet shares one.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The root of the paths and, if there is one, the label below it.
    pub path: Vec<String>,
    /// The paths of a discovery answer, instead of those below `path`.
    pub found: Option<Arc<FoundResources>>,
    /// The block size of both directions; smaller blocks are used if the MTU requires them.
    pub block: BlockSize,
    /// The format that Accept asks for; without it the server answers with 281.
    pub accept: Option<Packing>,
    /// Confirmable, which RFC 9148 §4.4 recommends, or not.
    pub kind: Kind,
    /// ACK_TIMEOUT (RFC 7252 §4.8).
    pub ack_timeout: Duration,
    /// How long a separate response is awaited once the server has acknowledged the request. A server that waits for a person or another CA answers late;
    /// one that lost its state never answers.
    pub response_wait: Duration,
    /// Uri-Host, for a server that was dialled by a DNS name; an address must not be put there (RFC 7252 §5.10.1).
    pub uri_host: Option<String>,
    /// Uri-Port. It can be left out (RFC 9148 §4.4) and is left out by default.
    pub uri_port: Option<u16>,
    /// The maximum bytes of an answer.
    pub answer_bytes_max: usize,
    /// What an answer of `/crts` does to the client's trust anchors.
    pub anchor_update: AnchorUpdate,
    /// How the client persists by itself; without it each failure is reported at once and left to the caller.
    pub persistence: Option<Persistence>,
}

/// What an answer of `/crts` does to a client's trust anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorUpdate {
    /// Its anchors are the Explicit database from then on, and nothing else is trusted (RFC 7030 §4.1.3). The server of the
    /// current association is judged again before the next request (RFC 9148 §9.1).
    Adopt,
    /// Nothing: for a fleet of the load generator, whose members share one verifier.
    Ignore,
}

/// All the certificates of a CA: ten of 1.5 KiB in a CMS message.
const ANSWER_BYTES_MAX_DEFAULT: usize = 16 * 1024;

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            path: WELL_KNOWN_ROOT.map(str::to_owned).to_vec(),
            found: None,
            block: BlockSize::B512,
            accept: None,
            kind: Kind::Confirmable,
            ack_timeout: coap::ACK_TIMEOUT,
            response_wait: coap::EXCHANGE_LIFETIME,
            uri_host: None,
            uri_port: None,
            answer_bytes_max: ANSWER_BYTES_MAX_DEFAULT,
            anchor_update: AnchorUpdate::Adopt,
            persistence: None,
        }
    }
}
