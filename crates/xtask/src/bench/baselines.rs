//! The committed baselines: what `bless` moves with each commit that says why, and the line of the last release, which it cannot move.
//!
//! The line of a version is the one that was drawn first in the history of the repository: another one under the same version, or a line that was
//! deleted, fails the gate, also when it came in several commits.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::counts::{self, Counts, Enrolments};
use super::facts::CountingFacts;
use super::figures::{self, Figures};
use super::profiles::{BenchTree, git};
use crate::process::Program;
use crate::tree;

const INSTRUCTIONS: &str = "benches/baselines/instructions.json";
const ENROLMENTS: &str = "benches/baselines/enrolments.json";
const RELEASE: &str = "benches/baselines/release.json";
/// Lines that do not count, by version and the commit that they were drawn at. That of 0.1.0 was drawn again before it was used, an hour after the first:
/// 655932a3 made a client's enrolment a quarter dearer because it had not verified the signatures of the answer to /crts.
const NEVER_USED: &[(&str, &str)] = &[("0.1.0", "09fb4941dd70")];

/// The baselines of one tree.
pub(super) struct Baselines {
    pub(super) facts: CountingFacts,
    pub(super) instructions: Counts,
    pub(super) enrolments: Enrolments,
}

/// The file of instructions.
#[derive(Serialize, Deserialize)]
struct InstructionsFile {
    facts: CountingFacts,
    counts: Counts,
}

/// The line of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Release {
    pub(super) version: String,
    pub(super) commit: String,
    pub(super) facts: CountingFacts,
    pub(super) instructions: Counts,
    pub(super) enrolments: Enrolments,
}

impl Baselines {
    /// Those of this tree.
    pub(super) fn committed() -> Result<Self> {
        let read = |file| tree::read(file).context("no baselines: run `cargo xtask bench bless`");
        Self::parse(&read(INSTRUCTIONS)?, &read(ENROLMENTS)?)
    }

    /// Those of another commit; `None` where it has none. A commit before the enrolments were counted has none of these.
    pub(super) fn of_commit(commit: &str) -> Result<Option<Self>> {
        let Some(instructions) = file_at(commit, INSTRUCTIONS)? else { return Ok(None) };
        let enrolments = file_at(commit, ENROLMENTS)?.unwrap_or_else(|| "{}".to_owned());
        Self::parse(&instructions, &enrolments).map(Some)
    }

    fn parse(instructions: &str, enrolments: &str) -> Result<Self> {
        let file: InstructionsFile =
            serde_json::from_str(instructions).with_context(|| format!("{INSTRUCTIONS} is not a baseline"))?;
        let enrolments = serde_json::from_str(enrolments).with_context(|| format!("{ENROLMENTS} is not a baseline"))?;
        Ok(Self { facts: file.facts, instructions: file.counts, enrolments })
    }

    /// Counts a tree; several times to know the noise.
    pub(super) fn measure(tree: &BenchTree) -> Result<Self> {
        Ok(Self { facts: CountingFacts::here(), instructions: counts::several(tree)?, enrolments: enrolments(tree)? })
    }

    pub(super) fn write(&self) -> Result<()> {
        let file = InstructionsFile { facts: self.facts.clone(), counts: self.instructions.clone() };
        write_json(INSTRUCTIONS, &file)?;
        write_json(ENROLMENTS, &self.enrolments)
    }

    pub(super) fn figures(&self) -> Figures {
        figures::counted(&self.instructions, &self.enrolments)
    }
}

/// Allocations, datagrams and bytes of an enrolment; empty for a tree that does not count them.
pub(super) fn enrolments(tree: &BenchTree) -> Result<Enrolments> {
    match tree.printed_counts()? {
        Some(printed) => serde_json::from_str(&printed).with_context(|| format!("the counts printed {printed}")),
        None => Ok(Enrolments::new()),
    }
}

impl Release {
    pub(super) fn committed() -> Result<Self> {
        let text = tree::read(RELEASE).context("no line of a release: run `cargo xtask bench release`")?;
        serde_json::from_str(&text).with_context(|| format!("{RELEASE} is not the line of a release"))
    }

    pub(super) fn figures(&self) -> Figures {
        figures::counted(&self.instructions, &self.enrolments)
    }

