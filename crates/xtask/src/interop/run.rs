//! One of a peer's hundred runs.

use std::net::SocketAddr;

/// How many times each peer must succeed.
pub(super) const RUNS: usize = 100;

/// One run.
#[derive(Clone, Copy)]
pub(super) struct StoryRun {
    pub(super) number: usize,
    /// The address of the server, or of the proxy in front of it.
    pub(super) server: SocketAddr,
}
