//! Many honest peers at once: a fleet behind one address after an outage, and handshakes whose timers expire at the same
//! instant.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use dtls::DropReason;

use crate::flood::{Device, STEP, at, deliver, step};
use crate::support::World;
use crate::support::script::{Hello, Script};

/// Ten thousand devices on 4,096 slots, scaled down: they arrive within a second, on links that lose a tenth, and no rate or share of their
/// network keeps any of them out for good.
#[test]
fn d85_a_fleet_behind_one_address_enrols_after_an_outage() {
    const DEVICES: u16 = 2_000;
    const SLOTS: usize = 400;
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = SLOTS);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    let mut waiting = VecDeque::new();
    let mut devices: Vec<Device> = Vec::new();
    for n in 0..DEVICES {
        script.clock.elapsed = Duration::from_micros(500 * u64::from(n));
        let timer = Duration::from_secs(if n % 2 == 0 { 1 } else { 9 });
        waiting.push_back(Device::new(&script, &world, at([100, 64, 0, 1], 1_024 + n), timer, u64::from(n) + 9));
    }
    script.clock.elapsed = Duration::ZERO;
    let mut most = 0;
    while (!devices.is_empty() || !waiting.is_empty()) && script.clock.elapsed < Duration::from_secs(600) {
        let now = script.clock.elapsed;
        while let Some(device) = waiting.pop_front_if(|device| device.begins <= now) {
            devices.push(device);
        }
        devices.iter_mut().for_each(|device| step(&mut script, device, now));
        most = script.endpoint.counts().half_open.max(most);
        while script.endpoint.poll_timeout().is_some_and(|due| due <= script.clock.now().mono) {
            script.endpoint.handle_timeout(script.clock.now());
            while script.endpoint.poll_event().is_some() {}
            deliver(&mut script, &mut devices, now);
        }
        devices.retain(|device| device.took.is_none());
        script.clock.elapsed += STEP;
    }
    assert_eq!(most, SLOTS, "they were too many for the slots");
    assert!(script.endpoint.drops().count(DropReason::NetworkFull) > 0, "{:?}", script.endpoint.drops());
    assert_eq!(devices.len(), 0, "all of them have their session");
}

#[test]
fn d90_timers_of_handshakes_that_run_out_in_one_instant_are_served_part_by_part() {
    const HANDSHAKES: u16 = 1_000;
    /// The maximum for one call, as the engine promises.
    const AT_MOST: usize = 64;
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    for n in 0..HANDSHAKES {
        let [a, b] = n.to_be_bytes();
        script.path = at([11 + a, b, 1, 1], 5_000);
        script.hello = Hello::default();
        script.fetch_cookie();
        let hello = script.hello.datagram(1, 1);
        assert!(!script.give(&hello).is_empty());
    }
    assert_eq!(script.endpoint.counts().half_open, usize::from(HANDSHAKES));
    // The first repetition of all of them is due.
    script.clock.elapsed += Duration::from_secs(2);
    let now = script.clock.now();
    let (mut repeated, mut calls) = (BTreeSet::new(), 0);
    while script.endpoint.poll_timeout().is_some_and(|due| due <= now.mono) {
        script.endpoint.handle_timeout(now);
        calls += 1;
        let mut of_this_call = BTreeSet::new();
        while let Some(transmit) = script.endpoint.poll_transmit() {
            of_this_call.insert(transmit.path.peer);
        }
        assert!(of_this_call.len() <= AT_MOST, "{} in one call", of_this_call.len());
        repeated.extend(of_this_call);
    }
    assert_eq!(repeated.len(), usize::from(HANDSHAKES), "every handshake repeated its flight");
    assert_eq!(calls, usize::from(HANDSHAKES).div_ceil(AT_MOST));
}
