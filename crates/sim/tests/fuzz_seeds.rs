//! Runs the body of every target over every committed seed and over reproducible changes of it.

#![allow(clippy::disallowed_methods, reason = "the seeds are files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sim::fuzz::{TARGETS, Target, mutations};

/// Changes of one seed: many if an input takes a microsecond, few if it takes a handshake.
const CHANGES: usize = 200;
const CHANGES_WITH_A_HANDSHAKE: usize = 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("seeds are committed");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

fn replay(target: &Target) {
    let changes = if target.name.starts_with("est_")
        && !["est_discovery", "est_key_answer", "est_renewal_info", "est_trace"].contains(&target.name)
    {
        CHANGES_WITH_A_HANDSHAKE
    } else {
        CHANGES
    };
    let folder = folder().join(target.name);
    for name in names(&folder) {
        let seed = std::fs::read(folder.join(&name)).expect("a seed");
        let run = |input: &[u8], which: &str| {
            let result = std::panic::catch_unwind(|| (target.body)(input));
            assert!(result.is_ok(), "{}: {name}, {which}: {input:02x?}", target.name);
        };
        run(&seed, "as it is");
        for (number, input) in mutations(&seed, changes).enumerate() {
            run(&input, &format!("change {number}"));
        }
    }
}

#[test]
fn seeds_of_coap() {
    TARGETS.iter().filter(|target| target.name.starts_with("coap_")).for_each(replay);
}

#[test]
fn seeds_of_dtls() {
    TARGETS.iter().filter(|target| target.name.starts_with("dtls_")).for_each(replay);
}

#[test]
fn seeds_of_est() {
    TARGETS.iter().filter(|target| target.name.starts_with("est_")).for_each(replay);
}

#[test]
fn seeds_of_pki() {
    TARGETS.iter().filter(|target| target.name.starts_with("pki_")).for_each(replay);
}

#[test]
fn every_target_has_its_folder_and_every_folder_its_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    // Those of the ledger, of captures, of the load generator and of the Registrar are replayed in their own crates.
    let is_here =
        |name: &String| !["ledger_", "load_", "net_", "registrar_"].iter().any(|prefix| name.starts_with(prefix));
    let folders: BTreeSet<String> = names(&folder()).into_iter().filter(is_here).collect();
    assert_eq!(folders, targets);
    let seeds: usize = targets.iter().map(|target| names(&folder().join(target)).len()).sum();
    assert!(seeds >= 200, "{seeds} seeds");
}
