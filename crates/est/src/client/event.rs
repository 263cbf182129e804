//! What a client tells: the course of its association and its requests.

use std::sync::Arc;
use std::time::Instant;

use dtls::{IdentityUse, SessionFacts};
use pki::Certificate;

use super::answer::Answer;
use super::failure::Failure;

/// What happened.
#[derive(Debug)]
pub enum ClientEvent {
    /// The server is authenticated; requests can start.
    Connected {
        /// The certificate it showed.
        server: Arc<Certificate>,
        /// What was negotiated.
        facts: SessionFacts,
        /// Whether the server asked for the device's certificate.
        identity: IdentityUse,
    },
    /// The request that was under way goes on over another association.
    Reconnected {
        /// The certificate that the server showed.
        server: Arc<Certificate>,
        /// What was negotiated.
        facts: SessionFacts,
    },
    /// The server acknowledged the request and will answer later (RFC 7252 §5.2.2).
    Acknowledged,
    /// An attempt failed; the client makes another one by itself.
    Again {
        /// What failed.
        after: Failure,
        /// When the next try begins.
        at: Instant,
    },
    /// The answer to the request, checked.
    Done(Answer),
    /// The request, or the handshake, failed. After a handshake or an association that ended the client is over.
    Failed(Failure),
    /// The server ended the association while nothing was asked. With a [`Persistence`](super::Persistence) the next request begins another
    /// one, without it the client is over.
    Closed(dtls::Closed),
}
