//! What an upstream says about itself: kept while it says nonsense, and asked for at once where a reload names another one.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use est::{Answer, Operation};
use pki::csr_attributes::{CsrAttributes, CsrAttributesForm, KeyRequirement, RequiredAttribute, RequiredExtension};
use pki::make::{self, CsrSpec};
use pki::{Curve, NameBuilder, PrivateKey, oid};
use server::Handle;

use crate::support::{Identity, PATIENCE, Pki, days, http, new_key, ring, signing};
use crate::upstream::{Act, ScriptedUpstream};
use crate::{configuration, ready};

/// The value of a metric of the profile.
fn metric(server: &Handle, name: &str) -> Option<u64> {
    let (_, page) = http(server.metrics_address().unwrap(), "/metrics");
    let series = format!("{name}{{profile=\"meters\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn answers_that_do_not_fit_the_profile_displace_no_good_ones_and_a_metric_says_so() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let text =
        configuration(&pki, &[upstream.url()], "refresh_interval = \"1s\"") + "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let server = pki.start(&text);
    let device = pki.device(1);
    let asks = || ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap();
    let good = asks();
    let failed = || metric(&server, "muster_upstream_refresh_failed") == Some(1);
    let confirmed = || metric(&server, "muster_upstream_answers_timestamp_seconds").unwrap();
    assert!(!failed() && confirmed() > 0);
    // The root of somebody else, a list in which a manufacturer of the profile is a CA, and no certificates at all.
    let stranger = Pki::new();
    let read = |name: &str| {
        let pem = std::fs::read(pki.path(name)).unwrap();
        pki::Certificate::parse(&pki::pem::certificates(&pem).unwrap()[0]).unwrap()
    };
    let factory = read("factory.pem");
    for listed in [Some(&[&stranger.root][..]), Some(&[&factory, &pki.root][..]), None] {
        upstream.now_lists(listed);
        until("the refresh never failed", failed);
        let before = confirmed();
        assert_eq!(asks(), good, "the last good answer is handed out");
        assert_eq!(confirmed(), before, "and grows old");
        upstream.now_lists_its_own();
        until("it never recovered", || !failed() && confirmed() >= before);
    }
}

#[test]
fn a_reload_that_names_another_upstream_asks_it_at_once_and_forgets_what_the_first_one_said() {
    let pki = Pki::new();
    let first = ScriptedUpstream::start(&pki, Act::Issue);
    let server = pki.start(&configuration(&pki, &[first.url()], ""));
    let device = pki.device(1);
    let before = ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap();
    // The same issuing CA, and one certificate more in the list.
    let second = ScriptedUpstream::start(&pki, Act::Issue);
    let stranger = Pki::with_ca(days(-1, 30));
    let pem = std::fs::read(pki.path("issuing.pem")).unwrap();
    let issuing = pki::Certificate::parse(&pki::pem::certificates(&pem).unwrap()[0]).unwrap();
    second.now_lists(Some(&[&issuing, &pki.root, &stranger.root]));
    // The answers are fetched each hour.
    server.reload(&pki.sources(&configuration(&pki, &[second.url()], ""))).unwrap();
    let after = ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap();
    assert_ne!(before, after, "what the second one says");
    let with_label = configuration(&pki, &[second.url()], "")
        .replace("issuers = [\"issuing.pem\"]", "issuers = [\"issuing.pem\"]\nupstream_label = \"x\"");
    server.reload(&pki.sources(&with_label)).unwrap();
    assert_eq!(ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap(), after);
}

#[test]
fn a_reload_does_not_wait_for_an_upstream_that_hangs() {
    let pki = Pki::new();
    // The kernel takes connections, and nobody answers on them.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/.well-known/est", hanging.local_addr().unwrap());
    let server = pki.start(&configuration(&pki, &[url], "timeout = \"60s\""));
    // It has begun to ask.
    drop(hanging.accept().unwrap());
    let again = hanging.accept().unwrap();
    let healthy = ScriptedUpstream::start(&pki, Act::Issue);
    let began = Instant::now();
    server.reload(&pki.sources(&configuration(&pki, &[healthy.url()], ""))).unwrap();
    drop(ready(&pki, &server, &pki.device(1)));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(again);
}

/// While the upstream is away, a start has what an earlier process has kept beside its ledger.
#[test]
fn a_restart_hands_out_what_the_upstream_said_before() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let text = configuration(&pki, &[upstream.url()], "").replace("memory:", "sqlite:ledger.db");
    let device = pki.device(1);
    let server = pki.start(&text);
    let before = ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap();
    until("nothing was kept", || pki.path("ledger.db.upstream.json").exists());
    drop(server);
    upstream.now_lists(None);
    let server = pki.start(&text);
    let mut client = pki.connect(&device, server.addresses()[0]);
    let after = client.ask(Operation::CaCertificates, PATIENCE).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(before, after);
}

