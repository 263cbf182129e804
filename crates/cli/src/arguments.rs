//! The arguments that several verbs share, and the checked types that they parse into.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::ops::Deref;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coap::uri::{UriSegment, decode_segment};
use est::ClientConfig;
use est::discovery::LinkBase;
use pki::ServerName;

use crate::outcome::{CommandFault, CommandResult, Status};

/// CoAP over DTLS (RFC 7252 §12.8).
const DEFAULT_PORT: u16 = 5684;

/// The URI of a server: `coaps://HOST:PORT[/LABEL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUri {
    /// A DNS name or an address without brackets; a link-local address with its zone, `fe80::1%eth0` (RFC 4007 §11).
    pub(crate) host: String,
    /// UDP port.
    pub(crate) port: u16,
    /// The label that selects a profile (RFC 7030 §3.2.2); `None` for the default profile.
    pub(crate) label: Option<String>,
}

impl ServerUri {
    /// As a link names it; `None` for a host that no link can name.
    pub(crate) fn base(&self) -> Option<LinkBase> {
        // A zone has a meaning on this machine only.
        let host = self.host.split('%').next().unwrap_or_default();
        match host.parse() {
            Ok(address) => Some(LinkBase::of_address(address, self.port)),
            Err(_) => LinkBase::of_name(host, self.port),
        }
    }

    /// The address to send to: the first address of the host's name.
    pub(crate) fn resolve(&self) -> CommandResult<SocketAddr> {
        let not_found = |why: String| {
            CommandFault::new(Status::NoAnswer, format!("{} has no address: {why}", self.host))
                .remedy("check the name, or use an address that is among the server's names")
        };
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|source| not_found(source.to_string()))?
            .next()
            .ok_or_else(|| not_found("the name exists, but has no address".to_owned()))
    }

    /// What the server's certificate must name (RFC 7030 §3.6.1).
    pub(crate) fn name(&self) -> CommandResult<ServerName<'static>> {
        // A zone is meaningful on this machine only: no certificate contains one.
        let name = self.host.split('%').next().unwrap_or_default();
        ServerName::try_from(name.to_owned())
            .map_err(|_| CommandFault::usage(format!("`{}` is neither a DNS name nor an address", self.host)))
    }
}

impl FromStr for ServerUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("coaps://").ok_or_else(|| {
            let meant = match text.parse::<Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => after_scheme(text).to_owned(),
            };
            format!("a server is written coaps://HOST:PORT[/LABEL]; did you mean coaps://{meant}?")
        })?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority)?;
        let host = if authority.starts_with('[') { host.to_owned() } else { registered_name(host)? };
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        if port == 0 {
            return Err("port 0 is not a port to connect to; coaps uses 5684".to_owned());
        }
        let label = match path.trim_end_matches('/') {
            "" => None,
            label if label.contains(['/', '?', '#']) => {
                return Err(format!("`{label}` is not a valid label: expected one path segment, such as `meters`"));
            }
            label => Some(segment(label)?),
        };
        Ok(Self { host, port, label })
    }
}

impl fmt::Display for ServerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "coaps://[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "coaps://{}:{}", self.host, self.port)?;
        }
        match &self.label {
            Some(label) => write!(f, "/{}", UriSegment(label)),
            None => Ok(()),
        }
    }
}

/// "The host [...] converted to all lowercase", and its escapes to their octets (RFC 7252 §6.4). What no name contains is refused here: an escape could
/// bring in the `%` before a zone.
fn registered_name(text: &str) -> Result<String, String> {
    let host = decode_segment(text).map_err(|error| format!("`{text}` is not a valid host: {error}"))?;
    if host.bytes().any(|byte| !byte.is_ascii_graphic() || b"%@?#[]".contains(&byte)) {
        return Err(format!("`{text}` is not a valid host: expected a DNS name or an address"));
    }
    Ok(host.to_ascii_lowercase())
}

/// A segment of a path as its Uri-Path option has it.
fn segment(text: &str) -> Result<String, String> {
    decode_segment(text).map_err(|error| format!("`{text}` is not a valid path segment: {error}"))
}

fn after_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

fn split_port(authority: &str) -> Result<(&str, u16), String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a valid port"));
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("missing `]` after the IPv6 address")?;
        let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
        if address.parse::<Ipv6Addr>().is_err() || zone == Some("") {
            return Err(format!("`{host}` is not a valid IPv6 address; write [::1]:5684 or [fe80::1%eth0]:5684"));
        }
        return match after.strip_prefix(':') {
            Some(text) => Ok((host, port(text)?)),
            None if after.is_empty() => Ok((host, DEFAULT_PORT)),
            None => Err(format!("`{after}` after the address: expected `:PORT`")),
        };
    }
    match authority.split_once(':') {
        Some((_, text)) if text.contains(':') => Err("an IPv6 address needs brackets, as in [::1]:5684".to_owned()),
        Some((host, text)) => Ok((host, port(text)?)),
        None => Ok((authority, DEFAULT_PORT)),
    }
}

