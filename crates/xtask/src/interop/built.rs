//! Peers that are libraries: a small program around each (`crates/xtask/peers`) is a device or a server; it is built here before its stories
//! run.
//!
//! All programs have the same command line and print the same lines, so that one set of stories serves them all:
//! `client|server HOST PORT SUITE CERTIFICATE KEY TRUST`, and for some the maximum size of their handshake messages.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::link::BadLink;
use super::run::{RUNS, StoryRun};
use super::runs::{self, AT_ONCE, AT_ONCE_WAITING};
use super::world::{InteropDevice, InteropWorld, SMALL_MTU, SMALL_PATH, SuiteNames};
use crate::process::{Daemon, Program};
use crate::tree;

const BUILD_TIMEOUT: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(25);
const BAD_LINK_TIMEOUT: Duration = Duration::from_secs(90);
/// On a bad link a peer gives up its handshake; a device would start again.
const TRIES_ON_A_BAD_LINK: usize = 4;
/// The line that the library's server lists and our client must have read.
const LISTED: &str = "/.well-known/est/sen  rt=ace.est.sen";

/// One library.
pub(super) struct Library {
    /// The name of its program and its stories.
    pub(super) name: &'static str,
    /// Builds the program into this file.
    pub(super) build: fn(&Path) -> Result<Program>,
    /// The maximum size of its handshake messages, if it can be set.
    pub(super) cuts_to: Option<usize>,
    /// The line that it prints after its handshake, for the common name of the peer's subject.
    pub(super) associated: fn(&str) -> String,
}

/// The settings of both sides for one suite: ours, and the library's name for it.
pub(super) struct Offer {
    pub(super) suite: &'static SuiteNames,
    pub(super) theirs: &'static str,
    pub(super) ours: &'static str,
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// The largest datagram of our server.
    pub(super) mtu: usize,
}

impl Library {
    /// The library's client against our server.
    pub(super) fn is_served(&self, world: &InteropWorld, offer: &Offer) -> Result<String> {
        let name = format!("{}-{}", self.name, offer.ours);
        let (device, server) = world.begin(&name, offer.settings)?;
        let program = self.program()?;
        runs::hundred(&server, AT_ONCE, |run| {
            self.asks(self.client(&program, world, offer, &device, run.server).timeout(TIMEOUT))
        })?;
        server.prove(offer.suite, &device, offer.mtu)
    }

    /// The same on a bad link.
    pub(super) fn is_served_on_a_bad_link(&self, world: &InteropWorld, offer: &Offer) -> Result<String> {
        let name = format!("{}-bad-link", self.name);
        let settings = if self.cuts_to.is_some() { SMALL_PATH } else { offer.settings };
        let mtu = if self.cuts_to.is_some() { SMALL_MTU } else { offer.mtu };
        let (device, server) = world.begin(&name, settings)?;
        let link = BadLink::before(&server, world, &name, self.conditions())?;
        let program = self.program()?;
        let attempt = |run: StoryRun| {
            self.asks(self.client(&program, world, offer, &device, run.server).timeout(BAD_LINK_TIMEOUT))
        };
        runs::hundred_at(link.doors(), AT_ONCE_WAITING, |run| {
            (1..TRIES_ON_A_BAD_LINK).find_map(|_| attempt(run).ok()).map_or_else(|| attempt(run), Ok)
        })?;
        let passed = link.stop()?.was_bad()?;
        Ok(format!("{}; {passed}", server.prove(offer.suite, &device, mtu)?))
    }

    /// Our client against the library's server: one process for each run.
    pub(super) fn serves(&self, world: &InteropWorld, offer: &Offer) -> Result<String> {
        let device = world.device(&format!("our-client-{}-{}", self.name, offer.ours))?;
        let program = self.program()?;
        runs::hundred_at(loopbacks(), AT_ONCE, |run| {
            let mut theirs = self.server(&program, world, offer, &device, run)?;
            self.is_asked(world, offer, &device, theirs.address, &[])?;
            theirs.saw(self, &device)
        })?;
        Ok(format!("{RUNS} of {RUNS}"))
    }

