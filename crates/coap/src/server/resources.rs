//! The interface to the resource table: what the message layer asks about the head of a request.

use super::request::Head;
use super::response::Response;

/// The resource table. It is asked about the first block, before a body is gathered: does the resource exist, and how
/// large may its body be? Its answers are typed: they are returned to the caller with the request or with the refusal.
pub trait Resources {
    /// What a request asks for.
    type Target;
    /// Why a request is refused.
    type Refusal;

    /// Judges the head of a request, once for each message.
    ///
    /// # Errors
    /// Why there is no such resource, or why it does not accept this form of request: 4.04, 4.05, 4.15, 4.06, ...
    fn find(&self, head: &Head<'_>) -> Result<Self::Target, Self::Refusal>;

    /// Whether a request for `target` may begin now.
    ///
    /// # Errors
    /// Why it may not begin.
    fn admit(&self, target: &Self::Target) -> Result<Admit, Self::Refusal>;

    /// The response that refuses a request.
    fn response(&self, refusal: &Self::Refusal) -> Response<'static>;
}

/// The conditions under which a request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The maximum bytes of its body; a larger one gets 4.13.
    pub body_bytes_max: usize,
    /// How its duplicates are handled.
    pub repeat: Repeat,
}

/// How a duplicate of a request is handled (RFC 7252 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The request is idempotent: a duplicate is handed up again and answered with the same bytes.
    Computed,
    /// The request is executed once; its outcome is kept for EXCHANGE_LIFETIME. The outcome may be evicted earlier,
    /// once the client has fetched all of it and had MAX_TRANSMIT_WAIT to ask again; duplicates then get 4.08.
    Remembered,
    /// The request is executed once, and its outcome is always kept for EXCHANGE_LIFETIME: it cannot be produced again,
    /// such as a private key that the server generated.
    Irreplaceable,
}
