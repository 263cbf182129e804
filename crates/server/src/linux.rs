//! What is Linux's: which core a shard runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of one shard, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Where the scheduler wants it.
    Anywhere,
    /// The n-th of the cores that this process may use.
    Core(usize),
}

impl Placement {
    /// With one shard per core, each shard stays on its core, so its sessions stay in that core's caches. A configured number of shards is left to
    /// the scheduler.
    pub(crate) fn of(configured_shards: u32, shard: u16) -> Self {
        if configured_shards == 0 { Self::Core(usize::from(shard)) } else { Self::Anywhere }
    }

    /// Applies to the calling thread. A system that refuses (a container without the right) serves as well, a little slower.
    pub(crate) fn apply(self) {
        let Self::Core(wanted) = self else { return };
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let Some(core) = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).nth(wanted) else { return };
        let mut one = CpuSet::new();
        one.set(core);
        if let Err(error) = sched_setaffinity(None, &one) {
            tracing::debug!(%error, core, "cannot pin this shard to a core; it runs on any");
        }
    }
}
