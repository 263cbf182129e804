//! Keys that an upstream makes.

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
    scene.submit(NOW + 1, Job { client, ..scene.job(Function::ServerKeygen, csr) });
    scene.reply(NOW + 1, Ok(same()));
    let outcome = scene.outcome();
    assert!(matches!(outcome, Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::OfAnother))), "{outcome:?}");
    assert_eq!(scene.certificates().len(), 1);
}
