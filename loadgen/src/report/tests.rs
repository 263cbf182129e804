//! Reports of measurements that nobody made.

use std::time::Duration;

use super::*;
use crate::last_start::LastStart;
use crate::link::LinkSpec;
use crate::part::Segment;
use crate::plan::{Arrivals, Phase, Plan};
use crate::stats::{MeasuredStage, Stats};
use crate::strain::Strain;

fn facts(plan: &Plan, segment: Segment) -> RunFacts<'_> {
    RunFacts {
        server: "coaps://127.0.0.1:5684".to_owned(),
        devices: 4,
        fleet: 4 * segment.of(),
        planned: plan.phases.iter().map(|_| 4 * segment.of()).collect(),
        conduct: ConductRow {
            path: ".well-known/est".to_owned(),
            linked: false,
            ca_certificates: true,
            timeout_ms: 120_000,
            attempts: 3,
            ack_timeout_ms: 2_000,
            handshake_timeout_ms: 1_000,
        },
        interrupted: false,
        plan,
        seed: 7,
        segment,
        threads: 1,
        took: Duration::from_secs(2),
        cpu: Duration::from_millis(250),
        busiest: Duration::from_millis(250),
        waiting: Duration::from_millis(20),
        strain: vec![Strain { busy: 0.125, waiting: 0.01 }],
        starts: LastStart { scheduled: Duration::from_secs(5), actual: Duration::from_secs(5) },
    }
}

fn stats() -> Stats {
    let mut stats = Stats::of_phases(1);
    let millis = Duration::from_millis;
    for n in 0..4 {
        stats.scheduled(0, millis(n));
        stats.started(0, millis(n), millis(0));
        stats.record(MeasuredStage::Handshake, Duration::from_micros(900));
    }
    (0..3).for_each(|n| stats.done(0, millis(2600 + n), millis(2500)));
    stats.counts.enrolled = 3;
    stats.record_failure(MeasuredStage::Enrol, "est.sen.subject_mismatch");
    stats.gave_up(0, MeasuredStage::Enrol, millis(20));
    stats.traffic.sent(100);
    (stats.counts.cut_handshakes, stats.counts.cut_uploads) = (1, 2);
    (stats.counts.link_lost, stats.counts.link_repeated) = (5, 6);
    stats
}

/// The report of one phase on a lossy link.
pub(crate) fn report(arrivals: Arrivals) -> LoadReport {
    let phase =
        Phase { block: coap::BlockSize::B64, link: Some(LinkSpec::losing(0..1, 10)), ..Phase::enrolling(4, arrivals) };
    LoadReport::new(&facts(&Plan::of(phase), Segment::WHOLE), &stats())
}

#[test]
fn json_has_the_documented_schema() {
    let json = serde_json::to_value(report(Arrivals::Rate(100.0))).unwrap();
    assert_eq!(json["schema"], "muster-load/1");
    assert_eq!(json["arrivals"], serde_json::json!({"mode": "rate", "per_second": 100.0}));
    assert_eq!(json["enrolled_per_second"], 1.5);
    assert_eq!((&json["stages"][0]["stage"], &json["stages"][0]["p50_us"]), (&"handshake".into(), &900.into()));
    assert_eq!(json["stages"].as_array().unwrap().len(), MeasuredStage::ALL.len());
    assert_eq!(
        json["errors"],
        serde_json::json!([{"stage": "enrol", "reason": "est.sen.subject_mismatch", "count": 1}])
    );
    assert_eq!((&json["traffic"]["bytes_sent"], &json["link"]["lost"]), (&100.into(), &5.into()));
    assert_eq!(json["generator"]["cpu_seconds"], 0.25);
    let documented = include_str!("../report.rs");
    for key in json.as_object().unwrap().keys() {
        let head =
            documented.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(key.as_str()));
        assert!(head, "{key} is not in the module's description of the schema");
    }
}

