//! The output about a configuration: values, origins, and each fault as an operator reads it.

use super::*;

const GOOD: &str = r#"
[server]
listen = ["[::]:5684", "0.0.0.0:5684"]
certificate = "server.pem"
key = "file:server.key"
idle_timeout = "5m"
drain_timeout = "25s"
[dtls]
suites = ["ECDHE_ECDSA_AES_128_GCM_SHA256", "ECDHE_ECDSA_AES_128_CCM_8"]
extended_master_secret = "prefer"
certificate_authorities = false
[ca.main]
certificate = "ca/issuing.pem"
key = "file:ca/issuing.key"
verify_signatures = "external"
crl_url = "http://pki.example.net/main.crl"
[[profile]]
name = "meters"
labels = ["", "meters"]
ca = "main"
manufacturers = ["manufacturer/ca.pem"]
device_id = "idevid:subject.serialNumber"
mode = "open"
issue.subject = "csr"
issue.validity = "365d"
repeat_window = "24h"
diagnostics = "reason"
[ledger]
url = "memory:"
[metrics]
listen = "127.0.0.1:9684"
"#;

fn sources(text: &str) -> Sources {
    Sources::new("/etc/muster/muster.toml".into(), text.into(), Vec::new())
}

fn with_environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sources { environment, ..sources(GOOD) }
}

/// The faults of `GOOD` after a replacement, as printed.
fn faults(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the example");
    read(&sources(&GOOD.replacen(from, to, 1))).unwrap_err().to_string()
}

#[test]
fn the_example_of_the_design_is_read_as_it_says() {
    let config = read(&sources(GOOD)).unwrap();
    assert_eq!(config.server.listen.value.len(), 2);
    assert_eq!(config.server.drain_timeout.as_secs(), 25);
    assert_eq!(config.server.key.value, SecretUri::File("server.key".into()));
    assert_eq!(config.cas[0].name, "main");
    assert_eq!(config.profiles[0].spec.profile.labels, ["", "meters"]);
    assert_eq!(config.profiles[0].spec.validity.as_secs(), 31_536_000);
    assert_eq!(config.metrics.unwrap().listen.value.port(), 9684);
}

#[test]
fn every_effective_value_says_where_it_comes_from() {
    let mut sources =
        with_environment(&[("MUSTER_SERVER__IDLE_TIMEOUT", "30s"), ("MUSTER_LOG", "debug"), ("PATH", "/bin")]);
    sources.listen = Some(vec!["127.0.0.1:0".parse().unwrap()]);
    let config = read(&sources).unwrap();
    let shown: Vec<String> = config.effective.iter().map(ToString::to_string).collect();
    for line in [
        "server.listen = [\"127.0.0.1:0\"]  # command line",
        "server.certificate = \"server.pem\"  # /etc/muster/muster.toml:4",
        "server.idle_timeout = \"30s\"  # environment MUSTER_SERVER__IDLE_TIMEOUT",
        "server.shards = 0  # default",
        "profile[0].issue.validity = \"365d\"  # /etc/muster/muster.toml:25",
        "limits.sessions_max = 0  # default",
    ] {
        assert!(shown.contains(&line.to_owned()), "{line} is not in\n{}", shown.join("\n"));
    }
    let mut keys: Vec<&str> = config.effective.iter().map(|effective| effective.key.as_str()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "each key once");
}

