//! `muster load --scenario`: files, built-in scenarios, and what one would do.

use std::path::Path;

use loadgen::{
    EVERY_KEY, PRESETS, Phase, PhasePopulation, Plan, PlanFault, ScenarioPlayer, Segment, preset, read_scenario,
};

use crate::files;
use crate::outcome::{CommandFault, CommandResult, out};

/// A scenario is written by people.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

/// Reads a file, or a built-in scenario. Phases without a profile use the label of the server's URI.
pub(super) fn read(name: &str, player: ScenarioPlayer, label: Option<&String>) -> CommandResult<Plan> {
    let text = match preset(name) {
        Some(text) => text.to_owned(),
        None if !name.contains(['/', '.']) && !Path::new(name).exists() => return Err(unknown(name)),
        None => {
            let bytes = files::read_up_to(Path::new(name), SCENARIO_BYTES_MAX)?;
            String::from_utf8(bytes)
                .map_err(|_| CommandFault::failed(format!("{name} is not a scenario: it is not text in UTF-8")))?
        }
    };
    let mut plan = read_scenario(&text, player).map_err(|fault| {
        CommandFault::failed(format!("{name}:{}: {}: {}", fault.line, fault.key, fault.problem)).remedy(fault.remedy)
    })?;
    for phase in &mut plan.phases {
        phase.label = phase.label.take().or_else(|| label.cloned());
    }
    Ok(plan)
}

/// The name under which the scenario with every key is printed.
const EVERY_KEY_NAME: &str = "every-key";

/// Prints a built-in scenario, or the one with every key.
pub(super) fn print(name: &str) -> CommandResult {
    let text = if name == EVERY_KEY_NAME { Some(EVERY_KEY) } else { preset(name) };
    let text = text.ok_or_else(|| unknown(name))?;
    out!("{}", text.trim_end());
    Ok(())
}

/// Prints what a plan does, and which share of it this machine plays.
pub(super) fn explain(plan: &Plan, seed: u64, segment: Segment) -> CommandResult {
    let arrivals = plan.arrivals(seed).map_err(unplayable)?;
    for (phase, count) in &arrivals {
        out!("{phase}: {count} arrivals");
    }
    let (all, devices) = totals(&arrivals);
    out!("{all} arrivals of {devices} devices with seed {seed}");
    if segment != Segment::WHOLE {
        let (all, devices) = totals(&plan.segment_arrivals(seed, segment).map_err(unplayable)?);
        out!("this machine, segment {segment}: {all} arrivals of {devices} devices");
    }
    Ok(())
}

/// A plan that cannot be played.
#[allow(clippy::needless_pass_by_value, reason = "it maps the error of a result")]
pub(super) fn unplayable(fault: PlanFault) -> CommandFault {
    CommandFault::usage(fault.to_string()).remedy(fault.remedy())
}

/// Arrivals, and the devices that arrive for the first time.
fn totals(arrivals: &[(&Phase, usize)]) -> (usize, usize) {
    let new = arrivals.iter().filter(|(phase, _)| phase.population == PhasePopulation::New);
    (arrivals.iter().map(|(_, count)| count).sum(), new.map(|(_, count)| count).sum())
}

fn unknown(name: &str) -> CommandFault {
    let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
    CommandFault::usage(format!("there is no scenario `{name}`"))
        .remedy(format!(
            "built in are {}; a file of your own has a dot or a slash in its name, and --print-scenario {EVERY_KEY_NAME} begins one",
            names.join(", ")
        ))
}
