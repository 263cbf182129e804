//! Private keys that the server makes and encrypts (RFC 7030 §4.4.2, RFC 9148 §4.8), without software of ours on the device's side:
//! `coap-client-openssl` asks, `crates/xtask/peers/key_package.py` writes the request and takes the answer apart, and OpenSSL decrypts and verifies.
//!
//! ```text
//!   multipart-core ── 280 ── EnvelopedData ── SignedData of the server ── AsymmetricKeyPackage ── PKCS #8
//!                  └─ 281 or 287 ── the certificate, whose key that is
//! ```

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::libcoap;
use super::openssl;
use super::registrar::{RegistrarPair, changed_configuration};
use super::run::StoryRun;
use super::runs::{self, AT_ONCE};
use super::server::{InteropServer, ServePlan};
use super::world::{InteropDevice, InteropWorld};
use crate::process::Program;
use crate::tree;

/// Each life asks for four keys of the server, or for two through a Registrar.
const LIVES: usize = 10;
/// The key that server and devices share, and its identifier, in hex.
const SHARED_ID: &str = "6b656b31";
const SHARED_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// application/multipart-core, and the Content-Formats of the certificates in it (RFC 9148 §8.1).
const MULTIPART_CORE: &str = "62";
const FUNCTIONS: [(&str, &str); 2] = [("skg", "281"), ("skc", "287")];
/// The line that `muster init` writes, and the one of these stories.
const WITHOUT_KEYS: &str = "# server_key_encryption_keys = \"file:keks.txt\"";
/// RFC 7030 §4.4.1.2: a key that something is encrypted to must be allowed to agree on keys.
const AGREEING: &str =
    "keyUsage=critical,digitalSignature,keyAgreement\nextendedKeyUsage=clientAuth\nsubjectKeyIdentifier=hash\n";

/// To which key the device wants its new one encrypted.
#[derive(Clone, Copy, Debug)]
enum Recipient {
    /// The shared key, by DecryptKeyIdentifier.
    Shared,
    /// That of its IDevID, by AsymmetricDecryptKeyIdentifier.
    Own,
}

pub(super) fn from_the_server(world: &InteropWorld) -> Result<String> {
    const STORY: &str = "enveloped";
    let line = shared_key(world, STORY)?;
    let pki = world.folder.join("pki");
    let config = changed_configuration(&pki, &format!("{STORY}.toml"), &[(WITHOUT_KEYS, &line)], "")?;
    let server = InteropServer::start_with(world, ServePlan::new(STORY, config))?;
    let device = world.device_with(STORY, AGREEING)?;
    runs::several(LIVES, [server.v4, server.v6], AT_ONCE, |run| {
        let asking = Asking { world, device: &device, run };
        for (function, format) in FUNCTIONS {
            for recipient in [Recipient::Shared, Recipient::Own] {
                asking
                    .gets_a_key(function, format, recipient)
                    .with_context(|| format!("/{function}, {recipient:?}"))?;
            }
        }
        Ok(())
    })?;
    // A key that may only sign: what can't be encrypted is refused, and never sent in plain.
    let signing = world.device_with(&format!("{STORY}-signing"), &AGREEING.replace(",keyAgreement", ""))?;
    let asking = Asking { world, device: &signing, run: StoryRun { number: 0, server: server.v4 } };
    asking.is_refused(Recipient::Own, "est.skg.encryption_not_possible")?;
    server.stop()?;
    Ok(format!("{LIVES} of {LIVES}, to a shared key and to that of the device, each from /skg and /skc"))
}

/// The Registrar passes on what its upstream has encrypted: it can't open it. The upstream does not know the certificates of devices, so that only a shared
/// key reaches from one to the other.
pub(super) fn through_a_registrar(world: &InteropWorld) -> Result<String> {
    const STORY: &str = "relayed-enveloped";
    let line = shared_key(world, STORY)?;
    let pair = RegistrarPair::start(world, STORY, "upstream", &[(WITHOUT_KEYS, &line)])?;
    // Two requests of one device for the same names are one request, and the second is told to wait for the first.
    runs::several(LIVES, [pair.registrar.v4, pair.registrar.v6], AT_ONCE, |run| {
        let device = world.device_with(&format!("{STORY}-{}", run.number), AGREEING)?;
        let asking = Asking { world, device: &device, run };
        let mut functions = FUNCTIONS.into_iter();
        functions.try_for_each(|(function, format)| asking.gets_a_key(function, format, Recipient::Shared))
    })?;
    let device = world.device_with(STORY, AGREEING)?;
    let asking = Asking { world, device: &device, run: StoryRun { number: LIVES, server: pair.registrar.v4 } };
    asking.is_refused(Recipient::Own, "est.upstream.bad_request")?;
    let certificates = pair.the_ledgers_agree(world)?;
    ensure!(certificates == LIVES * FUNCTIONS.len(), "{certificates} certificates");
    pair.stop()?;
    Ok(format!("{LIVES} of {LIVES}, to a shared key, each from /skg and /skc"))
}

