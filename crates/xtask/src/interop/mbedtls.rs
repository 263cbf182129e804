//! Mbed TLS 2.28, the most common stack in devices, through python-mbedtls: its handshakes, and whole enrolments in records of 512 bytes.
//!
//! Starting Python and loading the library takes as long as twenty handshakes, so one process does all runs of an address family.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::openssl;
use super::run::RUNS;
use super::server::InteropServer;
use super::world::{CCM8, GCM, InteropDevice, InteropWorld, MTU, SuiteNames};

const TIMEOUT: Duration = Duration::from_secs(120);
/// The record size that a device with buffers of 512 bytes requests (RFC 6066 §4, max_fragment_length 1).
const RECORD_BYTES_MAX: u64 = 512;
const CORE: &str = "/.well-known/core";
const CA_CERTIFICATES: &str = "/.well-known/est/crts";
/// application/link-format (RFC 7252 §12.3) and application/pkcs7-mime; smime-type=certs-only (RFC 9148 §8.1).
const LINK_FORMAT: u64 = 40;
const CERTS_ONLY: u64 = 281;

pub(super) fn gcm(world: &InteropWorld) -> Result<String> {
    let name = "mbedtls-gcm";
    let (device, server) = world.begin(name, &[])?;
    for half in halves(&server) {
        let report = half.play(world, &device, &GCM, &["--path", CORE])?;
        for run in runs_of(&report, &half)? {
            agreed(run, &GCM)?;
            answered(&run["get"], "2.05", LINK_FORMAT)?;
        }
        let links = report["payload_hex"].as_str().unwrap_or_default();
        ensure!(links.contains(&hex("ace.est.sen")), "{CORE} does not name ace.est.sen: {links}");
    }
    server.prove(&GCM, &device, MTU)
}

/// Each run fetches the CA certificates and enrols with its own key. The server sends its issuing certificate after its own: that message, like the
/// CA certificates, is longer than a record.
pub(super) fn enrols_in_small_records(world: &InteropWorld) -> Result<String> {
    let name = "mbedtls-small-records";
    let chain = chain(world)?;
    let certificate = [("MUSTER_SERVER__CERTIFICATE", chain.to_str().context("a path that is not UTF-8")?)];
    let (device, server) = world.begin(name, &certificate)?;
    let requests = Requests::new(&device)?;
    let mut longest = 0;
    for half in halves(&server) {
        let fragment = RECORD_BYTES_MAX.to_string();
        let flags = ["--path", CA_CERTIFICATES, "--fragment", &fragment, "--requests", &requests.folder_shown()?];
        let report = half.play(world, &device, &CCM8, &flags)?;
        for run in runs_of(&report, &half)? {
            agreed(run, &CCM8)?;
            longest = longest.max(in_small_records(run)?);
            answered(&run["get"], "2.05", CERTS_ONLY)?;
            answered(&run["enroll"], "2.04", CERTS_ONLY)?;
            ensure!(blocks(&run["get"], "blocks_down") > 1, "the CA certificates arrived in one block: {run}");
            ensure!(blocks(&run["enroll"], "blocks_up") > 1, "the request was sent in one block: {run}");
        }
        are_the_ca_certificates(world, &device, &report)?;
    }
    requests.judge_answers(world, &device)?;
    let seen = server.prove(&CCM8, &device, MTU)?;
    Ok(format!("{seen}; records up to {longest} bytes"))
}

/// The runs of one address family.
struct Half {
    server: SocketAddr,
    first: usize,
    count: usize,
}

fn halves(server: &InteropServer) -> [Half; 2] {
    let count = RUNS / 2;
    [Half { server: server.v4, first: 0, count }, Half { server: server.v6, first: count, count: RUNS - count }]
}

impl Half {
    fn play(&self, world: &InteropWorld, device: &InteropDevice, suite: &SuiteNames, flags: &[&str]) -> Result<Value> {
        let client = world.python("mbedtls_client.py", device, self.server, suite.mbedtls)?.args(flags);
        let client = client.arg("--first").arg(self.first.to_string()).arg("--count").arg(self.count.to_string());
        let ended = client.timeout(TIMEOUT).expect_success()?;
        serde_json::from_str(&ended.stdout).with_context(|| format!("the Mbed TLS client said {:?}", ended.stdout))
    }
}

