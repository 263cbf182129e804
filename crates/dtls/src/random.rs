//! Randomness, which is injected at construction: this crate has no source of its own.

/// The source of randomness, injected at construction, so that one seed replays one run.
pub trait Random: Send + Sync {
    /// Fills `out`: hello randoms, which are public on the wire, and secrets of our own making (those of cookies, the keys of hash tables).
    fn fill(&self, out: &mut [u8]);
    /// Passes one [`ring::rand::SecureRandom`] to `operation`, for one key generation or one signature. `ring` seals that trait, so a
    /// simulator cannot implement it, but it can feed derived bytes to each operation.
    fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom));
}
