//! `cargo xtask bench compare` as a program: its words and its exit status on commits of the committed history.

use std::process::{Command, Output};

/// Two recorded commits: the second one has 17 figures that are better, and none that is worse.
const EARLIER: &str = "655932a35d61";
const LATER: &str = "39539ab0f875";
/// Their figures are those of one code.
const SAME: [&str; 2] = ["db091d64a623", "482272ea74b0"];
/// Has counts that [`LATER`] does not have.
const MORE_COUNTS: &str = "92d6be8bb79a";

fn compare(then: &str, now: &str) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["bench", "compare", then, now]).output();
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
