//! strongSwan's `pki`, a client of EST over HTTPS (RFC 7030) that others wrote, against our HTTPS front.
//!
//! With a client certificate it asks for /simplereenroll alone: a device enrols over CoAP, and renews over HTTPS. Without one it would show a user name
//! and a password, which Muster does not accept. So it plays two operations, and Debian and PyPI have no other client of EST over HTTPS: no client that
//! others wrote plays simpleenroll with a certificate, serverkeygen, csrattrs, a label or 202. curl and OpenSSL play these as somebody who has the RFC
//! alone would: `crates/cli/tests/cli/https.rs`, and for 202 `crates/server/tests/https.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::libcoap;
use super::openssl;
use super::run::StoryRun;
use super::runs::{self, AT_ONCE};
use super::world::{InteropDevice, InteropWorld};
use crate::process::{Ended, Program};

const TIMEOUT: Duration = Duration::from_secs(20);
const LIVES: usize = 20;

pub(super) fn fetches_and_renews(world: &InteropWorld) -> Result<String> {
    let (device, server) = world.begin("strongswan", &[("MUSTER_HTTPS__LISTEN", "127.0.0.1:0")])?;
    let front = server.https()?;
    runs::several(LIVES, [server.v4, server.v6], AT_ONCE, |run| Life { world, device: &device, run, front }.play())?;
    // An IDevID can't be renewed.
    let life = Life { world, device: &device, run: StoryRun { number: LIVES, server: server.v4 }, front };
    let refused = life.asks([&device.certificate(), &device.key()])?;
    let words = refused.words();
    ensure!(!refused.status.success() && words.contains("HTTP 403"), "an IDevID is renewed: {words}");
    server.refused("est.sren.not_issued_here")?;
    server.stop()?;
    Ok(format!("{LIVES} of {LIVES} fetched the CA certificates and renewed"))
}

struct Life<'a> {
    world: &'a InteropWorld,
    device: &'a InteropDevice,
    run: StoryRun,
    front: SocketAddr,
}

impl Life<'_> {
    fn play(&self) -> Result<()> {
        self.fetches_ca_certificates().context("pki --estca")?;
        let enrolled = libcoap::enrol_in(self.world, self.device, self.run)?;
        let ended = self.asks([&enrolled.certificate, &enrolled.key]).context("pki --est")?;
        ensure!(ended.status.success(), "pki --est failed: {}", ended.words());
        let renewed = self.file("renewed.pem");
        std::fs::write(&renewed, &ended.stdout)?;
        let [root, issuing] = self.anchors();
        openssl::judge(&renewed, &self.file("renewed.key"), &self.device.certificate(), &root, &issuing)
    }

    /// It writes each certificate to a file of its own: `ca.pem` and `ca-1.pem`.
    fn fetches_ca_certificates(&self) -> Result<()> {
        let file = self.file("ca.pem");
        let client = self.client("--estca").args(["--outform", "pem", "--force", "--caout"]).arg(&file);
        client.expect_success()?;
        let both = [file.clone(), self.file("ca-1.pem")].map(std::fs::read_to_string);
        let [root, issuing] = both;
        std::fs::write(&file, root? + &issuing?)?;
        openssl::same_certificates(&file, &self.anchors())
    }

    /// POSTs a new request under this identity, which it calls the old certificate and the old key.
    fn asks(&self, [certificate, key]: [&Path; 2]) -> Result<Ended> {
        let request = self.file("renewed.csr");
        openssl::request(&self.file("renewed.key"), &self.device.subject(), &request)?;
        let client = self.client("--est").args(["--outform", "pem", "--in"]).arg(request);
        client.arg("--cert").arg(certificate).arg("--key").arg(key).output()
    }

    fn client(&self, verb: &str) -> Program {
        let [root, issuing] = self.anchors();
        let client = Program::new("pki").args([verb, "--url", &format!("https://{}", self.front)]);
        // The issuing CA is given for what is issued: our front sends its chain itself.
        client.arg("--cacert").arg(root).arg("--cacert").arg(issuing).timeout(TIMEOUT)
    }

    fn anchors(&self) -> [PathBuf; 2] {
        [self.world.pki("ca/root.pem"), self.world.pki("ca/issuing.pem")]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.device.file(&format!("run-{}.{name}", self.run.number))
    }
}
