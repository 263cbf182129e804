//! The test setup: a real `muster serve` under a fleet, and a real Prometheus that scrapes it, all on loopback.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::http;
use super::pages::FOLDER;
use crate::process::{Daemon, MEASURED_THE_GENERATOR, Program};
use crate::tree;

/// Devices in one round, and the maximum of rounds: queries are answered long before the last one.
const DEVICES: &str = "12";
const ROUNDS_MAX: u32 = 500;
/// Pause between two rounds: other work shares the machine.
const PAUSE: Duration = Duration::from_millis(200);
/// Another process may take a port that was free a moment ago.
const STARTS_MAX: usize = 3;

/// A running server, with the files of its fleet.
pub(super) struct Fleet {
    muster: PathBuf,
    folder: PathBuf,
    server: Daemon,
    devices: SocketAddr,
    metrics: SocketAddr,
}

impl Fleet {
    /// Starts the server, and makes a manufacturer whose devices it refuses.
    pub(super) fn start(muster: PathBuf) -> Result<Self> {
        let folder = tree::scratch("dashboards")?;
        for pki in ["pki", "strangers"] {
            Program::new(&muster)
                .arg("init")
                .arg(folder.join(pki))
                .timeout(Duration::from_secs(20))
                .expect_success()?;
        }
        // These devices trust the server, which does not know their manufacturer.
        std::fs::copy(folder.join("pki/ca/root.pem"), folder.join("strangers/ca/root.pem"))?;
        let serve = Program::bound_to_us(&muster).args(["serve", "--listen", "127.0.0.1:0", "--config"]);
        let serve = serve.arg(folder.join("pki/muster.toml")).env("MUSTER_METRICS__LISTEN", "127.0.0.1:0");
        // The rules about revocation lists need some.
        let serve =
            serve.env("MUSTER_CA__MAIN__CRL_URL", "http://127.0.0.1/main.crl").env("MUSTER_CRL__INTERVAL", "1s");
        let (mut server, line) = serve.daemon("listening on coaps://", &folder.join("server.log"))?;
        let devices = address(&line, "coaps://")?;
        let line = server.wait_for_line(&["metrics on http://"], Duration::from_secs(10))?;
        let metrics = address(&line, "http://")?;
        Ok(Self { muster, folder, server, devices, metrics })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The current text of `/metrics`.
    pub(super) fn exposition(&self) -> Result<String> {
        http::get(self.metrics, "/metrics")
    }

    /// Repeats until stopped: devices that enrol, devices that are refused in the handshake, and one whose request is refused.
    pub(super) fn enrol_until(&self, stop: &AtomicBool) -> Result<()> {
        for round in 1..=ROUNDS_MAX {
            self.enrol(round)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{ROUNDS_MAX} rounds of the fleet were not enough")
    }

    fn enrol(&self, round: u32) -> Result<()> {
        // How fast the fleet enrolled does not matter.
        let ended = self.load("pki", DEVICES, round)?.expect_status(&[0, MEASURED_THE_GENERATOR])?;
        let wanted = format!("{DEVICES} of {DEVICES} devices enrolled");
        ensure!(ended.stdout.contains(&wanted), "not {wanted}:\n{}", ended.words());
        let strangers = self.load("strangers", "1", round)?.output()?;
        ensure!(
            strangers.status.code() == Some(1),
            "a device of an unknown manufacturer was accepted: {}",
            strangers.words()
        );
        // A manufacturer's certificate cannot renew.
        let reenroll = Program::bound_to_us(&self.muster).args(["reenroll", "--server"]).arg(self.uri());
        let reenroll = reenroll.arg("--identity").arg(self.folder.join("pki/device")).arg("--trust");
        let reenroll = reenroll.arg(self.folder.join("pki/ca/root.pem")).arg("--out").arg(self.folder.join("renewed"));
        let refused = reenroll.timeout(Duration::from_secs(60)).output()?;
        ensure!(refused.status.code() == Some(3), "the renewal was not refused: {}", refused.words());
        Ok(())
    }

    fn load(&self, pki: &str, devices: &str, seed: u32) -> Result<Program> {
        let load = Program::bound_to_us(&self.muster).args([
            "load",
            "--concurrency",
            "4",
            "--timeout",
            "30s",
            "--devices",
            devices,
        ]);
        let load = load.arg("--server").arg(self.uri()).arg("--pki").arg(self.folder.join(pki));
        Ok(load.arg("--seed").arg(seed.to_string()).timeout(Duration::from_secs(120)))
    }

    fn uri(&self) -> String {
        format!("coaps://{}", self.devices)
    }

    /// Stops the server, which must drain and exit cleanly.
    pub(super) fn stop(self) -> Result<()> {
        self.server.stop_well().map(drop)
    }
}

/// A running Prometheus.
pub(super) struct Prometheus {
    /// Killed on drop.
    _daemon: Daemon,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes the fleet's server and evaluates the rules, both once a second.
    pub(super) fn start(program: &Path, fleet: &Fleet) -> Result<Self> {
        let file = fleet.folder.join("prometheus.yml");
        let rules = tree::root().join(FOLDER).join("rules/*.yml");
        let (rules, target) = (rules.display(), fleet.metrics);
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{rules}']\n\
             scrape_configs:\n  - job_name: muster\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        tree::write(&file, &text)?;
        let mut failed = None;
        for attempt in 0..STARTS_MAX {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let storage = fleet.folder.join(format!("prometheus-{attempt}"));
            let prometheus = Program::bound_to_us(program).arg(format!("--config.file={}", file.display()));
            let prometheus = prometheus.arg(format!("--storage.tsdb.path={}", storage.display()));
            let prometheus = prometheus.arg(format!("--web.listen-address={address}"));
            let log = fleet.folder.join("prometheus.log");
            match prometheus.daemon("Server is ready to receive web requests", &log) {
                Ok((daemon, _)) => return Ok(Self { _daemon: daemon, address }),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("Prometheus was never started")?)
    }

    /// The values of an instant query; an error means that the query is wrong.
    pub(super) fn values(&self, query: &str) -> Result<Vec<f64>> {
        let answer = self.ask(&format!("/api/v1/query?query={}", http::encoded(query)))?;
        let data = &answer["data"];
        let number = |sample: &Value| sample.get(1).and_then(Value::as_str).and_then(|text| text.parse().ok());
        Ok(match data["resultType"].as_str() {
            Some("scalar") => number(&data["result"]).into_iter().collect(),
            _ => {
                data["result"].as_array().into_iter().flatten().filter_map(|series| number(&series["value"])).collect()
            }
        })
    }

    /// Every rule that Prometheus has loaded.
    pub(super) fn rules(&self) -> Result<Vec<Rule>> {
        let answer = self.ask("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let rules = rules.map(|rule| Rule {
            name: text(&rule, "name"),
            query: text(&rule, "query"),
            alerts: rule["type"] == "alerting",
            error: text(&rule, "lastError"),
        });
        Ok(rules.collect())
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let text = http::get(self.address, path)?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("Prometheus answers {text:?}"))?;
        ensure!(answer["status"] == "success", "Prometheus: {}", answer["error"]);
        Ok(answer)
    }
}

/// A rule as Prometheus loaded it.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) query: String,
    pub(super) alerts: bool,
    pub(super) error: String,
}

fn address(line: &str, scheme: &str) -> Result<SocketAddr> {
    let (_, rest) = line.split_once(scheme).with_context(|| format!("no address in {line:?}"))?;
    let address = rest.split('/').next().unwrap_or_default().trim();
    address.parse().with_context(|| format!("no address in {line:?}"))
}
