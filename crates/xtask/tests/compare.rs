//! `cargo xtask bench compare` as a program: its words and its exit status on commits of the committed history, and on a made-up history for figures
//! that were measured, which few commits have.
#![allow(clippy::disallowed_methods, reason = "a test of a program, which reads a file")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two recorded commits: the second one has 17 figures that are better, and none that is worse.
const EARLIER: &str = "655932a35d61";
const LATER: &str = "39539ab0f875";
/// Their figures are those of one code.
const SAME: [&str; 2] = ["db091d64a623", "482272ea74b0"];
/// Has counts that [`LATER`] does not have.
const MORE_COUNTS: &str = "79897e98ccbe";

fn compare(then: &str, now: &str) -> (Option<i32>, String) {
    run(&[then, now])
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["bench", "compare"]).args(arguments).output();
    let Output { status, stdout, stderr } = ended.expect("xtask starts");
    let words = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code(), words)
}

#[test]
fn better_figures_and_noise_succeed() {
    let (status, words) = compare(EARLIER, LATER);
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("17 better, 47 noise"), "{words}");
    let (status, words) = compare(SAME[0], SAME[1]);
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("64 noise") && !words.contains("better"), "{words}");
}

#[test]
fn worse_figures_fail_and_are_counted() {
    let (status, words) = compare(LATER, EARLIER);
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains(&format!("17 figures of {EARLIER} are worse than those of {LATER}")), "{words}");
}

#[test]
fn counts_that_are_gone_and_commits_that_nobody_recorded_fail() {
    let (status, words) = compare(MORE_COUNTS, LATER);
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains(&format!("is missing in {LATER}")), "{words}");
    let (status, words) = compare("no-such-commit", LATER);
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("no-such-commit is not recorded"), "{words}");
}

/// A history of made-up commits with measured figures: what each measured, on which CPU, with half of its interval as noise.
struct MadeUp(PathBuf);

impl MadeUp {
    const COMMITS: [(&str, &str, f64, f64); 5] = [
        ("base", "A", 1.30, 0.02),
        ("touching", "A", 1.33, 0.02),
        ("dearer", "A", 1.35, 0.02),
        ("cheaper", "A", 1.25, 0.02),
        ("elsewhere", "B", 1.60, 0.02),
    ];

    fn write(name: &str) -> Self {
        let line = |(commit, cpu, ratio, noise): (&str, &str, f64, f64)| {
            format!(
                r#"{{"schema":"muster-history/1","commit":"made-up-{commit}","at":"2026-01-01T00:00:00Z","facts":{{"cpu":"{cpu}"}},"figures":{{"ratio_to_floor/x":{{"value":{ratio},"noise":{noise}}},"datagrams/up.x":{{"value":6}}}}}}"#
            ) + "\n"
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("the folder of the tests can be written");
        let file = folder.join("history.jsonl");
        std::fs::write(&file, Self::COMMITS.map(line).concat()).expect("the folder of the tests can be written");
        Self(file)
    }

    fn compare(&self, then: &str, now: &str) -> (Option<i32>, String) {
        let [then, now] = [then, now].map(|commit| format!("made-up-{commit}"));
        run(&[&then, &now, "--history", &self.0.display().to_string()])
    }
}

#[test]
fn measured_figures_are_decided_by_their_intervals() {
    let history = MadeUp::write("intervals");
    for (now, status, verdict) in
        [("touching", 0, "noise"), ("dearer", 1, "worse"), ("cheaper", 0, "better"), ("elsewhere", 0, "incomparable")]
    {
        let (ended, words) = history.compare("base", now);
        assert_eq!(ended, Some(status), "{words}");
        let line = words.lines().find(|line| line.starts_with("ratio_to_floor/x"));
        assert!(line.is_some_and(|line| line.ends_with(verdict)), "{now} is not {verdict}: {words}");
    }
    let (_, words) = history.compare("base", "dearer");
    assert!(words.contains("1 figures of made-up-dearer are worse than those of made-up-base"), "{words}");
}

#[test]
fn what_was_not_measured_again_is_not_missing() {
    let history = MadeUp::write("not-measured");
    let text = std::fs::read_to_string(&history.0).expect("it was just written");
    let ratio = r#""ratio_to_floor/x":{"value":1.25,"noise":0.02},"#;
    assert!(text.contains(ratio), "{text}");
    std::fs::write(&history.0, text.replace(ratio, "")).expect("it was just written");
    let (status, words) = history.compare("base", "cheaper");
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("1 noise") && !words.contains("missing"), "{words}");
}
