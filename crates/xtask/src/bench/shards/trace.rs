//! What the shards of one server touch and execute for each datagram of an established session, by a trace of valgrind's lackey.
//!
//! Valgrind runs one thread at a time, and lackey does not say which. A shard that has finished still has to go to sleep, as has the main thread, and
//! valgrind may let it do so in the middle of a datagram of the other shard. Therefore the trace also has valgrind's own words about its scheduling
//! (`--trace-sched`), and a datagram gets only what its own thread did.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::atomics::Atomics;
use crate::process::Program;
use crate::{cargo, tree};

const TIMEOUT: Duration = Duration::from_secs(600);
const LINE_BYTES: u64 = 64;
/// Valgrind's word for a thread that runs from here on: `--PID--   SCHED[2]:  acquired lock (..)`.
const RUNS: &str = "acquired lock";

/// What `benches/programs/src/bin/shards.rs` prints: addresses in memory.
#[derive(Deserialize)]
struct Marks {
    begin: [u64; 2],
    counts: u64,
    void: u64,
}

/// The datagrams of one shard that counted.
#[derive(Clone, Debug, Default)]
pub(super) struct TracedShard {
    pub(super) datagrams: Vec<TracedDatagram>,
}

/// What one datagram needed: cache lines, by their number, and how many atomic instructions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TracedDatagram {
    written: BTreeSet<u64>,
    read: BTreeSet<u64>,
    /// Read-modify-writes that could take a lock.
    pub(super) exchanges: u32,
    /// All read-modify-writes.
    pub(super) atomics: u32,
}

impl TracedShard {
    pub(super) fn written(&self) -> BTreeSet<u64> {
        self.datagrams.iter().flat_map(|it| &it.written).copied().collect()
    }

    pub(super) fn read(&self) -> BTreeSet<u64> {
        self.datagrams.iter().flat_map(|it| &it.read).copied().collect()
    }

    /// How often a datagram wrote one of these lines.
    pub(super) fn writes_to(&self, lines: &BTreeSet<u64>) -> usize {
        self.datagrams.iter().map(|it| it.written.intersection(lines).count()).sum()
    }
}

/// Builds the program, and finds its marks and its atomic instructions.
pub(super) struct Tracer {
    valgrind: std::path::PathBuf,
    program: std::path::PathBuf,
    folder: std::path::PathBuf,
    marks: Marks,
    atomics: Atomics,
}

/// Builds the program that is traced.
pub(super) fn build() -> Result<()> {
    cargo::cargo("build --quiet --release --locked --package programs --bin shards").stream()
}

impl Tracer {
    pub(super) fn build() -> Result<Self> {
        let valgrind = tree::find_program("valgrind").context("valgrind is missing: run `cargo xtask setup`")?;
        build()?;
        let program = tree::target().join("release/shards");
        // The program is at the same address each time: valgrind does not randomize it.
        let lackey = Program::new(&valgrind).args(["--quiet", "--tool=lackey"]);
        let printed = lackey.arg(&program).arg("marks").expect_success()?.stdout;
        let marks: Marks = serde_json::from_str(&printed).with_context(|| format!("shards printed {printed}"))?;
        let atomics = Atomics::of(&program, marks.begin[0])?;
        Ok(Self { valgrind, program, folder: tree::scratch("shards")?, marks, atomics })
    }

    /// Runs `one` or `two` shards under lackey.
    pub(super) fn trace(&self, shards: &str) -> Result<Vec<TracedShard>> {
        let file = |what: &str| self.folder.join(format!("{shards}-{what}.txt"));
        let (printed, trace) = (file("printed"), file("trace"));
        // The whole trace takes gigabytes, nearly all of it for handshakes: only what is between two marks is kept, and which thread runs.
        let [one, two, counts, void] = [self.marks.begin[0], self.marks.begin[1], self.marks.counts, self.marks.void]
            .map(|mark| format!("{mark:08x},8"));
        let filter = format!(
            "/^ [SM]/ {{ if ($2 == \"{one}\" || $2 == \"{two}\") on = 1; else if ($2 == \"{counts}\" || $2 == \"{void}\") {{ print; on = 0 }} }} \
             on && /^[ I]/; /^--/ && /{RUNS}/"
        );
        let pipe = r#""$0" --quiet --tool=lackey --trace-mem=yes --trace-sched=yes --log-fd=3 "$1" "$2" 3>&1 1>"$3" | awk "$4" >"$5""#;
        let pipe = Program::new("sh").args(["-c", pipe]).arg(&self.valgrind).arg(&self.program).arg(shards);
        pipe.arg(&printed).arg(filter).arg(&trace).timeout(TIMEOUT).expect_success()?;
        let traced = read(BufReader::new(File::open(&trace)?), &self.marks, &self.atomics)?;
        ensure_all_are_there(&traced, &printed)
    }
}

/// The trace has the datagrams that the program counted.
fn ensure_all_are_there(traced: &[TracedShard; 2], printed: &Path) -> Result<Vec<TracedShard>> {
    let printed = std::fs::read_to_string(printed)?;
    let counted: Vec<usize> = serde_json::from_str(&printed).with_context(|| format!("shards printed {printed}"))?;
    let shards: Vec<TracedShard> = traced[..counted.len().min(traced.len())].to_vec();
    for (shard, counted) in shards.iter().zip(&counted) {
        let traced = shard.datagrams.len();
        ensure!(traced == *counted && traced > 0, "{traced} datagrams in the trace, {counted} counted");
    }
    Ok(shards)
}

/// A datagram that a shard handles now.
struct Handled {
    shard: usize,
    /// The thread that handles it.
    by: u32,
    needed: TracedDatagram,
}

