//! What a record of `bench e2e` says of one configuration, by its name.

use anyhow::Result;
use serde_json::Value;

use super::run_file::{RunFile, word};

/// A server that used less of its core was not saturated: it waited, and what it pays for waking is a part of its figure.
pub(super) const SATURATED_MIN: f64 = 0.95;

/// The newest of these runs, the newest first, that has pairs of this ratio. A single pair decides nothing.
pub(super) fn newest<'r>(runs: &'r [RunFile], ratio_name: &str) -> Option<(&'r RunFile, &'r Value)> {
    let has_interval = |ratio: &&Value| ratio["interval"]["high"].as_f64().is_some_and(|high| high < f64::MAX);
    runs.iter().find_map(|run| Some((run, ratio(&run.record, ratio_name).filter(has_interval)?)))
}

pub(super) fn ratio<'v>(record: &'v Value, name: &str) -> Option<&'v Value> {
    record["ratios"].as_array()?.iter().find(|ratio| ratio["name"] == name)
}

/// The medians of the configuration with this name.
pub(super) fn medians<'v>(record: &'v Value, configuration: &str) -> Option<&'v Value> {
    record["medians"].as_array()?.iter().find(|run| name_of(run).is_ok_and(|name| name == configuration))
}

/// As `bench e2e` names a configuration.
fn name_of(run: &Value) -> Result<String> {
    let ledger = match &run["ledger"]["sqlite"]["rows"] {
        Value::Null => "memory".to_owned(),
        rows => format!("sqlite_{rows}"),
    };
    let pace = match word(run, "pace")? {
        "saturating" => String::new(),
        pace => format!(".{pace}"),
    };
    Ok(format!("{}_{}.{ledger}.{}{pace}", word(run, "suite")?, run["block"], word(run, "leaving")?))
}

/// How much of its core the server used for the middle of its work, in the runs of a configuration.
pub(super) struct CoreUse {
    share: f64,
    /// Runs of a server that was to be saturated and was not; the first records do not count them.
    unsaturated_runs: u64,
    is_to_be_saturated: bool,
}

impl CoreUse {
    /// By the medians of a configuration.
    pub(super) fn of(medians: &Value) -> Option<Self> {
        // The first records have the rate, whose time includes that in which the last devices leave the server idle.
        let product = || Some(medians["enrolled_per_second"].as_f64()? * medians["server_cpu_us"].as_f64()? / 1e6);
        Some(Self {
            share: medians["core_share"].as_f64().or_else(product)?,
            unsaturated_runs: medians["unsaturated_runs"].as_u64().unwrap_or_default(),
            is_to_be_saturated: medians["pace"] == "saturating",
        })
    }

    /// Whether it was to be saturated, and in the middle of its runs was not.
    fn is_missed(&self) -> bool {
        self.is_to_be_saturated && self.share < SATURATED_MIN
    }

    /// `97 %`.
    pub(super) fn percent(&self) -> String {
        format!("{:.0} %", self.share * 100.0)
    }

    /// What is said of a server that was to be saturated and was not, in the middle of its runs or in some of them.
    pub(super) fn mark(&self) -> String {
        match self.unsaturated_runs {
            0 if self.is_missed() => ": not saturated".to_owned(),
            0 => String::new(),
            1 => ": not saturated in one run".to_owned(),
            runs => format!(": not saturated in {runs} runs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medians_at(pace: &str, rate: f64) -> Value {
        serde_json::json!({ "suite": "ccm8", "block": 512, "ledger": "memory", "leaving": "closing", "pace": pace,
                            "enrolled_per_second": rate, "server_cpu_us": 350.0 })
    }

    #[test]
    fn the_part_of_the_core_is_rate_times_cpu_of_that_configuration() {
        let record =
            serde_json::json!({ "medians": [medians_at("saturating", 2_800.0), medians_at("sixteen", 2_000.0)] });
        let share = |name| Some(CoreUse::of(medians(&record, name)?)?.percent());
        assert_eq!(share("ccm8_512.memory.closing").as_deref(), Some("98 %"));
        assert_eq!(share("ccm8_512.memory.closing.sixteen").as_deref(), Some("70 %"));
        assert!(share("ccm8_512.memory.closing.unhurried").is_none());
    }

    #[test]
    fn a_server_that_was_to_be_saturated_and_was_not_is_marked() {
        let of = |run: &Value| CoreUse::of(run).unwrap();
        let idle = of(&medians_at("saturating", 2_200.0));
        assert_eq!(idle.mark(), ": not saturated");
        assert_eq!(of(&medians_at("saturating", 2_800.0)).mark(), "");
        assert_eq!(of(&medians_at("sixteen", 2_200.0)).mark(), "", "it was not to be");
        let mut some = medians_at("saturating", 2_800.0);
        some["core_share"] = 0.96.into();
        some["unsaturated_runs"] = 2.into();
        assert_eq!(of(&some).mark(), ": not saturated in 2 runs");
    }

    #[test]
    fn each_configuration_is_taken_from_its_newest_run_that_decides_something() {
        let run = |path: &str, ratios: &[(&str, f64)]| {
            let ratios =
                ratios.iter().map(|(name, high)| serde_json::json!({ "name": name, "interval": { "high": high } }));
            RunFile { path: path.to_owned(), record: serde_json::json!({ "ratios": ratios.collect::<Vec<_>>() }) }
        };
        let runs = [run("3", &[("x", f64::MAX)]), run("2", &[("y", 1.2)]), run("1", &[("x", 1.3), ("y", 1.3)])];
        let path = |name| newest(&runs, name).map(|(run, _)| run.path.as_str());
        assert_eq!([path("x"), path("y"), path("z")], [Some("1"), Some("2"), None]);
    }
}
