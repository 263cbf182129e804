//! A ledger in memory: bounded, lost at exit, for tests, benchmarks and first steps.
//!
//! It keeps every promise of the trait but durability, and one more: it never forgets a row that still answers repeats or
//! carries a revocation that matters (until its certificate has expired). A device has a bounded part of it. When it holds nothing else and has no room, it is full and says so. What it forgets
//! first is what it would answer least: given-up intents, then the rows whose window ended longest ago. With such a row
//! goes its standing: the certificate then opens no more than one that was never in the ledger ([`crate::Unrecorded`]).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use pki::Digest;
use pki::issue::Serial;
use rustls_pki_types::UnixTime;

use crate::completion::Completion;
use crate::device::Device;
use crate::idempotency::{Key, RepeatWindow};
use crate::intent::{FactoryKeys, Intended, Intent, Record, Recorded};
use crate::issued::Issued;
use crate::ledger::{INTENT_LIFETIME, Ledger, LedgerFault, Standing, State};

/// A million rows, about a kilobyte each: what a benchmark needs and a small machine still holds.
const ROWS_MAX_DEFAULT: usize = 1_000_000;

/// See the module.
pub struct MemoryLedger {
    rows_max: usize,
    rows: Mutex<Rows>,
}

impl MemoryLedger {
    /// An empty ledger with room for `rows_max` certificates.
    #[must_use]
    pub fn new(rows_max: usize) -> MemoryLedger {
        MemoryLedger { rows_max, rows: Mutex::new(Rows::default()) }
    }

    /// Says when it began: what its node issues from then on is in it ([`Ledger::complete_since`]).
    #[must_use]
    pub fn since(self, utc: UnixTime) -> MemoryLedger {
        let mut rows = self.rows.into_inner().unwrap_or_default();
        rows.complete_since = Some(utc);
        MemoryLedger { rows: Mutex::new(rows), ..self }
    }

    /// Every certificate that it holds, oldest first.
    pub fn issued(&self) -> Vec<Arc<Issued>> {
        let Ok(rows) = self.lock() else { return Vec::new() };
        let mut issued: Vec<Arc<Issued>> = rows.by_serial.values().filter_map(|row| row.issued().cloned()).collect();
        issued.sort_by_key(|it| (it.at, it.digest));
        issued
    }

    /// How many certificates it holds.
    pub fn issued_count(&self) -> usize {
        self.lock().map_or(0, |rows| rows.by_certificate.len())
    }

    /// Revokes a certificate by the digest of its DER; false where it is not in the ledger. Twice is once.
    pub fn revoke(&self, certificate: &Digest) -> bool {
        self.lock().is_ok_and(|mut rows| rows.revoke(certificate))
    }

    /// A thread that panicked inside may have left half a row: nothing is read from it from then on, and nothing is issued.
    fn lock(&self) -> Result<MutexGuard<'_, Rows>, LedgerFault> {
        self.rows.lock().map_err(|_| LedgerFault::Broken)
    }
}

impl Default for MemoryLedger {
    fn default() -> MemoryLedger {
        MemoryLedger::new(ROWS_MAX_DEFAULT)
    }
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLedger").field("rows_max", &self.rows_max).finish_non_exhaustive()
    }
}

impl Ledger for MemoryLedger {
    fn standing(&self, of: Vec<Digest>, done: Completion<Result<Vec<Option<Standing>>, LedgerFault>>) {
        let answer = self.lock().map(|rows| of.iter().map(|certificate| rows.standing(certificate)).collect());
        done(answer);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.lock().ok().and_then(|rows| rows.complete_since)
    }

    fn intend(&self, intents: Vec<Intent>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| {
            let answers = intents.into_iter().map(|intent| rows.intend(intent, self.rows_max)).collect();
            rows.check_invariants(self.rows_max);
            answers
        });
        done(answer);
    }

    fn record(&self, records: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| {
            let answers = records.into_iter().map(|record| rows.record(record)).collect();
            rows.check_invariants(self.rows_max);
            answers
        });
        done(answer);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        if let Ok(mut rows) = self.lock() {
            for serial in serials {
                rows.abandon(serial);
            }
            rows.check_invariants(self.rows_max);
        }
    }
}

