//! Replays one seed of a scenario and prints the trace of all parties, or searches many seeds for a broken run:
//!
//! ```text
//! cargo run -p sim --bin replay -- --seed N --scenario NAME [--hex]
//! cargo run -p sim --bin replay -- --seed N --scenario NAME --count M
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

use est::trace::Style;
use sim::registrar::registrar_scenario_named;
use sim::registrar::scenario::RegistrarScenario;
use sim::soak::scenario_named;
use sim::trace::Tracer;
use sim::{RunFaults, Scenario, registrar, run, run_traced, scenario};

/// What is played: a CA behind the server, or a Registrar.
#[derive(Clone, Copy)]
enum Played {
    Ca(&'static Scenario),
    Registrar(&'static RegistrarScenario),
}

impl Played {
    fn named(name: &str) -> Option<Self> {
        scenario_named(name).map(Self::Ca).or_else(|| registrar_scenario_named(name).map(Self::Registrar))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ca(scenario) => scenario.name,
            Self::Registrar(scenario) => scenario.base.name,
        }
    }

    /// The line about a good run.
    fn run(self, seed: u64, tracer: Option<&Tracer>) -> Result<String, RunFaults> {
        match (self, tracer) {
            (Self::Ca(scenario), Some(tracer)) => run_traced(seed, scenario, tracer).map(|report| report.to_string()),
            (Self::Ca(scenario), None) => run(seed, scenario).map(|report| report.to_string()),
            (Self::Registrar(scenario), _) => {
                registrar::run(seed, scenario, tracer).map(|report| format!("{report:?}"))
            }
        }
    }
}

struct Arguments {
    seed: u64,
    scenario: Played,
    style: Style,
    count: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = parse(&arguments) else {
        eprintln!("usage: replay --seed N --scenario NAME [--hex | --count M]");
        let registrars = registrar::scenario::ALL.iter().map(|it| it.base.name);
        let names: Vec<_> = scenario::ALL.iter().map(|it| it.name).chain(registrars).collect();
        eprintln!("scenarios: {}", names.join(", "));
        return ExitCode::from(2);
    };
    let good = match arguments.count {
        Some(count) => search(&arguments, count),
        None => replay(&arguments),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(arguments: &Arguments) -> bool {
    let tracer = Tracer::new(arguments.style);
    let result = arguments.scenario.run(arguments.seed, Some(&tracer));
    print!("{}", tracer.take());
    match result {
        Ok(report) => println!("{report}"),
        Err(broken) => {
            eprintln!("{broken}");
            return false;
        }
    }
    true
}

fn search(arguments: &Arguments, count: u64) -> bool {
    let seeds = arguments.seed..arguments.seed.saturating_add(count);
    let broken: Vec<_> = seeds.filter_map(|seed| arguments.scenario.run(seed, None).err()).collect();
    broken.iter().for_each(|broken| eprintln!("{broken}"));
    println!("scenario {}: {} of {count} runs are broken", arguments.scenario.name(), broken.len());
    broken.is_empty()
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let (mut seed, mut named, mut style, mut count) = (None, None, Style::Text, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seed" => seed = rest.next()?.parse().ok(),
            "--scenario" => named = Played::named(rest.next()?),
            "--count" => count = Some(rest.next()?.parse().ok()?),
            "--hex" => style = Style::Hex,
            _ => return None,
        }
    }
    Some(Arguments { seed: seed?, scenario: named?, style, count })
}
