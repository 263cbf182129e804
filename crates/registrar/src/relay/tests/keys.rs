//! Keys that an upstream makes, and keys that the Registrar makes.

use super::*;

/// RFC 7030 §4.4.2: multipart/mixed of a key and a certificate, with these media types.
pub(super) fn multipart(parts: &[(&str, Vec<u8>)]) -> HttpAnswer {
    let mut body = b"preamble\r\n".to_vec();
    for (content_type, part) in parts {
        body.extend(b"--estServerKeyGenBoundary\r\n");
        body.extend(format!("Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n").bytes());
        body.extend(part);
        body.extend(b"\r\n");
    }
    body.extend(b"--estServerKeyGenBoundary--\r\nepilogue");
    answer(200, "multipart/mixed ; boundary=\"estServerKeyGenBoundary\"", body)
}

#[test]
fn a_key_that_the_upstream_makes_is_passed_on_only_with_its_own_certificate() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let made = with_random(|random| pki::GeneratedKey::generate(Curve::P256, random).unwrap());
    let made_pair = with_random(|random| SigningKey::from_pkcs8(made.pkcs8(), random).unwrap());
    let pkcs8 = encode_body(made.pkcs8()).into_bytes();
    let good = certs_only(&[&scene.issuing.device(&made_pair, years())]);
    let other = certs_only(&[&scene.issuing.device(&new_key(), years())]);
    let csr = scene.csr(&scene.key, None);
    for (what, lie, flaw) in [
        (
            "another key",
            multipart(&[("application/pkcs8", pkcs8.clone()), (CERTS_ONLY, other)]),
            UpstreamAnswerFlaw::PrivateKey,
        ),
        (
            "encrypted",
            multipart(&[
                ("application/pkcs7-mime; smime-type=server-generated-key", pkcs8.clone()),
                (CERTS_ONLY, good.clone()),
            ]),
            UpstreamAnswerFlaw::PrivateKey,
        ),
        ("no key", multipart(&[(CERTS_ONLY, good.clone())]), UpstreamAnswerFlaw::Malformed),
        (
            "two keys",
            multipart(&[("application/pkcs8", pkcs8.clone()), ("application/pkcs8", pkcs8.clone())]),
            UpstreamAnswerFlaw::Malformed,
        ),
        ("no multipart", answer(200, CERTS_ONLY, good.clone()), UpstreamAnswerFlaw::MediaType),
    ] {
        scene.submit(NOW, scene.job(Function::ServerKeygen, csr.clone()));
        assert_eq!(scene.sent()[0].1, UpstreamOperation::Enrol(Function::ServerKeygen));
        scene.reply(NOW, Ok(lie));
        match scene.outcome() {
            Outcome::Refused(Refusal::UpstreamAnswer(found)) => assert_eq!(found, flaw, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    scene.submit(NOW, scene.job(Function::ServerKeygen, csr));
    scene.reply(NOW, Ok(multipart(&[("application/pkcs8", pkcs8), (CERTS_ONLY, good)])));
    let Outcome::Issued { private_key: Some(key), issued } = scene.outcome() else { panic!("no key") };
    let MadeKey::Plain(key) = &*key else { panic!("nobody encrypted it") };
    let passed_on = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    assert_eq!(passed_on.spki(), made.spki());
    // The key did not reach its device: the certificate opens nothing any more.
    Authority::<u32>::undelivered(&*scene.registrar, at(NOW), &issued);
    let digest = issued.digest;
    let state = Arc::new(Mutex::new(None));
    let found = Arc::clone(&state);
    scene.relayed.holders(vec![digest], Box::new(move |it| *found.lock().unwrap() = it.unwrap().remove(0)));
    assert!(matches!(state.lock().unwrap().as_ref().unwrap().state, authority::State::Revoked(_)));
}

/// RFC 5322 §2.2.3: a header field may be folded before any white space.
#[test]
fn a_folded_header_of_a_part_is_read() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let made = with_random(|random| pki::GeneratedKey::generate(Curve::P256, random).unwrap());
    let pair = with_random(|random| SigningKey::from_pkcs8(made.pkcs8(), random).unwrap());
    let good = certs_only(&[&scene.issuing.device(&pair, years())]);
    for folded in
        ["application/pkcs7-mime;\r\n smime-type=certs-only", "application/pkcs7-mime;\n\tsmime-type=certs-only"]
    {
        let key = encode_body(made.pkcs8()).into_bytes();
        let answer = multipart(&[("application/pkcs8", key), (folded, good.clone())]);
        assert!(read_key_and_certificate(&answer).is_ok(), "{folded:?}");
    }
    // The parameter is read, not passed over.
    let key = encode_body(made.pkcs8()).into_bytes();
    let other = "application/pkcs7-mime;\r\n smime-type=server-generated-key";
    let answer = multipart(&[("application/pkcs8", key), (other, good)]);
    assert!(read_key_and_certificate(&answer).is_err());
    let orphan = "multipart/mixed; boundary=b";
    let body = "--b\r\n smime-type=certs-only\r\n\r\n--b--\r\n";
    assert_eq!(read_key_and_certificate(&super::answer(200, orphan, body)).unwrap_err(), UpstreamAnswerFlaw::Malformed);
}

/// Only with a key that the upstream makes: a device's own key is compared with that of the certificate.
#[test]
fn e41_a_certificate_that_another_device_has_is_not_passed_on() {
    let scene = Scene::with(|spec| spec.server_keys = RelayedKeys::Upstream);
    let made = with_random(|random| pki::GeneratedKey::generate(Curve::P256, random).unwrap());
    let pair = with_random(|random| SigningKey::from_pkcs8(made.pkcs8(), random).unwrap());
    let pkcs8 = encode_body(made.pkcs8()).into_bytes();
    let certificate = certs_only(&[&scene.issuing.device(&pair, years())]);
    let same = || multipart(&[("application/pkcs8", pkcs8.clone()), (CERTS_ONLY, certificate.clone())]);
    scene.submit(NOW, scene.job(Function::ServerKeygen, scene.csr(&scene.key, None)));
    scene.reply(NOW, Ok(same()));
    assert!(matches!(scene.outcome(), Outcome::Issued { .. }));
    let client = scene.factory.device_of("000002", &new_key(), years());
    let san = GeneralNames::empty();
    let spec = CsrSpec { subject: client.subject(), san: &san, challenge_password: None };
    let csr = with_random(|random| make::csr(&spec, &new_key(), random)).unwrap();
    let job = || Job { client: Arc::clone(&client), ..scene.job(Function::ServerKeygen, csr.clone()) };
    scene.submit(NOW + 1, job());
    scene.reply(NOW + 1, Ok(same()));
    let outcome = scene.outcome();
    assert!(matches!(outcome, Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::OfAnother))), "{outcome:?}");
    assert_eq!(scene.certificates().len(), 1);
    // Its status said that it issued, and what it issued for this request was never seen.
    assert!(matches!(scene.rows()[1].stage, RelayStage::Unresolved));
    scene.fail_first(NOW + 1);
    scene.submit(NOW + 1, job());
    assert_eq!(scene.sent()[0].0, "a");
}

