//! What the kernel reports about the process, read by each scrape.

use std::fs;

/// What `/proc` reports about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessFacts {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) open_descriptors: f64,
    pub(super) descriptors_max: f64,
}

impl ProcessFacts {
    /// A fact that cannot be read is 0.
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; no process has 2^53 of anything")]
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (ticks, pages) = ticks_and_pages(&stat);
        // The number of descriptors of a process is bounded. The listing itself uses one.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |listing| listing.count().saturating_sub(1));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self {
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64,
            resident_bytes: pages as f64 * rustix::param::page_size() as f64,
            open_descriptors: open as f64,
            descriptors_max: limit.map_or(f64::INFINITY, |limit| limit as f64),
        }
    }
}

/// `utime` + `stime`, and `rss`, of proc(5). The name, in parentheses, may contain any character; the third field follows it.
fn ticks_and_pages(stat: &str) -> (u64, u64) {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut fields = fields.split(' ').map(|field| field.parse::<u64>().unwrap_or(0));
    let ticks = fields.by_ref().skip(11).take(2).sum();
    (ticks, fields.nth(8).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read_whatever_the_process_is_called() {
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 400 20 30 40 20 0 9 0 5000 123456 789 18446744073709551615 1";
        assert_eq!(ticks_and_pages(line), (420, 789));
        assert_eq!(ticks_and_pages(""), (0, 0));
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let facts = ProcessFacts::read();
        assert!(facts.resident_bytes > 0.0 && facts.open_descriptors >= 3.0, "{facts:?}");
        assert!(facts.descriptors_max > facts.open_descriptors, "{facts:?}");
    }
}
