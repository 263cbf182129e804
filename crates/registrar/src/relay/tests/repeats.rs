//! A request that comes again: which upstream is asked, and what the ledger answers.

use super::*;

#[test]
fn e42_silence_and_202_keep_the_request_with_its_upstream_and_a_connection_that_was_refused_does_not() {
    let accepted = HttpAnswer { status: 202, ..HttpAnswer::default() };
    for unknown in
        [Err(UpstreamFailure::Unknown), Ok(accepted), Ok(answer(500, "text/plain", "")), Ok(answer(502, "", ""))]
    {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, unknown);
        drop(scene.outcome());
        for round in 1..4 {
            // What was accepted is not sent again for five minutes.
            let now = NOW + round * 300;
            scene.submit(now, scene.job(Function::SimpleEnroll, csr.clone()));
            let sent = scene.sent();
            let operation = UpstreamOperation::Enrol(Function::SimpleEnroll);
            assert_eq!(sent, [("a".to_owned(), operation, csr.clone())], "the same CSR, to the same upstream");
            // It cannot even be reached: no other one is asked.
            scene.reply(now, Err(UpstreamFailure::NotSent));
            let Outcome::Later { why: Busy::Upstream(UpstreamBusy::Unreachable), .. } = scene.outcome() else {
                panic!("not later")
            };
        }
    }
    let scene = Scene::new();
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    assert_eq!(scene.sent()[0].0, "b", "nothing was sent to the first one");
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::Upstream(UpstreamBusy::Unreachable), .. }));
}

/// What an upstream says that wants the request again after this many seconds.
fn come_again(status: u16, seconds: u64) -> Result<HttpAnswer, UpstreamFailure> {
    Ok(HttpAnswer { status, retry_after: Some(seconds.to_string()), ..HttpAnswer::default() })
}

#[test]
fn e42_a_device_that_comes_back_when_it_was_told_to_finds_its_row_whatever_the_repeat_window() {
    const DAY: u64 = 86_400;
    for repeat_window in [0, DAY] {
        let scene = Scene::with(|spec| spec.repeat_window = Duration::from_secs(repeat_window));
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, come_again(202, 2 * DAY));
        drop(scene.outcome());
        // Max-Age is up to half as long again, and the device is late.
        let back = NOW + 3 * DAY + DAY - 1;
        scene.fail_first(back);
        scene.submit(back, scene.job(Function::SimpleEnroll, csr.clone()));
        assert_eq!(scene.sent()[0].0, "a", "the request is not a new one");
        assert_eq!(scene.rows()[0].attempts, 2);
        // The repeat is turned away: the row holds until the device can come again.
        scene.reply(back, come_again(503, 7 * DAY));
        drop(scene.outcome());
        scene.submit(back + 11 * DAY, scene.job(Function::SimpleEnroll, csr));
        assert_eq!(scene.sent()[0].0, "a");
    }
}

/// RFC 7030 §4.2.3: "The client MUST wait at least the specified 'Retry-After' time before repeating the same request." The client is the Registrar.
#[test]
fn a_repeat_before_the_upstreams_retry_after_is_answered_here_with_the_rest_of_the_wait() {
    let scene = Scene::new();
    let key = new_key();
    let csr = || scene.csr(&key, None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr()));
    scene.reply(NOW, come_again(202, 600));
    drop(scene.outcome());
    let waits = |now: u64, rest: u64| {
        scene.submit(now, scene.job(Function::SimpleEnroll, csr()));
        let Outcome::Later { why: Busy::Upstream(UpstreamBusy::Accepted { wait }), .. } = scene.outcome() else {
            panic!("not later")
        };
        assert_eq!(wait, Duration::from_secs(rest));
        assert!(scene.sent().is_empty(), "nothing is sent");
    };
    waits(NOW + 1, 599);
    waits(NOW + 599, 1);
    assert_eq!(scene.rows()[0].attempts, 1, "and nothing is written");
    // Another request of the same device does not wait.
    scene.submit(NOW + 1, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    scene.reply(NOW + 1, Ok(answer(403, "text/plain", "")));
    drop(scene.outcome());
    scene.submit(NOW + 600, scene.job(Function::SimpleEnroll, csr()));
    assert_eq!(scene.sent()[0].0, "a");
    scene.reply(NOW + 600, come_again(503, 60));
    drop(scene.outcome());
    waits(NOW + 601, 59);
    scene.submit(NOW + 660, scene.job(Function::SimpleEnroll, csr()));
    scene.reply(NOW + 660, Ok(answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, years())]))));
    assert!(matches!(scene.outcome(), Outcome::Issued { .. }));
}

