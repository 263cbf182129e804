//! How many sessions fit into the memory of this process.
//!
//! The memory is that of the machine or the limit of the process's control group, whichever is less. The free memory is not used, so that a reload
//! computes the same number as the start did.

use std::fs;
use std::path::{Path, PathBuf};

/// Sessions get this part of the memory: certificates and handshakes take as much again, and half of the memory is left for the kernel's socket
/// buffers and for other processes.
const SHARE: u64 = 4;

/// Bytes per session: 232 in the slab of its shard, two cells of the index when it is full, a pointer, and a margin.
const SESSION_BYTES: u64 = 264;

/// Fewer sessions than this are of no use; a machine that is too small for them needs a configured number.
const SESSIONS_MIN: u32 = 4_096;

/// More than one node of a carrier needs; these sessions take 2.6 GB.
const SESSIONS_MAX: u32 = 10_000_000;

/// Assumed if the memory size is unknown: a small machine.
const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;

/// The configured number, or for 0 the number that fits into memory.
pub(super) fn sessions_max(configured: u32) -> u32 {
    if configured > 0 { configured } else { derived(memory_bytes()) }
}

fn derived(memory_bytes: u64) -> u32 {
    u32::try_from(memory_bytes / SHARE / SESSION_BYTES).unwrap_or(u32::MAX).clamp(SESSIONS_MIN, SESSIONS_MAX)
}

fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| limit_of_groups(&text));
    machine.into_iter().chain(group).min().unwrap_or(MEMORY_BYTES_DEFAULT)
}

/// `MemTotal` of proc_meminfo(5).
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// The smallest `memory.max` from the control group of the process up to the root (cgroups(7), version 2).
fn limit_of_groups(cgroup: &str) -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let group = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own: PathBuf = root.join(group);
    own.ancestors()
        .take_while(|path| path.starts_with(root))
        .filter_map(|path| limit_in(&path.join("memory.max")))
        .min()
}

fn limit_in(file: &Path) -> Option<u64> {
    // "max" is not a number and means that there is no limit.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_follows_the_memory_between_its_bounds() {
        assert_eq!(derived(1 << 30), 1_016_800);
        assert_eq!(derived(0), SESSIONS_MIN);
        assert_eq!(derived(u64::MAX), SESSIONS_MAX);
        assert_eq!(sessions_max(7), 7, "a configured number is used as it is");
        assert!((SESSIONS_MIN..=SESSIONS_MAX).contains(&sessions_max(0)));
    }

    #[test]
    fn the_total_of_meminfo_is_found() {
        assert_eq!(total_of("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(limit_of_groups("12:memory:/docker/x\n"), None, "version 1 sets no limit here");
    }
}