/// A scene whose Registrar makes the keys, and a request for one: each has another signature, and is linked to another session.
fn making() -> (Scene, impl Fn(&Scene) -> Job) {
    let scene = Scene::with(|spec| {
        (spec.server_keys, spec.profile.require_linking) = (RelayedKeys::Here, true);
    });
    let session = std::cell::Cell::new(0);
    let job = move |scene: &Scene| {
        session.set(session.get() + 1);
        let link = pki::linking::LinkingText::of(&[session.get(); 12]);
        let csr = scene.csr(&scene.key, Some(link.as_str()));
        Job { tls_unique: Some([session.get(); 12]), ..scene.job(Function::ServerKeygen, csr) }
    };
    (scene, job)
}

/// The certificate for this CSR.
pub(super) fn issue(scene: &Scene, csr: &[u8]) -> Arc<Certificate> {
    let csr = pki::Csr::parse(csr.to_vec()).and_then(pki::Csr::verify).unwrap();
    let spec = DeviceCertificateSpec {
        common_name: "device",
        serial_number: "000001",
        organization: None,
        serial: serial(),
        validity: years(),
    };
    let parent = Parent { certificate: &scene.issuing.certificate, key: &scene.issuing.key };
    Arc::new(with_random(|random| make::idevid(&spec, csr.public_key(), parent, random)).unwrap())
}

/// Whether the outcome is this certificate with its key.
fn delivers(scene: &Scene, certificate: &Certificate) -> bool {
    let Outcome::Issued { issued, private_key: Some(key) } = scene.outcome() else { return false };
    let MadeKey::Plain(key) = &*key else { return false };
    let key = with_random(|random| SigningKey::from_pkcs8(key.pkcs8(), random).unwrap());
    key.spki() == certificate.spki() && issued.certificate == certificate.der()
}

