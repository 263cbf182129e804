//! The rows of a ledger in memory, and the indexes that find them. The caller holds the lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use pki::issue::Serial;
use pki::{AnchorId, Digest};
use rustls_pki_types::UnixTime;

use super::crls::Crls;
use crate::compromised_keys::CompromisedKeys;
use crate::crl_list::CrlLayout;
use crate::device::Device;
use crate::entry::{Cursor, LedgerEntry, Locator, Revoked, RowFilter, RowStage, RowState};
use crate::function::Function;
use crate::intent::{FactoryKeys, Intended, Intent, NewRow, Record, Recorded, Reserve};
use crate::ledger::INTENT_LIFETIME;
use crate::revocation::Revocation;
use crate::standing::{Finding, Inquiry, Registration, Standing};

#[derive(Default)]
pub(super) struct Rows {
    by_serial: HashMap<Serial, Row>,
    by_certificate: HashMap<Digest, Serial>,
    /// The device that holds a public key, and the number of its rows with that key.
    holders: HashMap<Digest, (Device, usize)>,
    /// What is known about each device that has a row.
    pub(super) devices: HashMap<Device, DeviceRows>,
    /// The second from which each row may be forgotten.
    forgettable: BTreeSet<(u64, Serial)>,
    /// The rows in the order in which they were reserved.
    order: BTreeMap<Cursor, Serial>,
    /// When the ledger began, in seconds since 1970: the first half of each place in the order.
    pub(super) began: u64,
    /// The time of the latest row.
    pub(super) latest: Option<UnixTime>,
    /// Rows that were ever reserved: the second half.
    reserved: u64,
    /// When the ledger began, or the latest notBefore that it has forgotten if that is later.
    pub(super) complete_since: Option<UnixTime>,
    pub(super) crls: Crls,
    compromised: CompromisedKeys,
    /// Certificates whose keys were made for their devices and have not reached them.
    undelivered: BTreeSet<Serial>,
}

/// A device may have a factory certificate for each of its keys, but one device has only a few. The first keys are kept; a further key is refused
/// only if the client authenticates with that key's certificate.
const FACTORY_KEYS_MAX: usize = 4;

/// What is known about one device, as long as it has a row.
#[derive(Default)]
pub(super) struct DeviceRows {
    /// In the order in which they were reserved.
    pub(super) serials: Vec<Serial>,
    /// Keys of the factory certificates that it authenticated with, at most [`FACTORY_KEYS_MAX`].
    factory_keys: Vec<Digest>,
}

struct Row {
    entry: LedgerEntry,
    /// The second from which a reservation is outlived. Its lifetime begins when it is made: the request may have been asked for earlier.
    outlived_from: u64,
}

impl Row {
    /// It is no longer of use to its device: given up, or expired.
    fn is_over(&self, now: UnixTime) -> bool {
        match &self.entry.stage {
            // A revocation is kept until the certificate has expired.
            _ if self.entry.revocation.is_some() => self.entry.intent.validity.not_after < now,
            RowStage::Abandoned => true,
            RowStage::Reserved => self.outlived_from <= now.as_secs(),
            RowStage::Issued(record) => record.issued.validity.not_after < now,
        }
    }

    fn forgettable_from(&self) -> u64 {
        match &self.entry.stage {
            // Once it has expired, no client can authenticate with it.
            _ if self.entry.revocation.is_some() => self.entry.intent.validity.not_after.as_secs().saturating_add(1),
            RowStage::Abandoned => 0,
            RowStage::Reserved => self.outlived_from,
            RowStage::Issued(record) => record.window.until.as_secs(),
        }
    }
}

