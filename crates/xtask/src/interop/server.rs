//! `muster serve` for one story: on both address families, with its own log and capture, so that both describe only this story's peer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::capture::Capture;
use super::run::RUNS;
use super::world::{InteropDevice, InteropWorld, SuiteNames};
use crate::process::{Daemon, Program};

/// How long after the peer's response the server's log line about it may appear.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
/// For a command about the ledger.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(30);
/// libcoap's clients offer both suites: the server must choose the mandatory one here. The stories for GCM offer only
/// GCM.
const SUITES: &str = "ECDHE_ECDSA_AES_128_CCM_8,ECDHE_ECDSA_AES_128_GCM_SHA256";

pub(super) struct InteropServer {
    daemon: Mutex<Daemon>,
    config: PathBuf,
    /// Of its ledger and its admin socket.
    number: usize,
    pub(super) v4: SocketAddr,
    pub(super) v6: SocketAddr,
    capture: PathBuf,
    /// The key log beside the capture.
    pub(super) secrets: PathBuf,
}

/// What a server is started with.
pub(super) struct ServePlan<'a> {
    pub(super) story: &'a str,
    pub(super) config: PathBuf,
    pub(super) listen: [String; 2],
    /// Environment variables, one for each configuration key.
    pub(super) settings: &'a [(&'a str, &'a str)],
}

/// Servers that were started.
static SERVERS: AtomicUsize = AtomicUsize::new(0);

impl InteropServer {
    /// Starts a server for the story of this name; `settings` are environment variables, one for each configuration key.
    pub(super) fn start(world: &InteropWorld, story: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(world, ServePlan { settings, ..ServePlan::new(story, world.pki("muster.toml")) })
    }

    /// Starts a server with another configuration, or at other addresses.
    pub(super) fn start_with(world: &InteropWorld, plan: ServePlan<'_>) -> Result<Self> {
        let ServePlan { story, config, listen, settings } = plan;
        let file = |ending: &str| world.folder.join(format!("{story}.{ending}"));
        let (capture, secrets) = (file("pcapng"), file("secrets"));
        let serve = Program::new(&world.muster).arg("serve").arg("--config").arg(&config);
        let serve = serve.arg("--listen").args(listen).args(["--insecure-keylog", "--pcap"]).arg(&capture);
        let serve = serve.arg("--keylog").arg(&secrets);
        let serve = serve.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").env("MUSTER_LOG", "debug");
        // The stories run at the same time over one PKI: each server has a ledger and an admin socket of its own.
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let serve = of_its_own(serve, number).env("MUSTER_DTLS__SUITES", SUITES);
        let serve = settings.iter().fold(serve, |serve, (key, value)| serve.env(key, value));
        let (mut daemon, v4) = serve.daemon("listening on coaps://127.0.0.1", &file("log"))?;
        let v6 = daemon.wait_for_line(&["listening on coaps://[::1]"], LOG_TIMEOUT).context("IPv6 on the loopback")?;
        let (v4, v6) = (address(&v4)?, address(&v6)?);
        Ok(Self { daemon: Mutex::new(daemon), config, number, v4, v6, capture, secrets })
    }

    /// The server's log must report at least this many associations with this device over this suite, with the identity from the device's
    /// certificate.
    pub(super) fn saw(&self, device: &InteropDevice, suite: &str, times: usize) -> Result<()> {
        let serial_number = device.serial_number();
        let seen = self.daemon().wait_for_lines(&["handshake completed", &serial_number, suite], times, LOG_TIMEOUT);
        let seen = seen.with_context(|| format!("the server did not report {} over {suite}", device.name))?.len();
        ensure!(seen >= times, "the server saw {} {seen} times over {suite}, not {times} times", device.name);
        Ok(())
    }

    /// The server must log this reason.
    pub(super) fn refused(&self, reason: &str) -> Result<()> {
        self.daemon().wait_for_line(&[reason], LOG_TIMEOUT).map(|_| ())
    }

    /// Waits until it logs a line that contains all of these texts, and returns it.
    pub(super) fn says(&self, texts: &[&str], timeout: Duration) -> Result<String> {
        self.daemon().wait_for_line(texts, timeout)
    }

    /// The address of its front over HTTPS.
    pub(super) fn https(&self) -> Result<SocketAddr> {
        let line = self.says(&["https on https://"], LOG_TIMEOUT)?;
        let address = line.split_once("https://").and_then(|(_, address)| address.trim().parse().ok());
        address.with_context(|| format!("no address in {line:?}"))
    }

    /// `muster` with these words, for the operator of this server.
    pub(super) fn operator(&self, world: &InteropWorld, words: &str) -> Program {
        let muster = Program::new(&world.muster).args(words.split(' ')).arg("--config").arg(&self.config);
        of_its_own(muster, self.number).timeout(OPERATOR_TIMEOUT)
    }

    /// Summarises in words what the server and its capture report about a hundred handshakes of one device; stops the
    /// server.
    pub(super) fn prove(self, suite: &SuiteNames, device: &InteropDevice, mtu: usize) -> Result<String> {
        self.saw(device, suite.iana, RUNS)?;
        let facts = self.stop()?.shows(suite, device, RUNS, mtu)?;
        Ok(format!("{RUNS} of {RUNS}; {facts}"))
    }

    /// Sends SIGTERM: the server must drain, exit 0 and not have panicked. Its capture is complete afterwards.
    pub(super) fn stop(self) -> Result<Capture> {
        let capture = Capture { file: self.capture.clone(), ports: [self.v4.port(), self.v6.port()] };
        self.stop_and_tell()?;
        Ok(capture)
    }

    /// Like `stop`; returns all that it logged.
    pub(super) fn stop_and_tell(self) -> Result<String> {
        self.daemon.into_inner().unwrap_or_else(PoisonError::into_inner).stop_well()
    }

    fn daemon(&self) -> std::sync::MutexGuard<'_, Daemon> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InteropWorld {
    /// A server for this story only; `settings` are environment variables for configuration keys.
    pub(super) fn serve(&self, story: &str, settings: &[(&str, &str)]) -> Result<InteropServer> {
        InteropServer::start(self, story, settings)
    }

    /// A device and a server for this story only.
    pub(super) fn begin(&self, story: &str, settings: &[(&str, &str)]) -> Result<(InteropDevice, InteropServer)> {
        Ok((self.device(story)?, self.serve(story, settings)?))
    }
}

impl<'a> ServePlan<'a> {
    pub(super) fn new(story: &'a str, config: PathBuf) -> Self {
        Self { story, config, listen: ["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()], settings: &[] }
    }
}

/// The ledger and the admin socket of a server.
fn of_its_own(muster: Program, number: usize) -> Program {
    let muster = muster.env("MUSTER_LEDGER__URL", format!("sqlite:ledger-{number}.db"));
    let muster = muster.env("MUSTER_LEDGER__JOURNAL", format!("ledger-{number}.journal"));
    muster.env("MUSTER_ADMIN__SOCKET", format!("admin-{number}.sock"))
}

/// The address in a line `listening on coaps://ADDR:PORT`.
fn address(line: &str) -> Result<SocketAddr> {
    let (_, address) = line.split_once("coaps://").with_context(|| format!("no address in {line:?}"))?;
    address.trim().parse().with_context(|| format!("no address in {line:?}"))
}
