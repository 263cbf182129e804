//! Jobs that travel through the steps together, each with the state of its step.
//!
//! A batch owns every job that must be answered. A step splits it by consuming the states; jobs that end are delivered in one call; and a
//! batch that is dropped, because a ledger or signer dropped the completion that held it, delivers [`Busy::Dropped`] for each of its jobs. So
//! no job can be lost, and none can be delivered twice. A step that panics on one job fails only that job, provided that the batch has an
//! [`Isolate`] that catches the panic: the other jobs continue.

use std::sync::Arc;

use crate::job::{Deliver, Outcome};
use crate::refusal::Busy;

/// Calls its argument, once, and may catch a panic of it.
pub type Isolate = fn(&mut dyn FnMut());

/// Jobs of one submission, each with the state of its step; see the module.
pub struct JobBatch<J: Send + 'static, S> {
    deliver: Arc<dyn Deliver<J>>,
    isolate: Isolate,
    entries: Vec<(J, S)>,
}

/// The next step of a job after a step with two exits. (A `Result` would make one of them an error, which neither is.)
pub enum NextStep<A, B> {
    /// The usual way.
    On(A),
    /// The other one.
    Aside(B),
}

impl<J: Send + 'static, S> JobBatch<J, S> {
    /// All jobs of a submission.
    pub fn new(deliver: Arc<dyn Deliver<J>>, isolate: Isolate, entries: Vec<(J, S)>) -> Self {
        Self { deliver, isolate, entries }
    }

    /// Other jobs of the same submission.
    fn beside<T>(&self, entries: Vec<(J, T)>) -> JobBatch<J, T> {
        JobBatch::new(Arc::clone(&self.deliver), self.isolate, entries)
    }

    /// Number of jobs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no job is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The states, in order.
    pub fn states(&self) -> impl Iterator<Item = &S> {
        self.entries.iter().map(|(_, state)| state)
    }

    /// Splits the batch by the result of `step` for each state. A job whose step panicked ends here.
    pub fn divide<A, B>(mut self, mut step: impl FnMut(S) -> NextStep<A, B>) -> (JobBatch<J, A>, JobBatch<J, B>) {
        let entries = std::mem::take(&mut self.entries);
        let (mut on, mut aside, mut panicked) =
            (self.beside(Vec::new()), self.beside(Vec::new()), self.beside(Vec::new()));
        let mut left = entries.len();
        for (job, state) in entries {
            match isolated(self.isolate, || step(state)) {
                Some(NextStep::On(next)) => on.take_over(job, next, left),
                Some(NextStep::Aside(other)) => aside.take_over(job, other, left),
                None => panicked.take_over(job, Outcome::later(Busy::Dropped), left),
            }
            left -= 1;
        }
        panicked.finish();
        (on, aside)
    }

    /// Adds a job of a batch of which so many are left. Most steps have one exit for all jobs: a list that stays empty takes no memory.
    fn take_over(&mut self, job: J, state: S, left: usize) {
        if self.entries.is_empty() {
            self.entries.reserve_exact(left);
        }
        self.entries.push((job, state));
    }

    /// Takes every state one step further; the jobs that end here are delivered at once, in one call.
    pub fn advance<T>(self, mut step: impl FnMut(S) -> Result<T, Outcome>) -> JobBatch<J, T> {
        let (next, ended) = self.divide(|state| match step(state) {
            Ok(next) => NextStep::On(next),
            Err(outcome) => NextStep::Aside(outcome),
        });
        ended.finish();
        next
    }

    /// The same with one answer of a ledger or signer for each state, in order. The caller has compared the lengths.
    pub fn advance_with<R, T>(
        self,
        answers: Vec<R>,
        mut step: impl FnMut(S, R) -> Result<T, Outcome>,
    ) -> JobBatch<J, T> {
        debug_assert_eq!(self.len(), answers.len(), "one answer for each state");
        let mut answers = answers.into_iter();
        self.advance(|state| match answers.next() {
            Some(answer) => step(state, answer),
            None => Err(Outcome::later(Busy::Dropped)),
        })
    }

    /// Takes one job out of the batch, for the one step that may park it elsewhere.
    pub fn pop(&mut self) -> Option<(JobBatch<J, ()>, S)> {
        let (job, state) = self.entries.pop()?;
        Some((self.beside(vec![(job, ())]), state))
    }

    /// Puts a job that [`JobBatch::pop`] took out into the batch of the next step.
    pub fn push(&mut self, mut single: JobBatch<J, ()>, state: S) {
        if let Some((job, ())) = single.entries.pop() {
            self.entries.push((job, state));
        }
    }

    /// Ends every job with the same outcome.
    pub fn finish_all(self, outcome: &Outcome) {
        self.advance(|_| Err::<(), _>(outcome.clone()));
    }
}

impl<J: Send + 'static> JobBatch<J, Outcome> {
    /// Delivers all outcomes in one call; an empty batch delivers nothing.
    pub fn finish(mut self) {
        let outcomes = std::mem::take(&mut self.entries);
        if !outcomes.is_empty() {
            self.deliver.deliver(outcomes);
        }
    }
}

impl<J: Send + 'static, S> Drop for JobBatch<J, S> {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            let lost = std::mem::take(&mut self.entries);
            self.deliver.deliver(lost.into_iter().map(|(job, _)| (job, Outcome::later(Busy::Dropped))).collect());
        }
    }
}

/// The result of `work`, if it does not panic.
fn isolated<T>(isolate: Isolate, work: impl FnOnce() -> T) -> Option<T> {
    let (mut work, mut yielded) = (Some(work), None);
    isolate(&mut || yielded = work.take().map(|work| work()));
    yielded
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::collected::Collected;
    use crate::refusal::Refusal;

    #[test]
    fn e56_of_three_jobs_the_one_that_panics_is_answered_later_and_the_others_go_on() {
        let isolate: Isolate = |step| drop(catch_unwind(AssertUnwindSafe(step)));
        let delivered = Arc::new(Collected::<u32>::default());
        let deliver = Arc::clone(&delivered) as Arc<dyn Deliver<u32>>;
        let batch = JobBatch::new(deliver, isolate, vec![(1, "first"), (2, "second"), (3, "third")]);
        let next = batch.advance(|state| {
            assert!(state != "second", "a request that the parser does not survive");
            if state == "third" { Err(Refusal::ClientUnknown.into()) } else { Ok(state.len()) }
        });
        assert_eq!(next.states().collect::<Vec<_>>(), [&5]);
        let mut outcomes = delivered.take();
        outcomes.sort_by_key(|(job, _)| *job);
        let [(2, Outcome::Later { why: Busy::Dropped, .. }), (3, Outcome::Refused(Refusal::ClientUnknown))] =
            outcomes[..]
        else {
            panic!("{outcomes:?}");
        };
    }
}
