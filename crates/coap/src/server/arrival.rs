//! A request on its way through the message layer: as it arrived, once its options are checked, and where it is refused.

use super::key::RequestKey;
use super::refusal::RequestRefusal;
use super::request::Head;
use super::response::Response;
use super::write::Blocks;
use crate::Message;

/// A request as it arrived, with the names that later requests are compared with.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'d> {
    pub(super) message: Message<'d>,
    pub(super) fingerprint: u64,
}

/// A request that passed the check of its options.
#[derive(Clone, Copy)]
pub(super) struct Checked<'d> {
    pub(super) head: Head<'d>,
    pub(super) blocks: Blocks,
    pub(super) key: RequestKey,
    pub(super) fingerprint: u64,
}

/// Why a request gets an error response: ours, or that of the resource table.
pub(super) enum Refused {
    Here(RequestRefusal),
    ByTable(Response<'static>),
}

impl From<RequestRefusal> for Refused {
    fn from(refusal: RequestRefusal) -> Refused {
        Refused::Here(refusal)
    }
}
