//! Looks at more power losses than the tests do: a new trace of a working ledger for each seed, and so many images of each.
//!
//! ```text
//! cargo xtask power --images 100000 --seed 7       traces from seed 7 on, until there are so many images
//! cargo run -p ledger --example power -- check FILE SEED IMAGES    a trace that was kept, again
//! ```
//!
//! Threads make every trace another one, so a trace with a faulty image is kept. Every second seed has writes and syncs that fail before the power does.
//! A build with a seam has a sync left out (`crates/ledger/src/sqlite/connect.rs`): there `power until-faulty SEED IMAGES` ends with the first loss.
//! What a power loss may leave stands in `tests/power/disk.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a shell around a test: it runs programs and prints to its user"
)]

#[path = "../tests/power/loss.rs"]
mod loss;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use loss::{Checked, Faults, Omitted};

/// Images of one trace.
const IMAGES: usize = 250;

fn main() -> ExitCode {
    if let Ok(errand) = std::env::var(loss::ERRAND) {
        loss::errand(&errand);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let faulty = match words[..] {
        ["check", file, seed, images] => {
            let trace = std::fs::read(file).unwrap();
            let checked = loss::check(&trace, Omitted::Nothing, seed.parse().unwrap(), images.parse().unwrap());
            report(&checked);
            checked.faulty
        }
        [seed, images] => run(seed.parse().unwrap(), images.parse().unwrap(), Until::Enough),
        ["until-faulty", seed, images] => run(seed.parse().unwrap(), images.parse().unwrap(), Until::Faulty),
        _ => {
            eprintln!("usage: power SEED IMAGES, or power check FILE SEED IMAGES, or power until-faulty SEED IMAGES");
            return ExitCode::from(2);
        }
    };
    if faulty == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It has looked at as many images as it was asked for.
    Enough,
    /// The first of them is faulty, or there are as many.
    Faulty,
}

fn run(first: u64, images: usize, until: Until) -> usize {
    let (began, mut total) = (Instant::now(), Checked::default());
    let mut seed = first;
    while total.images < images && (total.faulty == 0 || until == Until::Enough) {
        let faults = if seed.is_multiple_of(2) { Faults::None } else { Faults::Some };
        let trace = loss::trace(seed, faults, &[]);
        let checked = loss::check(&trace, Omitted::Nothing, seed, IMAGES.min(images - total.images));
        if checked.faulty > 0 {
            report(&checked);
        }
        if checked.faulty > 0 && until == Until::Enough {
            let kept: PathBuf = std::env::temp_dir().join(format!("muster-power-{seed}.trace"));
            std::fs::write(&kept, &trace).unwrap();
            println!("seed {seed}: the trace is kept in {}", kept.display());
        }
        total.events += checked.events;
        total.acknowledged += checked.acknowledged;
        total.images += checked.images;
        total.faulty += checked.faulty;
        seed += 1;
    }
    println!(
        "seeds {first} to {}: {} changes, {} answers, {} images, {} of them faulty, {:.0} s",
        seed - 1,
        total.events,
        total.acknowledged,
        total.images,
        total.faulty,
        began.elapsed().as_secs_f64()
    );
    total.faulty
}

fn report(checked: &Checked) {
    println!("{} images, {} of them faulty", checked.images, checked.faulty);
    checked.faults.iter().for_each(|fault| println!("  {fault}"));
}
