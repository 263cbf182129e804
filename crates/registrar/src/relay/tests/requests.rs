//! What is refused before anything is sent.

use super::*;

#[test]
fn e43_a_link_is_checked_here_and_nothing_is_sent() {
    let link = pki::linking::LinkingText::of(&[7; 12]);
    let stale = pki::linking::LinkingText::of(&[8; 12]);
    for required in [false, true] {
        let scene = Scene::with(|spec| spec.profile.require_linking = required);
        let key = new_key();
        let submit = |csr: Vec<u8>, tls_unique| {
            scene.submit(NOW, Job { tls_unique, ..scene.job(Function::SimpleEnroll, csr) });
        };
        submit(scene.csr(&key, Some(stale.as_str())), Some([7; 12]));
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeMismatch)));
        submit(scene.csr(&key, Some(link.as_str())), None);
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeUnbound)));
        if required {
            submit(scene.csr(&key, None), Some([7; 12]));
            assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ChallengeAbsent)));
        }
        assert!(scene.sent().is_empty(), "the upstream cannot check it, so it is not asked");
        let linked = scene.csr(&key, Some(link.as_str()));
        submit(linked.clone(), Some([7; 12]));
        assert_eq!(scene.sent()[0].2, linked, "forwarded unchanged");
    }
}

#[test]
fn nothing_is_sent_for_a_request_that_the_profile_refuses() {
    let scene = Scene::new();
    let key = new_key();
    let mut forged = scene.csr(&key, None);
    *forged.last_mut().unwrap() ^= 1;
    let foreign =
        CsrSpec { subject: scene.factory.certificate.subject(), san: &GeneralNames::empty(), challenge_password: None };
    let foreign = with_random(|random| make::csr(&foreign, &key, random)).unwrap();
    for (csr, code) in [
        (forged, "est.csr.signature"),
        (foreign, "est.sen.subject_mismatch"),
        (scene.csr(&scene.key, None), "est.csr.identity_key"),
        (scene.csr(&scene.issuing.key, None), "est.csr.ca_key"),
    ] {
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
        let Outcome::Refused(why) = scene.outcome() else { panic!("{code}") };
        assert_eq!(why.code(Function::SimpleEnroll), code);
    }
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&key, None)));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::NoServerKeys)));
    assert!(scene.sent().is_empty());
}

/// RFC 7030 §4.4: no key leaves under a cipher that is weaker than it; and a Registrar speaks for devices only before a CA.
#[test]
fn nothing_is_sent_for_a_key_that_the_session_does_not_protect_nor_for_another_registrar() {
    let p384 = KeyTypes { p256: false, p384: true };
    let scene = Scene::with(|spec| (spec.server_keys, spec.key_types) = (RelayedKeys::Here, p384));
    let csr = scene.csr(&scene.key, None);
    for (cipher_bits, sent) in [(128, 0), (256, 1)] {
        scene.submit(NOW, Job { cipher_bits, ..scene.job(Function::ServerKeygen, csr.clone()) });
        assert_eq!(scene.sent().len(), sent);
        if sent == 0 {
            assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::KeyCipher(Curve::P384))));
        }
    }
    let scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    let job = Job { arrival: Arrival::Registrar("site".into()), ..scene.job(Function::SimpleEnroll, csr) };
    scene.submit(NOW, job);
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::RegistrarNotListed(name)) if *name == *"site"));
    assert!(scene.sent().is_empty());
}

#[test]
fn e47_the_ledger_says_whose_a_relayed_certificate_is_and_e54_one_that_was_never_relayed_is_nobodys() {
    let scene = Scene::new();
    let key = new_key();
    let good = scene.issuing.device(&key, years());
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    drop(scene.outcome());
    let renewal = |client: &Arc<Certificate>| Job {
        client: Arc::clone(client),
        anchor: scene.issuing.certificate.anchor_id(),
        ..scene.job(Function::SimpleReenroll, scene.csr(&key, None))
    };
    // The same subject, the same key, the same issuer, and no row.
    scene.submit(NOW + 1, renewal(&scene.issuing.device(&key, years())));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::ClientNotInLedger)));
    assert!(scene.sent().is_empty());
    scene.submit(NOW + 1, renewal(&good));
    assert_eq!(scene.sent()[0].1, UpstreamOperation::Enrol(Function::SimpleReenroll));
    let renewed = scene.issuing.device(&key, years());
    scene.reply(NOW + 1, Ok(answer(200, CERTS_ONLY, certs_only(&[&renewed]))));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("not renewed") };
    assert_eq!(
        issued.device.manufacturer,
        scene.factory.certificate.anchor_id(),
        "the device of its first certificate"
    );
    // The operator's mark ends that, in a session that is open too: each request asks for the holder anew.
    let revocation =
        Revocation { reason: RevocationReason::KeyCompromise, at: at(NOW + 2), actor: Actor::new("alice").unwrap() };
    scene.relayed.mark_revoked(vec![(good.digest(), revocation)], Box::new(|it| assert!(it.is_ok())));
    scene.submit(NOW + 3, renewal(&good));
    let Outcome::Refused(why @ Refusal::ClientRevoked) = scene.outcome() else { panic!("a revoked client") };
    let reason = est::Reason::of_decision(&why, Function::SimpleReenroll);
    assert_eq!(reason.response_code(), Some(Code::FORBIDDEN));
    assert!(scene.sent().is_empty());
    // A factory certificate is not renewed.
    scene.submit(NOW + 1, scene.job(Function::SimpleReenroll, scene.csr(&key, None)));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::NotIssuedHere)));
}
