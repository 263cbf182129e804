//! The stories' shared setup: a fresh PKI by `muster init`, and devices of its manufacturer whose certificates OpenSSL
//! makes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::openssl;
use super::run::StoryRun;
use crate::process::Program;
use crate::tree;

pub(crate) struct InteropWorld {
    pub(super) muster: PathBuf,
    pub(super) folder: PathBuf,
}

/// A device from the factory: its name, and the files of its identity.
pub(super) struct InteropDevice {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

/// The names of a suite on each side.
pub(super) struct SuiteNames {
    pub(super) openssl: &'static str,
    pub(super) gnutls: &'static str,
    pub(super) mbedtls: &'static str,
    pub(super) iana: &'static str,
    /// The value that tshark prints.
    pub(super) code: &'static str,
}

pub(super) const CCM8: SuiteNames = SuiteNames {
    openssl: "ECDHE-ECDSA-AES128-CCM8",
    gnutls: "AES-128-CCM-8",
    mbedtls: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
    iana: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
    code: "0xc0ae",
};
pub(super) const GCM: SuiteNames = SuiteNames {
    openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
    gnutls: "AES-128-GCM",
    mbedtls: "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    code: "0xc02b",
};
/// The server's largest datagram by default (`[dtls] mtu`).
pub(super) const MTU: usize = 1_232;
/// The smallest path MTU, and the setting that makes the server use it from the start.
pub(super) const SMALL_MTU: usize = 256;
pub(super) const SMALL_PATH: &[(&str, &str)] = &[("MUSTER_DTLS__MTU", "256")];

impl InteropWorld {
    pub(super) fn new(muster: PathBuf) -> Result<Self> {
        let folder = tree::scratch("interop")?;
        Program::new(&muster).arg("init").arg(folder.join("pki")).timeout(Duration::from_secs(20)).expect_success()?;
        Ok(Self { muster, folder })
    }

    pub(super) fn pki(&self, file: &str) -> PathBuf {
        self.folder.join("pki").join(file)
    }

    /// A Python client (`crates/xtask/peers`) that acts as this device against this server.
    pub(super) fn python(
        &self,
        client: &str,
        device: &InteropDevice,
        server: SocketAddr,
        suite: &str,
    ) -> Result<Program> {
        let python = tree::python();
        ensure!(python.is_file(), "the Python of the peers is not installed: cargo xtask setup");
        let program = Program::new(python).arg("-B").arg(tree::root().join("crates/xtask/peers").join(client));
        let program = program.args(["--name", "localhost", "--suite", suite]);
        let program = program.arg("--host").arg(server.ip().to_string()).arg("--port").arg(server.port().to_string());
        let program = program.arg("--cert").arg(device.certificate()).arg("--key").arg(device.key());
        Ok(program.arg("--trust").arg(self.pki("ca/root.pem")))
    }

    /// Makes a device with an IDevID of this world's manufacturer, with OpenSSL.
    pub(super) fn device(&self, name: &str) -> Result<InteropDevice> {
        self.device_with(name, "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n")
    }

    /// The same with other extensions.
    pub(super) fn device_with(&self, name: &str, extensions: &str) -> Result<InteropDevice> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let device = InteropDevice { name: name.to_owned(), folder };
        openssl::key(&device.file("idevid.key"))?;
        let issuer =
            openssl::IssuerFiles { certificate: self.pki("manufacturer/ca.pem"), key: self.pki("manufacturer/ca.key") };
        openssl::certificate(&device.file("idevid"), &device.subject(), &issuer, extensions)?;
        Ok(device)
    }
}

impl InteropDevice {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.file("idevid.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.file("idevid.key")
    }

    /// The identity that the profile's rule `idevid:subject.serialNumber` derives: identities are in lower case.
    pub(super) fn serial_number(&self) -> String {
        format!("sn-{}", self.name)
    }

    pub(super) fn subject(&self) -> String {
        format!("/CN={}/serialNumber={}", self.name, self.serial_number())
    }

    /// The file for a program's output in one run.
    pub(super) fn log(&self, run: StoryRun) -> PathBuf {
        self.file(&format!("run-{}.log", run.number))
    }
}
