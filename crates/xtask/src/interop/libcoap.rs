//! libcoap's command-line programs: whole enrolments against our server, and our client against its server.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::link::BadLink;
use super::openssl;
use super::run::{RUNS, StoryRun};
use super::runs::{self, AT_ONCE, AT_ONCE_WAITING};
use super::server::InteropServer;
use super::world::{CCM8, InteropDevice, InteropWorld, MTU};
use crate::ports;
use crate::process::{Daemon, Program};

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
const PATIENCE_MARGIN_SECONDS: u64 = 5;
/// application/pkcs10 and application/pkcs7-mime; smime-type=certs-only (RFC 9148 §8.1).
pub(super) const PKCS10: &str = "286";
const CERTS_ONLY: &str = "281";
/// application/csrattrs
const CSR_ATTRIBUTES: &str = "285";
pub(super) const OPENSSL: &str = "coap-client-openssl";
const GNUTLS: &str = "coap-client-gnutls";
/// On a lossy link most runs wait for a timer: libcoap's doubles from 2 s (RFC 7252 §4.8), that of its handshakes from 1 s.
const LOSSY_TIMEOUT: Duration = Duration::from_secs(280);
/// An unregistered option that is elective because its number is even (RFC 7252 §5.4.1), and a critical one.
const ELECTIVE: &str = "65000,muster";
const CRITICAL: &str = "65001,muster";
/// Tokens have 0 to 8 bytes (RFC 7252 §3); with 0 this client chooses a token itself.
const TOKEN_BYTES_MAX: usize = 8;

/// One kind of enrolment with one of libcoap's clients.
struct Enrolment {
    client: &'static str,
    kind: &'static str,
    flags: &'static [&'static str],
    at_once: usize,
    timeout: Duration,
    /// How often the client is started at most: it gives up when an exchange was lost five times (RFC 7252 §4.2), with GnuTLS also when a handshake
    /// takes more than five seconds. A user would start it again.
    tries: usize,
}

const PLAIN: Enrolment =
    Enrolment { client: OPENSSL, kind: "plain", flags: &[], at_once: AT_ONCE, timeout: TIMEOUT, tries: 1 };
const LOSSY: Enrolment = Enrolment { at_once: AT_ONCE_WAITING, timeout: LOSSY_TIMEOUT, tries: 10, ..PLAIN };

pub(super) fn openssl_enrols(world: &InteropWorld) -> Result<String> {
    enrols(world, &PLAIN)
}

pub(super) fn gnutls_enrols(world: &InteropWorld) -> Result<String> {
    enrols(world, &Enrolment { client: GNUTLS, ..PLAIN })
}

/// A tenth of the client's datagrams is lost.
pub(super) fn openssl_loses(world: &InteropWorld) -> Result<String> {
    enrols(world, &Enrolment { kind: "loses", flags: &["-l", "10%"], ..LOSSY })
}

pub(super) fn gnutls_loses(world: &InteropWorld) -> Result<String> {
    enrols(world, &Enrolment { client: GNUTLS, kind: "loses", flags: &["-l", "10%"], ..LOSSY })
}

pub(super) fn openssl_non(world: &InteropWorld) -> Result<String> {
    enrols(world, &Enrolment { kind: "non", flags: &["-N"], ..PLAIN })
}

pub(super) fn gnutls_non(world: &InteropWorld) -> Result<String> {
    enrols(world, &Enrolment { client: GNUTLS, kind: "non", flags: &["-N"], ..PLAIN })
}

pub(super) fn openssl_odd_tokens(world: &InteropWorld) -> Result<String> {
    odd_tokens(world, OPENSSL)
}

pub(super) fn gnutls_odd_tokens(world: &InteropWorld) -> Result<String> {
    odd_tokens(world, GNUTLS)
}

pub(super) fn openssl_raw_options(world: &InteropWorld) -> Result<String> {
    raw_options(world, OPENSSL)
}

