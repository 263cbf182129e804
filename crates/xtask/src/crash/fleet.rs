//! The devices: `muster load`, first while the server is killed again and again, then while it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Daemon, MEASURED_THE_GENERATOR, Program};

/// Devices that start in a second: a server on one slow core enrols more.
const DEVICES_PER_SECOND: u32 = 150;
/// A kill takes less than this, with the start before it, so that devices remain until the last one.
const SECONDS_PER_KILL: u32 = 3;
/// A device whose server was killed gives up after this time: its session is gone, and it would wait for minutes.
const PATIENCE: &str = "3s";
/// Devices that may have started after the ledger was read.
const STARTED_SINCE: usize = 200;
const END_TIMEOUT: Duration = Duration::from_secs(60);
const ASK_TIMEOUT: Duration = Duration::from_secs(600);

/// Certificates by the name of their device.
pub(super) type Received = BTreeMap<String, Vec<u8>>;

/// A fleet of one seed.
pub(super) struct Fleet {
    muster: PathBuf,
    folder: PathBuf,
    uri: String,
    seed: u64,
    /// Devices that start in a second.
    rate: u32,
}

impl Fleet {
    pub(super) fn new(muster: PathBuf, folder: PathBuf, address: &str, seed: u64) -> Self {
        Self { muster, folder, uri: format!("coaps://{address}"), seed, rate: DEVICES_PER_SECOND }
    }

    /// The same, so many devices a second.
    pub(super) fn at_a_rate_of(self, rate: u32) -> Self {
        Self { rate, ..self }
    }

    fn load(&self, devices: usize, received: &str) -> Program {
        let load = Program::bound_to_us(&self.muster).args(["load", "--server", &self.uri, "--pki"]);
        let load = load.arg(self.folder.join("pki")).args(["--seed", &self.seed.to_string()]);
        load.args(["--devices", &devices.to_string(), "--certificates"]).arg(self.received(received))
    }

    fn received(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{:x}-{name}", self.seed))
    }

    /// Starts devices at a steady rate, for this many kills.
    pub(super) fn start(&self, kills: u32) -> Result<Daemon> {
        let devices = usize::try_from(self.rate * SECONDS_PER_KILL * (kills + 5))?;
        let load = self.load(devices, "first").args(["--rate", &self.rate.to_string()]);
        load.args(["--timeout", PATIENCE]).spawn(&self.folder.join("load.log"))
    }

    /// Ends the load; what its devices received.
    pub(super) fn stop(&self, load: &mut Daemon) -> Result<Received> {
        let status = load.interrupt(END_TIMEOUT)?;
        // 130: interrupted. It was not over before, or the last kills came without load.
        ensure!(status.code() == Some(130), "the load ended before the last kill ({status}):\n{}", load.words());
        certificates(&self.received("first"))
    }

    /// The devices up to this one, and some after it, ask again: each gets a certificate.
    pub(super) fn ask_again(&self, last: Option<&String>) -> Result<Received> {
        let devices = index(last) + 1 + STARTED_SINCE;
        let load = self.load(devices, "second").args(["--concurrency", "32"]);
        // How fast the fleet asked does not matter.
        let ended = load.timeout(ASK_TIMEOUT).expect_status(&[0, MEASURED_THE_GENERATOR]);
        let ended = ended.context("devices that ask again got no certificate")?;
        let received = certificates(&self.received("second"))?;
        ensure!(received.len() == devices, "{} of {devices} devices got one:\n{}", received.len(), ended.words());
        Ok(received)
    }

    /// The devices up to this one ask again; some give up, because what was sent for them has no known end.
    pub(super) fn ask_again_impatiently(&self, last: Option<&String>) -> Result<Received> {
        let load = self.load(index(last) + 1, "second").args(["--concurrency", "64", "--timeout", PATIENCE]);
        load.timeout(ASK_TIMEOUT).output()?;
        let received = certificates(&self.received("second"))?;
        ensure!(!received.is_empty(), "no device that asked again got a certificate");
        Ok(received)
    }
}

/// The index of a device in its fleet, which its name ends with.
fn index(device: Option<&String>) -> usize {
    device.and_then(|name| name.rsplit_once('-')?.1.parse().ok()).unwrap_or_default()
}

/// The certificates of a folder that `muster load` has written, by device.
fn certificates(folder: &Path) -> Result<Received> {
    let mut received = Received::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "pem") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            received.insert(name, der(&text).with_context(|| format!("{} is not PEM", path.display()))?);
        }
    }
    Ok(received)
}

/// The bytes of the first PEM block.
fn der(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    for digit in lines.take_while(|line| !line.starts_with("-----END")).flat_map(str::bytes) {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' | b'\r' => continue,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_decoded() {
        let text = "comment\n-----BEGIN CERTIFICATE-----\nTXVz\ndGVyIQ==\n-----END CERTIFICATE-----\n";
        assert_eq!(der(text).unwrap(), b"Muster!");
        assert_eq!(der("-----BEGIN X-----\n*\n-----END X-----\n"), None);
    }
}
