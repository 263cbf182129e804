//! What only the inside can arrange: no room outside the shard, a time that is over.

#[path = "../../tests/support/mod.rs"]
mod support;

use est::{Failure, Operation};
use net::device::Fault;
use support::{PATIENCE, Pki, csr, new_key};

use super::{Drained, Options, Server};

#[test]
fn without_room_an_enrolment_is_answered_with_later_and_the_rest_is_served() {
    let pki = Pki::new();
    let mut loaded = crate::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    loaded.outside_max = 0;
    let server = Server::start(loaded, Options::default()).unwrap();
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    let fault = device.ask(Operation::Enroll { csr: csr(&identity, &new_key()) }, PATIENCE).unwrap_err();
    let Fault::Failed(Failure::Later { refused, max_age }) = fault else { panic!("{fault}") };
    assert_eq!(refused.code, coap::Code::SERVICE_UNAVAILABLE);
    assert!(max_age > 0);
    assert!(device.ask(Operation::CaCertificates, PATIENCE).is_ok());
    assert_eq!(server.issued(), 0);
}

#[test]
fn without_room_the_steps_of_a_handshake_run_on_the_shard() {
    let pki = Pki::new();
    let text = format!("{}[dtls]\npublic_key_steps = \"pool\"\n", pki.configuration(&["127.0.0.1:0"]));
    let mut loaded = crate::load(&pki.sources(&text)).unwrap();
    loaded.outside_max = 0;
    let server = Server::start(loaded, Options::default()).unwrap();
    pki.connect(&pki.device(1), server.addresses()[0]).close();
}