#[derive(Default)]
struct Rows {
    by_serial: HashMap<Serial, Row>,
    /// The row that speaks for a request: its newest that is not abandoned.
    by_key: HashMap<Key, Serial>,
    by_certificate: HashMap<Digest, Serial>,
    /// Who holds a public key, and in how many rows.
    holders: HashMap<Digest, (Device, usize)>,
    /// What is known of each device that has a row.
    devices: HashMap<Device, DeviceRows>,
    /// From which second on each row may be forgotten.
    forgettable: BTreeSet<(u64, Serial)>,
    /// When the ledger began, or the latest notBefore that it has forgotten if that is later.
    complete_since: Option<UnixTime>,
}

/// A device may have as many factory certificates as it was given keys; more than a few are not of one device. The first ones stay: a further key
/// is refused only where the client authenticates with its certificate.
const FACTORY_KEYS_MAX: usize = 4;

/// What is known of one device, as long as one of its rows is here.
#[derive(Default)]
struct DeviceRows {
    serials: Vec<Serial>,
    /// Keys of the factory certificates that it authenticated with, at most [`FACTORY_KEYS_MAX`].
    factory_keys: Vec<Digest>,
}

struct Row {
    key: Key,
    device: Device,
    profile: Arc<str>,
    spki: Digest,
    /// The row that spoke for the key before; it does so again if this one is abandoned.
    before: Option<Serial>,
    state: RowState,
}

enum RowState {
    Intended {
        at: UnixTime,
    },
    /// Kept so that its serial stays taken while there is room.
    Abandoned,
    Recorded {
        issued: Arc<Issued>,
        window: RepeatWindow,
        state: State,
    },
}

impl Row {
    fn issued(&self) -> Option<&Arc<Issued>> {
        match &self.state {
            RowState::Recorded { issued, .. } => Some(issued),
            RowState::Intended { .. } | RowState::Abandoned => None,
        }
    }

    /// It is of no use to its device any more: given up, or expired.
    fn is_over(&self, now: UnixTime) -> bool {
        match &self.state {
            RowState::Abandoned => true,
            RowState::Intended { at } => lifetime_end(*at) <= now.as_secs(),
            RowState::Recorded { issued, .. } => issued.validity.not_after < now,
        }
    }

    fn forgettable_from(&self) -> u64 {
        match &self.state {
            RowState::Abandoned => 0,
            RowState::Intended { at } => lifetime_end(*at),
            RowState::Recorded { window, state: State::Good, .. } => window.until.as_secs(),
            // Once it has expired, nobody can authenticate with it any more.
            RowState::Recorded { issued, state: State::Revoked, .. } => issued.validity.not_after.as_secs() + 1,
        }
    }
}

fn lifetime_end(at: UnixTime) -> u64 {
    at.as_secs().saturating_add(INTENT_LIFETIME.as_secs())
}

impl Rows {
    fn standing(&self, certificate: &Digest) -> Option<Standing> {
        let row = self.by_serial.get(self.by_certificate.get(certificate)?)?;
        match &row.state {
            RowState::Recorded { state, .. } => {
                Some(Standing { device: row.device.clone(), profile: Arc::clone(&row.profile), state: *state })
            }
            RowState::Intended { .. } | RowState::Abandoned => None,
        }
    }

