//! Scenarios: a plan as a TOML file that people write and share.
//!
//! `presets/every-key.toml` has every key, with its unit and its default. `bitrate` is the transmitter's; with `duty_cycle` a device is silent after each
//! datagram until its share of time is kept. All phases are open loop. What describes devices on CoAP and DTLS is refused if a Registrar plays over HTTPS:
//! `block`, `suite`, `vanish`, `reboot`, `retry_storm`, `link`, `ren`. A file with anything else in it is refused with the line, the key and what to write
//! instead. The command line reads the file; this module reads its text.

mod reader;

use std::time::Duration;

use coap::BlockSize;
use dtls::Suite;
use link::{Conditions, Delay};

use crate::function::{FleetFunction, FleetFunctions, FunctionMix, per_mille};
use crate::link::{Airtime, LinkSpec};
use crate::plan::{Arrivals, FleetBehaviour, PHASES_MAX, Phase, PhasePopulation, Plan, RATE_MAX, RATE_MIN, RetryStorm};
use reader::Section;

pub use reader::ScenarioFault;

/// The scenarios that are built in: name and text.
pub const PRESETS: [(&str, &str); 3] = [
    ("power-restore", include_str!("../presets/power-restore.toml")),
    ("renewal-day", include_str!("../presets/renewal-day.toml")),
    ("drip", include_str!("../presets/drip.toml")),
];

/// A scenario with every key, its unit and what holds without it: to be read and changed, rather than played.
pub const EVERY_KEY: &str = include_str!("../presets/every-key.toml");

/// The text of a built-in scenario.
#[must_use]
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.into_iter().find(|(preset, _)| *preset == name).map(|(_, text)| text)
}

/// Longer phases are a mistake in the unit.
const PHASE_TIME_MAX: Duration = Duration::from_secs(31 * 86_400);

/// A delay beyond the longest retransmission timer is a loss.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// Who plays a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScenarioPlayer {
    /// The devices themselves, over CoAP and DTLS.
    Devices,
    /// A Registrar that vouches for them, over HTTPS.
    Registrar,
}

/// What describes devices and their links: a Registrar's requests have none of it.
const KEYS_OF_DEVICES: [&str; 6] = ["block", "suite", "vanish", "reboot", "retry_storm", "link"];

/// Reads a scenario.
///
/// # Errors
/// The first line that says something else than this module describes, or that this player cannot do.
pub fn read_scenario(text: &str, player: ScenarioPlayer) -> Result<Plan, ScenarioFault> {
    let mut top = Section::parse(text)?;
    let name = top.text("name")?.unwrap_or_else(|| "scenario".to_owned());
    let rows = top.sections("phase")?;
    let missing = || top.fault("phase", "a scenario has at least one phase", "begin one with [[phase]]");
    if rows.is_empty() {
        return Err(missing());
    }
    if rows.len() > PHASES_MAX {
        let problem = format!("{} phases are too many", rows.len());
        return Err(top.fault("phase", &problem, &format!("write at most {PHASES_MAX} in one scenario")));
    }
    top.end()?;
    let mut phases = Vec::with_capacity(rows.len());
    for section in rows {
        let phase = phase(section, &phases, player)?;
        phases.push(phase);
    }
    Ok(Plan { name: Some(name), phases })
}

