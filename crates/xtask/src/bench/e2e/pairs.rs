//! The ratios that are decided: each of a repetition's own pairs, with its 95 % interval, and the promises that they keep or miss.

use serde::Serialize;

use super::run::{BenchConfiguration, LedgerKind, MeasuredRun, UNSATURATED};
use crate::bench::figures::{Figure, Figures};
use crate::bench::interval::{Decision, Interval};

/// The promises to a configuration with the ledger in memory and devices that close: against the floor, and against the floor and as many bare datagrams.
const PROMISES: &[(&str, u16, Option<f64>, Option<f64>)] =
    &[("ccm8", 512, Some(1.20), Some(1.08)), ("ccm8", 64, None, Some(1.12))];
/// The promise to a server that is not saturated, by sixteen devices at the same time, ours or on OpenSSL, and at the rate that leaves it idle mostly,
/// against the floor.
const UNHURRIED_PROMISE: f64 = 1.40;
/// The durable ledger may cost as many times the CPU of the one in memory.
const DURABLE_PROMISE: f64 = 1.25;

/// One ratio.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PairedRatio {
    /// As figures are named: `ratio_to_floor/ccm8_512.memory.closing`.
    pub(super) name: String,
    pub(super) interval: Interval,
    pub(super) spread_percent: f64,
    pub(super) promise: Option<PromisedRatio>,
}

/// A promise to a ratio.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct PromisedRatio {
    pub(super) at_most: f64,
    pub(super) decision: Decision,
}

impl PairedRatio {
    fn of(name: String, samples: &[f64], promised: Option<f64>) -> Self {
        let interval = Interval::of(samples);
        let promise = promised.map(|at_most| PromisedRatio { at_most, decision: interval.decide(at_most) });
        Self { name, interval, spread_percent: interval.spread_percent(), promise }
    }
}

/// What is promised to a ratio of these configurations.
pub(super) fn promised(name: &str, configurations: &[BenchConfiguration]) -> Option<f64> {
    configurations.iter().find_map(|configuration| {
        let (kind, of) = name.split_once('/')?;
        let [floor, bare] = promise(configuration);
        match kind {
            _ if of != configuration.name() => None,
            "ratio_to_floor" => floor,
            "ratio_to_floor_and_datagrams" => bare,
            "ratio_to_memory" if configuration.ledger != LedgerKind::Memory => Some(DURABLE_PROMISE),
            _ => None,
        }
    })
}

/// All ratios of the runs.
pub(super) fn ratios(runs: &[MeasuredRun], configurations: &[BenchConfiguration]) -> Vec<PairedRatio> {
    let mut ratios = Vec::new();
    for configuration in configurations {
        let of = |field: fn(&MeasuredRun) -> f64| -> Vec<f64> { with(runs, configuration).map(field).collect() };
        let name = configuration.name();
        let promised = |index: usize| promise(configuration)[index];
        ratios.push(PairedRatio::of(format!("ratio_to_floor/{name}"), &of(|run| run.ratio), promised(0)));
        let bare = of(|run| run.ratio_bare);
        ratios.push(PairedRatio::of(format!("ratio_to_floor_and_datagrams/{name}"), &bare, promised(1)));
        if configuration.ledger != LedgerKind::Memory {
            let memory = configuration.in_memory();
            let pairs = with(runs, &memory).zip(with(runs, configuration));
            let samples: Vec<f64> =
                pairs.map(|(memory, durable)| durable.server_cpu_us / memory.server_cpu_us).collect();
            if !samples.is_empty() {
                let name = format!("ratio_to_memory/{name}");
                ratios.push(PairedRatio::of(name, &samples, Some(DURABLE_PROMISE)));
            }
        }
    }
    ratios
}

fn promise(configuration: &BenchConfiguration) -> [Option<f64>; 2] {
    let compared = BenchConfiguration::compared(LedgerKind::Memory);
    let is_at = |pace| *configuration == BenchConfiguration { pace, ..compared };
    if UNSATURATED.into_iter().any(is_at) {
        return [Some(UNHURRIED_PROMISE), None];
    }
    let plain = BenchConfiguration { suite: configuration.suite, block: configuration.block, ..compared };
    let found =
        PROMISES.iter().find(|(suite, block, ..)| (*suite, *block) == (configuration.suite, configuration.block));
    found.filter(|_| *configuration == plain).map_or([None, None], |(_, _, floor, bare)| [*floor, *bare])
}

fn with<'r>(runs: &'r [MeasuredRun], configuration: &BenchConfiguration) -> impl Iterator<Item = &'r MeasuredRun> {
    let configuration = *configuration;
    runs.iter().filter(move |run| run.configuration == configuration)
}

/// The ratios as figures of the history.
pub(super) fn figures(ratios: &[PairedRatio]) -> Figures {
    let figure = |it: &PairedRatio| Figure { value: it.interval.mean, noise: it.interval.half() };
    // A single pair has no interval, and is no figure.
    let decided = ratios.iter().filter(|it| it.interval.high < f64::MAX);
    decided.map(|it| (it.name.clone(), figure(it))).collect()
}

/// Prints Markdown.
pub(super) fn print_ratios(ratios: &[PairedRatio]) {
    println!("\n| ratio | mean (95 % interval) | spread | promise |\n|---|---|---|---|");
    for it in ratios {
        let promise = it.promise.map_or(String::new(), |it| format!("<= {:.2}: {}", it.at_most, it.decision.word()));
        println!("| {} | {:.3} | {:.1} % | {promise} |", it.name, it.interval, it.spread_percent);
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::{Leaving, Pace};
    use super::*;

    #[test]
    fn a_promise_is_made_to_the_configuration_that_it_names_alone() {
        let compared = BenchConfiguration::compared(LedgerKind::Memory);
        assert_eq!(promise(&compared), [Some(1.20), Some(1.08)]);
        assert_eq!(promise(&BenchConfiguration { leaving: Leaving::Vanishing, ..compared }), [None, None]);
        assert_eq!(promise(&BenchConfiguration { suite: "gcm", ..compared }), [None, None]);
        for pace in UNSATURATED {
            assert_eq!(promise(&BenchConfiguration { pace, ..compared }), [Some(1.40), None]);
        }
        let promised = |name| promised(name, &[compared, BenchConfiguration { pace: Pace::Sixteen, ..compared }]);
        assert_eq!(promised("ratio_to_floor/ccm8_512.memory.closing.sixteen"), Some(1.40));
        assert_eq!(promised("ratio_to_floor_and_datagrams/ccm8_512.memory.closing"), Some(1.08));
        assert_eq!(promised("ratio_to_memory/ccm8_512.memory.closing"), None);
    }

    #[test]
    fn a_ratio_whose_interval_contains_its_promise_is_not_decidable() {
        let ratio = PairedRatio::of("ratio_to_floor/x".to_owned(), &[1.18, 1.20, 1.22], Some(1.20));
        assert_eq!(ratio.promise.map(|it| it.decision), Some(Decision::NotDecidable));
        let figures = figures(&[ratio, PairedRatio::of("one".to_owned(), &[1.0], None)]);
        assert_eq!(figures.keys().collect::<Vec<_>>(), ["ratio_to_floor/x"]);
    }
}
