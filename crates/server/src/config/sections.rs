//! Reads the sections of `muster.toml` into the model: keys, defaults, bounds and contradictions.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use authority::{CaProfileSpec, DeviceIdRule, Diagnostics, Mode, RenewalPolicy, SubjectRule, VerifySignatures};
use dtls::{ExtendedMasterSecret, PublicKeySteps, Suite};
use pki::Encoding;

use super::audit::audit;
use super::discovery::discovery;
use super::document::TomlTable;
use super::fault::{Location, Problem, from_file};
use super::https::{cross_check_https, https, registrar};
use super::model::{
    AdminSection, AuthorityKind, CaSection, Configuration, DtlsSection, EstSection, ExpiredServer, LedgerSection,
    LedgerUrl, LimitsSection, MetricsSection, ProfileSection, RegistrarSection, ServerSection,
};
use super::reader::{Effective, Read, Section, SectionReader, ValueOrigin, check_span, number, span};
use super::registrar::{authority, cross_check_relay, refuse_issue, relay};
use super::urls::{crl, crl_url, cross_check_crl, url};
use super::value::{Moment, SecretUri, Span, Value, Word, Words};
use super::words::{DeviceIdWord, San, Subject};
use crate::secret_file::GroupReadable;

/// No known machine has more cores than this.
const SHARDS_MAX: u32 = 256;
/// A device sends its next message within minutes or not in this session; a longer timeout only costs memory.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
/// Service managers kill a process after 90 s by default; a longer timeout has to be configured there and here.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// RFC 6347 §4.2.1 does not specify it: long enough for a hello that crosses a slow link twice, too short for a stolen cookie to be useful.
const COOKIE_LIFETIME: Duration = Duration::from_secs(60);
/// The largest UDP payload that Ethernet carries in one IPv4 packet.
const MTU_MAX: u32 = 1_472;
/// Beyond 8,192 enrolments in flight a device is answered with 5.03: at 3,000/s a device in flight waits less than three seconds.
const ENROLMENTS_IN_FLIGHT_MAX: u32 = 8_192;
/// About a kilobyte and a half per row.
const LEDGER_ROWS_MAX: u32 = 1_000_000;
/// `sun_path` of Linux has 108 bytes, the last of them zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) fn read(
    reader: &mut SectionReader,
    table: &TomlTable,
    listen: Option<&[SocketAddr]>,
) -> Option<Configuration> {
    let file = reader.file.clone();
    let mut root = Section::root(&file, table);
    let server = server(reader, &mut root, listen);
    let dtls = dtls(reader, &mut root);
    let est = est(reader, &mut root);
    let limits = limits(reader, &mut root);
    let (kind, upstream) = authority(reader, &mut root);
    let cas: Vec<_> =
        reader.named_sections(&mut root, "ca").into_iter().map(|(name, section)| ca(reader, name, section)).collect();
    let profiles: Vec<_> = reader
        .listed_sections(&mut root, "profile")
        .into_iter()
        .map(|section| profile(reader, section, kind))
        .collect();
    if cas.is_empty() && kind == AuthorityKind::Ca {
        reader.fault(&Location::File(file.clone()), "ca".into(), Problem::Missing { example: "[ca.main]" });
    }
    if profiles.is_empty() {
        reader.fault(&Location::File(file.clone()), "profile".into(), Problem::Missing { example: "[[profile]]" });
    }
    let ledger = ledger(reader, &mut root);
    let audit = audit(reader, &mut root, ledger.as_ref());
    let crl = crl(reader, &mut root);
    let https = https(reader, &mut root);
    let registrars: Vec<_> = reader
        .named_sections(&mut root, "registrar")
        .into_iter()
        .map(|(name, section)| registrar(reader, name, section))
        .collect();
    let metrics = metrics(reader, &mut root);
    let admin = admin(reader, &mut root);
    let discovery = discovery(reader, &mut root, &est);
    reader.finish(&root);
    let cas: Vec<CaSection> = cas.into_iter().collect::<Option<_>>()?;
    let profiles: Vec<ProfileSection> = profiles.into_iter().collect::<Option<_>>()?;
    let registrars: Vec<RegistrarSection> = registrars.into_iter().collect::<Option<_>>()?;
    cross_check(reader, &cas, &profiles);
    if let Some(https) = &https {
        cross_check_https(reader, https.as_ref(), &registrars, &profiles);
    }
    if kind == AuthorityKind::Registrar {
        cross_check_relay(reader, (&cas, &registrars), &profiles);
    }
    if let Some(crl) = &crl {
        cross_check_crl(reader, crl, &cas);
    }
    Some(Configuration {
        file,
        server: server?,
        dtls,
        est,
        limits,
        registrar: upstream?,
        cas,
        profiles,
        ledger: ledger?,
        audit,
        crl,
        https: https?,
        registrars,
        metrics: metrics?,
        admin: admin?,
        discovery,
        expired_server: ExpiredServer::default(),
        effective: Vec::new(),
    })
}

