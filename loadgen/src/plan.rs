//! What a run does: its phases, one after the other. A scenario or the flags of the command line make it; `schedule` turns it into arrivals.

use std::fmt;
use std::time::Duration;

use coap::BlockSize;
use dtls::Suite;

use crate::function::{FleetFunction, FleetFunctions, PerMille};
use crate::link::LinkSpec;
use crate::number::Spell;
use crate::part::Segment;

/// Devices of one run, as many as anybody has memory for.
pub const DEVICES_MAX: usize = 4_000_000;
/// Phases of one run.
pub(crate) const PHASES_MAX: usize = 1_000;
/// Arrivals of one run: a million devices that come back a hundred times. Counting them before the run takes seconds.
pub(crate) const ARRIVALS_MAX: f64 = 1e8;

/// The least and the most starts per second: one device in a quarter of an hour, and more than a machine starts. A rate outside of it is a mistake in the unit.
pub(crate) const RATE_MIN: f64 = 0.001;
pub(crate) const RATE_MAX: f64 = 1e6;

/// Reads a number of devices per second.
///
/// # Errors
/// It is no number, or no run is played at this rate.
pub fn read_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("expected devices per second: a number from {RATE_MIN} to {RATE_MAX}"))
}

/// How the devices arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Open loop: this many starts per second on average, as a Poisson process (independent devices do not take turns).
    Rate(f64),
    /// Open loop: a rate that grows or falls evenly over the phase.
    Ramp {
        /// Starts per second at the beginning.
        from: f64,
        /// Starts per second at the end.
        to: f64,
    },
    /// Nobody arrives: the devices at work go on.
    Pause,
    /// Closed loop: this many devices are at work at any moment.
    Concurrency(usize),
}

/// Which devices a phase starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PhasePopulation {
    /// Devices that have not been there yet.
    #[default]
    New,
    /// Devices that hold a certificate from an earlier phase, in an order that the seed decides.
    Enrolled,
}

/// What devices do that a well-behaved one does not; shares of a thousand, the seed decides which devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetBehaviour {
    /// Devices that leave without close_notify once they are done.
    pub vanish_per_mille: u16,
    /// Devices that lose their state in the middle and begin again, from the same address and port.
    pub reboot_per_mille: u16,
    /// Devices without patience.
    pub storm: Option<RetryStorm>,
}

/// Devices that do not wait for an answer: they begin again, from the same address and port, until they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryStorm {
    /// Devices per 1,000.
    pub per_mille: u16,
    /// How long such a device waits.
    pub every: Duration,
}

/// A part of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name, for reports.
    pub name: String,
    /// How devices arrive.
    pub arrivals: Arrivals,
    /// How long they arrive; without it, until `devices` have.
    pub lasts: Option<Duration>,
    /// The most devices that arrive.
    pub devices: Option<usize>,
    /// Which devices.
    pub population: PhasePopulation,
    /// What they ask for.
    pub functions: FleetFunctions,
    /// The label that selects the profile.
    pub label: Option<String>,
    /// Bytes a block.
    pub block: BlockSize,
    /// The suite offered.
    pub suite: Suite,
    /// A bad link between some of the devices and the server.
    pub link: Option<LinkSpec>,
    /// What they do besides.
    pub behaviour: FleetBehaviour,
}

impl Phase {
    /// New devices that enrol once in blocks of 512 bytes.
    #[must_use]
    pub fn enrolling(devices: usize, arrivals: Arrivals) -> Self {
        Self {
            name: "run".to_owned(),
            arrivals,
            lasts: None,
            devices: Some(devices),
            population: PhasePopulation::New,
            functions: FleetFunctions::ENROL,
            label: None,
            block: BlockSize::B512,
            suite: Suite::EcdheEcdsaAes128Ccm8,
            link: None,
            behaviour: FleetBehaviour::default(),
        }
    }

    /// Whether devices leave this phase with a certificate that they did not have before.
    pub(crate) fn enrols(&self) -> bool {
        let arrives = self.population == PhasePopulation::New && self.arrivals != Arrivals::Pause;
        arrives && self.functions.mix.certifies()
    }

