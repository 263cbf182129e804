//! wolfSSL 5.5, a stack of many small devices: as a device and as a server. This version has no setting for the path MTU.

use anyhow::Result;

use super::built::{Library, Offer};
use super::world::{CCM8, GCM, InteropWorld, MTU};
use crate::process::Program;
use crate::tree;

const WOLFSSL: Library = Library {
    name: "wolfssl",
    build: |program| {
        let source = tree::root().join("crates/xtask/peers/wolfssl.c");
        Ok(Program::line("cc -O1 -Wall -Wextra -o").arg(program).arg(source).arg("-lwolfssl"))
    },
    cuts_to: None,
    associated: |peer| format!("with /CN={peer}"),
};

const OFFER: Offer = Offer { suite: &CCM8, theirs: "ECDHE-ECDSA-AES128-CCM-8", ours: "ccm8", settings: &[], mtu: MTU };

const OFFER_GCM: Offer = Offer { suite: &GCM, theirs: "ECDHE-ECDSA-AES128-GCM-SHA256", ours: "gcm", ..OFFER };

pub(super) fn ccm8(world: &InteropWorld) -> Result<String> {
    WOLFSSL.is_served(world, &OFFER)
}

pub(super) fn gcm(world: &InteropWorld) -> Result<String> {
    WOLFSSL.is_served(world, &OFFER_GCM)
}

pub(super) fn serves(world: &InteropWorld) -> Result<String> {
    WOLFSSL.serves(world, &OFFER)
}

pub(super) fn serves_gcm(world: &InteropWorld) -> Result<String> {
    WOLFSSL.serves(world, &OFFER_GCM)
}

pub(super) fn on_a_bad_link(world: &InteropWorld) -> Result<String> {
    WOLFSSL.is_served_on_a_bad_link(world, &OFFER)
}

pub(super) fn serves_on_a_bad_link(world: &InteropWorld) -> Result<String> {
    WOLFSSL.serves_on_a_bad_link(world, &OFFER)
}
