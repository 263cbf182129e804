//! What a run of `muster load` says of itself: criteria, files that cannot be written, devices that were not offered, a generator that was too slow.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::{load, one_address, report, search};
use crate::common::{Pki, expect_status, muster, stderr, stdout};

#[test]
fn criteria_make_a_run_a_test() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let kept = load(&pki, &server, &["--devices", "5", "--fail-if", "p99 > 100s", "--fail-if", "failed > 0"]);
    expect_status(&kept, 0);
    let met = load(&pki, &server, &["--devices", "5", "--seed", "2", "--fail-if", "p99 > 1us", "--json", "-"]);
    expect_status(&met, 9);
    let report = report(&met);
    assert_eq!((&report["exit"], &report["criteria"][0]["met"]), (&9.into(), &true.into()), "{report}");
    assert!(stderr(&met).contains("FAILED BY p99 > 1us"), "{}", stderr(&met));
    let unread = load(&pki, &server, &["--fail-if", "p98 > 1s"]);
    expect_status(&unread, 2);
    assert!(stderr(&unread).contains("p50, p90, p99"), "{}", stderr(&unread));
}

/// A server that serves `/crts` fast and refuses each enrolment: no percentile of those that are done says so.
#[test]
fn a_device_that_failed_is_above_every_limit() {
    let pki = Pki::new();
    pki.require_linking();
    let server = one_address(&pki);
    let half = ["--function", "crts=50%,sen=50%", "--timeout", "20s"];
    let run = |more: &[&str]| load(&pki, &server, &[&half, more].concat());
    let failed = run(&["--devices", "20", "--fail-if", "p99 > 100s"]);
    expect_status(&failed, 9);
    let said = [stdout(&failed), stderr(&failed)].concat();
    assert!(said.contains("p99 > 100s (measured: a device that failed)"), "{said}");
    let most =
        run(&["--devices", "20", "--seed", "2", "--fail-if", "handshake.p99 > 100s", "--fail-if", "crts.p99 > 100s"]);
    expect_status(&most, 0);
    let promise = ["--slo", "p99 < 100s", "--from", "20", "--trial", "500ms", "--seed", "3"];
    let never = search(&pki, &server, &[&half[..], &promise].concat());
    expect_status(&never, 1);
    assert!(stderr(&never).contains("p99 < 100s (measured: a device that failed)"), "{}", stderr(&never));
}

/// Files that cannot be written are refused before the work; where one turns out to be full, the verdict of the run is still the exit status.
#[test]
fn no_file_hides_the_verdict() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let nowhere = load(&pki, &server, &["--devices", "2", "--samples", "/nowhere/samples.csv"]);
    expect_status(&nowhere, 1);
    let said = stderr(&nowhere);
    assert!(said.contains("cannot write /nowhere/samples.csv") && !said.contains("creating identities"), "{said}");
    let page = pki.beside("run.html");
    let (full, met) = (["--json", "/dev/full", "--report"], ["--fail-if", "p99 > 1us"]);
    let output = load(&pki, &server, &[&["--devices", "2"], &full[..], &[page.to_str().unwrap()], &met].concat());
    expect_status(&output, 9);
    assert!(stderr(&output).contains("cannot write /dev/full"), "{}", stderr(&output));
    assert!(page.exists(), "the other file is written");
    let kept = load(&pki, &server, &["--devices", "2", "--seed", "2", "--json", "/dev/full"]);
    expect_status(&kept, 1);
}

/// A run that cannot be played leaves the measurements of the run before, and nothing beside them.
#[test]
fn a_failed_run_leaves_the_old_samples() {
    let pki = Pki::new();
    let scratch = tempfile::tempdir().unwrap();
    let samples = scratch.path().join("samples.csv");
    std::fs::write(&samples, "of before\n").unwrap();
    // No socket may send to a broadcast address.
    let mut command = muster();
    command.args(["load", "--server", "coaps://255.255.255.255:5684", "--devices", "2", "--pki"]).arg(pki.dir());
    let output = command.arg("--samples").arg(&samples).output().unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("a device's socket cannot be opened"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&samples).unwrap(), "of before\n");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

