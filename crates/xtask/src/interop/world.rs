//! What the stories share: a fresh PKI by `muster init`, a server on it, and devices of its manufacturer whose certificates OpenSSL makes.

use super::openssl;
use crate::process::{Daemon, Program};
use crate::tree;
use anyhow::{Context, Result, bail};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the server's log line about a peer may come after the peer has its answer.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct World {
    pub(super) muster: PathBuf,
    pub(super) folder: PathBuf,
    server: RefCell<Daemon>,
    pub(super) port: u16,
}

/// A device from the factory: its name, and the files of its identity.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

impl World {
    pub(super) fn new(muster: PathBuf) -> Result<Self> {
        let folder = tree::scratch("interop")?;
        Program::new(&muster).arg("init").arg(folder.join("pki")).timeout(Duration::from_secs(20)).expect_success()?;
        let (server, port) = serve(&muster, &folder, "serve.log", &[])?;
        Ok(Self { muster, folder, server: RefCell::new(server), port })
    }

    /// SIGTERM: the server must drain and exit 0, and must not have panicked on the way.
    pub(super) fn close(self) -> Result<()> {
        let (status, words) = self.server.into_inner().stop()?;
        if !status.success() || words.contains("panicked") {
            bail!("muster serve ended badly after SIGTERM ({status}):\n{words}");
        }
        Ok(())
    }

    pub(super) fn pki(&self, file: &str) -> PathBuf {
        self.folder.join("pki").join(file)
    }

    /// A server of its own, for a story that needs flags.
    pub(super) fn another_server(&self, log: &str, flags: &[&str]) -> Result<(Daemon, u16)> {
        serve(&self.muster, &self.folder, log, flags)
    }

    /// A device with an IDevID of this world's manufacturer, made by OpenSSL.
    pub(super) fn device(&self, name: &str) -> Result<Device> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let device = Device { name: name.to_owned(), folder };
        openssl::key(&device.file("idevid.key"))?;
        let extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n";
        let issuer =
            openssl::Parent { certificate: self.pki("manufacturer/ca.pem"), key: self.pki("manufacturer/ca.key") };
        openssl::certificate(&device.file("idevid"), &device.subject(), &issuer, extensions)?;
        Ok(device)
    }

    /// The server must say, in one line of its log, that it has an association with this device over this suite: what it saw in the certificate.
    pub(super) fn server_saw(&self, device: &Device, suite: &str) -> Result<()> {
        let line = self.server.borrow_mut().wait_for_line(&[&device.serial_number(), suite], LOG_TIMEOUT);
        line.map(|_| ()).with_context(|| format!("the server did not report {} over {suite}", device.name))
    }

    /// The server must give this reason.
    pub(super) fn server_refused(&self, reason: &str) -> Result<()> {
        self.server.borrow_mut().wait_for_line(&[reason], LOG_TIMEOUT).map(|_| ())
    }
}

impl Device {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the profile's rule `idevid:subject.serialNumber` makes of it.
    pub(super) fn serial_number(&self) -> String {
        format!("SN-{}", self.name)
    }

    pub(super) fn subject(&self) -> String {
        format!("/CN={}/serialNumber={}", self.name, self.serial_number())
    }
}

fn serve(muster: &Path, folder: &Path, log: &str, flags: &[&str]) -> Result<(Daemon, u16)> {
    let serve = Program::new(muster).arg("serve").arg("--config").arg(folder.join("pki/muster.toml"));
    let serve = serve.args(["--listen", "127.0.0.1:0"]).args(flags);
    let serve = serve.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").env("MUSTER_LOG", "debug");
    // libcoap's clients offer both suites: the mandatory one is to be chosen here. The stories on GCM offer nothing else.
    let serve = serve.env("MUSTER_DTLS__SUITES", "ECDHE_ECDSA_AES_128_CCM_8,ECDHE_ECDSA_AES_128_GCM_SHA256");
    let (daemon, line) = serve.daemon("listening on coaps://", &folder.join(log))?;
    let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
    Ok((daemon, port.with_context(|| format!("no port in {line:?}"))?))
}
