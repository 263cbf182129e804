//! A request on its way through the message layer: as it arrived, once its options are checked, and where it is refused.

use super::key::RequestKey;
use super::refusal::RequestRefusal;
use super::request::Head;
use super::resources::{Admit, Resources};
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

/// Why a request gets an error response: ours, or that of the resource table, with what the table said for the caller.
pub(super) enum Refused<T, R> {
    /// With the target, where the table had found one.
    Here(RequestRefusal, Option<T>),
    ByTable(R, Response<'static>),
}

impl<T, R> From<RequestRefusal> for Refused<T, R> {
    fn from(refusal: RequestRefusal) -> Refused<T, R> {
        Refused::Here(refusal, None)
    }
}

/// [`Refused`] under a table.
pub(super) type RefusedBy<T> = Refused<<T as Resources>::Target, <T as Resources>::Refusal>;

/// A request that begins: what it asks for, and under which limits.
pub(super) type Admitted<T> = (<T as Resources>::Target, Admit);

/// Asks the table about a request that begins.
pub(super) fn admit<T: Resources>(table: &T, head: &Head<'_>) -> Result<Admitted<T>, RefusedBy<T>> {
    let admitted = table.find(head).and_then(|target| table.admit(&target).map(|admit| (target, admit)));
    admitted.map_err(|refusal| {
        let response = table.response(&refusal);
        Refused::ByTable(refusal, response)
    })
}
