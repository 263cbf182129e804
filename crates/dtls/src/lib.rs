//! DTLS 1.2 (RFC 6347), sans-I/O: an [`Endpoint`] that holds all sessions of one socket shard, and a [`Client`] for one association.
//!
//! What it is: records, cookies, handshakes with certificates on both sides, retransmission, replay protection, alerts. The suites are
//! `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8` and `TLS_ECDHE_ECDSA_WITH_AES_128_CCM` (RFC 7251) and
//! `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256` (RFC 5289).
//! What it is not: it opens no socket, reads no clock, judges no certificate (that is [`VerifyPeer`]) and knows nothing of CoAP.
//! Who drives it: a shell that gives datagrams and time to `handle_*`, and then drains `poll_event`, `poll_transmit`, `poll_public_key_job`
//! and `poll_timeout`.
//!
//! ```text
//!                 handle_datagram  handle_timeout  complete_public_key_job
//!                        │               │                │
//!   ┌────────────────────▼───────────────▼────────────────▼──────────────────┐
//!   │ endpoint   Association ─► slot; cookies for peers without one; timers  │
//!   │ session    an established association, small                           │
//!   │ handshake  the states of server and client; flights, fragments,        │
//!   │            transcript, which both share                                │
//!   │ record     records found, opened, sealed; one window an epoch          │
//!   │ wire, crypto                                                           │
//!   └────────────────────┬───────────────┬────────────────┬──────────────────┘
//!                        ▼               ▼                ▼
//!                   poll_transmit    poll_event   poll_public_key_job
//! ```
//!
//! A storey uses those below it and none above. [`Client`] is the other end's `endpoint`: it holds one handshake or one session.

mod client;
mod config;
mod cookie;
mod crypto;
mod drops;
mod endpoint;
pub mod fuzz;
mod handshake;
mod identity;
mod limits;
mod observer;
mod path;
mod port;
mod random;
mod record;
mod refusal;
mod session;
mod session_id;
mod time;
mod verify;
mod wire;

// Three checks of the client's authentication can be left out of a build, so that the walk in `tests/walk.rs` shows that it would notice
// (`cargo xtask seams`). Such a build is never a release.
#[cfg(all(
    not(debug_assertions),
    any(muster_seam = "certificate_verify", muster_seam = "empty_certificate", muster_seam = "finished")
))]
compile_error!("a build with a seam authenticates nobody: it is for tests alone");

pub use client::{Client, ClientEvent};
pub use config::{ClientConfig, ExtendedMasterSecret, PublicKeySteps, ServerConfig};
pub use cookie::CookieKeys;
pub use crypto::{
    EcdsaKeyFault, EcdsaPublicKey, EcdsaSigningKey, Group, NamedCurve, SignatureCheck, SignatureScheme, Suite, Verdicts,
};
pub use drops::{DropCounters, DropReason};
pub use endpoint::{Admission, Endpoint, Event, Occupation, SessionCounts, Transmit};
pub use handshake::client::IdentityUse;
pub use handshake::public_key::{PublicKeyDone, PublicKeyJob};
pub use identity::Identity;
pub use limits::{CERTIFICATES_MAX, EndpointLimits, HANDSHAKE_MESSAGE_BYTES_MAX, MTU_DEFAULT, MTU_MAX, MTU_MIN};
pub use observer::{Direction, Observer, TraceEvent};
pub use path::{Path, SocketIndex};
pub use random::Random;
pub use refusal::{HandshakeRefusal, Side};
pub use session::{Closed, SendFault, SessionFacts};
pub use session_id::SessionId;
pub use time::{Now, UnixTime};
pub use verify::{Account, CertificateFault, CertificateRefusal, Judgement, KeyAlone, UnprovenPeer, VerifyPeer};
pub use wire::{AlertDescription, AlertLevel, AuthorityKeyHash, FragmentLength, HandshakeType, Offered, RecordLimit};
