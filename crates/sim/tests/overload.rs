//! More devices than the server can serve: it serves at its capacity and cuts off no device that it has begun with.

use std::time::Duration;

use sim::overload::{Crowd, Load, Outturn, Shell, Storm, capacity, run};
use sim::service_times::ServiceTimes;

const TIME: Duration = Duration::from_secs(12);
/// The first timer of a flight (RFC 6347 §4.2.4.1).
const CLIENT_TIMER: Duration = Duration::from_secs(1);
/// Two round trips of 80 ms, and the work of the handshakes that were begun together.
const AFTER_HELLO_MAX: Duration = Duration::from_secs(2);

fn devices(offered: f64, shell: Shell) -> Load {
    Load { offered, flood: 0.0, time: TIME, shell, storm: None }
}

/// The share of the core that is left when each device beyond the capacity is turned away: it gets a cookie, is turned away with it at once, and again
/// when it repeats its hello after 1, 3 and 7 seconds. At ten times the capacity this is the loss; nothing is begun that is not finished.
fn left_by_refusals(offered: f64) -> f64 {
    let times = ServiceTimes::measured();
    let each = times.cookieless + times.turned_away * 4;
    1.0 - (offered - 1.0) * each.as_secs_f64() / times.enrolment().as_secs_f64()
}

#[test]
fn c47_at_two_to_ten_times_the_capacity_goodput_is_what_refusals_leave_and_nobody_is_cut_off() {
    let crowd = Crowd::new(47, 3_000);
    let loads = [1.0, 2.0, 4.0, 10.0];
    let outturns = loads.map(|offered| run(&crowd, devices(offered, Shell::Tells)));
    let best = f64::from(outturns.iter().map(|outturn| outturn.enrolled).max().unwrap_or(0));
    for (offered, outturn) in loads.into_iter().zip(&outturns) {
        let (goodput, left) = (f64::from(outturn.enrolled) / best, left_by_refusals(offered));
        println!("{offered} times: {goodput:.3} of the best, refusals leave {left:.3}: {outturn:?}");
    }
    assert!(best >= 0.8 * capacity() * TIME.as_secs_f64(), "the model is as fast as it says: {best}");
    for (offered, outturn) in loads.into_iter().zip(&outturns) {
        assert_eq!(outturn.cut_off, 0, "{outturn:?}");
        // Handshakes that were begun are finished; those unfinished at the end were begun just before it.
        assert!(outturn.unfinished <= 24, "{outturn:?}");
        if offered > 1.0 {
            let goodput = f64::from(outturn.enrolled) / best;
            assert!(goodput >= 0.9 * left_by_refusals(offered), "{offered}: {outturn:?} of {best}");
        }
        // The shape of latency. A handshake that has begun ends before a timer of its client, whatever is offered. Until then a device waits for one of
        // its own repetitions: the 99th percentile of the whole time lies a bounded time behind one of these.
        assert!(outturn.handshake_p99 < CLIENT_TIMER, "{offered}: {outturn:?}");
        assert!(outturn.after_hello_max < AFTER_HELLO_MAX, "{offered}: {outturn:?}");
    }
    for outturn in &outturns[1..3] {
        assert!(f64::from(outturn.enrolled) >= 0.9 * best, "{outturn:?} of {best}");
    }
    // The same crowd and a server that begins every handshake: the model can show the loss.
    let Outturn { enrolled, .. } = run(&crowd, devices(4.0, Shell::Silent));
    println!("silent: {enrolled}");
    assert!(f64::from(enrolled) < 0.9 * best, "{enrolled} of {best}");
}

#[test]
fn c47_a_flood_of_hellos_without_cookies_locks_nobody_out() {
    let crowd = Crowd::new(47, 100);
    // The server never catches up: more hellos arrive than it could turn away if it did nothing else.
    let load = Load { offered: 0.2, flood: 1.1, time: TIME, shell: Shell::Tells, storm: None };
    let [flooded, silent] = [Shell::Tells, Shell::Silent].map(|shell| run(&crowd, Load { shell, ..load }));
    println!("{flooded:?}, silent: {silent:?}");
    assert!(flooded.dropped > 0, "{flooded:?}");
    assert_eq!(flooded.cut_off, 0, "{flooded:?}");
    assert!(flooded.enrolled * 10 >= silent.enrolled * 8, "{flooded:?}, {silent:?}");
}

#[test]
fn c49_max_age_rises_in_a_storm_and_is_that_of_its_beginning_when_the_storm_is_over() {
    let crowd = Crowd::new(49, 3_000);
    // Devices that can be authenticated come four times as fast as the authority decides.
    let decision = Duration::from_secs_f64(4.0 / capacity());
    let silence = (Duration::from_secs(30), Duration::from_secs(330));
    let storm = Storm { decision, pending_max: 16, silence };
    let load = Load { offered: 1.0, flood: 0.0, time: silence.1 + TIME, shell: Shell::Tells, storm: Some(storm) };
    let outturn = run(&crowd, load);
    let ages = |from, to| {
        let all = outturn.sent_away.iter().filter(move |(at, _)| (from..to).contains(at)).map(|(_, age)| *age);
        all.collect::<Vec<_>>()
    };
    let (during, after) = (ages(Duration::ZERO, silence.1), ages(silence.1, load.time));
    println!("during {during:?}\nafter {after:?}");
    assert!(during.len() > 100 && !after.is_empty(), "{} and {}", during.len(), after.len());
    let first_five = |ages: &[u32]| ages.iter().take(5).max().copied();
    let (first, highest, later) = (first_five(&during), during.iter().max().copied(), first_five(&after));
    assert!(highest >= first.map(|age| age * 3), "{first:?}, {highest:?}");
    assert!(later <= first.map(|age| age * 2), "{first:?}, {later:?}");
    assert_eq!(outturn.cut_off, 0);
}
