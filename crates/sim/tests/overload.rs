//! More devices than the server can serve: it serves at its capacity and cuts off no device that it has begun with.

use std::time::Duration;

use sim::overload::{Crowd, Load, Outturn, Shell, capacity, run};

const TIME: Duration = Duration::from_secs(12);

fn devices(offered: f64, shell: Shell) -> Load {
    Load { offered, flood: 0.0, time: TIME, shell }
}

#[test]
fn c47_at_two_to_ten_times_the_capacity_goodput_holds_and_nobody_is_cut_off() {
    let crowd = Crowd::new(47, 3_000);
    let outturns = [1.0, 2.0, 4.0, 10.0].map(|offered| run(&crowd, devices(offered, Shell::Tells)));
    for outturn in outturns {
        println!("{outturn:?}");
        assert_eq!(outturn.cut_off, 0, "{outturn:?}");
        // Handshakes that were begun are finished; those unfinished at the end were begun just before it.
        assert!(outturn.unfinished <= 24, "{outturn:?}");
    }
    let best = outturns.iter().map(|outturn| outturn.enrolled).max().unwrap_or(0);
    assert!(f64::from(best) >= 0.7 * capacity() * TIME.as_secs_f64(), "the model is as fast as it says: {best}");
    for outturn in &outturns[1..3] {
        assert!(outturn.enrolled * 10 >= best * 9, "{outturn:?} of {best}");
    }
    // Each device that is turned away costs three datagrams at first and one with each repetition: about a third of the core at ten times.
    assert!(outturns[3].enrolled * 10 >= best * 6, "{:?} of {best}", outturns[3]);
    // The same crowd and a server that begins every handshake: the model can show the loss.
    let Outturn { enrolled, .. } = run(&crowd, devices(4.0, Shell::Silent));
    println!("silent: {enrolled}");
    assert!(enrolled * 10 < best * 9, "{enrolled} of {best}");
}

#[test]
fn c47_a_flood_of_hellos_without_cookies_locks_nobody_out() {
    let crowd = Crowd::new(47, 100);
    // The server never catches up: more hellos arrive than it could turn away if it did nothing else.
    let load = Load { offered: 0.2, flood: 1.1, time: TIME, shell: Shell::Tells };
    let [flooded, silent] = [Shell::Tells, Shell::Silent].map(|shell| run(&crowd, Load { shell, ..load }));
    println!("{flooded:?}, silent: {silent:?}");
    assert!(flooded.dropped > 0, "{flooded:?}");
    assert_eq!(flooded.cut_off, 0, "{flooded:?}");
    assert!(flooded.enrolled * 10 >= silent.enrolled * 8, "{flooded:?}, {silent:?}");
}