    fn intend(&mut self, intent: Intent, rows_max: usize) -> Intended {
        if let Some(answer) = self.answered(&intent) {
            return answer;
        }
        if self.holders.get(&intent.spki).is_some_and(|(holder, _)| *holder != intent.device) {
            return Intended::KeyOfAnother;
        }
        if intent.factory_keys == FactoryKeys::Refused && self.is_factory_key(&intent) {
            return Intended::FactoryKey;
        }
        if self.by_serial.contains_key(&intent.serial) {
            return Intended::SerialTaken;
        }
        if self.device_is_full(&intent) {
            return Intended::DeviceFull;
        }
        if self.by_serial.len() >= rows_max && !self.forget_one(intent.at) {
            return Intended::Full;
        }
        self.holders.entry(intent.spki).or_insert_with(|| (intent.device.clone(), 0)).1 += 1;
        let of_device = self.devices.entry(intent.device.clone()).or_default();
        of_device.serials.push(intent.serial);
        if let Some(key) = intent.factory_key
            && of_device.factory_keys.len() < FACTORY_KEYS_MAX
            && !of_device.factory_keys.contains(&key)
        {
            of_device.factory_keys.push(key);
        }
        let row = Row {
            key: intent.key,
            device: intent.device,
            profile: intent.profile,
            spki: intent.spki,
            before: self.by_key.insert(intent.key, intent.serial),
            state: RowState::Intended { at: intent.at },
        };
        self.forgettable.insert((row.forgettable_from(), intent.serial));
        self.by_serial.insert(intent.serial, row);
        Intended::Reserved
    }

    /// Whether the device has no room for another row. Rows of its own that say nothing any more are forgotten first, so that what it may have
    /// here is bounded, and a device that had its share takes nothing from others.
    fn device_is_full(&mut self, intent: &Intent) -> bool {
        let max = usize::try_from(intent.certificates_max).unwrap_or(usize::MAX);
        let Some(of_device) = self.devices.get(&intent.device).filter(|of_device| of_device.serials.len() >= max)
        else {
            return false;
        };
        let over = |serial: &&Serial| self.by_serial.get(serial).is_some_and(|row| row.is_over(intent.at));
        let over: Vec<Serial> = of_device.serials.iter().filter(over).copied().collect();
        for serial in over {
            self.forget(serial);
        }
        self.devices.get(&intent.device).is_some_and(|of_device| of_device.serials.len() >= max)
    }

    fn is_factory_key(&self, intent: &Intent) -> bool {
        intent.factory_key == Some(intent.spki)
            || self.devices.get(&intent.device).is_some_and(|of_device| of_device.factory_keys.contains(&intent.spki))
    }

    /// The answer to a request that has a row already; an intent that outlived its time is given up on the way.
    fn answered(&mut self, intent: &Intent) -> Option<Intended> {
        loop {
            let serial = *self.by_key.get(&intent.key)?;
            match &self.by_serial.get(&serial)?.state {
                RowState::Intended { at } if intent.at.as_secs() < lifetime_end(*at) => {
                    return Some(Intended::InProgress);
                }
                RowState::Recorded { issued, window, state: State::Good }
                    if window.repeats(intent.at, &issued.digest, &intent.client) =>
                {
                    return Some(Intended::Repeat(Arc::clone(issued)));
                }
                RowState::Recorded { .. } | RowState::Abandoned => return None,
                RowState::Intended { .. } => self.abandon(serial),
            }
        }
    }

    fn record(&mut self, record: Record) -> Recorded {
        let serial = record.serial;
        let Some(row) = self.by_serial.get_mut(&serial) else { return Recorded::Abandoned };
        match &row.state {
            RowState::Abandoned => Recorded::Abandoned,
            RowState::Recorded { issued, .. } if issued.digest == record.issued.digest => Recorded::Durable,
            RowState::Recorded { .. } => Recorded::Abandoned,
            RowState::Intended { .. } => {
                self.forgettable.remove(&(row.forgettable_from(), serial));
                self.by_certificate.insert(record.issued.digest, serial);
                row.state = RowState::Recorded { issued: record.issued, window: record.window, state: State::Good };
                self.forgettable.insert((row.forgettable_from(), serial));
                Recorded::Durable
            }
        }
    }

    fn abandon(&mut self, serial: Serial) {
        let Some(row) = self.by_serial.get_mut(&serial) else { return };
        if !matches!(row.state, RowState::Intended { .. }) {
            return;
        }
        self.forgettable.remove(&(row.forgettable_from(), serial));
        row.state = RowState::Abandoned;
        self.forgettable.insert((row.forgettable_from(), serial));
        let (key, spki, before) = (row.key, row.spki, row.before.take());
        self.unlink(key, spki, serial);
        // A certificate issued before for this key answers for it again.
        if let Some(before) = before.filter(|before| self.by_serial.get(before).is_some_and(|row| row.key == key)) {
            self.by_key.entry(key).or_insert(before);
        }
    }

