//! Compares the files of `dashboards/` with one another: metrics, alerts, their pages and their tests, panels.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::promql::selectors;
use crate::tree;

/// The folder of all these files.
pub(super) const FOLDER: &str = "dashboards";

/// A query, and the panel or rule that contains it.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) of: String,
    pub(super) text: String,
}

/// The metrics of `METRICS.md`, with their types.
pub(super) fn metrics() -> Result<Vec<(String, String)>> {
    let page = tree::read(format!("{FOLDER}/METRICS.md"))?;
    let metrics = metrics_in(&page);
    if metrics.is_empty() {
        bail!("{FOLDER}/METRICS.md names no metric");
    }
    Ok(metrics)
}

/// The metrics that only a Registrar has: the server of this check is a CA, which shows none of them. Tests of `server` read them.
pub(super) fn metrics_of_a_registrar() -> Result<BTreeSet<String>> {
    let page = tree::read(format!("{FOLDER}/METRICS.md"))?;
    let rows: Vec<&str> = page.lines().filter(|line| line.contains(" | Of a Registrar: ")).collect();
    Ok(metrics_in(&rows.join("\n")).into_iter().map(|(name, _)| name).collect())
}

fn metrics_in(page: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.strip_suffix('`')?.to_owned(), cells.next()?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// Names that a query may use: series of metrics, recording rules, and the metrics that Prometheus itself adds for a
/// target.
pub(super) fn known_names(metrics: &[(String, String)], rules: &[String]) -> BTreeSet<String> {
    let series = |(name, kind): &(String, String)| match kind.as_str() {
        "histogram" => ["_bucket", "_sum", "_count"].iter().map(|suffix| format!("{name}{suffix}")).collect(),
        _ => vec![name.clone()],
    };
    metrics.iter().flat_map(series).chain(rules.iter().cloned()).chain(["up".to_owned()]).collect()
}

/// Names in queries that do not exist.
pub(super) fn unknown_names(queries: &[Query], known: &BTreeSet<String>) -> Vec<String> {
    let unknown = |query: &Query| {
        let names = selectors(&query.text).into_iter().map(|selector| selector.metric);
        let unknown = names.filter(|name| !known.contains(name));
        unknown.map(|name| format!("{} asks for {name}, which does not exist", query.of)).collect::<Vec<_>>()
    };
    queries.iter().flat_map(unknown).collect()
}

/// Recording rules that no panel, no alert and no other recording rule reads.
pub(super) fn unused_rules(recorded: &[String], queries: &[Query]) -> Vec<String> {
    let read: BTreeSet<String> =
        queries.iter().flat_map(|query| selectors(&query.text)).map(|selector| selector.metric).collect();
    let unused = recorded.iter().filter(|name| !read.contains(*name));
    unused.map(|name| format!("no panel and no rule uses the recording rule {name}")).collect()
}

/// Every query of every panel, with a value for each variable.
pub(super) fn panels() -> Result<Vec<Query>> {
    let text = tree::read(format!("{FOLDER}/muster.json"))?;
    let dashboard: Value = serde_json::from_str(&text).context("muster.json")?;
    let queries = queries_of(&dashboard);
    if queries.is_empty() {
        bail!("muster.json has no panel with a query");
    }
    Ok(queries)
}

fn queries_of(dashboard: &Value) -> Vec<Query> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut queries = Vec::new();
    for panel in list(dashboard, "panels") {
        for target in list(&panel, "targets") {
            let expression = text(&target, "expr").replace("$instance", ".*").replace("$__rate_interval", "10s");
            queries.push(Query { of: format!("panel `{}`", text(&panel, "title")), text: expression });
        }
    }
    queries
}

/// Checks that each alert has a page and each page an alert, and that each test states for every alert whether it
/// fires.
pub(super) fn faults_of_alerts() -> Result<Vec<String>> {
    let alerts = alerts_in(&tree::read(format!("{FOLDER}/rules/alerts.yml"))?);
    let mut faults = Vec::new();
    let pages = tree::files(&[".md"])?;
    let prefix = format!("{FOLDER}/runbooks/");
    let pages: BTreeSet<&str> =
        pages.iter().filter_map(|file| file.strip_prefix(&prefix)?.strip_suffix(".md")).collect();
    for alert in &alerts {
        if !pages.contains(alert.as_str()) {
            faults.push(format!("{alert} has no page {prefix}{alert}.md"));
        }
    }
    let without = pages.iter().filter(|page| !alerts.iter().any(|alert| alert == *page));
    faults.extend(without.map(|page| format!("{prefix}{page}.md is about no alert")));
    faults.extend(untested(&alerts, &tree::read(format!("{FOLDER}/tests/alerts.yml"))?));
    Ok(faults)
}

