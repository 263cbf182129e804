//! What the model finishes of one to ten times what its core can serve.

use std::fmt;
use std::time::Duration;

use super::{Crowd, Load, Outturn, SLOWER, Shell, capacity, run};
use crate::service_times::ServiceTimes;

/// What is offered, in multiples of the capacity.
const MULTIPLES: [f64; 4] = [1.0, 2.0, 4.0, 10.0];
/// The duration of each load.
pub const CURVE_TIME: Duration = Duration::from_secs(12);
const CROWD_SEED: u64 = 47;
const DEVICES: u32 = 3_000;
/// Up to this multiple, goodput is promised as a part of the peak; above, as a part of what refusing leaves.
const OF_PEAK_UP_TO: f64 = 4.0;
const GOODPUT_MIN: f64 = 0.9;
/// The first timer of a flight (RFC 6347 §4.2.4.1).
const CLIENT_TIMER: Duration = Duration::from_secs(1);
/// Two round trips of 80 ms, and the work of the handshakes that were begun together.
const AFTER_HELLO_MAX: Duration = Duration::from_secs(2);
/// Handshakes that were begun just before the end.
const UNFINISHED_MAX: usize = 24;

/// One multiple of the capacity.
#[derive(Clone, Debug)]
pub struct CurvePoint {
    /// In multiples of [`capacity`].
    pub offered: f64,
    /// Enrolments, as a part of the best of all multiples.
    pub of_peak: f64,
    /// The result of the run.
    pub outturn: Outturn,
}

/// The crowd of [`curve`], for another run beside it.
#[must_use]
pub fn curve_crowd() -> Crowd {
    Crowd::new(CROWD_SEED, DEVICES)
}

/// Offers devices at each multiple, and no flood.
#[must_use]
pub fn curve(crowd: &Crowd) -> Vec<CurvePoint> {
    let load = |offered| Load { offered, flood: 0.0, time: CURVE_TIME, shell: Shell::Tells, storm: None };
    let outturns = MULTIPLES.map(|offered| run(crowd, load(offered)));
    let best = outturns.iter().map(|outturn| outturn.enrolled).max().unwrap_or(0).max(1);
    let points = MULTIPLES.into_iter().zip(outturns).map(|(offered, outturn)| {
        let of_peak = f64::from(outturn.enrolled) / f64::from(best);
        CurvePoint { offered, of_peak, outturn }
    });
    points.collect()
}

impl CurvePoint {
    /// The share of the core that refusing left: without the hellos that the server turned away in this run, and without the cookies of the devices that
    /// have no certificate.
    #[must_use]
    pub fn left_by_refusals(&self) -> f64 {
        let times = ServiceTimes::measured();
        let Outturn { refused, devices, enrolled, .. } = self.outturn;
        let refusing = times.turned_away * refused + times.cookieless * (devices - enrolled);
        1.0 - (refusing * SLOWER).as_secs_f64() / CURVE_TIME.as_secs_f64()
    }

    /// Enrolments, as a part of those that the core could serve in the time that refusing left.
    #[must_use]
    pub fn of_left(&self) -> f64 {
        f64::from(self.outturn.enrolled) / (capacity() * CURVE_TIME.as_secs_f64() * self.left_by_refusals())
    }

    /// The promises that are not kept.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        let Self { offered, of_peak, ref outturn } = *self;
        let is_fast = f64::from(outturn.enrolled) >= 0.8 * capacity() * CURVE_TIME.as_secs_f64();
        let promises = [
            (outturn.cut_off == 0, "a device was cut off"),
            // Handshakes that were begun are finished.
            (outturn.unfinished <= UNFINISHED_MAX, "handshakes that were begun are not finished"),
            (of_peak < 1.0 || is_fast, "the model is slower than it says"),
            // At the capacity itself, devices wait for their own repetitions where two come together.
            (
                offered <= 1.0 || offered > OF_PEAK_UP_TO || of_peak >= GOODPUT_MIN,
                "goodput is below nine tenths of the peak",
            ),
            (
                offered <= OF_PEAK_UP_TO || self.of_left() >= GOODPUT_MIN,
                "goodput is below nine tenths of what refusing leaves",
            ),
            // The shape of latency. A handshake that has begun ends before a timer of its client, whatever is offered. Until then a device waits for one of
            // its own repetitions: the whole time lies a bounded time behind one of these.
            (outturn.handshake_p99 < CLIENT_TIMER, "a handshake takes longer than a timer of its client"),
            (outturn.after_hello_max < AFTER_HELLO_MAX, "a device waits long after a hello that was accepted"),
        ];
        promises.into_iter().filter(|(is_kept, _)| !is_kept).map(|(_, fault)| fault).collect()
    }
}

impl fmt::Display for CurvePoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, of_peak, outturn } = self;
        let seconds = |time: Duration| time.as_secs_f64();
        write!(
            formatter,
            "{offered}x offered: goodput {:.1} % of the peak, {:.1} % of what refusing leaves; cut off {}; handshake p99 {:.2} s; \
             enrolment p99 {:.2} s, p50 {:.2} s, at most {:.2} s after a hello; enrolled {} of {}; unfinished {}; dropped {}; refused {}",
            of_peak * 100.0,
            self.of_left() * 100.0,
            outturn.cut_off,
            seconds(outturn.handshake_p99),
            seconds(outturn.total_p99),
            seconds(outturn.total_p50),
            seconds(outturn.after_hello_max),
            outturn.enrolled,
            outturn.devices,
            outturn.unfinished,
            outturn.dropped,
            outturn.refused
        )?;
        self.faults().iter().try_for_each(|fault| write!(formatter, "; NOT KEPT: {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten times the capacity, of which each device beyond it was refused so often.
    fn point(part_of_the_capacity: f64, refusals_each: u32) -> CurvePoint {
        let capacity = capacity() * CURVE_TIME.as_secs_f64();
        // A few hundred devices.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let [devices, enrolled] = [10.0, part_of_the_capacity].map(|part| (capacity * part) as u32);
        let refused = (devices - enrolled) * refusals_each;
        CurvePoint {
            offered: 10.0,
            of_peak: 0.8,
            outturn: Outturn { devices, enrolled, refused, ..Outturn::default() },
        }
    }

    #[test]
    fn goodput_at_ten_times_the_capacity_is_judged_by_the_refusals_of_the_run_and_not_by_the_most_that_there_can_be() {
        // Refusing takes the more of the core, the more hellos are refused.
        let [few, many] = [1, 4].map(|each| point(0.7, each).left_by_refusals());
        assert!(few > many && many > 0.5 && few < 0.9, "{few}, {many}");
        let fault = "goodput is below nine tenths of what refusing leaves";
        assert!(!point(0.95 * few, 1).faults().contains(&fault), "{}", point(0.95 * few, 1));
        assert!(point(0.85 * few, 1).faults().contains(&fault), "{}", point(0.85 * few, 1));
        assert!(0.85 * few > many * 0.9, "with four refusals a device it would have passed");
    }
}
