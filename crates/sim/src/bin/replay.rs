//! Replays one seed of a scenario and prints the trace of all parties, or searches many seeds for a broken run:
//!
//! ```text
//! cargo run -p sim --bin replay -- --seed N --scenario NAME [--hex]
//! cargo run -p sim --bin replay -- --seed N --scenario NAME --count M
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

use est::trace::Style;
use sim::soak::scenario_named;
use sim::trace::Tracer;
use sim::{Scenario, run, run_traced, scenario};

struct Arguments {
    seed: u64,
    scenario: &'static Scenario,
    style: Style,
    count: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = parse(&arguments) else {
        eprintln!("usage: replay --seed N --scenario NAME [--hex | --count M]");
        eprintln!("scenarios: {}", scenario::ALL.iter().map(|it| it.name).collect::<Vec<_>>().join(", "));
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
    let result = run_traced(arguments.seed, arguments.scenario, &tracer);
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
    let broken: Vec<_> = seeds.filter_map(|seed| run(seed, arguments.scenario).err()).collect();
    broken.iter().for_each(|broken| eprintln!("{broken}"));
    println!("scenario {}: {} of {count} runs are broken", arguments.scenario.name, broken.len());
    broken.is_empty()
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let (mut seed, mut named, mut style, mut count) = (None, None, Style::Text, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seed" => seed = rest.next()?.parse().ok(),
            "--scenario" => named = scenario_named(rest.next()?),
            "--count" => count = Some(rest.next()?.parse().ok()?),
            "--hex" => style = Style::Hex,
            _ => return None,
        }
    }
    Some(Arguments { seed: seed?, scenario: named?, style, count })
}
