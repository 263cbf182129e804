//! The server that is loaded, and the devices that load it: flags that a run and a search for the capacity share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use loadgen::{
    FleetFunction, FleetFunctions, FunctionMix, LoadedServer, Patience, RegistrarIdentity, ScenarioPlayer,
    SmallReceiveBuffer,
};
use pki::ServerName;

use super::folder::Folder;
use crate::arguments::{BlockBytes, PathSegments, ServerUri, SuiteName, path, time_limit};
use crate::outcome::{CommandFault, CommandResult, say};
use crate::pem;

/// The server, and what its devices do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The server, and the label of a profile if it has several; required, or --https instead
    #[arg(long, value_name = "coaps://HOST:PORT[/LABEL]")]
    pub(super) server: Option<ServerUri>,

    /// Required: a folder from `muster init`. Its manufacturer/ca.pem and manufacturer/ca.key create the devices, ca/root.pem is their trust anchor. The server has to trust this manufacturer
    #[arg(long, value_name = "DIR")]
    pub(super) pki: Option<PathBuf>,

    /// The trust anchor of the devices, for a server with another CA than that of --pki [default: ca/root.pem there]
    #[arg(long, value_name = "FILE")]
    pub(super) trust: Option<PathBuf>,

    /// The name that the server's certificate must contain [default: the host of --server]
    #[arg(long, value_name = "NAME")]
    pub(super) expect_name: Option<String>,

    /// Play a Registrar towards this EST service over HTTPS, instead of devices
    #[arg(long, value_name = "https://HOST:PORT/PATH", conflicts_with_all = ["server", "expect_name", "path", "link", "no_crts", "block", "suite"], requires_all = ["cert", "key"], value_parser = https)]
    pub(super) https: Option<String>,

    /// The Registrar's certificate, with id-kp-cmcRA (PEM or DER, chain allowed, its own first)
    #[arg(long, value_name = "FILE", requires = "https")]
    pub(super) cert: Option<PathBuf>,

    /// The Registrar's private key
    #[arg(long, value_name = "FILE", requires = "https")]
    pub(super) key: Option<PathBuf>,

    /// The path above label and function, for a server with another root: `est` makes coaps://HOST/est/sen
    #[arg(long, value_name = "PATH", default_value = ".well-known/est", value_parser = path)]
    pub(super) path: PathSegments,

    /// Do not ask for /crts before a request, for a server without it
    #[arg(long)]
    pub(super) no_crts: bool,

    /// Link each request to its session: tls-unique in challengePassword, which some profiles require
    #[arg(long)]
    pub(super) link: bool,

    /// What each device does: crts, att, sen, sren, skg, skc or ren, or shares of them, such as sen=70%,skg=30%
    #[arg(long, value_name = "MIX", default_value = "sen")]
    pub(super) function: FunctionMix,

    /// Share of devices that come back over a new session, with the certificate that they got, and renew it, such as 30%; the seed decides which
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = loadgen::per_mille)]
    pub(super) renewals: u16,

    /// Bytes per block, in both directions: 16, 32, 64, 128, 256, 512, 1024
    #[arg(long, value_name = "BYTES", default_value = "512")]
    pub(super) block: BlockBytes,

    /// Cipher suite offered by the devices
    #[arg(long, value_enum, default_value_t = SuiteName::Ccm8)]
    pub(super) suite: SuiteName,

    /// Seed for the fleet's names and keys, and for when each device starts; a server that keeps a ledger on disk knows the devices of a seed that was played
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,

    /// A device that is not done gives up this long after its scheduled start
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time_limit)]
    pub(super) timeout: Duration,

    /// Threads that play the fleet
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads)]
    pub(super) threads: NonZeroUsize,

    /// Keep identities in this folder, and take them from there: a fleet of a million devices is made once
    #[arg(long, value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
}

/// A URL of an EST service; the label, if there is one, is its last segment.
fn https(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").filter(|rest| rest.contains('/') && !rest.starts_with('/'));
    rest.filter(|rest| !rest.contains(['?', '#', ' ']))
        .map(|_| text.trim_end_matches('/').to_owned())
        .ok_or_else(|| format!("`{text}` is not an EST service: write https://HOST:PORT/.well-known/est"))
}

/// More threads than this share no machine that we know of.
const THREADS_MAX: usize = 256;

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse::<NonZeroUsize>().ok().filter(|count| count.get() <= THREADS_MAX);
    count.ok_or_else(|| format!("`{text}` is not a number of threads: 1 to {THREADS_MAX}"))
}