pub(super) fn gnutls_raw_options(world: &InteropWorld) -> Result<String> {
    raw_options(world, GNUTLS)
}

/// A whole enrolment through `muster link`.
pub(super) fn openssl_on_a_bad_link(world: &InteropWorld) -> Result<String> {
    on_a_bad_link(world, OPENSSL)
}

pub(super) fn gnutls_on_a_bad_link(world: &InteropWorld) -> Result<String> {
    on_a_bad_link(world, GNUTLS)
}

/// A device that requests a certificate with another name must get a 4.03 and no certificate.
pub(super) fn stranger_is_refused(world: &InteropWorld) -> Result<String> {
    let name = "stranger";
    let (device, server) = world.begin(name, &[])?;
    let stranger = InteropDevice { name: "somebody else".to_owned(), folder: device.folder.clone() };
    runs::hundred(&server, AT_ONCE, |run| PLAIN.is_refused(world, &stranger, run, "4.03", |client| client).map(drop))?;
    server.refused("est.sen.subject_mismatch")?;
    server.stop()?;
    Ok(format!("{RUNS} of {RUNS} refused with 4.03"))
}

/// Our client lists the resources of libcoap's server, and fetches CA certificates that libcoap stores and splits into
/// blocks.
pub(super) fn our_client_against_their_server(world: &InteropWorld) -> Result<String> {
    let device = world.device("our-client")?;
    let mut server = TheirServer::start(world)?;
    let anchors = server.folder.join("ca.pem");
    let ours = |verb: &str| {
        let client = Program::new(&world.muster).args([verb, "--server", &server.uri, "--suite", "ccm8", "--identity"]);
        client.arg(&device.folder).arg("--trust").arg(&anchors).timeout(TIMEOUT)
    };

    // It is not an EST server: its resources are listed, and the lack of an EST resource is a failure.
    let found = ours("discover").arg("--all").output()?;
    for wanted in ["/time", "ticks", "/example_data", "lists no EST resource"] {
        ensure!(found.words().contains(wanted), "muster discover did not print {wanted}:\n{}", found.words());
    }
    ensure!(found.status.code() == Some(1), "muster discover ended with {}", found.status);

    let stored = device.file("stored.p7");
    openssl::certs_only(&[world.pki("ca/issuing.pem"), world.pki("ca/root.pem")], &stored)?;
    let put = as_device(world, OPENSSL, &device, &device.file("put.answer"), TIMEOUT);
    let put = put.arg("-R").arg(&anchors).args(["-m", "put", "-t", CERTS_ONLY, "-f"]).arg(&stored);
    put.arg(format!("{}/.well-known/est/crts", server.uri)).expect_success()?;
    let received = device.file("received");
    ours("crts").args(["--block", "64", "--out"]).arg(&received).expect_success()?;
    openssl::same_certificates(
        &received.join("anchors.pem"),
        &[world.pki("ca/root.pem"), world.pki("ca/issuing.pem")],
    )?;

    // libcoap's message for: our device's certificate arrived and is valid.
    let seen = format!("CN '{}' presented by client (Certificate)", device.name);
    server.daemon.wait_for_line(&[&seen], TIMEOUT)?;
    Ok("its resources listed, its CA certificates fetched".to_owned())
}

/// `coap-server-openssl` with its own CA, for devices of this world.
struct TheirServer {
    daemon: Daemon,
    folder: PathBuf,
    uri: String,
}

