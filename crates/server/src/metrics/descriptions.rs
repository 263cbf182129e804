//! The one table of all metrics: name, type, unit, labels, meaning, and what sets it. `dashboards/METRICS.md` is generated from it.

use std::fmt::Write as _;

/// The type of a metric, in Prometheus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows; begins again at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution: `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl MetricType {
    /// Its name in the text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The description of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name, with prefix and unit.
    pub name: &'static str,
    /// Its type.
    pub metric_type: MetricType,
    /// What it counts or measures, in the plural: a base unit where there is one.
    pub unit: &'static str,
    /// The labels that distinguish its series.
    pub labels: &'static [&'static str],
    /// Its meaning.
    pub text: &'static str,
    /// What sets it, and when.
    pub source: &'static str,
}

pub(super) const RECEIVED: &str = "muster_datagrams_received_total";
pub(super) const RECEIVED_BYTES: &str = "muster_received_bytes_total";
pub(super) const SENT: &str = "muster_datagrams_sent_total";
pub(super) const SENT_BYTES: &str = "muster_sent_bytes_total";
pub(super) const SEND_CALLS: &str = "muster_send_calls_total";
pub(super) const GROUP_REQUESTS: &str = "muster_multicast_requests_total";
pub(super) const DIRECTORY_REGISTERED: &str = "muster_resource_directory_registered";
pub(super) const HTTPS_CONNECTIONS: &str = "muster_https_connections";
pub(super) const UPSTREAM_FACTS: &str = "muster_upstream_answers_timestamp_seconds";
pub(super) const UPSTREAM_REFRESH_FAILED: &str = "muster_upstream_refresh_failed";
pub(super) const UPSTREAM_RESTING: &str = "muster_upstream_resting";
pub(super) const DROPS: &str = "muster_drops_total";
pub(super) const LOG_LINES_DROPPED: &str = "muster_log_lines_dropped_total";
pub(super) const FORGERY_ALARMS: &str = "muster_forgery_alarms_total";
pub(super) const SESSIONS: &str = "muster_sessions";
pub(super) const SESSIONS_MAX: &str = "muster_sessions_max";
pub(super) const HANDSHAKES: &str = "muster_handshakes_total";
pub(super) const REQUESTS: &str = "muster_requests_total";
pub(super) const REFUSALS: &str = "muster_refusals_total";
pub(super) const LAST_ENROLMENT: &str = "muster_last_enrolment_timestamp_seconds";
pub(super) const IN_FLIGHT: &str = "muster_enrolments_in_flight";
pub(super) const IN_FLIGHT_MAX: &str = "muster_enrolments_in_flight_max";
pub(super) const POOL_JOBS: &str = "muster_pool_jobs";
pub(super) const POOL_JOBS_MAX: &str = "muster_pool_jobs_max";
pub(super) const LEDGER: &str = "muster_ledger_certificates";
pub(super) const LEDGER_COMMITS: &str = "muster_ledger_commits_total";
pub(super) const LEDGER_WRITABLE: &str = "muster_ledger_writable";
pub(super) const LEDGER_WRITE_FAULTS: &str = "muster_ledger_write_faults_total";
pub(super) const LEDGER_WAITING_ROWS: &str = "muster_ledger_waiting_rows";
pub(super) const LEDGER_DISK_FREE: &str = "muster_ledger_disk_free_bytes";
pub(super) const LEDGER_DISK_NEEDED: &str = "muster_ledger_disk_needed_bytes";
pub(super) const CLOCK_BEHIND: &str = "muster_clock_behind_ledger_seconds";
pub(super) const CLOCK_AHEAD: &str = "muster_clock_ahead_seconds";
pub(super) const READY_TO_ISSUE: &str = "muster_ready_to_issue";
pub(super) const LEDGER_MAX: &str = "muster_ledger_certificates_max";
pub(super) const HANDSHAKE_SECONDS: &str = "muster_handshake_duration_seconds";
pub(super) const REQUEST_SECONDS: &str = "muster_request_duration_seconds";
pub(super) const ISSUANCE_SECONDS: &str = "muster_issuance_duration_seconds";
pub(super) const CERTIFICATE_EXPIRY: &str = "muster_certificate_expiry_timestamp_seconds";
pub(super) const CRL_LAST_WRITE: &str = "muster_crl_last_write_timestamp_seconds";
pub(super) const CRL_NEXT_UPDATE: &str = "muster_crl_next_update_timestamp_seconds";
pub(super) const CRL_VALIDITY: &str = "muster_crl_validity_seconds";
pub(super) const CRL_DUE: &str = "muster_crl_lists_due";
pub(super) const CRL_FAILURES: &str = "muster_crl_failures_total";
pub(super) const READY: &str = "muster_ready";
pub(super) const DRAINING: &str = "muster_draining";
pub(super) const RELOAD_SUCCESSFUL: &str = "muster_last_reload_successful";
pub(super) const RELOAD_SUCCESS: &str = "muster_last_reload_success_timestamp_seconds";
pub(super) const BUILD: &str = "muster_build_info";
pub(super) const START: &str = "process_start_time_seconds";
pub(super) const CPU: &str = "process_cpu_seconds_total";
pub(super) const MEMORY: &str = "process_resident_memory_bytes";
pub(super) const OPEN_FDS: &str = "process_open_fds";
pub(super) const MAX_FDS: &str = "process_max_fds";

