//! Writes the seeds of the fuzz targets, or runs one input: `seeds write`, `seeds replay TARGET FILE...`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a shell: it writes files and prints to the terminal"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sim::fuzz;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["write"] => write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")),
        ["replay", target, files @ ..] if !files.is_empty() => replay(target, files),
        _ => Err("usage: seeds write | seeds replay TARGET FILE...".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the recorded seeds. Files with other names, such as earlier findings, are kept.
fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let seeds = fuzz::recorded();
    for seed in &seeds {
        let folder = folder.join(seed.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(&seed.name), &seed.bytes)?;
    }
    let bytes: usize = seeds.iter().map(|seed| seed.bytes.len()).sum();
    println!("{} seeds, {bytes} bytes, in {}", seeds.len(), folder.display());
    Ok(())
}

fn replay(target: &str, files: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let found = fuzz::target(target).ok_or_else(|| format!("there is no target `{target}`"))?;
    for file in files {
        let input = std::fs::read(PathBuf::from(file))?;
        (found.body)(&input);
        println!("{target}: {file}: {} bytes, nothing found", input.len());
    }
    Ok(())
}