/// `ADDR:PORT` of a socket; a link-local IPv6 address with its zone, `[fe80::1%eth0]:5684`.
pub(crate) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains("://") {
        return Err(format!("expected an address and a port without a scheme: {}", after_scheme(text)));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(format!("the port is missing, and an IPv6 address needs brackets: [{address}]:{DEFAULT_PORT}"));
    }
    // The system's resolver would accept a bare number as an address.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "the address is missing: write 127.0.0.1:{text}, or 0.0.0.0:{text} for all addresses of this machine"
        ));
    }
    // The system knows the numbers of the zones.
    let (host, port) = split_port(text)?;
    let mut addresses = (host, port).to_socket_addrs().map_err(|fault| match host.split_once('%') {
        Some((_, zone)) => format!("{host} has no address: is there an interface {zone}? `ip link` lists them"),
        None => format!("{host} has no address: {fault}"),
    })?;
    addresses.next().ok_or_else(|| format!("{host} has no address"))
}

/// A host and port that datagrams are sent to.
pub(crate) fn destination(text: &str) -> Result<SocketAddr, String> {
    match endpoint(text)? {
        address if address.port() == 0 => Err("port 0 is not a port to connect to; coaps uses 5684".to_owned()),
        address => Ok(address),
    }
}

/// A block size of RFC 7959 §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockBytes(u16);

impl BlockBytes {
    /// The same size as CoAP's type.
    pub(crate) fn size(self) -> coap::BlockSize {
        coap::BlockSize::from_bytes(usize::from(self.0)).expect("checked when it was parsed")
    }
}

impl FromStr for BlockBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bytes @ (16 | 32 | 64 | 128 | 256 | 512 | 1024)) => Ok(Self(bytes)),
            _ => Err("a block is 16, 32, 64, 128, 256, 512 or 1024 bytes (RFC 7959 §2.2)".to_owned()),
        }
    }
}

/// A cipher suite by its short or its IANA name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteName {
    /// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, mandatory in RFC 9148.
    #[value(name = "ccm8", aliases = ["TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ECDHE_ECDSA_AES_128_CCM_8"])]
    Ccm8,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_CCM.
    #[value(name = "ccm", aliases = ["TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "ECDHE_ECDSA_AES_128_CCM"])]
    Ccm,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
    #[value(name = "gcm", aliases = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE_ECDSA_AES_128_GCM_SHA256"])]
    Gcm,
}

impl SuiteName {
    /// The same suite as DTLS's type.
    pub(crate) fn suite(self) -> dtls::Suite {
        match self {
            Self::Ccm8 => dtls::Suite::EcdheEcdsaAes128Ccm8,
            Self::Ccm => dtls::Suite::EcdheEcdsaAes128Ccm,
            Self::Gcm => dtls::Suite::EcdheEcdsaAes128GcmSha256,
        }
    }
}

/// How `--trace` renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceStyle {
    /// One line per message.
    Text,
    /// One line per message, with the bytes below.
    Hex,
    /// One JSON object per message.
    Json,
}

impl TraceStyle {
    /// The same format as the formatter's type.
    pub(crate) fn style(self) -> est::trace::Style {
        match self {
            Self::Text => est::trace::Style::Text,
            Self::Hex => est::trace::Style::Hex,
            Self::Json => est::trace::Style::Json,
        }
    }
}

/// A duration such as `30s`, `5m`, `24h`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a valid duration: write 250ms, 30s, 5m, 24h or 365d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("`{text}` is too long: the limit is a century"))
}

/// A time that something gets: none at all is a mistake.
pub(crate) fn time_limit(text: &str) -> Result<Duration, String> {
    let limit = duration(text)?;
    if limit.is_zero() { Err(format!("`{text}` is no time at all: write 1ms or more")) } else { Ok(limit) }
}

/// A rest between two looks at something: without one, a service does nothing else.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let is_rest = interval >= Duration::from_secs(1);
    if is_rest { Ok(interval) } else { Err(format!("`{text}` is too short: write 1s or more")) }
}

/// Small enough that adding it to any clock reading does not overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A server, and how to talk to it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// The server, and the label of a profile if it has several. `muster discover` finds servers (--multicast, --resource-directory) and prints their
    /// URIs for this option; whoever answered chose the host, so give the name that you expect with --expect-name
    #[arg(long, value_name = "coaps://HOST:PORT[/LABEL]")]
    pub(crate) server: ServerUri,

    /// Ask the server first where its functions are (/.well-known/core, RFC 9148 §4.1), and use the paths of its answer. If they are at another port
    /// or host, connect there and expect the same name
    #[arg(long)]
    pub(crate) discover: bool,

    /// The path above label and function, for a server with another root that does not list it: `est` makes coaps://HOST/est/sen
    #[arg(long, value_name = "PATH", default_value = ".well-known/est", value_parser = path, conflicts_with = "discover")]
    pub(crate) path: PathSegments,

    #[command(flatten)]
    pub(crate) options: ConnectionOptions,
}