fn phase(mut section: Section<'_>, before: &[Phase], player: ScenarioPlayer) -> Result<Phase, ScenarioFault> {
    let number = before.len();
    let name = section.text("name")?.unwrap_or_else(|| format!("phase-{}", number + 1));
    let mut phase = Phase { name, devices: None, ..Phase::enrolling(0, Arrivals::Pause) };
    (phase.arrivals, phase.lasts, phase.devices) = arrivals(&mut section)?;
    if phase.arrivals == Arrivals::Pause {
        section.end()?;
        return Ok(phase);
    }
    if player == ScenarioPlayer::Registrar {
        section.refuse(
            &KEYS_OF_DEVICES,
            "it describes devices on CoAP and DTLS, and a Registrar asks over HTTPS",
            "leave it out, or play the devices: --server instead of --https",
        )?;
    }
    phase.population = section
        .word("who", &[("new", PhasePopulation::New), ("enrolled", PhasePopulation::Enrolled)])?
        .unwrap_or(PhasePopulation::New);
    if phase.population == PhasePopulation::Enrolled && !before.iter().any(Phase::enrols) {
        let remedy = "put a phase before it whose new devices get certificates, such as function = \"sen\"";
        return Err(section.fault("who", "no device has a certificate when this phase begins", remedy));
    }
    phase.functions = functions(&mut section, phase.population)?;
    if player == ScenarioPlayer::Registrar && phase.functions.mix.share(FleetFunction::RenewalInfo) > 0 {
        return Err(section.fault(
            "function",
            "`ren` is a resource of CoAP: a Registrar cannot ask for it",
            "leave it out and give its share to another function, or play the devices: --server instead of --https",
        ));
    }
    phase.label = section.parsed("profile", label)?;
    if let Some(bytes) = section.number("block", 16.0..=1024.0)? {
        let sizes = [16, 32, 64, 128, 256, 512, 1024];
        let size = sizes.into_iter().find(|size| (f64::from(*size) - bytes).abs() < 0.5);
        let wrong =
            || section.fault("block", "it is not a block size of RFC 7959", "write 16, 32, 64, 128, 256, 512 or 1024");
        let size = size.and_then(|size| BlockSize::from_bytes(usize::try_from(size).ok()?)).ok_or_else(wrong)?;
        phase.block = size;
    }
    let suites = [
        ("ccm8", Suite::EcdheEcdsaAes128Ccm8),
        ("ccm", Suite::EcdheEcdsaAes128Ccm),
        ("gcm", Suite::EcdheEcdsaAes128GcmSha256),
    ];
    phase.suite = section.word("suite", &suites)?.unwrap_or(phase.suite);
    phase.behaviour = FleetBehaviour {
        vanish_per_mille: section.parsed("vanish", per_mille)?.unwrap_or(0),
        reboot_per_mille: section.parsed("reboot", per_mille)?.unwrap_or(0),
        storm: section.section("retry_storm")?.map(storm).transpose()?,
    };
    phase.link = section.section("link")?.map(link).transpose()?;
    section.end()?;
    Ok(phase)
}

/// What the devices ask for. A share of renewals that changes nothing is a misunderstanding, which the figures of the run would not show.
fn functions(section: &mut Section<'_>, population: PhasePopulation) -> Result<FleetFunctions, ScenarioFault> {
    let mix = section.parsed("function", str::parse::<FunctionMix>)?.unwrap_or(FleetFunctions::ENROL.mix);
    let renewals_per_mille = section.parsed("renewals", per_mille)?.unwrap_or(0);
    if renewals_per_mille > 0 && population == PhasePopulation::Enrolled {
        return Err(section.fault(
            "renewals",
            "it is a share of new devices, and those of this phase are enrolled: each renews when it arrives",
            "leave it out",
        ));
    }
    if renewals_per_mille > 0
        && let Some(why) = mix.without_renewals()
    {
        let remedy = "leave it out, or give a share of `function` to sen, skg or skc";
        return Err(section.fault("renewals", &format!("with `function` = \"{mix}\" {why}"), remedy));
    }
    Ok(FleetFunctions { mix, renewals_per_mille })
}

/// How devices arrive, how long, and how many at most.
type ArrivalsOfPhase = (Arrivals, Option<Duration>, Option<usize>);

fn arrivals(section: &mut Section<'_>) -> Result<ArrivalsOfPhase, ScenarioFault> {
    const ZERO_RATE_REMEDY: &str = "write pause = \"5m\" alone, or leave the phase out";
    let rate = section.number("rate", 0.0..=RATE_MAX)?;
    let devices = section.number("devices", 1.0..=4_000_000.0)?;
    let lasts = section.duration("for", PHASE_TIME_MAX)?;
    let pause = section.duration("pause", PHASE_TIME_MAX)?;
    let ramp = section.section("ramp")?.map(ramp).transpose()?;
    let count = |devices: f64| usize::try_from(Duration::from_secs_f64(devices).as_secs()).ok();
    if lasts.is_some_and(|lasts| lasts.is_zero()) {
        return Err(section.fault(
            "for",
            "in a phase of no time nobody arrives",
            "write for = \"1m\", or another time",
        ));
    }
    if pause.is_some_and(|pause| pause.is_zero()) {
        let remedy = "write pause = \"1m\", or leave the phase out";
        return Err(section.fault("pause", "it is no time at all", remedy));
    }
    match (rate, ramp, devices, lasts, pause) {
        (None, None, None, None, Some(pause)) => Ok((Arrivals::Pause, Some(pause), None)),
        (Some(0.0), ..) => Err(section.fault("rate", "at a rate of 0 nobody arrives", ZERO_RATE_REMEDY)),
        (Some(rate), ..) if rate < RATE_MIN => {
            Err(section.fault("rate", "nobody waits for so few devices", &format!("write {RATE_MIN} or more")))
        }
        (Some(rate), None, None, Some(lasts), None) => Ok((Arrivals::Rate(rate), Some(lasts), None)),
        (Some(rate), None, Some(devices), None, None) => Ok((Arrivals::Rate(rate), None, count(devices))),
        (None, None, Some(devices), Some(lasts), None) => {
            Ok((Arrivals::Rate(devices / lasts.as_secs_f64()), None, count(devices)))
        }
        (None, Some((from, to)), None, Some(lasts), None) => Ok((Arrivals::Ramp { from, to }, Some(lasts), None)),
        _ => Err(section.fault(
            "rate",
            "it is not clear how devices arrive",
            "write two of `rate`, `devices` and `for`; or `ramp` and `for`; or `pause` alone",
        )),
    }
}

