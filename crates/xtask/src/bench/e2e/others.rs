//! What a handshake costs the servers of libcoap, beside ours: one client, `coap-client-openssl`, which fetches one resource over a new session each
//! time, so that nothing but the server differs.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::super::released::ReleasedServer;
use super::cpu::{CpuTime, pinned};
use super::ledgers::LedgerFiles;
use super::programs::Bench;
use crate::bench::interval::Interval;
use crate::ports;
use crate::process::Daemon;
use crate::tree;

/// Handshakes of each server in each repetition.
const HANDSHAKES: u32 = 20;
const CLIENT: &str = "coap-client-openssl";
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server of libcoap, and a resource that each has.
const OTHERS: &[&str] = &["coap-server-openssl", "coap-server-gnutls"];
const OURS: &str = "muster";

/// CPU of one session with one answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HandshakeCost {
    pub(super) server: String,
    pub(super) cpu_us: Interval,
    /// Over the CPU of ours in the same repetition.
    pub(super) over_ours: Interval,
}

/// One server that runs while it is measured.
struct RunningServer {
    name: String,
    daemon: Daemon,
    uri: String,
    trust: PathBuf,
}

/// Measures each server in turn, as often as there are repetitions.
pub(super) fn measure(bench: &Bench, repetitions: u32) -> Result<Vec<HandshakeCost>> {
    ensure!(tree::find_program(CLIENT).is_some(), "{CLIENT} is missing: run `cargo xtask setup`");
    let device = ["idevid.pem", "idevid.key"].map(|file| bench.folder.join("pki/device").join(file));
    let mut servers = vec![ours(bench)?];
    for name in OTHERS {
        servers.push(theirs(bench, name)?);
    }
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    for _ in 0..repetitions {
        for (server, samples) in servers.iter().zip(&mut samples) {
            samples.push(server.handshakes(&device)?);
        }
    }
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    for server in servers {
        drop(server.daemon.stop()?);
    }
    let over = |it: &Vec<f64>| -> Vec<f64> { it.iter().zip(&samples[0]).map(|(theirs, ours)| theirs / ours).collect() };
    let costs = names.into_iter().zip(&samples).map(|(server, it)| HandshakeCost {
        server,
        cpu_us: Interval::of(it),
        over_ours: Interval::of(&over(it)),
    });
    Ok(costs.collect())
}

impl RunningServer {
    /// The server's CPU for one handshake with one answer, in microseconds.
    fn handshakes(&self, device: &[PathBuf; 2]) -> Result<f64> {
        let [certificate, key] = device;
        let before = CpuTime::of(self.daemon.process_id())?;
        for _ in 0..HANDSHAKES {
            let client = pinned(1, Path::new(CLIENT)).args(["-B", "8", "-c"]).arg(certificate).arg("-j").arg(key);
            let client = client.arg("-R").arg(&self.trust).arg(&self.uri).timeout(CLIENT_TIMEOUT);
            let ended = client.expect_success().with_context(|| format!("a session with {}", self.name))?;
            ensure!(!ended.stdout.trim().is_empty(), "{} answered nothing: {}", self.name, ended.words());
        }
        let spent = CpuTime::of(self.daemon.process_id())?.since(&before).nanoseconds();
        Ok(Duration::from_nanos(spent).as_secs_f64() * 1e6 / f64::from(HANDSHAKES))
    }
}

fn ours(bench: &Bench) -> Result<RunningServer> {
    let ReleasedServer { daemon, uri, .. } = bench.serve(&LedgerFiles { folder: None })?;
    let trust = bench.folder.join("pki/ca/root.pem");
    Ok(RunningServer { name: OURS.to_owned(), daemon, uri: format!("{uri}/.well-known/core"), trust })
}

/// With the certificate and the trust of ours: the same arithmetic.
fn theirs(bench: &Bench, name: &str) -> Result<RunningServer> {
    let program = tree::find_program(name).with_context(|| format!("{name} is missing: run `cargo xtask setup`"))?;
    // It does not accept port 0.
    let (port, pki) = (ports::two_free_ports()?, bench.folder.join("pki"));
    let server = pinned(0, &program).args(["-A", "127.0.0.1", "-v", "3", "-p"]).arg(port.to_string());
    let server = server.arg("-c").arg(pki.join("server.pem")).arg("-j").arg(pki.join("server.key"));
    let server = server.arg("-C").arg(pki.join("ca/root.pem")).arg("-R").arg(pki.join("manufacturer/ca.pem"));
    let daemon = server.spawn(&bench.folder.join(format!("{name}.log")))?;
    // With -p, DTLS is served on the next higher port. Its log does not say when it listens, but a bound port does.
    wait_until_bound(SocketAddr::from(([127, 0, 0, 1], port + 1)))?;
    let uri = format!("coaps://127.0.0.1:{}/.well-known/core", port + 1);
    Ok(RunningServer { name: name.to_owned(), daemon, uri, trust: pki.join("ca/root.pem") })
}

fn wait_until_bound(address: SocketAddr) -> Result<()> {
    for _ in 0..500 {
        if UdpSocket::bind(address).is_err() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("nothing listens on {address}")
}

/// Prints Markdown.
pub(super) fn print_handshakes(costs: &[HandshakeCost]) {
    println!("\n| server | handshake and one answer, us of CPU (95 % interval) | over ours |\n|---|---|---|");
    for cost in costs {
        let (cpu, over) = (cost.cpu_us, cost.over_ours);
        println!("| {} | {cpu:.0} | {:.1} |", cost.server, over.mean);
    }
}