    fn revoke(&mut self, certificate: &Digest) -> bool {
        let Some(serial) = self.by_certificate.get(certificate).copied() else { return false };
        let Some(row) = self.by_serial.get_mut(&serial) else { return false };
        self.forgettable.remove(&(row.forgettable_from(), serial));
        if let RowState::Recorded { state, .. } = &mut row.state {
            *state = State::Revoked;
        }
        self.forgettable.insert((row.forgettable_from(), serial));
        true
    }

    /// Forgets the row that could be forgotten longest ago; false if none can be at `now`.
    fn forget_one(&mut self, now: UnixTime) -> bool {
        let Some(&(from, serial)) = self.forgettable.first() else { return false };
        if from > now.as_secs() {
            return false;
        }
        self.forget(serial);
        true
    }

    fn forget(&mut self, serial: Serial) {
        let Some(row) = self.by_serial.remove(&serial) else { return };
        self.forgettable.remove(&(row.forgettable_from(), serial));
        if let Some(issued) = row.issued() {
            self.by_certificate.remove(&issued.digest);
            self.complete_since = self.complete_since.map(|since| since.max(issued.validity.not_before));
        }
        if !matches!(row.state, RowState::Abandoned) {
            self.unlink(row.key, row.spki, serial);
        }
        if let Some(of_device) = self.devices.get_mut(&row.device) {
            of_device.serials.retain(|other| *other != serial);
            if of_device.serials.is_empty() {
                self.devices.remove(&row.device);
            }
        }
    }

    /// Takes a row that is given up or forgotten out of the indexes by key and by holder.
    fn unlink(&mut self, key: Key, spki: Digest, serial: Serial) {
        if self.by_key.get(&key) == Some(&serial) {
            self.by_key.remove(&key);
        }
        if let Some((_, rows)) = self.holders.get_mut(&spki) {
            *rows -= 1;
            if *rows == 0 {
                self.holders.remove(&spki);
            }
        }
    }

