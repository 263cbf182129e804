//! `muster serve` as a Registrar for the devices of a world, in front of upstream CAs that have the world's issuing CA.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::openssl;
use super::server::{InteropServer, ServePlan};
use super::world::InteropWorld;
use crate::process::Program;

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

/// The line of the configuration behind which a profile lists its Registrars.
const SERVER_KEYS: &str = "server_keys = true\n";

/// The configuration of `muster init` in this folder, whose profile lists the Registrar of this CA and which serves HTTPS, as `upstream.toml`.
pub(crate) fn upstream_configuration(pki: &Path, authority: &Path, https: &str) -> Result<PathBuf> {
    let (listed, front) = as_upstream(authority, https);
    changed_configuration(pki, "upstream.toml", &[(SERVER_KEYS, &listed)], &front)
}

/// What makes a configuration that of a Registrar's upstream: what follows in the profile, and further sections.
fn as_upstream(authority: &Path, https: &str) -> (String, String) {
    let front = format!(
        "\n[https]\nlisten = {https:?}\n\n[registrar.site]\ntrust = [\"{}\"]\nname = \"{REGISTRAR_NAME}\"\n",
        authority.display()
    );
    (format!("{SERVER_KEYS}registrars = [\"site\"]\n"), front)
}

/// The configuration of `muster init` in this folder with other lines and with `more`, as the file `name`.
pub(super) fn changed_configuration(pki: &Path, name: &str, changes: &[(&str, &str)], more: &str) -> Result<PathBuf> {
    let mut text = std::fs::read_to_string(pki.join("muster.toml"))?;
    for (from, to) in changes {
        ensure!(text.contains(from), "the configuration of `muster init` has no `{}`", from.trim());
        text = text.replace(from, to);
    }
    let config = pki.join(name);
    std::fs::write(&config, text + more)?;
    Ok(config)
}

/// A Registrar in front of our HTTPS front, which has the CA.
pub(super) struct RegistrarPair {
    pub(super) registrar: InteropServer,
    pub(super) upstream: InteropServer,
}

impl RegistrarPair {
    /// `keys` says who makes the keys of devices: `here` or `upstream`. `changes` are to the upstream's configuration.
    pub(super) fn start(world: &InteropWorld, story: &str, keys: &str, changes: &[(&str, &str)]) -> Result<Self> {
        let (folder, pki) = (RegistrarFolder::new(world, story)?, world.folder.join("pki"));
        let (listed, front) = as_upstream(&folder.authority(), "127.0.0.1:0");
        let changes: Vec<(&str, &str)> = changes.iter().copied().chain([(SERVER_KEYS, &*listed)]).collect();
        let config = changed_configuration(&pki, &format!("{story}-upstream.toml"), &changes, &front)?;
        let upstream = InteropServer::start_with(world, ServePlan::new(&format!("{story}-upstream"), config))?;
        let url = format!("https://{}/.well-known/est", upstream.https()?);
        let config = folder.configure(&pki, "127.0.0.1:0", &[url], "10s", "")?;
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, text.replace("server_keys = \"here\"", &format!("server_keys = {keys:?}")))?;
        let registrar = InteropServer::start_with(world, ServePlan::new(&format!("{story}-registrar"), config))?;
        Ok(Self { registrar, upstream })
    }

    /// Both ledgers verify themselves, and every certificate of the CA is in that of the Registrar, and no other one; returns their number.
    pub(super) fn the_ledgers_agree(&self, world: &InteropWorld) -> Result<usize> {
        for server in [&self.registrar, &self.upstream] {
            server.operator(world, "ledger verify").expect_success()?;
        }
        let serials = |command: Program, kind: &str| -> Result<BTreeSet<String>> {
            let of_kind = lines(command)?.into_iter().filter(|line| line["type"] == kind);
            Ok(of_kind.map(|line| line["serial"].to_string()).collect())
        };
        let issued = serials(self.upstream.operator(world, "ledger export"), "ledger.issued")?;
        let relayed = serials(self.registrar.operator(world, "ledger export --relayed"), "relay.certificate")?;
        ensure!(issued == relayed, "the CA has issued {issued:?}, and the Registrar relayed {relayed:?}");
        Ok(issued.len())
    }

    /// Both drain and end well.
    pub(super) fn stop(self) -> Result<()> {
        self.registrar.stop()?;
        self.upstream.stop()?;
        Ok(())
    }
}

/// The lines of JSON that a command prints.
pub(super) fn lines(command: Program) -> Result<Vec<Value>> {
    let text = command.expect_success()?.stdout;
    text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("lines of JSON")
}
