use authority::LedgerWrites;
use est::{Reason, Resource, reason::Stage};

use super::*;
use crate::load::testing::{at, dated};
use crate::load::{CertificateRole, UpstreamStatus};

fn page(exposition: &Exposition, certificates: Vec<DatedCertificate>) -> MetricsPage {
    let certificates: Arc<[DatedCertificate]> = certificates.into();
    let readings = Readings {
        ready: Box::new(|| true),
        draining: Box::new(|| false),
        ledger_rows: Box::new(|| 7),
        ledger_writes: Box::new(LedgerWrites::default),
        clock: Box::new(ClockReading::default),
        issuing: Box::new(|| Ok(Vec::new())),
        crls: Box::new(|| {
            vec![CrlStatus { ca: "main".into(), last_write: 7, next_update: 9, due: 2, failures: 3, validity: 4 }]
        }),
        upstreams: Box::new(|| UpstreamReading {
            answers: vec![UpstreamStatus { profile: "meters".into(), confirmed_at: 7, has_failed: true }],
            resting: vec![("https://ca.example".into(), true)],
        }),
        certificates: Box::new(move || Arc::clone(&certificates)),
    };
    exposition.page(readings).unwrap()
}

const CAPACITIES: Capacities =
    Capacities { sessions: 9, half_open: 8, enrolments_in_flight: 7, pool_jobs: 6, ledger_certificates: Some(5) };

