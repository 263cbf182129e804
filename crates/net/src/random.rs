//! The randomness of a shell: the operating system's generator behind the traits that the engines and the authority use.

use ring::rand::{SecureRandom, SystemRandom as RingRandom};

/// The operating system's generator (`getrandom`).
#[derive(Clone, Debug)]
pub struct SystemRandom {
    ring: RingRandom,
}

impl SystemRandom {
    /// The one generator of this machine; cheap to create and to clone.
    #[must_use]
    pub fn new() -> Self {
        Self { ring: RingRandom::new() }
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl dtls::Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        self.ring.fill(out).expect("the kernel's generator answers once the machine has booted");
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&self.ring);
    }
}

impl authority::Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        dtls::Random::fill(self, out);
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&self.ring);
    }
}
