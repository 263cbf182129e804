//! Configuration of a server or a client. Configurations are snapshots: a change makes a new one.

use std::sync::Arc;
use std::time::Duration;

use crate::cookie::CookieKeys;
use crate::crypto::{Group, Suite};
use crate::identity::Identity;
use crate::limits::{EndpointLimits, HANDSHAKE_DEADLINE_DEFAULT, HANDSHAKE_MESSAGE_BYTES_MAX, MTU_DEFAULT};
use crate::verify::VerifyPeer;
use crate::wire::RecordLimit;

/// Whether the peer must support extended_master_secret (RFC 7627).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedMasterSecret {
    /// Required: without it there is no session (RFC 7627 §5.2, §5.3).
    Require,
    /// Used if the peer supports it; [`crate::SessionFacts`] says whether it was used.
    Prefer,
}

/// Where the public-key steps of a server's handshake run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeySteps {
    /// At once, inside `handle_datagram`.
    Inline,
    /// As jobs that the caller runs on a thread of its choice: `poll_public_key_job`,
    /// `complete_public_key_job`.
    Suspended,
}

/// Configuration of an [`crate::Endpoint`].
pub struct ServerConfig<V> {
    /// The certificate chain and key of the server.
    pub identity: Arc<Identity>,
    /// The verifier that judges the clients.
    pub verifier: Arc<V>,
    /// Suites in the server's order of preference.
    pub suites: Vec<Suite>,
    /// Whether the master secret must be bound to the handshake.
    pub extended_master_secret: ExtendedMasterSecret,
    /// The secret of the stateless cookies.
    pub cookie: CookieKeys,
    /// Where the public-key steps run.
    pub public_key_steps: PublicKeySteps,
    /// Bounds.
    pub limits: EndpointLimits,
}

impl<V: VerifyPeer> ServerConfig<V> {
    /// All suites, extended master secret preferred, steps inline. GCM comes first because it is cheaper where the hardware supports it;
    /// CCM_8 comes before CCM because its records are eight bytes shorter, which matters on slow links.
    pub fn new(identity: Arc<Identity>, verifier: Arc<V>, cookie: CookieKeys) -> Self {
        Self {
            identity,
            verifier,
            suites: vec![Suite::EcdheEcdsaAes128GcmSha256, Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm],
            extended_master_secret: ExtendedMasterSecret::Prefer,
            cookie,
            public_key_steps: PublicKeySteps::Inline,
            limits: EndpointLimits::default(),
        }
    }
}

/// Configuration of a [`crate::Client`].
pub struct ClientConfig<V> {
    /// The certificate chain and key that the client sends when asked; with `None` it sends an empty list.
    pub identity: Option<Arc<Identity>>,
    /// The verifier that judges the server.
    pub verifier: Arc<V>,
    /// Suites in the client's order of preference.
    pub suites: Vec<Suite>,
    /// Groups in the client's order of preference: those of the key agreement, and the curve of the server's certificate.
    pub groups: Vec<Group>,
    /// The maximum record size that the client asks the server to keep; `None` asks for nothing.
    pub record_limit: Option<RecordLimit>,
    /// Longer handshake messages are dropped: models the buffer of a small device.
    pub message_bytes_max: usize,
    /// Whether the master secret must be bound to the handshake.
    pub extended_master_secret: ExtendedMasterSecret,
    /// Whether extended_master_secret is offered at all: a stack built without RFC 7627 does not offer it.
    pub offers_extended_master_secret: bool,
    /// DNS name for server_name (RFC 6066 §3); an IP address is not allowed there.
    pub server_name: Option<String>,
    /// Bytes of UDP payload that one datagram of ours may carry.
    pub mtu: usize,
    /// First retransmission timeout, doubled at each retransmission.
    pub retransmission_initial: Duration,
    /// Deadline of the whole handshake.
    pub handshake_deadline: Duration,
}

impl<V: VerifyPeer> ClientConfig<V> {
    /// CCM_8 comes first because RFC 9148 §3 makes it mandatory; timers are those of RFC 6347 §4.2.4.1.
    pub fn new(identity: Option<Arc<Identity>>, verifier: Arc<V>) -> Self {
        Self {
            identity,
            verifier,
            suites: vec![Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128GcmSha256],
            groups: vec![Group::Secp256r1, Group::Secp384r1],
            record_limit: None,
            message_bytes_max: HANDSHAKE_MESSAGE_BYTES_MAX,
            extended_master_secret: ExtendedMasterSecret::Prefer,
            offers_extended_master_secret: true,
            server_name: None,
            mtu: MTU_DEFAULT,
            retransmission_initial: Duration::from_secs(1),
            handshake_deadline: HANDSHAKE_DEADLINE_DEFAULT,
        }
    }

    /// The same configuration with another verifier.
    #[must_use]
    pub fn with_verifier(&self, verifier: Arc<V>) -> Self {
        Self {
            identity: self.identity.clone(),
            verifier,
            suites: self.suites.clone(),
            groups: self.groups.clone(),
            server_name: self.server_name.clone(),
            ..*self
        }
    }
}
