//! `muster load`: functions, scenarios, segments, criteria, the search for the capacity, a Registrar.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::common::{Pki, Serving, VOID, expect_done, expect_one_of, expect_status, muster, run, stderr, stdout};
use crate::https::{certified_registrar, serve, with_registrar};

/// Runs `muster load` towards a server of this PKI.
fn load(pki: &Pki, server: &Serving, arguments: &[&str]) -> Output {
    let mut command = muster();
    command.args(["load", "--server", server.uri(), "--pki"]).arg(pki.dir());
    command.args(arguments).output().unwrap()
}

/// What a run printed, which follows the schema that is published for it.
fn report(output: &Output) -> Value {
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {}", stderr(output)));
    let schema = match report["schema"].as_str() {
        Some("muster-load/1") => include_str!("../../../../loadgen/schema/muster-load-1.json"),
        Some("muster-load-capacity/1") => include_str!("../../../../loadgen/schema/muster-load-capacity-1.json"),
        other => panic!("no schema is published for {other:?}"),
    };
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let errors: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}: {report}");
    report
}

fn count(report: &Value, stage: &str) -> u64 {
    let stages = report["stages"].as_array().unwrap();
    stages.iter().find(|row| row["stage"] == stage).unwrap()["count"].as_u64().unwrap()
}

fn one_address(pki: &Pki) -> Serving {
    pki.serve(&["--listen", "127.0.0.1:0"])
}

#[test]
fn every_function_alone_and_a_mix_of_them() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let mut seed = 100;
    for (function, stage, enrolled) in [
        ("crts", "crts", 0),
        ("att", "att", 0),
        ("sen", "enrol", 6),
        ("skg", "skg", 6),
        ("skc", "skc", 6),
        ("ren", "ren", 6),
        ("sren", "renew", 6),
    ] {
        seed += 1;
        let seed = seed.to_string();
        let all = ["--devices", "6", "--function", function, "--seed", &seed, "--json", "-"];
        let report = expect_done(&load(&pki, &server, &all), 6);
        assert_eq!(count(&report, stage), 6, "{function} {report}");
        assert_eq!(report["enrolled"], enrolled, "{function}");
    }
    let mix = ["--devices", "40", "--function", "sen=50%,skg=25%,att=25%", "--seed", "7", "--json", "-"];
    let report = expect_done(&load(&pki, &server, &mix), 40);
    let counts = ["enrol", "skg", "att"].map(|stage| count(&report, stage));
    assert!(counts.iter().sum::<u64>() == 40 && counts.iter().all(|count| *count > 2), "{counts:?}");
}

#[test]
fn a_path_leads_to_a_server_with_another_root() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let output = load(&pki, &server, &["--devices", "3", "--path", "est", "--json", "-"]);
    assert_eq!(expect_done(&output, 3)["enrolled"], 3);
    let output = load(&pki, &server, &["--devices", "3", "--path", "pki", "--json", "-"]);
    expect_one_of(&output, &[1, VOID]);
    assert_eq!(report(&output)["errors"][0]["reason"], "coap.path.not_found");
}

/// A profile that requires a link refuses those without, and takes those of `--link`.
#[test]
fn linked_requests_pass_where_they_are_required() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("require_linking = false"));
    std::fs::write(&file, text.replace("require_linking = false", "require_linking = true")).unwrap();
    let server = one_address(&pki);
    let linked = ["--devices", "4", "--link", "--function", "sen=50%,sren=50%", "--json", "-"];
    expect_done(&load(&pki, &server, &linked), 4);
    let without = load(&pki, &server, &["--devices", "4", "--seed", "2"]);
    expect_one_of(&without, &[1, VOID]);
    assert!(stdout(&without).contains("est.csr.challenge_absent"), "{}", stdout(&without));
}

