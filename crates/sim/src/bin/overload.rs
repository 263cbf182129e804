//! Offers the model of `sim::overload` one to ten times what its core can serve, with the service times that were measured on a real one:
//!
//! ```text
//! cargo run --release -p sim --bin overload
//! ```
//!
//! It prints a line for each multiple, the same in every run, and exits with 1 if a promise is not kept.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::process::ExitCode;

use sim::overload::{curve, curve_crowd};

fn main() -> ExitCode {
    let curve = curve(&curve_crowd());
    for point in &curve {
        println!("  {point}");
    }
    if curve.iter().all(|point| point.faults().is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
