//! What `/att` asks for: over the wire, in both forms, and as the decision enforces it.

use std::sync::Arc;

use authority::{CaProfile, KeyTypes};
use coap::{Block, BlockSize, Code, ContentFormat};
use est::{Answer, ClientConfig, ClientEvent, Operation, Reason, Resource, Success};
use pki::csr_attributes::{CsrAttributes, CsrAttributesForm, KeyRequirement};
use pki::{Csr, Curve, PrivateKey, SigningKey};

use crate::support::raw::{Ask, GET, Raw};
use crate::support::{Key, Pki, TestRandom, World, csr};

fn world_of(key_types: KeyTypes) -> World {
    let pki = Pki::new();
    let mut spec = pki.profile_spec("meters");
    spec.key_types = key_types;
    let profile = Arc::new(CaProfile::compile(spec).unwrap());
    World::of(pki, vec![profile], |_, _| {})
}

fn key_on(curve: Curve) -> Key {
    let private = PrivateKey::generate(curve, &TestRandom::secure()).unwrap();
    let signing = SigningKey::from_pkcs8(private.pkcs8(), &TestRandom::secure()).unwrap();
    Key { private, signing }
}

#[test]
fn the_attributes_come_whole_and_in_blocks_and_count_once() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let ask = |accept, block2| Ask { method: GET, path: "est/att", accept, block2, ..Ask::default() };
    let whole = raw.ask(&mut world, &ask(Some(285), None));
    assert_eq!((whole.code, whole.content_format), (Code::CONTENT, Some(ContentFormat::CSR_ATTRIBUTES)));
    let size = BlockSize::B16;
    let mut body = Vec::new();
    for num in 0.. {
        let said = raw.ask(&mut world, &ask(None, Some(Block { num, more: false, size })));
        body.extend_from_slice(&said.payload);
        if !said.block2.unwrap().more {
            break;
        }
    }
    assert_eq!(body, whole.payload);
    let successes = world.attempts.iter().filter_map(|attempt| attempt.outcome.ok());
    let of_att = successes.filter(|success| *success == Success::Function(Resource::CsrAttributes)).count();
    assert_eq!(of_att, 2, "one for each answer, not for each block");
    assert_eq!(world.server.counters().csr_attributes, 2);
}

#[test]
fn both_forms_are_there_and_say_the_same() {
    let mut world = world_of(KeyTypes { p256: false, p384: true });
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::CsrAttributes);
    let ClientEvent::Done(Answer::CsrAttributes(der)) = device.event() else { panic!("no CSR attributes") };
    let (template, list) = (CsrAttributes::parse(&der).unwrap(), CsrAttributes::parse_unstructured(&der).unwrap());
    assert_eq!(template.key, Some(KeyRequirement::Ec(Some(Curve::P384))));
    assert_eq!(template, list);
    assert_ne!(template.encode(CsrAttributesForm::Unstructured).unwrap(), der, "the template is there too");
}

#[test]
fn what_att_asks_for_is_what_the_decision_enforces() {
    let curves = [Curve::P256, Curve::P384];
    let all = [(true, true), (true, false), (false, true)].map(|(p256, p384)| KeyTypes { p256, p384 });
    for key_types in all {
        let mut world = world_of(key_types);
        let holder = world.pki.device(1);
        let mut device = world.connect(1, &holder, ClientConfig::default());
        world.ask(&mut device, Operation::CsrAttributes);
        let ClientEvent::Done(Answer::CsrAttributes(der)) = device.event() else { panic!("no CSR attributes") };
        let asked = CsrAttributes::parse(&der).unwrap();
        for curve in curves {
            let request = csr(holder.certificate.subject(), &key_on(curve));
            let unmet = asked.unmet_by(&Csr::parse(request.clone()).and_then(Csr::verify).unwrap());
            world.ask(&mut device, Operation::Enroll { csr: request });
            match unmet {
                None => _ = device.certificate(),
                Some(_) => assert_eq!(device.failure().reason(), Some(Reason::CsrKeyType), "{key_types:?} {curve:?}"),
            }
        }
        let allowed = usize::from(key_types.p256) + usize::from(key_types.p384);
        assert_eq!(world.ledger.issued_count(), allowed, "{key_types:?}");
    }
}
