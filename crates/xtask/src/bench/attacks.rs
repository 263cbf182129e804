//! Runs three attacks on a released `muster serve` on loopback and prints figures that can be measured again after a
//! change.
//!
//! One cookie: how many flights one cookie buys, and how many octets the server sends for each that it receives. Begun handshakes: how peers that
//! pass the cookie exchange and then fall silent affect honest devices. Never closing: how many enrolments are told to retry later if no device
//! sends close_notify. Each attack does a fixed amount of work and then ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::facts::TimingFacts;
use super::hello::{self, HelloPeer};
use super::released::{ReleasedServer, Threads, in_memory};
use super::run_file::RunFile;
use crate::process::{Daemon, MEASURED_THE_GENERATOR, Program};
use crate::{cargo, tree};

#[derive(Args)]
pub(crate) struct AttackOptions {
    /// The released program to attack, such as one built from an older commit [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    target: Option<PathBuf>,
    /// The commit that --target was built from, for the record
    #[arg(long, requires = "target")]
    target_commit: Option<String>,
    /// The program that plays honest devices; it must support `load --vanish` [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    fleet: Option<PathBuf>,
    /// Run only these attacks [default: all]
    #[arg(long, value_enum)]
    only: Vec<Attack>,
    /// Enrolments without close_notify; to see the effect of the limit on kept answers, use more than its default of
    /// 134,217
    #[arg(long, default_value_t = 140_000)]
    never_closing: u32,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Attack {
    OneCookie,
    BegunHandshakes,
    NeverClosing,
}

/// Copies of one datagram.
const COPIES: u32 = 300;
/// Pause between two copies: 300 copies take three seconds.
const COPY_INTERVAL: Duration = Duration::from_millis(10);
/// Time for the last flight to arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// Begun handshakes per second, and duration.
const BEGUN_PER_SECOND: u32 = 150;
const BEGUN_SECONDS: u32 = 45;
/// 4,096 slots are taken after 27 s: the honest devices start after that.
const HONEST_AFTER: Duration = Duration::from_secs(28);
const HONEST: &[&str] = &["--devices", "40", "--rate", "4", "--timeout", "30s"];
/// Failed devices are the result of the attack, not an error of the run; their latency is reported, so that the generator must have reserves.
const HONEST_ENDS: &[i32] = &[0, 1];
const LOAD_TIMEOUT: Duration = Duration::from_secs(1200);

#[derive(Serialize)]
struct AttackRecord {
    schema: &'static str,
    facts: TimingFacts,
    target_commit: String,
    one_cookie: Vec<CookieUse>,
    begun_handshakes: Vec<BegunHandshakes>,
    never_closing: Option<NeverClosing>,
}

/// The result of using one cookie.
#[derive(Serialize)]
struct CookieUse {
    case: &'static str,
    datagrams_in: u32,
    octets_in: usize,
    octets_out: usize,
    out_per_in: f64,
    /// ServerHellos, and how many of them differ: a repeated flight keeps its random and needs no new signature.
    flights: usize,
    signatures: usize,
}

#[derive(Serialize)]
struct BegunHandshakes {
    case: &'static str,
    begun: u32,
    honest: u64,
    failed: u64,
    handshake_p50_us: u64,
    handshake_p99_us: u64,
    total_p99_us: u64,
}

#[derive(Serialize)]
struct NeverClosing {
    devices: u64,
    enrolled: u64,
    later_answers: u64,
    seconds: f64,
}

pub(super) fn run(options: &AttackOptions) -> Result<()> {
    let stage = AttackStage::build(options)?;
    let wanted = |attack| options.only.is_empty() || options.only.contains(&attack);
    let mut record = AttackRecord {
        schema: "muster-attacks/1",
        target_commit: options.target_commit.clone().unwrap_or_default(),
        facts: TimingFacts::here(),
        one_cookie: Vec::new(),
        begun_handshakes: Vec::new(),
        never_closing: None,
    };
    if options.target.is_none() {
        record.target_commit.clone_from(&record.facts.commit);
    }
    if wanted(Attack::OneCookie) {
        record.one_cookie = stage.one_cookie()?;
    }
    if wanted(Attack::BegunHandshakes) {
        record.begun_handshakes = stage.begun_handshakes()?;
    }
    if wanted(Attack::NeverClosing) {
        record.never_closing = Some(stage.never_closing(options.never_closing)?);
    }
    println!("{}", serde_json::to_string_pretty(&record)?);
    RunFile::write("attacks", &record.facts.at, options.json.as_deref(), &record)
}

/// The programs and a PKI.
struct AttackStage {
    target: PathBuf,
    fleet: PathBuf,
    folder: PathBuf,
}

impl AttackStage {
    fn build(options: &AttackOptions) -> Result<Self> {
        if options.target.is_none() || options.fleet.is_none() {
            cargo::cargo("build --quiet --release --locked --package muster").stream()?;
        }
        let ours = tree::target().join("release/muster");
        let stage = Self {
            target: options.target.clone().unwrap_or_else(|| ours.clone()),
            fleet: options.fleet.clone().unwrap_or(ours),
            folder: tree::scratch("attacks")?,
        };
        Program::new(&stage.target).arg("init").arg(stage.folder.join("pki")).expect_success()?;
        Ok(stage)
    }

