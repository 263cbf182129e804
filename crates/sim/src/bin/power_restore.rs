//! Plays the return of the power for all fields of `sim::power_restore`, or for one:
//!
//! ```text
//! cargo run --release -p sim --bin power_restore -- [--field NAME] [--devices N] [--seed SEED]
//! ```
//!
//! It prints a report of each and the memory that the process needed at most, and exits with 1 if a promise is not kept.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that prints its result and the memory that it needed"
)]

use std::process::ExitCode;

use sim::power_restore::{self, PowerField, power_field_named};

struct Arguments {
    fields: Vec<PowerField>,
    devices: Option<u32>,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Arguments { fields, devices, seed }) = parse(&arguments) else {
        eprintln!("usage: power_restore [--field NAME] [--devices N] [--seed SEED]");
        return ExitCode::from(2);
    };
    let mut kept = true;
    for field in fields {
        let field = devices.map_or(field, |devices| field.with_devices(devices));
        let report = power_restore::run(&field, seed, &mut |progress| eprintln!("{}: {progress}", field.name));
        print!("{report}");
        kept &= report.faults().is_empty();
    }
    if let Some(peak) = peak_memory() {
        println!("memory of the process at most {peak}");
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The most memory that the process has had, as the kernel prints it.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|peak| peak.trim().to_owned())
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let mut parsed = Arguments { fields: PowerField::ALL.to_vec(), devices: None, seed: 0 };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--field" => parsed.fields = vec![*power_field_named(rest.next()?)?],
            "--devices" => parsed.devices = Some(rest.next()?.parse().ok().filter(|devices| *devices > 0)?),
            "--seed" => parsed.seed = rest.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(parsed)
}
