//! The connections of a Registrar to its upstream: a CA of ours takes a bounded number of them, and closes others before TLS.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use authority::Function;
use pki::pem;
use registrar::relay::{
    HttpUpstream, HttpUpstreamSpec, UPSTREAM_CONNECTIONS_MAX, Upstream as _, UpstreamOperation, UpstreamRequest,
};
use rustls_pki_types::CertificateDer;

use crate::configuration;
use crate::envelope::write_registrar;
use crate::support::{PATIENCE, Pki, csr, new_key};
use crate::upstream::{Act, ScriptedUpstream};

const REQUESTS: u32 = 200;

/// The transport of a Registrar with a certificate of its own, and what ends when it is dropped.
fn transport(pki: &Pki) -> (HttpUpstream, JoinHandle<()>) {
    let (upstream, service) = HttpUpstream::new(spec(pki)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (upstream, std::thread::spawn(move || runtime.block_on(service.run())))
}

fn spec(pki: &Pki) -> HttpUpstreamSpec {
    let file = |name| std::fs::read(pki.path(name)).unwrap();
    HttpUpstreamSpec {
        trust: vec![CertificateDer::from(pki.root.der().to_vec())],
        certificate: pem::certificates(&file("registrar.pem")).unwrap(),
        key: pem::private_key(&file("registrar.key")).unwrap().pkcs8().to_vec().into(),
        timeout: PATIENCE,
    }
}

/// What is no certificate, of so many enrolments that are handed over together: the status with its body, or the failure.
fn failures_of_burst(pki: &Pki, transport: &HttpUpstream, url: &str, requests: u32) -> Vec<String> {
    let csrs: Vec<Vec<u8>> = (0..requests).map(|number| csr(&pki.device(number), &new_key())).collect();
    let (answers, answered) = mpsc::channel();
    for csr in csrs {
        let operation = UpstreamOperation::Enrol(Function::SimpleEnroll);
        let request = UpstreamRequest { upstream: url.into(), operation, label: None, csr };
        let answers = answers.clone();
        transport.send(request, Box::new(move |reply| answers.send(reply.answer).unwrap()));
    }
    (0..requests)
        .filter_map(|_| match answered.recv_timeout(2 * PATIENCE).unwrap() {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            Err(fault) => Some(format!("{fault:?}")),
        })
        .collect()
}

#[test]
fn a_front_of_ours_answers_every_request_of_a_burst() {
    let pki = Pki::new();
    let text =
        pki.configuration(&["127.0.0.1:0"]).replace("ca = \"main\"\n", "ca = \"main\"\nregistrars = [\"site\"]\n")
            + "[https]\nlisten = \"127.0.0.1:0\"\n[registrar.site]\ntrust = [\"ra.pem\"]\nname = \"ra.example.net\"\n";
    let _unused = configuration(&pki, &[], "");
    write_registrar(&pki);
    let ca = pki.start(&text);
    let (upstream, running) = transport(&pki);
    let url = format!("https://{}/.well-known/est", ca.https_address().unwrap());
    let failures = failures_of_burst(&pki, &upstream, &url, REQUESTS);
    assert!(failures.is_empty(), "{} of {REQUESTS}: {}", failures.len(), failures[0]);
    drop(upstream);
    running.join().unwrap();
}

/// A connection that is still in its handshake, or carries nothing, holds a place at a front too. This upstream closes none and counts all of them.
#[test]
fn a_burst_opens_no_more_connections_than_there_are_places_however_late_they_are_ready() {
    let pki = Pki::new();
    let _unused = configuration(&pki, &[], "");
    let ca = ScriptedUpstream::start(&pki, Act::Issue);
    ca.now_greets_one_at_once();
    let (upstream, running) = transport(&pki);
    assert_eq!(failures_of_burst(&pki, &upstream, &ca.url(), REQUESTS), Vec::<String>::new());
    assert!(ca.connections() <= UPSTREAM_CONNECTIONS_MAX, "{} connections", ca.connections());
    drop(upstream);
    running.join().unwrap();
}

#[test]
fn a_connection_is_used_again_until_the_registrar_has_another_certificate() {
    let pki = Pki::new();
    let _unused = configuration(&pki, &[], "");
    let ca = ScriptedUpstream::start(&pki, Act::Issue);
    let (upstream, running) = transport(&pki);
    let enrol_a_few = || {
        for _ in 0..5 {
            assert_eq!(failures_of_burst(&pki, &upstream, &ca.url(), 1), Vec::<String>::new());
        }
    };
    enrol_a_few();
    assert_eq!(ca.connections(), 1);
    upstream.renew(spec(&pki)).unwrap();
    enrol_a_few();
    assert_eq!(ca.connections(), 2);
    drop(upstream);
    running.join().unwrap();
}

/// RFC 9112 §9.6: a server may close an idle connection without a word, and the client has to notice.
#[test]
fn a_connection_that_the_upstream_has_closed_takes_no_request() {
    const ROUNDS: usize = 20;
    let pki = Pki::new();
    let _unused = configuration(&pki, &[], "");
    let ca = ScriptedUpstream::start(&pki, Act::IssueAndClose);
    let (upstream, running) = transport(&pki);
    let mut failures = Vec::new();
    for _ in 0..ROUNDS {
        failures.extend(failures_of_burst(&pki, &upstream, &ca.url(), 1));
        std::thread::sleep(Duration::from_millis(20));
    }
    // A request that met the end of the connection on its way has an unknown end.
    assert!(failures.len() < ROUNDS / 2, "{failures:?}");
    assert!(failures.iter().all(|failure| failure == "Unknown"), "{failures:?}");
    assert_eq!(ca.posts().len() + failures.len(), ROUNDS, "none was sent twice");
    drop(upstream);
    running.join().unwrap();
}
