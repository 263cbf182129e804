//! What a chain is asked to be good for.

use rustls_pki_types::UnixTime;

/// What a leaf is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Device,
    Server,
}

/// What a path is to be good for, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) role: Role,
    pub(super) utc: UnixTime,
}

/// What a path was judged by.
pub(super) struct Moment {
    pub(super) at: UnixTime,
    pub(super) demand: Demand,
}
