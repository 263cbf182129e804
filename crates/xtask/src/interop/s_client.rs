//! OpenSSL's `s_client`: suites, small paths, an attempt to resume another server's session, a request for renegotiation,
//! a bad link.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::link::BadLink;
use super::run::RUNS;
use super::runs::{self, AT_ONCE, AT_ONCE_WAITING};
use super::world::{CCM8, GCM, InteropDevice, InteropWorld, MTU, SMALL_MTU, SMALL_PATH, SuiteNames};
use crate::ports;
use crate::process::Program;

const TIMEOUT: Duration = Duration::from_secs(25);
/// OpenSSL's timer doubles from one second up to a minute.
const BAD_LINK_TIMEOUT: Duration = Duration::from_secs(280);

pub(super) fn ccm8(world: &InteropWorld) -> Result<String> {
    shake_hands(world, "s-client-ccm8", &CCM8)
}

pub(super) fn gcm(world: &InteropWorld) -> Result<String> {
    shake_hands(world, "s-client-gcm", &GCM)
}

/// Both ends are configured with a path MTU of 256 bytes.
pub(super) fn small_path(world: &InteropWorld) -> Result<String> {
    let name = "s-client-small-path";
    let (device, server) = world.begin(name, SMALL_PATH)?;
    runs::hundred(&server, AT_ONCE, |run| {
        let ended = as_device(world, &CCM8, run.server, &device).args(["-mtu", "256"]).expect_success()?;
        is_an_association(&ended.words(), &CCM8)
    })?;
    server.prove(&CCM8, &device, SMALL_MTU)
}

pub(super) fn without_certificate(world: &InteropWorld) -> Result<String> {
    let server = world.serve("s-client-nobody", &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        let ended = s_client(world, &CCM8, run.server).output()?;
        // Its exit status ignores an alert that arrives after its own Finished; the negotiated session does not.
        let refused = ended.stdout.contains("Cipher is (NONE)") || ended.stderr.contains("alert");
        ensure!(refused, "{}", ended.words());
        Ok(())
    })?;
    server.refused("dtls.certificate.missing")?;
    server.stop()?;
    Ok(format!("{RUNS} of {RUNS} refused"))
}

/// The client offers a session id and a ticket of another server that knows the same devices and has the same certificate: we decline both and do a
/// full handshake.
pub(super) fn resumption_declined(world: &InteropWorld) -> Result<String> {
    let name = "s-client-resumes";
    let (device, server) = world.begin(name, &[])?;
    let session = session_of_another_server(world, &device)?;
    runs::hundred(&server, AT_ONCE, |run| {
        let ended = as_device(world, &CCM8, run.server, &device).arg("-sess_in").arg(&session).expect_success()?;
        ensure!(!ended.stdout.contains("Reused, "), "a session of another server was resumed: {}", ended.words());
        is_an_association(&ended.words(), &CCM8)
    })?;
    server.prove(&CCM8, &device, MTU)
}

/// RFC 5246 §7.2.2: we answer with no_renegotiation, and this client gives up, as the RFC allows.
pub(super) fn renegotiation_refused(world: &InteropWorld) -> Result<String> {
    let name = "s-client-renegotiates";
    let (device, server) = world.begin(name, &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        let client = as_device(world, &CCM8, run.server, &device);
        let (mut client, _) = client.dialogue("Secure Renegotiation IS supported", &device.log(run))?;
        client.say("R")?;
        client.wait_for_line(&["no renegotiation"], TIMEOUT)?;
        Ok(())
    })?;
    // Each client has exactly one association.
    server.prove(&CCM8, &device, MTU)
}

/// The link loses a tenth each way, delays, reorders and duplicates datagrams, and drops those above 256 bytes.
pub(super) fn bad_link(world: &InteropWorld) -> Result<String> {
    let name = "s-client-bad-link";
    let (device, server) = world.begin(name, SMALL_PATH)?;
    let link = BadLink::before(&server, world, name, BadLink::BAD)?;
    runs::hundred_at(link.doors(), AT_ONCE_WAITING, |run| {
        let client = as_device(world, &CCM8, run.server, &device).args(["-mtu", "256"]).timeout(BAD_LINK_TIMEOUT);
        // It is not asked to quit: a duplicate Finished wakes it, and then it waits forever for the next record and ignores the end of its input.
        let (client, _) = client.dialogue("Extended master secret", &device.log(run))?;
        is_an_association(&client.words(), &CCM8)
    })?;
    let passed = link.stop()?.was_bad()?;
    Ok(format!("{}; {passed}", server.prove(&CCM8, &device, SMALL_MTU)?))
}

fn shake_hands(world: &InteropWorld, name: &str, suite: &SuiteNames) -> Result<String> {
    let (device, server) = world.begin(name, &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        is_an_association(&as_device(world, suite, run.server, &device).expect_success()?.words(), suite)
    })?;
    server.prove(suite, &device, MTU)
}

/// The lines that `s_client` prints for a session that both ends have verified. "Verify return code: 0 (ok)" proves nothing: it is printed even without a
/// handshake.
fn is_an_association(words: &str, suite: &SuiteNames) -> Result<()> {
    let witnesses = [
        &format!("New, TLSv1.2, Cipher is {}", suite.openssl),
        "Verification: OK",
        "Extended master secret: yes",
        "Secure Renegotiation IS supported",
    ];
    for wanted in witnesses {
        ensure!(words.contains(wanted), "s_client did not say {wanted:?}\n{words}");
    }
    Ok(())
}

/// `s_client` that verifies our server against the root and the dialled address, and quits as soon as the handshake is over.
fn s_client(world: &InteropWorld, suite: &SuiteNames, server: SocketAddr) -> Program {
    let client =
        Program::line("openssl s_client -dtls1_2 -verify_return_error -verify_ip").arg(server.ip().to_string());
    let client = client.arg("-connect").arg(server.to_string()).arg("-CAfile").arg(world.pki("ca/root.pem"));
    client.arg("-cipher").arg(format!("{}:@SECLEVEL=0", suite.openssl)).timeout(TIMEOUT)
}

fn as_device(world: &InteropWorld, suite: &SuiteNames, server: SocketAddr, device: &InteropDevice) -> Program {
    s_client(world, suite, server).arg("-cert").arg(device.certificate()).arg("-key").arg(device.key())
}

/// A session of OpenSSL's own server, which must be ready to resume it: otherwise our server would have nothing to
/// decline.
fn session_of_another_server(world: &InteropWorld, device: &InteropDevice) -> Result<PathBuf> {
    let address = ports::free_address()?;
    let server = Program::line("openssl s_server -dtls1_2 -Verify 2 -accept").arg(address.to_string());
    let server = server.arg("-cert").arg(world.pki("server.pem")).arg("-key").arg(world.pki("server.key"));
    let server = server.arg("-CAfile").arg(world.pki("manufacturer/ca.pem"));
    let server = server.arg("-cipher").arg(format!("{}:@SECLEVEL=0", CCM8.openssl));
    let (_server, _) = server.dialogue("ACCEPT", &device.file("s_server.log"))?;
    let session = device.file("session.pem");
    let client = || as_device(world, &CCM8, address, device);
    client().arg("-sess_out").arg(&session).expect_success()?;
    let again = client().arg("-sess_in").arg(&session).expect_success()?;
    ensure!(again.stdout.contains("Reused, "), "s_server does not resume its own session: {}", again.words());
    Ok(session)
}
