//! The CPU time and memory of a process, and the core that it runs on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::Program;

/// Runs a program on one core, if there are two cores to separate.
pub(crate) fn pinned(core: usize, program: &Path) -> Program {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        Program::new("taskset").args(["-c", &core.to_string()]).arg(program)
    } else {
        Program::new(program)
    }
}

/// The CPU time of a process: user and system time of each thread from the scheduler's own account in nanoseconds, summed by the thread's name.
/// The server's threads live as long as the server; a thread that ends between listing and reading is left out.
pub(in super::super) struct CpuTime {
    pub(super) by_thread: BTreeMap<String, u64>,
    user_ticks: f64,
    system_ticks: f64,
}

impl CpuTime {
    pub(in super::super) fn of(process_id: u32) -> Result<Self> {
        let mut by_thread = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{process_id}/task"))? {
            let folder = task?.path();
            let Ok(account) = std::fs::read_to_string(folder.join("schedstat")) else { continue };
            let running = account.split(' ').next().unwrap_or_default().parse::<u64>();
            let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned();
            *by_thread.entry(name).or_default() +=
                running.with_context(|| format!("schedstat contains {account:?}"))?;
        }
        let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat"))?;
        // After the name, which may hold anything, utime and stime are the 12th and 13th field (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or_default();
        Ok(Self { by_thread, user_ticks: ticks(11), system_ticks: ticks(12) })
    }

    pub(in super::super) fn nanoseconds(&self) -> u64 {
        self.by_thread.values().sum()
    }

    pub(in super::super) fn since(&self, before: &Self) -> Self {
        let earlier = |name: &String| before.by_thread.get(name).copied().unwrap_or_default();
        Self {
            by_thread: self
                .by_thread
                .iter()
                .map(|(name, now)| (name.clone(), now.saturating_sub(earlier(name))))
                .collect(),
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }

    /// The kernel's part, in clock ticks.
    pub(super) fn system_share(&self) -> f64 {
        let all = self.user_ticks + self.system_ticks;
        if all > 0.0 { self.system_ticks / all } else { 0.0 }
    }
}

pub(in super::super) fn resident_kib(process_id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_is_counted() {
        let now = CpuTime::of(std::process::id()).unwrap();
        assert!(now.nanoseconds() > 0);
        assert_eq!(now.since(&now).nanoseconds(), 0);
        assert!(CpuTime::of(u32::MAX).is_err());
    }
}