    /// A fresh server for each attack: no attack inherits state from another.
    fn serve(&self) -> Result<(Daemon, SocketAddr)> {
        let server = ReleasedServer::start(in_memory(Program::new(&self.target)), &self.folder, Threads::Default)?;
        let address = server.uri.strip_prefix("coaps://").context("the server printed no address")?.parse()?;
        Ok((server.daemon, address))
    }

    fn load(&self, server: SocketAddr, arguments: &[&str], accepted: &[i32]) -> Result<Value> {
        let file = self.folder.join("load.json");
        let load = Program::new(&self.fleet).args(["load", "--server", &format!("coaps://{server}"), "--pki"]);
        let load = load.arg(self.folder.join("pki")).arg("--json").arg(&file).args(arguments).timeout(LOAD_TIMEOUT);
        load.expect_status(accepted).context("the fleet did not run")?;
        read_json(&file)
    }

    fn one_cookie(&self) -> Result<Vec<CookieUse>> {
        let mut all = Vec::new();
        for (case, hellos) in [("hello and fatal alert in one datagram", 1), ("two cookied hellos in turn", 2)] {
            let (server, address) = self.serve()?;
            let peer = HelloPeer::new(Ipv4Addr::LOCALHOST, address)?;
            let mut datagrams = Vec::new();
            for n in 0..hellos {
                let random = [n + 1; 32];
                let mut datagram = hello::record(1, &hello::client_hello(&random, &peer.cookie(&random)?, 1));
                if hellos == 1 {
                    datagram.extend(hello::fatal_alert(2));
                }
                datagrams.push(datagram);
            }
            all.push(buy(case, &peer, &datagrams)?);
            drop(server.stop()?);
        }
        Ok(all)
    }

    fn begun_handshakes(&self) -> Result<Vec<BegunHandshakes>> {
        raise_file_limit();
        let (server, address) = self.serve()?;
        let quiet = self.load(address, HONEST, HONEST_ENDS)?;
        drop(server.stop()?);
        let mut all = vec![begun("no attack", 0, &quiet)];
        for (case, fragment) in [("first fragments", true), ("whole hellos", false)] {
            let (server, address) = self.serve()?;
            let (count, report) = std::thread::scope(|scope| {
                let attack = scope.spawn(move || begin_many(address, fragment));
                std::thread::sleep(HONEST_AFTER);
                let report = self.load(address, HONEST, HONEST_ENDS);
                (attack.join(), report)
            });
            let count = count.map_err(|_| anyhow::anyhow!("the attack panicked"))??;
            all.push(begun(case, count, &report?));
            drop(server.stop()?);
        }
        Ok(all)
    }