/// The upstream takes another CSR for another request, and issues a second certificate.
#[test]
fn e42_a_request_for_a_key_that_is_made_here_is_repeated_with_the_same_csr_at_the_same_upstream() {
    let accepted = HttpAnswer { status: 202, ..HttpAnswer::default() };
    for unknown in
        [Err(UpstreamFailure::Unknown), Err(UpstreamFailure::TooLong), Ok(accepted), Ok(answer(500, "text/plain", ""))]
    {
        let (scene, job) = making();
        scene.submit(NOW, job(&scene));
        let (_, operation, csr) = scene.sent().remove(0);
        assert_eq!(operation, UpstreamOperation::Enrol(Function::SimpleEnroll));
        scene.reply(NOW, unknown);
        drop(scene.outcome());
        assert_eq!(scene.registrar.parts.kept_keys.len(), 1);
        for round in 1..4 {
            let now = NOW + round * 300;
            scene.submit(now, job(&scene));
            assert_eq!(scene.sent(), [("a".to_owned(), operation, csr.clone())], "the same CSR, to the same upstream");
            let end = [Err(UpstreamFailure::NotSent), Ok(answer(403, "", "")), Err(UpstreamFailure::Unknown)];
            scene.reply(now, end[usize::try_from(round - 1).unwrap()].clone());
            drop(scene.outcome());
        }
        let certificate = issue(&scene, &csr);
        scene.submit(NOW + 1_200, job(&scene));
        scene.reply(NOW + 1_200, Ok(answer(200, CERTS_ONLY, certs_only(&[&certificate]))));
        assert!(delivers(&scene, &certificate), "the key that was kept is that of the certificate");
        assert!(scene.registrar.parts.kept_keys.is_empty(), "nobody else has it");
        let rows = scene.rows();
        assert_eq!((rows.len(), rows[0].attempts, scene.certificates().len()), (1, 5, 1), "one row, one certificate");
        scene.submit(NOW + 1_201, job(&scene));
        assert_ne!(scene.sent()[0].2, csr, "a later request has another key");
    }
}

#[test]
fn a_completion_that_is_dropped_loses_no_key_and_what_was_not_sent_or_is_refused_keeps_none() {
    let (scene, job) = making();
    scene.submit(NOW, job(&scene));
    let csr = scene.sent().remove(0).2;
    drop(scene.upstream.waiting.lock().unwrap().remove(0));
    drop(scene.outcome());
    // Until then the exchange may be running.
    scene.submit(NOW + 75, job(&scene));
    assert_eq!(scene.sent()[0].2, csr);
    let busy = HttpAnswer { retry_after: Some("9".into()), ..answer(503, "", "") };
    for end in [Err(UpstreamFailure::NotSent), Ok(answer(403, "", "")), Ok(busy)] {
        let (scene, job) = making();
        scene.submit(NOW, job(&scene));
        scene.reply(NOW, end.clone());
        if end.is_err() {
            scene.reply(NOW, end);
        }
        drop(scene.outcome());
        assert!(scene.registrar.parts.kept_keys.is_empty());
    }
}

/// The key is gone with the process: nobody could use a certificate for it, and only the upstream knows whether there is one.
#[test]
fn after_a_restart_an_unresolved_request_for_a_key_goes_to_its_upstream_with_another_key() {
    let (scene, job) = making();
    scene.submit(NOW, job(&scene));
    let lost = scene.sent().remove(0).2;
    scene.reply(NOW, Err(UpstreamFailure::Unknown));
    drop(scene.outcome());
    let scene = scene.restarted();
    scene.fail_first(NOW);
    for round in 0..2 {
        scene.submit(NOW + round, job(&scene));
        let (upstream, _, csr) = scene.sent().remove(0);
        assert_eq!(upstream, "a", "what is unknown never goes to another one");
        assert_ne!(csr, lost);
        if round == 0 {
            scene.reply(NOW, Err(UpstreamFailure::Unknown));
            drop(scene.outcome());
            continue;
        }
        let certificate = issue(&scene, &csr);
        scene.reply(NOW + round, Ok(answer(200, CERTS_ONLY, certs_only(&[&certificate]))));
        assert!(delivers(&scene, &certificate));
    }
    let rows = scene.rows();
    assert_eq!((rows.len(), rows[0].attempts), (1, 3), "the row of the request says how often it was sent");
}

#[test]
fn keys_are_kept_in_a_bounded_number_and_no_longer_than_their_rows() {
    let (scene, job) = making();
    let permits: Vec<(u64, authority::MadeRequest)> = [50, 20, 90, 70]
        .into_iter()
        .map(|end| {
            scene.submit(NOW, job(&scene));
            scene.reply(NOW, Err(UpstreamFailure::Unknown));
            drop(scene.outcome());
            let kept = &scene.registrar.parts.kept_keys;
            let made = kept.of_row(RelayId::new(1)).unwrap();
            (NOW + end, made)
        })
        .collect();
    let kept = KeptKeys::bounded(2);
    for (number, (until, made)) in (1..).zip(permits) {
        let now = if number == 4 { NOW + 50 } else { NOW };
        if number == 4 {
            kept.prolong(RelayId::new(1), at(NOW + 60));
        }
        kept.keep(RelayId::new(number), made, (at(now), at(until)));
        let held: Vec<u64> = (1..=4).filter(|row| kept.of_row(RelayId::new(*row)).is_some()).collect();
        let expected: &[u64] = match number {
            1 => &[1],
            2 => &[1, 2],
            3 => &[1, 3],
            _ => &[3, 4],
        };
        assert_eq!(held, expected, "the one whose row ends first gives way");
    }
    kept.forget(RelayId::new(3));
    kept.forget(RelayId::new(9));
    assert_eq!(kept.len(), 1);
}
