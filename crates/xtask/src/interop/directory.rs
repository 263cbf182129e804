//! CoRE Resource Directories of others: our server registers (RFC 9176), a foreign client looks it up, and our client finds it there.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::server::{InteropServer, ServePlan};
use super::world::{InteropDevice, InteropWorld};
use crate::process::{Daemon, Program};
use crate::{ports, tree};

/// A registration begins a few seconds after the start.
const LISTED_TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(60);
/// aiocoap's directory imports all of aiocoap before it has its socket.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const REGISTERED: &str = "registered with the resource directory";
const FUNCTIONS: &[&str] = &["crts", "sen", "sren", "att", "skg", "skc"];

/// libcoap's directory is of a draft before RFC 9176: it takes registrations and has no lookup. What it lists is read from the registration resource.
pub(super) fn libcoap_takes_a_registration(world: &InteropWorld) -> Result<String> {
    // With -p, it has DTLS on the next higher port.
    let directory = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::two_free_ports()?));
    let log = world.folder.join("coap-rd.log");
    let rd = Program::line("coap-rd-openssl -A 127.0.0.1 -v 7 -p").arg(directory.port().to_string());
    let (_daemon, _) = rd.daemon("created UDP", &log)?;
    let scene = Scene::start(world, "coap-rd", directory)?;
    let line = scene.server.says(&[REGISTERED], LISTED_TIMEOUT)?;
    let location = line.rsplit_once("location=").map(|(_, location)| location.trim().to_owned()).unwrap_or_default();
    scene.lists(&scene.looks_up(&location)?, "</est/")?;
    scene.server.stop()?;
    Ok(format!("listed as /{location}"))
}

/// aiocoap's directory follows RFC 9176; the paths of its resources end in a slash.
pub(super) fn aiocoap_lists_and_our_client_finds(world: &InteropWorld) -> Result<String> {
    let directory = ports::free_address()?;
    let program = tree::python().with_file_name("aiocoap-rd");
    ensure!(program.is_file(), "aiocoap-rd is not installed: cargo xtask setup");
    // It prints nothing when it is ready.
    let rd = Program::new(program).args(["--verbose", "--bind"]).arg(directory.to_string());
    let mut daemon = rd.spawn(&world.folder.join("aiocoap-rd.log"))?;
    is_ready(directory, &mut daemon)?;
    let scene = Scene::start(world, "aiocoap-rd", directory)?;
    scene.server.says(&[REGISTERED], LISTED_TIMEOUT)?;
    let public = scene.public.to_string();
    let links = scene.looks_up("resource-lookup/?rt=ace.est*")?;
    scene.lists(&links, &format!("<coaps://{public}/est/"))?;
    ensure!(!links.contains("ace.muster.ren"), "more than was asked for: {links}");

    let found = scene.ours("discover", &["--resource-directory", &format!("coap://{directory}")])?;
    let uri = format!("coaps://{public}");
    ensure!(found.contains(&uri) && found.contains("rt=ace.est.sen"), "our client did not find {uri}: {found}");
    let out = scene.device.file("enrolled");
    scene.ours("enroll", &["--server", &uri, "--out", &out.to_string_lossy()])?;
    super::openssl::verify(&[out.join("device.pem")], &world.pki("ca/root.pem"), &world.pki("ca/issuing.pem"))?;

    let Scene { server, .. } = scene;
    let words = server.stop_and_tell()?;
    ensure!(words.contains("removed from the resource directory"), "the registration is left behind: {words}");
    let left = coap_get(directory, "resource-lookup/?rt=ace.est*")?;
    ensure!(!left.contains("ace.est"), "still listed: {left}");
    Ok("registered, looked up, found by our client, removed".to_owned())
}

/// A server of ours that registers with a directory.
struct Scene<'a> {
    world: &'a InteropWorld,
    device: InteropDevice,
    server: InteropServer,
    directory: SocketAddr,
    /// Where devices reach the server.
    public: SocketAddr,
}

impl<'a> Scene<'a> {
    fn start(world: &'a InteropWorld, story: &str, directory: SocketAddr) -> Result<Self> {
        // What is registered is in the configuration: the port has to be known before.
        let public = ports::free_address()?;
        let uris = [format!("coaps://{public}"), format!("coap://{directory}")];
        let settings = [("MUSTER_EST__PUBLIC", uris[0].as_str()), ("MUSTER_DISCOVERY__RESOURCE_DIRECTORY", &uris[1])];
        let plan = ServePlan {
            listen: [public.to_string(), "[::1]:0".to_owned()],
            settings: &settings,
            ..ServePlan::new(story, world.pki("muster.toml"))
        };
        let server = InteropServer::start_with(world, plan)?;
        Ok(Self { world, device: world.device(story)?, server, directory, public })
    }

    fn looks_up(&self, path: &str) -> Result<String> {
        coap_get(self.directory, path)
    }

    /// Every function is in these links, below this start of a target.
    fn lists(&self, links: &str, start: &str) -> Result<()> {
        let missing = FUNCTIONS.iter().find(|function| !links.contains(&format!("{start}{function}>")));
        ensure!(missing.is_none(), "{} is not listed by {}: {links}", missing.unwrap_or(&""), self.directory);
        Ok(())
    }

    /// A command of our client, which trusts a server under its configured name alone.
    fn ours(&self, verb: &str, more: &[&str]) -> Result<String> {
        let client = Program::new(&self.world.muster).arg(verb).args(more).args(["--expect-name", "127.0.0.1"]);
        let client =
            client.arg("--identity").arg(&self.device.folder).arg("--trust").arg(self.world.pki("ca/root.pem"));
        Ok(client.timeout(TIMEOUT).expect_success()?.words())
    }
}

/// GET by libcoap's client, without DTLS.
fn coap_get(directory: SocketAddr, path: &str) -> Result<String> {
    let client = Program::line("coap-client-openssl -B 30").arg(format!("coap://{directory}/{path}"));
    Ok(client.timeout(TIMEOUT).expect_success()?.words())
}

/// Waits until it has its socket. It prints nothing, and a question before that would wait for its retransmission.
fn is_ready(directory: SocketAddr, daemon: &mut Daemon) -> Result<()> {
    // proc(5): addresses and ports are in hexadecimal.
    let listed = format!(":{:04X} ", directory.port());
    let began = Instant::now();
    loop {
        let has_ended = daemon.has_ended()?;
        let sockets = ["/proc/net/udp", "/proc/net/udp6"].map(std::fs::read_to_string);
        if !has_ended && sockets.into_iter().any(|list| list.is_ok_and(|list| list.contains(&listed))) {
            return Ok(());
        }
        let is_waiting = !has_ended && began.elapsed() < READY_TIMEOUT;
        ensure!(is_waiting, "no directory at {directory}, its program has ended: {has_ended}: {}", daemon.words());
        std::thread::sleep(Duration::from_millis(100));
    }
}
