//! Scheduled work: calls that a ledger or signer answers later, each at its own virtual time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dtls::UnixTime;

use crate::clock::EPOCH;

type Task = Box<dyn FnOnce() + Send>;

/// Tasks in the order of their due time; tasks of the same time keep the order in which they were added. Clones share one
/// agenda.
#[derive(Clone)]
pub struct Agenda(Arc<Mutex<Inner>>);

struct Inner {
    origin: Instant,
    now: Instant,
    count: u64,
    tasks: BTreeMap<Reverse<(Instant, u64)>, Task>,
}

impl Agenda {
    /// An empty agenda.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Inner { origin: now, now, count: 0, tasks: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time to which it was advanced.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// The same time by the calendar.
    #[must_use]
    pub fn utc(&self) -> UnixTime {
        let inner = self.lock();
        UnixTime::since_unix_epoch(Duration::from_secs(EPOCH.as_secs() + (inner.now - inner.origin).as_secs()))
    }

    /// Schedules `task` to run after `delay`.
    pub fn after(&self, delay: Duration, task: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        inner.count += 1;
        let key = Reverse((inner.now + delay, inner.count));
        inner.tasks.insert(key, Box::new(task));
    }

    /// When the next task is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.lock().tasks.last_key_value().map(|(Reverse((at, _)), _)| *at)
    }

    /// Advances to `now` and runs all tasks that are due; a task may add further ones.
    pub fn run(&self, now: Instant) {
        self.lock().now = now;
        while let Some(task) = self.take_due(now) {
            task();
        }
    }

    fn take_due(&self, now: Instant) -> Option<Task> {
        let mut inner = self.lock();
        let Reverse((at, _)) = *inner.tasks.last_key_value()?.0;
        if at > now { None } else { inner.tasks.pop_last().map(|(_, task)| task) }
    }
}