    /// The first thing that a Registrar cannot play, over HTTPS, by its key in a scenario.
    pub(crate) fn beyond_registrar(&self) -> Option<&'static str> {
        let plain = Self::enrolling(0, Arrivals::Pause);
        let beyond = [
            ("block", self.block != plain.block),
            ("suite", self.suite != plain.suite),
            ("vanish", self.behaviour.vanish_per_mille > 0),
            ("reboot", self.behaviour.reboot_per_mille > 0),
            ("retry_storm", self.behaviour.storm.is_some()),
            ("link", self.link.is_some()),
            ("ren", self.functions.mix.share(FleetFunction::RenewalInfo) > 0),
        ];
        beyond.into_iter().find(|(_, asked)| *asked).map(|(key, _)| key)
    }

    /// The average number of arrivals.
    pub(crate) fn expected(&self) -> f64 {
        let seconds = self.lasts.map_or(f64::INFINITY, |lasts| lasts.as_secs_f64());
        let by_time = match self.arrivals {
            Arrivals::Rate(rate) => rate * seconds,
            Arrivals::Ramp { from, to } => (from + to) / 2.0 * seconds,
            Arrivals::Pause => 0.0,
            Arrivals::Concurrency(_) => f64::INFINITY,
        };
        let most = self.devices.and_then(|most| u32::try_from(most).ok()).map_or(f64::INFINITY, f64::from);
        by_time.min(most)
    }
}

/// The phases of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The name of the scenario, if there is one.
    pub name: Option<String>,
    /// Its phases.
    pub phases: Vec<Phase>,
}

impl Plan {
    /// A run of one phase.
    #[must_use]
    pub fn of(phase: Phase) -> Self {
        Self { name: None, phases: vec![phase] }
    }

    /// Whether devices arrive without waiting for others.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        !self.phases.iter().any(|phase| matches!(phase.arrivals, Arrivals::Concurrency(_)))
    }

    /// Whether some of its devices get a certificate.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.phases.iter().any(Phase::enrols)
    }

    /// Refuses more threads than devices at a time: each thread keeps at least one at work.
    ///
    /// # Errors
    /// [`PlanFault::TooManyThreads`].
    pub fn require_work_for(&self, threads: usize, segment: Segment) -> Result<(), PlanFault> {
        let machines = segment.of();
        let few = self.phases.iter().find_map(|phase| match phase.arrivals {
            Arrivals::Concurrency(devices) if devices < threads.saturating_mul(machines) => Some(devices),
            _ => None,
        });
        few.map_or(Ok(()), |devices| Err(PlanFault::TooManyThreads { devices, threads, machines }))
    }

    /// Whether devices come back in a later phase, so that their certificates are kept.
    pub(crate) fn has_returning_devices(&self) -> bool {
        self.phases.iter().any(|phase| phase.population == PhasePopulation::Enrolled)
    }
}

/// Why a plan cannot be played.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanFault {
    /// A phase has neither a duration nor a number of devices.
    Endless {
        /// Its name.
        phase: String,
    },
    /// More arrivals than can be counted before the run.
    TooManyArrivals {
        /// How many, on average.
        expected: f64,
        /// The phase with the most of them.
        phase: String,
    },
    /// More new devices than [`DEVICES_MAX`]. They are counted in the whole fleet, however many machines play it: each computes the one schedule.
    TooManyDevices {
        /// How many.
        devices: usize,
        /// The phase that starts most of them.
        phase: String,
        /// How many that phase starts.
        starts: usize,
    },
    /// In closed loop, a thread would have no device at work.
    TooManyThreads {
        /// Devices at a time.
        devices: usize,
        /// Threads of each machine.
        threads: usize,
        /// Machines.
        machines: usize,
    },
}

impl PlanFault {
    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Endless { phase } => format!("give phase `{phase}` a `for` or a number of `devices`"),
            Self::TooManyArrivals { phase, .. } => {
                format!("lower `rate`, `for` or `devices` of phase `{phase}`, which has most of them")
            }
            Self::TooManyDevices { phase, starts, .. } => {
                format!("lower `rate`, `for` or `devices` of phase `{phase}`, which starts {starts} of them")
            }
            Self::TooManyThreads { .. } => "raise --concurrency, or lower --threads".to_owned(),
        }
    }
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endless { phase } => write!(f, "phase `{phase}` never ends"),
            Self::TooManyArrivals { expected, .. } => {
                write!(f, "{expected:.0} arrivals are too many: a run has at most {ARRIVALS_MAX:.0}")
            }
            Self::TooManyThreads { devices, threads, machines } => {
                write!(f, "{devices} devices at a time are too few for {threads} threads")?;
                if *machines > 1 { write!(f, " on each of {machines} machines") } else { Ok(()) }
            }
            Self::TooManyDevices { devices, .. } => {
                write!(
                    f,
                    "{devices} new devices are too many: a fleet has at most {DEVICES_MAX}, on one machine or in segments"
                )
            }
        }
    }
}