/// RFC 7030 §4.5: csrattrs is optional, so no answer to it keeps a device from the other functions.
#[test]
fn whatever_the_upstream_says_of_attributes_the_other_functions_are_served() {
    let attributes = "200 OK\r\nContent-Type: application/csrattrs";
    for (head, body) in [
        ("400 Bad Request", "no"),
        ("401 Unauthorized", "no"),
        ("403 Forbidden", "no"),
        ("405 Method Not Allowed", "no"),
        ("500 Internal Server Error", "no"),
        ("503 Service Unavailable\r\nRetry-After: 60", "no"),
        ("302 Found\r\nLocation: /", ""),
        ("200 OK\r\nContent-Type: text/html", "<html>"),
        (attributes, "<html>"),
        // A SEQUENCE of a NULL.
        (attributes, "MAIFAA=="),
    ] {
        let pki = Pki::new();
        let upstream = ScriptedUpstream::start(&pki, Act::Issue);
        upstream.now_says_of_attributes(head, body.as_bytes());
        let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
        let device = pki.device(1);
        crate::enrol(&mut ready(&pki, &server, &device), &device);
    }
}

/// The same of an upstream that does not answer there at all: not each EST server has this function, and a proxy may hang or reset for a path that it
/// does not know.
#[test]
fn an_upstream_that_is_silent_about_attributes_serves_the_other_functions() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    upstream.now_is_silent_about_attributes(true);
    let good = "200 OK\r\nContent-Type: application/csrattrs";
    upstream.now_says_of_attributes(good, b"MAsGCSqGSIb3DQEJBw==");
    let server = pki.start(&configuration(&pki, &[upstream.url()], "refresh_interval = \"1s\""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    assert!(upstream.attributes_asked() > 1, "it was asked again before devices were told that there are none");
    crate::enrol(&mut client, &device);
    let asks = || ready(&pki, &server, &device).ask(Operation::CsrAttributes, PATIENCE);
    assert!(asks().is_err(), "it has said none");
    upstream.now_is_silent_about_attributes(false);
    until("what it says in the end never came", || asks().is_ok());
    upstream.now_is_silent_about_attributes(true);
    let asked = upstream.attributes_asked();
    until("the refresh never came", || upstream.attributes_asked() > asked + 2);
    assert!(asks().is_ok(), "what it said before stays");
}

/// A CA that has no time for one question has not changed its mind about what requests must hold.
#[test]
fn attributes_that_are_known_stay_while_the_upstream_fails_to_say_them() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let good = "200 OK\r\nContent-Type: application/csrattrs";
    // A SEQUENCE of challengePassword, then of serialNumber.
    let [first, second] = ["MAsGCSqGSIb3DQEJBw==", "MAUGA1UEBQ=="];
    upstream.now_says_of_attributes(good, first.as_bytes());
    let text = configuration(&pki, &[upstream.url()], "refresh_interval = \"1s\"");
    let text = text.replace("memory:", "sqlite:ledger.db");
    let server = pki.start(&text);
    let device = pki.device(1);
    let asks = |server: &Handle| ready(&pki, server, &device).ask(Operation::CsrAttributes, PATIENCE).unwrap();
    let known = asks(&server);
    for (head, body) in [("503 Service Unavailable\r\nRetry-After: 60", "no"), (good, "<html>")] {
        upstream.now_says_of_attributes(head, body.as_bytes());
        let asked = upstream.attributes_asked();
        until("the refresh never came", || upstream.attributes_asked() > asked + 1);
        assert_eq!(asks(&server), known, "{head}");
    }
    drop(server);
    let server = pki.start(&text);
    assert_eq!(asks(&server), known, "also after a restart");
    upstream.now_says_of_attributes(good, second.as_bytes());
    until("what it says now never came", || asks(&server) != known);
    upstream.now_says_of_attributes("204 No Content", b"");
    let nothing = |server: &Handle| ready(&pki, server, &device).ask(Operation::CsrAttributes, PATIENCE).is_err();
    until("it is told that there are none", || nothing(&server));
}