    fn never_closing(&self, devices: u32) -> Result<NeverClosing> {
        let (server, address) = self.serve()?;
        let devices = devices.to_string();
        let arguments = ["--vanish", "100%", "--timeout", "20s", "--devices", &devices];
        // Counts are reported, which a fleet without reserves does not spoil.
        let report = self.load(address, &arguments, &[0, 1, MEASURED_THE_GENERATOR])?;
        drop(server.stop()?);
        Ok(NeverClosing {
            devices: number(&report["devices"]),
            enrolled: number(&report["enrolled"]),
            later_answers: number(&report["later_answers"]),
            seconds: report["seconds"].as_f64().unwrap_or_default(),
        })
    }
}

/// Sends the datagrams in turn and counts what comes back.
fn buy(case: &'static str, peer: &HelloPeer, datagrams: &[Vec<u8>]) -> Result<CookieUse> {
    let (mut octets_in, mut octets_out, mut randoms) = (0, 0, Vec::new());
    let mut take = |until: Instant| -> Result<()> {
        while let Some(answer) = peer.receive(until)? {
            octets_out += answer.len();
            randoms.extend(hello::server_random(&answer));
        }
        Ok(())
    };
    for (_, datagram) in (0..COPIES).zip(datagrams.iter().cycle()) {
        peer.send(datagram)?;
        octets_in += datagram.len();
        take(Instant::now() + COPY_INTERVAL)?;
    }
    take(Instant::now() + SETTLE)?;
    let flights = randoms.len();
    randoms.sort_unstable();
    randoms.dedup();
    let ratio =
        |out: usize, into: usize| Some(f64::from(u32::try_from(out).ok()?) / f64::from(u32::try_from(into).ok()?));
    let out_per_in = ratio(octets_out, octets_in).unwrap_or(f64::INFINITY);
    Ok(CookieUse { case, datagrams_in: COPIES, octets_in, octets_out, out_per_in, flights, signatures: randoms.len() })
}

/// Begins handshakes at a fixed rate, each from its own address, and never answers.
fn begin_many(server: SocketAddr, fragment: bool) -> Result<u32> {
    let (started, mut silent, mut begun) = (Instant::now(), Vec::new(), 0);
    for n in 0..BEGUN_PER_SECOND * BEGUN_SECONDS {
        let due = started + Duration::from_secs(1) * n / BEGUN_PER_SECOND;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A fixed walk over 127.128.0.0 to 127.255.255.255, apart from the fleet's addresses: every run uses the same ones.
        let [_, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
        let peer = HelloPeer::new(Ipv4Addr::new(127, 128 | (b & 0x7E), c, d.max(1)), server)?;
        let mut random = [7; 32];
        random[..4].copy_from_slice(&n.to_be_bytes());
        // A server that does not answer is a result too: the next handshake begins anyway.
        if let Ok(cookie) = peer.cookie(&random) {
            let hello = hello::client_hello(&random, &cookie, 1);
            let begin = if fragment { hello::first_fragment(&hello, cookie.len()) } else { hello };
            peer.send(&hello::record(1, &begin))?;
            begun += 1;
        }
        // Kept open: a closed port would tell the server that the peer is gone.
        silent.push(peer);
    }
    Ok(begun)
}

fn begun(case: &'static str, begun: u32, report: &Value) -> BegunHandshakes {
    let stage = |name: &str, key: &str| {
        let mut stages = report["stages"].as_array().into_iter().flatten();
        stages.find(|stage| stage["stage"] == name).map_or(0, |stage| number(&stage[key]))
    };
    BegunHandshakes {
        case,
        begun,
        honest: number(&report["devices"]),
        failed: number(&report["failed"]),
        handshake_p50_us: stage("handshake", "p50_us"),
        handshake_p99_us: stage("handshake", "p99_us"),
        total_p99_us: stage("total", "p99_us"),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn read_json(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Each begun handshake holds a socket.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, opening a socket reports it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
