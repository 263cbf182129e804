//! GnuTLS's `gnutls-cli`: suites, x25519, a small path, small records (max_fragment_length, RFC 6066 §4), an attempt to resume another server's
//! session, a request for renegotiation, a bad link.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::link::BadLink;
use super::run::StoryRun;
use super::runs::{self, AT_ONCE, AT_ONCE_WAITING};
use super::switch::Switch;
use super::world::{CCM8, GCM, InteropDevice, InteropWorld, MTU, SMALL_MTU, SMALL_PATH, SuiteNames};
use crate::ports;
use crate::process::Program;

const TIMEOUT: Duration = Duration::from_secs(25);
const BAD_LINK_TIMEOUT: Duration = Duration::from_secs(90);
const TRIES_ON_A_BAD_LINK: usize = 3;

/// One kind of handshake: what `gnutls-cli` offers besides its certificate, and the line that it must print.
struct GnutlsOffer {
    story: &'static str,
    suite: &'static SuiteNames,
    group: &'static str,
    flags: &'static [&'static str],
    /// The path MTU that our server is configured with.
    mtu: usize,
    described: &'static str,
}

const CCM8_OFFER: GnutlsOffer = GnutlsOffer {
    story: "gnutls-ccm8",
    suite: &CCM8,
    group: "GROUP-SECP256R1",
    flags: &[],
    mtu: MTU,
    described: "(ECDHE-SECP256R1)-(ECDSA-SHA256)-(AES-128-CCM-8)",
};

pub(super) fn ccm8(world: &InteropWorld) -> Result<String> {
    shake_hands(world, &CCM8_OFFER)
}

pub(super) fn gcm_over_x25519(world: &InteropWorld) -> Result<String> {
    let offer = GnutlsOffer {
        story: "gnutls-x25519",
        suite: &GCM,
        // The certificate's curve must be offered too (RFC 8422 §5.1.1); the first group is chosen.
        group: "GROUP-X25519:+GROUP-SECP256R1",
        described: "(ECDHE-X25519)-(ECDSA-SHA256)-(AES-128-GCM)",
        ..CCM8_OFFER
    };
    shake_hands(world, &offer)
}

pub(super) fn small_path(world: &InteropWorld) -> Result<String> {
    shake_hands(
        world,
        &GnutlsOffer { story: "gnutls-small-path", flags: &["--mtu", "300"], mtu: SMALL_MTU, ..CCM8_OFFER },
    )
}

pub(super) fn small_records(world: &InteropWorld) -> Result<String> {
    shake_hands(world, &GnutlsOffer { story: "gnutls-small-records", flags: &["--recordsize", "512"], ..CCM8_OFFER })
}

/// The second connection offers session id and ticket of `gnutls-serv`, which would have resumed the session.
pub(super) fn resumption_declined(world: &InteropWorld) -> Result<String> {
    let offer = GnutlsOffer { story: "gnutls-resumes", flags: &["-r"], ..CCM8_OFFER };
    let (device, server) = world.begin(offer.story, &[])?;
    let theirs = TheirServer::start(world, &device)?;
    let resumed = "*** This is a resumed session";
    let alone = client(world, &offer, theirs.beside(server.v4), &device).expect_success()?;
    ensure!(alone.stdout.contains(resumed), "gnutls-serv does not resume its own session: {}", alone.stdout);

    // `gnutls-serv` serves one client at a time.
    runs::hundred(&server, 1, |run| {
        let switch = Switch::between(theirs.beside(run.server), run.server)?;
        let ended = client(world, &offer, switch.address, &device).expect_success()?;
        ensure!(!ended.stdout.contains(resumed), "a session of another server was resumed: {}", ended.stdout);
        for wanted in ["trying to resume previous session", "- Resume Handshake was completed"] {
            ensure!(ended.stdout.contains(wanted), "gnutls-cli did not say {wanted:?}\n{}", ended.stdout);
        }
        Ok(())
    })?;
    server.prove(offer.suite, &device, MTU)
}

/// RFC 5246 §7.2.2: we answer each attempt with no_renegotiation. GnuTLS repeats its request for a minute; the story ends it after it has reported the
/// first answer.
pub(super) fn renegotiation_refused(world: &InteropWorld) -> Result<String> {
    let offer = GnutlsOffer { story: "gnutls-renegotiates", flags: &["-e"], ..CCM8_OFFER };
    let (device, server) = world.begin(offer.story, &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        let client = client(world, &offer, run.server, &device);
        let warned = "*** Non fatal error: A TLS warning alert has been received.";
        let (client, _) = client.dialogue(warned, &device.log(run))?;
        let words = client.words();
        ensure!(words.contains(offer.described) && !words.contains("ReHandshake was completed"), "{words}");
        Ok(())
    })?;
    // Each client has exactly one association.
    server.prove(offer.suite, &device, MTU)
}