const TURN: &str = "each shard, at the end of a turn";
const ATTEMPT: &str = "each shard, when an attempt ends";
const CRL_TURN: &str = "the writer of the revocation lists, every `interval` of [crl]";
const START_ONLY: &str = "the daemon, at its start";
const BY_LEDGER: &str = "the ledger, read by each scrape";
const SCRAPE: &str = "read from the kernel by each scrape";

/// All metrics, in the order of the page.
pub const DESCRIPTIONS: &[Description] = &[
    counter(HANDSHAKES, "handshakes", &[], "DTLS handshakes completed: the device is authenticated", TURN),
    counter(
        REQUESTS,
        "requests",
        &["profile", "function"],
        "EST requests answered with success, by function: crts, sen, sren, att, skg, skc, core (discovery, which has no profile)",
        ATTEMPT,
    ),
    counter(
        REFUSALS,
        "refusals",
        &["profile", "stage", "class", "reason"],
        "Attempts that did not succeed. `muster explain REASON` says what each reason means; stage and class follow from the reason. \
         stage: handshake, request, decision, issuance. class: refused (by this server), later (not now: the device is told when to try \
         again), by_device (the device sent an alert), broken_off (the attempt ended without an answer)",
        ATTEMPT,
    ),
    gauge(
        LAST_ENROLMENT,
        "seconds",
        &["profile"],
        "When a device last got a certificate, in seconds since 1970; 0 before the first one",
        ATTEMPT,
    ),
    histogram(
        HANDSHAKE_SECONDS,
        &[],
        "Time from the first ClientHello with a valid cookie to the end of a handshake that succeeded. Without a profile: the path that chooses one \
         comes with the request",
        ATTEMPT,
    ),
    histogram(
        REQUEST_SECONDS,
        &["profile", "function"],
        "Time from the whole request to its answer, of requests that succeeded",
        ATTEMPT,
    ),
    histogram(
        ISSUANCE_SECONDS,
        &["profile"],
        "Time from handing an enrolment to the authority until its outcome is back on the shard, whatever the outcome",
        "each shard, when an outcome comes back",
    ),
    gauge(
        SESSIONS,
        "sessions",
        &["state"],
        "DTLS sessions, by state: half_open (handshake in progress) or established",
        TURN,
    ),
    gauge(SESSIONS_MAX, "sessions", &["state"], "The most sessions there can be in each state", START_ONLY),
    gauge(IN_FLIGHT, "enrolments", &[], "Enrolments handed to the authority and not answered yet", TURN),
    gauge(
        IN_FLIGHT_MAX,
        "enrolments",
        &[],
        "The most enrolments there can be in flight; devices beyond it are told to try again later",
        START_ONLY,
    ),
    gauge(
        POOL_JOBS,
        "jobs",
        &["kind"],
        "Jobs that wait in the pool or run there, by kind: enrolment or handshake_step (a public-key step of a handshake)",
        TURN,
    ),
    gauge(
        POOL_JOBS_MAX,
        "jobs",
        &[],
        "The most jobs of both kinds there can be in the pool; a handshake step beyond it runs on its shard",
        START_ONLY,
    ),
    gauge(LEDGER, "certificates", &[], "Certificates in the ledger", "counted by each scrape"),
    gauge(
        LEDGER_MAX,
        "certificates",
        &[],
        "The most certificates that the ledger holds; +Inf if only its disk bounds it",
        START_ONLY,
    ),
    counter(
        LEDGER_COMMITS,
        "commits",
        &[],
        "Batches of rows that the ledger has made durable, each with one sync of its disk; 0 if it is in memory",
        BY_LEDGER,
    ),
    gauge(
        LEDGER_WRITABLE,
        "boolean",
        &[],
        "1 while the ledger can write; 0 after a write failed and until one succeeds. Meanwhile devices are told to try again later",
        BY_LEDGER,
    ),
    counter(
        LEDGER_WRITE_FAULTS,
        "batches",
        &[],
        "Batches of rows that the ledger could not make durable. The log says why",
        BY_LEDGER,
    ),
    gauge(LEDGER_WAITING_ROWS, "rows", &[], "Rows that wait to be written", BY_LEDGER),
    gauge(
        LEDGER_DISK_FREE,
        "bytes",
        &[],
        "Free space for the user of the ledger on its disk, or on the disk of its journal if that is shorter of what it needs; +Inf if it is in memory",
        BY_LEDGER,
    ),
    gauge(
        LEDGER_DISK_NEEDED,
        "bytes",
        &[],
        "Free space that this disk needs before a ledger which found it full writes again; 0 if it is in memory",
        BY_LEDGER,
    ),
    gauge(
        CLOCK_BEHIND,
        "seconds",
        &[],
        "How far the clock is before the latest row of the ledger; beyond 60 s nothing is issued",
        "read by each scrape",
    ),
    gauge(
        CLOCK_AHEAD,
        "seconds",
        &[],
        "How far the clock has jumped ahead since the start, compared with the monotonic clock; beyond 300 s nothing is issued",
        "read by each scrape",
    ),
    gauge(
        CERTIFICATE_EXPIRY,
        "seconds",
        &["kind", "subject", "file", "sha256"],
        "When a certificate that the configuration names expires (its notAfter, in seconds since 1970). kind: server, server_issuer, ca, manufacturer, \
         trusted_ca, registrar_ca. sha256 is the beginning of its SHA-256 digest",
        "the daemon, at its start and with each reload; the 1,000 that expire first",
    ),
    gauge(
        CRL_LAST_WRITE,
        "seconds",
        &["ca"],
        "When a revocation list of the CA was last written, in seconds since 1970; 0 before this process has written one",
        CRL_TURN,
    ),
    gauge(
        CRL_NEXT_UPDATE,
        "seconds",
        &["ca"],
        "When the first of the CA's revocation lists ends (nextUpdate, in seconds since 1970); 0 while one of them is absent",
        CRL_TURN,
    ),
    gauge(
        CRL_VALIDITY,
        "seconds",
        &["ca"],
        "Time from thisUpdate to nextUpdate of a new revocation list: `validity` in [crl]. Lists are renewed after half of it or a day",
        CRL_TURN,
    ),
    gauge(
        CRL_DUE,
        "lists",
        &["ca"],
        "Revocation lists that ought to be written and are not yet: they lack a revocation, are absent or have to be renewed",
        CRL_TURN,
    ),
    counter(
        CRL_FAILURES,
        "attempts",
        &["ca"],
        "Attempts to write the revocation lists of a CA that failed; the log says why",
        CRL_TURN,
    ),
    gauge(
        HTTPS_CONNECTIONS,
        "connections",
        &["client"],
        "Open connections of the HTTPS front, by client: registrar, device, or stranger (handshake in progress, no certificate, or more connections than a certificate may have). At most 256, of which strangers hold 64 against authenticated clients",
        "the HTTPS front, with each connection",
    ),
    gauge(
        UPSTREAM_FACTS,
        "seconds",
        &["profile"],
        "Of a Registrar: when an upstream CA last gave the answers to /crts and /att that the profile hands out, in seconds since 1970; 0 while none are known. Their age is `time()` minus this, and about `refresh_interval` of [authority] at most while upstreams answer",
        "read by each scrape",
    ),
    gauge(
        UPSTREAM_REFRESH_FAILED,
        "boolean",
        &["profile"],
        "Of a Registrar: 1 if the last attempt to fetch these answers failed, or brought answers that do not fit the profile; the last good ones are handed out meanwhile, and the log says why",
        "read by each scrape",
    ),
    gauge(
        UPSTREAM_RESTING,
        "boolean",
        &["upstream"],
        "Of a Registrar: 1 while this upstream CA rests: a request to it failed (no connection, no answer, or one that breaks off), and none was answered since. One request tries it after each pause, of 1 s to a minute",
        "read by each scrape",
    ),
    counter(
        GROUP_REQUESTS,
        "requests",
        &["outcome"],
        "Datagrams to the multicast groups of [discovery], by outcome: answered, or why not. not_request, confirmable, not_discovery, option and \
         no_match have no answer; too_long would have one longer than the request, for a source beyond the link; rate and full are limits; \
         ending: the server drains",
        "the service of the groups, with each datagram",
    ),
    gauge(
        DIRECTORY_REGISTERED,
        "boolean",
        &[],
        "Whether the resource directory of [discovery] lists this server, as far as it has answered",
        "the service of the registration, with each answer",
    ),
    counter(
        DROPS,
        "drops",
        &["reason"],
        "Datagrams, records and outcomes dropped, by reason. Noise on the network is normal; backlog_full, send_refused, receive_full (the kernel, because a socket was full or the UDP checksum was wrong) and behind are the server's own",
        TURN,
    ),
    counter(
        FORGERY_ALARMS,
        "alarms",
        &[],
        "Alarms about forged records: one for each thousand above ten a second in one session. The log names the address",
        TURN,
    ),
    counter(
        LOG_LINES_DROPPED,
        "lines",
        &[],
        "Lines of the log of this process that were dropped because stderr took them too slowly, or not at all",
        "the log, read by each scrape",
    ),
    counter(RECEIVED, "datagrams", &[], "UDP datagrams received", TURN),
    counter(RECEIVED_BYTES, "bytes", &[], "UDP payload received", TURN),
    counter(SENT, "datagrams", &[], "UDP datagrams sent", TURN),
    counter(SENT_BYTES, "bytes", &[], "UDP payload sent", TURN),
    counter(
        SEND_CALLS,
        "calls",
        &[],
        "System calls that sent datagrams; fewer than datagrams: one call serves several peers, and segmentation offload joins those to one",
        TURN,
    ),
    gauge(READY, "boolean", &[], "1 while new devices are admitted; 0 while starting and while draining", "the daemon"),
    gauge(
        READY_TO_ISSUE,
        "boolean",
        &[],
        "1 while certificates can be issued; `/readyz/issue` says why not. 0 also while `muster_ready` is 0",
        "read by each scrape",
    ),
    gauge(DRAINING, "boolean", &[], "1 once the server has begun to stop", "the daemon"),
    gauge(
        RELOAD_SUCCESSFUL,
        "boolean",
        &[],
        "1 if the last attempt to load the configuration succeeded; after a failure the old configuration stays in force",
        "the daemon, at its start and with each reload",
    ),
    gauge(
        RELOAD_SUCCESS,
        "seconds",
        &[],
        "When the configuration in force was loaded, in seconds since 1970",
        "the daemon, at its start and with each reload",
    ),
    gauge(BUILD, "boolean", &["version"], "Always 1; the label says which version runs", START_ONLY),
    gauge(START, "seconds", &[], "When this server started, in seconds since 1970", START_ONLY),
    counter(CPU, "seconds", &[], "Processor time used by the process, in user and system mode", SCRAPE),
    gauge(MEMORY, "bytes", &[], "Resident memory of the process", SCRAPE),
    gauge(OPEN_FDS, "descriptors", &[], "Open file descriptors of the process", SCRAPE),
    gauge(MAX_FDS, "descriptors", &[], "The most file descriptors that the process may open", SCRAPE),
];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    text: &'static str,
    source: &'static str,
) -> Description {
    Description { name, metric_type: MetricType::Counter, unit, labels, text, source }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    text: &'static str,
    source: &'static str,
) -> Description {
    Description { name, metric_type: MetricType::Gauge, unit, labels, text, source }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    text: &'static str,
    source: &'static str,
) -> Description {
    Description { name, metric_type: MetricType::Histogram, unit: "seconds", labels, text, source }
}