fn server(
    reader: &mut SectionReader,
    root: &mut Section<'_>,
    override_listen: Option<&[SocketAddr]>,
) -> Option<ServerSection> {
    let mut section = reader.section(root, "server");
    let listen = match override_listen {
        None => reader.required(&mut section, "listen", "listen = [\"127.0.0.1:5684\"]"),
        Some(addresses) => {
            // Read for its faults; the command line's value is the effective one.
            let written: Option<Read<Vec<SocketAddr>>> = reader.optional(&mut section, "listen");
            if let Some(written) = written {
                reader.effective.retain(|effective| effective.key != written.key);
            }
            let key = section.dotted("listen");
            let value = addresses.to_vec();
            reader.effective.push(Effective {
                key: key.clone(),
                value: value.show(),
                origin: ValueOrigin::Written(Location::CommandLine),
            });
            Some(Read { key, place: Location::CommandLine, value })
        }
    };
    if let Some(listen) = &listen {
        check_listen(reader, listen);
    }
    let certificate = reader.required(&mut section, "certificate", "certificate = \"server.pem\"");
    let key = reader.required(&mut section, "key", "key = \"file:server.key\"");
    let group_readable = match reader.or(&mut section, "allow_group_readable_keys", false).value {
        true => GroupReadable::Anywhere,
        false => GroupReadable::InCredentials,
    };
    let names = reader.or(&mut section, "names", Vec::new());
    let trust = reader.or(&mut section, "trust", Vec::new());
    let idle_timeout = span(
        reader,
        &mut section,
        "idle_timeout",
        Duration::from_secs(300),
        (Duration::from_secs(1), IDLE_TIMEOUT_MAX),
    );
    let drain_timeout =
        span(reader, &mut section, "drain_timeout", Duration::from_secs(25), (Duration::ZERO, DRAIN_TIMEOUT_MAX));
    let shards = number(reader, &mut section, "shards", 0, (0, SHARDS_MAX));
    let pool_threads = number(reader, &mut section, "pool_threads", 0, (0, SHARDS_MAX));
    let node = number(reader, &mut section, "node", 0, (0, u32::from(u16::MAX)));
    reader.finish(&section);
    Some(ServerSection {
        listen: listen?,
        certificate: certificate?,
        key: key?,
        group_readable,
        names,
        trust,
        idle_timeout,
        drain_timeout,
        shards,
        pool_threads,
        // A value out of bounds is already reported.
        node: u16::try_from(node).unwrap_or(0),
    })
}