impl std::error::Error for PlanFault {}

/// One line that says what a phase does.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.arrivals {
            Arrivals::Rate(rate) => write!(f, "{rate:.1}/s")?,
            Arrivals::Ramp { from, to } => write!(f, "{from:.1}/s to {to:.1}/s")?,
            Arrivals::Pause => write!(f, "pause")?,
            Arrivals::Concurrency(devices) => write!(f, "{devices} at a time")?,
        }
        if let Some(lasts) = self.lasts {
            write!(f, " for {}", Spell(lasts))?;
        }
        if self.arrivals == Arrivals::Pause {
            return Ok(());
        }
        let who = match self.population {
            PhasePopulation::New => "new devices",
            PhasePopulation::Enrolled => "enrolled devices",
        };
        write!(f, ", {who}, {}, blocks of {}", self.functions.mix, self.block.bytes())?;
        let share = |f: &mut fmt::Formatter<'_>, share, what: &str| match share {
            0 => Ok(()),
            share => write!(f, ", {} {what}", PerMille(share)),
        };
        share(f, self.functions.renewals_per_mille, "renew at once")?;
        share(f, self.behaviour.vanish_per_mille, "vanish")?;
        share(f, self.behaviour.reboot_per_mille, "reboot")?;
        if let Some(storm) = self.behaviour.storm {
            share(f, storm.per_mille, &format!("begin again every {}", Spell(storm.every)))?;
        }
        if let Some(label) = &self.label {
            write!(f, ", profile `{label}`")?;
        }
        match &self.link {
            Some(link) => write!(f, ", link: {link}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_one_that_can_be_played() {
        assert_eq!((read_rate("0.001"), read_rate("1e6")), (Ok(0.001), Ok(1e6)));
        for wrong in ["0", "-1", "1e-300", "1000001", "inf", "NaN", "ten", ""] {
            assert!(read_rate(wrong).unwrap_err().contains("from 0.001 to 1000000"), "{wrong}");
        }
    }

    #[test]
    fn a_phase_says_what_it_does() {
        let mut phase = Phase::enrolling(5, Arrivals::Rate(10.0));
        phase.behaviour.storm = Some(RetryStorm { per_mille: 200, every: Duration::from_millis(1_500) });
        phase.lasts = Some(Duration::from_secs(600));
        assert_eq!(
            phase.to_string(),
            "run: 10.0/s for 10m, new devices, sen, blocks of 512, 20% begin again every 1500ms"
        );
    }

    /// A plan is not always read from a file: what a Registrar cannot play is found in it too.
    #[test]
    fn what_a_registrar_cannot_play_is_found_in_a_phase() {
        type Change = fn(&mut Phase);
        let plain = || Phase::enrolling(5, Arrivals::Rate(10.0));
        assert_eq!(plain().beyond_registrar(), None);
        let changes: [(&str, Change); 7] = [
            ("block", |phase| phase.block = BlockSize::B64),
            ("suite", |phase| phase.suite = Suite::EcdheEcdsaAes128Ccm),
            ("vanish", |phase| phase.behaviour.vanish_per_mille = 1),
            ("reboot", |phase| phase.behaviour.reboot_per_mille = 1),
            ("retry_storm", |phase| {
                phase.behaviour.storm = Some(RetryStorm { per_mille: 1, every: Duration::from_secs(1) });
            }),
            ("link", |phase| phase.link = Some(LinkSpec::losing(0..1, 10))),
            ("ren", |phase| phase.functions.mix = "sen=90%,ren=10%".parse().unwrap()),
        ];
        for (key, change) in changes {
            let mut phase = plain();
            change(&mut phase);
            assert_eq!(phase.beyond_registrar(), Some(key));
        }
    }
}