    /// Fails if the line was moved or deleted since it was drawn: only a new version may have a new line. A shallow clone does not have the commits in which it
    /// could have been: then this looks at those that are there and says so.
    pub(super) fn ensure_unmoved() -> Result<()> {
        let now = if tree::read(RELEASE).is_ok() { Some(Self::committed()?) } else { None };
        if is_shallow(&tree::root())? {
            println!(
                "   NOT CHECKED: whether the line of the release was moved before the commits of this shallow clone; `git fetch --unshallow` brings the others"
            );
        }
        ensure_stays(now.as_ref(), &DrawnLine::of_history()?, &workspace_version(&tree::read("Cargo.toml")?)?)
    }
}

/// Whether a clone ends at commits whose parents it does not have.
pub(super) fn is_shallow(folder: &Path) -> Result<bool> {
    let answer = Program::line("git rev-parse --is-shallow-repository").directory(folder).expect_success()?.stdout;
    match answer.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => bail!("git does not say whether this clone is shallow, but {other:?}"),
    }
}

/// A line of the history, and the commit that has it.
struct DrawnLine {
    commit: String,
    line: Release,
}

impl DrawnLine {
    /// All that were committed, the oldest first. A shallow clone has fewer ([`is_shallow`]).
    fn of_history() -> Result<Vec<Self>> {
        let log = git("log --reverse --full-history --no-renames --diff-filter=AM --format=%h --").arg(RELEASE);
        let mut drawn = Vec::new();
        for commit in log.expect_success()?.stdout.lines() {
            let Some(text) = file_at(commit, RELEASE)? else { continue };
            let line: Release = serde_json::from_str(&text)
                .with_context(|| format!("{RELEASE} of {commit} is not the line of a release"))?;
            let is_used = !NEVER_USED.contains(&(&line.version, &line.commit));
            if is_used {
                drawn.push(Self { commit: commit.to_owned(), line });
            }
        }
        Ok(drawn)
    }

    /// The first of a version.
    fn of_version<'d>(drawn: &'d [Self], version: &str) -> Option<&'d Self> {
        drawn.iter().find(|it| it.line.version == version)
    }
}

/// Compares the line of this tree with those that were drawn before.
fn ensure_stays(now: Option<&Release>, drawn: &[DrawnLine], workspace: &str) -> Result<()> {
    let Some(now) = now else {
        let Some(last) = drawn.last() else { bail!("no line of a release: run `cargo xtask bench release`") };
        bail!("{RELEASE} was deleted, and the line of a release stays: `git checkout {} -- {RELEASE}`", last.commit);
    };
    match DrawnLine::of_version(drawn, &now.version) {
        Some(first) => ensure!(
            *now == first.line,
            "{RELEASE} differs from that of {}, and both are of version {}: the line of a release stays",
            first.commit,
            now.version
        ),
        None => ensure!(
            now.version == workspace,
            "{RELEASE} is of version {}, which is neither that of the workspace nor of an earlier line",
            now.version
        ),
    }
    Ok(())
}

/// Draws the line of a new version at the committed baselines.
pub(super) fn release() -> Result<()> {
    let version = workspace_version(&tree::read("Cargo.toml")?)?;
    ensure_undrawn(&version, &DrawnLine::of_history()?)?;
    let is_clean = git("status --porcelain --untracked-files=no").expect_success()?.stdout.is_empty();
    ensure!(is_clean, "commit the baselines first: the line names the commit that it was drawn at");
    let Baselines { facts, instructions, enrolments } = Baselines::committed()?;
    let commit = git("rev-parse --short=12 HEAD").expect_success()?.stdout.trim().to_owned();
    let line = Release { version, commit, facts, instructions, enrolments };
    write_json(RELEASE, &line)?;
    println!("   the line of version {} is drawn at {}: {RELEASE}", line.version, line.commit);
    Ok(())
}

/// Fails if a version has a line already, whether or not this tree still has its file.
fn ensure_undrawn(version: &str, drawn: &[DrawnLine]) -> Result<()> {
    if let Some(DrawnLine { commit, .. }) = DrawnLine::of_version(drawn, version) {
        bail!(
            "the line of version {version} is drawn already, in {commit}; it stays until the workspace has another version"
        );
    }
    Ok(())
}

/// The version in `[workspace.package]`.
fn workspace_version(manifest: &str) -> Result<String> {
    let manifest: toml::Table = manifest.parse().context("Cargo.toml is not TOML")?;
    let package = manifest.get("workspace").and_then(|workspace| workspace.get("package"));
    let version = package.and_then(|package| package.get("version")).and_then(toml::Value::as_str);
    version.map(str::to_owned).context("Cargo.toml has no workspace.package.version")
}