fn check_listen(reader: &mut SectionReader, listen: &Read<Vec<SocketAddr>>) {
    if listen.value.is_empty() {
        let problem =
            Problem::Conflict { what: "no address".into(), remedy: "add at least one, such as `127.0.0.1:5684`" };
        reader.faults.push(listen.fault(problem));
    }
    for (index, address) in listen.value.iter().enumerate() {
        // Two entries with port 0 get different ports.
        if address.port() != 0 && listen.value[..index].contains(address) {
            let problem = Problem::Duplicate { what: address.to_string(), first: "another entry of this list".into() };
            reader.faults.push(listen.fault(problem));
        }
        if address.ip().is_multicast() {
            // RFC 9148 does not use multicast, and answering it would amplify traffic.
            let wanted = "an address of this machine, not a multicast group".into();
            reader.faults.push(listen.fault(Problem::Value { found: address.to_string(), wanted }));
        }
    }
}

fn dtls(reader: &mut SectionReader, root: &mut Section<'_>) -> DtlsSection {
    let mut section = reader.section(root, "dtls");
    let all = [Suite::EcdheEcdsaAes128GcmSha256, Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm];
    let all = all.map(Word).to_vec();
    let suites: Read<Vec<Word<Suite>>> = reader.or(&mut section, "suites", all);
    if suites.value.is_empty() {
        let problem = Problem::Conflict {
            what: "no cipher suite".into(),
            remedy: "add at least ECDHE_ECDSA_AES_128_CCM_8, which RFC 9148 §3 makes mandatory",
        };
        reader.faults.push(suites.fault(problem));
    }
    let extended_master_secret = word(reader, &mut section, "extended_master_secret", ExtendedMasterSecret::Prefer);
    let certificate_authorities = reader.or(&mut section, "certificate_authorities", false).value;
    let cookie_secret = reader.optional(&mut section, "cookie_secret");
    let cookie_lifetime = span(
        reader,
        &mut section,
        "cookie_lifetime",
        COOKIE_LIFETIME,
        (Duration::from_secs(10), Duration::from_secs(3_600)),
    );
    let mtu_min = u32::try_from(dtls::MTU_MIN).unwrap_or(MTU_MAX);
    let mtu_default = u32::try_from(dtls::MTU_DEFAULT).unwrap_or(MTU_MAX);
    let mtu = number(reader, &mut section, "mtu", mtu_default, (mtu_min, MTU_MAX));
    let handshake_timeout = span(
        reader,
        &mut section,
        "handshake_timeout",
        Duration::from_secs(180),
        (Duration::from_secs(1), Duration::from_secs(3_600)),
    );
    let public_key_steps = word(reader, &mut section, "public_key_steps", PublicKeySteps::Inline);
    reader.finish(&section);
    DtlsSection {
        suites: suites.value.into_iter().map(|Word(suite)| suite).collect(),
        extended_master_secret,
        certificate_authorities,
        cookie_secret,
        cookie_lifetime,
        mtu,
        handshake_timeout,
        public_key_steps,
    }
}

fn est(reader: &mut SectionReader, root: &mut Section<'_>) -> EstSection {
    let mut section = reader.section(root, "est");
    // `est` checks whether it is a valid root, and whether labels are valid, when its configuration is made.
    let short_root = reader.or(&mut section, "short_root", "est".to_owned());
    let public = reader.optional(&mut section, "public");
    reader.finish(&section);
    EstSection { short_root, public }
}

fn limits(reader: &mut SectionReader, root: &mut Section<'_>) -> LimitsSection {
    let mut section = reader.section(root, "limits");
    let limits = LimitsSection {
        sessions_max: number(reader, &mut section, "sessions_max", 0, (0, 100_000_000)),
        half_open_max: number(reader, &mut section, "half_open_max", 4_096, (1, 1_000_000)),
        enrolments_in_flight_max: number(
            reader,
            &mut section,
            "enrolments_in_flight_max",
            ENROLMENTS_IN_FLIGHT_MAX,
            (1, 1_000_000),
        ),
    };
    reader.finish(&section);
    limits
}

