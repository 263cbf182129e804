//! How often a server was killed, and where.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Kills at random moments, and at each step.
#[derive(Default)]
pub(super) struct Kills {
    random: u32,
    steps: BTreeMap<&'static str, u32>,
}

impl Kills {
    pub(super) fn note_random(&mut self) {
        self.random += 1;
    }

    pub(super) fn note_step(&mut self, step: &'static str) {
        *self.steps.entry(step).or_default() += 1;
    }

    pub(super) fn random(&self) -> u32 {
        self.random
    }

    pub(super) fn all(&self) -> u32 {
        self.random + self.steps.values().sum::<u32>()
    }

    /// `, NAME COUNT` for each of these steps.
    pub(super) fn by_step(&self, steps: &[&'static str]) -> String {
        steps.iter().fold(String::new(), |mut text, step| {
            let _ = write!(text, ", {step} {}", self.steps.get(step).copied().unwrap_or_default());
            text
        })
    }
}