/// The options are read as often as the server, and always of one connection.
impl Deref for Connection {
    type Target = ConnectionOptions;

    fn deref(&self) -> &ConnectionOptions {
        &self.options
    }
}

impl Connection {
    /// To a server whose functions are where RFC 9148 §4.1 has them.
    pub(crate) fn well_known(server: ServerUri, options: ConnectionOptions) -> Self {
        Self { server, discover: false, path: PathSegments(ClientConfig::default().path), options }
    }

    /// What the server's certificate must name: what the command line expects, or else the host of the URI (RFC 7030 §3.6.1).
    pub(crate) fn expected_name(&self) -> CommandResult<ServerName<'static>> {
        match &self.expect_name {
            None => self.server.name(),
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| CommandFault::usage(format!("`{name}` is neither a DNS name nor an address"))),
        }
    }
}

/// The segments of the path above label and function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathSegments(pub(crate) Vec<String>);

/// As `--path` reads it.
impl fmt::Display for PathSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            let slash = if place > 0 { "/" } else { "" };
            write!(f, "{slash}{}", UriSegment(segment))?;
        }
        Ok(())
    }
}

pub(crate) fn path(text: &str) -> Result<PathSegments, String> {
    let written: Vec<&str> = text.trim_matches('/').split('/').collect();
    if written.iter().any(|segment| segment.is_empty() || segment.contains(['?', '#'])) {
        return Err(format!("`{text}` is not a path: write .well-known/est, or est for libest's server"));
    }
    written.into_iter().map(segment).collect::<Result<_, _>>().map(PathSegments)
}