fn alerts_in(rules: &str) -> Vec<String> {
    rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

fn untested(alerts: &[String], tests: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for test in tests.split("\n  - name: ").skip(1) {
        let name = test.lines().next().unwrap_or_default();
        for alert in alerts {
            let says = test.lines().any(|line| {
                let line = line.trim().trim_end_matches('}');
                line == format!("- *no_{alert}") || line.ends_with(&format!("alertname: {alert}"))
            });
            if !says {
                faults.push(format!("the test `{name}` does not say whether {alert} fires"));
            }
        }
    }
    let fires = |alert: &&String| tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
    faults.extend(alerts.iter().filter(|alert| !fires(alert)).map(|alert| format!("no test has {alert} fire")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_is_read_as_it_is_written() {
        let page =
            "# Metrics\n| name | type |\n|---|---|\n| `a_total` | counter | x |\n| `b_seconds` | histogram | y |\n";
        let metrics = metrics_in(page);
        assert_eq!(metrics, [("a_total".into(), "counter".into()), ("b_seconds".into(), "histogram".into())]);
        let known = known_names(&metrics, &["level:a:rate".to_owned()]);
        let query = |text: &str| Query { of: "panel".into(), text: text.into() };
        let sound = [query("rate(a_total[5m]) / level:a:rate"), query("b_seconds_bucket"), query("up")];
        assert_eq!(unknown_names(&sound, &known), [""; 0]);
        assert_eq!(unknown_names(&[query("b_seconds + c")], &known).len(), 2);
    }

    #[test]
    fn a_recording_rule_that_nothing_reads_is_found() {
        let recorded = ["level:a:rate".to_owned(), "level:b:rate".to_owned()];
        let query = |text: &str| Query { of: "panel".into(), text: text.into() };
        let reads_both = [query("max(level:a:rate{i=\"x\"})"), query("level:b:rate > 1")];
        assert_eq!(unused_rules(&recorded, &reads_both), [""; 0]);
        let reads_one = [query("max(level:a:rate)"), query("level:b:rate5m + sum by (level) (b)")];
        assert_eq!(unused_rules(&recorded, &reads_one), ["no panel and no rule uses the recording rule level:b:rate"]);
    }

    #[test]
    fn a_panel_is_asked_with_a_value_for_each_variable() {
        let text = r#"{"panels":[{"title":"P","targets":[{"expr":"rate(a{i=~\"$instance\"}[$__rate_interval])"}]},{"type":"row"}]}"#;
        let queries = queries_of(&serde_json::from_str(text).unwrap());
        assert_eq!(queries.len(), 1);
        assert_eq!((queries[0].of.as_str(), queries[0].text.as_str()), ("panel `P`", "rate(a{i=~\".*\"}[10s])"));
    }

    #[test]
    fn a_test_that_is_silent_about_an_alert_is_found() {
        let alerts = alerts_in("groups:\n      - alert: A\n        expr: x\n      - alert: B\n");
        let healthy = "tests:\n  - name: healthy\n      - &no_A {eval_time: 5m, alertname: A}\n      - &no_B {eval_time: 5m, alertname: B}\n";
        let fires = |alert: &str, other: &str| {
            format!(
                "  - name: {alert}\n      - *no_{other}\n      - eval_time: 5m\n        alertname: {alert}\n        exp_alerts:\n          - x\n"
            )
        };
        let all = format!("{healthy}{}{}", fires("A", "B"), fires("B", "A"));
        assert_eq!(untested(&alerts, &all), [""; 0]);
        assert_eq!(untested(&alerts, &format!("{healthy}{}", fires("A", "B"))), ["no test has B fire"]);
        let silent = all.replace("      - *no_A\n", "");
        assert_eq!(untested(&alerts, &silent), ["the test `B` does not say whether A fires"]);
    }
}