impl TheirServer {
    fn start(world: &InteropWorld) -> Result<Self> {
        let folder = world.folder.join("coap-server");
        std::fs::create_dir_all(&folder)?;
        let authority = openssl::authority(&folder.join("ca"), "/CN=libcoap CA")?;
        openssl::key(&folder.join("server.key"))?;
        let extensions =
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1\n";
        openssl::certificate(&folder.join("server"), "/CN=libcoap server", &authority, extensions)?;

        let port = ports::two_free_ports()?;
        // -d: a resource that a client PUTs is created.
        let server = Program::line("coap-server-openssl -A 127.0.0.1 -v 7 -d 4 -p").arg(port.to_string());
        let server = server.arg("-c").arg(folder.join("server.pem")).arg("-j").arg(folder.join("server.key"));
        let server = server.arg("-C").arg(&authority.certificate).arg("-R").arg(world.pki("manufacturer/ca.pem"));
        let (daemon, _) = server.daemon("created DTLS endpoint", &folder.join("server.log"))?;
        // With -p, DTLS is served on the next higher port.
        Ok(Self { daemon, folder, uri: format!("coaps://127.0.0.1:{}", port + 1) })
    }
}

fn enrols(world: &InteropWorld, enrolment: &Enrolment) -> Result<String> {
    let (device, server) = enrolment.begin(world, &[])?;
    runs::hundred(&server, enrolment.at_once, |run| {
        enrolment.enrol(world, &device, run, |client| client.args(enrolment.flags))
    })?;
    judge(world, &device)?;
    server.prove(&CCM8, &device, MTU)
}

/// Tokens of every length, of bytes that are not text; a client that is started again uses the same token.
fn odd_tokens(world: &InteropWorld, client: &'static str) -> Result<String> {
    let enrolment = Enrolment { client, kind: "tokens", ..PLAIN };
    let (device, server) = enrolment.begin(world, &[])?;
    runs::hundred(&server, enrolment.at_once, |run| {
        let token = vec![0x80 | u8::try_from(run.number).unwrap_or(0x7f); run.number / 2 % (TOKEN_BYTES_MAX + 1)];
        enrolment.enrol(world, &device, run, |client| client.arg("-T").arg(OsStr::from_bytes(&token)))
    })?;
    judge(world, &device)?;
    server.prove(&CCM8, &device, MTU)
}

/// RFC 7252 §5.4.1: an unknown critical option is answered with 4.02, an unknown elective one is ignored.
fn raw_options(world: &InteropWorld, client: &'static str) -> Result<String> {
    let enrolment = Enrolment { client, kind: "options", ..PLAIN };
    let refused = Enrolment { client, kind: "critical", ..PLAIN };
    let (device, server) = enrolment.begin(world, &[])?;
    let other = world.device(&refused.story())?;
    runs::hundred(&server, enrolment.at_once, |run| {
        enrolment.enrol(world, &device, run, |client| client.args(["-O", ELECTIVE]))?;
        refused.is_refused(world, &other, run, "4.02", |client| client.args(["-O", CRITICAL])).map(drop)
    })?;
    judge(world, &device)?;
    server.saw(&device, CCM8.iana, RUNS)?;
    server.stop()?;
    Ok(format!("{RUNS} of {RUNS} enrolled, {RUNS} of {RUNS} refused with 4.02"))
}

fn on_a_bad_link(world: &InteropWorld, client: &'static str) -> Result<String> {
    let enrolment = Enrolment { client, kind: "link", ..LOSSY };
    let (device, server) = enrolment.begin(world, &[])?;
    let link = BadLink::before(&server, world, &enrolment.story(), BadLink::LOSSY)?;
    runs::hundred_at(link.doors(), enrolment.at_once, |run| enrolment.enrol(world, &device, run, |client| client))?;
    let passed = link.stop()?.was_bad()?;
    judge(world, &device)?;
    Ok(format!("{}; {passed}", server.prove(&CCM8, &device, MTU)?))
}

impl Enrolment {
    fn story(&self) -> String {
        format!("{}-{}", self.client, self.kind)
    }

    fn begin(&self, world: &InteropWorld, settings: &[(&str, &str)]) -> Result<(InteropDevice, InteropServer)> {
        world.begin(&self.story(), settings)
    }

