//! `muster load`: functions, scenarios, segments, a Registrar; its verdicts and the search for the capacity are below.

mod capacity;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{Pki, Serving, VOID, expect_done, expect_one_of, expect_status, muster, run, stderr, stdout};
use crate::https::{certified_registrar, serve, with_registrar};

/// Runs `muster load` towards a server of this PKI.
fn load(pki: &Pki, server: &Serving, arguments: &[&str]) -> Output {
    play(&["load"], pki, server, arguments)
}

/// Runs `muster load capacity` towards it.
fn search(pki: &Pki, server: &Serving, arguments: &[&str]) -> Output {
    play(&["load", "capacity"], pki, server, arguments)
}

fn play(verb: &[&str], pki: &Pki, server: &Serving, arguments: &[&str]) -> Output {
    let mut command = muster();
    command.args(verb).args(["--server", server.uri(), "--pki"]).arg(pki.dir());
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
    pki.require_linking();
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
fn more_threads_than_devices_at_a_time_are_refused() {
    let pki = Pki::new();
    let server = one_address(&pki);
    let refused = load(&pki, &server, &["--devices", "20", "--concurrency", "2", "--threads", "16"]);
    expect_status(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains("2 devices at a time are too few for 16 threads"), "{said}");
    assert!(said.contains("raise --concurrency, or lower --threads"), "{said}");
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
