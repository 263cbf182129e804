//! The anti-replay window (RFC 6347 §4.1.2.6): 64 records wide, sixteen bytes per session.

use crate::drops::DropReason;
use crate::wire::{Epoch, RecordNumber};

/// Which of the last 64 sequence numbers of an epoch were received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayWindow {
    /// The highest number received; before the first record, the lowest number of the epoch. It includes the epoch, so storing the
    /// epoch costs nothing.
    highest: RecordNumber,
    /// Bit n: `highest - n` was received.
    received: u64,
}

/// "A minimum window size of 32 MUST be supported, but a window size of 64 is preferred" (RFC 6347 §4.1.2.6).
const WIDTH: u64 = 64;

impl ReplayWindow {
    /// The window of an epoch in which nothing has been received yet.
    pub(crate) const fn of(epoch: Epoch) -> Self {
        Self { highest: RecordNumber::new(epoch, 0), received: 0 }
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.highest.epoch()
    }

    /// Called before a record is opened. Changes nothing: "The receive window is updated only if the MAC verification succeeds" (RFC 6347
    /// §4.1.2.6).
    pub(crate) fn check(&self, number: RecordNumber) -> Result<(), DropReason> {
        debug_assert_eq!(number.epoch(), self.epoch());
        match self.highest.sequence().checked_sub(number.sequence()) {
            Some(behind) if behind >= WIDTH || self.received >> behind & 1 == 1 => Err(DropReason::Replay),
            _ => Ok(()),
        }
    }

    /// Called after a record was opened.
    pub(crate) fn accept(&mut self, number: RecordNumber) {
        debug_assert_eq!(number.epoch(), self.epoch());
        let (highest, sequence) = (self.highest.sequence(), number.sequence());
        if sequence > highest {
            let ahead = sequence - highest;
            self.received = if ahead >= WIDTH { 0 } else { self.received << ahead };
            self.received |= 1;
            self.highest = number;
        } else {
            self.received |= 1 << (highest - sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: Epoch = Epoch::PLAINTEXT.next();

    fn number(sequence: u64) -> RecordNumber {
        RecordNumber::new(EPOCH, sequence)
    }

    #[test]
    fn d04_a_record_older_than_the_window_is_dropped() {
        let mut window = ReplayWindow::of(EPOCH);
        window.accept(number(100));
        assert_eq!(window.check(number(36)), Err(DropReason::Replay));
        assert_eq!(window.check(number(37)), Ok(()));
        window.accept(number(37));
        assert_eq!(window.check(number(37)), Err(DropReason::Replay));
    }

    #[test]
    fn the_highest_sequence_number_fits() {
        let mut window = ReplayWindow::of(EPOCH);
        window.accept(number((1 << 48) - 1));
        assert_eq!(window.check(number((1 << 48) - 1)), Err(DropReason::Replay));
        assert_eq!(window.check(number((1 << 48) - 2)), Ok(()));
    }

    proptest! {
        /// Compares the window with the obvious model: a set of all accepted numbers.
        #[test]
        fn d01_no_sequence_number_is_accepted_twice(numbers in prop::collection::vec(0_u64..300, 1..200)) {
            let mut window = ReplayWindow::of(EPOCH);
            let mut accepted = std::collections::HashSet::new();
            let mut highest = None::<u64>;
            for sequence in numbers {
                let fresh = !accepted.contains(&sequence);
                let recent = highest.is_none_or(|highest| sequence + WIDTH > highest);
                prop_assert_eq!(window.check(number(sequence)).is_ok(), fresh && recent);
                if fresh && recent {
                    window.accept(number(sequence));
                    accepted.insert(sequence);
                    highest = Some(highest.map_or(sequence, |highest| highest.max(sequence)));
                }
            }
        }
    }
}
