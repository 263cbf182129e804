//! Protection of records by the keys of their epoch: opens them in place, and writes them sealed or in plaintext (RFC 6347 §4.1).
//!
//! DTLS 1.2 without renegotiation has two epochs: the plaintext one, and the one whose keys the handshake makes. A record of any other epoch
//! is dropped.

use std::ops::Range;

use super::records::Record;
use super::replay::ReplayWindow;
use crate::crypto::{AAD_BYTES, EXPLICIT_NONCE_BYTES, Protection, Suite, TrafficKeys};
use crate::drops::DropReason;
#[cfg(test)]
use crate::limits::SEQUENCE_MAX;
use crate::limits::{FORGERIES_MAX_CCM, FORGERIES_MAX_CCM_8, FORGERIES_MAX_GCM, PLAINTEXT_BYTES_MAX};
use crate::wire::{
    ContentType, DTLS_1_2, Epoch, RECORD_HEADER_BYTES, RecordNumber, RecordNumbers, SequenceExhausted,
    put_record_header, to_u16,
};

/// Why a protected record was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    Dropped(DropReason),
    /// The limit of forgeries is exceeded: the keys must not be used any more.
    Forgeries,
    /// The record is authentic, and longer than agreed.
    Overflow,
}

/// The state with which an association opens and seals its protected records.
pub(crate) struct RecordProtection {
    suite: Suite,
    /// Maximum plaintext of a record from the peer.
    received_bytes_max: u16,
    write: Protection,
    write_numbers: RecordNumbers,
    /// DTLS 1.2 without renegotiation reads one protected epoch; DTLS 1.3 reads two at a time (RFC 9147 §4.2.1), which
    /// [`RecordProtection::open`] would choose between.
    read: ReadEpoch,
}

/// Opens the peer's records of one epoch. The window holds the number of that epoch.
struct ReadEpoch {
    keys: Protection,
    window: ReplayWindow,
    forgeries: u32,
}

/// Which end of the association we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl RecordProtection {
    /// Makes the state from the keys of `epoch`, for both directions.
    pub(crate) fn new(epoch: Epoch, suite: Suite, role: Role, keys: TrafficKeys) -> Self {
        let (read, write) = match role {
            Role::Client => (keys.server, keys.client),
            Role::Server => (keys.client, keys.server),
        };
        Self {
            suite,
            received_bytes_max: to_u16(PLAINTEXT_BYTES_MAX),
            write,
            write_numbers: RecordNumbers::starting_at(RecordNumber::new(epoch, 0)),
            read: ReadEpoch { keys: read, window: ReplayWindow::of(epoch), forgeries: 0 },
        }
    }

    /// The length of the peer's records was agreed on.
    pub(crate) fn limit_received_records(&mut self, plaintext_bytes_max: usize) {
        self.received_bytes_max = to_u16(plaintext_bytes_max.min(PLAINTEXT_BYTES_MAX));
    }

    pub(crate) const fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes of a record besides its plaintext.
    pub(crate) const fn overhead(suite: Suite) -> usize {
        RECORD_HEADER_BYTES + EXPLICIT_NONCE_BYTES + suite.tag_bytes()
    }

    /// Opens a record in place, if there are keys for its epoch; returns the range of its plaintext within `payload`. Whether a record is
    /// longer than agreed is judged only once it is authentic: anybody can write a long one.
    pub(crate) fn open(&mut self, record: &Record, payload: &mut [u8]) -> Result<Range<usize>, Unopened> {
        if record.epoch() != self.read.window.epoch() {
            return Err(Unopened::Dropped(DropReason::Epoch));
        }
        let range = self.read.open(self.suite, record, payload)?;
        if range.len() > usize::from(self.received_bytes_max) {
            return Err(Unopened::Overflow);
        }
        Ok(range)
    }

    /// Sets the state after 2^48 - 1 records.
    #[cfg(test)]
    pub(crate) const fn use_up_sequence(&mut self) {
        self.write_numbers = RecordNumbers::starting_at(RecordNumber::new(self.read.window.epoch(), SEQUENCE_MAX));
    }

    /// Appends a protected record; its plaintext is the concatenation of the parts.
    pub(crate) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        content_type: ContentType,
        parts: &[&[u8]],
    ) -> Result<(), SequenceExhausted> {
        let number = self.write_numbers.take()?;
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(length <= PLAINTEXT_BYTES_MAX);
        let protected = EXPLICIT_NONCE_BYTES + length + self.suite.tag_bytes();
        put_record_header(out, content_type, DTLS_1_2, number, protected);
        out.extend_from_slice(&number.to_bytes());
        let start = out.len();
        for part in parts {
            out.extend_from_slice(part);
        }
        let aad = additional_data(content_type, number, length);
        self.write.seal(self.suite, number.to_bytes(), &aad, out, start);
        Ok(())
    }
}

