//! What the shards of one server touch and execute for each datagram of an established session, by a trace of valgrind's lackey.

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

impl Tracer {
    pub(super) fn build() -> Result<Self> {
        let valgrind = tree::find_program("valgrind").context("valgrind is missing: run `cargo xtask setup`")?;
        cargo::cargo("build --quiet --release --locked --package programs --bin shards").stream()?;
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
        let (printed, trace) = (self.folder.join("printed.txt"), self.folder.join("trace.txt"));
        // The whole trace takes gigabytes, nearly all of it for handshakes: only what is between two marks is kept.
        let [one, two, counts, void] = [self.marks.begin[0], self.marks.begin[1], self.marks.counts, self.marks.void]
            .map(|mark| format!("{mark:08x},8"));
        let filter = format!(
            "/^ [SM]/ {{ if ($2 == \"{one}\" || $2 == \"{two}\") on = 1; else if ($2 == \"{counts}\" || $2 == \"{void}\") {{ print; on = 0 }} }} \
             on && /^[ I]/"
        );
        let pipe = r#""$0" --quiet --tool=lackey --trace-mem=yes --log-fd=3 "$1" "$2" 3>&1 1>"$3" | awk "$4" >"$5""#;
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

/// Reads lackey's trace: `I` an instruction, ` L`, ` S` and ` M` a load, a store or both, each with address and length.
fn read(trace: impl BufRead, marks: &Marks, atomics: &Atomics) -> Result<[TracedShard; 2]> {
    let mut shards = [TracedShard::default(), TracedShard::default()];
    // The shard that handles a datagram now, and what it has needed for it.
    let mut now: Option<(usize, TracedDatagram)> = None;
    for line in trace.lines() {
        let line = line?;
        let Some((kind, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((address, bytes)) = rest.trim_start().split_once(',') else { continue };
        let (Ok(address), Ok(bytes)) = (u64::from_str_radix(address, 16), bytes.parse::<u64>()) else { continue };
        if kind == "I" {
            if let Some((_, it)) = &mut now {
                it.exchanges += u32::from(atomics.is_exchange(address));
                it.atomics += u32::from(atomics.is_atomic(address));
            }
            continue;
        }
        // A mark is written by an exchange: a load and a store.
        let is_mark = marks.begin.contains(&address) || [marks.counts, marks.void].contains(&address);
        if is_mark && kind == "L" {
            continue;
        }
        if let Some(shard) = marks.begin.iter().position(|begin| *begin == address) {
            now = Some((shard, TracedDatagram::default()));
        } else if address == marks.void {
            now = None;
        } else if address == marks.counts {
            let (shard, mut it) = now.take().context("a datagram ends that has not begun")?;
            // The exchange that writes the mark is not the shard's.
            it.exchanges = it.exchanges.saturating_sub(1);
            it.atomics = it.atomics.saturating_sub(1);
            shards[shard].datagrams.push(it);
        } else if let Some((_, it)) = &mut now {
            for line in address / LINE_BYTES..=(address + bytes.max(1) - 1) / LINE_BYTES {
                match kind {
                    "L" => it.read.insert(line),
                    _ => it.written.insert(line),
                };
            }
        }
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { begin: [0x1000, 0x1040], counts: 0x1080, void: 0x10c0 };

    #[test]
    fn only_what_happens_between_two_marks_counts() {
        let trace = "==7== Lackey\nI  04016b00,3\n S 5000,8\n S 1000,8\n L 6000,8\nI  04016b03,5\nI  04016b08,4\nI  04016b08,4\n S 703c,8\nI  04016b03,5\n L \
                     1080,8\n M 1080,8\n M 8000,4\nI  04016b03,5\n S 1040,8\n M 7040,8\nI  04016b03,5\n S 1080,8\n S 1000,8\n S 9000,8\n S 10c0,8\n";
        let atomics = Atomics::at([0x0401_6b03], [0x0401_6b08]);
        let [one, two] = read(trace.as_bytes(), &MARKS, &atomics).unwrap();
        assert_eq!(one.written(), BTreeSet::from([0x7000 / 64, 0x7040 / 64]), "a store may touch two lines");
        assert_eq!((one.read(), one.datagrams.len()), (BTreeSet::from([0x6000 / 64]), 1));
        assert_eq!((one.datagrams[0].exchanges, one.datagrams[0].atomics), (1, 3), "the mark itself does not count");
        assert_eq!(two.written(), BTreeSet::from([0x7040 / 64]));
        assert_eq!((two.datagrams[0].exchanges, two.datagrams[0].atomics), (0, 0));
        assert_eq!(one.writes_to(&two.written()), 1);
        assert!(read(" S 1080,8\n".as_bytes(), &MARKS, &atomics).is_err());
    }
}
