//! Randomness that is read at a place instead of drawn in sequence.
//!
//! The n-th output of SplitMix64 is a function of its start and n, so that the values for one datagram never depend on those
//! for another. It is not a secret and protects nothing.

use std::time::Duration;

use splitmix::{at, mix};

/// One sequence of 64-bit numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    start: u64,
}

impl Stream {
    /// The stream of a seed and a name: different names of one seed are independent.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, starting from the seed.
        let start =
            name.bytes().fold(at(seed, 0), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { start: mix(start) }
    }

    /// The substream with number `index`.
    pub(crate) fn part(self, index: u64) -> Self {
        Self { start: mix(self.at(index)) }
    }

    /// The number at `place`.
    pub(crate) fn at(self, place: u64) -> u64 {
        at(self.start, place)
    }

    /// True at this many of a thousand places.
    pub(crate) fn permille(self, place: u64, share: u16) -> bool {
        self.at(place) % 1_000 < u64::from(share)
    }

    /// A number below `bound`; zero for a bound of zero.
    pub(crate) fn below(self, place: u64, bound: u64) -> u64 {
        self.at(place).checked_rem(bound).unwrap_or(0)
    }

    /// A time within both bounds, to the microsecond.
    pub(crate) fn between(self, place: u64, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.below(place, span.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_names_and_parts_differ() {
        let draws = [
            Stream::new(1, "a"),
            Stream::new(2, "a"),
            Stream::new(1, "b"),
            Stream::new(1, "a").part(0),
            Stream::new(1, "a").part(1),
        ]
        .map(|stream| stream.at(0));
        for (index, draw) in draws.iter().enumerate() {
            assert!(!draws[..index].contains(draw), "{draws:?}");
        }
        assert_eq!(Stream::new(1, "a").at(9), Stream::new(1, "a").at(9));
    }

    #[test]
    fn times_stay_within_their_bounds_and_reach_both() {
        let stream = Stream::new(1, "times");
        let (least, most) = (Duration::from_micros(5), Duration::from_micros(7));
        let drawn: Vec<Duration> = (0..1_000).map(|place| stream.between(place, least, most)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&least), Some(&most)));
        assert_eq!(stream.between(0, most, most), most);
        assert_eq!(stream.between(0, most, least), most, "bounds in the wrong order do not panic");
    }
}
