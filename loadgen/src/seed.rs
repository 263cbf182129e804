//! Random numbers that a seed decides, one stream per purpose.
//!
//! They determine a run (arrival gaps, the devices' keys, what devices draw during their conversations), so that two runs of one seed play the same
//! fleet. They are not secret: the randomness that protects a handshake is `net`'s system randomness.

use std::sync::atomic::{AtomicU64, Ordering};

use dtls::Random;
use net::SystemRandom;
use ring::rand::SecureRandom;
use splitmix::SplitMix64;

/// A stream of 64-bit numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream(SplitMix64);

/// The purpose of a stream; streams of one seed and different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The gaps between the arrivals of phase `n`.
    Arrivals(u32),
    /// The order in which devices come back.
    Order,
    /// The private key of device `n`.
    Key(u32),
    /// Whether device `n` renews.
    Renewal(u32),
    /// Whether and how device `n` leaves without close_notify.
    Farewell(u32),
    /// The function that device `n` performs.
    Function(u32),
    /// Whether and when device `n` reboots.
    Reboot(u32),
    /// Whether device `n` takes part in a storm of retries.
    Storm(u32),
    /// The draws of device `n` during its conversation: waits before it tries again, message ids, tokens, hello randoms.
    Talk(u32),
}

impl Stream {
    /// The stream of `seed` for one purpose.
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        Self(SplitMix64::new(Self::start(seed, purpose)))
    }

    /// Where the stream starts.
    fn start(seed: u64, purpose: Purpose) -> u64 {
        let (kind, index) = match purpose {
            Purpose::Arrivals(n) => (1u64, n),
            Purpose::Order => (10, 0),
            Purpose::Key(n) => (3, n),
            Purpose::Talk(n) => (4, n),
            Purpose::Farewell(n) => (5, n),
            Purpose::Renewal(n) => (6, n),
            Purpose::Function(n) => (7, n),
            Purpose::Reboot(n) => (8, n),
            Purpose::Storm(n) => (9, n),
        };
        // Eight bits are free for the seed. A greater one is spread over all bits: otherwise two fleets would share keys, because 256 more in the seed
        // would be the next device.
        let seed = if seed < 1 << 8 { seed } else { splitmix::mix(seed) };
        // One round spreads small numbers before the first draw.
        splitmix::at(seed ^ (kind << 56) ^ (u64::from(index) << 8), 0)
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number in (0, 1]: never 0, so that its logarithm exists.
    pub(crate) fn unit(&mut self) -> f64 {
        /// 2^53, the numbers that an `f64` holds without gaps.
        const STEPS: f64 = 9_007_199_254_740_992.0;
        let draw = (self.next_u64() >> 11) + 1;
        let (high, low) = (u32::try_from(draw >> 32).unwrap_or(u32::MAX), draw & 0xFFFF_FFFF);
        let low = u32::try_from(low).unwrap_or(u32::MAX);
        (f64::from(high) * 4_294_967_296.0 + f64::from(low)) / STEPS
    }

    /// Fills `out` with the next bytes of the stream.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_be_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// The randomness of one device: visible values and waits derive from the run's seed, so that a run can be repeated; keys and signatures use the
/// system's randomness, because they protect a connection to a real server.
pub(crate) struct DeviceRandom {
    start: u64,
    /// The place of the next draw.
    place: AtomicU64,
    system: SystemRandom,
}

impl DeviceRandom {
    /// Of device `index` in the run of `seed`.
    pub(crate) fn new(seed: u64, index: usize) -> Self {
        // A run has at most as many devices as there are loopback addresses.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let start = Stream::start(seed, Purpose::Talk(index));
        Self { start, place: AtomicU64::new(0), system: SystemRandom::new() }
    }
}

impl Random for DeviceRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let place = self.place.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&splitmix::at(self.start, place).to_be_bytes()[..chunk.len()]);
        }
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        Random::with_secure(&self.system, operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_repeat_and_purposes_differ() {
        let draw = |seed, purpose| {
            let mut stream = Stream::new(seed, purpose);
            [stream.next_u64(), stream.next_u64()]
        };
        assert_eq!(draw(7, Purpose::Arrivals(0)), draw(7, Purpose::Arrivals(0)));
        assert_ne!(draw(7, Purpose::Arrivals(0)), draw(8, Purpose::Arrivals(0)));
        assert_ne!(draw(7, Purpose::Arrivals(0)), draw(7, Purpose::Key(0)));
        assert_ne!(draw(7, Purpose::Key(1)), draw(7, Purpose::Key(2)));
        for (seed, index) in [(256 + 7, 0), (256 + 7, 3), ((1 << 20) + 7, 5), ((1 << 57) + 7, 1)] {
            let near = (0..1 << 13).find(|other| draw(7, Purpose::Key(*other)) == draw(seed, Purpose::Key(index)));
            assert_eq!(near, None, "a device of seed {seed} has the key of one of seed 7");
        }
    }

    #[test]
    fn what_a_device_draws_follows_from_the_seed_and_from_which_device_it_is() {
        let draw = |seed, index| {
            let (random, mut out) = (DeviceRandom::new(seed, index), [0; 20]);
            random.fill(&mut out[..12]);
            random.fill(&mut out[12..]);
            out
        };
        assert_eq!(draw(7, 0), draw(7, 0));
        assert_ne!(draw(7, 0), draw(8, 0));
        assert_ne!(draw(7, 0), draw(7, 1));
        let mut stream = Stream::new(7, Purpose::Talk(0));
        assert_eq!(draw(7, 0)[..8], stream.next_u64().to_be_bytes(), "as the stream has it");
        assert_eq!(
            Stream::new(7, Purpose::Talk(0)).next_u64(),
            0xcd43_9896_d6bb_86fc,
            "a committed seed replays its run"
        );
    }

    #[test]
    fn unit_stays_above_zero_and_averages_a_half() {
        let mut stream = Stream::new(1, Purpose::Arrivals(0));
        let mut sum = 0.0;
        for _ in 0..10_000 {
            let u = stream.unit();
            assert!(u > 0.0 && u <= 1.0, "{u}");
            sum += u;
        }
        assert!((sum / 10_000.0 - 0.5).abs() < 0.02, "{sum}");
    }
}
