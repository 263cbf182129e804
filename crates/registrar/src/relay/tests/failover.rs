//! Which upstream is asked, and when: one that failed rests, and is tried by one request that is really sent.

use super::*;

/// A scene whose two upstreams have failed at `NOW`.
fn both_failed() -> Scene {
    let scene = Scene::new();
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None)));
    for _ in 0..2 {
        scene.reply(NOW, Err(UpstreamFailure::NotSent));
    }
    assert!(matches!(scene.outcome(), Outcome::Later { why: Busy::Upstream(UpstreamBusy::Unreachable), .. }));
    scene
}

#[test]
fn a_request_that_sends_nothing_does_not_use_up_the_trial_of_an_upstream_that_rests() {
    let scene = Scene::new();
    let repeated = scene.csr(&new_key(), None);
    let key = new_key();
    let good = certs_only(&[&scene.issuing.device(&key, years())]);
    let answered = scene.csr(&key, None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, answered.clone()));
    scene.reply(NOW, Ok(answer(200, CERTS_ONLY, good)));
    assert!(matches!(scene.outcome(), Outcome::Issued { .. }));
    scene.submit(NOW, scene.job(Function::SimpleEnroll, repeated));
    for _ in 0..2 {
        scene.reply(NOW, Err(UpstreamFailure::NotSent));
    }
    assert!(matches!(scene.outcome(), Outcome::Later { .. }));
    // Both rest for a second. A repeat is answered by the ledger, any number of times.
    for _ in 0..3 {
        scene.submit(NOW + 1, scene.job(Function::SimpleEnroll, answered.clone()));
        assert!(matches!(scene.outcome(), Outcome::Issued { .. }));
    }
    let other = scene.csr(&new_key(), None);
    scene.submit(NOW + 1, scene.job(Function::SimpleEnroll, other));
    assert_eq!(scene.sent().len(), 1, "the trial is still there for a request that is sent");
    assert_eq!(scene.sent()[0].0, "a");
}

#[test]
fn an_upstream_whose_rest_is_over_is_tried_by_one_request() {
    let scene = both_failed();
    let jobs: Vec<Job> = (0..3).map(|_| scene.job(Function::SimpleEnroll, scene.csr(&new_key(), None))).collect();
    for job in jobs {
        scene.submit(NOW + 1, job);
    }
    let sent: Vec<String> = scene.sent().into_iter().map(|(upstream, ..)| upstream).collect();
    assert_eq!(sent, ["a", "b"], "one each, and the third one waits for what they find");
    let Outcome::Later { why, .. } = scene.outcome() else { panic!("not later") };
    assert_eq!(why, Busy::Upstream(UpstreamBusy::Resting), "nothing was tried for it");
    assert_eq!(est::Reason::from(&why).code(), "est.upstream.resting");
    assert!(scene.rows().iter().all(|row| matches!(row.stage, RelayStage::InFlight)), "it left no row");
    assert_eq!(scene.rows().len(), 2);
}

/// The lifetime of an attempt counts from the attempt: a slow first upstream takes nothing from the second one's.
#[test]
fn a_fail_over_begins_at_the_time_of_the_reply() {
    let scene = Scene::new();
    let csr = scene.csr(&new_key(), None);
    scene.submit(NOW, scene.job(Function::SimpleEnroll, csr));
    scene.reply(NOW + 50, Err(UpstreamFailure::NotSent));
    assert_eq!(scene.sent()[0].0, "b");
    let rows = scene.rows();
    assert_eq!((rows.len(), rows[0].request.at), (1, at(NOW + 50)));
}

/// A clock that is set while a request waits for its upstream dates no row: the time of a reply is that of the submission, whose clock was checked,
/// and what the exchange took. A row of an hour ahead would stop every request after it for an hour.
#[test]
fn e30_what_a_reply_dates_counts_from_the_submission() {
    let scene = Scene::new();
    let key = new_key();
    scene.submit(NOW, scene.job(Function::SimpleEnroll, scene.csr(&key, None)));
    scene.reply(NOW + 50, Err(UpstreamFailure::NotSent));
    assert_eq!(scene.rows()[0].request.at, at(NOW + 50));
    scene.reply(NOW + 57, Ok(answer(200, CERTS_ONLY, certs_only(&[&scene.issuing.device(&key, years())]))));
    let Outcome::Issued { issued, .. } = scene.outcome() else { panic!("not issued") };
    assert_eq!(issued.at, at(NOW + 57));
}