fn ca(reader: &mut SectionReader, name: String, mut section: Section<'_>) -> Option<CaSection> {
    let certificate = reader.required(&mut section, "certificate", "certificate = \"ca/issuing.pem\"");
    let root = reader.optional(&mut section, "root");
    let rollover = reader.optional(&mut section, "rollover");
    let key = reader.required(&mut section, "key", "key = \"file:ca/issuing.key\"");
    let verify_signatures = word(reader, &mut section, "verify_signatures", VerifySignatures::External);
    let crl_url = crl_url(reader, &mut section);
    let ca_issuers_url = url(reader, &mut section, "ca_issuers_url");
    let ocsp_url = url(reader, &mut section, "ocsp_url");
    reader.finish(&section);
    let (certificate, key) = (certificate?, key?);
    Some(CaSection { name, certificate, root, rollover, key, verify_signatures, crl_url, ca_issuers_url, ocsp_url })
}

/// `server_key_encryption_keys`, which has no effect where no keys are made.
fn key_encryption_keys(
    reader: &mut SectionReader,
    section: &mut Section<'_>,
    server_keys: bool,
) -> Option<Read<SecretUri>> {
    let named: Option<Read<SecretUri>> = reader.optional(section, "server_key_encryption_keys");
    if let Some(named) = named.as_ref().filter(|_| !server_keys) {
        let problem = Problem::Conflict {
            what: "the profile makes no keys that could be encrypted".into(),
            remedy: "write `server_keys = true`, or remove it",
        };
        reader.faults.push(named.fault(problem));
    }
    named
}

fn profile(reader: &mut SectionReader, mut section: Section<'_>, kind: AuthorityKind) -> Option<ProfileSection> {
    let name: Option<Read<String>> = reader.required(&mut section, "name", "name = \"meters\"");
    let labels = reader.or(&mut section, "labels", vec![String::new()]);
    let relay = relay(reader, &mut section, kind);
    let ca = match kind {
        AuthorityKind::Ca => reader.required(&mut section, "ca", "ca = \"main\""),
        AuthorityKind::Registrar => Some(section.unwritten(String::new())),
    };
    let manufacturers = reader.required(&mut section, "manufacturers", "manufacturers = [\"manufacturer/ca.pem\"]");
    let (name, name_place) = name.map(Read::take).unzip();
    // A missing name or CA is already a fault: the rest is read to find its faults, then dropped.
    let mut spec = CaProfileSpec::new(&name.unwrap_or_default(), ca, Vec::new());
    let (labels, labels_place) = labels.take();
    spec.profile.labels = labels;
    let device_id = DeviceIdRule::Attribute(authority::SubjectAttribute::SerialNumber);
    spec.profile.device_id = reader.or(&mut section, "device_id", DeviceIdWord(device_id)).value.0;
    spec.profile.mode = word(reader, &mut section, "mode", Mode::Open);
    let day = Duration::from_secs(86_400);
    let mut issue = reader.section(&mut section, "issue");
    spec.subject = reader.or(&mut issue, "subject", Subject(SubjectRule::Csr, "csr".into())).value.0;
    let san: Read<Vec<San>> = reader.or(&mut issue, "san", Vec::new());
    spec.san = san.value.into_iter().map(|San(kind)| kind).collect();
    let validity = match kind {
        AuthorityKind::Ca => reader.or(&mut issue, "validity", Span(365 * day)),
        AuthorityKind::Registrar => refuse_issue(reader, &mut issue).unwritten(Span(365 * day)),
    };
    check_span(reader, &validity, (authority::VALIDITY_MIN, 36_500 * day));
    let (validity, validity_place) = validity.take();
    spec.validity = validity.0;
    spec.allow_identity_key = reader.or(&mut issue, "allow_identity_key", false).value;
    if kind == AuthorityKind::Ca {
        spec.server_keys = reader.or(&mut section, "server_keys", false).value;
    }
    let key_encryption_keys = key_encryption_keys(reader, &mut section, spec.server_keys);
    // Clients recognize an EST server by id-kp-cmcRA or serverAuth (RFC 7030 §3.6.1): a device with one of them, or with an unlimited
    // certificate, could act as the server.
    for key in ["extended_key_usage", "key_usage", "purposes"] {
        let what = "certificates of a profile are for digitalSignature and clientAuth only";
        let remedy =
            "remove it; issue the certificate of a server or a registration authority by hand, directly below the root";
        reader.refuse(&mut issue, key, what, remedy);
    }
    reader.finish(&issue);
    spec.profile.allow_expired_identity = reader.or(&mut section, "allow_expired_identity", false).value;
    spec.profile.require_linking = reader.or(&mut section, "require_linking", false).value;
    spec.profile.renewal = renewal(reader, &mut section, spec.validity);
    spec.profile.identity_encoding = word(reader, &mut section, "identity_encoding", Encoding::Strict);
    spec.certificates_per_device_max = number(
        reader,
        &mut section,
        "max_certificates_per_device",
        authority::CERTIFICATES_PER_DEVICE,
        (authority::CERTIFICATES_PER_DEVICE_MIN, authority::CERTIFICATES_PER_DEVICE_MAX),
    );
    spec.repeat_window = span(reader, &mut section, "repeat_window", day, (Duration::ZERO, 30 * day));
    let registrars: Read<Vec<String>> = reader.or(&mut section, "registrars", Vec::new());
    spec.profile.registrars = registrars.value.iter().map(|name| name.as_str().into()).collect();
    let renew_grace = span(reader, &mut section, "renew_grace", Duration::ZERO, (Duration::ZERO, 3_650 * day));
    spec.profile.diagnostics = word(reader, &mut section, "diagnostics", Diagnostics::Reason);
    reader.finish(&section);
    let ca = spec.ca.take()?;
    Some(ProfileSection {
        spec: spec.with_ca(ca, Vec::new()),
        relay: relay?,
        name: name_place?,
        labels: labels_place,
        validity: validity_place,
        manufacturers: manufacturers?,
        key_encryption_keys,
        registrars,
        renew_grace,
    })
}

