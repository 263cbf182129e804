//! Devices over real DTLS, a Registrar, and a scripted upstream CA over real HTTPS.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure is a panic, the machine's clock, sockets and threads are real"
)]

mod connections;
mod envelope;
mod refresh;
mod rsa;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coap::Code;
use est::Failure;
use net::blocking_client::{BlockingClient, ConnectionFault};
use net::proxy::{Conditions, Proxy, Settings};
use pki::Certificate;
use server::Handle;

use support::{Identity, PATIENCE, Pki, csr, enrol, new_key};
use upstream::{Act, ScriptedUpstream};

/// A Registrar's configuration with these upstreams.
fn configuration(pki: &Pki, upstreams: &[String], further: &str) -> String {
    let registrar = pki.device(999_999);
    pki.write_certificates("registrar.pem", &[&registrar.certificate]);
    pki.write_key("registrar.key", &registrar.key);
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"server.pem\"\nkey = \"file:server.key\"\n\
         [authority]\nkind = \"registrar\"\nupstreams = {upstreams:?}\ntrust = [\"root.pem\"]\n\
         certificate = \"registrar.pem\"\nkey = \"file:registrar.key\"\n{further}\n\
         [[profile]]\nname = \"meters\"\nlabels = [\"\", \"meters\"]\nissuers = [\"issuing.pem\"]\n\
         manufacturers = [\"factory.pem\"]\nserver_keys = \"here\"\n\
         [ledger]\nurl = \"memory:\"\n"
    )
}