/// What the upstream says to the repeat does not tell what became of the first attempt.
#[test]
fn a_refusal_of_the_repeat_does_not_send_an_unknown_request_to_another_upstream() {
    for status in [503, 429, 403, 302] {
        let scene = Scene::new();
        let csr = scene.csr(&new_key(), None);
        scene.submit(NOW, scene.job(Function::SimpleEnroll, csr.clone()));
        scene.reply(NOW, Err(UpstreamFailure::Unknown));
        drop(scene.outcome());
        for round in 1..3 {
            // An upstream that has no time now is not asked again for five minutes.
            let now = NOW + round * 300;
            scene.submit(now, scene.job(Function::SimpleEnroll, csr.clone()));
            assert_eq!(scene.sent()[0].0, "a", "{status}");
            scene.reply(now, Ok(answer(status, "text/plain", "")));
            drop(scene.outcome());
        }
        // The first upstream fails now: the second one is the healthy one.
        scene.submit(NOW + 900, scene.job(Function::SimpleEnroll, csr));
        assert_eq!(scene.sent()[0].0, "a", "{status}");
    }
}

/// A request of a device of its own.
fn job_of(scene: &Scene, number: u32) -> Job {
    let (serial_number, key) = (format!("{number:06}"), new_key());
    let client = scene.factory.device_of(&serial_number, &key, years());
    let san = GeneralNames::empty();
    let spec = CsrSpec { subject: client.subject(), san: &san, challenge_password: None };
    let csr = with_random(|random| make::csr(&spec, &new_key(), random)).unwrap();
    Job { client, ..scene.job(Function::SimpleEnroll, csr) }
}

/// Has a request of device `number` sent, and returns which upstream it went to.
fn asked_by(scene: &Scene, now: u64, number: u32) -> String {
    scene.submit(now, job_of(scene, number));
    scene.sent()[0].0.clone()
}

/// A scene with one upstream.
fn lone() -> Scene {
    let scene = Scene::new();
    let pool = Arc::new(UpstreamPool::new(["a".into()]));
    let parts = RelayParts { pool, ..scene.parts(Arc::new(MemoryLedger::default())) };
    Scene { registrar: Arc::new(RelayAuthority::new(parts)), ..scene }
}

#[test]
fn requests_that_fail_side_by_side_are_one_failure() {
    let scene = lone();
    for number in 0..4 {
        scene.submit(NOW, job_of(&scene, number));
    }
    for _ in 0..4 {
        scene.reply(NOW, Err(UpstreamFailure::NotSent));
    }
    assert_eq!(scene.outcomes.take().len(), 4);
    scene.submit(NOW + 1, job_of(&scene, 4));
    assert_eq!(scene.sent().len(), 1, "it failed once, and rests for a second");
}

/// A request that makes a CA hang costs other devices nothing; a CA that hangs for everybody is passed by.
#[test]
fn one_silent_request_rests_no_upstream_and_several_in_a_row_do() {
    let scene = Scene::new();
    for number in 0..5 {
        assert_eq!(asked_by(&scene, NOW, number), "a", "after {number} silent requests");
        scene.reply(NOW, Err(UpstreamFailure::Unknown));
        drop(scene.outcome());
    }
    assert_eq!(asked_by(&scene, NOW, 5), "b");
}

#[test]
fn an_answer_between_silent_requests_begins_their_count_anew() {
    let scene = Scene::new();
    for number in 0..13 {
        assert_eq!(asked_by(&scene, NOW, number), "a");
        let is_answered = number % 3 == 2;
        scene.reply(NOW, if is_answered { Ok(answer(403, "text/plain", "")) } else { Err(UpstreamFailure::Unknown) });
        drop(scene.outcome());
    }
}

