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

/// The transport of a Registrar, as the daemon runs it, and the folder with its certificates.
struct Transport {
    pki: Pki,
    /// There until the end.
    upstream: Option<HttpUpstream>,
    running: Option<JoinHandle<()>>,
}

impl Transport {
    fn new() -> Self {
        let pki = Pki::new();
        let _unused = configuration(&pki, &[], "");
        let (upstream, service) = HttpUpstream::new(spec(&pki)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let running = std::thread::spawn(move || runtime.block_on(service.run()));
        Self { pki, upstream: Some(upstream), running: Some(running) }
    }

    fn upstream(&self) -> &HttpUpstream {
        self.upstream.as_ref().unwrap()
    }

    /// What is no certificate, of so many enrolments that are handed over together: the status with its body, or the failure.
    fn failures(&self, url: &str, requests: u32) -> Vec<String> {
        let csrs: Vec<Vec<u8>> = (0..requests).map(|number| csr(&self.pki.device(number), &new_key())).collect();
        let (answers, answered) = mpsc::channel();
        for csr in csrs {
            let operation = UpstreamOperation::Enrol(Function::SimpleEnroll);
            let request = UpstreamRequest { upstream: url.into(), operation, label: None, csr };
            let answers = answers.clone();
            self.upstream().send(request, Box::new(move |reply| answers.send(reply.answer).unwrap()));
        }
        (0..requests)
            .filter_map(|_| match answered.recv_timeout(2 * PATIENCE).unwrap() {
                Ok(answer) if answer.status == 200 => None,
                Ok(answer) => Some(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
                Err(fault) => Some(format!("{fault:?}")),
            })
            .collect()
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        drop(self.upstream.take());
        let ended = self.running.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
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

#[test]
fn a_front_of_ours_answers_every_request_of_a_burst() {
    let transport = Transport::new();
    let pki = &transport.pki;
    let text =
        pki.configuration(&["127.0.0.1:0"]).replace("ca = \"main\"\n", "ca = \"main\"\nregistrars = [\"site\"]\n")
            + "[https]\nlisten = \"127.0.0.1:0\"\n[registrar.site]\ntrust = [\"ra.pem\"]\nname = \"ra.example.net\"\n";
    write_registrar(pki);
    transport.upstream().renew(spec(pki)).unwrap();
    let ca = pki.start(&text);
    let url = format!("https://{}/.well-known/est", ca.https_address().unwrap());
    let failures = transport.failures(&url, REQUESTS);
    assert!(failures.is_empty(), "{} of {REQUESTS}: {}", failures.len(), failures[0]);
}

/// A connection that is still in its handshake, or carries nothing, holds a place at a front too. This upstream closes none and counts all of them.
#[test]
fn a_burst_opens_no_more_connections_than_there_are_places_however_late_they_are_ready() {
    let transport = Transport::new();
    let ca = ScriptedUpstream::start(&transport.pki, Act::Issue);
    ca.now_greets_one_at_once();
    assert_eq!(transport.failures(&ca.url(), REQUESTS), Vec::<String>::new());
    assert!(ca.connections() <= UPSTREAM_CONNECTIONS_MAX, "{} connections", ca.connections());
}

#[test]
fn a_connection_is_used_again_until_the_registrar_has_another_certificate() {
    let transport = Transport::new();
    let ca = ScriptedUpstream::start(&transport.pki, Act::Issue);
    for connections in 1..=2 {
        for _ in 0..5 {
            assert_eq!(transport.failures(&ca.url(), 1), Vec::<String>::new());
        }
        assert_eq!(ca.connections(), connections);
        transport.upstream().renew(spec(&transport.pki)).unwrap();
    }
}

/// RFC 9112 §9.5: a server may close an idle connection at any time, and the client has to notice.
#[test]
fn a_connection_that_the_upstream_has_closed_takes_no_request() {
    const ROUNDS: usize = 20;
    let transport = Transport::new();
    let ca = ScriptedUpstream::start(&transport.pki, Act::IssueAndClose);
    let mut failures = Vec::new();
    for _ in 0..ROUNDS {
        failures.extend(transport.failures(&ca.url(), 1));
        std::thread::sleep(Duration::from_millis(20));
    }
    // A request that met the end of the connection on its way has an unknown end.
    assert!(failures.len() < ROUNDS / 2, "{failures:?}");
    assert!(failures.iter().all(|failure| failure == "Unknown"), "{failures:?}");
    assert_eq!(ca.posts().len() + failures.len(), ROUNDS, "none was sent twice");
}
