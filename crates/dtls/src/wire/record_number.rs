//! Epochs and record numbers (RFC 6347 §4.1).

use crate::limits::SEQUENCE_MAX;

/// The keys that protect a record. DTLS 1.2 without renegotiation has two epochs: [`Epoch::PLAINTEXT`] and the one
/// after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u16);

impl Epoch {
    /// No keys: every association begins here.
    pub(crate) const PLAINTEXT: Self = Self(0);

    /// The epoch of the keys that a handshake in this one makes: "incremented on every cipher state change" (RFC 6347 §4.1).
    pub(crate) const fn next(self) -> Self {
        // A handshake begins in plaintext, so this never comes near the last epoch.
        Self(self.0.saturating_add(1))
    }
}

/// Epoch and sequence number as one 64-bit number, as on the wire. It is also the start of the additional data, and our explicit nonce (RFC
/// 6347 §4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordNumber(u64);

const SEQUENCE_BITS: u32 = SEQUENCE_MAX.count_ones();

impl RecordNumber {
    pub(crate) const fn new(epoch: Epoch, sequence: u64) -> Self {
        debug_assert!(sequence <= SEQUENCE_MAX);
        Self((epoch.0 as u64) << SEQUENCE_BITS | sequence)
    }

    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub(crate) const fn epoch(self) -> Epoch {
        let [high, low, ..] = self.0.to_be_bytes();
        Epoch(u16::from_be_bytes([high, low]))
    }

    pub(crate) const fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MAX
    }
}

/// The numbers of one direction in one epoch. Each is given out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordNumbers(RecordNumber);

/// No sequence number is left under these keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceExhausted;

/// Stored instead of a next number once the last one has been given out. No epoch comes near this value.
const EXHAUSTED: RecordNumber = RecordNumber(u64::MAX);

impl RecordNumbers {
    pub(crate) const fn starting_at(first: RecordNumber) -> Self {
        Self(first)
    }

    /// "implementations MUST either abandon an association or rehandshake prior to allowing the sequence number to wrap" (RFC 6347 §4.1):
    /// otherwise a nonce would repeat.
    pub(crate) const fn take(&mut self) -> Result<RecordNumber, SequenceExhausted> {
        let number = self.0;
        if number.0 & SEQUENCE_MAX == SEQUENCE_MAX {
            if number.0 == EXHAUSTED.0 {
                return Err(SequenceExhausted);
            }
            self.0 = EXHAUSTED;
        } else {
            self.0 = RecordNumber(number.0 + 1);
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_and_a_sequence_number_are_the_eight_bytes_of_a_record_header() {
        let number = RecordNumber::new(Epoch::PLAINTEXT.next(), 0x0102_0304_0506);
        assert_eq!(number.to_bytes(), [0, 1, 1, 2, 3, 4, 5, 6]);
        assert_eq!(RecordNumber::from_bytes(number.to_bytes()), number);
        assert_eq!((number.epoch(), number.sequence()), (Epoch::PLAINTEXT.next(), 0x0102_0304_0506));
    }

    #[test]
    fn d11_the_last_number_of_an_epoch_is_given_once_and_never_runs_into_the_next() {
        for epoch in [Epoch::PLAINTEXT, Epoch::PLAINTEXT.next()] {
            let last = RecordNumber::new(epoch, SEQUENCE_MAX);
            let mut numbers = RecordNumbers::starting_at(RecordNumber::new(epoch, SEQUENCE_MAX - 1));
            assert_eq!(numbers.take().map(RecordNumber::sequence), Ok(SEQUENCE_MAX - 1));
            assert_eq!(numbers.take(), Ok(last));
            assert_eq!(numbers.take(), Err(SequenceExhausted));
            assert_eq!(numbers.take(), Err(SequenceExhausted));
        }
    }
}
