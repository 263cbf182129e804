//! A power loss takes nothing that was acknowledged.
//!
//! `kill -9` leaves what the kernel holds in memory, so it cannot show that a sync is missing. Here the ledger works under a shim that sees every write
//! and every sync (`power/shim.c`), and its trace becomes disks that lost what was not synced, in any order (`power/disk.rs`). Each is opened, and
//! compared with what had been answered before (`power/judge.rs`). `cargo xtask power` looks at many more of them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test of a shell: it runs programs and threads, and prints what it found"
)]

#[path = "power/loss.rs"]
mod loss;

use loss::{Checked, Faults, Omitted};

const ERRAND_ARGUMENTS: &[&str] = &["runs_under_the_shim", "--exact", "--nocapture"];

/// Not a test: where the process arrives that the others start.
#[test]
fn runs_under_the_shim() {
    if let Ok(errand) = std::env::var(loss::ERRAND) {
        loss::errand(&errand);
    }
}

fn check(seed: u64, faults: Faults, omitted: Omitted, images: usize) -> Checked {
    let trace = loss::trace(seed, faults, ERRAND_ARGUMENTS);
    let checked = loss::check(&trace, omitted, seed, images);
    println!(
        "{} changes, {} acknowledged, {} images, {} of them faulty: {:#?}",
        checked.events, checked.acknowledged, checked.images, checked.faulty, checked.faults
    );
    checked
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    assert_eq!(check(1, Faults::None, Omitted::Nothing, 200).faulty, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_writes_and_syncs_fail_before_the_power_does() {
    assert_eq!(check(2, Faults::Some, Omitted::Nothing, 200).faulty, 0);
}

/// The check of the check: without any one kind of sync it finds a loss.
#[test]
fn every_kind_of_sync_is_missed_when_it_is_left_out() {
    for omitted in [Omitted::File("-wal"), Omitted::File(".db"), Omitted::File(".journal"), Omitted::Folders] {
        assert!(check(3, Faults::None, omitted, 100).faulty > 0, "{omitted:?}");
    }
}
