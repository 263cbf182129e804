//! Epochs: records are opened in place, and sealed or written in the clear (RFC 6347 §4.1).
//!
//! DTLS 1.2 without renegotiation knows two epochs: 0, in the clear, and 1, protected. Epoch 2 never comes.

use std::ops::Range;

use super::records::Record;
use super::replay::ReplayWindow;
use crate::crypto::{AAD_BYTES, EXPLICIT_NONCE_BYTES, Protection, Suite, TrafficKeys};
use crate::drops::DropReason;
use crate::limits::{FORGERIES_MAX_CCM, FORGERIES_MAX_CCM_8, FORGERIES_MAX_GCM, PLAINTEXT_BYTES_MAX, SEQUENCE_MAX};
use crate::wire::{ContentType, DTLS_1_2, RECORD_HEADER_BYTES, epoch_and_sequence, put_record_header, to_u16};

/// The epoch that the handshake's keys protect.
pub(crate) const PROTECTED_EPOCH: u16 = 1;

/// Why a protected record was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    Dropped(DropReason),
    /// One forgery too many: the keys must not be used any more.
    Forgeries,
    /// It is the peer's, and longer than was agreed on.
    Overflow,
}

/// No sequence number is left under these keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceExhausted;

/// Both directions of epoch 1.
pub(crate) struct ProtectedEpoch {
    suite: Suite,
    read: Protection,
    write: Protection,
    write_sequence: u64,
    window: ReplayWindow,
    forgeries: u32,
    /// Plaintext that a record of the peer may have.
    received_bytes_max: u16,
}

/// Which end of the association we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl ProtectedEpoch {
    pub(crate) fn new(suite: Suite, role: Role, keys: TrafficKeys) -> Self {
        let received_bytes_max = to_u16(PLAINTEXT_BYTES_MAX);
        let (read, write) = match role {
            Role::Client => (keys.server, keys.client),
            Role::Server => (keys.client, keys.server),
        };
        Self {
            suite,
            read,
            write,
            write_sequence: 0,
            window: ReplayWindow::default(),
            forgeries: 0,
            received_bytes_max,
        }
    }

    /// The length of the peer's records was agreed on.
    pub(crate) fn limit_received_records(&mut self, plaintext_bytes_max: usize) {
        self.received_bytes_max = to_u16(plaintext_bytes_max.min(PLAINTEXT_BYTES_MAX));
    }

    pub(crate) const fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes that a record has beside its plaintext.
    pub(crate) const fn overhead(suite: Suite) -> usize {
        RECORD_HEADER_BYTES + EXPLICIT_NONCE_BYTES + suite.tag_bytes()
    }

    /// Opens a record of epoch 1 in place; gives the range of its plaintext within `payload`. That a record is longer than was
    /// agreed on counts only once it is known to be the peer's: anybody can write a long one.
    pub(crate) fn open(&mut self, record: &Record, payload: &mut [u8]) -> Result<Range<usize>, Unopened> {
        let hidden = EXPLICIT_NONCE_BYTES + self.suite.tag_bytes();
        let Some(length) = payload.len().checked_sub(hidden) else {
            return Err(Unopened::Dropped(DropReason::RecordUndersize));
        };
        if length > PLAINTEXT_BYTES_MAX {
            return Err(Unopened::Dropped(DropReason::RecordOversize));
        }
        self.window.check(record.sequence).map_err(Unopened::Dropped)?;
        let aad = additional_data(record.content_type, record.sequence, length);
        let (explicit, rest) = payload.split_at_mut(EXPLICIT_NONCE_BYTES);
        let explicit = <[u8; EXPLICIT_NONCE_BYTES]>::try_from(&*explicit).expect("split at its length");
        let (ciphertext, tag) = rest.split_at_mut(length);
        if self.read.open(self.suite, explicit, &aad, ciphertext, tag).is_err() {
            return Err(self.count_forgery());
        }
        self.window.accept(record.sequence);
        if length > usize::from(self.received_bytes_max) {
            return Err(Unopened::Overflow);
        }
        Ok(EXPLICIT_NONCE_BYTES..EXPLICIT_NONCE_BYTES + length)
    }

    /// Forgeries are counted, and at the limit of their suite the keys are given up (RFC 9147 §4.5.3, whose reasoning holds here too).
    fn count_forgery(&mut self) -> Unopened {
        self.forgeries = self.forgeries.saturating_add(1);
        let most = match self.suite {
            Suite::EcdheEcdsaAes128Ccm8 => FORGERIES_MAX_CCM_8,
            Suite::EcdheEcdsaAes128Ccm => FORGERIES_MAX_CCM,
            Suite::EcdheEcdsaAes128GcmSha256 => FORGERIES_MAX_GCM,
        };
        if self.forgeries >= most { Unopened::Forgeries } else { Unopened::Dropped(DropReason::BadRecord) }
    }

    /// As after 2^48 - 1 records.
    #[cfg(test)]
    pub(crate) const fn use_up_sequence(&mut self) {
        self.write_sequence = SEQUENCE_MAX;
    }

    /// Appends a protected record whose plaintext are the parts, one after the other.
    pub(crate) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        content_type: ContentType,
        parts: &[&[u8]],
    ) -> Result<(), SequenceExhausted> {
        let sequence = self.write_sequence;
        // "implementations MUST either abandon an association or rehandshake prior to allowing the sequence number to wrap"
        // (RFC 6347 §4.1): a nonce would come again.
        if sequence > SEQUENCE_MAX {
            return Err(SequenceExhausted);
        }
        self.write_sequence += 1;
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(length <= PLAINTEXT_BYTES_MAX);
        let number = epoch_and_sequence(PROTECTED_EPOCH, sequence);
        let protected = EXPLICIT_NONCE_BYTES + length + self.suite.tag_bytes();
        put_record_header(out, content_type, DTLS_1_2, number, protected);
        out.extend_from_slice(&number);
        let start = out.len();
        for part in parts {
            out.extend_from_slice(part);
        }
        let aad = additional_data(content_type, sequence, length);
        self.write.seal(self.suite, number, &aad, out, start);
        Ok(())
    }
}

