//! What a server or a client is configured with. Snapshots: a change makes a new one.

use std::sync::Arc;
use std::time::Duration;

use crate::cookie::CookieKeys;
use crate::crypto::{Group, Suite};
use crate::identity::Identity;
use crate::limits::{EndpointLimits, HANDSHAKE_DEADLINE_DEFAULT, HANDSHAKE_MESSAGE_BYTES_MAX, MTU_DEFAULT};
use crate::verify::VerifyPeer;
use crate::wire::RecordLimit;

/// Whether extended_master_secret (RFC 7627) is demanded of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedMasterSecret {
    /// Without it there is no session (RFC 7627 §5.2, §5.3).
    Require,
    /// Used where the peer has it; [`crate::SessionFacts`] says so.
    Prefer,
}

/// Where the public-key steps of a server's handshake run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeySteps {
    /// At once, inside `handle_datagram`.
    Inline,
    /// As jobs that the caller runs where it likes: `poll_public_key_job`, `complete_public_key_job`.
    Suspended,
}

/// Configuration of an [`crate::Endpoint`].
pub struct ServerConfig<V> {
    /// What the server shows of itself.
    pub identity: Arc<Identity>,
    /// Who judges the clients.
    pub verifier: Arc<V>,
    /// Suites in the server's order of preference.
    pub suites: Vec<Suite>,
    /// Whether the master secret must be bound to the handshake.
    pub extended_master_secret: ExtendedMasterSecret,
    /// The secret of the stateless cookies.
    pub cookie: CookieKeys,
    /// Where signatures and key agreement run.
    pub public_key_steps: PublicKeySteps,
    /// Bounds.
    pub limits: EndpointLimits,
}

impl<V: VerifyPeer> ServerConfig<V> {
    /// All suites (GCM first: it is the cheaper one where the hardware helps; CCM_8 before CCM, for it is eight bytes a record
    /// shorter on links where they count), extended master secret preferred, steps inline.
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
    /// What the client shows when it is asked; `None` answers with an empty list.
    pub identity: Option<Arc<Identity>>,
    /// Who judges the server.
    pub verifier: Arc<V>,
    /// Suites in the client's order of preference.
    pub suites: Vec<Suite>,
    /// Groups in the client's order of preference: those of the key agreement, and the curve of the server's certificate.
    pub groups: Vec<Group>,
    /// What the client asks the server to keep its records below; `None` asks nothing.
    pub record_limit: Option<RecordLimit>,
    /// Longer handshake messages than this are dropped: the buffer of a small device.
    pub message_bytes_max: usize,
    /// Whether the master secret must be bound to the handshake.
    pub extended_master_secret: ExtendedMasterSecret,
    /// Whether it is offered at all: a stack that is built without RFC 7627 does not.
    pub offers_extended_master_secret: bool,
    /// DNS name for server_name (RFC 6066 §3); an address does not belong there.
    pub server_name: Option<String>,
    /// Bytes of UDP payload that one datagram of ours may carry.
    pub mtu: usize,
    /// First retransmission timeout, doubled at each retransmission.
    pub retransmission_initial: Duration,
    /// The handshake must end within this.
    pub handshake_deadline: Duration,
}

impl<V: VerifyPeer> ClientConfig<V> {
    /// CCM_8 first, which RFC 9148 §3 makes mandatory; timers of RFC 6347 §4.2.4.1.
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
}
