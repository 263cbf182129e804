//! How much of its core a server used while it had all of its work.
//!
//! In a closed loop the last devices leave the server idle before the run is over: one whose hello was turned away comes back a second later, which is
//! as long as a whole run. So what counts is the time in which the server did the middle of its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cpu::CpuTime;

/// A look at a process costs 0.1 ms of another's time.
const INTERVAL: Duration = Duration::from_millis(50);
/// The part of its work that is left out, at the beginning and at the end.
const LEFT_OUT: f64 = 0.1;

/// Looks at a process again and again until it is stopped.
pub(super) struct CoreWatch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Look>>,
}

/// The CPU time of a process at a moment, in seconds both.
#[derive(Clone, Copy)]
struct Look {
    at: f64,
    cpu: f64,
}

impl CoreWatch {
    pub(super) fn start(process_id: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (began, mut looks) = (Instant::now(), Vec::new());
            loop {
                // Read before the look: the last one has everything.
                let is_last = over.load(Ordering::Acquire);
                if let Ok(cpu) = CpuTime::of(process_id) {
                    let cpu = Duration::from_nanos(cpu.nanoseconds()).as_secs_f64();
                    looks.push(Look { at: began.elapsed().as_secs_f64(), cpu });
                }
                if is_last {
                    return looks;
                }
                std::thread::sleep(INTERVAL);
            }
        });
        Self { is_over, thread }
    }

    /// The part of a core that it used for the middle of its work; 0 if it did nothing.
    pub(super) fn stop(self) -> f64 {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_or(0.0, |looks| middle_share(&looks))
    }
}

fn middle_share(looks: &[Look]) -> f64 {
    let [Some(first), Some(last)] = [looks.first(), looks.last()] else { return 0.0 };
    let work = last.cpu - first.cpu;
    // When this part of its work was done: between two looks it went on evenly.
    let when = |part: f64| {
        let wanted = first.cpu + part * work;
        let pair = looks.windows(2).find(|pair| pair[1].cpu >= wanted && pair[1].cpu > pair[0].cpu)?;
        let [before, after] = [pair[0], pair[1]];
        Some(before.at + (after.at - before.at) * (wanted - before.cpu) / (after.cpu - before.cpu))
    };
    match (when(LEFT_OUT), when(1.0 - LEFT_OUT)) {
        (Some(from), Some(to)) if to > from => work * (1.0 - 2.0 * LEFT_OUT) / (to - from),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(looks: &[(f64, f64)]) -> f64 {
        middle_share(&looks.iter().map(|&(at, cpu)| Look { at, cpu }).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_idle_before_the_work_and_while_the_last_device_waits_is_left_out() {
        // A second of nothing, a second at 90 % of the core, and a hello that comes back after another one.
        let share = share(&[(0.0, 5.0), (1.0, 5.0), (1.5, 5.45), (2.0, 5.9), (3.0, 5.9), (3.05, 5.92)]);
        assert!((share - 0.9).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_pause_in_the_middle_counts() {
        let share = share(&[(0.0, 0.0), (0.5, 0.5), (1.0, 0.5), (1.5, 1.0)]);
        assert!((share - 0.8 / 1.3).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_process_that_did_nothing_used_nothing() {
        assert!(share(&[]).abs() < 1e-9 && share(&[(0.0, 1.0), (1.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_watched_while_it_works() {
        let watch = CoreWatch::start(std::process::id());
        let began = CpuTime::of(std::process::id()).unwrap().nanoseconds();
        while CpuTime::of(std::process::id()).unwrap().nanoseconds() < began + 50_000_000 {}
        assert!(watch.stop() > 0.0);
    }
}
