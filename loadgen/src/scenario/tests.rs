//! Scenarios that are right, and those that say what is wrong.

use super::*;

fn read(text: &str) -> Result<Plan, ScenarioFault> {
    read_scenario(text, ScenarioPlayer::Devices)
}

#[test]
fn every_preset_is_a_plan() {
    for (name, text) in PRESETS {
        let plan = read(text).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(plan.name.as_deref(), Some(name), "a preset is called as it is asked for");
        assert!(plan.devices(1).unwrap() > 0 && plan.is_open_loop());
        assert_eq!(preset(name), Some(text));
    }
    assert_eq!(preset("none"), None);
}

/// The comment that a preset begins with names figures: its phases add up to them.
#[test]
fn a_preset_does_what_its_first_lines_claim() {
    /// Three standard deviations of 200,000 arrivals, and more than that of fewer.
    const TOLERANCE: f64 = 0.007;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (name, claims, new_devices, lasts) in [
        ("power-restore", &["200,000 devices", "within ten minutes"][..], 200_000.0, minutes(10)),
        ("renewal-day", &["an hour long"], 12_000.0, minutes(60)),
        ("drip", &["one device every other second", "half of them on a narrow radio link"], 600.0, minutes(20)),
    ] {
        let text = preset(name).unwrap();
        let comment: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(claims.iter().all(|claim| comment.join(" ").contains(claim)), "{name}: {comment:?}");
        let plan = read(text).unwrap();
        assert_eq!(plan.phases.iter().filter_map(|phase| phase.lasts).sum::<Duration>(), lasts, "{name}");
        let new = || plan.phases.iter().filter(|phase| phase.population == PhasePopulation::New);
        let expected: f64 = new().map(Phase::expected).sum();
        assert!((expected / new_devices - 1.0).abs() < 0.000_1, "{name}: {expected} devices");
        let drawn = f64::from(u32::try_from(plan.devices(1).unwrap()).unwrap());
        let tolerance = TOLERANCE * (200_000.0 / new_devices).sqrt();
        assert!((drawn / new_devices - 1.0).abs() < tolerance, "{name}: {drawn} devices with seed 1");
    }
    let drip = read(preset("drip").unwrap()).unwrap();
    let on_radio = drip.phases.iter().filter(|phase| phase.link.is_some());
    assert_eq!((on_radio.count(), drip.phases.len()), (1, 2), "phases of one length and one rate");
}

/// The example with every key; the label of a profile, which few servers have, is a comment there.
fn every_key() -> String {
    EVERY_KEY.replace("# profile = ", "profile = ")
}

#[test]
fn every_key_of_the_documentation_is_read() {
    let plan = read(EVERY_KEY).unwrap();
    assert_eq!((plan.name.as_deref(), plan.phases[0].label.as_deref()), (Some("every-key"), None));
    let plan = read(&every_key()).unwrap();
    let [phase, pause, back, last] = &plan.phases[..] else { panic!("{plan:?}") };
    assert_eq!((phase.name.as_str(), phase.arrivals), ("peak", Arrivals::Rate(2.0)));
    assert_eq!((phase.lasts, phase.devices), (Some(Duration::from_secs(30)), None));
    assert_eq!((phase.functions.mix.to_string(), phase.functions.renewals_per_mille), ("sen=70%,skg=30%".into(), 300));
    assert_eq!((phase.label.as_deref(), phase.block), (Some("meters"), BlockSize::B64));
    assert_eq!((phase.behaviour.vanish_per_mille, phase.behaviour.reboot_per_mille), (100, 50));
    assert_eq!(phase.behaviour.storm, Some(RetryStorm { per_mille: 200, every: Duration::from_secs(2) }));
    let link = phase.link.as_ref().unwrap();
    assert_eq!(link.airtime, Some(Airtime { bits_per_second: 50_000, duty_per_mille: 500 }));
    let delay = Delay { least: Duration::from_millis(40), most: Duration::from_millis(50) };
    let wanted = Conditions { loss: 20, duplication: 10, corruption: 1, reordering: 10, delay, mtu: 1_200 };
    assert_eq!(link.conditions, wanted);
    assert!(link.devices.contains(&4_000_000));
    assert_eq!((pause.arrivals, pause.lasts), (Arrivals::Pause, Some(Duration::from_secs(10))));
    assert_eq!((back.population, back.arrivals), (PhasePopulation::Enrolled, Arrivals::Ramp { from: 0.0, to: 2.0 }));
    assert_eq!((last.arrivals, last.devices), (Arrivals::Rate(2.0), Some(20)));
}

