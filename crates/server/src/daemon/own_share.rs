//! Which enrolments of a turn a shard handles itself, and which it hands to the pool.
//!
//! An enrolment that leaves the shard costs two switches of threads, a wake-up on each side and the search of the pool's thread for more work: as
//! much as a few datagrams. It wins something only if a core is idle that the shard does not have.
//!
//! - **Each core has a shard** (the default): whichever thread runs the job, it takes the time of a shard. The shard handles as many jobs of a turn
//!   as take [`TURN_MAX`], by what jobs took last, in pieces with a look at the clock after each: a sender of requests chooses what they take, and may
//!   send the cheap ones first. More arrive at once in a storm only; they go to the pool in one batch: their number is then what
//!   admission and Max-Age see, and a core whose shard has nothing to do helps.
//! - **There are more cores than shards**: the pool has cores of its own. A lone job stays, because its hop costs more than its share of a batch;
//!   several go to the pool together, while the shard goes on with its datagrams.
//!
//! A ledger or a signer that completes elsewhere is not waited for: such an enrolment continues in the pool.

use std::num::NonZero;
use std::time::Duration;

/// The time that jobs may take of one turn: less than two batches of ClientHellos do, and far less than a device waits before it repeats a flight.
const TURN_MAX: Duration = Duration::from_millis(2);
/// Jobs without a look at the clock. A piece costs a few microseconds more than its jobs, and the last one ends late by what its jobs take longer than
/// others did: a large key on a slow core takes a millisecond.
const PIECE_MAX: usize = 4;
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

    /// How many of so many jobs the shard handles itself next, when it has `spent` so much of this turn on others: at least one in a turn, unless
    /// the pool is better for all of them.
    pub(super) fn piece(&self, waiting: usize, spent: Duration) -> usize {
        let is_first = spent.is_zero();
        if self.pool_has_cores {
            return usize::from(waiting == 1 && is_first);
        }
        let fit = TURN_MAX.saturating_sub(spent).as_nanos() / self.per_job.as_nanos().max(1);
        let fit = usize::try_from(fit).unwrap_or(usize::MAX).max(is_first.into());
        waiting.min(fit).min(PIECE_MAX)
    }

    /// So many jobs took so long.
    pub(super) fn note(&mut self, jobs: usize, took: Duration) {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX).max(1);
        // Half of the estimate is the newest piece: a pause of the machine is forgotten within a few of them.
        self.per_job = (self.per_job + took / jobs) / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn in which so many jobs wait, each of which takes so long: how many the shard handles, and how long it is away.
    fn turn(share: &mut OwnShare, waiting: usize, each: Duration) -> (usize, Duration) {
        let (mut handled, mut spent) = (0, Duration::ZERO);
        loop {
            let piece = share.piece(waiting - handled, spent);
            if piece == 0 {
                return (handled, spent);
            }
            let took = each * u32::try_from(piece).unwrap();
            share.note(piece, took);
            (handled, spent) = (handled + piece, spent + took);
        }
    }

    #[test]
    fn a_turn_keeps_what_fits_and_at_least_one() {
        let mut share = OwnShare::new(false);
        let guess = FIRST_GUESS;
        assert_eq!([0, 1, 13, 100].map(|waiting| turn(&mut share, waiting, guess).0), [0, 1, 13, 13]);
        // Jobs of 20 ms, such as those of a slow core or a long key.
        (0..20).for_each(|_| _ = turn(&mut share, 3, Duration::from_millis(20)));
        assert_eq!([0, 1, 100].map(|waiting| turn(&mut share, waiting, Duration::from_millis(20)).0), [0, 1, 1]);
        // One long pause does not last.
        (0..40).for_each(|_| _ = turn(&mut share, 10, Duration::from_micros(100)));
        assert_eq!(turn(&mut share, 100, Duration::from_micros(100)).0, 20);
    }

    #[test]
    fn c47_cheap_jobs_do_not_make_a_turn_of_dear_ones_long() {
        let mut share = OwnShare::new(false);
        (0..20).for_each(|_| _ = turn(&mut share, 500, Duration::from_micros(4)));
        let dear = Duration::from_micros(500);
        let (_, spent) = turn(&mut share, 500, dear);
        assert!(spent < TURN_MAX + dear * u32::try_from(PIECE_MAX).unwrap(), "{spent:?}");
    }

    #[test]
    fn a_pool_with_cores_of_its_own_gets_what_comes_together() {
        let share = OwnShare::new(true);
        assert_eq!([0, 1, 2, 100].map(|waiting| share.piece(waiting, Duration::ZERO)), [0, 1, 0, 0]);
        assert_eq!(share.piece(1, FIRST_GUESS), 0);
    }
}
