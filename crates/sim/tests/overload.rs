//! More devices than the server can serve: it serves at its capacity and cuts off no device that it has begun with.

use std::time::Duration;

use sim::overload::{CURVE_TIME, Crowd, Load, Outturn, Shell, Storm, capacity, curve, curve_crowd, run};

const TIME: Duration = CURVE_TIME;

#[test]
fn c47_at_two_to_ten_times_the_capacity_goodput_is_what_refusals_leave_and_nobody_is_cut_off() {
    let crowd = curve_crowd();
    let curve = curve(&crowd);
    for point in &curve {
        println!("{point}: {point:?}");
    }
    for point in &curve {
        assert!(point.faults().is_empty(), "{point}");
    }
    assert_eq!(curve.iter().map(|point| point.offered).collect::<Vec<_>>(), [1.0, 2.0, 4.0, 10.0]);
    // The same crowd and a server that begins every handshake: the model can show the loss.
    let silent = Load { offered: 4.0, flood: 0.0, time: TIME, shell: Shell::Silent, storm: None };
    let Outturn { enrolled, .. } = run(&crowd, silent);
    let best = curve.iter().map(|point| point.outturn.enrolled).max().unwrap_or_default();
    println!("silent: {enrolled}");
    assert!(f64::from(enrolled) < 0.9 * f64::from(best), "{enrolled} of {best}");
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

/// Devices come as fast as they can be served, for two minutes: those who found no place at first find one before their clients give up.
#[test]
fn c47_at_the_capacity_itself_nobody_waits_until_the_client_gives_up() {
    let load = Load { offered: 1.0, flood: 0.0, time: Duration::from_secs(120), shell: Shell::Tells, storm: None };
    let outturn = run(&curve_crowd(), load);
    println!("{outturn:?}");
    assert!(outturn.devices > 1_000, "{outturn:?}");
    assert_eq!(outturn.cut_off, 0, "{outturn:?}");
    // The fifth repetition of a hello, 31 s after the first one, is the last of many clients.
    assert!(outturn.total_p99 < Duration::from_secs(31), "{outturn:?}");
}