/// The published schema, read by an implementation that is not ours, judges reports of every shape.
#[test]
fn reports_follow_the_published_schema() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../../schema/muster-load-1.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut scenario = report(Arrivals::Rate(1.0));
    scenario.arrivals = ArrivalsRow::Scenario { name: "drip".to_owned() };
    scenario.criteria = vec![CriterionRow { criterion: "p99 > 2s".to_owned(), value: "2.5 s".to_owned(), met: true }];
    scenario.link = None;
    for report in [report(Arrivals::Rate(100.0)), report(Arrivals::Concurrency(8)), scenario] {
        let json = serde_json::to_value(&report).unwrap();
        assert_described(&validator, &json, PLACES, OPTIONAL);
    }
}

/// The objects of a report of a run.
const PLACES: &[&str] = &[
    "",
    "/arrivals",
    "/schedule",
    "/conduct",
    "/stages/0",
    "/errors/0",
    "/phases/0",
    "/phases/0/total",
    "/phases/0/send_lag",
    "/histograms/0",
    "/timeline",
    "/timeline/slices/0",
    "/traffic",
    "/generator",
    "/generator/send_lag",
    "/link",
    "/criteria/0",
];
/// What reports of earlier versions lack.
const OPTIONAL: &[&str] = &[
    "/cut_handshakes",
    "/cut_uploads",
    "/schedule/on_time_share",
    "/generator/waiting_thread_share",
    "/generator/receive_drops",
    "/generator/refused_sends",
    "/generator/dropped_sends",
    "/phases/0/busiest_window_share",
    "/phases/0/waiting_window_share",
];

/// Whatever a report has is described, and whatever is described is there: at each of these places a key that is left out or of another type is refused.
pub(crate) fn assert_described(
    validator: &jsonschema::Validator,
    json: &serde_json::Value,
    places: &[&str],
    optional: &[&str],
) {
    let errors: Vec<String> = validator.iter_errors(json).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for place in places {
        let Some(object) = json.pointer(place).and_then(serde_json::Value::as_object) else { continue };
        for (key, value) in object {
            let path = format!("{place}/{key}");
            let mut less = json.clone();
            less.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key);
            assert_eq!(validator.is_valid(&less), optional.contains(&path.as_str()), "`{path}` left out");
            let mut other = json.clone();
            other.pointer_mut(place).unwrap()[key] = if value.is_string() { 5.into() } else { "text".into() };
            assert!(!validator.is_valid(&other), "`{path}` may be anything");
        }
    }
    let mut more = json.clone();
    more["a_later_field"] = 1.into();
    assert!(validator.is_valid(&more), "fields are only ever added");
}

#[test]
fn e83_a_run_that_missed_its_schedule_says_so_first() {
    let report = |scheduled, actual| {
        let millis = Duration::from_millis;
        let plan = Plan::of(Phase::enrolling(4, Arrivals::Rate(6000.0)));
        let starts = LastStart { scheduled: millis(scheduled), actual: millis(actual) };
        LoadReport::new(&RunFacts { starts, ..facts(&plan, Segment::WHOLE) }, &stats())
    };
    let row = |scheduled, actual| report(scheduled, actual).schedule.unwrap();
    let missed = row(5_000, 8_600);
    assert!(missed.void && (3_500.0..3_600.0).contains(&missed.offered_per_second), "{missed:?}");
    let line = "this run is void: it offered 3529/s of the requested 6000/s (58.8 %)";
    assert_eq!(missed.to_string(), line);
    // 98 % is enough, and a short run is not void for one late turn.
    assert!(!row(9_800, 10_100).void);
    assert!(row(9_790, 10_100).void);
    assert!(!row(50, 150).void && !row(0, 100).void);
    assert!(row(0, 3_500).void);
    let report = report(5_000, 8_600);
    assert!(report.to_string().starts_with(&format!("THIS RUN MEASURED THE GENERATOR\n{line}\n")), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["schedule"]["void"], &json["schedule"]["asked_per_second"]), (&true.into(), &6000.0.into()));
    assert_eq!(json["generator"]["spoiled_by"].as_array().unwrap().len(), 1);
}

