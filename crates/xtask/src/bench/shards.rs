//! `cargo xtask bench shards`: what a second shard costs each datagram. No time is measured: counts say the same on every machine.
//!
//! - **Cache lines.** Valgrind's lackey prints every access to memory of two shards of one server (`benches/src/traced_shards.rs`). No line that one shard
//!   writes for a datagram of an established session is touched by the other one. A lock or a counter that both use would be such a line, whether or not
//!   anybody waits for it.
//! - **Wakes.** strace counts the system calls of a server with one shard and with two under the same load: none that wakes a thread comes on top. It
//!   also says which threads wake another one: a shard wakes threads of the pool, and no shard. The exception, which this load does not have, is a
//!   repetition of a request in flight that comes to another shard: it waits for the same outcome, and the thread that has it wakes that shard, if it
//!   sleeps, by one `write` of eight bytes, which ends one `epoll_wait`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::facts::TimingFacts;
use super::syscalls::{self, SystemCalls, Wakes};
use crate::process::Program;
use crate::{cargo, tree};

/// The last result.
const RESULT: &str = "benches/runs/shards.txt";
const TIMEOUT: Duration = Duration::from_secs(600);
const LINE_BYTES: u64 = 64;
/// System calls that wake a thread, or wait to be woken.
const WAKES: &[&str] = &["futex", "write", "epoll_wait"];
/// How many more of them for an enrolment count as more: how datagrams meet in time differs a little from run to run.
const WAKES_TOLERANCE: f64 = 0.5;

/// What `benches/src/bin/shards.rs` prints.
#[derive(Deserialize)]
struct Marks {
    begin: [u64; 2],
    counts: u64,
    void: u64,
}

/// The cache lines of one shard, for the datagrams that counted.
#[derive(Clone, Default)]
struct Touched {
    written: BTreeSet<u64>,
    read: BTreeSet<u64>,
    datagrams: u32,
}

pub(super) fn run() -> Result<()> {
    let facts = TimingFacts::here();
    let mut report = format!("cargo xtask bench shards\ncommit {}, {}, {}\n", facts.commit, facts.at, facts.rustc);
    let began = Instant::now();
    let [one, two] = trace()?;
    let touched_by = |shard: &Touched, line: &u64| shard.written.contains(line) || shard.read.contains(line);
    let shared = |by: &Touched, other: &Touched| by.written.iter().filter(|line| touched_by(other, line)).count();
    let both = one.read.intersection(&two.read).count();
    let lines = format!(
        "{} and {} datagrams of established sessions on two shards: {} and {} cache lines written, {} and {} of them touched by the other shard; {both} \
         lines are read by both\n",
        one.datagrams,
        two.datagrams,
        one.written.len(),
        two.written.len(),
        shared(&one, &two),
        shared(&two, &one),
    );
    print!("   {lines}");
    report.push_str(&lines);
    ensure!(
        both > 0,
        "the shards share their configuration: a trace without a line that both read has missed something"
    );
    let lines = shared(&one, &two) + shared(&two, &one);
    ensure!(lines == 0, "{lines} cache lines that a shard writes for a datagram are touched by the other shard");
    wakes(&mut report)?;
    writeln!(report, "{} s", began.elapsed().as_secs())?;
    tree::write(&tree::root().join(RESULT), &report)?;
    println!("   written: {RESULT}");
    Ok(())
}

/// Runs both shards under lackey.
fn trace() -> Result<[Touched; 2]> {
    let valgrind = tree::find_program("valgrind").context("valgrind is missing: run `cargo xtask setup`")?;
    cargo::cargo("build --quiet --release --locked --package benches --bin shards").stream()?;
    let folder = tree::scratch("shards")?;
    let (program, trace) = (tree::target().join("release/shards"), folder.join("trace.txt"));
    let lackey = || Program::new(&valgrind).args(["--quiet", "--tool=lackey"]);
    // The program is at the same address each time: valgrind does not randomize it.
    let printed = lackey().arg(&program).arg("marks").expect_success()?.stdout;
    let marks: Marks = serde_json::from_str(&printed).with_context(|| format!("shards printed {printed}"))?;
    // The whole trace takes gigabytes, nearly all of it for handshakes: only what is between two marks is kept.
    let [one, two, counts, void] =
        [marks.begin[0], marks.begin[1], marks.counts, marks.void].map(|mark| format!("{mark:08x},8"));
    let filter = format!(
        "/^ [SM]/ {{ if ($2 == \"{one}\" || $2 == \"{two}\") on = 1; else if ($2 == \"{counts}\" || $2 == \"{void}\") {{ print; on = 0 }} }} \
         on && /^ /"
    );
    let pipe = r#""$0" --quiet --tool=lackey --trace-mem=yes --log-fd=3 "$1" 3>&1 1>"$2" | awk "$3" >"$4""#;
    let pipe = Program::new("sh").args(["-c", pipe]).arg(&valgrind).arg(&program).arg(folder.join("printed.txt"));
    pipe.arg(filter).arg(&trace).timeout(TIMEOUT).expect_success()?;
    let printed = std::fs::read_to_string(folder.join("printed.txt"))?;
    let datagrams: [u32; 2] = serde_json::from_str(&printed).with_context(|| format!("shards printed {printed}"))?;
    let touched = read(BufReader::new(File::open(&trace)?), &marks)?;
    for (shard, datagrams) in touched.iter().zip(datagrams) {
        ensure!(
            shard.datagrams == datagrams && datagrams > 0,
            "{} datagrams in the trace, {datagrams} counted",
            shard.datagrams
        );
    }
    Ok(touched)
}

