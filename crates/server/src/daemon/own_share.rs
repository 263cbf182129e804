//! Which enrolments of a turn a shard handles itself, and which it hands to the pool.
//!
//! An enrolment that leaves the shard costs two switches of threads, a wake-up on each side and the search of the pool's thread for more work: as
//! much as a few datagrams. It wins something only if a core is idle that the shard does not have.
//!
//! - **Each core has a shard** (the default): whichever thread runs the job, it takes the time of a shard. The shard handles as many jobs of a turn
//!   as take [`TURN_MAX`], by what jobs took last. More arrive at once in a storm only; they go to the pool in one batch: their number is then what
//!   admission and Max-Age see, and a core whose shard has nothing to do helps.
//! - **There are more cores than shards**: the pool has cores of its own. A lone job stays, because its hop costs more than its share of a batch;
//!   several go to the pool together, while the shard goes on with its datagrams.
//!
//! A ledger or a signer that completes elsewhere is not waited for: such an enrolment continues in the pool.

use std::num::NonZero;
use std::time::Duration;

/// The time that jobs may take of one turn: less than two batches of ClientHellos do, and far less than a device waits before it repeats a flight.
const TURN_MAX: Duration = Duration::from_millis(2);
/// What a job is taken to cost before one has run: a verification, a signature and the certificate around it.
const FIRST_GUESS: Duration = Duration::from_micros(150);

/// The share of one shard.
pub(super) struct OwnShare {
    pool_has_cores: bool,
    /// What a job took lately.
    per_job: Duration,
}

impl OwnShare {
    /// The share of each of so many shards, on the cores that this process may use.
    pub(super) fn beside(shards: u16) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::new(cores > usize::from(shards))
    }

    fn new(pool_has_cores: bool) -> Self {
        Self { pool_has_cores, per_job: FIRST_GUESS }
    }

    /// How many of so many jobs the shard handles itself: at least one, unless the pool is better for all of them.
    pub(super) fn of(&self, waiting: usize) -> usize {
        if self.pool_has_cores {
            return usize::from(waiting == 1);
        }
        let fit = TURN_MAX.as_nanos() / self.per_job.as_nanos().max(1);
        waiting.min(usize::try_from(fit).unwrap_or(usize::MAX).max(1))
    }

    /// So many jobs took so long.
    pub(super) fn note(&mut self, jobs: usize, took: Duration) {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX).max(1);
        // Half of the estimate is the newest turn: a pause of the machine is forgotten within a few turns.
        self.per_job = (self.per_job + took / jobs) / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_what_fits_and_at_least_one() {
        let mut share = OwnShare::new(false);
        assert_eq!([0, 1, 13, 100].map(|waiting| share.of(waiting)), [0, 1, 13, 13]);
        // Jobs of 20 ms, such as those of a slow core or a long key.
        (0..20).for_each(|_| share.note(3, Duration::from_millis(60)));
        assert_eq!([0, 1, 100].map(|waiting| share.of(waiting)), [0, 1, 1]);
        // One long pause does not last.
        (0..40).for_each(|_| share.note(10, Duration::from_millis(1)));
        assert_eq!(share.of(100), 20);
    }

    #[test]
    fn a_pool_with_cores_of_its_own_gets_what_comes_together() {
        let share = OwnShare::new(true);
        assert_eq!([0, 1, 2, 100].map(|waiting| share.of(waiting)), [0, 1, 0, 0]);
    }
}
