//! The events of a client: those of its association and those of its requests.

use std::sync::Arc;
use std::time::Instant;

use dtls::{IdentityUse, SessionFacts};
use pki::Certificate;

use super::answer::Answer;
use super::failure::Failure;

/// An event.
#[derive(Debug)]
pub enum ClientEvent {
    /// The server is authenticated; requests can start.
    Connected {
        /// The certificate of the server.
        server: Arc<Certificate>,
        /// What was negotiated.
        facts: SessionFacts,
        /// Whether the server asked for the device's certificate.
        identity: IdentityUse,
    },
    /// The current request continues over a new association.
    Reconnected {
        /// The certificate of the server.
        server: Arc<Certificate>,
        /// What was negotiated.
        facts: SessionFacts,
    },
    /// The server acknowledged the request and will answer later (RFC 7252 §5.2.2).
    Acknowledged,
    /// A try failed; the client makes another one by itself.
    Again {
        /// What failed.
        after: Failure,
        /// When the next try begins.
        at: Instant,
    },
    /// The answer to the request, checked.
    Done(Answer),
    /// The request, or the handshake, failed. If a handshake failed or the association ended, the client is over.
    Failed(Failure),
    /// The server ended the association while no request was in progress. With a [`Persistence`](super::Persistence)
    /// the next request begins another association, without it the client is over.
    Closed(dtls::Closed),
}
