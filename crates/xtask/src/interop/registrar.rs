//! `muster serve` as a Registrar for the devices of a world, in front of upstream CAs that have the world's issuing CA.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::openssl;
use super::server::{InteropServer, ServePlan};
use super::world::InteropWorld;

/// The name in a Registrar's certificate.
pub(super) const REGISTRAR_NAME: &str = "ra.example.net";
/// clientAuth and id-kp-cmcRA (RFC 6402 §2.10), which OpenSSL has no name for.
const EXTENSIONS: &str = "subjectAltName=DNS:ra.example.net\nextendedKeyUsage=clientAuth,1.3.6.1.5.5.7.3.28\n\
                          keyUsage=critical,digitalSignature\n";

/// The folder of a Registrar: its configuration, its certificate, and the CA of that.
pub(crate) struct RegistrarFolder {
    pub(crate) folder: PathBuf,
}

impl RegistrarFolder {
    pub(super) fn new(world: &InteropWorld, story: &str) -> Result<Self> {
        Self::in_folder(&world.folder, story)
    }

    /// The same below this folder.
    pub(crate) fn in_folder(parent: &Path, name: &str) -> Result<Self> {
        let folder = parent.join(name);
        std::fs::create_dir_all(&folder)?;
        let authority = openssl::authority(&folder.join("ca"), "/CN=CA of Registrars")?;
        openssl::key(&folder.join("registrar.key"))?;
        openssl::certificate(&folder.join("registrar"), "/CN=Registrar", &authority, EXTENSIONS)?;
        Ok(Self { folder })
    }

    /// The CA that its upstreams have to know.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Starts it with these upstreams, which have the world's server certificate. `timeout` is how long it waits for an answer.
    pub(super) fn serve(
        &self,
        world: &InteropWorld,
        story: &str,
        upstreams: &[String],
        timeout: &str,
    ) -> Result<InteropServer> {
        let config = self.configure(&world.folder.join("pki"), "127.0.0.1:0", upstreams, timeout, "")?;
        InteropServer::start_with(world, ServePlan::new(story, config))
    }

    /// Writes its configuration: the server certificate and the manufacturer are those of the folder of `muster init`. `more` is appended.
    pub(crate) fn configure(
        &self,
        pki: &Path,
        listen: &str,
        upstreams: &[String],
        timeout: &str,
        more: &str,
    ) -> Result<PathBuf> {
        let config = self.folder.join("muster.toml");
        let text = format!(
            "[server]\nlisten = [{listen:?}]\ncertificate = \"{pki}/server.pem\"\nkey = \"file:{pki}/server.key\"\n\
             [authority]\nkind = \"registrar\"\nupstreams = {upstreams:?}\ntrust = [\"{pki}/ca/root.pem\"]\n\
             certificate = \"registrar.pem\"\nkey = \"file:registrar.key\"\ntimeout = \"{timeout}\"\n\
             [[profile]]\nname = \"site\"\nlabels = [\"\"]\nissuers = [\"{pki}/ca/issuing.pem\"]\n\
             manufacturers = [\"{pki}/manufacturer/ca.pem\"]\ndevice_id = \"idevid:subject.serialNumber\"\n\
             server_keys = \"here\"\n{more}",
            pki = pki.display()
        );
        std::fs::write(&config, text)?;
        Ok(config)
    }
}

/// The configuration of `muster init` in this folder, whose profile lists the Registrar of this CA and which serves HTTPS, as `upstream.toml`.
pub(crate) fn upstream_configuration(pki: &Path, authority: &Path, https: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(pki.join("muster.toml"))?;
    let listed = text.replace("server_keys = true\n", "server_keys = true\nregistrars = [\"site\"]\n");
    ensure!(listed != text, "the configuration of `muster init` has no `server_keys = true`");
    let front = format!(
        "\n[https]\nlisten = {https:?}\n\n[registrar.site]\ntrust = [\"{}\"]\nname = \"{REGISTRAR_NAME}\"\n",
        authority.display()
    );
    let config = pki.join("upstream.toml");
    std::fs::write(&config, listed + &front)?;
    Ok(config)
}