    /// Enrols once with a new key for this run.
    fn enrol(
        &self,
        world: &InteropWorld,
        device: &InteropDevice,
        run: StoryRun,
        shape: impl Fn(Program) -> Program,
    ) -> Result<()> {
        let files = Files::of(device, run);
        openssl::request(&files.key, &device.subject(), &files.request)?;
        self.obtain(world, device, run, shape)
    }

    /// Gets the certificate for the request of this run.
    fn obtain(
        &self,
        world: &InteropWorld,
        device: &InteropDevice,
        run: StoryRun,
        shape: impl Fn(Program) -> Program,
    ) -> Result<()> {
        let files = Files::of(device, run);
        let mut said = String::new();
        let mut issued = Ok(0);
        for _ in 0..self.tries {
            // An exchange that was lost in the middle leaves a partial response.
            drop(std::fs::remove_file(&files.answer));
            let ended = shape(self.post(world, device, &files, run.server)).expect_success()?;
            said += &ended.words();
            issued = openssl::certificates_of(&files.answer, &files.certificate);
            if issued.is_ok() {
                break;
            }
        }
        let issued = issued.with_context(|| format!("{} received no certificate: {said}", self.client))?;
        // RFC 7030 §4.2.3: only the certificate that was issued.
        ensure!(issued == 1, "the answer holds {issued} certificates");
        openssl::holds_key_of(&files.answer, &files.request)
    }

    /// Sends a request, which must be refused with this code; returns what the client said about it.
    fn is_refused(
        &self,
        world: &InteropWorld,
        device: &InteropDevice,
        run: StoryRun,
        code: &str,
        shape: impl FnOnce(Program) -> Program,
    ) -> Result<String> {
        let files = Files::of(device, run);
        openssl::request(&files.key, &device.subject(), &files.request)?;
        let ended = shape(self.post(world, device, &files, run.server)).args(["-v", "6"]).output()?;
        let said = ended.words();
        ensure!(said.contains(&format!("c:{code}")), "no {code}: {said}");
        let issued = openssl::certificates_of(&files.answer, &files.certificate);
        ensure!(issued.is_err(), "a certificate was issued in spite of {code}");
        Ok(said)
    }

    fn post(&self, world: &InteropWorld, device: &InteropDevice, files: &Files, server: SocketAddr) -> Program {
        let client = as_device(world, self.client, device, &files.answer, self.timeout);
        let client = client.args(["-m", "post", "-t", PKCS10, "-f"]).arg(&files.request);
        client.arg(format!("coaps://{server}/.well-known/est/sen"))
    }
}

/// The files of one run.
pub(super) struct Files {
    pub(super) key: PathBuf,
    pub(super) request: PathBuf,
    answer: PathBuf,
    pub(super) certificate: PathBuf,
}

impl Files {
    pub(super) fn of(device: &InteropDevice, run: StoryRun) -> Self {
        let file = |ending: &str| device.file(&format!("run-{}.{ending}", run.number));
        Self { key: file("key"), request: file("csr"), answer: file("p7"), certificate: file("pem") }
    }
}

/// OpenSSL verifies all certificates of a story at once; each must be different.
fn judge(world: &InteropWorld, device: &InteropDevice) -> Result<()> {
    let certificates: Vec<PathBuf> = (0..RUNS).map(|number| device.file(&format!("run-{number}.pem"))).collect();
    openssl::verify(&certificates, &world.pki("ca/root.pem"), &world.pki("ca/issuing.pem"))?;
    openssl::all_differ(&certificates)
}

/// POSTs one request of the device in blocks of 64 bytes; leaves the request and the certificate in the device's
/// folder.
pub(super) fn enrol(world: &InteropWorld, device: &InteropDevice, server: SocketAddr) -> Result<PathBuf> {
    Ok(enrol_in(world, device, StoryRun { number: 0, server })?.request)
}

/// The same for one run of a story; all its files are left in the device's folder.
pub(super) fn enrol_in(world: &InteropWorld, device: &InteropDevice, run: StoryRun) -> Result<Files> {
    PLAIN.enrol(world, device, run, |client| client)?;
    Ok(Files::of(device, run))
}