/// The same section: the time is the upstream's to choose, and the ledger keeps it.
#[test]
fn a_retry_after_beyond_a_week_holds_to_its_end_and_over_a_restart() {
    const DAYS: u64 = 86_400;
    let mut scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
    scene.reply(NOW, come_again(202, 30 * DAYS));
    drop(scene.outcome());
    for rest in [20 * DAYS, 1] {
        scene = scene.restarted();
        scene.submit(NOW + 30 * DAYS - rest, scene.job(Function::SimpleEnroll, csr.clone()));
        assert!(scene.sent().is_empty(), "nothing is sent");
        let Outcome::Later { why, .. } = scene.outcome() else { panic!("not later") };
        assert_eq!(why, Busy::Upstream(UpstreamBusy::Accepted { wait: Duration::from_secs(rest) }));
        // What the device is told is bounded: it asks here in vain, and no upstream hears of it.
        let told = est::Jitter::new(7).max_age_of(Duration::from_secs(rest), &why);
        assert!(u64::from(told) <= 21 * DAYS / 2, "{told}");
    }
    scene.submit(NOW + 30 * DAYS, scene.job(Function::SimpleEnroll, csr));
    assert_eq!((&*scene.sent()[0].0, scene.rows()[0].attempts), ("a", 2));
}

/// A mistaken number, for example milliseconds or a date in the wrong century, would lock its device out for good.
#[test]
fn a_senseless_retry_after_is_asked_again_at_the_bound() {
    const BOUND: u64 = 90 * 86_400;
    for seconds in [BOUND + 1, 36_525 * 86_400, u64::MAX] {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, come_again(202, seconds));
        drop(scene.outcome());
        scene.submit(NOW + BOUND - 1, scene.job(Function::SimpleEnroll, csr.clone()));
        assert!(scene.sent().is_empty() && scene.outcomes.take().len() == 1, "nothing is sent");
        scene.submit(NOW + BOUND, scene.job(Function::SimpleEnroll, csr));
        assert_eq!((&*scene.sent()[0].0, scene.rows()[0].attempts), ("a", 2), "{seconds}");
    }
}

/// Nobody is left who could be asked then.
#[test]
fn a_time_that_a_removed_upstream_named_is_not_waited_for() {
    let scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
    scene.reply(NOW, come_again(202, 600));
    drop(scene.outcome());
    let pool = Arc::new(UpstreamPool::new(["b".into()]));
    let parts = RelayParts { pool, ..scene.parts(Arc::new(MemoryLedger::default())) };
    let scene = Scene { registrar: Arc::new(RelayAuthority::new(parts)), ..scene };
    scene.submit(NOW + 1, scene.job(Function::SimpleEnroll, csr));
    assert_eq!((&*scene.sent()[0].0, scene.rows().len()), ("b", 1));
}

#[test]
fn a_fresh_csr_for_the_same_key_is_a_repeat_and_gets_the_bytes_of_the_ledger() {
    let scene = Scene::new();
    let key = new_key();
    let good = scene.issuing.device(&key, years());
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&good]))));
    drop(scene.outcome());
    scene.submit(NOW + 9, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("not issued") };
    assert_eq!(issued.certificate, good.der());
    assert!(scene.sent().is_empty(), "nothing is sent");
}

