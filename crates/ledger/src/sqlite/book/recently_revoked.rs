//! Certificates that were revoked a moment ago: their clients may have a request in flight whose standing was asked for before.
//!
//! Every revocation and every row goes through the one writer, so that it needs no look at the tables to notice that a client was revoked between two
//! steps of its request.
//!
//! **Bounds.** It keeps the last [`KEPT_MAX`]: more than that are revoked in one go by an operator who revokes a whole fleet, and then a request of the
//! first ones that is in flight for longer than all of that takes is still served. A ledger that is opened anew after a fault begins with none: the
//! requests that were in flight before were refused.

use std::collections::{HashSet, VecDeque};

use pki::Digest;

/// As many as there can be enrolments in flight.
const KEPT_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct RecentlyRevoked {
    digests: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl RecentlyRevoked {
    pub(super) fn contains(&self, certificate: &Digest) -> bool {
        !self.digests.is_empty() && self.digests.contains(certificate)
    }

    pub(super) fn insert(&mut self, certificate: Digest) {
        if !self.digests.insert(certificate) {
            return;
        }
        self.order.push_back(certificate);
        if self.order.len() > KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}
