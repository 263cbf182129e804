//! The configuration as types: one struct per section of `muster.toml`. Nothing here reads or decides.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use authority::{CaProfileSpec, RelayedKeys, VerifySignatures};
use dtls::{ExtendedMasterSecret, PublicKeySteps, Suite};
use est::discovery::{DirectoryUri, LinkBase, NetworkPrefix};
use pki::issue::crl::CrlUrl;

use super::fault::from_file;
use super::reader::{Effective, Read};
use super::value::SecretUri;
use crate::secret_file::GroupReadable;

/// A configuration with valid values; its files are not checked yet.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[server]`
    pub server: ServerSection,
    /// `[dtls]`
    pub dtls: DtlsSection,
    /// `[est]`
    pub est: EstSection,
    /// `[limits]`
    pub limits: LimitsSection,
    /// `[authority]` of a Registrar; `None` if this server issues.
    pub registrar: Option<UpstreamSection>,
    /// `[ca.NAME]`
    pub cas: Vec<CaSection>,
    /// `[[profile]]`
    pub profiles: Vec<ProfileSection>,
    /// `[ledger]`
    pub ledger: LedgerSection,
    /// `[audit]`
    pub audit: AuditSection,
    /// `[crl]`; if it is absent, no revocation list is written.
    pub crl: Option<CrlSection>,
    /// `[https]`; if it is absent, there is EST over CoAP alone.
    pub https: Option<HttpsSection>,
    /// `[registrar.NAME]`
    pub registrars: Vec<RegistrarSection>,
    /// `[metrics]`; if it is absent, there is no metrics listener.
    pub metrics: Option<MetricsSection>,
    /// `[admin]`; no operator's command reaches the running server where it is absent.
    pub admin: Option<AdminSection>,
    /// `[discovery]`; if it is absent, nobody finds the server but at its address.
    pub discovery: Option<DiscoverySection>,
    /// How to treat an expired server certificate; set by the command line.
    pub expired_server: ExpiredServer,
    /// Every effective value with its origin, in the order of the file's sections.
    pub effective: Vec<Effective>,
}

/// How to treat an expired server certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredServer {
    /// Do not start: devices that check dates would not trust the server.
    #[default]
    Refused,
    /// Warn and start: the operator knows that devices do not check dates, or needs the metrics until the certificate is renewed.
    Served,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerSection {
    /// `listen`: at least one address.
    pub listen: Read<Vec<SocketAddr>>,
    /// `certificate`: PEM, leaf first.
    pub certificate: Read<PathBuf>,
    /// `key`
    pub key: Read<SecretUri>,
    /// `allow_group_readable_keys`: accept secrets that belong to root and are readable by their group.
    pub group_readable: GroupReadable,
    /// `names`: DNS names and addresses that devices use for the server; the certificate must contain them.
    pub names: Read<Vec<String>>,
    /// `trust`: PEM files of CAs that devices trust for the server, in addition to those of `/crts`.
    pub trust: Read<Vec<PathBuf>>,
    /// `idle_timeout`: a session without traffic for this long is closed.
    pub idle_timeout: Duration,
    /// `drain_timeout`: after SIGTERM the process ends within this.
    pub drain_timeout: Duration,
    /// `shards`: 0 is one per core.
    pub shards: u32,
    /// `pool_threads`: threads that validate and sign; 0 is one per core.
    pub pool_threads: u32,
    /// `node`: the first two octets of each serial; no two nodes of one CA share it.
    pub node: u16,
}

/// `[dtls]`
#[derive(Clone, Debug)]
pub struct DtlsSection {
    /// `suites`, in order of preference.
    pub suites: Vec<Suite>,
    /// `extended_master_secret`
    pub extended_master_secret: ExtendedMasterSecret,
    /// `certificate_authorities`: whether CertificateRequest lists the anchors.
    pub certificate_authorities: bool,
    /// `cookie_secret`: shared by the nodes behind one address; if it is absent, each process generates its own.
    pub cookie_secret: Option<Read<SecretUri>>,
    /// `cookie_lifetime`: the cookie key changes after this time.
    pub cookie_lifetime: Duration,
    /// `mtu`: bytes of UDP payload.
    pub mtu: u32,
    /// `handshake_timeout`
    pub handshake_timeout: Duration,
    /// `public_key_steps`: on the shard by default. The hop to the pool costs CPU, and with one shard per core the pool has no idle core to
    /// use.
    pub public_key_steps: PublicKeySteps,
}

/// `[est]`
#[derive(Clone, Debug)]
pub struct EstSection {
    /// `short_root`: a second root beside `.well-known/est`; "" for none.
    pub short_root: Read<String>,
    /// `public`: where devices reach the server, if not where it listens; discovery writes absolute links with it.
    pub public: Option<Read<LinkBase>>,
}