/// `seq_num + TLSCompressed.type + TLSCompressed.version + TLSCompressed.length`, seq_num with the epoch in it (RFC 5246 §6.2.3.3,
/// RFC 6347 §4.1.2.1). The length is that of the plaintext.
fn additional_data(content_type: ContentType, sequence: u64, length: usize) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    aad[..8].copy_from_slice(&epoch_and_sequence(PROTECTED_EPOCH, sequence));
    aad[8] = content_type.code();
    aad[9..11].copy_from_slice(&DTLS_1_2.to_be_bytes());
    aad[11..].copy_from_slice(&to_u16(length).to_be_bytes());
    aad
}

/// The sequence numbers of epoch 0, which protect nothing but must not repeat either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainEpoch {
    next: u64,
}

impl PlainEpoch {
    pub(crate) const fn starting_at(sequence: u64) -> Self {
        Self { next: sequence }
    }

    /// Appends a record in the clear.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        content_type: ContentType,
        parts: &[&[u8]],
    ) -> Result<(), SequenceExhausted> {
        if self.next > SEQUENCE_MAX {
            return Err(SequenceExhausted);
        }
        let number = epoch_and_sequence(0, self.next);
        self.next += 1;
        put_record_header(out, content_type, DTLS_1_2, number, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            out.extend_from_slice(part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    fn protected(suite: Suite, role: Role) -> ProtectedEpoch {
        let keys = TrafficKeys { client: Protection::new([1; 16], [2; 4]), server: Protection::new([3; 16], [4; 4]) };
        ProtectedEpoch::new(suite, role, keys)
    }

    fn first_record(datagram: &[u8]) -> Record {
        Records::new().next(datagram).unwrap().unwrap()
    }

    #[test]
    fn d10_at_the_forgery_limit_of_a_suite_the_keys_are_given_up() {
        let limits = [
            (Suite::EcdheEcdsaAes128Ccm8, FORGERIES_MAX_CCM_8),
            (Suite::EcdheEcdsaAes128Ccm, FORGERIES_MAX_CCM),
            (Suite::EcdheEcdsaAes128GcmSha256, FORGERIES_MAX_GCM),
        ];
        for (suite, most) in limits {
            let mut epoch = protected(suite, Role::Server);
            epoch.forgeries = most - 2;
            let record =
                Record { content_type: ContentType::ApplicationData, epoch: 1, sequence: 5, payload: 13..13 + 40 };
            assert_eq!(epoch.open(&record, &mut [0; 40]), Err(Unopened::Dropped(DropReason::BadRecord)));
            assert_eq!(epoch.open(&record, &mut [0; 40]), Err(Unopened::Forgeries));
        }
    }

    #[test]
    fn d11_after_the_last_sequence_number_nothing_is_sent() {
        let mut out = Vec::new();
        let mut epoch = protected(Suite::EcdheEcdsaAes128Ccm8, Role::Client);
        epoch.write_sequence = SEQUENCE_MAX;
        assert_eq!(epoch.seal(&mut out, ContentType::ApplicationData, &[b"last"]), Ok(()));
        assert_eq!(first_record(&out).sequence, SEQUENCE_MAX);
        let length = out.len();
        for _ in 0..3 {
            assert_eq!(epoch.seal(&mut out, ContentType::ApplicationData, &[b"none"]), Err(SequenceExhausted));
        }
        assert_eq!(out.len(), length);
        let mut plain = PlainEpoch::starting_at(SEQUENCE_MAX);
        assert_eq!(plain.write(&mut out, ContentType::Alert, &[&[2, 40]]), Ok(()));
        assert_eq!(plain.write(&mut out, ContentType::Alert, &[&[2, 40]]), Err(SequenceExhausted));
    }

    #[test]
    fn what_one_end_seals_the_other_opens_once() {
        for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256] {
            let (mut client, mut server) = (protected(suite, Role::Client), protected(suite, Role::Server));
            let mut out = Vec::new();
            client.seal(&mut out, ContentType::ApplicationData, &[b"in ", b"parts"]).unwrap();
            assert_eq!(out.len(), ProtectedEpoch::overhead(suite) + 8);
            let record = first_record(&out);
            let payload = &mut out[record.payload.clone()];
            let copy = payload.to_vec();
            let range = server.open(&record, payload).unwrap();
            assert_eq!(&payload[range], b"in parts");
            assert_eq!(server.open(&record, &mut copy.clone()), Err(Unopened::Dropped(DropReason::Replay)));
        }
    }
}
