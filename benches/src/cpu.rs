//! CPU time of this process.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds of CPU, user and system, since this process began.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "seconds and nanoseconds of one process are far below 2^52")]
pub fn cpu_microseconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}