impl ReadEpoch {
    fn open(&mut self, suite: Suite, record: &Record, payload: &mut [u8]) -> Result<Range<usize>, Unopened> {
        let hidden = EXPLICIT_NONCE_BYTES + suite.tag_bytes();
        let Some(length) = payload.len().checked_sub(hidden) else {
            return Err(Unopened::Dropped(DropReason::RecordUndersize));
        };
        if length > PLAINTEXT_BYTES_MAX {
            return Err(Unopened::Dropped(DropReason::RecordOversize));
        }
        self.window.check(record.number).map_err(Unopened::Dropped)?;
        let aad = additional_data(record.content_type, record.number, length);
        let (explicit, rest) = payload.split_at_mut(EXPLICIT_NONCE_BYTES);
        let explicit = <[u8; EXPLICIT_NONCE_BYTES]>::try_from(&*explicit).expect("split at its length");
        let (ciphertext, tag) = rest.split_at_mut(length);
        if self.keys.open(suite, explicit, &aad, ciphertext, tag).is_err() {
            return Err(self.count_forgery(suite));
        }
        self.window.accept(record.number);
        Ok(EXPLICIT_NONCE_BYTES..EXPLICIT_NONCE_BYTES + length)
    }

    /// Counts a forgery; at the limit of the suite the keys are given up (RFC 9147 §4.5.3, whose reasoning applies here too).
    fn count_forgery(&mut self, suite: Suite) -> Unopened {
        self.forgeries = self.forgeries.saturating_add(1);
        let most = match suite {
            Suite::EcdheEcdsaAes128Ccm8 => FORGERIES_MAX_CCM_8,
            Suite::EcdheEcdsaAes128Ccm => FORGERIES_MAX_CCM,
            Suite::EcdheEcdsaAes128GcmSha256 => FORGERIES_MAX_GCM,
        };
        if self.forgeries >= most { Unopened::Forgeries } else { Unopened::Dropped(DropReason::BadRecord) }
    }
}

/// `seq_num + TLSCompressed.type + TLSCompressed.version + TLSCompressed.length`, seq_num with the epoch in it (RFC 5246 §6.2.3.3,
/// RFC 6347 §4.1.2.1). The length is that of the plaintext.
fn additional_data(content_type: ContentType, number: RecordNumber, length: usize) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    aad[..8].copy_from_slice(&number.to_bytes());
    aad[8] = content_type.code();
    aad[9..11].copy_from_slice(&DTLS_1_2.to_be_bytes());
    aad[11..].copy_from_slice(&to_u16(length).to_be_bytes());
    aad
}

/// State for the plaintext records of an association. The numbers of these records protect nothing, but must not
/// repeat either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainRecords {
    numbers: RecordNumbers,
}

impl PlainRecords {
    pub(crate) const fn starting_at(sequence: u64) -> Self {
        Self { numbers: RecordNumbers::starting_at(RecordNumber::new(Epoch::PLAINTEXT, sequence)) }
    }