/// A proxy in front of a dead CA answers, and serves nobody.
#[test]
fn an_upstream_that_answers_502_503_or_504_to_everybody_is_passed_by() {
    for status in [502, 503, 504] {
        let scene = Scene::new();
        let unknown = job_of(&scene, 0);
        scene.submit(NOW, Job { csr: unknown.csr.clone(), client: Arc::clone(&unknown.client), ..job_of(&scene, 0) });
        scene.reply(NOW, Ok(answer(status, "text/plain", "")));
        drop(scene.outcome());
        for number in 1..5 {
            assert_eq!(asked_by(&scene, NOW, number), "a", "{status}");
            scene.reply(NOW, Ok(answer(status, "text/plain", "")));
            drop(scene.outcome());
        }
        assert_eq!(asked_by(&scene, NOW, 5), "b", "{status}");
        scene.reply(NOW, Ok(answer(403, "text/plain", "")));
        drop(scene.outcome());
        // What they may have hidden has no known end. A 503 is not asked again at once.
        scene.submit(NOW + 300, unknown);
        let (upstream, operation, _) = scene.sent().pop().unwrap();
        assert_eq!((&*upstream, operation), ("a", UpstreamOperation::Enrol(Function::SimpleEnroll)), "{status}");
    }
}

#[test]
fn a_lone_upstream_that_is_busy_has_its_wait_passed_on() {
    let scene = lone();
    for number in 0..9 {
        let now = NOW + 100 * u64::from(number);
        assert_eq!(asked_by(&scene, now, number), "a");
        let later = HttpAnswer { retry_after: Some("77".into()), ..answer(503, "text/plain", "") };
        scene.reply(now, Ok(later));
        let Outcome::Later { max_age, .. } = scene.outcome() else { panic!("not later") };
        assert_eq!(max_age, Duration::from_secs(77));
    }
}

#[test]
fn the_preferred_upstream_is_tried_by_a_request_that_fails_over_and_is_used_again_once_it_answers() {
    let scene = Scene::new();
    assert_eq!(asked_by(&scene, NOW, 0), "a");
    scene.reply(NOW, Err(UpstreamFailure::NotSent));
    scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    drop(scene.outcome());
    assert_eq!(asked_by(&scene, NOW, 1), "b", "it rests");
    scene.reply(NOW, Ok(answer(403, "text/plain", "")));
    drop(scene.outcome());
    assert_eq!(asked_by(&scene, NOW + 1, 2), "a");
    scene.reply(NOW + 1, Err(UpstreamFailure::NotSent));
    assert_eq!(scene.sent()[0].0, "b", "nothing was sent, so its device loses no time");
    scene.reply(NOW + 1, Ok(answer(403, "text/plain", "")));
    drop(scene.outcome());
    for number in 3..6 {
        assert_eq!(asked_by(&scene, NOW + 9, number), "a");
        scene.reply(NOW + 9, Ok(answer(403, "text/plain", "")));
        drop(scene.outcome());
    }
}

#[test]
fn a_preferred_upstream_that_swallowed_requests_is_asked_for_its_cas_and_no_request_before_that() {
    let scene = Scene::new();
    for number in 0..5 {
        assert_eq!(asked_by(&scene, NOW, number), "a");
        scene.reply(NOW, Err(UpstreamFailure::Unknown));
        drop(scene.outcome());
    }
    let mut asked = Vec::new();
    for (number, end) in (5..).zip([Err(UpstreamFailure::Unknown), Ok(answer(200, CERTS_ONLY, ""))]) {
        let now = NOW + 10 * u64::from(number);
        scene.submit(now, job_of(&scene, number));
        asked.extend(scene.sent().into_iter().map(|(upstream, operation, _)| (upstream, operation.segment())));
        scene.reply(now, end);
        scene.reply(now, Ok(answer(403, "text/plain", "")));
        drop(scene.outcome());
    }
    let to = |upstream: &str, segment| (upstream.to_owned(), segment);
    let once = [to("a", "cacerts"), to("b", "simpleenroll")];
    assert_eq!(asked, [once.clone(), once].concat());
    assert_eq!(asked_by(&scene, NOW + 70, 7), "a");
}
