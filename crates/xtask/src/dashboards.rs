//! Tests the dashboard and the rules with a real Prometheus that scrapes a real server under load.
//!
//! `promtool` checks the rules and runs their tests. Then every query of every panel and rule must return a number, and may name only metrics that
//! are in `dashboards/METRICS.md`. A panel or a rule must read each recording rule. An alert does not fire in a healthy
//! fleet: its query runs without the comparison, and each series that it reads must exist.

pub(crate) mod http;
mod pages;
mod promql;
mod scene;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::Program;
use crate::tree;
use pages::{FOLDER, Query};
use scene::{Fleet, Prometheus, Rule};

/// Two scrapes and one evaluation take three seconds, or longer on a busy machine.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(120);
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs all checks of the dashboards.
pub(crate) fn check() -> Result<()> {
    let (prometheus, promtool) = (installed("prometheus")?, installed("promtool")?);
    let of = |folder: &str| -> Result<Vec<String>> {
        let (files, prefix) = (tree::files(&[".yml"])?, format!("{FOLDER}/{folder}/"));
        Ok(files.into_iter().filter(|file| file.starts_with(&prefix)).collect())
    };
    let tool = |what: &str| Program::new(&promtool).args([what, "rules"]).directory(&tree::root());
    tool("check").args(of("rules")?).expect_success()?;
    tool("test").args(of("tests")?).expect_success()?;
    let faults = pages::faults_of_alerts()?;
    ensure!(faults.is_empty(), "{}", faults.join("\n      "));

    let fleet = Fleet::start(crate::cargo::muster()?)?;
    let stop = AtomicBool::new(false);
    let (asked, enrolled) = std::thread::scope(|scope| {
        let fleet = &fleet;
        let devices = scope.spawn(|| fleet.enrol_until(&stop));
        let asked = Prometheus::start(&prometheus, fleet).and_then(|prometheus| ask_everything(&prometheus));
        stop.store(true, Ordering::Relaxed);
        (asked, devices.join())
    });
    let asked = asked?;
    enrolled.map_err(|_| anyhow::anyhow!("the fleet panicked"))??;
    lint_names(&promtool, &fleet)?;
    fleet.stop()?;
    println!("   {asked}");
    Ok(())
}

fn installed(program: &str) -> Result<PathBuf> {
    tree::find_program(program).with_context(|| format!("{program} is not installed: cargo xtask setup"))
}

/// The page whose metrics are queried one by one.
const METRICS: &str = "METRICS.md";

/// Sends every query until it returns a number; returns a summary in words.
fn ask_everything(prometheus: &Prometheus) -> Result<String> {
    let (metrics, panels, rules) = (pages::metrics()?, pages::panels()?, prometheus.rules()?);
    let recorded: Vec<String> = rules.iter().filter(|rule| !rule.alerts).map(|rule| rule.name.clone()).collect();
    let of_rules = rules.iter().map(|rule| Query { of: format!("rule {}", rule.name), text: rule.query.clone() });
    let written: Vec<Query> = panels.iter().cloned().chain(of_rules).collect();
    let unknown = pages::unknown_names(&written, &pages::known_names(&metrics, &recorded));
    ensure!(unknown.is_empty(), "{}", unknown.join("\n      "));
    let unused = pages::unused_rules(&recorded, &written);
    ensure!(unused.is_empty(), "{}", unused.join("\n      "));

    let elsewhere = pages::metrics_of_a_registrar()?;
    let shown = metrics.iter().filter(|(name, _)| !elsewhere.contains(name)).map(|(name, kind)| {
        let suffix = if kind == "histogram" { "_count" } else { "" };
        Query { of: METRICS.to_owned(), text: format!("{name}{suffix}") }
    });
    // A fleet of a CA has no series of a Registrar. `promtool test` has them.
    let is_here = |rule: &&Rule| !promql::selectors(&rule.query).iter().any(|it| elsewhere.contains(&it.metric));
    let asked = rules.iter().filter(is_here).flat_map(queries);
    let mut open: Vec<Query> = panels.into_iter().chain(shown).chain(asked).collect();
    let (all, began) = (open.len(), Instant::now());
    while !open.is_empty() {
        ensure!(began.elapsed() < ANSWERS_TIMEOUT, "no data after {ANSWERS_TIMEOUT:?}:\n      {}", named(&open));
        let mut silent = Vec::new();
        for query in open {
            let values = prometheus.values(&query.text).with_context(|| named(std::slice::from_ref(&query)))?;
            // A bound that does not exist is exported as +Inf. A query of a panel that comes to it has divided by zero.
            let is_data = |value: &f64| if query.of == METRICS { !value.is_nan() } else { value.is_finite() };
            if !values.iter().any(is_data) {
                silent.push(query);
            }
        }
        open = silent;
        std::thread::sleep(ASK_INTERVAL);
    }
    let failed: Vec<String> = prometheus.rules()?.iter().filter_map(failure).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n      "));
    let alerts = rules.len() - recorded.len();
    Ok(format!(
        "{all} queries return data: {} metrics, {} recording rules, {alerts} alerts, all panels",
        metrics.len() - elsewhere.len(),
        recorded.len()
    ))
}

/// A recording rule is queried unchanged. An alert is queried without its comparisons, and each series that it reads
/// is queried separately.
fn queries(rule: &Rule) -> Vec<Query> {
    let query = |text: String| Query { of: format!("rule {}", rule.name), text };
    if !rule.alerts {
        return vec![query(rule.query.clone()), query(rule.name.clone())];
    }
    let reads = promql::selectors(&rule.query).into_iter().map(|selector| query(selector.query()));
    std::iter::once(query(promql::without_comparisons(&rule.query))).chain(reads).collect()
}

fn failure(rule: &Rule) -> Option<String> {
    (!rule.error.is_empty()).then(|| format!("rule {}: {}", rule.name, rule.error))
}

fn named(queries: &[Query]) -> String {
    queries.iter().map(|query| format!("{}: {}", query.of, query.text)).collect::<Vec<_>>().join("\n      ")
}

/// Checks the names of our metrics with `promtool`.
fn lint_names(promtool: &std::path::Path, fleet: &Fleet) -> Result<()> {
    let file = fleet.folder().join("metrics.txt");
    tree::write(&file, &fleet.exposition()?)?;
    let lint = Program::new("sh").args(["-c", "exec \"$0\" check metrics < \"$1\""]).arg(promtool).arg(&file);
    let ended = lint.output()?;
    if !ended.status.success() || !ended.words().trim().is_empty() {
        bail!("promtool check metrics: {}", ended.words().trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_asked_for_what_it_compares_and_for_what_it_reads() {
        let rule = |alerts| Rule {
            name: "R".into(),
            query: "a{b=\"c\"} > 3 and on (job) d == 0".into(),
            alerts,
            error: String::new(),
        };
        let asked = |alerts| queries(&rule(alerts)).into_iter().map(|query| query.text).collect::<Vec<_>>();
        assert_eq!(asked(true), ["a {b=\"c\"} and on ( job ) d", "a{b=\"c\"}", "d"]);
        assert_eq!(asked(false), ["a{b=\"c\"} > 3 and on (job) d == 0", "R"]);
    }
}
