//! Runs `benches/benches/instructions.rs` under callgrind, here or at another commit, and finds the profiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::shards;
use crate::process::{Daemon, Program};
use crate::{setup, tree};

/// Fixes the keys of the standard library's hash tables: they change the protocol's own count by half a per cent.
const FIXED_RANDOM: &str = "benches/fixed_random.c";
/// Slows a step down on purpose; read by `benches/src/drag.rs`.
const DRAG: &str = "MUSTER_BENCH_DRAG";

/// The pattern of gungraun that leaves no benchmark out.
const ALL_BENCHMARKS: &str = "*";

/// The text of each profile, by benchmark and case (`server_handshake.ccm8`).
pub(super) type Profiles = BTreeMap<String, String>;

/// A work tree whose benchmarks are run, and its own target directory.
pub(super) struct BenchTree {
    root: PathBuf,
    target: PathBuf,
    /// Steps that are slowed down on purpose, as `MUSTER_BENCH_DRAG` names them; empty for none.
    drag: String,
}

impl BenchTree {
    /// This work tree.
    pub(super) fn here() -> Self {
        Self { root: tree::root(), target: tree::target(), drag: String::new() }
    }

    /// This work tree with steps that are slowed down: `server_handshake=400`.
    pub(super) fn slowed_down(drag: String) -> Self {
        Self { drag, ..Self::here() }
    }

    /// Cargo with one of the benchmark programs.
    fn cargo(&self, program: Program, bench: &str) -> Result<Program> {
        let bench = program.args(["bench", "--quiet", "--locked", "--package", "benches", "--bench", bench]);
        let bench = bench.directory(&self.root).env("CARGO_TARGET_DIR", &self.target);
        Ok(bench.env("GUNGRAUN_RUNNER", setup::bench_runner()?))
    }

    /// Runs the benchmarks and returns their profiles by name.
    pub(super) fn profiles(&self) -> Result<Profiles> {
        self.profiles_of(ALL_BENCHMARKS)
    }

    /// The same of the benchmarks whose paths match, such as `*::server_handshake::ccm8`.
    pub(super) fn profiles_of(&self, pattern: &str) -> Result<Profiles> {
        let folder = self.target.join("gungraun");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        // The build must not see the library that is loaded into what is counted: hence two steps.
        self.cargo(Program::new("cargo"), "instructions")?.arg("--no-run").expect_success()?;
        // Counts do not depend on what else runs, so that each core may count.
        let options = ["--", "--output-format=default", "--parallel=auto", pattern];
        let bench = self.cargo(Program::new("cargo"), "instructions")?.args(options);
        let bench = bench.env("LD_PRELOAD", fixed_random()?).env(DRAG, &self.drag);
        // The profiles contain file names, which tell library code from ours.
        let ended = bench.env("GUNGRAUN_HOME", &folder).expect_success()?;
        let mut found = Profiles::new();
        for file in profiles_below(&folder)? {
            let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            found.insert(name_of(&file)?, String::from_utf8_lossy(&text).into_owned());
        }
        ensure!(!found.is_empty(), "the benchmarks left no profile in {}\n{}", folder.display(), ended.words());
        Ok(found)
    }

    /// What `benches/benches/counts.rs` prints; `None` if this tree does not have it.
    pub(super) fn printed_counts(&self) -> Result<Option<String>> {
        if !self.root.join("benches/benches/counts.rs").is_file() {
            return Ok(None);
        }
        Ok(Some(self.cargo(Program::new("cargo"), "counts")?.expect_success()?.stdout))
    }
}

/// Builds the benchmarks of this tree, and what runs them if it is missing, in the background and at the lowest priority.
pub(super) fn build_aside() -> Result<Daemon> {
    let this = std::env::current_exe().context("where is this program?")?;
    let nice = Program::bound_to_us("nice").args(["-n", "19"]).arg(this).args(["bench", "gate-build"]);
    nice.spawn(&tree::scratch("gate")?.join("build.log"))
}

/// Builds the benchmarks of this tree, and what runs them if it is missing.
pub(super) fn build() -> Result<()> {
    setup::runner()?;
    let bench = BenchTree::here().cargo(Program::new("cargo"), "instructions")?;
    bench.args(["--bench", "counts", "--no-run"]).stream()?;
    shards::build()
}

/// Counts in a work tree of another commit.
pub(super) fn at_commit<T>(commit: &str, work: impl FnOnce(&BenchTree) -> Result<T>) -> Result<T> {
    in_work_tree("parent", commit, |root| {
        work(&BenchTree { root: root.to_owned(), target: tree::target().join("parent"), drag: String::new() })
    })
}

/// Runs a closure in a work tree of a commit, which is removed afterwards. Its folder has this name: that of a commit that was built before finds what it built.
pub(super) fn in_work_tree<T>(name: &str, commit: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let root = tree::target().join("scratch").join(name);
    let remove = || git("worktree remove --force").arg(&root).output();
    drop(remove());
    git("worktree add --force --detach").arg(&root).arg(commit).expect_success()?;
    let result = work(&root);
    remove()?;
    result
}

pub(super) fn git(line: &str) -> Program {
    Program::new("git").args(line.split(' ')).directory(&tree::root())
}

/// The commit that this tree is compared with: its parent, or the last commit where files have changed since.
pub(super) fn parent() -> Result<&'static str> {
    let is_changed = !git("status --porcelain --untracked-files=no").expect_success()?.stdout.is_empty();
    Ok(if is_changed { "HEAD" } else { "HEAD^" })
}

/// Whether a commit is one of those that led to this tree. That git knows an object is not enough: a commit that was rebased stays in the clone it was
/// made in, and nobody else has it.
#[cfg(test)]
pub(super) fn is_in_history(commit: &str) -> bool {
    let is_ancestor = git("merge-base --is-ancestor").arg(commit).arg("HEAD");
    is_ancestor.output().is_ok_and(|ended| ended.status.success())
}

fn fixed_random() -> Result<PathBuf> {
    let library = tree::scratch("fixed-random")?.join("fixed_random.so");
    let cc = Program::line("cc -O1 -shared -fPIC -o").arg(&library).arg(tree::root().join(FIXED_RANDOM));
    cc.expect_success().context("the library that fixes the keys of hash tables cannot be built")?;
    Ok(library)
}

fn profiles_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("no profiles in {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            found.extend(profiles_below(&path)?);
        } else if name.starts_with("callgrind.") && name.ends_with(".out") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Turns `callgrind.server_handshake.ccm8.out` into `server_handshake.ccm8`.
fn name_of(profile: &Path) -> Result<String> {
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_prefix("callgrind.").and_then(|name| name.strip_suffix(".out"));
    name.map(str::to_owned).with_context(|| format!("{} does not have the name of a profile", profile.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_by_function_and_case() {
        assert_eq!(name_of(Path::new("a/callgrind.enrolment.ccm8_64.out")).unwrap(), "enrolment.ccm8_64");
        assert!(name_of(Path::new("a/summary.json")).is_err());
    }
}
