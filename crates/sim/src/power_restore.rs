//! A region has its power back: all its devices return within seconds and ask one server for certificates.
//!
//! ```text
//!   power returns ──► boot, attach ──► device (est::Client, persistent) ◄──link──► receive queue ──► core ──► authority
//!   at once to all    (PowerField)          │  ▲                                   (bounded)      (busy)    (at its rate)
//!                                           ▼  │
//!                                 5.03: Max-Age; refused hello: timer; failed handshake: back-off
//! ```
//!
//! Server and clients are the real engines, and the service times are those of [`crate::overload`]. A device exists from the moment when it is ready until
//! it has its certificate: its keys, its IDevID and its CSR are made then, so that the memory of a run follows the number of devices that wait and not the
//! number of devices.
//!
//! [`run`] plays a [`PowerField`]; [`RestoreReport::faults`] says which of these promises is broken:
//!
//! - All devices have their certificates within [`LIMIT`] of the power's return.
//! - The ledger holds one certificate for each device, the one that the device received.
//! - No session ends between its handshake and its certificate, and no device gives up.

mod field;
mod fleet;
mod report;
mod sent_away;
mod site;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::addresses::device_at;
use crate::clock::VirtualClock;
use crate::link::{SimulatedLink, Towards};
use crate::trust::TestCa;
use fleet::Fleet;
use site::Site;

pub use field::{PowerField, power_field_named};
pub use report::RestoreReport;
pub use sent_away::SentAwayTally;

/// The time within which all devices have their certificates.
pub const LIMIT: Duration = Duration::from_secs(600);

/// The virtual time between two calls of the observer of a run.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct RestoreProgress {
    /// The virtual time since the power returned.
    pub at: Duration,
    /// Devices that are ready and have no certificate yet.
    pub waiting: usize,
    /// Devices that have their certificate.
    pub enrolled: usize,
}

impl fmt::Display for RestoreProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, waiting, enrolled } = self;
        write!(
            f,
            "{:.0} s after the power's return, {waiting} devices wait, {enrolled} have enrolled",
            at.as_secs_f64()
        )
    }
}

struct RestoreRun {
    clock: VirtualClock,
    link: SimulatedLink,
    fleet: Fleet,
    site: Site,
}

/// Plays one seed of a field, and calls `observe` every ten virtual seconds.
#[must_use]
pub fn run(field: &PowerField, seed: u64, observe: &mut dyn FnMut(RestoreProgress)) -> RestoreReport {
    let clock = VirtualClock::start();
    let ca = Arc::new(TestCa::new(seed));
    let start = clock.now().mono;
    let mut run = RestoreRun {
        link: SimulatedLink::new(field.link, seed, "power"),
        site: Site::new(field, seed, &ca, start),
        fleet: Fleet::new(field, seed, ca, start),
        clock,
    };
    let mut progress_at = start + PROGRESS_EVERY;
    while !run.fleet.is_done()
        && let Some(next) = run.next().filter(|next| *next <= start + LIMIT)
    {
        run.clock.advance_to(next);
        run.turn(next);
        if next >= progress_at {
            progress_at = next + PROGRESS_EVERY;
            observe(run.progress());
        }
    }
    observe(run.progress());
    RestoreReport::of(field, seed, &run.clock, &run.fleet, &run.site, run.link.tally())
}

impl RestoreRun {
    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        [self.fleet.next(), self.link.next(), self.site.next(self.clock.now().mono)].into_iter().flatten().min()
    }

    fn turn(&mut self, now: Instant) {
        while let Some((towards, mut datagram)) = self.link.receive(now) {
            match towards {
                Towards::Server(from) => self.site.arrive(now, from, datagram),
                Towards::Device(to) => {
                    if let Some(device) = device_at(to) {
                        self.fleet.hear(&self.clock, device, &mut datagram, &mut self.link);
                    }
                }
            }
        }
        self.fleet.time_out(&self.clock, &mut self.link);
        self.site.work(&self.clock, &mut self.link);
    }

    fn progress(&self) -> RestoreProgress {
        RestoreProgress {
            at: self.clock.elapsed(),
            waiting: self.fleet.waiting(),
            enrolled: self.fleet.certificates().len(),
        }
    }
}