/// The keys that the reader knows in the table into which this change puts a strange one, as its fault lists them.
fn known_keys(before: &str, after: &str) -> Vec<String> {
    let text = every_key().replacen(before, after, 1);
    let fault = read(&text).unwrap_err();
    let (_, known) = fault.remedy.split_once("known are ").unwrap_or_else(|| panic!("{after}: {fault}"));
    known.split(", ").map(str::to_owned).collect()
}

/// Nothing that the reader knows is left out of the example and of the page for users, and the page has the example as it is.
#[test]
fn the_page_for_users_has_every_key_and_the_example() {
    let page = include_str!("../../README.md");
    assert!(page.contains(&format!("```toml\n{EVERY_KEY}```\n")), "README.md has another example");
    let row = |key: &str| page.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).map(str::to_owned);
    let (top, phase) = (known_keys("name = ", "strange = 1\nname = "), known_keys("block = ", "strange = 1\nblock = "));
    assert_eq!((top.len(), phase.len()), (2, 16), "{top:?} {phase:?}");
    for key in top.iter().chain(&phase) {
        let in_example = every_key().lines().any(|line| line.starts_with(&format!("{key} = ")));
        assert!(in_example || key == "phase", "`{key}` is not in every-key.toml");
        assert!(row(key).is_some(), "`{key}` has no row in README.md");
    }
    for (table, keys) in [("link", 9), ("ramp", 2), ("retry_storm", 2)] {
        let known = known_keys(&format!("{table} = {{ "), &format!("{table} = {{ strange = 1, "));
        assert_eq!(known.len(), keys, "{known:?}");
        for key in known {
            assert!(every_key().lines().any(|line| line.starts_with(table) && line.contains(&format!("{key} = "))));
            assert!(row(table).is_some_and(|row| row.contains(&key)), "`{table}.{key}` is not in README.md");
        }
    }
    let presets = PRESETS.map(|(name, _)| name).into_iter().chain(["every-key"]);
    presets
        .for_each(|name| assert!(page.contains(&format!("`{name}` (")) || page.contains(&format!("`{name}`, which"))));
}