const PAGE_HEAD: &str = "\
# Metrics

Generated from the table in `crates/server/src/metrics/descriptions.rs`; a test of the server compares this page with it.

No label names a device: the log does that. `profile` is the name of a `[[profile]]` of the configuration, cut to 64 bytes. It is empty where no \
profile was chosen: for everything that ends before the server has accepted the path, method and formats of a request (all of the handshake; paths \
that do not exist), and for names beyond the 256th in the life of a process. The series of a profile that a reload removes stay until the process ends.

`unit` says what the number counts; a boolean is 0 or 1. Times are in seconds since 1970, and durations in seconds.

| name | type | unit | labels | meaning | set by |
|---|---|---|---|---|---|
";

/// `dashboards/METRICS.md`.
#[must_use]
pub fn page() -> String {
    let mut page = PAGE_HEAD.to_owned();
    for Description { name, metric_type, unit, labels, text, source } in DESCRIPTIONS {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (metric_type.name(), labels.join(", "));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {text} | {source} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention_of_prometheus() {
        for Description { name, metric_type, unit, labels, text, source } in DESCRIPTIONS {
            assert!(name.starts_with("muster_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(
                *metric_type == MetricType::Counter,
                name.ends_with("_total"),
                "{name}: only counters end in _total"
            );
            let bare = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(*unit == "seconds", bare.ends_with("_seconds"), "{name}: a name ends in its base unit");
            assert_eq!(*unit == "bytes", bare.ends_with("_bytes"), "{name}: a name ends in its base unit");
            assert_eq!(*metric_type == MetricType::Histogram, bare.ends_with("_duration_seconds"), "{name}");
            assert!(!labels.contains(&"device") && !labels.contains(&"peer"), "{name}: no device in a label");
            assert!(!text.is_empty() && !source.is_empty() && !text.contains('|'), "{name}");
        }
        let mut names: Vec<&str> = DESCRIPTIONS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DESCRIPTIONS.len(), "a name occurs twice");
    }

    #[test]
    fn the_page_of_metrics_is_generated_from_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dashboards/METRICS.md");
        let page = page();
        if std::env::var_os("MUSTER_WRITE_METRICS_PAGE").is_some() {
            std::fs::write(file, &page).unwrap();
        }
        let found = std::fs::read_to_string(file).unwrap_or_default();
        assert!(found == page, "{file} is out of date: run this test with MUSTER_WRITE_METRICS_PAGE=1");
    }
}
