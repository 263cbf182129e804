//! The committed files of runs, `benches/runs/KIND-TIME.json`: the newest of a kind, and typed access to its figures.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::tree;

/// A run, and the file that has it.
pub(super) struct RunFile {
    pub(super) path: String,
    pub(super) record: Value,
}

impl RunFile {
    /// All runs of a kind with this schema, the newest first: the names have the time.
    pub(super) fn all(kind: &str, schema: &str) -> Result<Vec<Self>> {
        let prefix = format!("benches/runs/{kind}-");
        let mut runs = Vec::new();
        for path in tree::files(&[".json"])?.into_iter().rev().filter(|path| path.starts_with(&prefix)) {
            let record: Value =
                serde_json::from_str(&tree::read(&path)?).with_context(|| format!("{path} is not JSON"))?;
            if record["schema"] == schema {
                runs.push(Self { path, record });
            }
        }
        Ok(runs)
    }

    /// Writes a run that began `at` this time to `json`, or to a new file among the runs of its kind.
    pub(super) fn write(kind: &str, at: &str, json: Option<&Path>, record: &impl Serialize) -> Result<()> {
        let new = || tree::root().join(format!("benches/runs/{kind}-{}.json", at.replace(':', "")));
        let path = json.map_or_else(new, Path::to_owned);
        tree::write(&path, &format!("{}\n", serde_json::to_string_pretty(record)?))?;
        println!("   written to {}", path.display());
        Ok(())
    }
}

pub(super) fn list<'v>(value: &'v Value, key: &str) -> Result<&'v Vec<Value>> {
    value[key].as_array().with_context(|| format!("the run has no list {key}"))
}

pub(super) fn number(value: &Value, key: &str) -> Result<f64> {
    let number = value[key].as_f64().with_context(|| format!("the run has no number {key}"))?;
    ensure!(number.is_finite(), "{key} is not finite");
    Ok(number)
}

pub(super) fn word<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key].as_str().with_context(|| format!("the run has no text {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::baselines;
    use crate::bench::profiles::is_in_history;

    /// Runs of commits that were rebased afterwards, and who still cites them: to be run again, and removed then.
    const OF_LOST_COMMITS: &[(&str, &str)] = &[("benches/runs/e2e-2026-11-28T024224Z.json", "README.md")];

    #[test]
    fn each_run_is_of_a_commit_of_the_repository_or_is_cited() {
        if baselines::is_shallow(&tree::root()).unwrap() {
            return;
        }
        for path in tree::files(&[".json"]).unwrap().iter().filter(|path| path.starts_with("benches/runs/")) {
            let record: Value = serde_json::from_str(&tree::read(path).unwrap()).unwrap();
            let commit = word(&record["facts"], "commit").unwrap().split(' ').next().unwrap_or_default().to_owned();
            let is_listed = OF_LOST_COMMITS.iter().any(|(listed, _)| listed == path);
            assert!(is_in_history(&commit) || is_listed, "{path} is of {commit}, which is not in the repository");
        }
        for (path, by) in OF_LOST_COMMITS {
            let name = path.trim_start_matches("benches/");
            assert!(tree::root().join(path).is_file(), "{path} is listed here and is gone");
            assert!(tree::read(by).unwrap().contains(name), "{by} does not cite {name}, so that it can go");
        }
    }
}