const SCENARIO: &str = "\
name = \"small\"
[[phase]]
name = \"new\"
devices = 30
for = \"1s\"
function = \"sen=80%,skg=20%\"
block = 64
reboot = \"50%\"
retry_storm = { share = \"30%\", every = \"3s\" }
link = { delay = \"2ms\", mtu = 1200, bitrate = 1000000, duty_cycle = \"50%\" }
[[phase]]
pause = \"8s\"
[[phase]]
name = \"back\"
who = \"enrolled\"
devices = 10
for = \"1s\"
function = \"sren\"
";

#[test]
fn a_scenario_is_played_phase_by_phase_in_several_threads_with_every_file_that_there_is() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let path = |name: &str| pki.beside(name).display().to_string();
    let (scenario, html, samples, cache) = (path("small.toml"), path("run.html"), path("samples.csv"), path("cache"));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let arguments = [
        "--scenario",
        &scenario,
        "--threads",
        "2",
        "--json",
        "-",
        "--report",
        &html,
        "--samples",
        &samples,
        "--cache",
        &cache,
    ];
    let report = expect_done(&load(&pki, &server, &arguments), 40);
    assert_eq!((&report["devices"], &report["enrolled"], &report["threads"]), (&30.into(), &30.into(), &2.into()));
    assert_eq!((&report["renewed"], &report["starved"]), (&10.into(), &0.into()), "{report}");
    assert_eq!(report["arrivals"], serde_json::json!({"mode": "scenario", "name": "small"}));
    let phases: Vec<_> = report["phases"].as_array().unwrap().iter().map(|row| row["done"].as_u64().unwrap()).collect();
    assert_eq!(phases, [30, 0, 10]);
    assert!(report["reboots"].as_u64().unwrap() > 0, "{report}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("back"), "{page}");
    let lines = std::fs::read_to_string(&samples).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains(",total,done,")).count(), 40);
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    // The next run takes the fleet from there.
    let again = load(&pki, &server, &arguments);
    assert!(stderr(&again).contains("identities from "), "{}", stderr(&again));
}

#[test]
fn a_device_whose_key_the_server_made_renews_again_and_again() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let phase = |name: &str, rest: &str| format!("[[phase]]\nname = \"{name}\"\nfor = \"1s\"\ndevices = 6\n{rest}\n");
    let renewal = "who = \"enrolled\"\nfunction = \"sren\"";
    // A device that has not got its certificate by then has no renewal to make.
    let pause = "[[phase]]\npause = \"8s\"\n";
    let made = phase("made", "function = \"skg\"");
    let text = [&made, pause, &phase("once", renewal), pause, &phase("again", renewal)].concat();
    let scenario = pki.beside("again.toml");
    std::fs::write(&scenario, format!("name = \"again\"\n{text}")).unwrap();
    let scenario = scenario.to_str().unwrap().to_owned();
    let report = expect_done(&load(&pki, &server, &["--scenario", &scenario, "--json", "-"]), 18);
    let done: u64 = report["phases"].as_array().unwrap().iter().map(|row| row["done"].as_u64().unwrap()).sum();
    assert_eq!(done, 18, "{report}");
}

#[test]
fn a_scenario_says_what_it_would_do_and_what_is_wrong_with_it() {
    let printed = run(["load", "--print-scenario", "power-restore"]);
    expect_status(&printed, 0);
    let pki = Pki::new();
    let file = pki.beside("own.toml");
    std::fs::write(&file, stdout(&printed)).unwrap();
    for scenario in [Path::new("power-restore"), &file] {
        let checked = run([Path::new("load"), Path::new("--check"), Path::new("--scenario"), scenario]);
        expect_status(&checked, 0);
        let said = stdout(&checked);
        assert!(
            said.contains("first-minute: 1200.0/s to 546.7/s for 1m") && said.contains("devices with seed 1"),
            "{said}"
        );
    }
    std::fs::write(&file, "[[phase]]\nrate = 1\nfor = \"1m\"\nblok = 64\n").unwrap();
    let refused = run([Path::new("load"), Path::new("--check"), Path::new("--scenario"), &file]);
    expect_status(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains("own.toml:4: phase.blok") && said.contains("known are"), "{said}");
    std::fs::write(&file, "[[phase]]\nrate = 1\nfor = \"1m\"\nfunction = \"sren\"\nrenewals = \"30%\"\n").unwrap();
    let refused = run([Path::new("load"), Path::new("--check"), Path::new("--scenario"), &file]);
    expect_status(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains("own.toml:5: phase.renewals") && said.contains("comes back in any case"), "{said}");
    let unknown = run(["load", "--check", "--scenario", "blackout"]);
    expect_status(&unknown, 2);
    assert!(stderr(&unknown).contains("renewal-day"), "{}", stderr(&unknown));
}

