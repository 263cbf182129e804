//! A burst of devices behind one Registrar, in front of a CA of ours: its front takes a bounded number of connections from a Registrar, and closes
//! others before TLS.

use std::sync::{Arc, mpsc};

use authority::Function;
use pki::pem;
use registrar::relay::{HttpUpstream, HttpUpstreamSpec, Upstream as _, UpstreamOperation, UpstreamRequest};
use rustls_pki_types::CertificateDer;

use crate::configuration;
use crate::envelope::write_registrar;
use crate::support::{PATIENCE, Pki, csr, new_key};

const REQUESTS: u32 = 200;

#[test]
fn a_front_of_ours_answers_every_request_of_a_burst() {
    let pki = Pki::new();
    let text =
        pki.configuration(&["127.0.0.1:0"]).replace("ca = \"main\"\n", "ca = \"main\"\nregistrars = [\"site\"]\n")
            + "[https]\nlisten = \"127.0.0.1:0\"\n[registrar.site]\ntrust = [\"ra.pem\"]\nname = \"ra.example.net\"\n";
    let _unused = configuration(&pki, &[], "");
    write_registrar(&pki);
    let ca = pki.start(&text);
    let file = |name| std::fs::read(pki.path(name)).unwrap();
    let spec = HttpUpstreamSpec {
        trust: vec![CertificateDer::from(pki.root.der().to_vec())],
        certificate: pem::certificates(&file("registrar.pem")).unwrap(),
        key: pem::private_key(&file("registrar.key")).unwrap().pkcs8().to_vec().into(),
        timeout: PATIENCE,
    };
    let (upstream, service) = HttpUpstream::new(spec).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = std::thread::spawn(move || runtime.block_on(service.run()));
    let url: Arc<str> = format!("https://{}/.well-known/est", ca.https_address().unwrap()).into();
    let requests: Vec<Vec<u8>> = (0..REQUESTS).map(|number| csr(&pki.device(number), &new_key())).collect();
    let (answers, answered) = mpsc::channel();
    for csr in requests {
        let operation = UpstreamOperation::Enrol(Function::SimpleEnroll);
        let request = UpstreamRequest { upstream: Arc::clone(&url), operation, label: None, csr };
        let answers = answers.clone();
        upstream.send(request, Box::new(move |reply| answers.send(reply.answer).unwrap()));
    }
    let said: Vec<_> = (0..REQUESTS).map(|_| answered.recv_timeout(2 * PATIENCE).unwrap()).collect();
    // What is no certificate says why in its body.
    let others: Vec<String> = said
        .iter()
        .filter_map(|answer| match answer {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            Err(fault) => Some(format!("{fault:?}")),
        })
        .collect();
    assert!(others.is_empty(), "{} of {REQUESTS}: {}", others.len(), others[0]);
    drop(upstream);
    running.join().unwrap();
}