/// The link loses a tenth each way, delays, reorders and duplicates datagrams, and drops those above 256 bytes.
pub(super) fn bad_link(world: &InteropWorld) -> Result<String> {
    let offer = GnutlsOffer { story: "gnutls-bad-link", flags: &["--mtu", "256"], mtu: SMALL_MTU, ..CCM8_OFFER };
    let (device, server) = world.begin(offer.story, SMALL_PATH)?;
    let link = BadLink::before(&server, world, offer.story, BadLink::BAD)?;
    let handshake =
        |run: StoryRun| one_association(client(world, &offer, run.server, &device).timeout(BAD_LINK_TIMEOUT), &offer);
    runs::hundred_at(link.doors(), AT_ONCE_WAITING, |run| {
        // `gnutls-cli` gives up after 40 s; a device would start again.
        (1..TRIES_ON_A_BAD_LINK).find_map(|_| handshake(run).ok()).map_or_else(|| handshake(run), Ok)
    })?;
    let passed = link.stop()?.was_bad()?;
    Ok(format!("{}; {passed}", server.prove(offer.suite, &device, SMALL_MTU)?))
}

fn shake_hands(world: &InteropWorld, offer: &GnutlsOffer) -> Result<String> {
    let settings = if offer.mtu == SMALL_MTU { SMALL_PATH } else { &[] };
    let (device, server) = world.begin(offer.story, settings)?;
    runs::hundred(&server, AT_ONCE, |run| one_association(client(world, offer, run.server, &device), offer))?;
    server.prove(offer.suite, &device, offer.mtu)
}

fn one_association(client: Program, offer: &GnutlsOffer) -> Result<()> {
    let ended = client.expect_success()?;
    for wanted in [offer.described, "Status: The certificate is trusted", "Handshake was completed"] {
        ensure!(ended.stdout.contains(wanted), "gnutls-cli did not say {wanted:?}\n{}\n{}", ended.stdout, ended.stderr);
    }
    Ok(())
}

fn client(world: &InteropWorld, offer: &GnutlsOffer, server: SocketAddr, device: &InteropDevice) -> Program {
    let client = Program::line("gnutls-cli --udp").args(offer.flags).arg("--priority").arg(priority(offer));
    let client = client.arg("--x509cafile").arg(world.pki("ca/root.pem"));
    let client = client.arg("--x509certfile").arg(device.certificate()).arg("--x509keyfile").arg(device.key());
    client.arg("-p").arg(server.port().to_string()).arg(server.ip().to_string()).timeout(TIMEOUT)
}

fn priority(offer: &GnutlsOffer) -> String {
    format!(
        "NONE:+VERS-DTLS1.2:+{}:+ECDHE-ECDSA:+AEAD:+SIGN-ECDSA-SHA256:+{}:+COMP-NULL:+CTYPE-ALL",
        offer.suite.gnutls, offer.group
    )
}

/// `gnutls-serv` with our server's certificate, so that a client trusts both.
struct TheirServer {
    _daemon: crate::process::Daemon,
    port: u16,
}

impl TheirServer {
    fn start(world: &InteropWorld, device: &InteropDevice) -> Result<Self> {
        // `gnutls-serv` does not accept port 0.
        let port = ports::free_port()?;
        let server = Program::line("gnutls-serv --udp --require-client-cert --priority").arg(priority(&CCM8_OFFER));
        let server = server.arg("--x509certfile").arg(world.pki("server.pem"));
        let server = server.arg("--x509keyfile").arg(world.pki("server.key"));
        let server = server.arg("--x509cafile").arg(world.pki("manufacturer/ca.pem")).arg("-p").arg(port.to_string());
        let (mut daemon, _) = server.daemon("listening on IPv4", &device.file("gnutls-serv.log"))?;
        daemon.wait_for_line(&["listening on IPv6"], TIMEOUT)?;
        Ok(Self { _daemon: daemon, port })
    }

    /// Its address in the same family.
    fn beside(&self, ours: SocketAddr) -> SocketAddr {
        (ours.ip(), self.port).into()
    }
}
