//! A device whose key the server makes, and a server that crashes between its certificate and the end of the exchange.
//!
//! The key is in no process any more: the next start has to revoke the certificate. A key whose delivery was noted keeps its certificate over a start.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::book::Book;
use crate::process::Program;

/// The steps at which a key is on its way.
pub(super) const STEPS: &[&str] = &["record-durable", "answered", "key-delivered"];

/// Longer than a device waits for its key on loopback.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(20);
/// The ledger notes a delivery within a second, unless the machine is busy.
const NOTED_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// The device.
pub(super) struct KeyDevice {
    muster: PathBuf,
    folder: PathBuf,
    uri: String,
    asked: u32,
}

impl KeyDevice {
    pub(super) fn new(muster: PathBuf, folder: PathBuf, address: &str) -> Self {
        Self { muster, folder, uri: format!("coaps://{address}"), asked: 0 }
    }

    fn program(&mut self) -> Program {
        self.asked += 1;
        let pki = self.folder.join("pki");
        let skg = Program::bound_to_us(&self.muster).args(["skg", "--server", &self.uri, "--timeout", "10s"]);
        let skg = skg.arg("--identity").arg(pki.join("device")).arg("--trust").arg(pki.join("ca/root.pem"));
        skg.arg("--out").arg(self.folder.join(format!("key-{}", self.asked))).timeout(DEVICE_TIMEOUT)
    }

    /// Asks a server that crashes meanwhile: what the device hears of it does not matter.
    pub(super) fn ask(&mut self) -> Result<crate::process::Daemon> {
        let log = self.folder.join(format!("key-{}.log", self.asked + 1));
        self.program().spawn(&log)
    }

    /// Asks a server that goes on, until its ledger has noted the delivery.
    pub(super) fn ask_well(&mut self, book: &Book) -> Result<()> {
        self.program().expect_success().context("a device got no key")?;
        let until = Instant::now() + NOTED_TIMEOUT;
        while !book.has_delivered_the_last()? {
            ensure!(Instant::now() < until, "the delivery of a key was not noted within {NOTED_TIMEOUT:?}");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// The certificate of a killed server whose key was on its way.
pub(super) fn expect_pending(book: &Book, step: &str) -> Result<String> {
    let pending = book.undelivered()?;
    let [number] = &pending[..] else { anyhow::bail!("at {step}, {} certificates wait for their keys", pending.len()) };
    Ok(number.clone())
}

/// After the next start.
pub(super) fn expect_revoked(book: &Book, number: &str, step: &str) -> Result<()> {
    let actor = book.revoked_by(number)?;
    ensure!(
        actor == "muster (key not delivered)",
        "the certificate whose key was lost at {step} is revoked by {actor:?}"
    );
    ensure!(book.undelivered()?.is_empty(), "after {step}, a certificate still waits for its key");
    Ok(())
}
