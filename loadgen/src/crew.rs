//! Plays a run: its threads, the view of whoever watches, and the report at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::Clock;
use pki::PrivateKey;

use crate::device::RunScript;
use crate::fleet::{Fleet, FleetFault, FleetRemains, FleetShared};
use crate::last_start::LastStart;
use crate::live::{LiveBoard, LiveFigures};
use crate::plan::PhasePopulation;
use crate::report::{ConductRow, LoadReport, RunFacts};
use crate::run::Run;
use crate::stats::Stats;
use crate::strain::Strain;
use crate::vouching::Vouching;

/// How often the caller sees the figures.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// The result of a run.
#[derive(Debug)]
pub struct Finished {
    /// The measurements.
    pub report: LoadReport,
    /// By device, if they were to be kept: the certificate's DER.
    pub certificates: Vec<Option<Box<[u8]>>>,
    /// By device, if they were to be kept: the key of the certificate, if the server has made it.
    pub keys: Vec<Option<Arc<PrivateKey>>>,
    /// The run was stopped before its end.
    pub interrupted: bool,
}

/// Plays a run to its end, or until `stop` is set. `watch` is called several times a second, on the caller's thread.
///
/// # Errors
/// [`FleetFault`]; what happens to single devices is in the report instead.
pub fn play(run: &Run<'_>, mut watch: impl FnMut(&LiveFigures), stop: &AtomicBool) -> Result<Finished, FleetFault> {
    run.plan
        .require_work_for(run.threads, run.segment)
        .map_err(|fault| FleetFault::Client(format!("{fault}: {}", fault.remedy())))?;
    let arrivals = run.plan.arrivals(run.seed).map_err(|fault| FleetFault::Client(fault.to_string()))?;
    let new = arrivals.iter().filter(|(phase, _)| phase.population == PhasePopulation::New);
    let devices = new.map(|(_, count)| count).sum();
    let planned = arrivals.iter().map(|(_, count)| *count).collect();
    // The range of a segment begins with its own first device.
    let first = run.devices.range().first - run.segment.part().index;
    let script = RunScript::new(&run.server, run.plan, run.patience, run.seed, first).map_err(FleetFault::Client)?;
    let script = Arc::new(script);
    let board = LiveBoard::new(run.threads);
    let began = Clock.now().mono;
    let shared = FleetShared { run, script: &script, devices, first, began, board: &board, stop };
    let watcher = std::thread::current();
    let remains = std::thread::scope(|scope| {
        let watcher = &watcher;
        let threads: Vec<_> = (0..run.threads)
            .map(|thread| {
                // A thread that cannot begin or go on stops the others.
                scope.spawn(move || {
                    let remains = match &run.registrar {
                        None => Fleet::new(shared, thread).and_then(Fleet::play),
                        Some(identity) => Vouching::new(shared, thread).and_then(|devices| devices.play(identity)),
                    };
                    if remains.is_err() {
                        shared.stop.store(true, Ordering::Relaxed);
                    }
                    watcher.unpark();
                    remains
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(WATCH_EVERY);
            watch(&board.sum());
        }
        threads.into_iter().map(|thread| thread.join().expect("a fleet does not panic")).collect::<Result<Vec<_>, _>>()
    })?;
    watch(&board.sum());
    Ok(finished(run, (devices, planned), remains))
}

fn finished(run: &Run<'_>, (devices, planned): (usize, Vec<usize>), remains: Vec<FleetRemains>) -> Finished {
    let mut stats = Stats::of_phases(run.plan.phases.len());
    let (mut starts, mut cpu) = (LastStart::default(), Duration::ZERO);
    let (mut busiest, mut waiting) = (Duration::ZERO, Duration::ZERO);
    let mut strain = Vec::new();
    let (mut interrupted, mut took) = (false, Duration::ZERO);
    let kept = if run.keep { devices } else { 0 };
    let (mut certificates, mut keys) = (vec![None; kept], vec![None; kept]);
    for thread in remains {
        stats.add(&thread.stats);
        took = took.max(thread.took);
        starts = starts.later(thread.starts);
        cpu += thread.time.cpu;
        busiest = busiest.max(thread.time.cpu);
        waiting = waiting.max(thread.time.waiting);
        Strain::max_of_phases(&mut strain, &thread.strain);
        interrupted |= thread.interrupted;
        if !run.keep {
            continue;
        }
        for (slot, held) in thread.held.into_iter().enumerate() {
            let device = thread.part.device(slot);
            if let Some(held) = held {
                (certificates[device], keys[device]) = (Some(held.der), held.key);
            }
        }
    }
    let facts = RunFacts {
        server: run.server.uri.clone(),
        devices: run.segment.part().count(devices),
        fleet: devices,
        planned,
        conduct: ConductRow::of(&run.server, &run.patience),
        interrupted,
        plan: run.plan,
        seed: run.seed,
        segment: run.segment,
        threads: run.threads,
        took,
        cpu,
        busiest,
        waiting,
        strain,
        starts,
    };
    Finished { report: LoadReport::new(&facts, &stats), certificates, keys, interrupted }
}
