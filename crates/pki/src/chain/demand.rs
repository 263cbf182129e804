//! The requirements that a chain must meet.

use rustls_pki_types::UnixTime;

/// The intended use of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LeafUse {
    Device,
    Server,
}

/// The use and the time that a path must be valid for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) leaf_use: LeafUse,
    pub(super) utc: UnixTime,
}

/// The rules that a path was judged by.
pub(super) struct Moment {
    pub(super) at: UnixTime,
    pub(super) demand: Demand,
}