/// Whoever installed the program and has no source sees the keys of a scenario and the fields of a report.
#[test]
fn the_program_describes_its_own_formats() {
    let printed = run(["load", "--print-scenario", "every-key"]);
    expect_status(&printed, 0);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("own.toml");
    std::fs::write(&file, stdout(&printed)).unwrap();
    let checked = run([Path::new("load"), Path::new("--check"), Path::new("--scenario"), &file]);
    expect_status(&checked, 0);
    assert!(stdout(&checked).contains("peak: 2.0/s for 30s, new devices"), "{}", stdout(&checked));
    for (kind, title) in [("run", "Report of muster load"), ("capacity", "capacity")] {
        let printed = run(["load", "--print-schema", kind]);
        expect_status(&printed, 0);
        let schema: Value = serde_json::from_str(&stdout(&printed)).unwrap();
        assert!(schema["title"].as_str().unwrap().contains(title), "{schema}");
    }
    let help: String = stdout(&run(["load", "--help"])) + &stdout(&run(["load", "capacity", "--help"]));
    assert!(!help.contains("loadgen/schema"), "a file that an installed program does not have: {help}");
    for words in
        ["--print-scenario every-key", "--print-schema run", "--print-schema capacity", "2 the command line is wrong"]
    {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {help}");
    }
}

/// What each machine of several would do is a part of what all would do.
#[test]
fn a_check_says_what_this_machine_would_play() {
    for pace in [["--rate", "5"], ["--concurrency", "2"]] {
        let check = |more: &[&str]| {
            let checked = muster().args(["load", "--check", "--devices", "10"]).args(pace).args(more).output().unwrap();
            expect_status(&checked, 0);
            stdout(&checked)
        };
        let whole = check(&[]);
        assert!(whole.contains("10 arrivals of 10 devices") && !whole.contains("this machine"), "{whole}");
        for (segment, devices) in [("1/3", 4), ("2/3", 3), ("3/3", 3)] {
            let said = check(&["--segment", segment]);
            assert!(said.starts_with(&whole), "{said}");
            let share = format!("this machine, segment {segment}: {devices} arrivals of {devices} devices");
            assert_eq!(said.lines().last(), Some(&*share), "{pace:?}");
        }
    }
}

/// Two machines play one fleet: nobody twice, and the merged report is that of both.
#[test]
fn segments_play_one_fleet_and_their_reports_merge() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let files: Vec<String> = (1..=2).map(|n| pki.beside(&format!("{n}.json")).display().to_string()).collect();
    let mut devices = BTreeMap::new();
    for (n, file) in (1..).zip(&files) {
        let (segment, certificates) = (format!("{n}/2"), pki.beside(&format!("received-{n}")));
        let output = load(
            &pki,
            &server,
            &[
                "--devices",
                "21",
                "--rate",
                "50",
                "--segment",
                &segment,
                "--json",
                file,
                "--certificates",
                certificates.to_str().unwrap(),
            ],
        );
        expect_one_of(&output, &[0, VOID]);
        for entry in std::fs::read_dir(&certificates).unwrap() {
            devices.insert(entry.unwrap().file_name(), n);
        }
    }
    assert_eq!(devices.len(), 42, "a certificate and a key of 21 devices: {devices:?}");
    let merged = muster().args(["load", "merge"]).args(&files).args(["--json", "-"]).output().unwrap();
    let report = expect_done(&merged, 21);
    assert_eq!((&report["devices"], &report["enrolled"], count(&report, "total")), (&21.into(), &21.into(), 21));
    // What one machine did not finish, nobody takes for a whole run.
    let cut = std::fs::read_to_string(&files[1]).unwrap();
    let mut cut: Value = serde_json::from_str(&cut).unwrap();
    cut["interrupted"] = true.into();
    let file = pki.beside("cut.json");
    std::fs::write(&file, cut.to_string()).unwrap();
    let merged = muster().args(["load", "merge", &files[0]]).arg(&file).args(["--json", "-"]).output().unwrap();
    expect_status(&merged, 130);
    assert_eq!(self::report(&merged)["interrupted"], true);
    // No file makes the verb count to 2^64.
    cut["segments"] = u64::MAX.into();
    std::fs::write(&file, cut.to_string()).unwrap();
    let endless = muster().args(["load", "merge"]).arg(&file).output().unwrap();
    expect_status(&endless, 1);
    assert!(stderr(&endless).contains("at most 1000"), "{}", stderr(&endless));
    // Neither does a count.
    (cut["segments"], cut["enrolled"]) = (2.into(), u64::MAX.into());
    std::fs::write(&file, cut.to_string()).unwrap();
    let huge = muster().args(["load", "merge", &files[0]]).arg(&file).output().unwrap();
    expect_status(&huge, 1);
    assert!(stderr(&huge).contains("the report of segment 2 is damaged"), "{}", stderr(&huge));
    let alone = muster().args(["load", "merge", &files[0]]).output().unwrap();
    expect_status(&alone, 1);
    assert!(stderr(&alone).contains("segment 2 is missing"), "{}", stderr(&alone));
}

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
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("require_linking = false", "require_linking = true")).unwrap();
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
    let mut command = muster();
    command.args(["load", "capacity", "--server", server.uri(), "--pki"]).arg(pki.dir()).args(half);
    command.args(["--slo", "p99 < 100s", "--from", "20", "--trial", "500ms", "--seed", "3"]);
    let never = command.output().unwrap();
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

