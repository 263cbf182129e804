//! The anti-replay window (RFC 6347 §4.1.2.6): 64 records wide, sixteen bytes a session.

use crate::drops::DropReason;

/// Which of the last 64 sequence numbers of an epoch were received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplayWindow {
    /// One above the highest sequence number received; 0 before the first.
    next: u64,
    /// Bit n: `next - 1 - n` was received.
    received: u64,
}

/// "A minimum window size of 32 MUST be supported, but a window size of 64 is preferred" (RFC 6347 §4.1.2.6).
const WIDTH: u64 = 64;

impl ReplayWindow {
    /// To be asked before a record is opened. Changes nothing: "The receive window is updated only if the MAC verification
    /// succeeds" (RFC 6347 §4.1.2.6).
    pub(crate) fn check(&self, sequence: u64) -> Result<(), DropReason> {
        if sequence >= self.next {
            return Ok(());
        }
        let behind = self.next - 1 - sequence;
        if behind >= WIDTH || self.received >> behind & 1 == 1 { Err(DropReason::Replay) } else { Ok(()) }
    }

    /// To be told after a record was opened.
    pub(crate) fn accept(&mut self, sequence: u64) {
        if sequence >= self.next {
            let ahead = sequence + 1 - self.next;
            self.received = if ahead >= WIDTH { 0 } else { self.received << ahead };
            self.received |= 1;
            self.next = sequence + 1;
        } else {
            self.received |= 1 << (self.next - 1 - sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn d04_a_record_older_than_the_window_is_dropped() {
        let mut window = ReplayWindow::default();
        window.accept(100);
        assert_eq!(window.check(36), Err(DropReason::Replay));
        assert_eq!(window.check(37), Ok(()));
        window.accept(37);
        assert_eq!(window.check(37), Err(DropReason::Replay));
    }

    #[test]
    fn the_highest_sequence_number_fits() {
        let mut window = ReplayWindow::default();
        window.accept((1 << 48) - 1);
        assert_eq!(window.check((1 << 48) - 1), Err(DropReason::Replay));
        assert_eq!(window.check((1 << 48) - 2), Ok(()));
    }

    proptest! {
        /// Against the obvious model: a set of all that was accepted.
        #[test]
        fn d01_no_sequence_number_is_accepted_twice(numbers in prop::collection::vec(0_u64..300, 1..200)) {
            let mut window = ReplayWindow::default();
            let mut accepted = std::collections::HashSet::new();
            let mut highest = None::<u64>;
            for number in numbers {
                let fresh = !accepted.contains(&number);
                let recent = highest.is_none_or(|highest| number + WIDTH > highest);
                prop_assert_eq!(window.check(number).is_ok(), fresh && recent);
                if fresh && recent {
                    window.accept(number);
                    accepted.insert(number);
                    highest = Some(highest.map_or(number, |highest| highest.max(number)));
                }
            }
        }
    }
}
