//! What the kernel dropped because a shard's sockets were full.

use std::time::{Duration, Instant};

use net::udp::Socket;

/// One system call a socket in this time: nothing beside the datagrams of a busy shard, and an idle shard drops none.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The datagrams of all sockets of a shard.
#[derive(Default)]
pub(super) struct KernelDrops {
    looked: Option<Instant>,
    last: Vec<u32>,
    total: u64,
}

impl KernelDrops {
    /// The total, as of the last look.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Looks, if it is time.
    pub(super) fn look(&mut self, now: Instant, sockets: &[Socket]) {
        if self.looked.is_some_and(|last| now.saturating_duration_since(last) < LOOK_INTERVAL) {
            return;
        }
        self.looked = Some(now);
        self.last.resize(sockets.len(), 0);
        for (last, socket) in self.last.iter_mut().zip(sockets) {
            // A kernel that does not count leaves the metric at zero; nothing else depends on it.
            let Ok(dropped) = socket.receive_drops() else { continue };
            self.total += u64::from(dropped.wrapping_sub(*last));
            *last = dropped;
        }
    }
}