/// A device whose Registrar knows the CA certificates of its upstream.
fn ready(pki: &Pki, server: &Handle, device: &Identity) -> BlockingClient {
    let began = Instant::now();
    loop {
        let mut client = pki.connect(device, server.addresses()[0]);
        if client.ask(est::Operation::CaCertificates, PATIENCE).is_ok() {
            return client;
        }
        assert!(began.elapsed() < PATIENCE, "the Registrar never got the CA certificates");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_device_enrols_and_renews_through_a_registrar() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    let issued = enrol(&mut client, &device);
    upstream.now_does(Act::IssueOldFashioned);
    let mut client = pki.connect(&issued, server.addresses()[0]);
    let key = new_key();
    let renewal = est::Operation::Reenroll { csr: csr(&issued, &key) };
    let est::Answer::Certificate(renewed) = client.ask(renewal.clone(), PATIENCE).unwrap() else { panic!() };
    // The same request again, in another session: the same bytes, and nothing is sent.
    let mut again = pki.connect(&issued, server.addresses()[0]);
    assert_eq!(again.ask(renewal.clone(), PATIENCE).unwrap(), est::Answer::Certificate(renewed.clone()));
    let posts = upstream.posts();
    let paths: Vec<&str> = posts.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/.well-known/est/simpleenroll", "/.well-known/est/simplereenroll"]);
    let est_csr = match &renewal {
        est::Operation::Reenroll { csr } => csr,
        other => panic!("{other:?}"),
    };
    assert_eq!(posts[1].1, *est_csr, "the CSR is forwarded unchanged");
    let renewed = Identity { certificate: Certificate::parse(&renewed).unwrap(), key };
    enrol(&mut pki.connect(&renewed, server.addresses()[0]), &renewed);
    assert!(upstream.connections() <= 2, "connections are used again: {}", upstream.connections());
}

/// The code of a refusal, its diagnostic payload, and Max-Age.
fn refusal(fault: ConnectionFault) -> (Code, String, Option<u32>) {
    match fault {
        ConnectionFault::Failed(failure) => match failure {
            Failure::Refused(refused) => (refused.code, refused.diagnostic.unwrap_or_default(), None),
            Failure::Later { refused, max_age } => {
                (refused.code, refused.diagnostic.unwrap_or_default(), Some(max_age))
            }
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

/// What the device gets for a request that the upstream answers so.
fn answered(act: Act) -> (Code, String, Option<u32>) {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, act);
    let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    let operation = est::Operation::Enroll { csr: csr(&device, &new_key()) };
    refusal(client.ask(operation, PATIENCE).unwrap_err())
}

#[test]
fn e42_the_upstreams_status_becomes_a_code_and_none_of_its_text_is_passed_on() {
    let text = b"SECRET OF THE UPSTREAM".to_vec();
    for (head, code, reason) in [
        ("400 Bad Request", Code::BAD_REQUEST, "est.upstream.bad_request"),
        ("401 Unauthorized", Code::UNAUTHORIZED, "est.upstream.unauthorized"),
        ("403 Forbidden", Code::FORBIDDEN, "est.upstream.forbidden"),
        ("404 Not Found", Code::NOT_FOUND, "est.upstream.not_found"),
        ("302 Found\r\nLocation: https://127.0.0.1/elsewhere", Code::BAD_GATEWAY, "est.upstream.answer_status"),
    ] {
        let head = format!("HTTP/1.1 {head}\r\nContent-Type: text/plain\r\n");
        assert_eq!(answered(Act::Raw(head, text.clone())), (code, reason.to_owned(), None));
    }
    let accepted = Act::Raw("HTTP/1.1 202 Accepted\r\nRetry-After: 120\r\n".into(), text);
    let (code, reason, max_age) = answered(accepted);
    assert_eq!((code, reason.as_str()), (Code::SERVICE_UNAVAILABLE, "est.upstream.accepted"));
    assert!((120..=180).contains(&max_age.unwrap()), "at least what the upstream asks for: {max_age:?}");
}

#[test]
fn e42_what_has_an_unknown_end_is_sent_to_the_same_upstream_again_though_another_is_healthy() {
    let pki = Pki::new();
    let (first, second) = (ScriptedUpstream::start(&pki, Act::ReadAndClose), ScriptedUpstream::start(&pki, Act::Issue));
    let server = pki.start(&configuration(&pki, &[first.url(), second.url()], ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    let operation = est::Operation::Enroll { csr: csr(&device, &new_key()) };
    for act in [Act::ReadAndClose, Act::CloseHalfWay] {
        first.now_does(act);
        let (code, reason, max_age) = refusal(client.ask(operation.clone(), PATIENCE).unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::SERVICE_UNAVAILABLE, "est.upstream.silent"));
        assert!(max_age.is_some());
        client = pki.connect(&device, server.addresses()[0]);
    }
    first.now_does(Act::Issue);
    let est::Answer::Certificate(_) = client.ask(operation.clone(), PATIENCE).unwrap() else { panic!() };
    let est::Operation::Enroll { csr } = &operation else { panic!() };
    let sent: Vec<Vec<u8>> = first.posts().into_iter().map(|(_, csr)| csr).collect();
    assert_eq!(sent, [csr.clone(), csr.clone(), csr.clone()], "the same CSR, to the same upstream");
    assert!(second.posts().is_empty(), "what is unknown never fails over");
}

#[test]
fn an_upstream_that_cannot_be_reached_fails_over_before_anything_is_sent() {
    let pki = Pki::new();
    let healthy = ScriptedUpstream::start(&pki, Act::Issue);
    // A port that was free a moment ago, and a server whose certificate nobody trusts.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stranger = Pki::new();
    let untrusted = ScriptedUpstream::start(&stranger, Act::Issue);
    let upstreams = [format!("https://{closed}/.well-known/est"), untrusted.url(), healthy.url()];
    let server = pki.start(&configuration(&pki, &upstreams, ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    enrol(&mut client, &device);
    assert_eq!((untrusted.posts().len(), healthy.posts().len()), (0, 1));
}

#[test]
fn without_the_upstreams_ca_certificates_every_function_is_answered_later() {
    let pki = Pki::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = pki.start(&configuration(&pki, &[format!("https://{closed}/.well-known/est")], ""));
    let device = pki.device(1);
    let enrolment = est::Operation::Enroll { csr: csr(&device, &new_key()) };
    for operation in [est::Operation::CaCertificates, est::Operation::CsrAttributes, enrolment] {
        let mut client = pki.connect(&device, server.addresses()[0]);
        let (code, reason, max_age) = refusal(client.ask(operation, PATIENCE).unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::SERVICE_UNAVAILABLE, "est.upstream.not_ready"));
        assert!(max_age.is_some_and(|seconds| seconds >= 1));
    }
}

#[test]
fn a_key_that_the_registrar_makes_is_enrolled_like_a_devices_own() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    let csr = csr(&device, &device.key);
    let operation = est::Operation::GenerateKey { csr: csr.clone(), packing: est::Packing::CertsOnly };
    let est::Answer::Key(made) = client.ask(operation, PATIENCE).unwrap() else { panic!() };
    let certificate = Certificate::parse(&made.certificate).unwrap();
    assert_eq!(certificate.spki(), support::signing(&made.private_key).spki());
    let posts = upstream.posts();
    assert_eq!(posts.len(), 1);
    assert!(posts[0].0.ends_with("/simpleenroll") && posts[0].1 != csr, "a request of the Registrar's own");
}

#[test]
fn discovery_of_a_registrar_lists_what_its_profiles_serve() {
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
    let mut client = ready(&pki, &server, &pki.device(1));
    let operation = est::Operation::Discover { query: Some("rt=ace.est*".into()) };
    let found = format!("{:?}", client.ask(operation, PATIENCE).unwrap());
    for path in ["/est/crts", "/est/sen", "/est/sren", "/est/skg", "/est/meters/sen"] {
        assert!(found.contains(path), "{path}: {found}");
    }
    assert!(!found.contains("/est/att"), "this upstream has nothing to say: {found}");
}

#[test]
fn the_keys_of_a_ca_and_of_a_registrar_do_not_mix() {
    let pki = Pki::new();
    let good = configuration(&pki, &["https://127.0.0.1:1/.well-known/est".to_owned()], "");
    server::load(&pki.sources(&good)).unwrap_or_else(|faults| panic!("{faults}"));
    for (from, to, words) in [
        ("kind = \"registrar\"", "kind = \"ca\"", "asks no upstream"),
        ("kind = \"registrar\"", "kind = \"proxy\"", "`ca`, which issues, or `registrar`"),
        ("issuers = [\"issuing.pem\"]", "ca = \"main\"", "the upstream CA issues for this profile"),
        ("issuers = [\"issuing.pem\"]", "issuers = [\"factory.pem\"]", "`manufacturers` holds"),
        ("https://127.0.0.1:1/.well-known/est", "http://127.0.0.1:1/.well-known/est", "a URL such as"),
        ("[ledger]", "registrars = [\"site\"]\n[ledger]", "accepts no request from another Registrar"),
        ("[ledger]", "issue.validity = \"30d\"\n[ledger]", "the upstream CA decides this"),
        ("[ledger]", "issue.subject = \"CN={device_id}\"\n[ledger]", "forwards the CSR as the device made it"),
        (
            "[ledger]",
            "[ca.main]\ncertificate = \"issuing.pem\"\nkey = \"file:issuing.key\"\n[ledger]",
            "a Registrar has none",
        ),
        ("file:registrar.key", "file:server.key", "registrar.pem"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        let faults = server::load(&pki.sources(&text)).err().unwrap_or_else(|| panic!("accepted: {to}")).to_string();
        assert!(faults.contains(words), "{to}: {faults}");
    }
    let both = format!("[server]\n{}", pki.configuration(&["127.0.0.1:0"]).trim_start_matches("[server]\n"));
    let both = both.replace("[[profile]]", "[authority]\nupstreams = []\n[[profile]]\nupstream_label = \"x\"");
    let faults = server::load(&pki.sources(&both)).unwrap_err().to_string();
    assert!(faults.contains("authority.upstreams") && faults.contains("upstream_label"), "{faults}");
}

/// The same alert after the handshake comes from an upstream that took the request: it may look at the certificate again at any time.
#[test]
fn an_upstream_that_refuses_the_registrars_certificate_after_an_answer_keeps_the_request() {
    let pki = Pki::new();
    let (first, second) = (ScriptedUpstream::start(&pki, Act::Issue), ScriptedUpstream::start(&pki, Act::Issue));
    let server = pki.start(&configuration(&pki, &[first.url(), second.url()], ""));
    let device = pki.device(1);
    let mut client = ready(&pki, &server, &device);
    let mut ask = || client.ask(est::Operation::Enroll { csr: csr(&device, &new_key()) }, PATIENCE);
    let est::Answer::Certificate(_) = ask().unwrap() else { panic!("no certificate") };
    first.now_does(Act::IssueAndRefuse);
    let (code, reason, _) = refusal(ask().unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::SERVICE_UNAVAILABLE, "est.upstream.silent"));
    assert_eq!((first.posts().len(), second.posts().len()), (2, 0));
}

/// Each device repeats its request, in new sessions too, until it has its certificate.
#[test]
fn over_a_link_that_loses_a_fifth_each_device_gets_one_certificate() {
    const DEVICES: u32 = 6;
    let pki = Pki::new();
    let upstream = ScriptedUpstream::start(&pki, Act::Issue);
    let server = pki.start(&configuration(&pki, &[upstream.url()], ""));
    drop(ready(&pki, &server, &pki.device(0)));
    let mut proxy = Proxy::bind(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        to: server.addresses()[0],
        conditions: Conditions { loss: 200, duplication: 50, ..Conditions::PERFECT },
        seed: 7,
        clients_max: 64,
        idle: PATIENCE,
    })
    .unwrap();
    let (address, stop) = (proxy.local_address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| proxy.run(&stop, None).unwrap());
        let enrolling: Vec<_> = (1..=DEVICES)
            .map(|number| {
                let pki = &pki;
                scope.spawn(move || {
                    let device = pki.device(number);
                    let operation = est::Operation::Enroll { csr: csr(&device, &new_key()) };
                    for _ in 0..10 {
                        // A handshake or a request that runs out of time is tried again.
                        let Ok((mut client, _)) = BlockingClient::connect(pki.setup(&device, address), PATIENCE) else {
                            continue;
                        };
                        if let Ok(answer) = client.ask(operation.clone(), PATIENCE) {
                            return answer;
                        }
                    }
                    panic!("device {number} got nothing")
                })
            })
            .collect();
        let got: Vec<est::Answer> = enrolling.into_iter().map(|device| device.join().unwrap()).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(got.iter().all(|answer| matches!(answer, est::Answer::Certificate(_))), "{got:?}");
    });
    assert!(proxy.summary().towards_server.link.lost > 0, "the link is a bad one");
    let posts = upstream.posts();
    assert_eq!(posts.len(), usize::try_from(DEVICES).unwrap(), "duplicates and repeats reach no upstream");
}

/// In TLS 1.3 the request is on its way when the upstream says that it refuses the certificate: it has looked at nothing of it.
#[test]
fn an_upstream_that_refuses_the_registrars_certificate_was_sent_nothing_and_another_is_asked() {
    let pki = Pki::new();
    let (refusing, good) = (ScriptedUpstream::refusing(&pki), ScriptedUpstream::start(&pki, Act::Issue));
    let server = pki.start(&configuration(&pki, &[refusing.url(), good.url()], ""));
    let device = pki.device(1);
    enrol(&mut ready(&pki, &server, &device), &device);
    assert!(refusing.connections() > 0 && refusing.posts().is_empty());
    assert_eq!(good.posts().len(), 1);
}
