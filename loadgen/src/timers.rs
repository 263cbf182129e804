//! The devices' deadlines in one heap.
//!
//! A device's deadline changes with every datagram, and usually moves to later. The heap keeps one early entry per device, and the fleet
//! checks the real deadline when the entry is due, so the heap stays as small as the fleet at work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines by device index.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The earliest entry of each device in the heap.
    earliest: Vec<Option<Instant>>,
}

impl Timers {
    /// Empty timers for devices `0..devices`.
    pub(crate) fn new(devices: usize) -> Self {
        Self { heap: BinaryHeap::new(), earliest: vec![None; devices] }
    }

    /// Ensures that `device` has an entry that is due at `deadline` or earlier.
    pub(crate) fn arm(&mut self, device: usize, deadline: Instant) {
        let earliest = &mut self.earliest[device];
        if earliest.is_none_or(|at| deadline < at) {
            *earliest = Some(deadline);
            self.heap.push(Reverse((deadline, device)));
        }
    }

    /// A device whose entry is due. If its deadline has moved, the caller arms it again.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((at, device))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            // An entry that an earlier one replaced is ignored.
            if self.earliest[device] == Some(at) {
                self.earliest[device] = None;
                return Some(device);
            }
        }
        None
    }

    /// The time of the next entry.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn devices_come_up_in_order_and_once() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut timers = Timers::new(3);
        timers.arm(0, at(30));
        timers.arm(1, at(10));
        timers.arm(1, at(20));
        timers.arm(2, at(40));
        timers.arm(2, at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop(at(4)), None);
        let order: Vec<_> = std::iter::from_fn(|| timers.pop(at(100))).collect();
        assert_eq!(order, [2, 1, 0]);
        assert_eq!(timers.pop(at(100)), None, "replaced entries are ignored");
    }

    #[test]
    fn a_deadline_that_moves_later_adds_nothing() {
        let zero = Instant::now();
        let mut timers = Timers::new(1);
        for ms in 0..1000 {
            timers.arm(0, zero + Duration::from_millis(ms));
        }
        assert_eq!(timers.heap.len(), 1);
    }
}
