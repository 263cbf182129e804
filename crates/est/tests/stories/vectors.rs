//! The example request of RFC 9148, appendix A.2, against our server.

use coap::Code;
use est::Reason;

use crate::support::World;
use crate::support::raw::{Ask, POST, Raw};

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