/// A file of a commit; `None` where the commit or the file does not exist.
pub(super) fn file_at(commit: &str, file: &str) -> Result<Option<String>> {
    let ended = git("show").arg(format!("{commit}:{file}")).output()?;
    Ok(ended.status.success().then_some(ended.stdout))
}

fn write_json(file: &str, value: &impl Serialize) -> Result<()> {
    tree::write(&tree::root().join(file), &format!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::counts::EnrolmentCounts;

    fn line(version: &str, datagrams: u64) -> Release {
        let text = |text: &str| text.to_owned();
        let facts = CountingFacts { valgrind: text("v"), rustc: text("r"), libc: text("l"), cpu_features: text("aes") };
        let counts = EnrolmentCounts::from([(text("datagrams_up"), datagrams)]);
        let enrolments = Enrolments::from([(text("ccm8_64"), counts)]);
        Release { version: text(version), commit: text("c"), facts, instructions: Counts::new(), enrolments }
    }

    fn drawn(lines: &[(&str, u64)]) -> Vec<DrawnLine> {
        let drawn = |(version, datagrams): &(&str, u64)| DrawnLine {
            commit: format!("at{datagrams}"),
            line: line(version, *datagrams),
        };
        lines.iter().map(drawn).collect()
    }

    #[test]
    fn the_line_of_a_version_stays_and_another_version_may_have_another() {
        let before = drawn(&[("0.1.0", 29)]);
        let stays = |version, datagrams| ensure_stays(Some(&line(version, datagrams)), &before, "0.2.0");
        assert!(stays("0.1.0", 29).is_ok() && stays("0.2.0", 30).is_ok());
        let moved = stays("0.1.0", 30).unwrap_err().to_string();
        assert!(moved.contains("differs from that of at29") && moved.contains("version 0.1.0"), "{moved}");
        assert!(stays("0.1.0-b", 30).is_err(), "a version that the workspace does not have");
    }

    #[test]
    fn a_line_that_was_deleted_and_drawn_again_over_commits_is_moved() {
        // Deleted in one commit.
        let before = drawn(&[("0.1.0", 29)]);
        let deleted = ensure_stays(None, &before, "0.1.0").unwrap_err().to_string();
        assert!(deleted.contains("deleted") && deleted.contains("git checkout at29"), "{deleted}");
        // In the next, `bench release` does not draw it again, although there is no file.
        assert!(ensure_undrawn("0.1.0", &before).is_err() && ensure_undrawn("0.2.0", &before).is_ok());
        // Where somebody wrote and committed it nevertheless, the first of the version is the line, not the last.
        let redrawn = drawn(&[("0.1.0", 29), ("0.2.0", 30), ("0.1.0", 40)]);
        assert!(ensure_stays(Some(&line("0.1.0", 40)), &redrawn, "0.1.0").is_err());
    }

    #[test]
    fn the_committed_line_is_the_first_of_its_version() {
        Release::ensure_unmoved().unwrap();
        let drawn = DrawnLine::of_history().unwrap();
        assert!(drawn.iter().all(|it| it.line.commit != NEVER_USED[0].1));
    }

    #[test]
    fn a_clone_without_its_history_is_noticed() {
        let folder = std::env::temp_dir().join(format!("xtask-shallow-{}", std::process::id()));
        let [whole, shallow] = ["whole", "shallow"].map(|name| folder.join(name));
        std::fs::create_dir_all(&whole).unwrap();
        let git = |line: &str| Program::line(line).directory(&whole).expect_success().map(drop);
        git("git init --quiet .").unwrap();
        for _ in 0..2 {
            git("git -c user.name=x -c user.email=x -c commit.gpgsign=false commit --quiet --allow-empty -m x")
                .unwrap();
        }
        let url = format!("file://{}", whole.display());
        Program::line("git clone --quiet --depth 1").arg(url).arg(&shallow).expect_success().unwrap();
        let found = (is_shallow(&whole).unwrap(), is_shallow(&shallow).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, (false, true));
        assert!(is_shallow(&folder).is_err(), "no repository at all");
    }

    #[test]
    fn the_workspace_has_a_version() {
        assert_eq!(workspace_version("[workspace.package]\nversion = \"0.3.1\"\n").unwrap(), "0.3.1");
        assert!(workspace_version("[package]\nversion = \"0.3.1\"\n").is_err());
        assert!(workspace_version(&tree::read("Cargo.toml").unwrap()).is_ok());
    }
}