fn lifetime_end(at: UnixTime) -> u64 {
    at.as_secs().saturating_add(INTENT_LIFETIME.as_secs())
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.by_serial.len()
    }

    /// Number of rows that have a certificate.
    pub(super) fn issued_count(&self) -> usize {
        self.by_certificate.len()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.by_serial.values().map(|row| &row.entry)
    }

    /// One look-up; nothing more, because there is no list of devices.
    pub(super) fn finding(&self, inquiry: &Inquiry) -> Finding {
        let row = self.by_certificate.get(&inquiry.client).and_then(|serial| self.by_serial.get(serial));
        let holder = row.and_then(|row| row.entry.standing()).or_else(|| self.revoked_without_certificate(inquiry));
        Finding { holder, registration: Registration::Unlisted }
    }

    /// A certificate that was signed before a crash and whose row was given up and revoked: no row has it, but its serial is revoked.
    fn revoked_without_certificate(&self, inquiry: &Inquiry) -> Option<Standing> {
        let row = &self.by_serial.get(&inquiry.serial?)?.entry;
        row.revocation_of_unissued()
    }

    pub(super) fn intend(&mut self, reserve: Reserve, rows_max: usize) -> Intended {
        let Reserve { intent, factory_keys, new_row, certificates_max } = reserve;
        if self.is_revoked(&intent.client) {
            return Intended::ClientRevoked;
        }
        if self.compromised.contains(&intent.spki) {
            return Intended::KeyCompromised;
        }
        if let Some(answer) = self.answered(&intent) {
            return answer;
        }
        if new_row == NewRow::Held {
            return Intended::Held;
        }
        if self.holders.get(&intent.spki).is_some_and(|(holder, _)| *holder != intent.device) {
            return Intended::KeyOfAnother;
        }
        if factory_keys == FactoryKeys::Refused && self.is_factory_key(&intent) {
            return Intended::FactoryKey;
        }
        if self.by_serial.contains_key(&intent.serial) {
            return Intended::SerialTaken;
        }
        if self.device_is_full(&intent, certificates_max) {
            return Intended::DeviceFull;
        }
        if self.by_serial.len() >= rows_max && !self.forget_one(intent.at) {
            return Intended::Full;
        }
        self.reserve(intent);
        Intended::Reserved
    }

    /// Whether a row has this certificate and is revoked.
    fn is_revoked(&self, certificate: &Digest) -> bool {
        let row = self.by_certificate.get(certificate).and_then(|serial| self.by_serial.get(serial));
        row.is_some_and(|row| row.entry.revocation.is_some())
    }

    fn reserve(&mut self, intent: Intent) {
        let serial = intent.serial;
        self.latest = self.latest.max(Some(intent.at));
        self.holders.entry(intent.spki).or_insert_with(|| (intent.device.clone(), 0)).1 += 1;
        let of_device = self.devices.entry(intent.device.clone()).or_default();
        of_device.serials.push(serial);
        if let Some(key) = intent.factory_key
            && of_device.factory_keys.len() < FACTORY_KEYS_MAX
            && !of_device.factory_keys.contains(&key)
        {
            of_device.factory_keys.push(key);
        }
        self.reserved += 1;
        let cursor = place(self.began, self.reserved);
        let outlived_from = lifetime_end(self.latest.map_or(intent.at, |latest| latest.max(intent.at)));
        let row =
            Row { outlived_from, entry: LedgerEntry { cursor, intent, stage: RowStage::Reserved, revocation: None } };
        self.forgettable.insert((row.forgettable_from(), serial));
        self.order.insert(cursor, serial);
        self.by_serial.insert(serial, row);
    }

    /// Whether the device has no room for another row. Its own rows that are no longer of use are forgotten first, so that its part of the ledger
    /// is bounded and it takes no room from other devices.
    fn device_is_full(&mut self, intent: &Intent, certificates_max: u32) -> bool {
        let max = usize::try_from(certificates_max).unwrap_or(usize::MAX);
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

    /// The answer to a request that already has a row: the device's newest row for the same request that was not given up decides. An intent that
    /// is older than its lifetime is given up in the process. A device has few rows, so all of them are looked at.
    fn answered(&mut self, intent: &Intent) -> Option<Intended> {
        loop {
            let serials = &self.devices.get(&intent.device)?.serials;
            let rows = serials.iter().rev().filter_map(|serial| self.by_serial.get(serial));
            let is_same = |row: &&Row| {
                !matches!(row.entry.stage, RowStage::Abandoned) && intent.asks_the_same_as(&row.entry.intent)
            };
            let Row { entry, outlived_from } = rows.into_iter().find(is_same)?;
            match &entry.stage {
                RowStage::Reserved if intent.at.as_secs() < *outlived_from => {
                    return Some(Intended::InProgress);
                }
                RowStage::Issued(Record { issued, window, .. })
                    if entry.revocation.is_none() && window.repeats(intent.at, &issued.digest, &intent.client) =>
                {
                    return Some(Intended::Repeat(Arc::clone(issued)));
                }
                RowStage::Issued(_) | RowStage::Abandoned => return None,
                RowStage::Reserved => self.abandon(entry.intent.serial),
            }
        }
    }

    pub(super) fn record(&mut self, record: Record) -> Recorded {
        let serial = record.serial;
        let client = self.by_serial.get(&serial).map(|row| row.entry.intent.client);
        if client.is_some_and(|client| self.is_revoked(&client)) {
            // Only a reservation: what is issued stays issued.
            self.abandon(serial);
        }
        let Some(row) = self.by_serial.get_mut(&serial) else { return Recorded::Abandoned };
        match &row.entry.stage {
            RowStage::Abandoned => Recorded::Abandoned,
            RowStage::Issued(held) if held.issued.digest == record.issued.digest => Recorded::Durable,
            RowStage::Issued(_) => Recorded::Abandoned,
            RowStage::Reserved => {
                self.forgettable.remove(&(row.forgettable_from(), serial));
                self.by_certificate.insert(record.issued.digest, serial);
                if row.entry.intent.function == Function::ServerKeygen {
                    self.undelivered.insert(serial);
                }
                row.entry.stage = RowStage::Issued(record);
                self.forgettable.insert((row.forgettable_from(), serial));
                Recorded::Durable
            }
        }
    }

    pub(super) fn abandon(&mut self, serial: Serial) {
        let Some(row) = self.by_serial.get_mut(&serial) else { return };
        if !matches!(row.entry.stage, RowStage::Reserved) {
            return;
        }
        self.forgettable.remove(&(row.forgettable_from(), serial));
        row.entry.stage = RowStage::Abandoned;
        self.forgettable.insert((row.forgettable_from(), serial));
        let spki = row.entry.intent.spki;
        self.release_key(spki);
    }

    pub(super) fn revoke(&mut self, row: &Locator, revocation: &Revocation) -> Revoked {
        let Some(serial) = self.locate(row) else { return Revoked::Unknown };
        // A reservation is given up: a certificate that arrives for it later is refused.
        self.abandon(serial);
        let Some(row) = self.by_serial.get(&serial) else { return Revoked::Unknown };
        let key = row.entry.intent.spki;
        if self.compromised.note(key, revocation) {
            self.abandon_all_of(&key);
        }
        let Some(row) = self.by_serial.get_mut(&serial) else { return Revoked::Unknown };
        if let Some(before) = &row.entry.revocation {
            return Revoked::Before(before.clone());
        }
        self.forgettable.remove(&(row.forgettable_from(), serial));
        row.entry.revocation = Some(revocation.clone());
        self.undelivered.remove(&serial);
        self.forgettable.insert((row.forgettable_from(), serial));
        self.crls.file(&row.entry);
        Revoked::Now
    }

    /// Gives up the reservations of this key, which one device has.
    fn abandon_all_of(&mut self, key: &Digest) {
        let Some((device, _)) = self.holders.get(key) else { return };
        let serials = self.devices.get(device).map(|of_device| of_device.serials.clone()).unwrap_or_default();
        for serial in serials {
            if self.by_serial.get(&serial).is_some_and(|row| row.entry.intent.spki == *key) {
                self.abandon(serial);
            }
        }
    }

    pub(super) fn delivered(&mut self, serial: &Serial) {
        self.undelivered.remove(serial);
    }

    pub(super) fn undelivered(&self) -> impl Iterator<Item = Serial> {
        self.undelivered.iter().copied()
    }

    pub(super) fn fix_crl_layout(&mut self, ca: AnchorId, layout: CrlLayout) -> CrlLayout {
        self.crls.fix(ca, layout, self.by_serial.values().map(|row| &row.entry))
    }

    pub(super) fn find(&self, row: &Locator) -> Option<LedgerEntry> {
        self.by_serial.get(&self.locate(row)?).map(|row| row.entry.clone())
    }

    fn locate(&self, row: &Locator) -> Option<Serial> {
        match row {
            Locator::Serial(serial) => self.by_serial.contains_key(serial).then_some(*serial),
            Locator::Certificate(serial, digest) => {
                self.by_certificate.get(digest).copied().filter(|held| held == serial)
            }
            Locator::NewestOf { device, profile } => {
                let is = |state: RowState, serial: &Serial| {
                    let row = self.by_serial.get(serial).map(|row| &row.entry);
                    row.is_some_and(|row| *row.intent.profile == **profile && state.holds_for(row))
                };
                let serials = &self.devices.get(device)?.serials;
                let newest = |state| serials.iter().rev().find(|serial| is(state, serial)).copied();
                newest(RowState::Good).or_else(|| newest(RowState::Issued))
            }
        }
    }

    /// Passes the rows after `after` that match the filter to `visit`, in order: at most `rows_max` rows, from at most `looks_max` rows looked
    /// at. Returns where the next look begins; `None` if no row is left.
    pub(super) fn scan(
        &self,
        filter: &RowFilter,
        after: Option<Cursor>,
        (rows_max, looks_max): (usize, usize),
        visit: &mut dyn FnMut(&LedgerEntry),
    ) -> Option<Cursor> {
        let mut rows = self.rows_after(filter, after).peekable();
        let (mut meant, mut looks) = (0, 0);
        while let Some(row) = rows.next() {
            looks += 1;
            if filter.matches(row) {
                visit(row);
                meant += 1;
            }
            if meant >= rows_max || looks >= looks_max {
                return rows.peek().map(|_| row.cursor);
            }
        }
        None
    }

    /// The rows that can match the filter, in order. The few rows of a device are found without a look at the rows of others.
    fn rows_after(&self, filter: &RowFilter, after: Option<Cursor>) -> Box<dyn Iterator<Item = &LedgerEntry> + '_> {
        let entry = |serial: &Serial| self.by_serial.get(serial).map(|row| &row.entry);
        match &filter.device {
            Some(device) => {
                let serials = self.devices.get(device).map_or(&[][..], |of_device| &of_device.serials);
                let is_after = move |row: &&LedgerEntry| after.is_none_or(|after| after < row.cursor);
                Box::new(serials.iter().filter_map(entry).filter(is_after))
            }
            None => {
                let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(self.order.range((begin, Bound::Unbounded)).filter_map(move |(_, serial)| entry(serial)))
            }
        }
    }

    /// Forgets the row that has been forgettable for the longest time; false if none is at `now`.
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
        self.undelivered.remove(&serial);
        self.crls.forget(&row.entry);
        self.forgettable.remove(&(row.forgettable_from(), serial));
        self.order.remove(&row.entry.cursor);
        if let Some(issued) = row.entry.issued() {
            self.by_certificate.remove(&issued.digest);
            self.complete_since = self.complete_since.map(|since| since.max(issued.validity.not_before));
        }
        let intent = &row.entry.intent;
        if !matches!(row.entry.stage, RowStage::Abandoned) {
            let spki = intent.spki;
            self.release_key(spki);
        }
        if let Some(of_device) = self.devices.get_mut(&intent.device) {
            of_device.serials.retain(|other| *other != serial);
            if of_device.serials.is_empty() {
                self.devices.remove(&intent.device);
            }
        }
    }

    /// Counts one row with this key less, because it was given up or forgotten.
    fn release_key(&mut self, spki: Digest) {
        if let Some((_, rows)) = self.holders.get_mut(&spki) {
            *rows -= 1;
            if *rows == 0 {
                self.holders.remove(&spki);
            }
        }
    }

    pub(super) fn check_invariants(&self, rows_max: usize) {
        debug_assert!(self.by_serial.len() <= rows_max, "the bound holds");
        debug_assert_eq!(self.by_serial.len(), self.forgettable.len(), "every row knows when it may go");
        debug_assert_eq!(self.by_serial.len(), self.order.len(), "every row has a place in the order");
        debug_assert!(self.by_certificate.len() <= self.by_serial.len(), "every certificate is in a row");
    }
}

/// The place in the order of the row with this number, over all rows ever reserved. A cursor of an earlier process comes before every row of this
/// one, whose clock is later, so a listing that continues with it misses no row.
fn place(began: u64, reserved: u64) -> Cursor {
    Cursor::from_bytes((u128::from(began) << 64 | u128::from(reserved)).to_be_bytes())
}