impl Target {
    /// The URI of the server.
    pub(super) fn uri(&self) -> CommandResult<&ServerUri> {
        self.server.as_ref().ok_or_else(|| {
            CommandFault::usage("--server is missing").remedy("name it, as in --server coaps://127.0.0.1:5684")
        })
    }

    /// The folder of the manufacturer.
    pub(super) fn folder(&self) -> CommandResult<Folder> {
        let dir = self.pki.as_ref().ok_or_else(|| {
            CommandFault::usage("--pki is missing")
                .remedy("name a folder from `muster init`: its manufacturer makes the devices")
        })?;
        match &self.trust {
            None => Folder::read(dir),
            Some(anchor) => Folder::trusting(dir, anchor),
        }
    }

    /// The server as the devices see it.
    pub(super) fn resolve(&self, folder: &Folder) -> CommandResult<LoadedServer> {
        if let Some(url) = &self.https {
            // Name and address are resolved by the HTTP client.
            let nowhere = std::net::SocketAddr::from(([0; 4], 0));
            return Ok(LoadedServer::new(nowhere, ServerName::from(nowhere.ip()), url.clone(), folder.anchors()));
        }
        let uri = self.uri()?;
        let name = match &self.expect_name {
            None => uri.name()?,
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| CommandFault::usage(format!("`{name}` is neither a DNS name nor an address")))?,
        };
        Ok(LoadedServer {
            root: self.path.0.clone(),
            linked_requests: self.link,
            without_ca_certificates: self.no_crts,
            ..LoadedServer::new(uri.resolve()?, name, uri.to_string(), folder.anchors())
        })
    }

    /// The label that the URI selects.
    pub(super) fn label(&self) -> Option<String> {
        self.server.as_ref().and_then(|uri| uri.label.clone())
    }

    /// Who sends the requests.
    pub(super) fn player(&self) -> ScenarioPlayer {
        if self.https.is_some() { ScenarioPlayer::Registrar } else { ScenarioPlayer::Devices }
    }

    /// The Registrar to play, if one is asked for.
    pub(super) fn registrar(&self) -> CommandResult<Option<RegistrarIdentity>> {
        let (Some(certificate), Some(key)) = (&self.cert, &self.key) else { return Ok(None) };
        let certificate = pem::read_list(certificate)?;
        let key = pem::read_private_key(key)?;
        Ok(Some(RegistrarIdentity { certificate, key: key.pkcs8().to_vec().into() }))
    }

    /// What the devices do.
    pub(super) fn functions(&self) -> CommandResult<FleetFunctions> {
        if self.renewals > 0
            && let Some(why) = self.function.without_renewals()
        {
            let message = format!("--renewals has no effect with --function {}: {why}", self.function);
            return Err(CommandFault::usage(message).remedy("leave --renewals out, or use --function sen, skg or skc"));
        }
        if self.player() == ScenarioPlayer::Registrar && self.function.share(FleetFunction::RenewalInfo) > 0 {
            return Err(CommandFault::usage("--function ren is a resource of CoAP: a Registrar cannot ask for it")
                .remedy("leave ren out, or play the devices: --server instead of --https"));
        }
        Ok(FleetFunctions { mix: self.function, renewals_per_mille: self.renewals })
    }

    /// Refuses flags about requests for a certificate where no device makes one.
    pub(super) fn require_requests(&self, enrols: bool) -> CommandResult {
        let flags = [("--link", self.link), ("--no-crts", self.no_crts)];
        match flags.into_iter().find(|(_, given)| *given && !enrols) {
            None => Ok(()),
            Some((flag, _)) => {
                let message = format!("{flag} has no effect: no device asks for a certificate");
                Err(CommandFault::usage(message).remedy("leave it out, or let devices enrol: --function sen"))
            }
        }
    }

    /// How patient they are.
    pub(super) fn patience(&self) -> Patience {
        Patience { timeout: self.timeout, ..Patience::default() }
    }
}

/// Says before the run that answers may be lost, as `serve` does of requests.
pub(super) fn tell_of_buffers(server: &LoadedServer, registrar: Option<&RegistrarIdentity>) {
    // TCP loses nothing.
    let small = if registrar.is_some() { None } else { SmallReceiveBuffer::towards(server.address) };
    if let Some(small) = small {
        say!("{small}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_threads() {
        assert_eq!(path("est").unwrap().0, ["est"]);
        assert_eq!(path("/.well-known/est/").unwrap().0, [".well-known", "est"]);
        for wrong in ["", "/", "a//b", "a?b", "a#b"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
        assert_eq!(threads("4").unwrap().get(), 4);
        for wrong in ["0", "257", "-1", "two"] {
            assert!(threads(wrong).unwrap_err().contains("256"), "{wrong}");
        }
    }
}