/// With a socket for each device, the figures of those that have one stand, and the run is spoiled.
#[test]
fn devices_without_a_socket_fail_alone() {
    let pki = Pki::new();
    let line = "ulimit -n 40; exec \"$0\" load --server 'coaps://[::1]:9' --pki \"$1\" --devices 60 --rate 200 --timeout 1s --json -";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line]).arg(muster().get_program()).arg(pki.dir());
    let output = command.output().unwrap();
    // Half of its devices never sent anything: the run says nothing of the server.
    expect_status(&output, 7);
    let report = report(&output);
    let spoiled_by = report["generator"]["spoiled_by"].to_string();
    assert!(spoiled_by.contains("it had no socket for"), "{spoiled_by}");
    let reasons = report["errors"].as_array().unwrap();
    let missing = reasons.iter().find(|row| row["reason"].as_str().unwrap().starts_with("the generator has no socket"));
    let missing = missing.unwrap_or_else(|| panic!("{report}"))["count"].as_u64().unwrap();
    assert!((1..60).contains(&missing), "{report}");
    assert_eq!((&report["failed"], &report["started"]), (&60.into(), &(60 - missing).into()), "{report}");
}

/// Devices that are still at work when they should come back are not offered: the server saw nothing of that rate, and no report says that it did.
#[test]
fn arrivals_without_a_device_void_a_run() {
    let pki = Pki::new();
    let file = pki.beside("early.toml");
    let scenario = "[[phase]]\ndevices = 5\nfor = \"200ms\"\n[[phase]]\nname = \"back\"\nwho = \"enrolled\"\ndevices = 5\nfor = \"200ms\"\n";
    std::fs::write(&file, scenario).unwrap();
    // Nobody listens there: no device enrols before it should come back.
    let mut command = muster();
    command.args(["load", "--server", "coaps://127.0.0.1:9", "--timeout", "1s", "--json", "-", "--pki"]).arg(pki.dir());
    let output = command.arg("--scenario").arg(&file).output().unwrap();
    expect_status(&output, 7);
    let report = report(&output);
    assert_eq!((&report["starved"], &report["schedule"]["void"]), (&5.into(), &true.into()), "{report}");
    assert_eq!(report["phases"][1]["offered_share"], 0.0, "{report}");
    assert!(report["remedy"].as_str().unwrap().contains("more devices have to enrol"), "{report}");
    let spoiled_by = report["generator"]["spoiled_by"].to_string();
    assert!(spoiled_by.contains("phase `back`: it offered 0.0 % of the requested rate"), "{spoiled_by}");
}

/// Threads that compute on one core until they are dropped.
struct BusyCore {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl BusyCore {
    /// So many that a fair share of the core is much less than a fleet without pauses needs.
    const THREADS: usize = 8;

    fn new(core: &CpuSet) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..Self::THREADS).map(|_| {
            let (over, core) = (Arc::clone(&over), *core);
            thread::spawn(move || {
                sched_setaffinity(None, &core).unwrap();
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        Self { threads: threads.collect(), over }
    }
}

impl Drop for BusyCore {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// In closed loop no start is late, and a generator that does not get its core uses little CPU: only its waiting shows that the figures are its own.
#[test]
fn a_closed_loop_whose_core_others_have_is_void() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let allowed = sched_getaffinity(None).unwrap();
    let core = (0..CpuSet::MAX_CPU).rev().find(|core| allowed.is_set(*core)).unwrap();
    let mut only = CpuSet::new();
    only.set(core);
    let busy = BusyCore::new(&only);
    let arguments = ["--devices", "600", "--concurrency", "32", "--json", "-"];
    // A child inherits what the thread that starts it may use.
    let play = || {
        sched_setaffinity(None, &only).unwrap();
        load(&pki, &server, &arguments)
    };
    let waited = |run: &Output| report(run)["generator"]["waiting_window_share"].as_f64().unwrap();
    // Where other tests take the server's core, the generator waits for the server and not for its own core: such a run is good, and another one is played.
    let mut runs = (0..5).map(|_| thread::scope(|scope| scope.spawn(play).join().unwrap()));
    let starved = runs.find(|run| {
        let is_starved = waited(run) > 0.5;
        expect_status(run, if is_starved { 7 } else { 0 });
        is_starved
    });
    drop(busy);
    let starved = starved.expect("the generator got its core in each run");
    let figures = report(&starved);
    assert_eq!((&figures["schedule"], &figures["failed"]), (&Value::Null, &0.into()), "{figures}");
    assert!(figures["seconds"].as_f64().unwrap() >= 1.0, "too short to be judged: {}", figures["seconds"]);
    let said = stderr(&starved);
    assert!(said.contains("THIS RUN MEASURED THE GENERATOR"), "{said}");
    assert!(said.contains("a thread waited for a core that others had"), "{said}");
}
