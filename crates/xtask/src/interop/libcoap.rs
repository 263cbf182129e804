//! libcoap's command-line programs: whole enrolments against our server, and our client against its server.

use super::openssl;
use super::world::{Device, World};
use crate::process::{Daemon, Program};
use anyhow::{Context, Result, ensure};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
/// What `-B` gives the client before it gives up by itself.
const PATIENCE_SECONDS: &str = "20";
/// application/pkcs10 and application/pkcs7-mime; smime-type=certs-only (RFC 9148 §8.1).
const PKCS10: &str = "286";
const CERTS_ONLY: &str = "281";

pub(super) fn openssl_enrols(world: &World) -> Result<()> {
    enrols(world, "coap-client-openssl")
}

pub(super) fn gnutls_enrols(world: &World) -> Result<()> {
    enrols(world, "coap-client-gnutls")
}

/// A device that asks for a certificate in another's name must get a 4.03 and no certificate.
pub(super) fn stranger_is_refused(world: &World) -> Result<()> {
    let device = world.device("stranger")?;
    openssl::request(
        &device.file("device.key"),
        "/CN=somebody else/serialNumber=SN-somebody else",
        &device.file("device.csr"),
    )?;
    let answer = device.file("answer.p7");
    let ended = post_request(world, "coap-client-openssl", &device, &answer, world.port).arg("-v").arg("6").output()?;
    ensure!(
        ended.stdout.contains("c:4.03") || ended.stderr.contains("c:4.03"),
        "no 4.03: {}{}",
        ended.stdout,
        ended.stderr
    );
    ensure!(
        openssl::certificates_of(&answer, &device.file("none.pem")).is_err(),
        "a certificate was issued to a stranger"
    );
    world.server_refused("est.sen.subject_mismatch")
}

/// Our client asks libcoap's server for its resources, and fetches CA certificates that libcoap stores and cuts into blocks.
pub(super) fn our_client_against_their_server(world: &World) -> Result<()> {
    let device = world.device("our-client")?;
    let mut server = TheirServer::start(world)?;
    let anchors = server.folder.join("ca.pem");
    let ours = |verb: &str| {
        let client = Program::new(&world.muster).args([verb, "--server", &server.uri, "--suite", "ccm8", "--identity"]);
        client.arg(&device.folder).arg("--trust").arg(&anchors).timeout(TIMEOUT)
    };

    let found = ours("discover").arg("--all").expect_success()?.stdout;
    for link in ["/time", "ticks", "/example_data"] {
        ensure!(found.contains(link), "no {link} in what muster discover printed:\n{found}");
    }

    let stored = device.file("stored.p7");
    openssl::certs_only(&[world.pki("ca/issuing.pem"), world.pki("ca/root.pem")], &stored)?;
    let put = as_device(world, "coap-client-openssl", &device, &device.file("put.answer"));
    let put = put.arg("-R").arg(&anchors).args(["-m", "put", "-t", CERTS_ONLY, "-f"]).arg(&stored);
    put.arg(format!("{}/.well-known/est/crts", server.uri)).expect_success()?;
    let received = device.file("received");
    ours("crts").args(["--block", "64", "--out"]).arg(&received).expect_success()?;
    openssl::same_certificates(
        &received.join("anchors.pem"),
        &[world.pki("ca/root.pem"), world.pki("ca/issuing.pem")],
    )?;

    // Their words for: the certificate of our device came, and was good.
    let seen = format!("CN '{}' presented by client (Certificate)", device.name);
    server.daemon.wait_for_line(&[&seen], TIMEOUT).map(|_| ())
}

/// `coap-server-openssl` with a CA of its own, for devices of this world.
struct TheirServer {
    daemon: Daemon,
    folder: PathBuf,
    uri: String,
}