#[test]
fn more_threads_than_devices_at_a_time_are_refused() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let refused = load(&pki, &server, &["--devices", "20", "--concurrency", "2", "--threads", "16"]);
    expect_status(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains("2 devices at a time are too few for 16 threads"), "{said}");
    assert!(said.contains("raise --concurrency, or lower --threads"), "{said}");
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

#[test]
fn a_search_ends_with_a_rate_and_its_curve() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let html = pki.beside("capacity.html");
    let mut command = muster();
    command.args(["load", "capacity", "--server", server.uri(), "--pki"]).arg(pki.dir());
    command.args(["--slo", "failed < 1", "--from", "10", "--to", "20", "--trial", "500ms", "--json", "-", "--report"]);
    let output = command.arg(&html).output().unwrap();
    expect_status(&output, 0);
    let report = report(&output);
    assert_eq!(
        (&report["capacity"]["per_second"], &report["capacity"]["limited_by"]),
        (&20.0.into(), &"highest".into())
    );
    // A void one is tried again.
    let judged = report["trials"].as_array().unwrap().iter().filter(|row| row["verdict"] != "void").count();
    assert_eq!(judged, 2, "{report}");
    assert!(std::fs::read_to_string(&html).unwrap().contains("Latency by rate"));
    // A promise that no server keeps.
    let mut command = muster();
    command.args(["load", "capacity", "--server", server.uri(), "--pki"]).arg(pki.dir());
    command.args(["--slo", "p50 < 1us", "--from", "10", "--trial", "100ms", "--seed", "2"]);
    let never = command.output().unwrap();
    expect_status(&never, 1);
    assert!(stderr(&never).contains("missed") && stderr(&never).contains("p50 < 1us (measured"), "{}", stderr(&never));
}