/// Reads lackey's trace: `I` an instruction, ` L`, ` S` and ` M` a load, a store or both, each with address and length.
fn read(trace: impl BufRead, marks: &Marks) -> Result<[Touched; 2]> {
    let mut touched = [Touched::default(), Touched::default()];
    // The shard that handles a datagram now, and what it has touched for it.
    let mut now: Option<(usize, Touched)> = None;
    for line in trace.lines() {
        let line = line?;
        let Some((kind, rest)) = line.strip_prefix(' ').and_then(|line| line.split_once(' ')) else { continue };
        let Some((address, bytes)) = rest.split_once(',') else { continue };
        let (Ok(address), Ok(bytes)) = (u64::from_str_radix(address, 16), bytes.parse::<u64>()) else { continue };
        // A mark is written by an exchange: a load and a store.
        let is_mark = marks.begin.contains(&address) || [marks.counts, marks.void].contains(&address);
        if is_mark && kind == "L" {
            continue;
        }
        if let Some(shard) = marks.begin.iter().position(|begin| *begin == address) {
            now = Some((shard, Touched::default()));
        } else if address == marks.void {
            now = None;
        } else if address == marks.counts {
            let (shard, it) = now.take().context("a datagram ends that has not begun")?;
            touched[shard].written.extend(it.written);
            touched[shard].read.extend(it.read);
            touched[shard].datagrams += 1;
        } else if let Some((_, it)) = &mut now {
            for line in address / LINE_BYTES..=(address + bytes.max(1) - 1) / LINE_BYTES {
                match kind {
                    "L" => it.read.insert(line),
                    _ => it.written.insert(line),
                };
            }
        }
    }
    Ok(touched)
}

/// The system calls of a server with one shard and with two, under the same load.
fn wakes(report: &mut String) -> Result<()> {
    let counted = || -> Result<_> {
        Ok((syscalls::count(1)?, syscalls::count(2)?, syscalls::wakes_by_shards(1)?, syscalls::wakes_by_shards(2)?))
    };
    let (one, two, by_one, by_two) = counted().context("the wakes are not counted")?;
    let of = |calls: &SystemCalls, name: &str| calls.iter().find(|(it, _)| it == name).map_or(0.0, |(_, count)| *count);
    for name in WAKES {
        let (one, two) = (of(&one, name), of(&two, name));
        say(report, &format!("{name} for one enrolment alone: {one:.2} with one shard, {two:.2} with two"))?;
        ensure!(two <= one + WAKES_TOLERANCE, "{name}: {one:.2} with one shard, {two:.2} with two");
    }
    for (shards, Wakes { of_a_poll, of_a_futex }) in [("one shard", &by_one), ("two shards", &by_two)] {
        say(
            report,
            &format!(
                "{shards}: for one enrolment alone a shard wakes a poll {of_a_poll:.2} times, and a thread of the pool {of_a_futex:.2} times"
            ),
        )?;
    }
    ensure!(by_two.of_a_poll == 0.0, "a shard wakes another one {:.2} times for an enrolment", by_two.of_a_poll);
    say(report, "no shard wakes another one")
}

fn say(report: &mut String, line: &str) -> Result<()> {
    println!("   {line}");
    writeln!(report, "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { begin: [0x1000, 0x1040], counts: 0x1080, void: 0x10c0 };

    #[test]
    fn only_what_happens_between_two_marks_counts() {
        let trace = "==7== Lackey\nI  04016b00,3\n S 5000,8\n S 1000,8\n L 6000,8\nI  04016b03,5\n S 703c,8\n L 1080,8\n M 1080,8\n M 8000,4\n S 1040,8\n M \
                     7040,8\n S 1080,8\n S 1000,8\n S 9000,8\n S 10c0,8\n";
        let [one, two] = read(trace.as_bytes(), &MARKS).unwrap();
        assert_eq!(one.written, BTreeSet::from([0x7000 / 64, 0x7040 / 64]), "a store may touch two lines");
        assert_eq!((one.read, one.datagrams), (BTreeSet::from([0x6000 / 64]), 1));
        assert_eq!(two.written, BTreeSet::from([0x7040 / 64]));
        assert!(read(" S 1080,8\n".as_bytes(), &MARKS).is_err());
    }
}
