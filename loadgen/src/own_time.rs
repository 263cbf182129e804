//! The time that the kernel gives a thread of the generator, or does not give it.

use std::fs;
use std::time::Duration;

/// What the kernel counts of one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThreadTime {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// How long it could run and waited for a core, because other threads had it.
    pub(crate) waiting: Duration,
}

impl ThreadTime {
    /// Of the calling thread, since its start. A kernel without /proc/thread-self/schedstat counts no waiting.
    pub(crate) fn now() -> Self {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu = Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0));
        let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Self { cpu, waiting: run_delay(&line).unwrap_or_default() }
    }

    /// What came since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), waiting: self.waiting.saturating_sub(before.waiting) }
    }
}

/// The second of the three numbers: nanoseconds on a run queue (the scheduler statistics of Linux).
fn run_delay(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_the_second_number() {
        assert_eq!(run_delay("177564 10005269 2\n"), Some(Duration::from_nanos(10_005_269)));
        assert_eq!([run_delay(""), run_delay("1"), run_delay("1 x 2")], [None; 3]);
    }

    #[test]
    fn what_a_thread_computes_is_its_own_time() {
        let before = ThreadTime::now();
        while ThreadTime::now().since(before).cpu < Duration::from_millis(5) {}
        assert_eq!(before.since(ThreadTime::now()), ThreadTime::default(), "time does not run backwards");
    }
}
