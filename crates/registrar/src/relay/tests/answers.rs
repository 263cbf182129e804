//! What comes back: each lie, each status, and what an upstream says about itself.

use super::*;

#[test]
fn e41_an_answer_that_lies_is_not_passed_on_and_not_recorded() {
    let scene = Scene::new();
    let (key, other) = (new_key(), new_key());
    let good = scene.issuing.device(&key, years());
    let past = Validity { not_before: at(NOW - 9_000), not_after: at(NOW - 1) };
    let future = Validity { not_before: at(NOW + 9_000), not_after: at(NOW + 99_000) };
    let cases = [
        (
            "another key",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&other, years())])),
            UpstreamAnswerFlaw::OtherKey,
        ),
        (
            "two",
            answer(200, CERTS_ONLY, certs_only(&[&good, &scene.issuing.certificate])),
            UpstreamAnswerFlaw::NotOneCertificate,
        ),
        ("none", answer(200, CERTS_ONLY, certs_only(&[])), UpstreamAnswerFlaw::NotOneCertificate),
        (
            "another CA",
            answer(200, CERTS_ONLY, certs_only(&[&TestCa::new("Issuing").device(&key, years())])),
            UpstreamAnswerFlaw::OtherIssuer,
        ),
        (
            "the factory",
            answer(200, CERTS_ONLY, certs_only(&[&scene.factory.device(&key, years())])),
            UpstreamAnswerFlaw::OtherIssuer,
        ),
        (
            "expired",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, past)])),
            UpstreamAnswerFlaw::Unusable,
        ),
        (
            "not yet valid",
            answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, future)])),
            UpstreamAnswerFlaw::Unusable,
        ),
        ("a CA", answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.authority(&key)])), UpstreamAnswerFlaw::Unusable),
        ("another type", answer(200, "text/html", certs_only(&[&good])), UpstreamAnswerFlaw::MediaType),
        (
            "a key",
            answer(200, "application/pkcs7-mime; smime-type=server-generated-key", certs_only(&[&good])),
            UpstreamAnswerFlaw::MediaType,
        ),
        ("no base64", answer(200, CERTS_ONLY, pki::cms::certs_only(&[good.der()])), UpstreamAnswerFlaw::Malformed),
        ("no CMS", answer(200, CERTS_ONLY, encode_body(good.der())), UpstreamAnswerFlaw::Malformed),
        ("nothing", answer(200, CERTS_ONLY, ""), UpstreamAnswerFlaw::Malformed),
        ("a redirect", answer(302, CERTS_ONLY, certs_only(&[&good])), UpstreamAnswerFlaw::Status),
        ("another success", answer(204, CERTS_ONLY, certs_only(&[&good])), UpstreamAnswerFlaw::Status),
    ];
    for (what, lie, flaw) in cases {
        scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
        scene.reply(NOW, Ok(lie));
        match scene.outcome() {
            Outcome::Refused(Refusal::UpstreamAnswer(found)) => assert_eq!(found, flaw, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Err(UpstreamFailure::TooLong));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::TooLong))));
    assert!(scene.certificates().is_empty(), "nothing of it is recorded");
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("the honest answer is passed on") };
    assert_eq!((issued.certificate.as_slice(), scene.certificates()), (good.der(), vec![good.der().to_vec()]));
}

/// RFC 9148 §5, RFC 8075 §7: what the device gets for a status is in the table and nowhere else. A status without a row is that of its class.
#[test]
fn e42_each_status_has_the_code_of_the_one_table() {
    let statuses = TABLE.iter().map(|(status, _)| *status).chain([402, 408, 410, 451, 502, 599]);
    for status in statuses.filter(|status| *status != 200) {
        let scene = Scene::new();
        scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
        let said = HttpAnswer { retry_after: Some("77".into()), ..answer(status, "text/plain", "no") };
        scene.reply(NOW, Ok(said));
        let code = HttpStatus::new(status).to_coap();
        let reason = match scene.outcome() {
            Outcome::Refused(why) => est::Reason::of_decision(&why, Function::SimpleEnroll),
            Outcome::Later { max_age, why } => {
                assert!([Code::SERVICE_UNAVAILABLE, Code::TOO_MANY_REQUESTS].contains(&code), "{status}");
                assert_eq!(max_age, Duration::from_secs(77), "{status}");
                est::Reason::from(&why)
            }
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(reason.response_code(), Some(code), "{status}");
        // Each says which status it was, but for those of a class.
        let of_class = [Code::BAD_REQUEST, Code::BAD_GATEWAY].contains(&code);
        assert_eq!(reason.entry().meaning.contains(&status.to_string()), !of_class || status == 400, "{status}");
    }
}

#[test]
fn what_an_upstream_says_about_itself_is_read_and_nonsense_is_not() {
    let ca = TestCa::new("Root");
    let read = read_ca_certificates(&answer(200, CERTS_ONLY, certs_only(&[&ca.certificate]))).unwrap();
    assert_eq!(read[0].der(), ca.certificate.der());
    for lie in [
        answer(200, "text/html", "<html>"),
        answer(200, CERTS_ONLY, "<html>"),
        answer(503, CERTS_ONLY, certs_only(&[&ca.certificate])),
    ] {
        assert!(read_ca_certificates(&lie).is_err(), "{lie:?}");
    }
    for nothing in [204, 404, 501] {
        assert_eq!(read_csr_attributes(&answer(nothing, "text/plain", "")), Ok(None));
    }
    assert!(read_csr_attributes(&answer(200, "application/csrattrs", "AAAA")).is_err());
    // RFC 9148, appendix A.2.
    let attributes = [0x30, 0x00];
    assert_eq!(
        read_csr_attributes(&answer(200, "application/csrattrs", encode_body(&attributes))).map(|it| it.is_some()),
        Ok(true)
    );
}
