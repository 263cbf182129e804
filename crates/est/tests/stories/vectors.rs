//! The example requests of RFC 9148, appendices A.2 and A.3, against our server.

use std::sync::Arc;

use authority::CaProfile;
use coap::Code;
use est::Reason;

use crate::support::raw::{Ask, POST, Raw};
use crate::support::{Pki, World};

/// Its challengePassword is not the tls-unique of any session: "parse and verify only".
#[test]
fn e03_the_example_request_of_rfc_9148_is_refused() {
    let text = include_str!("../vectors/sen-request-286.hex");
    let request = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    pki::Csr::parse(request.clone()).unwrap().verify().unwrap();
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let ask = Ask { method: POST, path: "est/sen", content_format: Some(286), payload: &request, ..Ask::default() };
    let said = raw.ask(&mut world, &ask);
    assert_eq!(said.code, Code::FORBIDDEN);
    assert_eq!(said.diagnostic(), Reason::ChallengeMismatch.code());
    assert_eq!(world.ledger.issued_count(), 0);
    let attempt = world.attempts.last().unwrap();
    assert_eq!(attempt.reason(), Some(Reason::ChallengeMismatch));
    assert!(!attempt.offered.contains("%$"), "no part of a CSR reaches a record");
}

/// It is read; the subject is that of another device.
#[test]
fn the_example_request_for_a_key_is_read_and_refused_for_its_subject_alone() {
    let text = include_str!("../../../pki/tests/vectors/rfc9148/skg-request-286.hex");
    let request = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    let pki = Pki::new();
    let mut spec = pki.profile_spec("meters");
    spec.server_keys = true;
    let profile = Arc::new(CaProfile::compile(spec).unwrap());
    let mut world = World::of(pki, vec![profile], |_, _| {});
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    for path in ["est/skg", "est/skc"] {
        let ask = Ask { method: POST, path, content_format: Some(286), payload: &request, ..Ask::default() };
        let said = raw.ask(&mut world, &ask);
        assert_eq!((said.code, said.diagnostic()), (Code::FORBIDDEN, Reason::SkgSubjectMismatch.code()));
    }
    assert_eq!(world.ledger.issued_count(), 0);
}
