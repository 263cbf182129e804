//! `cargo xtask bench allocations`: where a server that has been running allocates for one enrolment, by the functions of ours that ask for memory.
//!
//! Valgrind's DHAT knows each block by its stack. A replay of many enrolments less one of fewer leaves what an enrolment adds; what prepares the replay is not
//! below its loop, and is not counted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::Program;
use crate::{cargo, tree};

/// Enrolments of the two replays.
const FEW: u32 = 20;
const MANY: u32 = 60;
/// The loop that is measured.
const LOOP: &str = "WarmReplay::run";
/// Places that take less than this each enrolment are tables that grow: they are summed.
const GROWTH: f64 = 0.5;

/// DHAT's file, as far as it is read: places with their blocks and stacks, and the frames that stacks refer to.
#[derive(Deserialize)]
struct Profile {
    pps: Vec<Place>,
    ftbl: Vec<String>,
}

#[derive(Deserialize)]
struct Place {
    /// Blocks in all.
    tbk: u64,
    /// Bytes in all.
    tb: u64,
    /// The stack, the innermost frame first.
    fs: Vec<usize>,
}

/// Blocks and bytes by function.
type Blocks = BTreeMap<String, (f64, f64)>;

pub(super) fn run() -> Result<()> {
    let valgrind = tree::find_program("valgrind").context("valgrind is missing: run `cargo xtask setup`")?;
    cargo::cargo("build --quiet --release --locked --package programs --bin warm").stream()?;
    let folder = tree::scratch("allocations")?;
    let replayed = |enrolments: u32| {
        let file = folder.join(format!("{enrolments}.json"));
        let mut out = std::ffi::OsString::from("--dhat-out-file=");
        out.push(&file);
        // Deep enough for every frame up to the loop.
        let dhat = Program::new(&valgrind).args(["--quiet", "--tool=dhat", "--num-callers=100"]).arg(out);
        dhat.arg(tree::target().join("release/warm")).arg("replay").arg(enrolments.to_string()).expect_success()?;
        blocks(&file)
    };
    let (few, many) = (replayed(FEW)?, replayed(MANY)?);
    print_table(&each(&few, &many, f64::from(MANY - FEW)));
    Ok(())
}

fn blocks(file: &Path) -> Result<Blocks> {
    let text = std::fs::read_to_string(file).with_context(|| format!("DHAT left no {}", file.display()))?;
    let profile: Profile = serde_json::from_str(&text).with_context(|| format!("{} is not DHAT's", file.display()))?;
    by_function(&profile)
}

fn by_function(profile: &Profile) -> Result<Blocks> {
    let mut found = Blocks::new();
    for place in &profile.pps {
        let stack: Vec<&str> =
            place.fs.iter().filter_map(|frame| profile.ftbl.get(*frame)).map(String::as_str).collect();
        let Some(below) = stack.iter().position(|frame| frame.contains(LOOP)) else { continue };
        let ours = stack[..below].iter().find_map(|frame| of_ours(frame));
        let (blocks, bytes) = found.entry(ours.unwrap_or_else(|| "elsewhere".to_owned())).or_default();
        *blocks += float(place.tbk);
        *bytes += float(place.tb);
    }
    ensure!(!found.is_empty(), "DHAT saw no block below {LOOP}");
    Ok(found)
}

/// `reassembly.rs, insert` for a frame such as `0x4A: dtls::handshake::reassembly::Reassembly::insert (reassembly.rs:72)`; `None` for one of the standard
/// library or of another package, whose files are named with their folders, and for one whose name is lost or is a closure's: its caller is named then.
fn of_ours(frame: &str) -> Option<String> {
    let (_, frame) = frame.split_once(": ")?;
    let (function, place) = frame.rsplit_once(" (")?;
    let (file, _) = place.trim_end_matches(')').rsplit_once(':')?;
    let name = short(function);
    let is_ours = !file.contains('/') && !file.starts_with("in ");
    (is_ours && !name.is_empty() && name != "UnknownInlinedFun").then(|| format!("{file}, {name}"))
}

/// The last name of a path, without what is between angle brackets. Inlined functions have no path.
fn short(function: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0_u32;
    for letter in function.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let names = plain.split("::").filter(|name| !name.is_empty() && !name.starts_with('{'));
    names.last().unwrap_or_default().to_owned()
}

/// What one enrolment adds.
fn each(few: &Blocks, many: &Blocks, enrolments: f64) -> Blocks {
    let less = |name: &String| few.get(name).copied().unwrap_or_default();
    let each = |(name, (blocks, bytes)): (&String, &(f64, f64))| {
        let (before, bytes_before) = less(name);
        (name.clone(), ((blocks - before) / enrolments, (bytes - bytes_before) / enrolments))
    };
    many.iter().map(each).collect()
}

/// Prints Markdown.
fn print_table(each: &Blocks) {
    println!("| file, function | allocations | bytes |\n|---|---|---|");
    let mut rows: Vec<(&String, &(f64, f64))> = each.iter().collect();
    rows.sort_by(|(_, one), (_, other)| other.0.total_cmp(&one.0));
    let mut growing = (0.0, 0.0);
    for (name, (blocks, bytes)) in rows {
        if *blocks >= GROWTH {
            println!("| `{name}` | {blocks:.0} | {bytes:.0} |");
        } else {
            growing = (growing.0 + blocks, growing.1 + bytes);
        }
    }
    println!("| tables that grow | {:.1} | {:.0} |", growing.0, growing.1);
    let sum = |of: fn(&(f64, f64)) -> f64| each.values().map(of).sum::<f64>();
    println!("| all | {:.1} | {:.0} |", sum(|it| it.0), sum(|it| it.1));
}

#[allow(clippy::cast_precision_loss, reason = "blocks and bytes of one replay are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_belongs_to_the_innermost_function_of_ours() {
        let frames = [
            "[root]",
            "0x1: malloc (in /usr/libexec/valgrind/vgpreload_dhat-amd64-linux.so)",
            "0x2: with_capacity_in<u8, alloc::alloc::Global> (library/alloc/src/raw_vec/mod.rs:177)",
            "0x3: <dtls::handshake::server::ExpectFinished<P>>::handle (finished.rs:55)",
            "0x4: benches::warm::WarmReplay::run (warm.rs:80)",
            "0x5: benches::warm::WarmRecording::new (warm.rs:60)",
        ];
        let place = |blocks, stack: &[usize]| Place { tbk: blocks, tb: blocks * 10, fs: stack.to_vec() };
        let profile = |blocks| Profile {
            pps: vec![place(blocks, &[1, 2, 3, 4]), place(7, &[1, 2, 5])],
            ftbl: frames.map(str::to_owned).to_vec(),
        };
        let [few, many] = [20, 60].map(|blocks| by_function(&profile(blocks)).unwrap());
        let each = each(&few, &many, 40.0);
        assert_eq!(each, Blocks::from([("finished.rs, handle".to_owned(), (1.0, 10.0))]));
        assert_eq!(short("pki::extension::Extensions::remember::{{closure}}"), "remember");
        assert_eq!(of_ours("0x6: UnknownInlinedFun (flight.rs:47)"), None);
    }
}