/// A generator that stalls for a second and makes up for it in a burst has its last start in time: its schedule is missed all the same.
#[test]
fn a_stall_in_the_middle_of_a_run_is_no_kept_schedule() {
    let millis = Duration::from_millis;
    let run = |late_starts: u64| {
        let mut stats = Stats::of_phases(1);
        for n in 0..1_000 {
            let at = millis(n * 10);
            stats.scheduled(0, at);
            stats.started(0, at, millis(if (400..400 + late_starts).contains(&n) { 150 } else { 1 }));
            // Where the devices wait for long anyway, no percentile shows the lateness.
            stats.done(0, at + millis(8_000), millis(8_000));
        }
        let plan = Plan::of(Phase::enrolling(1_000, Arrivals::Rate(100.0)));
        LoadReport::new(&facts(&plan, Segment::WHOLE), &stats)
    };
    let kept = run(20);
    assert!(!kept.is_spoiled() && !kept.schedule.unwrap().void, "{:?}", kept.generator.spoiled_by);
    let missed = run(21);
    let row = missed.schedule.unwrap();
    assert!(row.void && row.offered_share >= 1.0 && (0.978..0.98).contains(&row.on_time_share), "{row:?}");
    let line = "this run is void: it offered 100/s of the requested 100/s (100.0 %), 97.9 % of it in time";
    let why = "it started 97.9 % of the devices within 100ms of their time (at least 98 %)";
    assert!(missed.to_string().starts_with(&format!("{MEASURED_THE_GENERATOR}\n{line}\n  {why}\n")), "{missed}");
    // A merged report judges again.
    let merged = merge(std::slice::from_ref(&missed)).unwrap();
    assert!(merged.schedule.unwrap().void && merged.generator.spoiled_by == missed.generator.spoiled_by);
    // So does one of each phase: the other one is larger, and was in time.
    let mut plan = Plan::of(Phase::enrolling(100, Arrivals::Rate(100.0)));
    plan.phases.push(Phase { name: "large".to_owned(), ..plan.phases[0].clone() });
    let mut stats = Stats::of_phases(2);
    for n in 0..5_000 {
        let (phase, lag) = (usize::from(n >= 100), if (40..45).contains(&n) { 150 } else { 1 });
        stats.started(phase, millis(n * 10), millis(lag));
        stats.done(phase, millis(n * 10 + 8_000), millis(8_000));
    }
    let report = LoadReport::new(&facts(&plan, Segment::WHOLE), &stats);
    let why = "phase `run`: it started 95.0 % of the devices within 100ms of their time (at least 98 %)";
    assert_eq!(report.generator.spoiled_by, [why]);
}

#[test]
fn concurrency_is_told_apart() {
    let json = serde_json::to_value(report(Arrivals::Concurrency(8))).unwrap();
    assert_eq!(json["arrivals"], serde_json::json!({"mode": "concurrency", "devices": 8}));
    assert!(json["schedule"].is_null(), "closed loop asks for no rate");
}

#[test]
fn the_table_names_failures_and_units() {
    let text = report(Arrivals::Rate(100.0)).to_string();
    assert!(
        text.starts_with(
            "offered 100/s of the requested 100/s (100.0 %)\n3 of 4 devices enrolled in 2.0 s (2/s), 1 failed"
        ),
        "{text}"
    );
    assert!(text.contains("900 us") && text.contains("2.5 s"), "{text}");
    let crts = text.lines().find(|line| line.starts_with("crts")).unwrap();
    assert_eq!(crts.split_whitespace().collect::<Vec<_>>(), ["crts", "0", "0", "-", "-", "-", "-"]);
    assert!(!text.contains("skg"), "a function that nobody asked for");
    assert!(text.contains("est.sen.subject_mismatch"), "{text}");
    assert!(text.contains("lost 5 datagrams and repeated 6 answers"), "{text}");
}