#[test]
fn the_environment_overrides_any_key() {
    let config = read(&with_environment(&[
        ("MUSTER_SERVER__LISTEN", "127.0.0.1:1, [::1]:2"),
        ("MUSTER_SERVER__SHARDS", "3"),
        ("MUSTER_DTLS__CERTIFICATE_AUTHORITIES", "true"),
        ("MUSTER_CA__MAIN__KEY", "file:/run/secrets/ca.key"),
        ("MUSTER_PROFILE__METERS__ISSUE__VALIDITY", "90d"),
        ("MUSTER_PROFILE__0__LABELS", ",gas"),
        ("MUSTER_METRICS__LISTEN", "127.0.0.1:0"),
    ]))
    .unwrap();
    assert_eq!(config.server.listen.value, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.server.shards, 3);
    assert!(config.dtls.certificate_authorities);
    assert_eq!(config.cas[0].key.value, SecretUri::File("/run/secrets/ca.key".into()));
    assert_eq!(config.profiles[0].spec.validity.as_secs(), 90 * 86_400);
    assert_eq!(config.profiles[0].spec.profile.labels, ["", "gas"]);
    assert_eq!(config.metrics.unwrap().listen.value.port(), 0);
}

#[test]
fn a_variable_that_overrides_nothing_is_a_fault() {
    let text = read(&with_environment(&[
        ("MUSTER_SERVER__LISTN", "127.0.0.1:1"),
        ("MUSTER_PROFILE__GAS__MODE", "open"),
        ("MUSTER_SERVER__SHARDS", "many"),
        ("MUSTER_SERVER__LISTEN__0", "127.0.0.1:1"),
    ]))
    .unwrap_err()
    .to_string();
    for part in [
        "environment MUSTER_SERVER__LISTN: server.listn: unknown key\n    did you mean `listen`?",
        "environment MUSTER_PROFILE__GAS__MODE: profile: no profile is named `GAS`\n    known: meters",
        "environment MUSTER_SERVER__SHARDS: server.shards: `many` is not a valid value\n    write an integer",
        "environment MUSTER_SERVER__LISTEN__0: server.listen: found an array, expected a table",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn e76_a_variable_with_our_prefix_that_names_no_key_is_a_fault() {
    let text = read(&with_environment(&[
        ("MUSTER_SERVER_LISTEN", "127.0.0.1:1"),
        ("MUSTER_LGO", "debug"),
        ("MUSTER_SERVER__SHARD", "2"),
        ("MUSTER_", ""),
        ("MUSTERING", "is not ours"),
    ]))
    .unwrap_err()
    .to_string();
    for part in [
        "environment MUSTER_SERVER_LISTEN: this variable does not match a configuration key\n    did you mean MUSTER_SERVER__LISTEN?",
        "environment MUSTER_LGO: this variable does not match a configuration key\n    did you mean MUSTER_LOG?",
        "environment MUSTER_SERVER__SHARD: server.shard: unknown key\n    did you mean `shards`?",
        "environment MUSTER_: this variable does not match a configuration key\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(!text.contains("MUSTERING"), "{text}");
}

#[test]
#[cfg(unix)]
fn e76_a_variable_with_our_prefix_that_is_not_utf8_is_a_fault() {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let environment = vec![
        ("MUSTER_SERVER__KEY".into(), bytes(b"file:\xff")),
        (bytes(b"MUSTER_\xff"), "1".into()),
        // Another part reads it, and would silently use its default.
        ("MUSTER_LOG".into(), bytes(b"debug\xff")),
        ("OTHER".into(), bytes(b"\xff")),
    ];
    let ConfigurationFaults(faults) = read(&Sources { environment, ..sources(GOOD) }).unwrap_err();
    let places: Vec<String> = faults.iter().map(|fault| fault.place.to_string()).collect();
    assert_eq!(places, ["environment MUSTER_LOG", "environment MUSTER_SERVER__KEY", "environment MUSTER_\u{fffd}"]);
    assert!(faults.iter().all(|fault| fault.problem == Problem::NotUtf8), "{faults:?}");
}

#[test]
fn all_faults_are_said_at_once() {
    let text = GOOD
        .replace("idle_timeout = \"5m\"", "idle_timeout = \"5 minutes\"")
        .replace("key = \"file:server.key\"\n", "")
        .replace("[metrics]", "[metrik]")
        .replace("ca = \"main\"", "ca = \"man\"");
    let ConfigurationFaults(faults) = read(&sources(&text)).unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["server.key", "server.idle_timeout", "metrik", "profile[0].ca"]);
}

/// With `from` replaced by `to` in the good file, the faults contain what is expected.
#[track_caller]
fn each_is_named(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let text = faults(from, to);
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn a_ledger_is_named_by_a_url_that_this_version_knows() {
    each_is_named(&[
        (
            "memory:",
            "postgres://ledger",
            "ledger.url: a ledger in PostgreSQL is not available in this version\n    write `sqlite:ledger.db`",
        ),
        (
            "memory:",
            "sqlite:",
            "ledger.url: `sqlite:` is not a valid value\n    write `sqlite:FILE`, or `memory:` for a test",
        ),
        (
            "url = \"memory:\"",
            "url = \"sqlite:ledger.db\"\nrows_max = 9",
            "ledger.url: `rows_max` bounds a ledger in memory, and this one is a file\n    remove `rows_max`",
        ),
        (
            "url = \"memory:\"",
            "url = \"sqlite:a\"\njournal = \"a\"",
            "ledger.journal: the journal and the ledger are one file",
        ),
        ("[ledger]\nurl = \"memory:\"\n", "", "ledger.url: missing\n    add `url = \"sqlite:ledger.db\"`"),
    ]);
}

#[test]
fn the_audit_has_files_of_its_own_beside_the_ledger_or_where_the_file_says() {
    const MEMORY: &str = "url = \"memory:\"";
    let with = |lines: &str| GOOD.replacen(MEMORY, &format!("url = \"sqlite:data/l.db\"\n{lines}"), 1);
    let files = |lines: &str| {
        let config = read(&sources(&with(lines))).unwrap();
        let shown: Vec<String> = config.effective.iter().map(ToString::to_string).collect();
        let shown = shown.into_iter().filter(|line| line.starts_with("audit.")).collect::<Vec<_>>();
        (config.audit_key().unwrap(), config.audit_checkpoints().unwrap(), config.audit.syslog, shown.join("\n"))
    };
    let (key, checkpoints, syslog, shown) = files("");
    assert_eq!(key, Path::new("/etc/muster/data/l.db.audit.key"));
    assert_eq!(checkpoints, Path::new("/etc/muster/data/l.db.checkpoints.jsonl"));
    assert_eq!(syslog, AuditSyslog::Unused);
    for line in [
        "audit.key = \"data/l.db.audit.key\"  # default",
        "audit.checkpoints = \"data/l.db.checkpoints.jsonl\"  # default",
        "audit.syslog = false  # default",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
    let (key, checkpoints, syslog, shown) =
        files("[audit]\nkey = \"a.key\"\ncheckpoints = \"/mnt/c.jsonl\"\nsyslog = \"run/log\"");
    assert_eq!((key.as_path(), checkpoints.as_path()), (Path::new("/etc/muster/a.key"), Path::new("/mnt/c.jsonl")));
    assert_eq!(syslog, AuditSyslog::Socket("run/log".into()));
    assert!(shown.contains("audit.checkpoints = \"/mnt/c.jsonl\"  # /etc/muster/muster.toml:"), "{shown}");
    for (text, expected) in [
        ("true", AuditSyslog::Local),
        ("false", AuditSyslog::Unused),
        ("/run/log", AuditSyslog::Socket("/run/log".into())),
    ] {
        let config = read(&with_environment(&[("MUSTER_AUDIT__SYSLOG", text)])).unwrap();
        assert_eq!(config.audit.syslog, expected);
    }

    let in_memory = GOOD.replacen(MEMORY, &format!("{MEMORY}\n[audit]\ncheckpoints = \"c.jsonl\""), 1);
    let config = read(&sources(&in_memory)).unwrap();
    assert_eq!((config.audit_key(), config.audit_checkpoints()), (None, None), "it has no audit, as it has no journal");
}

#[test]
fn a_file_of_the_audit_that_is_also_another_file_is_a_fault() {
    const MEMORY: &str = "url = \"memory:\"";
    for (lines, expected) in [
        (
            "[audit]\ncheckpoints = \"a\"",
            "audit.checkpoints: the file of the checkpoints and a file of the ledger are one",
        ),
        (
            "[audit]\ncheckpoints = \"./a-wal\"",
            "audit.checkpoints: the file of the checkpoints and a file of the ledger",
        ),
        ("[audit]\ncheckpoints = \"/etc/muster/a.lock\"", "the file of the checkpoints and a file of the ledger"),
        (
            "[audit]\ncheckpoints = \"a.audit.key\"",
            "audit.checkpoints: the file of the checkpoints and the key are one",
        ),
        ("[audit]\ncheckpoints = \"a.audit.key.pub\"", "the file of the checkpoints and the public key are one file"),
        ("journal = \"j\"\n[audit]\ncheckpoints = \"j\"", "the file of the checkpoints and the journal are one file"),
        ("journal = \"j\"\n[audit]\nkey = \"j\"", "audit.key: the key and the journal are one file"),
        ("[audit]\nkey = \"a.checkpoints.jsonl\"", "audit.key: the key and the file of the checkpoints are one file"),
        ("[audit]\ncheckpoints = \"..\"", "audit.checkpoints: .. is not a file\n    name a file of its own"),
        ("[audit]\nsyslog = 1", "audit.syslog: found an integer, expected `true`, `false` or the path of a socket"),
        ("[audit]\nsyslog = \"\"", "audit.syslog: `` is not a valid value"),
        ("[audit]\ncheckpoint = \"c\"", "audit.checkpoint: unknown key\n    did you mean `checkpoints`?"),
    ] {
        let text = faults(MEMORY, &format!("url = \"sqlite:a\"\n{lines}"));
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn each_fault_names_the_line_the_key_and_the_remedy() {
    each_is_named(&[
        (
            "idle_timeout",
            "idle_timout",
            "/etc/muster/muster.toml:6: server.idle_timout: unknown key\n    did you mean `idle_timeout`?",
        ),
        (
            "idle_timeout = \"5m\"",
            "idle_timeout = 300",
            "/etc/muster/muster.toml:6: server.idle_timeout: found an integer, expected a duration, such as `30s`, `5m`, `24h` or `365d`",
        ),
        (
            "\"0.0.0.0:5684\"]",
            "\"0.0.0.0\"]",
            "/etc/muster/muster.toml:3: server.listen: `0.0.0.0` is not a valid value\n    write an address and a port, such as `127.0.0.1:5684` or `[::]:5684`",
        ),
        (
            "drain_timeout = \"25s\"",
            "drain_timeout = \"1h\"",
            "/etc/muster/muster.toml:7: server.drain_timeout: 1h is out of range\n    choose between 0s and 10m",
        ),
        (
            "file:server.key",
            "pkcs11:token=ca",
            "/etc/muster/muster.toml:5: server.key: a key in a PKCS #11 token is not available in this version\n    keep the key in a file",
        ),
        (
            "mode = \"open\"",
            "mode = \"manual\"",
            "profile[0].mode: `manual` is not available in this version\n    write `open`",
        ),
        ("mode = \"open\"", "mode = \"opne\"", "profile[0].mode: `opne` is not a valid value\n    write `open`"),
        (
            "[metrics]",
            "[admin]\npath = \"admin.sock\"\n[metrics]",
            "/etc/muster/muster.toml:30: admin.socket: missing\n    add `socket = \"admin.sock\"`",
        ),
        ("[metrics]", "[admin]\nsocket = \"\"\n[metrics]", "admin.socket: `` is not a valid value\n    write a path"),
        (
            "http://pki.example.net/main.crl",
            "https://pki.example.net/main.crl",
            "ca.main.crl_url: `https://pki.example.net/main.crl` is not a valid value\n    write a URL that begins with `http://`",
        ),
        (
            "idevid:subject.serialNumber",
            "idevid:subject.serialNo",
            "profile[0].device_id: `idevid:subject.serialNo` is not a valid value\n    write unknown attribute `serialNo`: known are CN, serialNumber",
        ),
        ("ECDHE_ECDSA_AES_128_CCM_8\"]", "RSA\"]", "dtls.suites: `RSA` is not a valid value"),
        (
            "\"0.0.0.0:5684\"]",
            "\"[::]:5684\"]",
            "server.listen: [::]:5684 is already used by another entry of this list",
        ),
        ("[server]", "[server", "/etc/muster/muster.toml:2: not TOML: "),
    ]);
}

#[test]
fn the_admin_socket_is_beside_the_file_and_its_path_fits_a_socket_address() {
    assert_eq!(read(&sources(GOOD)).unwrap().admin_socket(), None);
    let of = |socket: &str| read(&with_environment(&[("MUSTER_ADMIN__SOCKET", socket)]));
    assert_eq!(of("admin.sock").unwrap().admin_socket(), Some("/etc/muster/admin.sock".into()));
    assert_eq!(of("/run/muster.sock").unwrap().admin_socket(), Some("/run/muster.sock".into()));
    let longest = format!("/{}", "x".repeat(106));
    assert_eq!(of(&longest).unwrap().admin_socket(), Some(longest.clone().into()));
    let fault = of(&format!("{longest}x")).unwrap_err().to_string();
    assert!(fault.contains("longer than the 107 bytes") && fault.contains("/run/muster/admin.sock"), "{fault}");
}

#[test]
fn mode_is_obeyed_or_refused_with_the_mode_that_there_is() {
    assert_eq!(read(&sources(GOOD)).unwrap().profiles[0].spec.profile.mode, authority::Mode::Open);
    let unwritten = GOOD.replace("mode = \"open\"\n", "");
    assert_eq!(read(&sources(&unwritten)).unwrap().profiles[0].spec.profile.mode, authority::Mode::Open);
    for (word, problem) in [
        ("registered", "is not available in this version"),
        ("manual", "is not available in this version"),
        ("closed", "is not a valid value"),
        ("Open", "is not a valid value"),
    ] {
        let text = faults("mode = \"open\"", &format!("mode = \"{word}\""));
        let expected = format!("profile[0].mode: `{word}` {problem}\n    write `open`");
        assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn e55_certificates_per_device_are_bounded_and_the_bound_is_a_key() {
    let limit = |text: &str| read(&sources(text)).map(|config| config.profiles[0].spec.certificates_per_device_max);
    assert_eq!(limit(GOOD).unwrap(), authority::CERTIFICATES_PER_DEVICE);
    let with =
        |value: &str| GOOD.replace("diagnostics =", &format!("max_certificates_per_device = {value}\ndiagnostics ="));
    assert_eq!(limit(&with("7")).unwrap(), 7);
    for value in ["0", "3", "1001"] {
        let text = limit(&with(value)).unwrap_err().to_string();
        let expected =
            format!("profile[0].max_certificates_per_device: {value} is out of range\n    choose between 4 and 1000");
        assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn e35_a_section_of_revocation_lists_agrees_with_the_urls_of_the_cas() {
    const URL: &str = "crl_url = \"http://pki.example.net/main.crl\"";
    let with = |section: &str| GOOD.replacen("[metrics]", &format!("[crl]\n{section}\n[metrics]"), 1);
    let config = read(&sources(&with(""))).unwrap();
    let crl = config.crl.as_ref().unwrap();
    assert_eq!((crl.validity.as_secs(), crl.interval.as_secs()), (7 * 86_400, 10));
    assert!(crl.listen.is_none() && config.crl_folder().unwrap().ends_with("crl"));
    let fault =
        |section: &str, url: &str| read(&sources(&with(section).replacen(URL, url, 1))).unwrap_err().to_string();
    for (section, url, words) in [
        ("interval = \"60s\"", URL, "crl.interval: 1m is out of range"),
        ("validity = \"1s\"", URL, "crl.validity: 1s is out of range"),
        ("foldr = \"crl\"", URL, "did you mean `folder`?"),
        ("", "", "no CA has a `crl_url`"),
        (
            "listen = \"127.0.0.1:80\"",
            "crl_url = \"http://{shard}.example.net/main.crl\"",
            "`{shard}` stands in the host",
        ),
        ("listen = \"127.0.0.1:80\"", "crl_url = \"http://pki.example.net\"", "this one names none"),
    ] {
        let said = fault(section, url);
        assert!(said.contains(words), "{said}");
    }
    let named = with("").replace("[ca.main]", "[ca.\"../main\"]").replace("ca = \"main\"", "ca = \"../main\"");
    assert!(read(&sources(&named)).unwrap_err().to_string().contains("`../main` is not a file name"));
    let other = format!("[ca.other]\ncertificate = \"o.pem\"\nkey = \"file:o.key\"\n{URL}\n[[profile]]");
    let twice = with("listen = \"127.0.0.1:80\"").replacen("[[profile]]", &other, 1);
    assert!(
        read(&sources(&twice))
            .unwrap_err()
            .to_string()
            .contains("the path of this URL is already used by the CA `main`")
    );
}

#[test]
fn e35_a_crl_url_has_one_list_or_as_many_as_crl_shards_says() {
    const ONE: &str = "crl_url = \"http://pki.example.net/main.crl\"";
    const SHARDED: &str = "crl_url = \"http://pki.example.net/main/{shard}.crl\"";
    let shards = |lines: &str| {
        let config = read(&sources(&GOOD.replace(ONE, lines))).unwrap();
        let shown = config.effective.iter().find(|effective| effective.key == "ca.main.crl_shards");
        let shards = config.cas[0].crl_url.as_ref().and_then(|url| url.value.shards());
        (shards.map(|shards| shards.count()), shown.map(ToString::to_string))
    };
    assert_eq!(shards(""), (None, None));
    assert_eq!(shards(ONE), (None, None));
    assert_eq!(shards(SHARDED), (Some(128), Some("ca.main.crl_shards = 128  # default".into())));
    for count in [1, 7, 65_536] {
        let written = format!("ca.main.crl_shards = {count}  # /etc/muster/muster.toml:16");
        assert_eq!(shards(&format!("crl_shards = {count}\n{SHARDED}")), (Some(count), Some(written)));
    }
    let no_shards = "ca.main.crl_shards: there are no shards, because `crl_url` does not contain `{shard}`\n    write `{shard}` into \
                     `crl_url` where the number of the shard belongs, or remove `crl_shards`";
    let url = |path: &str| format!("crl_url = \"http://pki.example.net/{path}\"");
    for (lines, expected) in [
        (format!("{SHARDED}\ncrl_shards = 0"), "ca.main.crl_shards: 0 is out of range\n    choose between 1 and 65536"),
        (
            format!("{SHARDED}\ncrl_shards = 65537"),
            "ca.main.crl_shards: 65537 is out of range\n    choose between 1 and 65536",
        ),
        (format!("{SHARDED}\ncrl_shards = \"7\""), "ca.main.crl_shards: found a string, expected an integer"),
        (format!("{ONE}\ncrl_shards = 128"), no_shards),
        ("crl_shards = 128".into(), no_shards),
        (format!("{SHARDED}\ncrl_shard = 7"), "ca.main.crl_shard: unknown key\n    did you mean `crl_shards`?"),
        (
            url("{region}/{shard}.crl"),
            "ca.main.crl_url: `{region}` is not a placeholder of a CRL's URL; the only one is `{shard}`\n    write `{shard}`; write \
             `%7B` and `%7D` if the braces belong to the URL itself",
        ),
        (url("{SHARD}.crl"), "ca.main.crl_url: `{SHARD}` is not a placeholder"),
        (
            url("{shard}/{shard}.crl"),
            "ca.main.crl_url: the URL contains `{shard}` more than once\n    write `{shard}` only once",
        ),
        (url("a|{shard}"), "ca.main.crl_url: `http://pki.example.net/a|{shard}` is not a valid value\n    write a URL"),
        (
            SHARDED.replace("http", "https"),
            "{shard}.crl` is not a valid value\n    write a URL that begins with `http://`",
        ),
        (
            "ocsp_url = \"http://{shard}.example.net\"".into(),
            "ca.main.ocsp_url: this URL has no placeholders: only `crl_url` has one, `{shard}`\n    remove the braces",
        ),
        (
            "ca_issuers_url = \"http://a.example/<x>\"".into(),
            "ca.main.ca_issuers_url: `http://a.example/<x>` is not a valid value",
        ),
    ] {
        let text = faults(ONE, &lines);
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn e73_no_profile_can_be_told_to_issue_another_purpose_than_client_auth() {
    for (key, value) in [
        ("extended_key_usage", "[\"serverAuth\"]"),
        ("extended_key_usage", "[\"cmcRA\", \"clientAuth\"]"),
        ("extended_key_usage", "[]"),
        ("purposes", "\"any\""),
        ("key_usage", "[\"keyCertSign\"]"),
    ] {
        let text = faults("issue.subject = \"csr\"", &format!("issue.subject = \"csr\"\nissue.{key} = {value}"));
        let expected =
            format!("profile[0].issue.{key}: certificates of a profile are for digitalSignature and clientAuth");
        assert!(text.contains(&expected) && text.contains("remove it"), "{expected}\nis not in\n{text}");
        assert!(!text.contains("unknown key"), "reported once: {text}");
    }
    // A name that resembles a refused key is an unknown key.
    assert!(
        faults("issue.subject =", "issue.client_auth = false\nissue.subject =")
            .contains("issue.client_auth: unknown key")
    );
}

#[test]
fn two_profiles_share_no_name_and_no_label() {
    let second = "[[profile]]\nname = \"meters\"\nlabels = [\"gas\", \"meters\"]\nca = \"main\"\nmanufacturers = [\"m.pem\"]\n[ledger]";
    let text = faults("[ledger]", second);
    assert!(text.contains("profile[1].name: the name `meters` is already used by profile `meters`"), "{text}");
    assert!(text.contains("profile[1].labels: the label `meters` is already used by profile `meters`"), "{text}");
}

#[test]
fn without_sections_it_says_what_is_missing() {
    let text = read(&sources("")).unwrap_err().to_string();
    for key in ["server.listen", "server.certificate", "server.key", "ca", "profile", "ledger.url"] {
        assert!(text.contains(&format!("{key}: missing")), "{key} in\n{text}");
    }
}

#[test]
fn c41_a_group_is_no_listen_address_and_plain_coap_has_no_key() {
    for group in ["224.0.1.187:5684", "[ff02::fd]:5684"] {
        let text = faults("0.0.0.0:5684", group);
        assert!(
            text.contains(&format!(
                "server.listen: `{group}` is not a valid value\n    write an address of this machine"
            )),
            "{text}"
        );
    }
    assert!(faults("idle_timeout", "coap").contains("server.coap: unknown key"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_once_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| Sources::of(path).unwrap_err().to_string();
    let missing = folder.path().join("no.toml");
    let text = said(&missing);
    assert_eq!(text.matches(&missing.display().to_string()).count(), 1, "{text}");
    assert!(text.contains("muster init"), "{text}");
    let text = said(folder.path());
    assert!(text.contains(&folder.path().join("muster.toml").display().to_string()), "{text}");
    let device = said(Path::new("/dev/zero"));
    assert!(device.contains("it is a device, not a file") && device.contains("give the path of a file"), "{device}");
    let large = folder.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    assert!(said(&large).contains("more than 1048576 bytes"), "{}", said(&large));
}
