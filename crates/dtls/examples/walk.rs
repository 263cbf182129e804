//! Walks further than the tests do: every word of seven letters out of twelve (35,831,808) from the beginning of a handshake, in ranges.
//!
//! ```text
//! cargo xtask walk                                     all words of seven letters; hours
//! cargo xtask walk --from 1000000 --to 2000000         a range of them; each line says where to go on
//! cargo xtask walk --depth 4 --letters all --after HC  other words: out of all letters, after a prefix
//! cargo run -p dtls --example walk -- --word HOKU      one word, and what comes of it
//! ```
//!
//! `cargo xtask walk` is `cargo run --release -p dtls --example walk --`. What a letter is, and what must come of a word, stands in
//! `tests/support/walk`. It exits with 1 at the first walk on which engine and oracle differ.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a shell: it looks at the clock and prints to its user"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use support::walk::letter::{ALL, IMPOSTORS, Letter, read, spell};
use support::walk::scene::Scene;
use support::walk::{Found, Plan, Tally, run};

/// Words between two lines of progress, and the least that is lost by an interruption.
const STEP: u64 = 100_000;

struct Arguments {
    word: Option<Vec<Letter>>,
    letters: &'static [Letter],
    after: Vec<Letter>,
    depth: u32,
    from: u64,
    to: u64,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\nletters:");
            for letter in ALL {
                eprintln!("  {letter}");
            }
            return ExitCode::from(2);
        }
    };
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(found) => {
            println!("{found}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { word: None, letters: &IMPOSTORS, after: Vec::new(), depth: 7, from: 0, to: u64::MAX };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag}: a value is missing"))?;
            let bad = || format!("{flag} {value}: not understood");
            match flag.as_str() {
                "--word" => parsed.word = Some(read(&value).ok_or_else(bad)?),
                "--after" => parsed.after = read(&value).ok_or_else(bad)?,
                "--letters" if value == "all" => parsed.letters = &ALL,
                "--letters" if value == "impostors" => parsed.letters = &IMPOSTORS,
                "--depth" => parsed.depth = value.parse().ok().filter(|depth| *depth <= 12).ok_or_else(bad)?,
                "--from" => parsed.from = value.parse().map_err(|_| bad())?,
                "--to" => parsed.to = value.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        Ok(parsed)
    }

    fn run(&self) -> Result<(), Found> {
        let Some(word) = &self.word else { return self.walk() };
        let completed = run(&mut Scene::new(), word.iter().copied())?;
        println!("{}: {}, as it must", spell(word), if completed { "completes" } else { "does not complete" });
        Ok(())
    }

    fn walk(&self) -> Result<(), Found> {
        let plan = Plan { prefix: &self.after, letters: self.letters, depth: self.depth };
        let end = self.to.min(plan.words());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut scenes: Vec<Scene> = (0..cores).map(|_| Scene::new()).collect();
        let mut total = Tally::default();
        let began = Instant::now();
        let mut from = self.from.min(end);
        while from < end {
            let to = end.min(from + STEP);
            total += walk_step(&plan, &mut scenes, from..to)?;
            let seconds = began.elapsed().as_secs_f64();
            let per_second = f64::from(u32::try_from(total.walks).unwrap_or(u32::MAX)) / seconds;
            let completed = total.completed;
            println!(
                "{to} of {end}: {completed} completed, all of them honest; {per_second:.0}/s; go on with --from {to}"
            );
            from = to;
        }
        println!("{} walks, {} completed, in {:.0} s", total.walks, total.completed, began.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Each core walks its part of a step.
fn walk_step(plan: &Plan<'_>, scenes: &mut [Scene], numbers: Range<u64>) -> Result<Tally, Found> {
    let share = (numbers.end - numbers.start).div_ceil(u64::try_from(scenes.len()).unwrap_or(1));
    std::thread::scope(|scope| {
        let parts = scenes.iter_mut().zip(0_u64..).map(|(scene, at)| {
            let start = numbers.end.min(numbers.start + at * share);
            let part = start..numbers.end.min(start + share);
            scope.spawn(move || plan.walk(scene, part))
        });
        let parts: Vec<_> = parts.collect();
        let mut tally = Tally::default();
        for part in parts {
            tally += part.join().expect("a walk does not panic")?;
        }
        Ok(tally)
    })
}