/// A generator at the end of its CPU is the limit of a closed loop: rate and latency are not the server's.
#[test]
fn a_closed_loop_of_a_busy_generator_says_so_first() {
    let plan = Plan::of(Phase::enrolling(4, Arrivals::Concurrency(2)));
    let report = |busy| {
        let strain = vec![Strain { busy, waiting: 0.0 }];
        LoadReport::new(&RunFacts { strain, ..facts(&plan, Segment::WHOLE) }, &stats())
    };
    assert!(!report(0.895).is_spoiled());
    let spoiled = report(0.995);
    let first =
        "THIS RUN MEASURED THE GENERATOR\n  its busiest thread used 100 % of a core in a window (at most 90 %)\n";
    assert!(spoiled.is_spoiled() && spoiled.to_string().starts_with(first), "{spoiled}");
    // A merged report judges again, and names the machine too.
    let merged = merge(&[spoiled]).unwrap();
    assert_eq!(merged.generator.spoiled_by.len(), 1, "{:?}", merged.generator.spoiled_by);
}

/// Arrivals of enrolled devices of which there was none are not offered, although each start that there was is in time: nobody started in the phase.
#[test]
fn arrivals_that_nobody_could_play_are_not_offered() {
    let millis = Duration::from_millis;
    let mut plan = Plan::of(Phase::enrolling(10, Arrivals::Rate(100.0)));
    plan.phases.push(Phase { name: "back".to_owned(), ..plan.phases[0].clone() });
    let run = |starved: u64| {
        let mut stats = Stats::of_phases(2);
        for n in 0..200 {
            let (phase, at) = (usize::from(n >= 100), millis(n * 10));
            stats.scheduled(phase, at);
            if n >= 100 && n < 100 + starved {
                stats.counts.starved += 1;
                continue;
            }
            stats.started(phase, at, millis(1));
            stats.done(phase, at + millis(50), millis(50));
        }
        let starts = LastStart { scheduled: millis(1_990), actual: millis(1_991) };
        LoadReport::new(&RunFacts { starts, ..facts(&plan, Segment::WHOLE) }, &stats)
    };
    assert!(!run(2).is_spoiled(), "98 % of the phase: {:?}", run(2).generator.spoiled_by);
    let none = run(100);
    let schedule = none.schedule.unwrap();
    assert!(schedule.void && (schedule.offered_share - 0.5).abs() < 1e-9, "{schedule:?}");
    assert!((schedule.offered_per_second - schedule.asked_per_second / 2.0).abs() < 1e-9, "{schedule:?}");
    assert_eq!(none.phases.iter().map(|row| row.offered_share).collect::<Vec<_>>(), [Some(1.0), Some(0.0)]);
    let why = [
        "it offered 50.0 % of the requested rate (at least 98 %): 100 arrivals had no device",
        "phase `back`: it offered 0.0 % of the requested rate (at least 98 %): 100 arrivals had no device",
    ];
    assert_eq!((none.starved, none.generator.spoiled_by.clone()), (100, why.map(str::to_owned).into()));
    // A merged report judges again.
    assert_eq!(merge(std::slice::from_ref(&none)).unwrap().generator.spoiled_by, none.generator.spoiled_by);
    // In both ways too little: a tenth was not played, and the rest came late.
    let phase = crate::PhaseStats {
        scheduled: 100,
        started: 90,
        last: LastStart { scheduled: millis(900), actual: millis(1_900) },
        ..Default::default()
    };
    assert!((phase.offered_share() - 0.9 * 0.5).abs() < 1e-9, "{}", phase.offered_share());
}