#[test]
fn requests_that_wait_for_upstreams_are_bounded_and_the_same_one_waits_for_its_twin() {
    let scene = Scene::new();
    let devices: Vec<Job> = (0..5).map(|_| scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None))).collect();
    for (number, job) in devices.into_iter().enumerate() {
        // Each from a device of its own: one device has a bound of its own.
        let key = new_key();
        let spec = DeviceCertificateSpec {
            common_name: "device",
            serial_number: &format!("{number:06}"),
            organization: None,
            serial: serial(),
            validity: years(),
        };
        let parent = Parent { certificate: &scene.factory.certificate, key: &scene.factory.key };
        let client = with_random(|random| make::idevid(&spec, key.public_key(), parent, random)).unwrap();
        let san = GeneralNames::empty();
        let csr = CsrSpec { subject: client.subject(), san: &san, challenge_password: None };
        let csr = with_random(|random| make::csr(&csr, &new_key(), random)).unwrap();
        scene.submit(NOW, Job { client: Arc::new(client), csr, ..job });
    }
    assert_eq!(scene.sent().len(), 4);
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::Upstream(UpstreamBusy::Full), .. }));
    for _ in 0..4 {
        scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    }
    assert_eq!(scene.outcomes.take().len(), 4);
    let key = new_key();
    let csr = scene.csr(&key, None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
    assert_eq!(scene.sent().len(), 1, "one request for both");
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, years())]))));
    let outcomes = scene.outcomes.take();
    assert!(outcomes.len() == 2 && outcomes.iter().all(|(_, it)| matches!(it, Outcome::Issued { .. })), "{outcomes:?}");
}

/// An answer above the bound may be that of a CA that has issued: its status and its body are not read.
#[test]
fn an_answer_that_is_too_long_keeps_the_request_with_its_upstream() {
    let scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
    scene.reply(NOW, Err(UpstreamFailure::TooLong));
    assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::UpstreamAnswer(UpstreamAnswerFlaw::TooLong))));
    assert!(matches!(scene.rows()[0].stage, RelayStage::Unresolved));
    // The first upstream rests meanwhile.
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    drop(scene.outcome());
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
    assert_eq!(scene.sent()[0].0, "a");
}

/// A status of 200 says that the CA has issued: another one would issue a second certificate, and the first would be recorded nowhere.
#[test]
fn e41_a_lie_with_status_200_keeps_the_request_with_its_upstream_and_another_status_does_not() {
    for (status, upstream) in [(200, "a"), (302, "b")] {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, Ok(answer(status, "text/html", "<html>")));
        assert!(matches!(scene.outcome(), Outcome::Refused(Refusal::UpstreamAnswer(_))));
        scene.fail_first(NOW);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
        assert_eq!(scene.sent()[0].0, upstream, "{status}");
    }
}

/// A proxy answers 503 also when its connection to the CA breaks after it has passed the request on.
#[test]
fn a_503_that_names_no_time_keeps_the_request_with_its_upstream() {
    for (retry_after, upstream) in [(None, "a"), (Some("9".to_owned()), "b")] {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, Ok(HttpAnswer { retry_after, ..answer(503, "text/plain", "") }));
        drop(scene.outcome());
        scene.fail_first(NOW + 300);
        scene.submit(NOW + 300, scene.job(Function::SimpleEnroll, csr));
        assert_eq!(scene.sent()[0].0, upstream);
    }
}

/// What is unknown never goes to another upstream, however short the repeat window of certificates is.
#[test]
fn an_unknown_end_keeps_its_row_without_a_repeat_window_also_over_a_crash() {
    type End = Option<Result<HttpAnswer, UpstreamFailure>>;
    let ends: [End; 6] = [
        Some(Err(UpstreamFailure::Unknown)),
        Some(Err(UpstreamFailure::TooLong)),
        Some(Ok(answer(500, "text/plain", ""))),
        Some(Ok(answer(502, "text/plain", ""))),
        Some(Ok(answer(504, "text/plain", ""))),
        // The process ends before its answer comes.
        None,
    ];
    for end in ends {
        let scene = Scene::with(|spec| spec.repeat_window = Duration::ZERO);
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        match end.clone() {
            Some(end) => scene.reply(NOW, end),
            None => drop(scene.upstream.waiting.lock().unwrap().remove(0)),
        }
        drop(scene.outcome());
        let scene = scene.restarted();
        scene.fail_first(NOW);
        // Each repeat may be the one that is answered with a certificate, so the row holds from there on.
        for back in [NOW + 80, NOW + 86_400, NOW + 2 * 86_400] {
            scene.submit(back, scene.job(Function::SimpleEnroll, csr.clone()));
            assert_eq!(scene.sent()[0].0, "a", "{end:?}");
            assert_eq!(scene.rows().len(), 1);
            scene.reply(back, Err(UpstreamFailure::Unknown));
            drop(scene.outcome());
        }
        scene.submit(NOW + 9 * 86_400, scene.job(Function::SimpleEnroll, csr));
        assert_eq!(scene.rows()[0].attempts, 1, "it does not hold for ever");
    }
}
