//! Two machines on one wire: network namespaces joined by a virtual Ethernet, with the server in one and devices in the other.
//!
//! ```text
//!   namespace "server"                     namespace "device"
//!   muster serve                           muster enroll, muster load, openssl s_client
//!   [fe80::1%wire]:PORT ◄──── veth ────► fe80::2%wire
//! ```
//!
//! This covers link-local IPv6 and a real interface, which loopback does not. The kernel (nftables) drops the datagrams. Only root may create namespaces;
//! they are removed with the story, whatever its result.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::openssl;
use super::world::InteropWorld;
use crate::process::{Daemon, MEASURED_THE_GENERATOR, Program};
use crate::setup;

/// The interface; both ends have the same name.
const INTERFACE: &str = "wire";
const SERVER_ADDRESS: &str = "fe80::1";
const DEVICE_ADDRESS: &str = "fe80::2";
/// Percentage of datagrams that are lost on arrival at either end. This loss has no seed.
const LOSS_PERCENT: u32 = 10;
/// Enough devices that both directions lose datagrams: each device exchanges at least ten datagrams each way, and (9/10)^160 is 5e-8.
const DEVICES: u32 = 16;
const TIMEOUT: Duration = Duration::from_secs(30);
/// With this loss, an exchange that is lost completely (RFC 7252 §4.8: 45 s at least) is started again.
const LOSSY_TIMEOUT: Duration = Duration::from_secs(280);

pub(super) fn link_local_enrolment(world: &InteropWorld) -> Result<String> {
    let wire = NamespacePair::new("plain")?;
    let site = NamespaceSite::new(world, "link-local")?;
    let (server, port) = site.serve(&wire)?;
    ensure!(server.words().contains(&format!("listening on coaps://[{SERVER_ADDRESS}%")), "{}", server.words());

    let out = site.folder.join("enrolled");
    let enroll = wire.device.run(&site.muster).args(["enroll", "--block", "64", "--server"]).arg(uri(port));
    let enroll = enroll.arg("--identity").arg(site.pki("device")).arg("--trust").arg(site.pki("ca/root.pem"));
    enroll.arg("--out").arg(&out).timeout(TIMEOUT).expect_success()?;
    openssl::judge(
        &out.join("device.pem"),
        &out.join("device.key"),
        &site.pki("device/idevid.pem"),
        &site.pki("ca/root.pem"),
        &site.pki("ca/issuing.pem"),
    )?;
    their_client(&wire, &site, port)?;
    server.stop_well()?;
    Ok("muster enroll and s_client".to_owned())
}

pub(super) fn kernel_loses_datagrams(world: &InteropWorld) -> Result<String> {
    let wire = NamespacePair::new("lossy")?;
    let site = NamespaceSite::new(world, "lossy-wire")?;
    let (server, port) = site.serve(&wire)?;
    wire.server.lose_datagrams()?;
    wire.device.lose_datagrams()?;
    let load = wire
        .device
        .run(&site.muster)
        .arg("load")
        .arg("--server")
        .arg(uri(port))
        .arg("--pki")
        .arg(site.folder.join("pki"));
    let load = load.args(["--devices", &DEVICES.to_string(), "--concurrency", &DEVICES.to_string()]);
    let load = load.args(["--block", "256", "--timeout", "270s"]).timeout(LOSSY_TIMEOUT);
    // How fast the fleet enrolled does not matter.
    let ended = load.expect_status(&[0, MEASURED_THE_GENERATOR])?;
    let wanted = format!("{DEVICES} of {DEVICES} devices enrolled");
    ensure!(ended.stdout.contains(&wanted), "{}{}", ended.stdout, ended.stderr);
    let (up, down) = (wire.server.datagrams_lost()?, wire.device.datagrams_lost()?);
    ensure!(up > 0 && down > 0, "the kernel lost {up} datagrams on their way to the server, {down} on their way back");
    server.stop_well()?;
    Ok(format!("{DEVICES} of {DEVICES}; {up} datagrams lost on their way to the server, {down} back"))
}

/// Another stack must agree about the dialled address and about the name in our certificate.
fn their_client(wire: &NamespacePair, site: &NamespaceSite, port: u16) -> Result<()> {
    let client = wire.device.run("openssl").args(["s_client", "-dtls1_2", "-verify_return_error"]);
    let client = client.args(["-verify_ip", SERVER_ADDRESS, "-CAfile"]).arg(site.pki("ca/root.pem"));
    let client = client.arg("-connect").arg(format!("[{SERVER_ADDRESS}%{INTERFACE}]:{port}"));
    let client = client.arg("-cert").arg(site.pki("device/idevid.pem")).arg("-key").arg(site.pki("device/idevid.key"));
    let ended = client.timeout(TIMEOUT).expect_success()?;
    for witness in ["Cipher is ECDHE-ECDSA-", "Verification: OK"] {
        ensure!(ended.stdout.contains(witness), "s_client did not say {witness:?}\n{}{}", ended.stdout, ended.stderr);
    }
    Ok(())
}

