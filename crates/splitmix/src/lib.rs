//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
//!
//! What it is: the one small generator of the workspace, for jitter, message ids, simulated links and load. A seed decides
//! the whole sequence, and committed results replay by their seed, so the sequence never changes. What it is not: a source
//! of secrets. Anyone who sees one output can compute all others.
//!
//! The n-th output is a function of the start and of n. [`SplitMix64`] draws one after the other; [`at`] reads one at its
//! place, so that what is read for one datagram does not depend on what was read for another.

/// The increment of the state: the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of 64-bit numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The sequence that starts at `start`.
    #[inline]
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self { state: start }
    }

    /// The next 64 bits.
    #[inline]
    pub const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }
}

/// Output number `place` of the sequence that starts at `start`, counted from 0.
#[inline]
#[must_use]
pub const fn at(start: u64, place: u64) -> u64 {
    mix(start.wrapping_add(place.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// The output function: spreads every bit of `state` over all bits of the result. It is a bijection.
#[inline]
#[must_use]
pub const fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for the seed 1234567, as others compute them (Rosetta Code,
    /// "Pseudo-random numbers/Splitmix64").
    const WANTED: [u64; 5] = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];

    #[test]
    fn it_is_splitmix64() {
        let mut sequence = SplitMix64::new(1_234_567);
        assert_eq!(WANTED.map(|_| sequence.draw()), WANTED);
    }

    #[test]
    fn an_output_is_the_same_drawn_or_read_at_its_place() {
        assert_eq!([0, 1, 2, 3, 4].map(|place| at(1_234_567, place)), WANTED);
        assert_eq!(at(7, u64::MAX), mix(7), "places come round");
    }
}
