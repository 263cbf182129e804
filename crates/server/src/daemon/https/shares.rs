//! How many connections one client certificate may have: the places of all clients are few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pki::Digest;

/// The connections of each certificate.
#[derive(Debug, Default)]
pub(super) struct ConnectionShares(Mutex<HashMap<Digest, usize>>);

/// A connection that counts as one of its certificate, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionShare {
    shares: Arc<ConnectionShares>,
    of: Digest,
}

impl ConnectionShares {
    /// Counts one more connection of this certificate, unless it has `most` of them.
    pub(super) fn take(self: &Arc<Self>, of: Digest, most: usize) -> Option<ConnectionShare> {
        let mut counts = self.lock();
        let count = counts.entry(of).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(ConnectionShare { shares: Arc::clone(self), of })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        // Nothing between two steps of a change can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionShare {
    fn drop(&mut self) {
        let mut counts = self.shares.lock();
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_its_share_back_when_a_connection_ends() {
        let shares = Arc::new(ConnectionShares::default());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let held: Vec<_> = (0..3).map_while(|_| shares.take(one, 2)).collect();
        assert_eq!(held.len(), 2);
        let another = shares.take(other, 2);
        assert!(another.is_some(), "it takes nothing from another");
        drop(held);
        drop(another);
        assert!(shares.take(one, 2).is_some());
        assert_eq!(shares.lock().len(), 0, "nobody is remembered");
    }
}
