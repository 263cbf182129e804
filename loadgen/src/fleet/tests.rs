//! The memory of a fleet, counted for 10,000 devices: a million of them have to fit into 4 GiB.

use std::sync::atomic::AtomicUsize;

use pki::ServerName;

use super::*;
use crate::identities::tests::{authority, fleet, manufacturer};
use crate::identities::{IdentityRange, make_fleet};
use crate::part::Segment;
use crate::plan::{Arrivals, Phase, Plan};
use crate::run::{LoadedServer, Patience};

const DEVICES: usize = 10_000;

/// 4 GiB for a million devices.
const DEVICE_BYTES_MAX: u64 = (4 << 30) / 1_000_000;

/// The certificate that a device keeps until it comes back: as long as those of a profile with several names.
const CERTIFICATE_BYTES: usize = 700;

fn per_device(bytes: u64) -> u64 {
    bytes / u64::try_from(DEVICES).unwrap()
}

/// What this thread holds after `build` that it did not hold before, and the result, so that it lives as long.
fn held<T>(build: impl FnOnce() -> T) -> (u64, T) {
    let mut built = None;
    let counted = allocation_counter::measure(|| built = Some(build()));
    (u64::try_from(counted.bytes_current).unwrap(), built.unwrap())
}

/// A run of devices that wait for their time, or for a renewal with the certificate of a phase before.
#[test]
fn a_million_waiting_devices_fit_into_four_gibibytes() {
    let manufacturer = manufacturer();
    let plan = Plan {
        name: None,
        phases: vec![
            Phase::enrolling(DEVICES, Arrivals::Rate(1e6)),
            Phase { population: PhasePopulation::Enrolled, ..Phase::enrolling(DEVICES, Arrivals::Rate(1e6)) },
        ],
    };
    let address: std::net::SocketAddr = "127.0.0.1:5684".parse().unwrap();
    let anchors = vec![Arc::new(authority(&manufacturer))];
    // 300 real ones say how much one takes; to make 10,000 would take seconds.
    let sample = fleet(&manufacturer, 300, 1);
    let identity = u64::try_from(sample.memory_bytes()).unwrap() / 300;
    let run = Run {
        server: LoadedServer::new(address, ServerName::from(address.ip()), "coaps://127.0.0.1".to_owned(), anchors),
        devices: &sample,
        plan: &plan,
        seed: 1,
        patience: Patience::default(),
        threads: 1,
        segment: Segment::WHOLE,
        keep: true,
        registrar: None,
        samples: None,
    };
    let script = Arc::new(RunScript::new(&run.server, &plan, run.patience, 1, 0).unwrap());
    let (board, stop) = (LiveBoard::new(1), AtomicBool::new(false));
    let (state, _fleet) = held(|| {
        let shared = FleetShared {
            run: &run,
            script: &script,
            devices: DEVICES,
            first: 0,
            began: Instant::now(),
            board: &board,
            stop: &stop,
        };
        let mut fleet = Fleet::new(shared, 0).unwrap();
        for place in &mut fleet.held {
            *place = Some(HeldCertificate { der: vec![0; CERTIFICATE_BYTES].into(), key: None });
        }
        // The histograms do not grow with the fleet, but are in the measure.
        fleet
    });
    let all = identity + per_device(state);
    assert!((600..=1_400).contains(&identity), "{identity}");
    assert!(all <= DEVICE_BYTES_MAX * 3 / 4, "{all} bytes a device: room for those at work is missing");
}

/// The estimate of one device counts what its chunk really holds.
#[test]
fn identities_are_counted_as_they_are() {
    let (manufacturer, range) = (manufacturer(), IdentityRange::first(64));
    let made = make_fleet(&manufacturer, range, 1, &AtomicUsize::new(0), &AtomicBool::new(false)).unwrap();
    let (bytes, copy) = held(|| made.clone_for_test());
    let counted = u64::try_from(copy.memory_bytes()).unwrap();
    assert!(bytes.abs_diff(counted) <= counted / 10 + 256, "{bytes} bytes, counted as {counted}");
}

/// A device at work is a DTLS session and a CoAP exchange; how many there are at once is up to the server.
#[test]
fn a_device_at_work_takes_some_kilobytes() {
    let manufacturer = manufacturer();
    let devices = fleet(&manufacturer, 64, 1);
    let address: std::net::SocketAddr = "127.0.0.1:5684".parse().unwrap();
    let anchors = vec![Arc::new(authority(&manufacturer))];
    let server = LoadedServer::new(address, ServerName::from(address.ip()), "coaps://127.0.0.1".to_owned(), anchors);
    let plan = Plan::of(Phase::enrolling(64, Arrivals::Rate(1.0)));
    let script = Arc::new(RunScript::new(&server, &plan, Patience::default(), 1, 0).unwrap());
    let now = Clock.now();
    let (bytes, at_work) = held(|| {
        let start = |index| {
            let beginning = Beginning::New(devices.get(index).unwrap());
            let mut device = FleetDevice::start(&script, (index, 0), beginning, now.mono, now).unwrap();
            while device.poll_transmit().is_some() {}
            Box::new(device)
        };
        (0..64).map(start).collect::<Vec<_>>()
    });
    assert!(bytes / 64 <= 16 * 1024, "{} bytes", bytes / 64);
    assert_eq!(at_work.len(), 64);
}