/// The default command towards a fast server is over before any window is: then the whole run is the window.
#[test]
fn a_run_too_short_for_a_window_is_judged_as_a_whole() {
    let plan = Plan::of(Phase::enrolling(1_000, Arrivals::Concurrency(64)));
    let run = |devices, busy_ms, waiting_ms, strain| {
        let mut stats = Stats::of_phases(1);
        for n in 0..devices {
            let at = Duration::from_micros(n * 350);
            stats.scheduled(0, at);
            stats.started(0, at, Duration::ZERO);
            stats.done(0, at, Duration::from_millis(20));
        }
        let (took, busiest) = (Duration::from_millis(350), Duration::from_millis(busy_ms));
        let waiting = Duration::from_millis(waiting_ms);
        let facts = RunFacts { took, busiest, waiting, strain, ..facts(&plan, Segment::WHOLE) };
        LoadReport::new(&facts, &stats)
    };
    let busy = run(1_000, 347, 2, Vec::new());
    let why = "its busiest thread used 99 % of a core in a window (at most 90 %)";
    assert_eq!(busy.generator.spoiled_by, [why]);
    assert!((busy.generator.busiest_window_share - 347.0 / 350.0).abs() < 1e-9);
    assert_eq!(merge(&[busy]).unwrap().generator.spoiled_by, [why], "a merged report judges again");
    let why = "a thread waited for a core that others had, 60 % of a window (at most 50 %)";
    assert_eq!(run(1_000, 100, 210, Vec::new()).generator.spoiled_by, [why]);
    assert!(!run(1_000, 300, 100, Vec::new()).is_spoiled());
    // A handful of devices is no measurement, and windows say more than the mean of all of them.
    assert!(!run(49, 347, 2, Vec::new()).is_spoiled() && run(50, 347, 2, Vec::new()).is_spoiled());
    assert!(!run(1_000, 347, 2, vec![Strain { busy: 0.5, waiting: 0.1 }]).is_spoiled());
}

/// A device that never sent anything is no failure of the server: the run says whose it is.
#[test]
fn a_missing_socket_spoils_a_run() {
    let mut stats = stats();
    let fault = std::io::Error::from_raw_os_error(24);
    (0..2).for_each(|_| stats.no_socket(0, &fault, Duration::from_millis(30)));
    let plan = Plan::of(Phase::enrolling(6, Arrivals::Concurrency(2)));
    let report = LoadReport::new(&facts(&plan, Segment::WHOLE), &stats);
    let why = "it had no socket for 2 devices, which count as failed: raise the limit of open files";
    assert_eq!(report.generator.spoiled_by, [why]);
    // A merged report judges again.
    assert_eq!(merge(&[report]).unwrap().generator.spoiled_by, [why]);
}

/// Answers that the generator's own socket lost make the devices wait for retransmissions: the run says so, and so does the sum of several machines.
#[test]
fn a_socket_that_lost_answers_spoils_a_run() {
    let plan = Plan::of(Phase::enrolling(12, Arrivals::Concurrency(2)));
    let run = |segment: &str, drops| {
        let mut stats = stats();
        (stats.traffic.datagrams_received, stats.traffic.datagrams_sent) = (9_995 - drops, 10_000);
        stats.counts.stray_datagrams = 5;
        (stats.counts.receive_drops, stats.counts.refused_sends, stats.counts.dropped_sends) = (drops, 4, 6);
        LoadReport::new(&facts(&plan, segment.parse().unwrap()), &stats)
    };
    let kept = run("1/2", 10);
    assert!(!kept.is_spoiled(), "{:?}", kept.generator.spoiled_by);
    let words = "the generator's full sockets dropped 10 answers, and its machine did not send 10 datagrams";
    assert!(kept.to_string().contains(words), "{kept}");
    let spoiled = run("2/2", 31);
    let why = "its full sockets dropped 31 of 10000 answers (at most 0.1 %): raise net.core.rmem_max";
    assert_eq!(spoiled.generator.spoiled_by, [why]);
    let sum = merge(&[kept, spoiled]).unwrap();
    let row = &sum.generator;
    assert_eq!((row.receive_drops, row.refused_sends, row.dropped_sends), (41, 8, 12));
    let of_both = "its full sockets dropped 41 of 20000 answers (at most 0.1 %): raise net.core.rmem_max";
    assert_eq!(row.spoiled_by, [of_both.to_owned(), format!("segment 2: {why}")]);
}