    /// The same with a bad link in between.
    pub(super) fn serves_on_a_bad_link(&self, world: &InteropWorld, offer: &Offer) -> Result<String> {
        let device = world.device(&format!("our-client-{}-bad-link", self.name))?;
        let program = self.program()?;
        let attempt = |run: StoryRun, number: usize| {
            let mut theirs = self.server(&program, world, offer, &device, run)?;
            let log = device.file(&format!("link-{}-{number}.log", run.number));
            let link = BadLink::to(theirs.address, world, &log, (self.conditions(), number))?;
            let flags: &[&str] = if self.cuts_to.is_some() { &["--mtu", "256"] } else { &[] };
            self.is_asked(world, offer, &device, link.door(), flags)?;
            theirs.saw(self, &device)
        };
        runs::hundred_at(loopbacks(), AT_ONCE_WAITING, |run| {
            let last = TRIES_ON_A_BAD_LINK - 1;
            (0..last).find_map(|number| attempt(run, number).ok()).map_or_else(|| attempt(run, last), Ok)
        })?;
        Ok(format!("{RUNS} of {RUNS}"))
    }

    /// A library that can limit its messages gets a path of 256 bytes; the others get only loss and delay.
    fn conditions(&self) -> &'static [&'static str] {
        if self.cuts_to.is_some() { BadLink::BAD } else { BadLink::LOSSY }
    }

    fn client(
        &self,
        program: &Path,
        world: &InteropWorld,
        offer: &Offer,
        device: &InteropDevice,
        server: SocketAddr,
    ) -> Program {
        let client = Program::new(program).arg("client").arg(server.ip().to_string()).arg(server.port().to_string());
        let client = client.arg(offer.theirs).arg(device.certificate()).arg(device.key()).arg(world.pki("ca/root.pem"));
        client.args(self.cuts_to.map(|bytes| bytes.to_string()))
    }

    /// The client must have verified our server, and have received one of our encrypted responses.
    fn asks(&self, client: Program) -> Result<()> {
        let said = client.expect_success()?.words();
        for wanted in [(self.associated)("localhost").as_str(), "answered 2.05", "rt=\"ace.est.sen\""] {
            ensure!(said.contains(wanted), "{} did not say {wanted:?}\n{said}", self.name);
        }
        Ok(())
    }

    /// Our client must have verified the library's server and have its response.
    fn is_asked(
        &self,
        world: &InteropWorld,
        offer: &Offer,
        device: &InteropDevice,
        at: SocketAddr,
        flags: &[&str],
    ) -> Result<()> {
        let ours = Program::new(&world.muster).arg("discover").arg("--server").arg(format!("coaps://{at}"));
        let ours = ours.args(["--suite", offer.ours, "--identity"]).arg(&device.folder).args(flags);
        let ours = ours.arg("--trust").arg(world.pki("ca/root.pem")).timeout(BAD_LINK_TIMEOUT);
        let found = ours.expect_success()?.stdout;
        ensure!(found.contains(LISTED), "muster discover did not print {LISTED:?}:\n{found}");
        Ok(())
    }

    fn server(
        &self,
        program: &Path,
        world: &InteropWorld,
        offer: &Offer,
        device: &InteropDevice,
        run: StoryRun,
    ) -> Result<Theirs> {
        let ip = run.server.ip();
        let server = Program::new(program).args(["server", &ip.to_string(), "0", offer.theirs]);
        let server = server.arg(world.pki("server.pem")).arg(world.pki("server.key"));
        let server = server.arg(world.pki("manufacturer/ca.pem")).args(self.cuts_to.map(|bytes| bytes.to_string()));
        let (daemon, line) = server.daemon("listening on port ", &device.log(run))?;
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
        let port: u16 = port.with_context(|| format!("no port in {line:?}"))?;
        Ok(Theirs { daemon, address: (ip, port).into() })
    }

    /// The library's program; the first story that needs it builds it, the others wait.
    fn program(&self) -> Result<PathBuf> {
        static BUILT: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        let program = tree::target().join("peers").join(self.name);
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if !built.contains(self.name) {
            let folder = program.parent().context("a target directory above")?;
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            (self.build)(&program)?.timeout(BUILD_TIMEOUT).expect_success()?;
            built.insert(self.name);
        }
        Ok(program)
    }
}

/// A server of the library.
struct Theirs {
    daemon: Daemon,
    address: SocketAddr,
}

impl Theirs {
    /// Checks that the server has verified our device.
    fn saw(&mut self, library: &Library, device: &InteropDevice) -> Result<()> {
        self.daemon.wait_for_line(&[&(library.associated)(&device.name)], TIMEOUT).map(|_| ())
    }
}

/// Both address families; each server chooses its own port.
fn loopbacks() -> [SocketAddr; 2] {
    [(std::net::Ipv4Addr::LOCALHOST, 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()]
}
