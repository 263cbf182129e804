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
    /// Whoever takes is woken at this weight: waking it for each item that it gathers would cost more than the item.
    wanted: usize,
    /// Something without weight waits, for which nobody gathers.
    is_urgent: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(weight_max: usize) -> Self {
        let state = State { items: VecDeque::new(), weight: 0, is_closed: false, wanted: 0, is_urgent: false };
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
        state.is_urgent |= weight == 0;
        state.items.push_back((weight, item));
        let is_awaited = state.weight >= state.wanted || state.is_urgent;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
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

    /// Adds to what was taken until it has this weight, for at most so long. An item without weight ends the wait.
    pub(super) fn gather(&self, taken: &mut Taken<T>, weight: usize, wait: Duration) {
        let end = Instant::now() + wait;
        let mut state = self.lock();
        state.wanted = weight.saturating_sub(taken.weight);
        while state.weight < state.wanted && !state.is_urgent && !state.is_closed {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let wanted = std::mem::take(&mut state.wanted);
        let more = state.pop(wanted);
        drop(state);
        taken.weight += more.weight;
        taken.items.extend(more.items);
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
        self.is_urgent &= !self.items.is_empty();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Longer than any machine stalls a test: an end of the wait by its time is a failure.
    const LONG: Duration = Duration::from_secs(600);

    fn gathering(queue: &Queue<u32>) -> bool {
        queue.lock().wanted > 0
    }

    #[test]
    fn gathering_ends_at_its_weight_or_with_an_item_without_weight() {
        let queue = Queue::new(100);
        for last in [2, 0] {
            queue.push(1, 1).unwrap();
            let mut taken = queue.take(100, LONG).unwrap();
            let (sender, done) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| {
                    queue.gather(&mut taken, 4, LONG);
                    sender.send(taken).unwrap();
                });
                while !gathering(&queue) {
                    thread::yield_now();
                }
                queue.push(1, 2).unwrap();
                assert!(done.recv_timeout(Duration::from_millis(20)).is_err(), "it still lacks weight");
                queue.push(last, 3).unwrap();
                let taken = done.recv().unwrap();
                assert_eq!((taken.items, taken.weight), (vec![1, 2, 3], 2 + last));
            });
        }
        queue.push(1, 4).unwrap();
        assert_eq!(queue.take(100, LONG).unwrap().items, [4]);
    }
}
