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