/// A server that refuses each device: the promise is broken by the number of devices alone, so the limit depends on no clock.
#[test]
fn a_search_bisects_to_an_interval() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("require_linking = false", "require_linking = true")).unwrap();
    let server = one_address(&pki);
    let mut command = muster();
    command.args(["load", "capacity", "--server", server.uri(), "--pki"]).arg(pki.dir());
    command.args(["--slo", "failed < 9", "--from", "10", "--trial", "500ms", "--repeat", "2", "--resolution", "20%"]);
    let output = command.args(["--json", "-"]).output().unwrap();
    expect_status(&output, 0);
    let report = report(&output);
    assert_eq!(report["schema"], "muster-load-capacity/1");
    let capacity = &report["capacity"];
    assert_eq!((&capacity["complete"], &capacity["limited_by"]), (&true.into(), &Value::Null), "{report}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{report}"));
    let rows = report["trials"].as_array().unwrap();
    let of =
        |verdict| rows.iter().filter(move |row| row["verdict"] == verdict).map(|row| number(&row["asked_per_second"]));
    let (lowest, highest) = (of("held").fold(f64::INFINITY, f64::min), of("missed").fold(0.0, f64::max));
    // Each bisection has arrivals of its own, and how many come in half a second differs: so do the estimates, and the interval says by how much.
    let estimates: Vec<f64> = capacity["estimates"].as_array().unwrap().iter().map(number).collect();
    assert!(estimates.len() == 2 && (estimates[0] - estimates[1]).abs() > 1e-6, "{report}");
    let interval = &capacity["interval"];
    for estimate in estimates {
        assert!(lowest < estimate && estimate < highest, "{report}");
        assert!(number(&interval["low"]) < estimate && estimate < number(&interval["high"]), "{report}");
    }
    assert!(
        stderr(&output).contains("bisection 2 of 2") && stderr(&output).contains("95 % interval"),
        "{}",
        stderr(&output)
    );
    // What did not hold says why, with the figure.
    let broken = rows.iter().filter(|row| row["verdict"] == "missed").map(|row| row["why"][0].as_str().unwrap());
    assert!(
        broken.clone().count() > 2 && broken.into_iter().all(|why| why.starts_with("failed < 9 (measured: ")),
        "{report}"
    );
}

/// What only devices and their links have is refused, by the key's name and line or by the flag, and not ignored.
#[test]
fn a_registrar_refuses_what_only_devices_have() {
    let pki = Pki::new();
    let file = pki.beside("own.toml");
    let registrar = |more: &[&str]| {
        let mut command = muster();
        command.args([
            "load",
            "--check",
            "--https",
            "https://127.0.0.1:9/est",
            "--cert",
            "none.pem",
            "--key",
            "none.key",
        ]);
        command.args(more).output().unwrap()
    };
    let plain = "[[phase]]\nrate = 5\nfor = \"1s\"\n";
    for (lines, status, words) in [
        ("function = \"skg\"", 0, "phase-1: 5.0/s for 1s"),
        ("vanish = \"100%\"", 1, "own.toml:4: phase.vanish: "),
        ("renewals = \"5%\"\nlink = { loss = \"100%\" }", 1, "own.toml:5: phase.link: "),
        ("function = \"ren\"", 1, "own.toml:4: phase.function: "),
    ] {
        std::fs::write(&file, format!("{plain}{lines}\n")).unwrap();
        let checked = registrar(&["--scenario", file.to_str().unwrap()]);
        expect_status(&checked, status);
        let said = if status == 0 { stdout(&checked) } else { stderr(&checked) };
        assert!(said.contains(words), "{said}");
    }
    let preset = registrar(&["--scenario", "power-restore"]);
    expect_status(&preset, 1);
    assert!(stderr(&preset).contains("power-restore:9: phase.block: "), "{}", stderr(&preset));
    for flags in [["--vanish", "5%"], ["--block", "64"], ["--suite", "gcm"], ["--function", "sen=50%,ren=50%"]] {
        let refused = registrar(&flags);
        expect_status(&refused, 2);
        let said = stderr(&refused);
        assert!(said.contains(flags[0]) && (said.contains("--https") || said.contains("Registrar")), "{said}");
    }
}

#[test]
fn a_registrar_vouches_for_a_fleet_over_https() {
    let (pki, ca) = with_registrar();
    let server = serve(&pki);
    let identity = certified_registrar(&pki, &ca);
    let url = format!("{}/.well-known/est", server.https.as_deref().unwrap());
    let mut command = muster();
    command.args(["load", "--https", &url, "--pki"]).arg(pki.dir()).args(&identity);
    command.args(["--devices", "12", "--concurrency", "3", "--function", "sen=50%,skg=30%,crts=20%", "--json", "-"]);
    let report = expect_done(&command.args(["--renewals", "50%"]).output().unwrap(), 12);
    assert!(count(&report, "enrol") > 0 && count(&report, "skg") > 0 && count(&report, "renew") > 0, "{report}");
    let mut nobody = muster();
    nobody.args(["load", "--https", &url, "--pki"]).arg(pki.dir());
    expect_status(&nobody.output().unwrap(), 2);
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