/// A phase in which the generator fell behind spoils the run, although the other phases are larger and the last device started in time.
#[test]
fn each_phase_is_judged() {
    let mut plan = Plan::of(Phase::enrolling(5_000, Arrivals::Rate(100.0)));
    plan.phases.push(Phase { name: "late".to_owned(), ..plan.phases[0].clone() });
    plan.phases.push(Phase { name: "slow".to_owned(), ..plan.phases[0].clone() });
    let millis = Duration::from_millis;
    let run = |lag: fn(usize, u64) -> u64| {
        let mut stats = Stats::of_phases(3);
        for (phase, devices) in [5_000, 600, 600].into_iter().enumerate() {
            for n in 0..devices {
                let at = millis(100_000 * u64::try_from(phase).unwrap() + n * 10);
                stats.scheduled(phase, at);
                stats.started(phase, at, millis(lag(phase, n)));
                stats.done(phase, at + millis(200), millis(200));
            }
        }
        let starts = LastStart { scheduled: millis(205_990), actual: millis(205_991) };
        let report = LoadReport::new(&RunFacts { starts, ..facts(&plan, Segment::WHOLE) }, &stats);
        // A merged report judges again.
        assert_eq!(merge(std::slice::from_ref(&report)).unwrap().generator.spoiled_by, report.generator.spoiled_by);
        report.generator.spoiled_by
    };
    assert!(run(|_, _| 5).is_empty());
    // Each start of one phase a little later than the one before: 3 s at its end.
    let late = run(|phase, n| if phase == 1 { n * 5 } else { 1 });
    let words = "phase `late`: it offered 67.4 % of the requested rate (at least 98 %)";
    assert!(late.iter().any(|why| why == words), "{late:?}");
    let busy = |busy| Strain { busy, waiting: 0.0 };
    let strain = vec![busy(0.2), busy(0.95), busy(0.3)];
    let report = LoadReport::new(&RunFacts { strain, ..facts(&plan, Segment::WHOLE) }, &Stats::of_phases(3));
    let words = "its busiest thread used 95 % of a core in a window (at most 90 %)";
    let both = [words.to_owned(), format!("phase `late`: {words}")];
    assert!(both.iter().all(|why| report.generator.spoiled_by.contains(why)), "{:?}", report.generator.spoiled_by);
    let mut twice = [report.clone(), report];
    (twice[0].segments, twice[1].segments, twice[1].segment) = (2, 2, 2);
    twice[0].phases[2].busiest_window_share = 0.91;
    let sum = merge(&twice).unwrap();
    assert_eq!(sum.phases.iter().map(|row| row.busiest_window_share).collect::<Vec<_>>(), [0.2, 0.95, 0.91]);
    let slow = run(|phase, n| if phase == 2 && n > 580 { 50 } else { 1 });
    assert_eq!(slow, ["phase `slow`: devices started 50ms late at p99, where all took 200ms (at most 10 %)"]);
}

fn segments() -> Vec<LoadReport> {
    let plan = Plan::of(Phase::enrolling(12, Arrivals::Rate(300.0)));
    ["1/3", "2/3", "3/3"].map(|segment| LoadReport::new(&facts(&plan, segment.parse().unwrap()), &stats())).to_vec()
}