/// RFC 9908 §3.4: a client puts into the subject what the attributes name. The Registrar takes the subject of the client's certificate, so a device
/// that obeys is served only if no other one is published.
#[test]
fn e04_a_device_that_obeys_the_attributes_of_an_upstream_that_names_a_subject_is_served() {
    for form in [CsrAttributesForm::Unstructured, CsrAttributesForm::Template, CsrAttributesForm::Both] {
        let pki = Pki::new();
        let upstream = ScriptedUpstream::start(&pki, Act::Issue);
        let named = CsrAttributes {
            key: Some(KeyRequirement::Ec(Some(Curve::P256))),
            subject: vec![
                RequiredAttribute { kind: oid::SERIAL_NUMBER, value: None },
                RequiredAttribute { kind: oid::ORGANIZATION, value: Some("Works") },
            ],
            extensions: vec![RequiredExtension { id: oid::SUBJECT_ALT_NAME, critical: false, value: None }],
            ..CsrAttributes::default()
        };
        let body = STANDARD.encode(named.encode(form).unwrap());
        upstream.now_says_of_attributes("200 OK\r\nContent-Type: application/csrattrs", body.as_bytes());
        let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
        let device = pki.device(1);
        let mut client = ready(&pki, &server, &device);
        let Answer::CsrAttributes(asked) = client.ask(Operation::CsrAttributes, PATIENCE).unwrap() else { panic!() };
        let asked = CsrAttributes::parse(&asked).unwrap();
        assert_eq!(asked.key, named.key, "what the upstream enforces is passed on");
        let key = new_key();
        let csr = obeying(&asked, &device, &key);
        client.ask(Operation::Enroll { csr }, PATIENCE).unwrap_or_else(|fault| panic!("{form:?}: {fault}"));
    }
}

/// The request of a device that puts into subject and alternative names what it is asked for, and its own names where it is asked for none.
fn obeying(asked: &CsrAttributes<'_>, device: &Identity, key: &PrivateKey) -> Vec<u8> {
    let own = device.certificate.subject();
    let mut subject = NameBuilder::new();
    for wanted in &asked.subject {
        let value = wanted.value.or_else(|| own.attribute(wanted.kind)).unwrap_or("none");
        subject = subject.push(wanted.kind, value).unwrap();
    }
    let subject = if asked.subject.is_empty() { own.clone() } else { subject.finish().unwrap() };
    let names = asked.extensions.iter().find(|extension| extension.id == oid::SUBJECT_ALT_NAME);
    let san =
        names.map_or_else(pki::GeneralNames::empty, |it| it.alternative_names(device.certificate.san(), own).unwrap());
    let spec = CsrSpec { subject: &subject, san: &san, challenge_password: None };
    make::csr(&spec, &signing(key), &ring()).unwrap()
}

/// A device would take them for what the upstream says now.
#[test]
fn answers_of_a_year_ago_are_not_handed_out_after_a_restart() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let text = configuration(&pki, &[upstream.url()], "").replace("memory:", "sqlite:ledger.db");
    let device = pki.device(1);
    let server = pki.start(&text);
    drop(ready(&pki, &server, &device));
    let file = pki.path("ledger.db.upstream.json");
    until("nothing was kept", || file.exists());
    drop(server);
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let confirmed = kept[0]["confirmed_at"].as_u64().unwrap();
    kept[0]["confirmed_at"] = (confirmed - 365 * 86_400).into();
    std::fs::write(&file, kept.to_string()).unwrap();
    upstream.now_lists(None);
    let server = pki.start(&text);
    let fault = pki.connect(&device, server.addresses()[0]).ask(Operation::CaCertificates, PATIENCE).unwrap_err();
    let (code, reason, _) = crate::refusal(fault);
    assert_eq!((code, reason.as_str()), (coap::Code::SERVICE_UNAVAILABLE, "est.upstream.not_ready"));
}

#[test]
fn a_ca_certificate_that_has_expired_is_left_out() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let pem = std::fs::read(pki.path("issuing.pem")).unwrap();
    let issuing = pki::Certificate::parse(&pki::pem::certificates(&pem).unwrap()[0]).unwrap();
    upstream.now_lists(Some(&[&issuing, &pki.root]));
    let server = pki.start(&configuration(&pki, &[upstream.url()], "refresh_interval = \"1s\""));
    let device = pki.device(1);
    let asks = || ready(&pki, &server, &device).ask(Operation::CaCertificates, PATIENCE).unwrap();
    let good = asks();
    let (valid, expired) = (Pki::new(), Pki::with_ca(days(-30, -1)));
    // The last one says when the list has been read.
    let pem = std::fs::read(expired.path("issuing.pem")).unwrap();
    let expired = pki::Certificate::parse(&pki::pem::certificates(&pem).unwrap()[0]).unwrap();
    upstream.now_lists(Some(&[&issuing, &pki.root, &expired, &valid.root]));
    until("the refresh never came", || asks() != good);
    let Answer::CaCertificates(listed) = asks() else { panic!("another answer") };
    assert_eq!(listed.usable.len() + listed.passed_over.len(), 3, "without the one that has expired");
}
