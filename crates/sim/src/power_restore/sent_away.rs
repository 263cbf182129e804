//! The devices that the server sent away, and for how long.

use std::collections::BTreeMap;
use std::fmt;

/// The devices that were sent away with 5.03.
#[derive(Clone, Debug, Default)]
pub struct SentAwayTally {
    /// Devices that were sent away at least once.
    pub devices: u32,
    /// How often each Max-Age was seen, by its seconds.
    pub max_ages: BTreeMap<u32, u64>,
}

impl SentAwayTally {
    pub(super) fn note(&mut self, max_age: u32, first: bool) {
        self.devices += u32::from(first);
        *self.max_ages.entry(max_age).or_default() += 1;
    }

    /// The answers with 5.03.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.max_ages.values().sum()
    }

    /// The Max-Age that half of the answers do not exceed.
    fn median(&self) -> u32 {
        let half = self.answers().div_ceil(2);
        let mut seen = 0;
        let reaches = |(_, count): &(&u32, &u64)| {
            seen += **count;
            seen >= half
        };
        self.max_ages.iter().find(reaches).map_or(0, |(max_age, _)| *max_age)
    }
}

impl fmt::Display for SentAwayTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} devices sent away with 5.03, {} times", self.devices, self.answers())?;
        let (Some((least, _)), Some((most, _))) = (self.max_ages.first_key_value(), self.max_ages.last_key_value())
        else {
            return Ok(());
        };
        write!(f, "; Max-Age {least} to {most} s, median {} s", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_answers_do_not_exceed_the_median() {
        let mut tally = SentAwayTally::default();
        assert_eq!(tally.to_string(), "0 devices sent away with 5.03, 0 times");
        [5, 60, 7, 60, 8].into_iter().enumerate().for_each(|(n, max_age)| tally.note(max_age, n < 3));
        assert_eq!(tally.to_string(), "3 devices sent away with 5.03, 5 times; Max-Age 5 to 60 s, median 8 s");
    }
}