/// Three machines together read as one that measured all of it.
#[test]
fn reports_of_segments_add_up() {
    let mut reports = segments();
    let mut whole = Stats::of_phases(1);
    (0..3).for_each(|_| whole.add(&stats()));
    // A file in between.
    for report in &mut reports {
        *report = serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap();
    }
    let sum = merge(&reports).unwrap();
    assert_eq!((sum.devices, sum.enrolled, sum.failed, sum.segment, sum.segments), (12, 9, 3, 0, 3));
    assert_eq!((sum.errors[0].count, sum.traffic.bytes_sent), (3, 300));
    assert_eq!((sum.cut_handshakes, sum.cut_uploads), (3, 6));
    let schedule = sum.schedule.unwrap();
    assert!((299.0..301.0).contains(&schedule.asked_per_second) && !schedule.void, "{schedule:?}");
    let total = sum.stages.iter().find(|row| row.stage == "total").unwrap();
    assert_eq!((total.took.count, total.took.p99_us), (9, micros(whole.stage(MeasuredStage::Total).p99)));
    let failed: Vec<_> = sum.stages.iter().map(|row| row.failed).collect();
    assert_eq!(failed, [0, 0, 0, 3, 0, 0, 0, 0, 3]);
    assert_eq!(sum.phases[0].buckets, whole.phases()[0].total.buckets());
    assert_eq!(sum.timeline.slices.iter().map(|slice| slice.done).sum::<u64>(), 9);
    assert!(!sum.is_spoiled());
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let fault = |reports: &[LoadReport]| merge(reports).unwrap_err();
    let reports = segments();
    assert_eq!(fault(&[]), MergeFault::Nothing);
    assert_eq!(fault(&reports[..2]), MergeFault::Missing(vec![3]));
    assert_eq!(fault(&[reports[0].clone(), reports[0].clone()]), MergeFault::Twice(1));
    let changed = |change: fn(&mut LoadReport)| {
        let mut reports = segments();
        change(&mut reports[1]);
        fault(&reports)
    };
    assert_eq!(changed(|report| report.seed = 8), MergeFault::Differ("seed"));
    assert_eq!(changed(|report| report.segments = 4), MergeFault::Differ("segments"));
    assert_eq!(changed(|report| report.phases[0].plan.push('x')), MergeFault::Differ("phases"));
    assert_eq!(changed(|report| report.server.push('1')), MergeFault::Differ("server"));
    assert_eq!(changed(|report| report.fleet += 1), MergeFault::Differ("fleet"));
    assert_eq!(changed(|report| report.phases[0].planned += 1), MergeFault::Differ("planned"));
    assert_eq!(changed(|report| report.phases[0].suite.push('8')), MergeFault::Differ("suite"));
    assert_eq!(changed(|report| report.conduct.path.push('x')), MergeFault::Differ("path"));
    assert_eq!(changed(|report| report.conduct.linked = true), MergeFault::Differ("linked"));
    assert_eq!(changed(|report| report.conduct.ca_certificates = false), MergeFault::Differ("ca_certificates"));
    assert_eq!(changed(|report| report.conduct.timeout_ms += 1), MergeFault::Differ("timeout_ms"));
    assert_eq!(changed(|report| report.conduct.attempts += 1), MergeFault::Differ("conduct"));
    // Not even the list of what is missing has room for these.
    for (segment, segments) in [(1, 1_001), (4, 3), (0, 3), (0, 0), (1, u64::MAX)] {
        let one = LoadReport { segment, segments, ..reports[0].clone() };
        assert_eq!(fault(&[one]), MergeFault::NoSegment { segment, segments });
    }
    assert_eq!(changed(|report| report.schema = "x/1".to_owned()), MergeFault::Schema("x/1".to_owned()));
}