impl TheirServer {
    fn start(world: &World) -> Result<Self> {
        let folder = world.folder.join("coap-server");
        std::fs::create_dir_all(&folder)?;
        let authority = openssl::authority(&folder.join("ca"), "/CN=libcoap CA")?;
        openssl::key(&folder.join("server.key"))?;
        let extensions =
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1\n";
        openssl::certificate(&folder.join("server"), "/CN=libcoap server", &authority, extensions)?;

        let port = two_free_ports()?;
        // -d: what a client PUTs becomes a resource.
        let server = Program::line("coap-server-openssl -A 127.0.0.1 -v 7 -d 4 -p").arg(port.to_string());
        let server = server.arg("-c").arg(folder.join("server.pem")).arg("-j").arg(folder.join("server.key"));
        let server = server.arg("-C").arg(&authority.certificate).arg("-R").arg(world.pki("manufacturer/ca.pem"));
        let (daemon, _) = server.daemon("created DTLS endpoint", &folder.join("server.log"))?;
        // With -p, DTLS is served one port above.
        Ok(Self { daemon, folder, uri: format!("coaps://127.0.0.1:{}", port + 1) })
    }
}

fn enrols(world: &World, client: &str) -> Result<()> {
    let device = world.device(&format!("enrolled-by-{client}"))?;
    let (root, issuing) = (world.pki("ca/root.pem"), world.pki("ca/issuing.pem"));

    let anchors = device.file("crts.p7");
    get_certificates(world, client, &device, &anchors).expect_success()?;
    let found = openssl::certificates_of(&anchors, &device.file("anchors.pem")).context("/crts")?;
    ensure!(found == 2, "/crts holds {found} certificates, not root and issuing CA");

    enrol(world, client, &device, world.port)?;
    openssl::judge(
        &device.file("device.pem"),
        &device.file("device.key"),
        &device.file("idevid.pem"),
        &root,
        &issuing,
    )?;
    world.server_saw(&device, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8")
}

/// POSTs a fresh request of the device in blocks of 64 bytes and leaves its certificate at `device.pem`.
pub(super) fn enrol(world: &World, client: &str, device: &Device, port: u16) -> Result<()> {
    let answer = device.file("device.p7");
    openssl::request(&device.file("device.key"), &device.subject(), &device.file("device.csr"))?;
    let ended = post_request(world, client, device, &answer, port).expect_success()?;
    ensure!(answer.is_file(), "{client} received nothing: {}{}", ended.stdout, ended.stderr);
    let issued = openssl::certificates_of(&answer, &device.file("device.pem"))
        .with_context(|| format!("{client} said: {}", ended.stdout))?;
    // RFC 7030 §4.2.3: only the certificate that was issued.
    ensure!(issued == 1, "the answer holds {issued} certificates");
    Ok(())
}

fn get_certificates(world: &World, client: &str, device: &Device, answer: &Path) -> Program {
    let uri = format!("coaps://127.0.0.1:{}/.well-known/est/crts", world.port);
    as_device(world, client, device, answer).args(["-m", "get", "-A", CERTS_ONLY]).arg(uri)
}

fn post_request(world: &World, client: &str, device: &Device, answer: &Path, port: u16) -> Program {
    let uri = format!("coaps://127.0.0.1:{port}/.well-known/est/sen");
    as_device(world, client, device, answer)
        .args(["-m", "post", "-t", PKCS10, "-f"])
        .arg(device.file("device.csr"))
        .arg(uri)
}

fn as_device(world: &World, client: &str, device: &Device, answer: &Path) -> Program {
    let client = Program::new(client).args(["-b", "64", "-B", PATIENCE_SECONDS]).timeout(TIMEOUT);
    let client = client.arg("-c").arg(device.file("idevid.pem")).arg("-j").arg(device.file("idevid.key"));
    client.arg("-R").arg(world.pki("ca/root.pem")).arg("-o").arg(answer)
}

/// libcoap's server cannot be asked for port 0: a port that is free, with the one above it.
fn two_free_ports() -> Result<u16> {
    for _ in 0..100 {
        let first = UdpSocket::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no two neighbouring UDP ports are free")
}