/// Reads lackey's trace: `I` an instruction, ` L`, ` S` and ` M` a load, a store or both, each with address and length; between them, which thread runs.
fn read(trace: impl BufRead, marks: &Marks, atomics: &Atomics) -> Result<[TracedShard; 2]> {
    let mut shards = [TracedShard::default(), TracedShard::default()];
    let mut running = None;
    let mut now: Option<Handled> = None;
    for line in trace.lines() {
        let line = line?;
        if let Some(thread) = runs_from_here(&line) {
            running = Some(thread);
            continue;
        }
        let Some((kind, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((address, bytes)) = rest.trim_start().split_once(',') else { continue };
        let (Ok(address), Ok(bytes)) = (u64::from_str_radix(address, 16), bytes.parse::<u64>()) else { continue };
        let by = running.context("the trace does not say which thread runs")?;
        if now.as_ref().is_some_and(|it| it.by != by) {
            continue;
        }
        // A mark is written by an exchange: a load and a store.
        let is_mark = marks.begin.contains(&address) || [marks.counts, marks.void].contains(&address);
        if is_mark && kind == "L" {
            continue;
        }
        if let Some(shard) = marks.begin.iter().position(|begin| *begin == address) {
            now = Some(Handled { shard, by, needed: TracedDatagram::default() });
        } else if address == marks.void {
            now = None;
        } else if address == marks.counts {
            let Handled { shard, mut needed, .. } = now.take().context("a datagram ends that has not begun")?;
            // The exchange that writes the mark is not the shard's.
            needed.exchanges = needed.exchanges.saturating_sub(1);
            needed.atomics = needed.atomics.saturating_sub(1);
            shards[shard].datagrams.push(needed);
        } else if let Some(it) = &mut now {
            it.needed.add(kind, (address, bytes), atomics);
        }
    }
    Ok(shards)
}

/// The thread that runs after this line, if it says so.
fn runs_from_here(line: &str) -> Option<u32> {
    let (_, event) = line.strip_prefix("--")?.split_once("SCHED[")?;
    let (thread, what) = event.split_once("]:")?;
    if what.trim_start().starts_with(RUNS) { thread.parse().ok() } else { None }
}

impl TracedDatagram {
    fn add(&mut self, kind: &str, (address, bytes): (u64, u64), atomics: &Atomics) {
        if kind == "I" {
            self.exchanges += u32::from(atomics.is_exchange(address));
            self.atomics += u32::from(atomics.is_atomic(address));
            return;
        }
        let lines = address / LINE_BYTES..=(address + bytes.max(1) - 1) / LINE_BYTES;
        match kind {
            "L" => self.read.extend(lines),
            _ => self.written.extend(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { begin: [0x1000, 0x1040], counts: 0x1080, void: 0x10c0 };

    #[test]
    fn only_what_happens_between_two_marks_counts() {
        let trace = "==7== Lackey\n--7--   SCHED[2]:  acquired lock (x)\nI  04016b00,3\n S 5000,8\n S 1000,8\n L 6000,8\nI  04016b03,5\nI  04016b08,4\nI  04016b08,4\n S 703c,8\nI  04016b03,5\n L \
                     1080,8\n M 1080,8\n M 8000,4\nI  04016b03,5\n S 1040,8\n M 7040,8\nI  04016b03,5\n S 1080,8\n S 1000,8\n S 9000,8\n S 10c0,8\n";
        let atomics = Atomics::at([0x0401_6b03], [0x0401_6b08]);
        let [one, two] = read(trace.as_bytes(), &MARKS, &atomics).unwrap();
        assert_eq!(one.written(), BTreeSet::from([0x7000 / 64, 0x7040 / 64]), "a store may touch two lines");
        assert_eq!((one.read(), one.datagrams.len()), (BTreeSet::from([0x6000 / 64]), 1));
        assert_eq!((one.datagrams[0].exchanges, one.datagrams[0].atomics), (1, 3), "the mark itself does not count");
        assert_eq!(two.written(), BTreeSet::from([0x7040 / 64]));
        assert_eq!((two.datagrams[0].exchanges, two.datagrams[0].atomics), (0, 0));
        assert_eq!(one.writes_to(&two.written()), 1);
        let ends_only = "--7--   SCHED[2]:  acquired lock (x)\n S 1080,8\n";
        assert!(read(ends_only.as_bytes(), &MARKS, &atomics).is_err());
    }

    #[test]
    fn what_another_thread_does_in_the_middle_of_a_datagram_is_not_the_datagram_s() {
        let thread = |number: u32| format!("--7--   SCHED[{number}]:  acquired lock (VG_(vg_yield))\n");
        let (one, two) = (thread(2), thread(3));
        let yields = "--7--   SCHED[3]: releasing lock (VG_(vg_yield)) -> VgTs_Yielding\n";
        // The shard that has finished wakes the main thread by an exchange, writes to its own stack, and sleeps.
        let trace = format!(
            "{one} S 1000,8\n S 5000,8\n S 1080,8\n{two} S 1040,8\n S 7000,8\n{yields}{one}I  04016b03,5\n S 5000,8\n L 5040,8\n{two}I  04016b03,5\n S 1080,8\n"
        );
        let [first, second] = read(trace.as_bytes(), &MARKS, &Atomics::at([0x0401_6b03], [])).unwrap();
        assert_eq!(first.written(), BTreeSet::from([0x5000 / 64]));
        assert_eq!((second.written(), second.read()), (BTreeSet::from([0x7000 / 64]), BTreeSet::new()));
        assert_eq!(second.datagrams[0].exchanges, 0, "the one that writes the mark");
        let without = trace.replace("SCHED", "x");
        assert!(read(without.as_bytes(), &MARKS, &Atomics::at([], [])).is_err(), "a trace without its threads");
    }
}
