//! A fleet that we did not write the protocol of: `crates/xtask/peers/openssl_fleet.py`, one process on OpenSSL through pyOpenSSL.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Program;
use crate::tree;

/// Which devices enrol, and where.
pub(crate) struct OpenSslFleet<'a> {
    /// The folder that `muster init` made.
    pub(crate) pki: &'a Path,
    pub(crate) server: SocketAddr,
    /// As OpenSSL names it.
    pub(crate) suite: &'a str,
    /// The start of the devices' names: no two fleets that one ledger sees have the same.
    pub(crate) prefix: &'a str,
    pub(crate) devices: u32,
    /// How many enrol at the same time.
    pub(crate) at_once: u32,
    pub(crate) block: u16,
}

impl OpenSslFleet<'_> {
    /// Plays it by `python`, which may be pinned to a core and have a deadline; the report has the names of that of `muster load`.
    pub(crate) fn play(&self, python: Program, report: &Path) -> Result<Value> {
        ensure!(tree::python().is_file(), "the Python of the peers is not installed: cargo xtask setup");
        let script = tree::root().join("crates/xtask/peers/openssl_fleet.py");
        let client = python.arg("-B").arg(script).args(["--name", "localhost", "--suite", self.suite]);
        let client = client.arg("--host").arg(self.server.ip().to_string());
        let client = client.arg("--port").arg(self.server.port().to_string());
        let client = client.arg("--trust").arg(self.pki.join("ca/root.pem"));
        let client = client.arg("--issuer").arg(self.pki.join("manufacturer")).args(["--prefix", self.prefix]);
        let client = client.arg("--devices").arg(self.devices.to_string());
        let client = client.arg("--at-once").arg(self.at_once.to_string());
        let client = client.arg("--block").arg(self.block.to_string()).arg("--report").arg(report);
        client.expect_success()?;
        let text = std::fs::read_to_string(report).with_context(|| format!("no {}", report.display()))?;
        serde_json::from_str(&text).with_context(|| format!("the fleet on OpenSSL reported {text:?}"))
    }
}
