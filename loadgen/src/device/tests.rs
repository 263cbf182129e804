//! One device without sockets.

use pki::{ServerName, UnixTime};

use super::conduct::REBOOT_WITHIN_DATAGRAMS;
use super::*;
use crate::identities::FleetIdentities;
use crate::identities::tests::{authority, fleet, manufacturer};
use crate::plan::{Arrivals, FleetBehaviour, Phase, Plan, RetryStorm};
use crate::run::{LoadedServer, Patience};

fn measured<T>(measure: impl FnOnce(&mut Measuring<'_>) -> T) -> (T, Stats) {
    let (mut stats, mut samples) = (Stats::of_phases(1), SampleBuffer::new(None));
    let got = measure(&mut Measuring { stats: &mut stats, samples: &mut samples, began: Instant::now() });
    (got, stats)
}

/// The script of the run of `seed`.
fn script(anchor: &Arc<Certificate>, seed: u64, patience: Patience, behaviour: FleetBehaviour) -> Arc<RunScript> {
    let address: std::net::SocketAddr = "127.0.0.1:5684".parse().unwrap();
    let (name, uri) = (ServerName::from(address.ip()), format!("coaps://{address}"));
    let server = LoadedServer::new(address, name, uri, vec![Arc::clone(anchor)]);
    let plan = Plan::of(Phase { behaviour, ..Phase::enrolling(2, Arrivals::Concurrency(1)) });
    Arc::new(RunScript::new(&server, &plan, patience, seed, 0).unwrap())
}

fn now() -> Now {
    Now { mono: Instant::now(), utc: UnixTime::now() }
}

fn start(script: &Arc<RunScript>, devices: &FleetIdentities, index: usize, now: Now) -> FleetDevice {
    let beginning = Beginning::New(devices.get(index).unwrap());
    FleetDevice::start(script, (index, 0), beginning, now.mono, now).unwrap()
}

/// The device's first datagram in the run of `seed`, before any answer.
fn first_words(anchor: &Arc<Certificate>, devices: &FleetIdentities, seed: u64, index: usize) -> Vec<u8> {
    let (script, now) = (script(anchor, seed, Patience::default(), FleetBehaviour::default()), now());
    start(&script, devices, index, now).poll_transmit().expect("a ClientHello").to_vec()
}

#[test]
fn the_seed_decides_who_vanishes_and_how() {
    let drawn = |seed, share| (0..10_000).map(|index| Farewell::drawn(seed, index, share)).collect::<Vec<_>>();
    let of = |all: &[Farewell], kind| all.iter().filter(|farewell| **farewell == kind).count();
    let all = drawn(7, 300);
    assert_eq!(all, drawn(7, 300));
    assert_ne!(all, drawn(8, 300));
    assert!((6_800..7_200).contains(&of(&all, Farewell::Closes)), "{}", of(&all, Farewell::Closes));
    for kind in [Farewell::FallsSilent, Farewell::CutOff] {
        assert!((1_350..1_650).contains(&of(&all, kind)), "{kind:?}: {}", of(&all, kind));
    }
    assert_eq!(of(&drawn(7, 0), Farewell::Closes), 10_000);
    assert_eq!(of(&drawn(7, 1_000), Farewell::Closes), 0);
}

#[test]
fn the_seed_decides_who_reboots_and_when() {
    let drawn = |share| (0..10_000).filter_map(|index| reboot_drawn(7, index, share)).collect::<Vec<_>>();
    assert!((2_800..3_200).contains(&drawn(300).len()));
    assert_eq!((drawn(0).len(), drawn(1_000).len()), (0, 10_000));
    assert!(drawn(1_000).iter().all(|after| *after < REBOOT_WITHIN_DATAGRAMS) && drawn(1_000).contains(&0));
}

#[test]
fn what_a_device_draws_is_the_same_in_every_run_of_a_seed() {
    let manufacturer = manufacturer();
    let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 2, 3));
    let words = |seed, index| first_words(&anchor, &devices, seed, index);
    assert_eq!(words(1, 0), words(1, 0), "the hello derives from the seed");
    assert_ne!(words(1, 0), words(2, 0));
    assert_ne!(words(1, 0), words(1, 1));
}