/// Enrols on a lossy link; a client that gives up is started again with the same request.
pub(super) fn enrol_on_a_lossy_link(world: &InteropWorld, device: &InteropDevice, run: StoryRun) -> Result<Files> {
    LOSSY.enrol(world, device, run, |client| client)?;
    Ok(Files::of(device, run))
}

/// POSTs one request of the device, which must be refused with this code; what the client said about it.
pub(super) fn is_refused_with(
    world: &InteropWorld,
    device: &InteropDevice,
    run: StoryRun,
    code: &str,
) -> Result<String> {
    PLAIN.is_refused(world, device, run, code, |client| client)
}

/// POSTs the request of this run again, which must get its certificate.
pub(super) fn asks_again(world: &InteropWorld, device: &InteropDevice, run: StoryRun) -> Result<()> {
    PLAIN.obtain(world, device, run, |client| client)?;
    let certificate = Files::of(device, run).certificate;
    openssl::verify(&[certificate], &world.pki("ca/root.pem"), &world.pki("ca/issuing.pem"))
}

/// libcoap fetches `/crts` in blocks: it must get the root and the issuing CA.
pub(super) fn ca_certificates(world: &InteropWorld) -> Result<String> {
    let (device, server) = world.begin("crts", &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        let files = Files::of(&device, run);
        let client = if run.number % 4 < 2 { OPENSSL } else { GNUTLS };
        let client = as_device(world, client, &device, &files.answer, TIMEOUT).args(["-m", "get", "-A", CERTS_ONLY]);
        client.arg(format!("coaps://{}/.well-known/est/crts", run.server)).expect_success()?;
        openssl::certificates_of(&files.answer, &files.certificate).context("/crts")?;
        openssl::same_certificates(&files.certificate, &[world.pki("ca/root.pem"), world.pki("ca/issuing.pem")])
    })?;
    server.prove(&CCM8, &device, MTU)
}

/// libcoap fetches `/att` in blocks: OpenSSL must read a CsrAttrs that asks for an elliptic-curve key.
pub(super) fn csr_attributes(world: &InteropWorld) -> Result<String> {
    let (device, server) = world.begin("att", &[])?;
    runs::hundred(&server, AT_ONCE, |run| {
        let answer = device.file(&format!("run-{}.der", run.number));
        let client = if run.number % 4 < 2 { OPENSSL } else { GNUTLS };
        let client = as_device(world, client, &device, &answer, TIMEOUT).args(["-m", "get", "-A", CSR_ATTRIBUTES]);
        client.arg(format!("coaps://{}/.well-known/est/att", run.server)).expect_success()?;
        let read = Program::line("openssl asn1parse -inform DER -in").arg(&answer).expect_success()?.words();
        ensure!(read.contains("id-ecPublicKey"), "no CsrAttrs with a kind of key: {read}");
        Ok(())
    })?;
    server.prove(&CCM8, &device, MTU)
}

fn as_device(world: &InteropWorld, client: &str, device: &InteropDevice, answer: &Path, timeout: Duration) -> Program {
    with_identity(world, client, [&device.certificate(), &device.key()], answer, timeout)
}

/// A client with this certificate and key.
pub(super) fn with_identity(
    world: &InteropWorld,
    client: &str,
    [certificate, key]: [&Path; 2],
    answer: &Path,
    timeout: Duration,
) -> Program {
    // The client's own timeout ends before ours: its message explains more.
    let patience = timeout.as_secs() - PATIENCE_MARGIN_SECONDS;
    let client = Program::new(client).args(["-b", "64", "-B", &patience.to_string()]).timeout(timeout);
    let client = client.arg("-c").arg(certificate).arg("-j").arg(key);
    client.arg("-R").arg(world.pki("ca/root.pem")).arg("-o").arg(answer)
}