/// `[discovery]`
#[derive(Clone, Debug)]
pub struct DiscoverySection {
    /// `multicast`: groups whose requests for links are answered over plain CoAP; none if it is empty.
    pub multicast: Read<Vec<IpAddr>>,
    /// `interfaces`: where the groups are joined.
    pub interfaces: Read<Vec<String>>,
    /// `port`: of the groups.
    pub port: u16,
    /// `leisure`: an answer comes at a random time within it.
    pub leisure: Duration,
    /// `on_link`: networks of these interfaces, whose hosts may get an answer that is longer than their request.
    pub on_link: Read<Vec<NetworkPrefix>>,
    /// `resource_directory`: where the links are registered; nowhere if it is absent.
    pub resource_directory: Option<Read<DirectoryUri>>,
    /// `endpoint`: the name under which they are registered; the host of `est.public` if it is absent.
    pub endpoint: Option<Read<String>>,
    /// `lifetime`: how long the directory keeps them after it last heard of this server.
    pub lifetime: Duration,
}

/// `[limits]`: of the whole process; shards share them evenly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsSection {
    /// `sessions_max`: 0 means as many as fit into a quarter of the memory that this process may use.
    pub sessions_max: u32,
    /// `half_open_max`: handshakes in progress.
    pub half_open_max: u32,
    /// `enrolments_in_flight_max`: beyond it, 5.03.
    pub enrolments_in_flight_max: u32,
}

/// Who issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityKind {
    /// This server, with the keys of `[ca.NAME]`.
    Ca,
    /// Upstream CAs.
    Registrar,
}

/// `[authority]` of a Registrar
#[derive(Clone, Debug)]
pub struct UpstreamSection {
    /// `upstreams`: URLs of their EST services, the preferred one first.
    pub upstreams: Read<Vec<String>>,
    /// `trust`: PEM files with the anchors of their HTTPS certificates.
    pub trust: Read<Vec<PathBuf>>,
    /// `certificate`: PEM, the Registrar's own, leaf first.
    pub certificate: Read<PathBuf>,
    /// `key`
    pub key: Read<SecretUri>,
    /// `timeout`: of one exchange with an upstream.
    pub timeout: Duration,
    /// `in_flight_max`: requests that wait for upstreams; beyond it, 5.03.
    pub in_flight_max: u32,
    /// `refresh_interval`: how often the answers to `/crts` and `/att` are fetched.
    pub refresh_interval: Duration,
}

/// The keys of `[[profile]]` that only a Registrar has.
#[derive(Clone, Debug)]
pub struct RelaySection {
    /// `issuers`: PEM files of the CAs that issue upstream.
    pub issuers: Read<Vec<PathBuf>>,
    /// `upstream_label`
    pub upstream_label: Option<Read<String>>,
    /// `server_keys`
    pub server_keys: RelayedKeys,
}

/// `[ca.NAME]`
#[derive(Clone, Debug)]
pub struct CaSection {
    /// The name in the section's title.
    pub name: String,
    /// `certificate`: PEM, the issuing certificate first; certificates above it may follow.
    pub certificate: Read<PathBuf>,
    /// `root`: PEM, the certificates above `certificate`, for `/crts`.
    pub root: Option<Read<PathBuf>>,
    /// `rollover`: PEM, for `/crts` while devices change from one root to another: the other root, OldWithNew, NewWithOld.
    pub rollover: Option<Read<PathBuf>>,
    /// `key`
    pub key: Read<SecretUri>,
    /// `verify_signatures`
    pub verify_signatures: VerifySignatures,
    /// `crl_url`, and `crl_shards` if it contains `{shard}`
    pub crl_url: Option<Read<CrlUrl>>,
    /// `ca_issuers_url`
    pub ca_issuers_url: Option<Read<String>>,
    /// `ocsp_url`
    pub ocsp_url: Option<Read<String>>,
}

/// `[[profile]]`
#[derive(Clone, Debug)]
pub struct ProfileSection {
    /// The specification for the authority. It refers to the CA by the name in `ca`, and the manufacturers' certificates have not been read
    /// yet.
    pub spec: CaProfileSpec<Read<String>>,
    /// The keys that only a Registrar has; then no CA is named.
    pub relay: Option<RelaySection>,
    /// Where `name` was written.
    pub name: Read<()>,
    /// Where `labels` were written.
    pub labels: Read<()>,
    /// Where `issue.validity` was written.
    pub validity: Read<()>,
    /// `manufacturers`: PEM files of trust anchors.
    pub manufacturers: Read<Vec<PathBuf>>,
    /// `server_key_encryption_keys`: the file of keys to which private keys can be encrypted.
    pub key_encryption_keys: Option<Read<SecretUri>>,
    /// `registrars`: names of the sections of Registrars that may vouch for devices of the profile.
    pub registrars: Read<Vec<String>>,
    /// `renew_grace`: for how long after the end of its certificate the ledger keeps a row, whatever `muster ledger prune` is asked for.
    pub renew_grace: Duration,
}

