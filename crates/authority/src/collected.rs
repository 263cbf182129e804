//! Outcomes that wait until their submitter takes them.
//!
//! For a shell that completes jobs on its own turn: the simulator, the benchmarks, tests. A server with threads has its own mailbox, which
//! wakes a shard.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::job::{Deliver, Outcome};

/// Collects outcomes in the order of their delivery. Bounded by the submitted jobs: one outcome each.
#[derive(Debug)]
pub struct Collected<J>(Mutex<Vec<(J, Outcome)>>);

impl<J> Collected<J> {
    /// The outcomes delivered since the last call.
    pub fn take(&self) -> Vec<(J, Outcome)> {
        std::mem::take(&mut *self.lock())
    }

    /// Number of outcomes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no outcome waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(J, Outcome)>> {
        // A list of whole outcomes: a thread that panicked has left it in the state before or after a
        // delivery.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Default for Collected<J> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<J: Send> Deliver<J> for Collected<J> {
    fn deliver(&self, outcomes: Vec<(J, Outcome)>) {
        debug_assert!(!outcomes.is_empty(), "an empty delivery wakes a shard for nothing");
        self.lock().extend(outcomes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Busy;

    #[test]
    fn each_outcome_is_taken_once_and_in_the_order_of_delivery() {
        let collected = Collected::default();
        collected.deliver(vec![(1, Outcome::from(Busy::DeviceInFlight)), (2, Outcome::from(Busy::DeviceInFlight))]);
        collected.deliver(vec![(3, Outcome::from(Busy::DeviceInFlight))]);
        assert_eq!(collected.len(), 3);
        let jobs: Vec<i32> = collected.take().into_iter().map(|(job, _)| job).collect();
        assert_eq!(jobs, [1, 2, 3]);
        assert!(collected.is_empty() && collected.take().is_empty());
    }
}