/// `renew_spread` and `renew_now_before`; without both, devices are not told when to renew. A call without a spread is spread over a tenth of a life,
/// because a whole fleet would come at once otherwise; who wants that writes `renew_spread = "0s"`.
fn renewal(reader: &mut SectionReader, section: &mut Section<'_>, life: Duration) -> Option<RenewalPolicy> {
    let year = Duration::from_secs(365 * 86_400);
    let calls = section.has("renew_now_before");
    let unwritten = if calls { Duration::from_secs(life.as_secs() / 10).min(year) } else { Duration::ZERO };
    let spread = span(reader, section, "renew_spread", unwritten, (Duration::ZERO, year));
    let now_before: Option<Read<Moment>> = reader.optional(section, "renew_now_before");
    let now_before = now_before.map(|read| read.value.0);
    (spread > Duration::ZERO || now_before.is_some()).then_some(RenewalPolicy { spread, now_before })
}

fn ledger(reader: &mut SectionReader, root: &mut Section<'_>) -> Option<LedgerSection> {
    let mut section = reader.section(root, "ledger");
    let url: Option<Read<LedgerUrl>> = reader.required(&mut section, "url", "url = \"sqlite:ledger.db\"");
    let has_bound = section.has("rows_max");
    let rows_max = number(reader, &mut section, "rows_max", LEDGER_ROWS_MAX, (1, 100_000_000));
    let journal: Option<Read<PathBuf>> = reader.optional(&mut section, "journal");
    reader.finish(&section);
    let url = url?;
    if let Some(journal) = &journal
        && let Some(what) = unfit_journal(&journal.value, &url.value)
    {
        let problem =
            Problem::Conflict { what: what.into(), remedy: "write `journal = \"ledger.journal\"`, or remove it" };
        reader.faults.push(journal.fault(problem));
    }
    if has_bound && url.value != LedgerUrl::Memory {
        let problem = Problem::Conflict {
            what: "`rows_max` bounds a ledger in memory, and this one is a file".into(),
            remedy: "remove `rows_max`",
        };
        reader.faults.push(url.fault(problem));
    }
    Some(LedgerSection { url, rows_max, journal })
}

