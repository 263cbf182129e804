//! Runs the tests of the workspace: builds all test programs, then runs as many of them at a time as there are cores.
//!
//! `cargo test` runs one program after the other, and some of them wait, or compute on one core. What a program prints is printed whole when it ends, with
//! the command that runs it again if it failed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo::cargo;
use crate::process::{Ended, Program};

/// Time for one test program on a busy machine.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(900);
/// What builds the tests. Of the developer's commands those of `xtask` itself are built as `cargo xtask` builds it: beside the workspace it would get other
/// features of its dependencies, and be compiled once more.
const BUILDS: &[&str] = &["test --workspace --exclude xtask", "test --package xtask"];

/// A line that cargo prints for something that it has built.
#[derive(Deserialize)]
struct BuiltMessage {
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
    target: Option<BuiltTarget>,
    profile: Option<BuiltProfile>,
}

#[derive(Deserialize)]
struct BuiltTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct BuiltProfile {
    test: bool,
}

/// A program with tests.
#[derive(Debug, PartialEq, Eq)]
struct TestProgram {
    executable: PathBuf,
    /// The folder of its package, in which cargo runs it.
    folder: PathBuf,
    /// The arguments by which `cargo test` runs it alone.
    again: String,
}

impl TestProgram {
    fn run(&self) -> Result<Ended> {
        Program::new(&self.executable).directory(&self.folder).timeout(PROGRAM_TIMEOUT).output()
    }
}

/// Builds and runs every test.
pub(super) fn run() -> Result<()> {
    let began = Instant::now();
    let mut found = Vec::new();
    for build in BUILDS {
        let build = cargo(&format!("{build} --locked --no-run --message-format json-render-diagnostics"));
        let (status, messages) = build.stdout()?;
        if !status.success() {
            bail!("the tests do not build");
        }
        found.extend(programs(&messages)?);
    }
    println!("   {} test programs are built after {:.1} s", found.len(), began.elapsed().as_secs_f64());
    let failed = run_all(found);
    if !failed.is_empty() {
        bail!("tests failed; run again: {}", failed.join("; "));
    }
    Ok(())
}

/// The test programs among what cargo has built.
fn programs(messages: &str) -> Result<Vec<TestProgram>> {
    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: BuiltMessage = serde_json::from_str(line).context("cargo printed an unknown message")?;
        let (Some(executable), Some(target), Some(profile)) = (message.executable, message.target, message.profile)
        else {
            continue;
        };
        if profile.test {
            let folder = message.manifest_path.parent().unwrap_or(Path::new("")).to_owned();
            let again = again(&folder, &target);
            found.push(TestProgram { executable, folder, again });
        }
    }
    Ok(found)
}

fn again(folder: &Path, target: &BuiltTarget) -> String {
    let manifest = folder.join("Cargo.toml");
    let chosen = match target.kind.first().map(String::as_str) {
        Some("test") => format!("--test {}", target.name),
        Some("bin") => format!("--bin {}", target.name),
        Some("bench") => format!("--bench {}", target.name),
        Some("example") => format!("--example {}", target.name),
        _ => "--lib".to_owned(),
    };
    format!("cargo test --manifest-path {} {chosen}", manifest.display())
}

/// Runs the programs, as many at a time as there are cores; returns the commands of those that failed.
fn run_all(programs: Vec<TestProgram>) -> Vec<String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let programs = Mutex::new(programs.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(program) = locked(&programs).next() else { return };
                    let began = Instant::now();
                    let ended = program.run();
                    if report(&program.again, began.elapsed(), &ended) {
                        locked(&failed).push(program.again);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints one line for a program that passed, all that it said for one that did not; returns whether it failed.
fn report(shown: &str, elapsed: Duration, ended: &Result<Ended>) -> bool {
    let seconds = elapsed.as_secs_f64();
    match ended {
        Ok(ended) if ended.status.success() => {
            println!("   {seconds:>6.1} s  {:>4} passed  {shown}", passed(&ended.stdout));
            false
        }
        Ok(ended) => {
            println!("   {seconds:>6.1} s  FAILED ({})  {shown}\n{}", ended.status, ended.words());
            true
        }
        Err(error) => {
            println!("   {seconds:>6.1} s  FAILED  {shown}\n{error:#}");
            true
        }
    }
}

/// How many tests the output of libtest says have passed.
fn passed(output: &str) -> usize {
    let counts = output.lines().filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next());
    counts.filter_map(|count| count.parse::<usize>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_those_that_cargo_built_as_tests() {
        let of = |kind: &str, test: bool| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/crates/a/Cargo.toml\",\
                 \"target\":{{\"kind\":[\"{kind}\"],\"name\":\"walk\"}},\"profile\":{{\"test\":{test}}},\
                 \"executable\":\"/t/walk-1\"}}\n"
            )
        };
        let finished = "{\"reason\":\"build-finished\",\"success\":true}\n";
        let found = programs(&(of("test", true) + &of("bin", false) + &of("lib", true) + finished)).unwrap();
        let again: Vec<&str> = found.iter().map(|program| program.again.as_str()).collect();
        assert_eq!(
            again,
            [
                "cargo test --manifest-path /w/crates/a/Cargo.toml --test walk",
                "cargo test --manifest-path /w/crates/a/Cargo.toml --lib"
            ]
        );
        assert_eq!(found[0].folder, Path::new("/w/crates/a"));
        assert!(programs("{nonsense").is_err());
    }

    #[test]
    fn a_program_that_fails_is_named_and_the_others_run() {
        let program = |program: &str| {
            let folder = crate::tree::scratch("suite").unwrap();
            TestProgram { executable: program.into(), folder, again: format!("again {program}") }
        };
        let mut failed = run_all(["/bin/false", "/bin/true", "/nowhere", "/bin/true"].map(program).into());
        failed.sort_unstable();
        assert_eq!(failed, ["again /bin/false", "again /nowhere"]);
    }

    #[test]
    fn what_passed_is_added_up() {
        assert_eq!(passed("test result: ok. 3 passed; 0 failed\nx\ntest result: ok. 2 passed; 0 failed\n"), 5);
        assert_eq!(passed("test result: FAILED. 3 passed; 1 failed\n"), 0);
    }
}
