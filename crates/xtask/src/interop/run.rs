//! One run of the hundred that a peer plays.

use std::net::SocketAddr;

/// How often each peer has to succeed.
pub(super) const RUNS: usize = 100;

/// One run.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) number: usize,
    /// Of the server, or of what stands in front of it.
    pub(super) server: SocketAddr,
}