    fn check_invariants(&self, rows_max: usize) {
        debug_assert!(self.by_serial.len() <= rows_max, "the bound holds");
        debug_assert_eq!(self.by_serial.len(), self.forgettable.len(), "every row knows when it may go");
        debug_assert!(self.by_key.len() <= self.by_serial.len(), "every key is spoken for by a row");
        debug_assert!(self.by_certificate.len() <= self.by_serial.len(), "every certificate is in a row");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use pki::Validity;
    use pki::issue::NodePrefix;

    use super::*;
    use crate::device::DeviceId;
    use crate::function::Function;

    const LIFE: u64 = 900_000;
    const WINDOW: u64 = 86_400;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn serial(number: u8) -> Serial {
        Serial::new(NodePrefix::new(1), [number; 16])
    }

    fn device(id: &str) -> Device {
        Device { manufacturer: pki::AnchorId::from_bytes([1; 32]), id: DeviceId::new(id).unwrap() }
    }

    fn intent(number: u8, csr: &[u8], at_seconds: u64) -> Intent {
        let device = device("d");
        Intent {
            key: Key::new(Function::SimpleEnroll, "p", &device, &Digest::of(csr)),
            serial: serial(number),
            to_be_signed: Digest::of(&[number]),
            function: Function::SimpleEnroll,
            profile: "p".into(),
            device,
            factory_key: Some(Digest::of(b"factory")),
            factory_keys: FactoryKeys::Refused,
            certificates_max: 4,
            client: Digest::of(b"idevid"),
            spki: Digest::of(csr),
            at: at(at_seconds),
        }
    }

    fn intend(ledger: &MemoryLedger, row: Intent) -> Intended {
        let (sender, receiver) = mpsc::channel();
        ledger.intend(vec![row], Box::new(move |answer| sender.send(answer).unwrap()));
        receiver.recv().unwrap().unwrap().remove(0)
    }

    fn record(ledger: &MemoryLedger, number: u8, at_seconds: u64) -> (Recorded, Digest) {
        let validity = Validity { not_before: at(at_seconds), not_after: at(at_seconds + LIFE) };
        let issued = Issued {
            device: device("d"),
            profile: "p".into(),
            subject: pki::NameBuilder::new().finish().unwrap(),
            certificate: vec![number],
            digest: Digest::of(&[number]),
            validity,
            at: at(at_seconds),
        };
        let (digest, window) = (issued.digest, RepeatWindow::new(issued.at, Duration::from_secs(WINDOW), &validity));
        let (sender, receiver) = mpsc::channel();
        let row = Record { serial: serial(number), issued: Arc::new(issued), window };
        ledger.record(vec![row], Box::new(move |answer| sender.send(answer).unwrap()));
        (receiver.recv().unwrap().unwrap().remove(0), digest)
    }

    fn standing(ledger: &MemoryLedger, certificate: Digest) -> Option<State> {
        let (sender, receiver) = mpsc::channel();
        ledger.standing(vec![certificate], Box::new(move |answer| sender.send(answer).unwrap()));
        receiver.recv().unwrap().unwrap().remove(0).map(|it| it.state)
    }

    #[test]
    fn a_full_ledger_forgets_what_answers_nothing_any_more() {
        let ledger = MemoryLedger::new(2);
        assert!(matches!(intend(&ledger, intent(1, b"1", 0)), Intended::Reserved));
        let (_, first) = record(&ledger, 1, 0);
        assert!(matches!(intend(&ledger, intent(2, b"2", 10)), Intended::Reserved));
        record(&ledger, 2, 10);
        assert!(matches!(intend(&ledger, intent(3, b"3", WINDOW - 1)), Intended::Full), "both still answer repeats");
        assert!(matches!(intend(&ledger, intent(1, b"1", WINDOW - 1)), Intended::Repeat(_)));
        assert!(
            matches!(intend(&ledger, intent(3, b"3", WINDOW)), Intended::Reserved),
            "the first is out of its window"
        );
        assert_eq!(standing(&ledger, first), None);
        assert!(matches!(intend(&ledger, intent(2, b"2", WINDOW)), Intended::Repeat(_)), "the second is not");
    }

    #[test]
    fn a_revocation_is_kept_until_the_certificate_has_expired() {
        let ledger = MemoryLedger::new(1);
        intend(&ledger, intent(1, b"1", 0));
        let (_, first) = record(&ledger, 1, 0);
        assert!(ledger.revoke(&first) && ledger.revoke(&first), "twice is once");
        assert!(!ledger.revoke(&Digest::of(b"no certificate of this ledger")));
        assert!(matches!(intend(&ledger, intent(2, b"2", LIFE)), Intended::Full));
        assert_eq!(standing(&ledger, first), Some(State::Revoked));
        assert!(matches!(intend(&ledger, intent(2, b"2", LIFE + 1)), Intended::Reserved));
    }

    #[test]
    fn an_intent_is_in_progress_until_its_lifetime_ends_and_a_late_record_is_turned_away() {
        let ledger = MemoryLedger::new(4);
        intend(&ledger, intent(1, b"1", 0));
        let end = INTENT_LIFETIME.as_secs();
        assert!(matches!(intend(&ledger, intent(2, b"1", end - 1)), Intended::InProgress));
        assert!(matches!(intend(&ledger, intent(2, b"1", end)), Intended::Reserved));
        assert_eq!(record(&ledger, 1, 0).0, Recorded::Abandoned);
        assert_eq!(record(&ledger, 2, end).0, Recorded::Durable);
        assert_eq!(record(&ledger, 2, end).0, Recorded::Durable, "the same record again is the same row");
        assert_eq!(ledger.issued_count(), 1);
    }

    #[test]
    fn e25_a_serial_is_taken_by_whatever_has_it_given_up_or_not() {
        let ledger = MemoryLedger::new(4);
        intend(&ledger, intent(1, b"1", 0));
        assert!(matches!(intend(&ledger, intent(1, b"2", 0)), Intended::SerialTaken));
        ledger.abandon(vec![serial(1)]);
        assert!(matches!(intend(&ledger, intent(1, b"2", 0)), Intended::SerialTaken));
        record(&ledger, 1, 0);
        assert_eq!(ledger.issued_count(), 0, "a serial that was given up never gets a certificate");
    }

    #[test]
    fn giving_up_a_renewal_leaves_the_certificate_before_it_in_charge() {
        let ledger = MemoryLedger::new(4);
        intend(&ledger, intent(1, b"1", 0));
        let (_, first) = record(&ledger, 1, 0);
        let renewal = Intent { client: first, ..intent(2, b"1", 10) };
        assert!(matches!(intend(&ledger, renewal), Intended::Reserved));
        ledger.abandon(vec![serial(2)]);
        match intend(&ledger, intent(3, b"1", 20)) {
            Intended::Repeat(issued) => assert_eq!(issued.digest, first),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn e22_a_key_belongs_to_the_first_device_that_has_it_certified() {
        let ledger = MemoryLedger::new(4);
        intend(&ledger, intent(1, b"1", 0));
        let other = device("other");
        let stranger = Intent {
            key: Key::new(Function::SimpleEnroll, "p", &other, &Digest::of(b"1")),
            device: other,
            ..intent(2, b"1", 0)
        };
        assert!(matches!(intend(&ledger, stranger.clone()), Intended::KeyOfAnother));
        ledger.abandon(vec![serial(1)]);
        assert!(matches!(intend(&ledger, stranger), Intended::Reserved), "nobody holds it any more");
    }

    #[test]
    fn e56_a_ledger_that_panicked_half_way_says_that_it_is_broken() {
        let ledger = MemoryLedger::new(4).since(at(0));
        intend(&ledger, intent(1, b"1", 0));
        let (_, first) = record(&ledger, 1, 0);
        let inside = || {
            let _rows = ledger.lock().unwrap();
            panic!("half way");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).is_err());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let keep = || {
            let answers = Arc::clone(&answers);
            move |fault: Option<LedgerFault>| answers.lock().unwrap().push(fault)
        };
        let (standing, intended, recorded) = (keep(), keep(), keep());
        ledger.standing(vec![first], Box::new(move |answer| standing(answer.err())));
        ledger.intend(vec![intent(2, b"2", 0)], Box::new(move |answer| intended(answer.err())));
        ledger.record(Vec::new(), Box::new(move |answer| recorded(answer.err())));
        ledger.abandon(vec![serial(1)]);
        assert_eq!(*answers.lock().unwrap(), [Some(LedgerFault::Broken); 3]);
        assert_eq!((ledger.complete_since(), ledger.issued_count()), (None, 0));
    }

    #[test]
    fn e55_a_device_that_holds_its_share_gets_no_row_until_one_of_its_own_is_over() {
        let ledger = MemoryLedger::new(99);
        for number in 1..=4 {
            assert!(matches!(intend(&ledger, intent(number, &[number], 0)), Intended::Reserved));
            record(&ledger, number, 0);
        }
        assert!(matches!(intend(&ledger, intent(5, b"5", 10)), Intended::DeviceFull));
        assert!(matches!(intend(&ledger, intent(5, &[1], 10)), Intended::Repeat(_)), "a repeat takes no room");
        let other = device("other");
        let of_other = Intent {
            key: Key::new(Function::SimpleEnroll, "p", &other, &Digest::of(b"other")),
            device: other,
            ..intent(6, b"other", 10)
        };
        assert!(matches!(intend(&ledger, of_other), Intended::Reserved));
        assert!(matches!(intend(&ledger, intent(5, b"5", LIFE)), Intended::DeviceFull), "the last second counts");
        assert!(matches!(intend(&ledger, intent(5, b"5", LIFE + 1)), Intended::Reserved));
        assert_eq!(ledger.issued_count(), 0, "the expired ones went with it");
    }

    #[test]
    fn e55_what_is_given_up_neither_counts_nor_piles_up() {
        let ledger = MemoryLedger::new(9);
        for number in 1..=200 {
            assert!(matches!(intend(&ledger, intent(number, &[number], 0)), Intended::Reserved), "{number}");
            ledger.abandon(vec![serial(number)]);
        }
        let rows = ledger.lock().unwrap();
        assert!(rows.devices.values().all(|of_device| of_device.serials.len() <= 4));
    }
}