/// A file can say anything: a count that no run has makes a fault that names the report, and not a sum that starts again at zero.
#[test]
fn counts_near_the_end_of_their_type_are_refused() {
    type Change = fn(&mut LoadReport, u64);
    let changes: [(&str, Change); 27] = [
        ("devices", |report, count| report.devices = count),
        ("threads", |report, count| report.threads = count),
        ("scheduled", |report, count| report.scheduled = count),
        ("started", |report, count| report.started = count),
        ("done", |report, count| report.done = count),
        ("enrolled", |report, count| report.enrolled = count),
        ("renewed", |report, count| report.renewed = count),
        ("failed", |report, count| report.failed = count),
        ("storm_restarts", |report, count| report.storm_restarts = count),
        ("later_answers", |report, count| report.later_answers = count),
        ("traffic", |report, count| report.traffic.bytes_received = count),
        ("link", |report, count| report.link = Some(LinkRow { lost: count, repeated: count })),
        ("stray_datagrams", |report, count| report.generator.stray_datagrams = count),
        ("cut_handshakes", |report, count| report.cut_handshakes = count),
        ("cut_uploads", |report, count| report.cut_uploads = count),
        ("receive_drops", |report, count| report.generator.receive_drops = count),
        ("refused_sends", |report, count| report.generator.refused_sends = count),
        ("dropped_sends", |report, count| report.generator.dropped_sends = count),
        ("stages", |report, count| report.stages[3].failed = count),
        ("errors", |report, count| report.errors[0].count = count),
        ("histograms", |report, count| report.histograms[0].buckets[0].1 = count),
        ("phases", |report, count| report.phases[0].started = count),
        ("buckets", |report, count| report.phases[0].buckets[0].1 = count),
        ("lag_buckets", |report, count| report.phases[0].lag_buckets[0].1 = count),
        ("slices", |report, count| report.timeline.slices[0].done = count),
        ("in_flight", |report, count| report.timeline.slices[0].in_flight = count),
        ("cpu_us", |report, count| report.timeline.slices[0].cpu_us = count),
    ];
    for (name, change) in changes {
        for count in [1 << 62, 1 << 63, u64::MAX - 1, u64::MAX] {
            let mut reports = segments();
            change(&mut reports[1], count);
            let fault = merge(&reports).unwrap_err();
            assert_eq!(fault, MergeFault::Counts { segment: 2 }, "{name}: {count}");
            assert!(fault.to_string().contains("segment 2 is damaged"), "{fault}");
        }
        // What is just below the bound is added, shown and judged.
        let mut reports = segments();
        change(&mut reports[1], (1 << 60) - 1);
        let sum = merge(&reports).unwrap();
        let criteria = ["failed > 1%", "p99 > 2s", "enrol.p50 > 1s", "later > 5", "rate < 1"];
        criteria.iter().for_each(|text| drop(text.parse::<crate::Criterion>().unwrap().as_failure(&sum)));
        assert!(!sum.to_string().is_empty() && !crate::render_page(&sum).is_empty(), "{name}");
        assert!(merge(&[LoadReport { segment: 1, segments: 1, ..sum }]).is_ok(), "{name}");
    }
    // Each machine alone is below the bound, and their sum is not.
    let mut reports = segments();
    reports.iter_mut().for_each(|report| report.enrolled = (1 << 62) / 3 + 1);
    assert!(matches!(merge(&reports), Err(MergeFault::Counts { .. })));
}

/// Two rates whose sum is infinite would be a share that is no number, and no run is void by it.
#[test]
fn rates_and_times_that_no_run_has_are_refused() {
    type Change = fn(&mut LoadReport, f64);
    let changes: [Change; 6] = [
        |report, number| report.schedule.as_mut().unwrap().asked_per_second = number,
        |report, number| report.schedule.as_mut().unwrap().offered_per_second = number,
        |report, number| report.generator.cpu_seconds = number,
        |report, number| report.generator.waiting_window_share = number,
        |report, number| report.phases[0].busiest_window_share = number,
        |report, number| report.phases[0].offered_share = Some(number),
    ];
    for change in changes {
        for number in [1e308, -1.0, f64::INFINITY, f64::NAN] {
            let mut reports = segments();
            change(&mut reports[1], number);
            assert_eq!(merge(&reports).unwrap_err(), MergeFault::Numbers { segment: 2 }, "{number}");
        }
    }
    let mut reports = segments();
    reports[2].seconds = f64::MIN_POSITIVE;
    let fault = merge(&reports).unwrap_err();
    assert!(fault.to_string().contains("segment 3 is damaged: no run has such a rate"), "{fault}");
}

#[test]
fn what_one_machine_did_not_finish_the_sum_does_not_have() {
    let mut reports = segments();
    assert!(!merge(&reports).unwrap().interrupted);
    reports[1].interrupted = true;
    let sum = merge(&reports).unwrap();
    assert!(sum.interrupted && sum.to_string().contains("interrupted: the figures are of what was done so far"));
}

#[test]
fn one_spoiled_machine_spoils_the_sum() {
    let mut reports = segments();
    reports[1].generator.spoiled_by.push("its busiest thread".to_owned());
    let sum = merge(&reports).unwrap();
    assert_eq!(sum.generator.spoiled_by, ["segment 2: its busiest thread"]);
    assert!(sum.to_string().starts_with(MEASURED_THE_GENERATOR));
}

fn micros(duration: Duration) -> u64 {
    crate::stats::micros(duration)
}