/// The page names every field that the schemas have at their top, and every reason and status has its row.
#[test]
fn the_page_for_users_has_every_field_of_a_report() {
    let page = include_str!("../../README.md");
    let schema: serde_json::Value = serde_json::from_str(crate::RUN_JSON_SCHEMA).unwrap();
    for field in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{field}`")), "`{field}` is not in README.md");
    }
    for status in ["0", "1", "2", "5", "7", "9", "130"] {
        assert!(page.contains(&format!("\n| {status} |")), "status {status} is not in README.md");
    }
}

#[test]
fn devices_arrive_by_two_of_three() {
    let arrivals = |lines: &str| {
        let plan = read(&format!("[[phase]]\n{lines}")).unwrap();
        (plan.phases[0].arrivals, plan.phases[0].lasts, plan.phases[0].devices)
    };
    let minute = Some(Duration::from_secs(60));
    assert_eq!(arrivals("rate = 2.5\nfor = \"1m\""), (Arrivals::Rate(2.5), minute, None));
    assert_eq!(arrivals("rate = 1_000\ndevices = 7"), (Arrivals::Rate(1_000.0), None, Some(7)));
    assert_eq!(arrivals("devices = 600\nfor = \"1m\""), (Arrivals::Rate(10.0), None, Some(600)));
    assert_eq!(arrivals("pause = \"1m\""), (Arrivals::Pause, minute, None));
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_a_remedy() {
    let good = "rate = 5\nfor = \"1m\"\n";
    for (lines, line, key, remedy) in [
        (format!("{good}blok = 64"), 5, "phase.blok", "block"),
        (format!("{good}block = 65"), 5, "phase.block", "64"),
        (format!("{good}block = \"64\""), 5, "phase.block", "number"),
        (format!("{good}\nfunction = \"sen=70%\""), 6, "phase.function", "100 %"),
        (format!("{good}who = \"all\""), 5, "phase.who", "\"enrolled\""),
        (format!("{good}vanish = 10"), 5, "phase.vanish", "quotation marks"),
        (format!("{good}vanish = \"10\""), 5, "phase.vanish", "10%"),
        (format!("{good}suite = \"aes\""), 5, "phase.suite", "\"ccm8\""),
        (format!("{good}profile = \"a/b\""), 5, "phase.profile", "segment"),
        (format!("{good}link = {{ los = \"1%\" }}"), 5, "phase.link.los", "loss"),
        (format!("{good}link = {{ mtu = 10 }}"), 5, "phase.link.mtu", "65535"),
        (format!("{good}link = {{ delay = \"1h\" }}"), 5, "phase.link.delay", "at most 10m"),
        (format!("{good}link = {{ duty_cycle = \"1%\" }}"), 5, "phase.link.duty_cycle", "bitrate"),
        (format!("{good}link = \"bad\""), 5, "phase.link", "link = {"),
        (format!("{good}retry_storm = {{ share = \"1%\" }}"), 5, "phase.retry_storm.every", "every = \"2s\""),
        (format!("{good}retry_storm = {{ every = \"2s\" }}"), 5, "phase.retry_storm.share", "share = \"20%\""),
        (format!("{good}retry_storm = {{ share = \"1%\", every = \"1ms\" }}"), 5, "phase.retry_storm.every", "10ms"),
        ("devices = 5\nfor = \"0s\"".to_owned(), 4, "phase.for", "1m"),
        ("rate = 5".to_owned(), 3, "phase.rate", "two of"),
        ("rate = 0\nfor = \"1m\"".to_owned(), 3, "phase.rate", "pause"),
        ("rate = 1e-300\nfor = \"1m\"".to_owned(), 3, "phase.rate", "0.001"),
        ("pause = \"0s\"".to_owned(), 3, "phase.pause", "1m"),
        ("ramp = { from = 0, to = 0 }\nfor = \"1m\"".to_owned(), 3, "phase.ramp.to", "pause"),
        ("rate = -1\nfor = \"1m\"".to_owned(), 3, "phase.rate", "from 0"),
        ("rate = nan\nfor = \"1m\"".to_owned(), 3, "phase.rate", "from 0"),
        ("rate = 5\nfor = \"ten minutes\"".to_owned(), 4, "phase.for", "250ms"),
        ("rate = 5\nfor = \"1000d\"".to_owned(), 4, "phase.for", "at most 744h"),
        ("ramp = { from = 5 }\nfor = \"1m\"".to_owned(), 3, "phase.ramp.to", "from = 10"),
        ("ramp = { from = 5, to = 6 }\nrate = 5\nfor = \"1m\"".to_owned(), 4, "phase.rate", "two of"),
        ("pause = \"1m\"\nblock = 64".to_owned(), 4, "phase.block", "pause"),
        (format!("{good}who = \"enrolled\""), 5, "phase.who", "new devices get certificates"),
        (format!("pause = \"1m\"\n[[phase]]\n{good}who = \"enrolled\""), 7, "phase.who", "phase before it"),
        (format!("{good}function = \"crts\"\n[[phase]]\n{good}who = \"enrolled\""), 9, "phase.who", "\"sen\""),
        (format!("{good}renewals = \"30%\"\nfunction = \"sren\""), 5, "phase.renewals", "leave it out"),
        (format!("{good}function = \"ren\"\nrenewals = \"0.1%\""), 6, "phase.renewals", "leave it out"),
        (format!("{good}function = \"crts=50%,att=50%\"\nrenewals = \"30%\""), 6, "phase.renewals", "sen, skg or skc"),
        (format!("{good}[[phase]]\n{good}who = \"enrolled\"\nrenewals = \"30%\""), 9, "phase.renewals", "leave it out"),
    ] {
        let fault = read(&format!("name = \"x\"\n[[phase]]\n{lines}\n")).unwrap_err();
        assert_eq!((fault.line, fault.key.as_str()), (line, key), "{lines}: {fault}");
        assert!(fault.remedy.contains(remedy), "{lines}: {fault}");
    }
    for (text, line, remedy) in [
        ("", 1, "[[phase]]"),
        ("name = \"x\"\n[phase]\nrate = 1", 2, "[[phase]]"),
        ("name = \"x\"\nphase = [1]", 2, "[[phase]]"),
        ("name = \"x\"\nseed = 1\n[[phase]]\npause = \"1m\"", 2, "name, phase"),
        ("name = \"x\"\nname = \"y\"", 2, "toml.io"),
        ("[[phase\n", 1, "toml.io"),
    ] {
        let fault = read(text).unwrap_err();
        assert_eq!(fault.line, line, "{text}: {fault}");
        assert!(fault.remedy.contains(remedy), "{text}: {fault}");
    }
    assert_eq!(read("[[phase]]\nrate = 5\nfor = \"1m\"\nblok = 64").unwrap_err().to_string().lines().count(), 1);
}

/// What describes devices and their links is refused, not ignored; all else is played in the same way.
#[test]
fn a_registrar_refuses_what_it_cannot_play_by_key_and_line() {
    let good =
        "[[phase]]\nrate = 5\nfor = \"1m\"\nfunction = \"sen=80%,skg=20%\"\nrenewals = \"50%\"\nprofile = \"meters\"\n";
    let registrar = |text: &str| read_scenario(text, ScenarioPlayer::Registrar);
    assert_eq!(registrar(good), read(good));
    for (key, line) in [
        ("block", "block = 512"),
        ("suite", "suite = \"ccm8\""),
        ("vanish", "vanish = \"100%\""),
        ("reboot", "reboot = \"100%\""),
        ("retry_storm", "retry_storm = { share = \"20%\", every = \"2s\" }"),
        ("link", "link = { loss = \"100%\" }"),
        ("function", "[[phase]]\nfunction = \"sen=90%,ren=10%\"\nrate = 5\nfor = \"1m\""),
    ] {
        let text = format!("{good}{line}\n");
        assert!(read(&text).is_ok(), "{text}");
        let fault = registrar(&text).unwrap_err();
        let at = if key == "function" { 8 } else { 7 };
        assert_eq!((fault.line, fault.key), (at, format!("phase.{key}")), "{text}");
        assert!(fault.problem.contains("Registrar") && fault.remedy.contains("leave it out"), "{text}");
    }
}

/// What each remedy says to write, written: the scenario is then a plan.
#[test]
fn the_remedies_work() {
    let good = "rate = 5\nfor = \"1m\"\n";
    for (wrong, remedy, right) in [
        (format!("{good}block = 65"), "write 16, 32, 64,", format!("{good}block = 64")),
        (format!("{good}block = \"64\""), "without quotation marks", format!("{good}block = 64")),
        (format!("{good}vanish = 10"), "in quotation marks", format!("{good}vanish = \"10%\"")),
        (format!("{good}vanish = \"10\""), "write 10%", format!("{good}vanish = \"10%\"")),
        (
            format!("{good}function = \"sen=70%,skg=20%\""),
            "so that they are 100 %",
            format!("{good}function = \"sen=80%,skg=20%\""),
        ),
        (
            format!("{good}function = \"sen=70%,sen=30%\""),
            "add its shares up",
            format!("{good}function = \"sen=100%\""),
        ),
        (format!("{good}profile = \"\""), "leave `profile` out", good.to_owned()),
        (format!("{good}blok = 64"), "leave it out", good.to_owned()),
        ("pause = \"1m\"\nblock = 64".to_owned(), "leave it out", "pause = \"1m\"".to_owned()),
        ("rate = 0\nfor = \"1m\"".to_owned(), "pause = \"5m\" alone", "pause = \"5m\"".to_owned()),
        ("pause = \"0s\"".to_owned(), "pause = \"1m\"", "pause = \"1m\"".to_owned()),
        (
            "ramp = { from = 0, to = 0 }\nfor = \"1m\"".to_owned(),
            "0.001 or more at one end",
            "ramp = { from = 0, to = 0.001 }\nfor = \"1m\"".to_owned(),
        ),
        ("rate = 5".to_owned(), "two of `rate`", good.to_owned()),
        (format!("{good}devices = 5"), "two of `rate`", "rate = 5\ndevices = 5".to_owned()),
        ("rate = 5\nfor = \"0s\"".to_owned(), "for = \"1m\"", good.to_owned()),
        ("rate = 5\nfor = \"1000d\"".to_owned(), "at most 744h", "rate = 0.1\nfor = \"744h\"".to_owned()),
        (format!("{good}link = {{ delay = \"1h\" }}"), "at most 10m", format!("{good}link = {{ delay = \"10m\" }}")),
        (
            format!("{good}link = {{ duty_cycle = \"1%\" }}"),
            "add `bitrate`",
            format!("{good}link = {{ duty_cycle = \"1%\", bitrate = 50000 }}"),
        ),
        (
            format!("{good}link = {{ duty_cycle = \"0%\", bitrate = 50000 }}"),
            "0.1% or more",
            format!("{good}link = {{ duty_cycle = \"0.1%\", bitrate = 50000 }}"),
        ),
        (
            format!("{good}retry_storm = {{ share = \"1%\", every = \"1ms\" }}"),
            "10ms or more",
            format!("{good}retry_storm = {{ share = \"1%\", every = \"10ms\" }}"),
        ),
        (
            format!("{good}who = \"enrolled\""),
            "function = \"sen\"",
            format!("{good}function = \"sen\"\n[[phase]]\n{good}who = \"enrolled\""),
        ),
        (
            format!("{good}[[phase]]\n{good}who = \"enrolled\"\nrenewals = \"30%\""),
            "leave it out",
            format!("{good}[[phase]]\n{good}who = \"enrolled\""),
        ),
        (
            format!("{good}function = \"att\"\nrenewals = \"30%\""),
            "a share of `function` to sen",
            format!("{good}function = \"att=50%,sen=50%\"\nrenewals = \"30%\""),
        ),
    ] {
        let fault = read(&format!("[[phase]]\n{wrong}\n")).unwrap_err();
        assert!(fault.remedy.contains(remedy), "{wrong}: {fault}");
        let plan = read(&format!("[[phase]]\n{right}\n")).unwrap_or_else(|fault| panic!("{right}: {fault}"));
        assert!(plan.arrivals(1).is_ok_and(|arrivals| !arrivals.is_empty()), "{right}");
    }
}

#[test]
fn a_scenario_has_at_most_a_thousand_phases() {
    let many = read(&"[[phase]]\npause = \"1s\"\n".repeat(1_001)).unwrap_err();
    assert_eq!(
        (many.problem.as_str(), many.remedy.as_str()),
        ("1001 phases are too many", "write at most 1000 in one scenario")
    );
    assert!(read(&"[[phase]]\npause = \"1s\"\n".repeat(1_000)).is_ok());
}

/// Damaged files are refused or read, and what is read can be planned or is refused by name.
#[test]
fn damaged_files_do_not_panic() {
    let mut random = splitmix::SplitMix64::new(11);
    let mut draw = |below: usize| usize::try_from(random.draw() >> 33).unwrap() % below;
    for (_, text) in PRESETS {
        for _ in 0..1_500 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=draw(4) {
                let at = draw(bytes.len());
                match draw(3) {
                    0 => bytes[at] = b"0123456789.\"=-[]{}\n e"[draw(21)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"9.-\"{[\n"[draw(7)]),
                }
            }
            let Ok(damaged) = String::from_utf8(bytes) else { continue };
            if let Ok(plan) = read(&damaged)
                && plan.phases.iter().map(Phase::expected).sum::<f64>() < 10_000.0
            {
                let _ = plan.arrivals(1);
            }
        }
    }
}