fn uri(port: u16) -> String {
    format!("coaps://[{SERVER_ADDRESS}%{INTERFACE}]:{port}")
}

/// A PKI whose server certificate names the link-local address.
struct NamespaceSite {
    muster: PathBuf,
    folder: PathBuf,
}

impl NamespaceSite {
    fn new(world: &InteropWorld, name: &str) -> Result<Self> {
        let site = Self { muster: world.muster.clone(), folder: world.folder.join(name) };
        std::fs::create_dir_all(&site.folder)?;
        let init = Program::new(&site.muster).arg("init").arg(site.folder.join("pki")).args(["--name", SERVER_ADDRESS]);
        init.timeout(TIMEOUT).expect_success()?;
        Ok(site)
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.folder.join("pki").join(file)
    }

    fn serve(&self, wire: &NamespacePair) -> Result<(Daemon, u16)> {
        // A socket is bound to a zone by its index, which the namespace assigned.
        let index = wire.server.run("cat").arg(format!("/sys/class/net/{INTERFACE}/ifindex")).expect_success()?;
        let listen = format!("[{SERVER_ADDRESS}%{}]:0", index.stdout.trim());
        let serve = wire.server.run(&self.muster).arg("serve").arg("--config").arg(self.pki("muster.toml"));
        let serve = serve.args(["--listen", &listen]).env("MUSTER_METRICS__LISTEN", "127.0.0.1:0");
        let (daemon, line) = serve.daemon("listening on coaps://", &self.folder.join("serve.log"))?;
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        Ok((daemon, port.with_context(|| format!("no port in {line:?}"))?))
    }
}

/// Two namespaces and the connection between them.
struct NamespacePair {
    server: Namespace,
    device: Namespace,
}

impl NamespacePair {
    fn new(story: &str) -> Result<Self> {
        ensure!(setup::is_root(), "only root may make network namespaces: run this as root");
        let wire = Self { server: Namespace::new(story, "server")?, device: Namespace::new(story, "device")? };
        let (here, there) = (wire.server.name.as_str(), wire.device.name.as_str());
        let join = ["link", "add", INTERFACE, "netns", here, "type", "veth", "peer", "name", INTERFACE, "netns", there];
        ip(&join)?;
        wire.server.raise(SERVER_ADDRESS)?;
        wire.device.raise(DEVICE_ADDRESS)?;
        Ok(wire)
    }
}

/// A network namespace that is deleted on drop; its interfaces are deleted with it.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(story: &str, side: &str) -> Result<Self> {
        let name = format!("muster-{}-{story}-{side}", std::process::id());
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// Runs a program inside the namespace.
    fn run(&self, program: impl AsRef<Path>) -> Program {
        Program::line("ip netns exec").arg(&self.name).arg(program.as_ref())
    }

    /// Brings the interfaces up. The address is fixed, not derived from the hardware's, and usable at once: no other host is on this
    /// network.
    fn raise(&self, address: &str) -> Result<()> {
        let within =
            |line: &str| ip(&["-n", self.name.as_str()].into_iter().chain(line.split(' ')).collect::<Vec<_>>());
        within("link set lo up")?;
        within(&format!("link set {INTERFACE} addrgenmode none"))?;
        within(&format!("link set {INTERFACE} up"))?;
        within(&format!("address add {address}/64 dev {INTERFACE} nodad"))
    }

    fn lose_datagrams(&self) -> Result<()> {
        let rules = [
            "add table inet weather".to_owned(),
            "add chain inet weather input { type filter hook input priority 0; }".to_owned(),
            format!("add rule inet weather input meta l4proto udp numgen random mod 100 < {LOSS_PERCENT} counter drop"),
        ];
        for rule in rules {
            self.run("nft").arg(rule).timeout(TIMEOUT).expect_success()?;
        }
        Ok(())
    }

    /// Reads the counter of the rule.
    fn datagrams_lost(&self) -> Result<u64> {
        let listed = self.run("nft").args(["list", "table", "inet", "weather"]).timeout(TIMEOUT).expect_success()?;
        lost_in(&listed.stdout).with_context(|| format!("no counter in {:?}", listed.stdout))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["netns", "delete", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    Program::new("ip").args(arguments).timeout(TIMEOUT).expect_success().map(|_| ())
}

fn lost_in(ruleset: &str) -> Option<u64> {
    ruleset.split("counter packets ").nth(1)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_as_nft_prints_it() {
        let printed = "table inet weather {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tmeta \
                       l4proto udp numgen random mod 100 < 20 counter packets 17 bytes 2040 drop\n\t}\n}\n";
        assert_eq!(lost_in(printed), Some(17));
        assert_eq!(lost_in("table inet weather {\n}\n"), None);
    }
}
