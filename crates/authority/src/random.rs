//! Where serials and signatures get their randomness: injected, one draw per operation.

use ring::rand::SecureRandom;

/// A source of randomness, safe to share between the threads of a pool.
///
/// `fill` serves serial numbers. `with_secure` hands ring one `SecureRandom` for one operation: ring seals that trait, so a
/// simulator can only feed derived bytes to each operation, not implement it. The trait has the shape of `dtls::Random` on purpose: this
/// crate does not depend on `dtls`.
pub trait Random: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
    /// Calls `operation` once with a source that serves that one operation.
    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom));
}