/// Why this file cannot be the journal of this ledger.
fn unfit_journal(journal: &Path, url: &LedgerUrl) -> Option<&'static str> {
    match url {
        // It has none, and nothing is lost by naming one: a test changes the url alone.
        LedgerUrl::Memory => None,
        LedgerUrl::Sqlite(file) if file == journal => Some("the journal and the ledger are one file"),
        LedgerUrl::Sqlite(_) if journal.file_name().is_none() => Some("the journal is not a file"),
        LedgerUrl::Sqlite(_) => None,
    }
}

fn metrics(reader: &mut SectionReader, root: &mut Section<'_>) -> Option<Option<MetricsSection>> {
    let mut section = reader.section(root, "metrics");
    if !section.is_present() {
        return Some(None);
    }
    let listen = reader.required(&mut section, "listen", "listen = \"127.0.0.1:9684\"");
    reader.finish(&section);
    Some(Some(MetricsSection { listen: listen? }))
}

fn admin(reader: &mut SectionReader, root: &mut Section<'_>) -> Option<Option<AdminSection>> {
    let mut section = reader.section(root, "admin");
    if !section.is_present() {
        return Some(None);
    }
    let socket: Option<Read<PathBuf>> = reader.required(&mut section, "socket", "socket = \"admin.sock\"");
    reader.finish(&section);
    let socket = socket?;
    let path = from_file(&reader.file, &socket.value);
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let problem = Problem::Conflict {
            what: format!(
                "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a Unix socket's path",
                path.display()
            ),
            remedy: "choose a shorter path, such as `/run/muster/admin.sock`",
        };
        reader.faults.push(socket.fault(problem));
    }
    Some(Some(AdminSection { socket }))
}

fn cross_check(reader: &mut SectionReader, cas: &[CaSection], profiles: &[ProfileSection]) {
    let known: Vec<String> = cas.iter().map(|ca| ca.name.clone()).collect();
    for (index, profile) in profiles.iter().enumerate() {
        if profile.relay.is_none() && !known.contains(&profile.spec.ca.value) {
            let problem =
                Problem::UnknownReference { kind: "ca", name: profile.spec.ca.value.clone(), known: known.clone() };
            reader.faults.push(profile.spec.ca.fault(problem));
        }
        if profile.manufacturers.value.is_empty() {
            let problem = Problem::Conflict {
                what: "no manufacturer, so no device could enrol".into(),
                remedy: "add at least one CA file",
            };
            reader.faults.push(profile.manufacturers.fault(problem));
        }
        if profile.spec.profile.labels.is_empty() {
            let problem = Problem::Conflict {
                what: "no label: no path selects this profile, so no device could enrol".into(),
                remedy: "list the path segments that select it; \"\" is the path without a label",
            };
            reader.faults.push(profile.labels.fault(problem));
        }
        for earlier in &profiles[..index] {
            let first = format!("profile `{}`", earlier.spec.profile.name);
            if earlier.spec.profile.name == profile.spec.profile.name {
                let problem = Problem::Duplicate {
                    what: format!("the name `{}`", profile.spec.profile.name),
                    first: first.clone(),
                };
                reader.faults.push(profile.name.fault(problem));
            }
            for label in profile.spec.profile.labels.iter().filter(|label| earlier.spec.profile.labels.contains(label))
            {
                let problem = Problem::Duplicate { what: format!("the label `{label}`"), first: first.clone() };
                reader.faults.push(profile.labels.fault(problem));
            }
        }
    }
}

fn word<W: Words>(reader: &mut SectionReader, section: &mut Section<'_>, key: &'static str, default: W) -> W {
    reader.or(section, key, Word(default)).value.0
}