/// `[ledger]`
#[derive(Clone, Debug)]
pub struct LedgerSection {
    /// `url`
    pub url: Read<LedgerUrl>,
    /// `rows_max`: certificates kept by `memory:`.
    pub rows_max: u32,
    /// `journal`: the file to which what is issued is also appended; `memory:` has none.
    pub journal: Option<Read<PathBuf>>,
}

/// Where what is issued is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `memory:`: in this process, and lost when it ends.
    Memory,
    /// `sqlite:FILE`: in this file, whose path counts from the configuration file.
    Sqlite(PathBuf),
}

impl Configuration {
    /// The file of the ledger; `None` if it is in memory.
    #[must_use]
    pub fn ledger_file(&self) -> Option<PathBuf> {
        match &self.ledger.url.value {
            LedgerUrl::Memory => None,
            LedgerUrl::Sqlite(file) => Some(from_file(&self.file, file)),
        }
    }

    /// The journal of the ledger; `None` if it has none.
    #[must_use]
    pub fn ledger_journal(&self) -> Option<PathBuf> {
        let journal = self.ledger.journal.as_ref().filter(|_| self.ledger.url.value != LedgerUrl::Memory);
        journal.map(|journal| from_file(&self.file, &journal.value))
    }

    /// The most certificates that the ledger holds; `None` if it has no bound.
    #[must_use]
    pub fn ledger_bound(&self) -> Option<u32> {
        (self.ledger.url.value == LedgerUrl::Memory).then_some(self.ledger.rows_max)
    }
}

/// `[audit]`: of a ledger in a file; one in memory has no audit.
#[derive(Clone, Debug)]
pub struct AuditSection {
    /// `key`: the file of the key that signs checkpoints; beside the ledger if it is absent.
    pub key: Option<Read<PathBuf>>,
    /// `checkpoints`: the file that checkpoints are appended to; beside the ledger if it is absent.
    pub checkpoints: Option<Read<PathBuf>>,
    /// `syslog`
    pub syslog: AuditSyslog,
}

/// Which syslog gets each checkpoint too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSyslog {
    /// None.
    Unused,
    /// That of this machine.
    Local,
    /// The one that reads datagrams from this Unix socket; a relative path counts from the file.
    Socket(PathBuf),
}

/// `[crl]`
#[derive(Clone, Debug)]
pub struct CrlSection {
    /// `folder`: of the files of the lists; a relative one counts from the file.
    pub folder: Read<PathBuf>,
    /// `listen`: serves the lists over HTTP; if it is absent, something else does.
    pub listen: Option<Read<SocketAddr>>,
    /// `validity`: from thisUpdate to nextUpdate.
    pub validity: Duration,
    /// `interval`: revocations that come within it share one list.
    pub interval: Duration,
}

impl Configuration {
    /// The folder of `[crl]`, as a path from the folder that the process runs in.
    #[must_use]
    pub fn crl_folder(&self) -> Option<PathBuf> {
        self.crl.as_ref().map(|crl| from_file(&self.file, &crl.folder.value))
    }
}

/// `[https]`
#[derive(Clone, Debug)]
pub struct HttpsSection {
    /// `listen`
    pub listen: Read<SocketAddr>,
    /// `certificate`, PEM with the leaf first, and `key`; those of `[server]` if they are absent.
    pub identity: Option<(Read<PathBuf>, Read<SecretUri>)>,
}

/// `[registrar.NAME]`
#[derive(Clone, Debug)]
pub struct RegistrarSection {
    /// The name in the section's title.
    pub name: String,
    /// `trust`: PEM files of the CAs that its certificate may chain to.
    pub trust: Read<Vec<PathBuf>>,
    /// `name`: the DNS name or address that is in its certificate.
    pub certified_as: Read<String>,
}

/// `[metrics]`
#[derive(Clone, Debug)]
pub struct MetricsSection {
    /// `listen`
    pub listen: Read<SocketAddr>,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct AdminSection {
    /// `socket`: the path of the Unix socket; a relative one counts from the file.
    pub socket: Read<PathBuf>,
}

impl Configuration {
    /// The Unix socket of `[admin]`, as a path from the folder that the process runs in.
    #[must_use]
    pub fn admin_socket(&self) -> Option<PathBuf> {
        self.admin.as_ref().map(|admin| from_file(&self.file, &admin.socket.value))
    }
}
