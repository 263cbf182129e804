//! EST-coaps (RFC 9148): the stack of DTLS, CoAP and resources, server and client, sans-I/O.
//!
//! What it is: [`Server`], all devices of one shard; [`Client`], one device; the closed set of [`Reason`]s with the table
//! that explains each; the resource table, discovery, and the formatter behind `--trace`.
//!
//! What it is not: it opens no socket, reads no clock, starts no thread, and decides nothing about certificates;
//! `authority` decides, and [`Server`] hands it jobs as outputs.
//!
//! `server` and `loadgen` drive it with sockets, `sim` in virtual time.

mod client;
mod config;
pub mod discovery;
pub mod fuzz;
mod key_delivery;
mod keys;
pub mod reason;
mod renewal_info;
pub mod resources;
mod room;
mod server;
pub mod trace;
mod verify;

pub use client::{
    AnchorUpdate, Answer, AnswerFault, CaCertificates, Client, ClientConfig, ClientEvent, DtlsConfig, EnvelopedKey,
    ErrorResponse, Failure, Operation, Persistence, ReceivedKey, StartFault, UnreadableAnswer,
};
pub use config::{ConfigFault, EnrolmentLimits, Nested, ServerConfig, ServerSpec};
pub use dtls::{Now, Path, Random, SessionId, SocketIndex, Transmit, UnixTime};
pub use key_delivery::{DeliveredKey, KeyDelivery, KeyDeliveryFlaw};
pub use keys::{IdentityFault, identity};
pub use reason::{Reason, Stage};
pub use renewal_info::{RenewalInfo, RenewalInfoFlaw};
pub use resources::{Packing, Resource};
pub use server::{
    Alarm, Attempt, Backlog, Counters, Jitter, JobId, Notice, OFFERED_BYTES_MAX, Output, PublicKeyDone, PublicKeyJob,
    Server, Success,
};
pub use verify::{
    AnchorDatabase, Authenticated, AuthenticatedServer, CertificateCache, NameAuthorities, PeerDevice, PeerVerifier,
    ServerVerifier,
};