fn ramp(mut section: Section<'_>) -> Result<(f64, f64), ScenarioFault> {
    let mut end = |key| {
        let rate = section.number(key, 0.0..=RATE_MAX)?;
        rate.ok_or_else(|| section.fault(key, "it is missing", "write ramp = { from = 10, to = 500 }"))
    };
    let (from, to) = (end("from")?, end("to")?);
    if from.max(to) < RATE_MIN {
        let remedy = format!("write {RATE_MIN} or more at one end; or pause = \"5m\" instead of the ramp");
        return Err(section.fault("to", "at a rate of 0 nobody arrives", &remedy));
    }
    section.end()?;
    Ok((from, to))
}

fn storm(mut section: Section<'_>) -> Result<RetryStorm, ScenarioFault> {
    /// A device that restarts its handshake more often never ends it.
    const EVERY_MIN: Duration = Duration::from_millis(10);
    const REMEDY: &str = "write retry_storm = { share = \"20%\", every = \"2s\" }";
    let share = section.parsed("share", per_mille)?;
    let every = section.duration("every", PHASE_TIME_MAX)?;
    let per_mille = share.ok_or_else(|| section.fault("share", "it is missing", REMEDY))?;
    let every = every.ok_or_else(|| section.fault("every", "it is missing", REMEDY))?;
    if every < EVERY_MIN {
        return Err(section.fault("every", "such a device never ends its handshake", "write 10ms or more"));
    }
    section.end()?;
    Ok(RetryStorm { per_mille, every })
}

fn link(mut section: Section<'_>) -> Result<LinkSpec, ScenarioFault> {
    let mut share = |key| section.parsed(key, per_mille).map(|share| share.unwrap_or(0));
    let (loss, duplication) = (share("loss")?, share("duplicate")?);
    let (reordering, corruption) = (share("reorder")?, share("corrupt")?);
    let least = section.duration("delay", DELAY_MAX)?.unwrap_or(Duration::ZERO);
    let jitter = section.duration("jitter", DELAY_MAX)?.unwrap_or(Duration::ZERO);
    let mtu = section.integer("mtu", 64..=65_535)?;
    let bitrate = section.integer("bitrate", 10..=1_000_000_000)?;
    let duty_cycle = section.parsed("duty_cycle", per_mille)?;
    let airtime = match (bitrate, duty_cycle) {
        (None, None) => None,
        (Some(_), Some(0)) => {
            return Err(section.fault("duty_cycle", "such a device never sends", "write 0.1% or more"));
        }
        (Some(bits), duty) => Some(Airtime {
            bits_per_second: u32::try_from(bits).unwrap_or(u32::MAX),
            duty_per_mille: duty.unwrap_or(1_000),
        }),
        (None, Some(_)) => {
            let remedy = "add `bitrate`, the bits per second of the transmitter";
            return Err(section.fault("duty_cycle", "a duty cycle is a share of the time that datagrams take", remedy));
        }
    };
    section.end()?;
    let delay = Delay { least, most: least + jitter };
    let mtu = mtu.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    let conditions = Conditions { loss, duplication, corruption, reordering, delay, mtu };
    Ok(LinkSpec { conditions, airtime, ..LinkSpec::losing(0..usize::MAX, 0) })
}

fn label(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty label selects nothing: leave `profile` out for the default profile".to_owned()),
        text if text.contains(['/', '?', '#']) => {
            Err(format!("`{text}` is not a valid label: expected one path segment, such as `meters`"))
        }
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