    /// Appends a plaintext record.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        content_type: ContentType,
        parts: &[&[u8]],
    ) -> Result<(), SequenceExhausted> {
        let number = self.numbers.take()?;
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

    const EPOCH: Epoch = Epoch::PLAINTEXT.next();

    fn protected(suite: Suite, role: Role) -> RecordProtection {
        let keys = TrafficKeys { client: Protection::new([1; 16], [2; 4]), server: Protection::new([3; 16], [4; 4]) };
        RecordProtection::new(EPOCH, suite, role, keys)
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
            epoch.read.forgeries = most - 2;
            let record = Record {
                content_type: ContentType::ApplicationData,
                number: RecordNumber::new(EPOCH, 5),
                payload: 13..13 + 40,
            };
            assert_eq!(epoch.open(&record, &mut [0; 40]), Err(Unopened::Dropped(DropReason::BadRecord)));
            assert_eq!(epoch.open(&record, &mut [0; 40]), Err(Unopened::Forgeries));
        }
    }

    #[test]
    fn d11_after_the_last_sequence_number_nothing_is_sent() {
        let mut out = Vec::new();
        let mut epoch = protected(Suite::EcdheEcdsaAes128Ccm8, Role::Client);
        epoch.use_up_sequence();
        assert_eq!(epoch.seal(&mut out, ContentType::ApplicationData, &[b"last"]), Ok(()));
        assert_eq!(first_record(&out).number.sequence(), SEQUENCE_MAX);
        let length = out.len();
        for _ in 0..3 {
            assert_eq!(epoch.seal(&mut out, ContentType::ApplicationData, &[b"none"]), Err(SequenceExhausted));
        }
        assert_eq!(out.len(), length);
        let mut plain = PlainRecords::starting_at(SEQUENCE_MAX);
        assert_eq!(plain.write(&mut out, ContentType::Alert, &[&[2, 40]]), Ok(()));
        assert_eq!(plain.write(&mut out, ContentType::Alert, &[&[2, 40]]), Err(SequenceExhausted));
    }

    #[test]
    fn what_one_end_seals_the_other_opens_once() {
        for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256] {
            let (mut client, mut server) = (protected(suite, Role::Client), protected(suite, Role::Server));
            let mut out = Vec::new();
            client.seal(&mut out, ContentType::ApplicationData, &[b"in ", b"parts"]).unwrap();
            assert_eq!(out.len(), RecordProtection::overhead(suite) + 8);
            let record = first_record(&out);
            let payload = &mut out[record.payload.clone()];
            let copy = payload.to_vec();
            let range = server.open(&record, payload).unwrap();
            assert_eq!(&payload[range], b"in parts");
            assert_eq!(server.open(&record, &mut copy.clone()), Err(Unopened::Dropped(DropReason::Replay)));
        }
    }

    #[test]
    fn keys_open_and_seal_records_of_their_epoch_and_of_no_other() {
        let keys =
            || TrafficKeys { client: Protection::new([1; 16], [2; 4]), server: Protection::new([3; 16], [4; 4]) };
        let suite = Suite::EcdheEcdsaAes128Ccm8;
        let with = |epoch, role| RecordProtection::new(epoch, suite, role, keys());
        let next = EPOCH.next();
        let mut out = Vec::new();
        with(next, Role::Client).seal(&mut out, ContentType::ApplicationData, &[b"later"]).unwrap();
        let record = first_record(&out);
        assert_eq!(record.epoch(), next);
        let payload = &mut out[record.payload.clone()];
        let unopened = with(EPOCH, Role::Server).open(&record, &mut payload.to_vec());
        assert_eq!(unopened, Err(Unopened::Dropped(DropReason::Epoch)));
        let range = with(next, Role::Server).open(&record, payload).unwrap();
        assert_eq!(&payload[range], b"later");
    }
}
