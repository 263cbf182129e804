//! Which keys take effect only at a restart: those of sockets, threads and tables, which are created once.
//!
//! Every field of the configuration is named here, in patterns without `..`: after a new key is added, this file does not compile until it states
//! whether a reload is enough for that key. A field that is not bound (`_`) takes effect with a reload.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use est::discovery::{DirectoryUri, NetworkPrefix};

use crate::config::{
    AdminSection, AuditSection, AuditSyslog, CaSection, Configuration, CrlSection, DiscoverySection, DtlsSection,
    EstSection, HttpsSection, LedgerSection, LedgerUrl, LimitsSection, MetricsSection, ProfileSection,
    RegistrarSection, ServerSection, UpstreamSection,
};

/// The keys that are used only at the start and whose values differ, in the order of the file's sections.
pub(super) fn needs_restart(started: &Configuration, written: &Configuration) -> Vec<&'static str> {
    let fixed = |of| fixed_at_start(of).into_iter().chain(discovery_at_start(of.discovery.as_ref()));
    let pairs = fixed(started).zip(fixed(written));
    pairs.filter_map(|((key, before), (_, after))| (before != after).then_some(key)).collect()
}

/// A value that is compared with another value of the same key.
#[derive(PartialEq, Eq)]
enum FixedValue<'c> {
    Addresses(&'c [SocketAddr]),
    Address(Option<SocketAddr>),
    Duration(Duration),
    Number(u32),
    Ledger(&'c LedgerUrl),
    Syslog(&'c AuditSyslog),
    Path(Option<&'c Path>),
    Groups(&'c [IpAddr]),
    Names(&'c [String]),
    Networks(&'c [NetworkPrefix]),
    Directory(Option<&'c DirectoryUri>),
}

fn fixed_at_start(configuration: &Configuration) -> [(&'static str, FixedValue<'_>); 19] {
    let Configuration {
        file: _,
        server,
        dtls,
        est,
        limits,
        registrar,
        cas,
        profiles,
        ledger,
        audit,
        crl,
        https,
        registrars,
        metrics,
        admin,
        discovery: _,
        expired_server: _,
        effective: _,
    } = configuration;
    let ServerSection {
        listen,
        certificate: _,
        key: _,
        group_readable: _,
        names: _,
        trust: _,
        idle_timeout: _,
        drain_timeout,
        shards,
        pool_threads,
        node,
    } = server;
    let LimitsSection { sessions_max, half_open_max, enrolments_in_flight_max } = limits;
    let LedgerSection { url, rows_max, journal } = ledger;
    let journal = journal.as_ref().map(|journal| journal.value.as_path());
    let AuditSection { key: audit_key, checkpoints, syslog } = audit;
    let audit_key = audit_key.as_ref().map(|key| key.value.as_path());
    let checkpoints = checkpoints.as_ref().map(|checkpoints| checkpoints.value.as_path());
    let crl_listen = crl.as_ref().and_then(|crl| crl.listen.as_ref()).map(|listen| listen.value);
    let crl_folder =
        crl.as_ref().map(|CrlSection { folder, listen: _, validity: _, interval: _ }| folder.value.as_path());
    let https_listen = https.as_ref().map(|HttpsSection { listen, identity: _ }| listen.value);
    let metrics_listen = metrics.as_ref().map(|MetricsSection { listen }| listen.value);
    let admin_socket = admin.as_ref().map(|AdminSection { socket }| socket.value.as_path());
    all_reloaded((dtls, est), (registrar.as_ref(), registrars), cas, profiles);
    [
        ("server.listen", FixedValue::Addresses(&listen.value)),
        ("server.drain_timeout", FixedValue::Duration(*drain_timeout)),
        ("server.node", FixedValue::Number(u32::from(*node))),
        ("server.shards", FixedValue::Number(*shards)),
        ("server.pool_threads", FixedValue::Number(*pool_threads)),
        ("limits.sessions_max", FixedValue::Number(*sessions_max)),
        ("limits.half_open_max", FixedValue::Number(*half_open_max)),
        ("limits.enrolments_in_flight_max", FixedValue::Number(*enrolments_in_flight_max)),
        ("ledger.url", FixedValue::Ledger(&url.value)),
        ("ledger.rows_max", FixedValue::Number(*rows_max)),
        ("ledger.journal", FixedValue::Path(journal)),
        ("audit.key", FixedValue::Path(audit_key)),
        ("audit.checkpoints", FixedValue::Path(checkpoints)),
        ("audit.syslog", FixedValue::Syslog(syslog)),
        ("crl.folder", FixedValue::Path(crl_folder)),
        ("crl.listen", FixedValue::Address(crl_listen)),
        ("https.listen", FixedValue::Address(https_listen)),
        ("metrics.listen", FixedValue::Address(metrics_listen)),
        ("admin.socket", FixedValue::Path(admin_socket)),
    ]
}

/// Sockets, and the name in the directory: all of it is used at the start. The links themselves follow a reload.
fn discovery_at_start(discovery: Option<&DiscoverySection>) -> Vec<(&'static str, FixedValue<'_>)> {
    let groups = discovery.map_or(&[][..], |it| &it.multicast.value);
    let Some(DiscoverySection {
        multicast: _,
        interfaces,
        port,
        leisure,
        on_link,
        resource_directory,
        endpoint,
        lifetime,
    }) = discovery
    else {
        // A section that comes or goes is told by the keys that it must have.
        let without = ["discovery.multicast", "discovery.resource_directory"];
        return without.into_iter().zip([FixedValue::Groups(groups), FixedValue::Directory(None)]).collect();
    };
    vec![
        ("discovery.multicast", FixedValue::Groups(groups)),
        ("discovery.resource_directory", FixedValue::Directory(resource_directory.as_ref().map(|uri| &uri.value))),
        ("discovery.interfaces", FixedValue::Names(&interfaces.value)),
        ("discovery.port", FixedValue::Number(u32::from(*port))),
        ("discovery.leisure", FixedValue::Duration(*leisure)),
        ("discovery.on_link", FixedValue::Networks(&on_link.value)),
        (
            "discovery.endpoint",
            FixedValue::Names(endpoint.as_ref().map_or(&[][..], |name| std::slice::from_ref(&name.value))),
        ),
        ("discovery.lifetime", FixedValue::Duration(*lifetime)),
    ]
}

/// Sections whose values all take effect with a reload.
fn all_reloaded(
    (dtls, est): (&DtlsSection, &EstSection),
    (upstreams, registrars): (Option<&UpstreamSection>, &[RegistrarSection]),
    cas: &[CaSection],
    profiles: &[ProfileSection],
) {
    for registrar in registrars {
        let RegistrarSection { name: _, trust: _, certified_as: _ } = registrar;
    }
    let DtlsSection {
        suites: _,
        extended_master_secret: _,
        certificate_authorities: _,
        cookie_secret: _,
        cookie_lifetime: _,
        mtu: _,
        handshake_timeout: _,
        public_key_steps: _,
    } = dtls;
    let EstSection { short_root: _, public: _ } = est;
    // `authority.kind` is not here: a reload that changes it is refused (`relay.rs`).
    if let Some(UpstreamSection {
        upstreams: _,
        trust: _,
        certificate: _,
        key: _,
        timeout: _,
        in_flight_max: _,
        refresh_interval: _,
    }) = upstreams
    {}
    for ca in cas {
        let CaSection {
            name: _,
            certificate: _,
            root: _,
            rollover: _,
            key: _,
            verify_signatures: _,
            crl_url: _,
            ca_issuers_url: _,
            ocsp_url: _,
        } = ca;
    }
    for profile in profiles {
        // Profiles are compiled anew as a whole.
        let ProfileSection {
            spec: _,
            relay: _,
            name: _,
            labels: _,
            validity: _,
            manufacturers: _,
            key_encryption_keys: _,
            registrars: _,
            renew_grace: _,
        } = profile;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Sources, read};

    const TEXT: &str = r#"
[server]
listen = ["127.0.0.1:5684"]
certificate = "server.pem"
key = "file:server.key"
[dtls]
cookie_secret = "file:cookie"
[ca.main]
certificate = "ca.pem"
key = "file:ca.key"
crl_url = "http://pki.example/main.crl"
[[profile]]
name = "meters"
ca = "main"
manufacturers = ["factory.pem"]
device_id = "idevid:subject.serialNumber"
issue.subject = "csr"
issue.validity = "365d"
[ledger]
url = "memory:"
[audit]
key = "audit.key"
checkpoints = "checkpoints.jsonl"
[crl]
listen = "127.0.0.1:8080"
[https]
listen = "127.0.0.1:8443"
certificate = "https.pem"
key = "file:https.key"
[registrar.site]
trust = ["ra.pem"]
name = "ra.example"
[metrics]
listen = "127.0.0.1:9684"
[admin]
socket = "admin.sock"
[est]
public = "coaps://est.example.net"
[discovery]
multicast = ["ff02::fd"]
interfaces = ["lo"]
resource_directory = "coap://rd.example.net"
endpoint = "est"
"#;

    /// For every key outside of `[ca.NAME]` and `[[profile]]`: another value, and whether that value needs a restart.
    const OTHERWISE: [(&str, &str, bool); 48] = [
        ("server.listen", "127.0.0.1:5685", true),
        ("server.certificate", "other.pem", false),
        ("server.key", "file:other.key", false),
        ("server.allow_group_readable_keys", "true", false),
        ("server.names", "est.example", false),
        ("server.trust", "root.pem", false),
        ("server.idle_timeout", "77s", false),
        ("server.drain_timeout", "7s", true),
        ("server.shards", "3", true),
        ("server.pool_threads", "3", true),
        ("server.node", "3", true),
        ("dtls.suites", "ECDHE_ECDSA_AES_128_CCM_8", false),
        ("dtls.extended_master_secret", "require", false),
        ("dtls.certificate_authorities", "true", false),
        ("dtls.cookie_secret", "file:other", false),
        ("dtls.cookie_lifetime", "77s", false),
        ("dtls.mtu", "777", false),
        ("dtls.handshake_timeout", "77s", false),
        ("dtls.public_key_steps", "pool", false),
        ("est.short_root", "", false),
        ("limits.sessions_max", "777", true),
        ("limits.half_open_max", "777", true),
        ("limits.enrolments_in_flight_max", "777", true),
        ("ledger.url", "sqlite:ledger.db", true),
        ("ledger.rows_max", "777", true),
        ("audit.key", "other.key", true),
        ("audit.checkpoints", "other.jsonl", true),
        ("audit.syslog", "/run/log", true),
        ("crl.folder", "other", true),
        ("crl.listen", "127.0.0.1:8081", true),
        ("crl.validity", "3d", false),
        ("crl.interval", "3s", false),
        ("https.listen", "127.0.0.1:8444", true),
        ("https.certificate", "other.pem", false),
        ("https.key", "file:other.key", false),
        ("registrar.site.trust", "other.pem", false),
        ("registrar.site.name", "other.example", false),
        ("metrics.listen", "127.0.0.1:9685", true),
        ("admin.socket", "other.sock", true),
        ("est.public", "coaps://other.example.net", false),
        ("discovery.multicast", "224.0.1.187", true),
        ("discovery.interfaces", "eth7", true),
        ("discovery.port", "7777", true),
        ("discovery.leisure", "7s", true),
        ("discovery.on_link", "192.0.2.0/24", true),
        ("discovery.resource_directory", "coap://other.example.net", true),
        ("discovery.endpoint", "other", true),
        ("discovery.lifetime", "7h", true),
    ];

    fn configuration(key: Option<(&str, &str)>) -> Configuration {
        let variable =
            key.map(|(key, value)| (format!("MUSTER_{}", key.to_uppercase().replace('.', "__")).into(), value.into()));
        let sources = Sources::new("/etc/muster.toml".into(), TEXT.into(), variable.into_iter().collect());
        read(&sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn each_key_is_named_if_it_needs_a_restart_and_only_then() {
        let started = configuration(None);
        for (key, value, needed) in OTHERWISE {
            let written = configuration(Some((key, value)));
            assert_eq!(needs_restart(&started, &written), if needed { vec![key] } else { vec![] }, "{key}");
        }
        let keys: BTreeSet<&str> = started.effective.iter().map(|effective| effective.key.as_str()).collect();
        let asked: BTreeSet<&str> = OTHERWISE.iter().map(|(key, ..)| *key).collect();
        let forgotten: Vec<_> =
            keys.difference(&asked).filter(|key| !key.starts_with("ca.") && !key.starts_with("profile")).collect();
        // A reload that changes it is refused.
        let forgotten: Vec<_> = forgotten.into_iter().filter(|key| **key != "authority.kind").collect();
        assert!(forgotten.is_empty(), "{forgotten:?} are read and not asked for here");
        assert_eq!(asked.difference(&keys).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn metrics_and_an_admin_socket_that_come_or_go_need_a_restart() {
        let with = configuration(None);
        let without = Configuration { admin: None, ..with.clone() };
        assert_eq!(needs_restart(&with, &without), ["admin.socket"]);
        assert_eq!(needs_restart(&without, &with), ["admin.socket"]);
        let without = Configuration { metrics: None, ..with.clone() };
        assert_eq!(needs_restart(&with, &without), ["metrics.listen"]);
        assert_eq!(needs_restart(&without, &with), ["metrics.listen"]);
        assert!(needs_restart(&with, &with).is_empty());
        let without = Configuration { discovery: None, ..with.clone() };
        assert_eq!(needs_restart(&with, &without), ["discovery.multicast", "discovery.resource_directory"]);
        assert_eq!(needs_restart(&without, &with), ["discovery.multicast", "discovery.resource_directory"]);
    }
}
