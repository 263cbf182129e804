//! A bounded queue between the threads that ask and the one that answers.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Items with a weight each: rows, mostly. Full, it refuses.
pub(super) struct Queue<T> {
    weight_max: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    weight: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(weight_max: usize) -> Self {
        let state = State { items: VecDeque::new(), weight: 0, is_closed: false };
        Self { weight_max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// No code of others runs under this lock, so that a panic leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, or gives it back if there is no room or nobody to take it.
    pub(super) fn push(&self, weight: usize, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.is_closed || state.weight.saturating_add(weight) > self.weight_max {
            return Err(item);
        }
        state.weight += weight;
        state.items.push_back((weight, item));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The weight of what waits.
    pub(super) fn weight(&self) -> usize {
        self.lock().weight
    }

    /// Nothing is added any more; what is there is still taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Takes items in their order, at least one if there is one, of not much more than this weight. Waits for the first one, at most so long; `None`
    /// once the queue is closed and empty.
    pub(super) fn take(&self, weight_max: usize, wait: Duration) -> Option<Taken<T>> {
        let end = Instant::now() + wait;
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.is_closed {
                return None;
            }
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Some(Taken { items: Vec::new(), weight: 0 });
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state.pop(weight_max))
    }

    /// Adds to what was taken until it has this weight, for at most so long.
    pub(super) fn gather(&self, taken: &mut Taken<T>, weight: usize, wait: Duration) {
        let end = Instant::now() + wait;
        let mut state = self.lock();
        while taken.weight < weight && !state.is_closed {
            let more = state.pop(weight - taken.weight);
            if !more.items.is_empty() {
                taken.weight += more.weight;
                taken.items.extend(more.items);
                continue;
            }
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What was taken from a queue.
pub(super) struct Taken<T> {
    pub(super) items: Vec<T>,
    pub(super) weight: usize,
}

impl<T> State<T> {
    fn pop(&mut self, weight_max: usize) -> Taken<T> {
        let mut taken = Taken { items: Vec::new(), weight: 0 };
        while let Some((weight, _)) = self.items.front() {
            if !taken.items.is_empty() && taken.weight + weight > weight_max {
                break;
            }
            let Some((weight, item)) = self.items.pop_front() else { break };
            self.weight -= weight;
            taken.weight += weight;
            taken.items.push(item);
        }
        taken
    }
}
