//! The committed baselines: what `bless` moves with each commit that says why, and the line of the last release, which it cannot move.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::counts::{self, Counts, Enrolments};
use super::facts::CountingFacts;
use super::figures::{self, Figures};
use super::profiles::{BenchTree, git};
use crate::tree;

const INSTRUCTIONS: &str = "benches/baselines/instructions.json";
const ENROLMENTS: &str = "benches/baselines/enrolments.json";
const RELEASE: &str = "benches/baselines/release.json";

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

    /// Fails if the line of the same version is another one at `commit`: only a new version may have a new line.
    pub(super) fn ensure_unmoved_since(&self, commit: &str) -> Result<()> {
        let Some(text) = file_at(commit, RELEASE)? else { return Ok(()) };
        let before: Self = serde_json::from_str(&text)
            .with_context(|| format!("{RELEASE} of {commit} is not the line of a release"))?;
        self.ensure_follows(&before)
    }

    fn ensure_follows(&self, before: &Self) -> Result<()> {
        ensure!(
            self == before || self.version != before.version,
            "{RELEASE} differs from that of the parent, and both are of version {}: the line of a release stays",
            before.version
        );
        Ok(())
    }
}

/// Draws the line of a new version at the committed baselines.
pub(super) fn release() -> Result<()> {
    let version = workspace_version(&tree::read("Cargo.toml")?)?;
    if tree::read(RELEASE).is_ok() {
        let drawn = Release::committed()?.version;
        ensure!(
            drawn != version,
            "the line of version {version} is drawn already; it stays until the workspace has another version"
        );
    }
    let is_clean = git("status --porcelain --untracked-files=no").expect_success()?.stdout.is_empty();
    ensure!(is_clean, "commit the baselines first: the line names the commit that it was drawn at");
    let Baselines { facts, instructions, enrolments } = Baselines::committed()?;
    let commit = git("rev-parse --short=12 HEAD").expect_success()?.stdout.trim().to_owned();
    let line = Release { version, commit, facts, instructions, enrolments };
    write_json(RELEASE, &line)?;
    println!("   the line of version {} is drawn at {}: {RELEASE}", line.version, line.commit);
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

    #[test]
    fn the_line_of_a_version_stays_and_another_version_may_have_another() {
        assert!(line("0.1.0", 29).ensure_follows(&line("0.1.0", 29)).is_ok());
        assert!(line("0.2.0", 30).ensure_follows(&line("0.1.0", 29)).is_ok());
        let moved = line("0.1.0", 30).ensure_follows(&line("0.1.0", 29)).unwrap_err().to_string();
        assert!(moved.contains("version 0.1.0"), "{moved}");
    }

    #[test]
    fn the_workspace_has_a_version() {
        assert_eq!(workspace_version("[workspace.package]\nversion = \"0.3.1\"\n").unwrap(), "0.3.1");
        assert!(workspace_version("[package]\nversion = \"0.3.1\"\n").is_err());
        assert!(workspace_version(&tree::read("Cargo.toml").unwrap()).is_ok());
    }
}