fn runs_of<'a>(report: &'a Value, half: &Half) -> Result<&'a [Value]> {
    let runs = report["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(runs.len() == half.count, "{} runs of {} with {}", runs.len(), half.count, half.server);
    Ok(runs)
}

fn agreed(run: &Value, suite: &SuiteNames) -> Result<()> {
    ensure!(run["suite"] == suite.mbedtls && run["version"] == "DTLSv1_2", "unexpected suite or version: {run}");
    Ok(())
}

/// The longest record of the server, by its header and without the overhead of encryption.
fn in_small_records(run: &Value) -> Result<u64> {
    ensure!(run["fragment_agreed"] == "01", "the server's hello does not agree to max_fragment_length: {run}");
    let longest = run["plaintext_longest"].as_u64().context("no plaintext_longest")?;
    ensure!(longest <= RECORD_BYTES_MAX, "a record holds {longest} bytes, {RECORD_BYTES_MAX} were agreed: {run}");
    Ok(longest)
}

fn answered(answer: &Value, code: &str, format: u64) -> Result<()> {
    ensure!(
        answer["code"] == code && answer["content_format"] == format,
        "expected {code} in format {format}: {answer}"
    );
    Ok(())
}

fn blocks(answer: &Value, direction: &str) -> u64 {
    answer[direction].as_u64().unwrap_or_default()
}

fn are_the_ca_certificates(world: &InteropWorld, device: &InteropDevice, report: &Value) -> Result<()> {
    let cms = bytes(report["payload_hex"].as_str().unwrap_or_default())?;
    let (answer, found) = (device.file("crts.p7"), device.file("crts.pem"));
    std::fs::write(&answer, cms)?;
    openssl::certificates_of(&answer, &found)?;
    openssl::same_certificates(&found, &[world.pki("ca/root.pem"), world.pki("ca/issuing.pem")])
}

/// The server's certificate and its issuer's: each fits a record of 512 bytes, both together do not.
fn chain(world: &InteropWorld) -> Result<PathBuf> {
    let file = world.folder.join("server-chain.pem");
    let part = |name| std::fs::read_to_string(world.pki(name));
    std::fs::write(&file, part("server.pem")? + &part("ca/issuing.pem")?)?;
    Ok(file)
}

/// A request for each run, made by OpenSSL, and the response beside it.
struct Requests {
    folder: PathBuf,
}

impl Requests {
    fn new(device: &InteropDevice) -> Result<Self> {
        let requests = Self { folder: device.file("requests") };
        std::fs::create_dir_all(&requests.folder)?;
        for run in 0..RUNS {
            openssl::request(&requests.file(run, "key"), &device.subject(), &requests.file(run, "csr"))?;
        }
        Ok(requests)
    }

    fn folder_shown(&self) -> Result<String> {
        self.folder.to_str().map(str::to_owned).context("a path that is not UTF-8")
    }

    fn file(&self, run: usize, ending: &str) -> PathBuf {
        self.folder.join(format!("{run}.{ending}"))
    }

    /// Each certificate must contain its request's key and the device's name, and all must chain to the root.
    fn judge_answers(&self, world: &InteropWorld, device: &InteropDevice) -> Result<()> {
        let mut certificates = Vec::new();
        for run in 0..RUNS {
            let (answer, certificate) = (self.file(run, "p7"), self.file(run, "pem"));
            ensure!(openssl::certificates_of(&answer, &certificate)? == 1, "run {run}: expected one certificate");
            openssl::holds_key_of(&answer, &self.file(run, "csr")).with_context(|| format!("run {run}"))?;
            // OpenSSL prints subject and issuer above each certificate.
            let words = std::fs::read_to_string(&certificate)?;
            ensure!(
                words.contains(&device.serial_number()),
                "run {run}: the certificate is not {}'s: {words}",
                device.name
            );
            certificates.push(certificate);
        }
        openssl::all_differ(&certificates)?;
        openssl::verify(&certificates, &world.pki("ca/root.pem"), &world.pki("ca/issuing.pem"))
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..hex.len()).step_by(2).map(|at| pair(at).context("not hexadecimal")).collect()
}
