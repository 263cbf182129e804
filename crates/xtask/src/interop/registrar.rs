//! `muster serve` as a Registrar for the devices of a world, in front of upstream CAs that have the world's issuing CA.

use std::path::PathBuf;

use anyhow::Result;

use super::openssl;
use super::server::{InteropServer, ServePlan};
use super::world::InteropWorld;

/// The name in a Registrar's certificate.
pub(super) const REGISTRAR_NAME: &str = "ra.example.net";
/// clientAuth and id-kp-cmcRA (RFC 6402 §2.10), which OpenSSL has no name for.
const EXTENSIONS: &str = "subjectAltName=DNS:ra.example.net\nextendedKeyUsage=clientAuth,1.3.6.1.5.5.7.3.28\n\
                          keyUsage=critical,digitalSignature\n";

/// The folder of a Registrar: its configuration, its certificate, and the CA of that.
pub(super) struct RegistrarFolder {
    pub(super) folder: PathBuf,
}

impl RegistrarFolder {
    pub(super) fn new(world: &InteropWorld, story: &str) -> Result<Self> {
        let folder = world.folder.join(story);
        std::fs::create_dir_all(&folder)?;
        let authority = openssl::authority(&folder.join("ca"), "/CN=CA of Registrars")?;
        openssl::key(&folder.join("registrar.key"))?;
        openssl::certificate(&folder.join("registrar"), "/CN=Registrar", &authority, EXTENSIONS)?;
        Ok(Self { folder })
    }

    /// The CA that its upstreams have to know.
    pub(super) fn authority(&self) -> PathBuf {
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
        let config = self.folder.join("muster.toml");
        let pki = world.folder.join("pki");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{pki}/server.pem\"\nkey = \"file:{pki}/server.key\"\n\
             [authority]\nkind = \"registrar\"\nupstreams = {upstreams:?}\ntrust = [\"{pki}/ca/root.pem\"]\n\
             certificate = \"registrar.pem\"\nkey = \"file:registrar.key\"\ntimeout = \"{timeout}\"\n\
             [[profile]]\nname = \"site\"\nlabels = [\"\"]\nissuers = [\"{pki}/ca/issuing.pem\"]\n\
             manufacturers = [\"{pki}/manufacturer/ca.pem\"]\ndevice_id = \"idevid:subject.serialNumber\"\n\
             server_keys = \"here\"\n",
            pki = pki.display()
        );
        std::fs::write(&config, text)?;
        InteropServer::start_with(world, ServePlan::new(story, config))
    }
}
