//! A million sessions of one server end in one instant: `tests/population.rs` with more sessions, which takes up to an hour.
//!
//! ```text
//! cargo run --release -p sim --example population -- SESSIONS
//! ```
//!
//! It exits with 1 if a promise of the test is not kept. `cargo xtask population` stores its output in `results/population.txt`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

#[path = "../tests/support/memory.rs"]
mod memory;

use std::process::ExitCode;

use sim::population::End;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(Ok(sessions)), None) = (arguments.next().map(|number| number.parse::<u32>()), arguments.next()) else {
        eprintln!("usage: population SESSIONS");
        return ExitCode::from(2);
    };
    println!("{sessions} sessions\n{}", memory::heading());
    let mut kept = true;
    for end in End::ALL {
        let ended = memory::end(sessions, end, &mut |arrived| eprintln!("{end:?}: {arrived} of {sessions} sessions"));
        println!("{}", ended.line(end));
        for fault in ended.faults(sessions) {
            println!("{fault}");
            kept = false;
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
