//! Only the honest path authenticates a client: after every prefix of the legal path, every word of four letters out of twelve, then
//! the rest of the path; and every word of three out of all letters, including those for noise and reordering.

mod support;

use support::walk::letter::{ALL, IMPOSTORS, PATH, read, spell};
use support::walk::scene::Scene;
use support::walk::{Plan, Tally, run};

/// The prefixes of the legal path, including the empty and the whole one.
const PREFIXES: usize = PATH.len() + 1;

/// Four letters out of twelve, after every prefix.
const IMPOSTORS_DEPTH: u32 = 4;
const IMPOSTORS_WALKS: u64 = 145_152;
const _: () = assert!(PREFIXES == 7 && 7 * 12_u64.pow(IMPOSTORS_DEPTH) == IMPOSTORS_WALKS);

/// Three letters out of nineteen, after every prefix.
const ALL_DEPTH: u32 = 3;
const ALL_WALKS: u64 = 48_013;
const _: () = assert!(7 * 19_u64.pow(ALL_DEPTH) == ALL_WALKS);

#[allow(clippy::print_stdout, reason = "how much was walked is a result: `--nocapture` shows it")]
fn walk(length: usize, completed: u64) {
    let mut scene = Scene::new();
    let plan = Plan { prefix: &PATH[..length], letters: &IMPOSTORS, depth: IMPOSTORS_DEPTH };
    let tally = plan.walk_all(&mut scene).unwrap_or_else(|found| panic!("{found}"));
    println!("after {:?}: {} walks, {} completed", spell(plan.prefix), tally.walks, tally.completed);
    assert_eq!(tally, Tally { walks: IMPOSTORS_WALKS / 7, completed });
}

#[test]
fn impostors_from_the_beginning() {
    walk(0, 16_853);
}

#[test]
fn impostors_after_the_hello() {
    walk(1, 1_721);
}

#[test]
fn impostors_after_the_certificate() {
    walk(2, 1_829);
}

#[test]
fn impostors_after_the_key_exchange() {
    walk(3, 1_886);
}

#[test]
fn impostors_after_certificate_verify() {
    walk(4, 2_727);
}

#[test]
fn impostors_after_change_cipher_spec() {
    walk(5, 4_231);
}

#[test]
fn impostors_after_finished() {
    walk(6, 20_736);
}

#[test]
fn noise_and_reordering_everywhere() {
    let mut scene = Scene::new();
    let mut tally = Tally::default();
    for length in 0..PREFIXES {
        let plan = Plan { prefix: &PATH[..length], letters: &ALL, depth: ALL_DEPTH };
        tally += plan.walk_all(&mut scene).unwrap_or_else(|found| panic!("{found}"));
    }
    println!("{} walks, {} completed", tally.walks, tally.completed);
    assert_eq!(tally, Tally { walks: ALL_WALKS, completed: 18_986 });
}

/// Words that the oracle calls honest, and words that it does not, as examples that a reader can check.
#[test]
fn the_oracle_means_what_it_says() {
    let mut scene = Scene::new();
    let honest = [
        "",
        "H",
        "HC",
        "HCKVSF",
        "HH",
        "CH",
        "KHCKVSFH",
        "HS",
        "HSCKV",
        "HCSKV",
        "HCKVSHF",
        "HCKVFS",
        "HCKVZS",
        "HCKVSZF",
        "HCKVSDF",
        "HdCwKdVwSdF",
        "HRCRKRVRSRFR",
        "HLCKVSF",
        "HCLKVSF",
        "HCKLVFS",
        "LHCKVSF",
        "HCKVSFFCKV",
        "HCKVFKSDD",
        "HCKVSFDDD",
        "HUHCKVSF",
        "HCKVSXHCKVSF",
        "HEHCKVSF",
    ];
    let refused = [
        "HE",
        "HO",
        "HEKSF",
        "HEKVSF",
        "HCKSF",
        "HCSF",
        "HSF",
        "HKVSF",
        "HCVSF",
        "HCKU",
        "HCKT",
        "HOKU",
        "HCKVSX",
        "HCKVXSF",
        "HCKVSZ",
        "HQ",
        "HCKA",
        "HA",
        "HCC",
        "HCKK",
        "HFCKV",
        "HCKFV",
        "HCKXHCKVSF",
    ];
    for (words, completes) in [(&honest[..], true), (&refused[..], false)] {
        for word in words {
            let letters = read(word).unwrap();
            assert_eq!(run(&mut scene, letters.into_iter()), Ok(completes), "{word}");
        }
    }
}
