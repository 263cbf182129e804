//! Instruction counts of the benchmarks, all and outside the cryptographic libraries, and how they compare.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::callgrind;
use super::profiles::{BenchTree, Profiles};

/// Number of runs for a baseline. One run takes less than a minute.
const BLESSED_RUNS: usize = 3;
/// The gate counts again if something grew, so that only what grew in each run fails.
const GATED_RUNS: usize = 3;

/// The instructions of one benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) all: u64,
    pub(super) outside_cryptography: u64,
    /// By how much the runs of one build differed.
    #[serde(default)]
    pub(super) noise: Noise,
}

/// The highest count of several runs less the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noise {
    pub(super) all: u64,
    pub(super) outside_cryptography: u64,
}

pub(super) type Counts = BTreeMap<String, Count>;

/// What `benches/benches/counts.rs` prints of one case.
pub(super) type EnrolmentCounts = BTreeMap<String, u64>;
/// The same by case (`ccm8_512`).
pub(super) type Enrolments = BTreeMap<String, EnrolmentCounts>;

impl Count {
    /// The lowest of both, and the noise of all runs.
    fn and(self, now: Self) -> Self {
        let (all, noise_all) = wider((self.all, self.noise.all), now.all);
        let outside = (self.outside_cryptography, self.noise.outside_cryptography);
        let (outside_cryptography, noise_outside) = wider(outside, now.outside_cryptography);
        let noise = Noise { all: noise_all, outside_cryptography: noise_outside };
        Self { all, outside_cryptography, noise }
    }
}

/// The lowest value and the width of a range that has one more value.
fn wider((lowest, width): (u64, u64), value: u64) -> (u64, u64) {
    let (low, high) = (lowest.min(value), (lowest + width).max(value));
    (low, high - low)
}

/// The counts of profiles.
pub(super) fn of_profiles(profiles: &Profiles) -> Result<Counts> {
    let counts = profiles.iter().map(|(name, profile)| {
        let sum = callgrind::read(profile)?;
        let (all, outside_cryptography) = (sum.all, sum.outside_cryptography);
        ensure!(all > 0, "the profile of {name} is empty");
        Ok((name.clone(), Count { all, outside_cryptography, noise: Noise::default() }))
    });
    counts.collect()
}

/// The lowest counts of several runs, with their noise.
pub(super) fn several(tree: &BenchTree) -> Result<Counts> {
    count_while(tree, BLESSED_RUNS, |_| true)
}

/// The counts of one run, or of a few where `has_grown` says so.
pub(super) fn once_or_until_settled(tree: &BenchTree, has_grown: impl Fn(&Counts) -> bool) -> Result<Counts> {
    count_while(tree, GATED_RUNS, has_grown)
}

fn count_while(tree: &BenchTree, runs: usize, needs_another: impl Fn(&Counts) -> bool) -> Result<Counts> {
    let mut least = Counts::new();
    for _ in 0..runs {
        for (name, now) in of_profiles(&tree.profiles()?)? {
            least.entry(name).and_modify(|count| *count = count.and(now)).or_insert(now);
        }
        if !needs_another(&least) {
            break;
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_several_runs_counts_and_their_distance_is_the_noise() {
        let run = |all, outside_cryptography| Count { all, outside_cryptography, noise: Noise::default() };
        let three = run(1000, 50).and(run(1010, 50)).and(run(990, 49));
        assert_eq!((three.all, three.outside_cryptography), (990, 49));
        assert_eq!(three.noise, Noise { all: 20, outside_cryptography: 1 });
    }
}