/// Writes the shared key for the servers of this story; the line of their configuration.
fn shared_key(world: &InteropWorld, story: &str) -> Result<String> {
    let name = format!("{story}-keks.txt");
    let file = world.pki(&name);
    std::fs::write(&file, format!("{SHARED_ID} {SHARED_KEY}\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(format!("server_key_encryption_keys = \"file:{name}\""))
}

struct Asking<'a> {
    world: &'a InteropWorld,
    device: &'a InteropDevice,
    run: StoryRun,
}

impl Asking<'_> {
    /// Asks, opens what comes, and compares the key with its certificate.
    fn gets_a_key(&self, function: &str, format: &str, recipient: Recipient) -> Result<()> {
        let file = |ending: &str| self.file(&format!("{function}-{recipient:?}.{ending}"));
        let (answer, said) = self.asks(function, recipient)?;
        ensure!(answer.is_file(), "no answer: {said}");
        let (envelope, certificate) = (file("envelope"), file("certificate"));
        let unpack = python("unpack")?.arg("--answer").arg(&answer).args(["--format", format]);
        unpack.arg("--envelope").arg(&envelope).arg("--certificate").arg(&certificate).expect_success()?;

        let (content, signed, package) = (file("content"), file("signed"), file("package"));
        openssl::decrypt(&envelope, &self.opens(recipient), &content)?;
        convert("wrap", &content, &signed)?;
        // The server signs packages of keys.
        openssl::verify_signed(&signed, &self.world.pki("ca/root.pem"), &package)?;
        let (der, key, pem) = (file("key.der"), file("key"), file("pem"));
        convert("key", &package, &der)?;
        openssl::key_pem(&der, &key)?;
        match format {
            "287" => openssl::certificate_pem(&certificate, &pem)?,
            _ => ensure!(openssl::certificates_of(&certificate, &pem)? == 1, "the answer holds other certificates too"),
        }
        let (root, issuing) = (self.world.pki("ca/root.pem"), self.world.pki("ca/issuing.pem"));
        openssl::judge(&pem, &key, &self.device.certificate(), &root, &issuing)
    }

    /// Gets a refusal that names this reason, and no key.
    fn is_refused(&self, recipient: Recipient, reason: &str) -> Result<()> {
        let (answer, said) = self.asks("skg", recipient)?;
        let refused = said.contains("c:4.00") && said.contains(&format!("'{reason}'"));
        ensure!(refused && !answer.exists(), "not refused for {reason}: {said}");
        Ok(())
    }

    /// Sends a new request; the file with the body of the answer, and what the client said.
    fn asks(&self, function: &str, recipient: Recipient) -> Result<(PathBuf, String)> {
        let file = |ending: &str| self.file(&format!("{function}-{recipient:?}.{ending}"));
        let (key, plain, request, answer) = (file("asks.key"), file("asks.csr"), file("csr"), file("answer"));
        openssl::request(&key, &self.device.subject(), &plain)?;
        let write = python("request")?.arg("--csr").arg(&plain).arg("--key").arg(&key);
        let write = match recipient {
            Recipient::Shared => write.args(["--shared", SHARED_ID]),
            Recipient::Own => write.args(["--own", &openssl::subject_key_id(&self.device.certificate())?]),
        };
        write.arg("--out").arg(&request).expect_success()?;
        let (certificate, own) = (self.device.certificate(), self.device.key());
        let identity = [certificate.as_path(), own.as_path()];
        let client = libcoap::with_identity(self.world, libcoap::OPENSSL, identity, &answer, libcoap::TIMEOUT);
        let client = client.args(["-v", "6", "-A", MULTIPART_CORE, "-m", "post", "-t", libcoap::PKCS10, "-f"]);
        let client = client.arg(&request).arg(format!("coaps://{}/.well-known/est/{function}", self.run.server));
        Ok((answer, client.output()?.words()))
    }

    /// The options of `openssl cms -decrypt` that open the envelope.
    fn opens(&self, recipient: Recipient) -> [OsString; 4] {
        match recipient {
            Recipient::Shared => ["-secretkey", SHARED_KEY, "-secretkeyid", SHARED_ID].map(OsString::from),
            Recipient::Own => {
                let (certificate, key) = (self.device.certificate(), self.device.key());
                ["-recip".into(), certificate.into(), "-inkey".into(), key.into()]
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.device.file(&format!("run-{}.{name}", self.run.number))
    }
}

fn convert(how: &str, from: &Path, to: &Path) -> Result<()> {
    python(how)?.arg("--file").arg(from).arg("--out").arg(to).expect_success()?;
    Ok(())
}

/// A command of the script that knows the formats.
fn python(command: &str) -> Result<Program> {
    let python = tree::python();
    ensure!(python.is_file(), "the Python of the peers is not installed: cargo xtask setup");
    let script = tree::root().join("crates/xtask/peers/key_package.py");
    Ok(Program::new(python).arg("-B").arg(script).arg(command).timeout(libcoap::TIMEOUT))
}
