//! A request inside the message layer: as it arrived, after the check of its options, and where it is refused.

use super::key::RequestKey;
use super::refusal::RequestRefusal;
use super::request::Head;
use super::resources::{Admit, Resources};
use super::response::Response;
use super::write::Blocks;
use crate::Message;

/// A request as it arrived, with the hashes that later requests are compared with.
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

/// Why a request gets an error response: a refusal of the message layer, or of the resource table with the table's
/// reason for the caller.
pub(super) enum Refused<T, R> {
    /// With the target, if the table had found one.
    Here(RequestRefusal, Option<T>),
    ByTable(R, Response<'static>),
}

impl<T, R> From<RequestRefusal> for Refused<T, R> {
    fn from(refusal: RequestRefusal) -> Self {
        Self::Here(refusal, None)
    }
}

/// [`Refused`] under a table.
pub(super) type RefusedBy<T> = Refused<<T as Resources>::Target, <T as Resources>::Refusal>;

/// A request that begins: its target, and the limits for it.
pub(super) type Admitted<T> = (<T as Resources>::Target, Admit);

/// Asks the table about a request that begins.
pub(super) fn admit<T: Resources>(table: &T, head: &Head<'_>) -> Result<Admitted<T>, RefusedBy<T>> {
    let admitted = table.find(head).and_then(|target| table.admit(&target).map(|admit| (target, admit)));
    admitted.map_err(|refusal| {
        let response = table.response(&refusal);
        Refused::ByTable(refusal, response)
    })
}
