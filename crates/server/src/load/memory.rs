//! How many sessions the memory of this process has room for.
//!
//! The memory is what the machine has, or what the control group lets the process use, whichever is less: not what happens to be free, so that
//! a reload finds the same number as the start did.

use std::fs;
use std::path::{Path, PathBuf};

/// Sessions get this part of the memory: as much again goes to certificates and handshakes, and half stays for the kernel's socket buffers
/// and whatever else runs here.
const SHARE: u64 = 4;

/// What one session takes: 232 bytes in the slab of its shard, two cells of the index at its fullest, a pointer, and slack.
const SESSION_BYTES: u64 = 264;

/// Fewer than this are of no use; a machine too small for them needs a configured number.
const SESSIONS_MIN: u32 = 4_096;

/// More than one node of a carrier needs; they take 2.6 GB.
const SESSIONS_MAX: u32 = 10_000_000;

/// Assumed if the memory is unknown: a small machine.
const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;

/// The configured number, or for 0 what the memory has room for.
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

/// The least `memory.max` from the group of the process up to the root (cgroups(7), version 2).
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
    // "max" is no number, and no limit.
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
        assert_eq!(sessions_max(7), 7, "what is configured holds");
        assert!((SESSIONS_MIN..=SESSIONS_MAX).contains(&sessions_max(0)));
    }

    #[test]
    fn the_total_of_meminfo_is_found() {
        assert_eq!(total_of("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(limit_of_groups("12:memory:/docker/x\n"), None, "version 1 says nothing here");
    }
}