/// Arguments that all device-side commands share.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectionOptions {
    /// The name that the server's certificate must contain [default: the host of --server]; for a server that somebody else named
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_name: Option<String>,

    /// Folder with idevid.pem and idevid.key, or with device.pem and device.key from an earlier --out
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cert", "key"])]
    pub(crate) identity: Option<PathBuf>,

    /// The device's certificate (PEM or DER, chain allowed, the device's own first)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// Its private key (PEM or DER, PKCS#8 or SEC1, not encrypted)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// CA certificates to verify the server with (PEM or DER) [default: anchors.pem in the folder of --identity]
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,

    /// Bytes per block, in both directions (RFC 7959): 16, 32, 64, 128, 256, 512, 1024
    #[arg(long, value_name = "BYTES", default_value = "512")]
    pub(crate) block: BlockBytes,

    /// Largest datagram to send, in bytes of UDP payload
    #[arg(long, value_name = "BYTES", default_value = "1232", value_parser = clap::value_parser!(u16).range(228..=16384))]
    pub(crate) mtu: u16,

    /// Send requests as NON: no acknowledgements, no retransmission by CoAP
    #[arg(long)]
    pub(crate) non: bool,

    /// Offer only this cipher suite; can be repeated, the first is preferred [default: ccm8, gcm]
    #[arg(long, value_enum, value_name = "SUITE")]
    pub(crate) suite: Vec<SuiteName>,

    /// Print each message, decrypted, with its size, on stderr
    #[arg(long, value_enum, value_name = "STYLE", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) trace: Option<TraceStyle>,

    /// Append the session's secrets to a file for Wireshark (NSS key log); anyone who has it can decrypt the session
    #[arg(long, value_name = "FILE")]
    pub(crate) keylog: Option<PathBuf>,

    /// Write the datagrams, and the secrets that decrypt them, to a capture file (pcapng); anyone who has it can decrypt the session
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,

    /// Give up when the whole answer has not arrived after this time; a handshake without an answer ends after 3m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time_limit)]
    pub(crate) timeout: Duration,

    /// When the server says "later" (5.03, 4.29), wait as long as it asks for and try again
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print one JSON object, both for a result and for a failure; its `outcome` and `exit` tell which
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_uris() {
        let parse = |text: &str| text.parse::<ServerUri>();
        let uri = parse("coaps://est.example:5685/meters").unwrap();
        assert_eq!((uri.host.as_str(), uri.port, uri.label.as_deref()), ("est.example", 5685, Some("meters")));
        assert_eq!(parse("coaps://est.example").unwrap().port, 5684);
        assert_eq!(parse("coaps://127.0.0.1:1/").unwrap().label, None);
        let uri = parse("coaps://[::1]:5684/x").unwrap();
        assert_eq!(uri.host, "::1");
        assert_eq!(uri.to_string(), "coaps://[::1]:5684/x");
        assert_eq!(parse("coaps://[::1]").unwrap().port, 5684);
        let uri = parse("coaps://[fe80::1%lo]:5684").unwrap();
        assert_eq!(uri.to_string(), "coaps://[fe80::1%lo]:5684");
        assert_eq!(uri.name().unwrap(), ServerName::try_from("fe80::1").unwrap(), "a certificate names no zone");
        assert!(matches!(uri.resolve().unwrap(), SocketAddr::V6(address) if address.scope_id() != 0));
        for wrong in [
            "coap://h",
            "h:5684",
            "coaps://",
            "coaps://h:port",
            "coaps://::1:5684",
            "coaps://[::1",
            "coaps://h/a/b",
            "coaps://[fe80::1%]:5684",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("coap://h:5684").unwrap_err().contains("coaps://h:5684"), "the remedy is named");
        assert!(parse("::1").unwrap_err().contains("coaps://[::1]"), "a remedy that works");
        assert!(parse("coaps://h:0").unwrap_err().contains("port 0"));
    }

    /// RFC 7252 §6.4: escapes become their octets, and Uri-Host is in lower case.
    #[test]
    fn escapes_of_a_uri_are_decoded_and_its_host_is_in_lower_case() {
        let uri: ServerUri = "coaps://EST.Ex%61mple.net/m%65ters%20%C3%A9".parse().unwrap();
        assert_eq!((uri.host.as_str(), uri.label.as_deref()), ("est.example.net", Some("meters \u{e9}")));
        assert_eq!(uri.to_string(), "coaps://est.example.net:5684/meters%20%C3%A9");
        assert_eq!(uri.to_string().parse(), Ok(uri), "what is written is read back");
        let uri: ServerUri = "coaps://[FE80::1%Eth0]/50%25".parse().unwrap();
        assert_eq!((uri.host.as_str(), uri.label.as_deref()), ("FE80::1%Eth0", Some("50%")), "a zone has a case");
        let segments = path("/a%20b/%65st/").unwrap();
        assert_eq!(segments.0, ["a b", "est"]);
        assert_eq!(path(&segments.to_string()), Ok(segments), "what is written is read back");
        for segment in ["a%2Fb", "a%2fb", "a%00", "a%", "a%6", "a%zz", "%ff"] {
            assert!(format!("coaps://h/{segment}").parse::<ServerUri>().is_err(), "{segment}");
            assert!(path(&format!("est/{segment}")).is_err(), "{segment}");
        }
        for host in ["a%2Fb", "a%25b", "user@h", "h%00", "h%"] {
            assert!(format!("coaps://{host}").parse::<ServerUri>().is_err(), "{host}");
        }
        let fault = "coaps://h/a%2Fb".parse::<ServerUri>().unwrap_err();
        assert!(fault.contains("a%2Fb") && fault.contains('/'), "{fault}");
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert_eq!(endpoint("[::1]:5684"), Ok("[::1]:5684".parse().unwrap()));
        assert!(matches!(endpoint("[fe80::1%lo]:1").unwrap(), SocketAddr::V6(address) if address.scope_id() != 0));
        for wrong in
            ["", "::1:5684", "[fe80::1%]:1", "[fe80::1%no-such-zone]:1", "127.0.0.1:port", "coaps://127.0.0.1:1"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        let remedies = [
            ("5684", "127.0.0.1:5684"),
            ("::1", "[::1]:5684"),
            ("::1:5684", "needs brackets"),
            ("coaps://127.0.0.1:1", "without a scheme: 127.0.0.1:1"),
            ("[fe80::1%no-such-zone]:1", "ip link"),
        ];
        for (wrong, remedy) in remedies {
            let fault = endpoint(wrong).unwrap_err();
            assert!(fault.contains(remedy), "{wrong}: {fault}");
        }
        assert!(endpoint("127.0.0.1:0").is_ok() && destination("127.0.0.1:0").is_err(), "port 0 is for who listens");
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("36500d"), Ok(DURATION_MAX));
        for wrong in ["", "5", "s", "5 s", "-5s", "5w", "99999999999999999999s", "999999999999999999d", "36501d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_some_time_and_an_interval_is_a_rest() {
        assert_eq!(time_limit("1ms"), Ok(Duration::from_millis(1)));
        assert!(time_limit("0s").unwrap_err().contains("1ms"), "the remedy is named");
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["0s", "999ms", "1"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn blocks() {
        assert_eq!("64".parse::<BlockBytes>().unwrap().size(), coap::BlockSize::B64);
        assert!("65".parse::<BlockBytes>().is_err() && "2048".parse::<BlockBytes>().is_err());
    }
}