#[test]
fn every_metric_that_is_shown_is_described_and_every_description_is_of_one_that_is_shown() {
    let exposition = Exposition::new();
    let profiles = exposition.profiles(["meters"].into_iter());
    exposition.started(at(1), &CAPACITIES);
    exposition.reloaded(Some(at(1)));
    exposition.meters().handshake_seconds.record(0.01);
    profiles.of(Some("meters")).succeeded(at(2), Resource::SimpleEnroll, 0.01);
    profiles.of(Some("meters")).issuance(0.01);
    let text = page(&exposition, vec![dated(CertificateRole::Ca, "ca.pem", 0, 9)]).render();
    for Description { name, metric_type, labels, text: help, .. } in DESCRIPTIONS {
        let head = format!("# HELP {name} {help}\n# TYPE {name} {}\n", metric_type.name());
        assert_eq!(text.matches(&head).count(), 1, "{name} is not described exactly once in\n{text}");
        let suffix = if *metric_type == MetricType::Histogram { "_count" } else { "" };
        let series = format!("{name}{suffix}");
        let shown: Vec<&str> = text
            .lines()
            .filter(|line| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .collect();
        assert!(!shown.is_empty(), "{name} shows no series in\n{text}");
        for line in shown {
            let found: Vec<&str> = line
                .split_once('{')
                .map_or("", |(_, rest)| rest)
                .split("\",")
                .filter_map(|pair| pair.split_once("=\"").map(|(label, _)| label))
                .collect();
            assert_eq!(&found, labels, "{line}");
        }
    }
    let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in shown {
        assert!(DESCRIPTIONS.iter().any(|known| known.name == name), "{name} is shown but not described");
    }
}

#[test]
fn every_reason_has_a_series_before_it_happens() {
    let exposition = Exposition::new();
    let profiles = exposition.profiles(["meters"].into_iter());
    profiles.of(None).refused(Reason::ALL[0]);
    let text = page(&exposition, Vec::new()).render();
    let count = |profile: &str, reason: &Reason| {
        let (start, end) =
            (format!("muster_refusals_total{{profile=\"{profile}\","), format!("reason=\"{reason}\"}} "));
        let line = text.lines().find(|line| line.starts_with(&start) && line.contains(&end))?;
        line.rsplit(' ').next().map(str::to_owned)
    };
    for reason in Reason::ALL {
        let times = if *reason == Reason::ALL[0] { "1" } else { "0" };
        let (without, with) = match reason.stage() {
            Stage::Handshake => (Some(times), None),
            Stage::Answer => (None, None),
            _ => (Some(times), Some("0")),
        };
        assert_eq!(count("", reason).as_deref(), without, "{reason}");
        assert_eq!(count("meters", reason).as_deref(), with, "{reason}");
    }
}

#[test]
fn a_refusal_tells_where_the_attempt_ended_and_who_ended_it() {
    let exposition = Exposition::new();
    let text = page(&exposition, Vec::new()).render();
    for labels in [
        r#"stage="handshake",class="refused",reason="dtls.certificate.unknown_issuer""#,
        r#"stage="handshake",class="by_device",reason="dtls.alert.unknown_ca""#,
        r#"stage="handshake",class="broken_off",reason="dtls.handshake.timed_out""#,
        r#"stage="request",class="later",reason="est.busy.draining""#,
        r#"stage="decision",class="later",reason="est.device.pending""#,
        r#"stage="decision",class="later",reason="est.device.over_limit""#,
        r#"stage="decision",class="refused",reason="est.sen.subject_mismatch""#,
        r#"stage="issuance",class="later",reason="est.busy.ledger""#,
    ] {
        assert!(text.contains(&format!("muster_refusals_total{{profile=\"\",{labels}}} 0\n")), "{labels}");
    }
}

#[test]
fn a_profile_that_a_reload_removes_keeps_its_numbers_and_one_that_it_adds_has_some() {
    let exposition = Exposition::new();
    let before = exposition.profiles(["old"].into_iter());
    before.of(Some("old")).refused(Reason::CsrMalformed);
    let after = exposition.profiles(["new"].into_iter());
    // An enrolment that began before the reload.
    after.of(Some("old")).refused(Reason::CsrMalformed);
    after.of(Some("new")).refused(Reason::CsrMalformed);
    let text = page(&exposition, Vec::new()).render();
    for (profile, times) in [("old", 2), ("new", 1), ("", 0)] {
        let line = format!(
            "muster_refusals_total{{profile=\"{profile}\",stage=\"decision\",class=\"refused\",reason=\"est.csr.malformed\"}} {times}\n"
        );
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn profiles_with_series_of_their_own_are_bounded_and_any_name_is_a_sound_label() {
    let exposition = Exposition::new();
    let strange = ["a\"b", "a\\b", "a\nb", "é{}=,# ", &"x".repeat(1_000)];
    exposition.profiles(strange.into_iter());
    for round in 0..3 {
        let names: Vec<String> = (0..200).map(|number| format!("{round}-{number}")).collect();
        exposition.profiles(names.iter().map(String::as_str));
    }
    let text = page(&exposition, Vec::new()).render();
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("muster_last_enrolment")).collect();
    assert_eq!(series.len(), 1 + 256);
    for line in &series {
        let value = line.split_once("{profile=\"").and_then(|(_, rest)| rest.strip_suffix("\"} 0")).unwrap();
        assert!(value.len() <= 64 && !value.contains(['"', '\\']), "{line}");
    }
    // Profiles without separate series are counted too.
    let table = exposition.profiles([].into_iter());
    table.of(Some("2-199")).refused(Reason::CsrMalformed);
    let text = page(&exposition, Vec::new()).render();
    let counted =
        "muster_refusals_total{profile=\"\",stage=\"decision\",class=\"refused\",reason=\"est.csr.malformed\"} 1\n";
    assert!(text.contains(counted));
}

#[test]
fn certificates_are_those_in_force_each_once_the_first_to_expire_first() {
    let exposition = Exposition::new();
    let ca = dated(CertificateRole::Ca, "ca \"main\".pem", 0, 20);
    let server = dated(CertificateRole::Server, "server.pem", 0, 10);
    let text = page(&exposition, vec![ca.clone(), server, ca]).render();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("muster_certificate_expiry_timestamp_seconds{")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("kind=\"server\",subject=\"CN=server.pem\",file=\"server.pem\",sha256=\""),
        "{}",
        lines[0]
    );
    assert!(lines[0].ends_with(" 864000") && lines[1].contains("file=\"ca .main..pem~"), "{lines:?}");
    let many =
        (0..1_500).map(|number| dated(CertificateRole::Manufacturer, &format!("{number}.pem"), 0, 9_000 - number));
    let text = page(&exposition, many.collect()).render();
    assert_eq!(text.matches("muster_certificate_expiry_timestamp_seconds{").count(), 1_000);
    assert!(text.contains("file=\"1499.pem\"") && !text.contains("file=\"0.pem\""));
}

#[test]
fn a_reload_that_fails_is_shown_and_leaves_the_time_of_the_last_good_one() {
    let exposition = Exposition::new();
    exposition.reloaded(Some(at(3)));
    exposition.reloaded(None);
    let text = page(&exposition, Vec::new()).render();
    assert!(text.contains("muster_last_reload_successful 0\n"), "{text}");
    assert!(text.contains("muster_last_reload_success_timestamp_seconds 259200\n"), "{text}");
}
