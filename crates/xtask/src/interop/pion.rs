//! Pion 2.2, DTLS in Go: as a device and as a server, with its handshake messages split into small fragments.

use anyhow::Result;

use super::built::{Library, Offer};
use super::world::{CCM8, InteropWorld, MTU, SuiteNames};
use crate::process::Program;
use crate::tree;

const PION: Library = Library {
    name: "pion",
    build: |program| {
        // Debian's Go libraries are in a separate GOPATH, from the time before Go's modules.
        let build = Program::line("go build -o").arg(program).arg("main.go");
        let build = build.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "");
        Ok(build
            .env("GOCACHE", tree::target().join("peers/go"))
            .directory(&tree::root().join("crates/xtask/peers/pion")))
    },
    cuts_to: Some(200),
    associated: |peer| format!("CN={peer}"),
};

const CCM: SuiteNames = SuiteNames {
    openssl: "ECDHE-ECDSA-AES128-CCM",
    gnutls: "AES-128-CCM",
    mbedtls: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM",
    iana: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    code: "0xc0ac",
};

const OFFER: Offer = Offer { suite: &CCM8, theirs: "CCM_8", ours: "ccm8", settings: &[], mtu: MTU };
const CCM_OFFER: Offer = Offer {
    suite: &CCM,
    theirs: "CCM",
    ours: "ccm",
    settings: &[("MUSTER_DTLS__SUITES", "ECDHE_ECDSA_AES_128_CCM")],
    mtu: MTU,
};

pub(super) fn ccm8(world: &InteropWorld) -> Result<String> {
    PION.is_served(world, &OFFER)
}

pub(super) fn ccm(world: &InteropWorld) -> Result<String> {
    PION.is_served(world, &CCM_OFFER)
}

pub(super) fn serves_ccm8(world: &InteropWorld) -> Result<String> {
    PION.serves(world, &OFFER)
}

pub(super) fn serves_ccm(world: &InteropWorld) -> Result<String> {
    PION.serves(world, &CCM_OFFER)
}

pub(super) fn on_a_bad_link(world: &InteropWorld) -> Result<String> {
    PION.is_served_on_a_bad_link(world, &OFFER)
}

pub(super) fn serves_on_a_bad_link(world: &InteropWorld) -> Result<String> {
    PION.serves_on_a_bad_link(world, &OFFER)
}