#[test]
fn a_server_that_is_silent_costs_one_attempt_and_not_the_time_of_all() {
    let manufacturer = manufacturer();
    let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 1, 3));
    let patience = Patience { timeout: Duration::from_secs(50), attempts: 8, ..Patience::default() };
    let script = script(&anchor, 1, patience, FleetBehaviour::default());
    let began = now();
    let mut device = start(&script, &devices, 0, began);
    let mut now = began;
    let ((), stats) = measured(|into| {
        loop {
            while device.poll_transmit().is_some() {}
            now.mono = device.poll_timeout();
            if device.timeout(now, into).is_some() {
                break;
            }
        }
    });
    // Eighths of the time, with pauses between them.
    assert_eq!(stats.counts.repeated_attempts, 4);
    assert_eq!((stats.counts.failed, stats.phases()[0].failed), (1, 1));
    assert!(now.mono <= began.mono + patience.timeout);
}

/// A device without patience sends a new hello each time, until its time is over.
#[test]
fn a_storm_of_retries_does_not_wait() {
    let manufacturer = manufacturer();
    let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 1, 3));
    let patience = Patience { timeout: Duration::from_secs(10), ..Patience::default() };
    let storm = Some(RetryStorm { per_mille: 1_000, every: Duration::from_millis(400) });
    let script = script(&anchor, 1, patience, FleetBehaviour { storm, ..FleetBehaviour::default() });
    let mut now = now();
    let mut device = start(&script, &devices, 0, now);
    let mut hellos = std::collections::BTreeSet::new();
    let ((), stats) = measured(|into| {
        loop {
            while let Some(hello) = device.poll_transmit() {
                hellos.insert(hello.to_vec());
            }
            now.mono = device.poll_timeout();
            if device.timeout(now, into).is_some() {
                break;
            }
        }
    });
    assert_eq!((stats.counts.storm_restarts, stats.counts.repeated_attempts), (24, 0));
    assert_eq!(hellos.len(), 25, "each with a random of its own");
}

#[test]
fn a_reboot_begins_again_with_the_same_identity() {
    let manufacturer = manufacturer();
    let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 1, 3));
    let behaviour = FleetBehaviour { reboot_per_mille: 1_000, ..FleetBehaviour::default() };
    let (script, now) = (script(&anchor, 1, Patience::default(), behaviour), now());
    let mut device = start(&script, &devices, 0, now);
    let first = device.poll_transmit().unwrap().to_vec();
    let ((), stats) = measured(|into| {
        for _ in 0..=REBOOT_WITHIN_DATAGRAMS {
            assert!(device.receive(now, &mut [0; 20], into).is_none());
        }
    });
    assert_eq!(stats.counts.reboots, 1, "once");
    assert!(device.poll_transmit().is_none(), "it boots");
    let booted = Now { mono: device.poll_timeout(), ..now };
    assert_eq!(booted.mono, now.mono + REBOOT_TIME);
    measured(|into| assert!(device.timeout(booted, into).is_none()));
    let again = device.poll_transmit().expect("another ClientHello").to_vec();
    assert_ne!(first, again);
}

/// The server answered the first attempt with its flight, of which the rest was lost, and none of the others.
#[test]
fn a_handshake_that_the_server_began_and_did_not_finish_is_told_from_silence() {
    let manufacturer = manufacturer();
    let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 1, 3));
    let script = script(&anchor, 1, Patience::default(), FleetBehaviour::default());
    // The head of a record and of a message of 70 bytes, and the beginning of its body.
    let record = |kind: u8| {
        let head = [&[22, 0xfe, 0xfd][..], &[0; 8], &[0, 16], &[kind, 0, 0, 70], &[0; 5], &[0, 0, 4]].concat();
        [&head[..], &[0xfe, 0xfd, 1, 2]].concat()
    };
    for (kind, cut) in [(2, 1), (3, 0)] {
        let mut now = now();
        let mut device = start(&script, &devices, 0, now);
        let ((), stats) = measured(|into| {
            while device.poll_transmit().is_some() {}
            assert!(device.receive(now, &mut record(kind), into).is_none());
            loop {
                while device.poll_transmit().is_some() {}
                now.mono = device.poll_timeout();
                if device.timeout(now, into).is_some() {
                    break;
                }
            }
        });
        assert!(stats.counts.repeated_attempts > 0 && stats.counts.failed == 1);
        assert_eq!((stats.counts.cut_handshakes, stats.counts.cut_uploads), (cut, 0), "message {kind}");
    }
}
