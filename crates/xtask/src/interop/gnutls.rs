//! GnuTLS's `gnutls-cli`: suites, x25519, a small path and small records (max_fragment_length, RFC 6066 §4).

use super::world::World;
use crate::process::Program;
use anyhow::{Result, ensure};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(25);

/// One handshake: what `gnutls-cli` offers beside its certificate, and what it and the server must have seen.
struct Offer {
    device: &'static str,
    cipher: &'static str,
    group: &'static str,
    flags: &'static [&'static str],
    described: &'static str,
    iana: &'static str,
}

pub(super) fn ccm8_on_a_small_path(world: &World) -> Result<()> {
    shake_hands(
        world,
        &Offer {
            device: "gnutls-ccm8",
            cipher: "AES-128-CCM-8",
            group: "GROUP-SECP256R1",
            flags: &["--mtu", "300"],
            described: "(ECDHE-SECP256R1)-(ECDSA-SHA256)-(AES-128-CCM-8)",
            iana: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
        },
    )
}

pub(super) fn gcm_over_x25519(world: &World) -> Result<()> {
    shake_hands(
        world,
        &Offer {
            device: "gnutls-x25519",
            cipher: "AES-128-GCM",
            // The certificate's curve has to be offered too (RFC 8422 §5.1.1); what is named first is taken.
            group: "GROUP-X25519:+GROUP-SECP256R1",
            flags: &[],
            described: "(ECDHE-X25519)-(ECDSA-SHA256)-(AES-128-GCM)",
            iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        },
    )
}

pub(super) fn ccm8_in_small_records(world: &World) -> Result<()> {
    shake_hands(
        world,
        &Offer {
            device: "gnutls-small-records",
            cipher: "AES-128-CCM-8",
            group: "GROUP-SECP256R1",
            flags: &["--recordsize", "512"],
            described: "(ECDHE-SECP256R1)-(ECDSA-SHA256)-(AES-128-CCM-8)",
            iana: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
        },
    )
}

fn shake_hands(world: &World, offer: &Offer) -> Result<()> {
    let device = world.device(offer.device)?;
    let priority = format!(
        "NONE:+VERS-DTLS1.2:+{}:+ECDHE-ECDSA:+AEAD:+SIGN-ECDSA-SHA256:+{}:+COMP-NULL:+CTYPE-ALL",
        offer.cipher, offer.group
    );
    let client = Program::line("gnutls-cli --udp").args(offer.flags).arg("--priority").arg(priority);
    let client = client.arg("--x509cafile").arg(world.pki("ca/root.pem"));
    let client = client.arg("--x509certfile").arg(device.file("idevid.pem"));
    let client = client.arg("--x509keyfile").arg(device.file("idevid.key"));
    let ended = client.arg("-p").arg(world.port.to_string()).arg("127.0.0.1").timeout(TIMEOUT).expect_success()?;
    for wanted in [offer.described, "Status: The certificate is trusted", "Handshake was completed"] {
        ensure!(ended.stdout.contains(wanted), "gnutls-cli did not say {wanted:?}\n{}\n{}", ended.stdout, ended.stderr);
    }
    world.server_saw(&device, offer.iana)
}
