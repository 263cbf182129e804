//! What a certificate of this CA gives access to after a restart has emptied the in-memory ledger (E46,
//! E47, E54).

#![allow(clippy::unwrap_used, reason = "a test: it fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test reads the files that it wrote, and waits for the next second of the real clock"
)]

mod support;

use std::sync::Arc;

use est::{Answer, Failure, Operation};
use net::blocking_client::{BlockingClient, ConnectionFault};
use pki::issue::{IssuerCertificate, Serial, Template, TemplateSpec};
use pki::{Certificate, GeneralNames, UnixTime, Validity};

use support::{Identity, PATIENCE, Pki, csr, new_key};

const TWIN: &str = "[ca.twin]\ncertificate = \"issuing.pem\"\nroot = \"root.pem\"\nkey = \"file:issuing.key\"\n";

fn second_profile(ca: &str) -> String {
    format!("[[profile]]\nname = \"second\"\nlabels = [\"second\"]\nca = \"{ca}\"\nmanufacturers = [\"factory.pem\"]\n")
}

fn association(pki: &Pki, identity: &Identity, server: &server::Handle) -> BlockingClient {
    let mut setup = pki.setup(identity, server.addresses()[0]);
    let mut client = est::ClientConfig::default();
    client.path.push("meters".into());
    setup.client = Arc::new(client);
    BlockingClient::connect(setup, PATIENCE).unwrap_or_else(|fault| panic!("{fault}")).0
}

/// Asks in a new association.
fn ask(pki: &Pki, identity: &Identity, server: &server::Handle, again: bool) -> Result<Identity, ConnectionFault> {
    let key = new_key();
    let csr = csr(identity, &key);
    let operation = if again { Operation::Reenroll { csr } } else { Operation::Enroll { csr } };
    let mut device = association(pki, identity, server);
    let answer = device.ask(operation, PATIENCE);
    device.close();
    match answer? {
        Answer::Certificate(der) => Ok(Identity { certificate: Certificate::parse(&der).unwrap(), key }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e46_e47_after_a_restart_a_certificate_counts_only_where_one_profile_has_its_ca() {
    for (more, let_in) in [
        (String::new(), true),
        (second_profile("main"), false),
        (format!("{TWIN}{}", second_profile("twin")), false),
        // A profile with another CA accepts no certificate of this one.
        (format!("{}{}", TWIN.replace("issuing", "third"), second_profile("twin")), true),
    ] {
        let pki = Pki::new();
        pki.write_ca("third", support::days(-1, 300), support::days(-1, 300));
        let text = pki.configuration(&["127.0.0.1:0"]) + &more;
        let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{more}: {faults}"));
        let warned = loaded.warnings().iter().filter(|it| it.what.contains("other profiles use the same CA")).count();
        assert_eq!(warned, if let_in { 0 } else { 2 }, "{more}");

        let server = pki.start(&text);
        let enrolled = ask(&pki, &pki.device(1), &server, false).unwrap();
        // The ledger knows the owner as long as the process runs.
        let enrolled = ask(&pki, &enrolled, &server, true).unwrap_or_else(|fault| panic!("{more}: {fault}"));
        server.drain();
        server.join().unwrap();

        let server = pki.start(&text);
        for again in [false, true] {
            match ask(&pki, &enrolled, &server, again) {
                Ok(_) => assert!(let_in, "{more}"),
                Err(ConnectionFault::Failed(Failure::Refused(refused))) => {
                    assert!(!let_in, "{more}: {refused:?}");
                    assert_eq!(refused.code, coap::Code::FORBIDDEN, "{refused:?}");
                }
                Err(other) => panic!("{more}: {other}"),
            }
        }
        assert_eq!(server.issued(), if let_in { 2 } else { 0 }, "{more}");
        // Whatever was forgotten, the factory certificate still works.
        ask(&pki, &pki.device(1), &server, false).unwrap_or_else(|fault| panic!("{more}: {fault}"));
    }
}

/// Another program signs with the key of the CA.
fn by_hand(pki: &Pki, like: &Identity, not_before: UnixTime) -> Identity {
    let read = |name: &str| std::fs::read(pki.path(name)).unwrap();
    let ca = Certificate::parse(&pki::pem::certificates(&read("issuing.pem")).unwrap()[0]).unwrap();
    let ca_key = pki::pem::private_key(&read("issuing.key")).unwrap();
    let (ca_key, key) = (support::signing(&ca_key), new_key());
    let issuer = Arc::new(IssuerCertificate::new(Arc::new(ca)).unwrap());
    let spec = TemplateSpec { client_auth: true, ..TemplateSpec::default() };
    let node = Serial::from_bytes(like.certificate.serial()).unwrap().node();
    let validity = Validity { not_before, not_after: like.certificate.validity().not_after };
    let (subject, spki) = (like.certificate.subject(), support::signing(&key).spki().to_vec());
    let template = Template::new(issuer, &spec).unwrap();
    let serial = Serial::new(node, [0x77; 16]);
    let to_be_signed = template.fill(subject, &GeneralNames::empty(), &spki, &serial, validity).unwrap();
    let signature = ca_key.sign(&support::ring(), to_be_signed.der()).unwrap();
    Identity { certificate: to_be_signed.assemble(&signature).unwrap(), key }
}

#[test]
fn e54_what_was_signed_since_the_start_and_not_by_the_server_opens_nothing() {
    let pki = Pki::new();
    let server = pki.start(&pki.configuration(&["127.0.0.1:0"]));
    let started = support::now();
    let enrolled = ask(&pki, &pki.device(1), &server, false).unwrap();
    while support::now() <= started {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let made_now = by_hand(&pki, &enrolled, support::now());
    for again in [false, true] {
        match ask(&pki, &made_now, &server, again) {
            Err(ConnectionFault::Failed(Failure::Refused(refused))) => assert_eq!(refused.code, coap::Code::FORBIDDEN),
            other => panic!("{:?}", other.map(|identity| identity.certificate)),
        }
    }
    assert_eq!(server.issued(), 1);
    // This one cannot be distinguished from a certificate that a restart has forgotten.
    let made_before = by_hand(&pki, &enrolled, support::days(-1, 0).not_before);
    ask(&pki, &made_before, &server, true).unwrap_or_else(|fault| panic!("{fault}"));
}
