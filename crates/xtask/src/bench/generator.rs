//! What the report of `muster load` says of the generator itself.

use serde_json::Value;

/// Why it measured the generator rather than the server; empty if the generator had reserves. Its exit status is then `MEASURED_THE_GENERATOR`.
pub(super) fn spoiled_by(report: &Value) -> Vec<String> {
    let reasons = report["generator"]["spoiled_by"].as_array().into_iter().flatten();
    reasons.filter_map(|why| why.as_str().map(str::to_owned)).collect()
}
