//! Clients that shake hands: OpenSSL's `s_client`, and Mbed TLS with one request.

use super::world::{Device, World};
use crate::process::{Ended, Program};
use crate::tree;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A suite as each side names it.
struct Suite {
    openssl: &'static str,
    mbedtls: &'static str,
    iana: &'static str,
}

const CCM8: Suite = Suite {
    openssl: "ECDHE-ECDSA-AES128-CCM8",
    mbedtls: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
    iana: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
};
const GCM: Suite = Suite {
    openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
    mbedtls: "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
};
const TIMEOUT: Duration = Duration::from_secs(25);

pub(super) fn openssl_ccm8(world: &World) -> Result<()> {
    openssl(world, "s-client-ccm8", &CCM8, &[])
}

pub(super) fn openssl_gcm(world: &World) -> Result<()> {
    openssl(world, "s-client-gcm", &GCM, &[])
}

pub(super) fn openssl_fragmented(world: &World) -> Result<()> {
    openssl(world, "s-client-fragmented", &CCM8, &["-mtu", "256"])
}

pub(super) fn openssl_without_certificate(world: &World) -> Result<()> {
    let ended = s_client(world, &CCM8).output()?;
    // Its exit status says nothing of an alert that came after its own Finished; what it agreed to does.
    ensure!(ended.stdout.contains("Cipher is (NONE)") || ended.stderr.contains("alert"), "{}", words(&ended));
    world.server_refused("dtls.certificate.missing")
}

pub(super) fn mbedtls_ccm8(world: &World) -> Result<()> {
    mbedtls(world, "mbedtls-ccm8", &CCM8)
}

pub(super) fn mbedtls_gcm(world: &World) -> Result<()> {
    mbedtls(world, "mbedtls-gcm", &GCM)
}

fn openssl(world: &World, name: &str, suite: &Suite, flags: &[&str]) -> Result<()> {
    let device = world.device(name)?;
    let client = s_client(world, suite).args(flags);
    let client = client.arg("-cert").arg(device.file("idevid.pem")).arg("-key").arg(device.file("idevid.key"));
    let ended = client.expect_success()?;
    // "Verify return code: 0 (ok)" is no witness: s_client prints it when no handshake took place at all.
    let witnesses = [
        &format!("Cipher is {}", suite.openssl),
        "Verification: OK",
        "Extended master secret: yes",
        "Secure Renegotiation IS supported",
    ];
    for wanted in witnesses {
        ensure!(ended.stdout.contains(wanted), "s_client did not say {wanted:?}\n{}", words(&ended));
    }
    world.server_saw(&device, suite.iana)
}

/// `s_client` that verifies our server against the root and the address dialled, and leaves as soon as the handshake is over.
fn s_client(world: &World, suite: &Suite) -> Program {
    let client = Program::line("openssl s_client -dtls1_2 -verify_return_error -verify_ip 127.0.0.1");
    let client =
        client.arg("-connect").arg(format!("127.0.0.1:{}", world.port)).arg("-CAfile").arg(world.pki("ca/root.pem"));
    client.arg("-cipher").arg(format!("{}:@SECLEVEL=0", suite.openssl)).timeout(TIMEOUT)
}

fn mbedtls(world: &World, name: &str, suite: &Suite) -> Result<()> {
    let device = world.device(name)?;
    let answer: serde_json::Value = serde_json::from_str(&mbedtls_client(world, &device, suite)?)?;
    let is = |key: &str, wanted: &str| ensure_field(&answer, key, wanted);
    is("suite", suite.mbedtls)?;
    is("version", "DTLSv1_2")?;
    is("code", "2.05")?;
    is("kind", "ACK")?;
    is("token_hex", "cafe")?;
    ensure!(answer["content_format"] == 40, "/.well-known/core is not link-format: {answer}");
    let links = answer["payload_hex"].as_str().unwrap_or_default();
    ensure!(links.contains(&hex("ace.est.sen")), "/.well-known/core does not name ace.est.sen: {answer}");
    world.server_saw(&device, suite.iana)
}

fn mbedtls_client(world: &World, device: &Device, suite: &Suite) -> Result<String> {
    let python = tree::python();
    ensure!(python.is_file(), "python-mbedtls is not installed: cargo xtask setup");
    let client = Program::new(python).arg(tree::root().join("crates/xtask/peers/mbedtls_client.py"));
    let client = client
        .arg("127.0.0.1")
        .arg(world.port.to_string())
        .arg(device.file("idevid.pem"))
        .arg(device.file("idevid.key"));
    let client = client.arg(world.pki("ca/root.pem")).arg("/.well-known/core").arg(suite.mbedtls);
    let ended = client.env("PYTHONDONTWRITEBYTECODE", "1").timeout(TIMEOUT).expect_success()?;
    ended.stdout.lines().last().map(str::to_owned).context("the Mbed TLS client printed nothing")
}

fn ensure_field(answer: &serde_json::Value, key: &str, wanted: &str) -> Result<()> {
    ensure!(answer[key] == wanted, "{key} is not {wanted}: {answer}");
    Ok(())
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn words(ended: &Ended) -> String {
    format!("{}{}", ended.stdout, ended.stderr)
}
