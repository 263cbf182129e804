//! The seam to the resource table: what the message layer asks of it about the head of a request.

use super::request::Head;
use super::response::Response;

/// The resource table. It is asked on the first block, before anything is gathered: is there such a resource, and how much
/// may its body be? What it answers is typed: its words come back to the caller with the request or with the refusal.
pub trait Resources {
    /// What a request asks for.
    type Target;
    /// Why a request is refused.
    type Refusal;

    /// Judges the head of a request, once for each message.
    ///
    /// # Errors
    /// Why there is no such resource, or not in this form: 4.04, 4.05, 4.15, 4.06, ...
    fn find(&self, head: &Head<'_>) -> Result<Self::Target, Self::Refusal>;

    /// Whether a request for `target` may begin now.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, target: &Self::Target) -> Result<Admit, Self::Refusal>;

    /// The response that refuses a request.
    fn response(&self, refusal: &Self::Refusal) -> Response<'static>;
}

/// A request may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The most bytes its body may have; above it 4.13.
    pub body_bytes_max: usize,
    /// What happens to its duplicates.
    pub repeat: Repeat,
}

/// What happens to a duplicate of a request (RFC 7252 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is idempotent: a duplicate is handed up again and answered with the same bytes.
    Computed,
    /// It is executed once; its outcome is kept for EXCHANGE_LIFETIME. Once its client has fetched it to the end and had
    /// MAX_TRANSMIT_WAIT to ask again, it may make room for others; its duplicates get 4.08 then.
    Remembered,
    /// It is executed once, and its outcome is kept for EXCHANGE_LIFETIME in any case: it cannot be had again, such as a private
    /// key that the server made.
    Irreplaceable,
}
