//! The rows of one batch, inside one transaction of the writer.

mod compromising;
mod delivering;
mod intending;
mod recently_revoked;
mod relaying;
mod revoking;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use authority::{Actor, Adoption, Function, INTENT_LIFETIME, Intent, ProfileVersion, Record, Recorded, Revocation};
use crashpoint::Step;
use pki::issue::{NodePrefix, RevocationReason, Serial};
use pki::{AnchorId, Digest};
use rusqlite::{Connection, Error, OptionalExtension, params};
use rustls_pki_types::UnixTime;
use tracing::warn;

use self::delivering::Undelivered;
use self::recently_revoked::RecentlyRevoked;
use super::compromised;
use super::connect::keep_log_when_closed;
use super::crl::Layouts;
use super::index::{IndexEntry, Merge, OfDevice, Unmerged};
use super::locate::by_serial;
use super::newer_code;
use super::row::{self, blob, function_code, function_of, origin_code, short, short_device, tag};
use crate::audit::chain::ChainWriter;
use crate::audit::record::{Abandonment, RequestOrigin};
use crate::fault::WriteProblem;
use crate::journal::JournalWriter;
use crate::journal::frame::AuditPoint;
use crate::seconds::seconds;
use crate::serial::SerialCipher;

/// Parties and profiles whose numbers are kept in memory: more than a configuration names.
const NAMES_MAX: usize = 4_096;

/// The numbers of one life of the ledger: a restore begins the next one, so that no number of the lost life is drawn again. A million certificates a
/// second for twelve days, or ten a second for three thousand years.
pub(crate) const LIFE_BITS: u32 = 40;

/// Reservations that a batch gives up because their time is over: a step of work that a batch does not notice.
const OUTLIVED_MAX: usize = 64;

/// What is counted, and how far the ledger is: one row, written with each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The last place in the order of rows.
    pub(super) places: i64,
    /// Rows, whatever their stage.
    pub(super) rows: i64,
    /// Rows with a certificate.
    pub(super) issued: i64,
    /// The highest number of a row.
    pub(super) numbers: i64,
    /// No row with a lower number is a reservation.
    open_from: i64,
    /// Rows up to this place have all of their entries in the tables `of_device` and `of_key`.
    indexed: i64,
    /// The latest time that a row has.
    pub(super) time: i64,
}

/// The writer's connection, and what it remembers of the tables. After a fault it is thrown away and read again: nothing in memory is undone.
pub(super) struct Book {
    connection: Connection,
    serials: Arc<SerialCipher>,
    parties: HashMap<AnchorId, i64>,
    profiles: HashMap<(Arc<str>, ProfileVersion), i64>,
    /// Reservations, by number.
    open: BTreeMap<i64, Reservation>,
    unmerged: Arc<Unmerged>,
    merge: Merge,
    /// Rows that the open transaction adds.
    added: usize,
    tally: Tally,
    crl_layouts: Layouts,
    revoked: RecentlyRevoked,
    undelivered: Undelivered,
    /// There may be revocations that are not in their revocation list.
    has_unfiled: bool,
    /// The file has the table of compromised keys, which it keeps.
    has_compromised_table: bool,
    /// Whether any key is compromised, once this batch has asked: most ledgers know of none, and their rows ask no more.
    has_compromised: Option<bool>,
    /// The audit: written with each batch.
    pub(super) audit: ChainWriter,
    /// The journal, if the ledger has one: written before each batch is committed.
    pub(super) journal: Option<JournalWriter>,
}

/// A reservation that waits for its certificate.
struct Reservation {
    serial: Serial,
    /// The second from which it is outlived: its lifetime begins when it is made, and not when its request was.
    end: i64,
    /// What the audit will say about its request.
    origin: RequestOrigin,
    /// The whole request, for the journal: without one, or after a restart, it is read from its row.
    intent: Option<Box<Intent>>,
}

impl Book {
    pub(super) fn new(
        connection: Connection,
        (serials, unmerged): (Arc<SerialCipher>, Arc<Unmerged>),
        node: NodePrefix,
    ) -> Result<Self, Error> {
        connection.set_prepared_statement_cache_capacity(64);
        compromised::make_at_start(&connection)?;
        let sql = "SELECT places, rows, issued, numbers, open_from, indexed, time FROM tally";
        let tally = connection.query_row(sql, [], |row| {
            Ok(Tally {
                places: row.get(0)?,
                rows: row.get(1)?,
                issued: row.get(2)?,
                numbers: row.get(3)?,
                open_from: row.get(4)?,
                indexed: row.get(5)?,
                time: row.get(6)?,
            })
        })?;
        let audit = ChainWriter::new(&connection, node)?;
        let crl_layouts = Layouts::read(&connection)?;
        let undelivered = Undelivered::read(&connection)?;
        let mut book = Self {
            connection,
            serials,
            parties: HashMap::new(),
            profiles: HashMap::new(),
            open: BTreeMap::new(),
            unmerged,
            merge: Merge::default(),
            added: 0,
            tally,
            crl_layouts,
            revoked: RecentlyRevoked::default(),
            undelivered,
            // The release before revokes without filing.
            has_unfiled: true,
            has_compromised_table: false,
            has_compromised: None,
            audit,
            journal: None,
        };
        book.read_open()?;
        book.read_unmerged()?;
        Ok(book)
    }

    fn read_open(&mut self) -> Result<(), Error> {
        let sql = "SELECT i.number, i.at, i.function, p.version, i.client, i.peer, i.serial, i.vouched_by, i.place
FROM intent i JOIN profile p ON p.id = i.profile LEFT JOIN certificate c ON c.number = i.number
WHERE i.number >= ?1 AND NOT i.abandoned AND c.number IS NULL";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([self.tally.open_from])?;
        while let Some(row) = rows.next()? {
            let (function, _) = newer_code::meant(&self.connection, row.get(8)?, (row.get(2)?, row.get(7)?))?;
            let origin = RequestOrigin {
                function: row::read_code(function, "function", function_of)?,
                profile_version: ProfileVersion::from_bytes(row.get(3)?),
                client: Digest::from_bytes(row.get(4)?),
                peer: row::peer(row, 5)?,
            };
            let (serial, end) = (row::serial(row, 6)?, lifetime_end(row.get(1)?));
            self.open.insert(row.get(0)?, Reservation { serial, end, origin, intent: None });
        }
        Ok(())
    }

    /// Reads the entries that the tables of the indexes lack.
    fn read_unmerged(&self) -> Result<(), Error> {
        let mut statement = self.connection.prepare(row::INDEXED)?;
        let entries = statement.query_map([self.tally.indexed], row::index_entry)?;
        self.unmerged.replace(entries)
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// From now on numbers are those of this life.
    pub(super) fn begin_life(&mut self, life: i64) {
        self.tally.numbers = self.tally.numbers.max(life << LIFE_BITS);
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn serials(&self) -> &SerialCipher {
        &self.serials
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        // Between two batches a migration may have added the table with its keys.
        self.has_compromised = None;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    /// Writes what is counted, and makes the batch durable.
    pub(super) fn commit(&mut self) -> Result<(), WriteProblem> {
        self.file_revocations()?;
        let (added, up_to) = (std::mem::take(&mut self.added), (self.tally.places, self.tally.indexed));
        if let Some(indexed) = self.merge.step(&self.unmerged, &self.connection, added, up_to)? {
            self.tally.indexed = indexed;
        }
        let Tally { places, rows, issued, numbers, indexed, time, .. } = self.tally;
        self.tally.open_from = self.open.first_key_value().map_or(numbers + 1, |(number, _)| *number);
        let sql = "UPDATE tally SET places = ?1, rows = ?2, issued = ?3, numbers = ?4, open_from = ?5, indexed = ?6, time = ?7";
        let values = params![places, rows, issued, numbers, self.tally.open_from, indexed, time];
        self.connection.prepare_cached(sql)?.execute(values)?;
        let before = self.audit.head().hash;
        self.audit.write(&self.connection)?;
        if let Some(journal) = &mut self.journal {
            journal.follows(before);
            journal.append(AuditPoint::from(&self.audit.head())).map_err(WriteProblem::Journal)?;
            crashpoint::passed(Step::Journaled);
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.merge.committed(&self.unmerged);
        Ok(())
    }

    /// Ends the connection after a fault: what it wrote last may not be durable, so the log stays as it is until it was made durable.
    pub(super) fn close_after_fault(self) {
        if let Err(why) = keep_log_when_closed(&self.connection) {
            warn!("the log of the ledger cannot be kept: {why}");
        }
    }

    /// Gives up what an earlier process left reserved: a crash came between its signature and its record, so its certificate may exist, and it is
    /// revoked. Says how many.
    pub(super) fn give_up_all(&mut self, now: UnixTime) -> Result<usize, Error> {
        let numbers: Vec<i64> = self.open.keys().copied().collect();
        let revocation = Revocation { reason: RevocationReason::CessationOfOperation, at: now, actor: Actor::server() };
        for number in &numbers {
            if let Some(intent) = self.abandon(*number, Abandonment::Restart, seconds(now))? {
                self.write_revocation(*number, &intent, &revocation)?;
            }
        }
        Ok(numbers.len())
    }

    /// The number that the serial leads to, if no row has it.
    fn free_number(&self, serial: &Serial) -> Result<Option<i64>, Error> {
        let Some(number) = self.number(serial) else { return Ok(None) };
        if number > self.tally.numbers {
            return Ok(Some(number));
        }
        let sql = "SELECT 1 FROM intent WHERE number = ?1";
        let is_taken = self.connection.prepare_cached(sql)?.exists([number])?;
        Ok((!is_taken).then_some(number))
    }

    fn number(&self, serial: &Serial) -> Option<i64> {
        i64::try_from(self.serials.number(serial)).ok().filter(|number| *number > 0)
    }

    /// The number of the row that has this serial.
    fn find(&self, serial: &Serial) -> Result<Option<i64>, Error> {
        let Some(number) = self.number(serial) else { return Ok(None) };
        let sql = "SELECT serial FROM intent WHERE number = ?1";
        let held: Option<Vec<u8>> =
            self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?;
        Ok(held.filter(|held| held.as_slice() == serial.as_bytes()).map(|_| number))
    }

    pub(super) fn reserve(&mut self, intent: &Intent, number: i64, device: i64) -> Result<(), Error> {
        let profile = self.profile(&intent.profile, intent.profile_version)?;
        let (ca, manufacturer) = (self.party(&intent.ca)?, self.party(&intent.device.manufacturer)?);
        let anchor = self.party(&intent.anchor)?;
        let place = self.tally.places + 1;
        let (not_after, factory_key) = (seconds(intent.validity.not_after), intent.factory_key);
        let codes = newer_code::write(
            &self.connection,
            place,
            (function_code(intent.function), origin_code(intent.vouched_by)),
        )?;
        let sql = "INSERT INTO intent (number, place, serial, at, function, profile, ca, manufacturer, device, anchor, vouched_by,
client, factory_key, csr, spki, names, to_be_signed, subject, not_before, not_after, peer)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            place,
            &intent.serial.as_bytes()[..],
            seconds(intent.at),
            codes.0,
            profile,
            ca,
            manufacturer,
            intent.device.id.as_str(),
            anchor,
            codes.1,
            blob(&intent.client),
            factory_key.as_ref().map(blob),
            blob(&intent.csr),
            blob(&intent.spki),
            blob(&intent.names),
            blob(&intent.to_be_signed),
            intent.subject.der(),
            seconds(intent.validity.not_before),
            not_after,
            intent.peer.to_string(),
        ])?;
        self.connection
            .prepare_cached("INSERT INTO place (place, number) VALUES (?1, ?2)")?
            .execute([place, number])?;
        let (csr, spki, factory_key) = (tag(&intent.csr), tag(&intent.spki), factory_key.as_ref().map(tag));
        let row = OfDevice { number, not_after, csr, spki, factory_key };
        self.unmerged.insert(&IndexEntry { device, key: short(&intent.spki), row });
        let (end, origin) = (lifetime_end(self.tally.time.max(seconds(intent.at))), RequestOrigin::of(intent));
        let kept = self.journal.is_some().then(|| Box::new(intent.clone()));
        self.open.insert(number, Reservation { serial: intent.serial, end, origin, intent: kept });
        self.added += 1;
        self.tally.places = place;
        self.tally.rows += 1;
        self.tally.numbers = self.tally.numbers.max(number);
        Ok(())
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<Recorded, Error> {
        let Some(number) = self.number(&record.serial) else { return Ok(Recorded::Abandoned) };
        let issued = &record.issued;
        let open = self.open.get(&number).filter(|open| open.serial == record.serial);
        if open.is_some_and(|open| self.revoked.contains(&open.origin.client)) {
            self.abandon(number, Abandonment::Revoked, self.tally.time)?;
        }
        let is_reserved = self.open.get(&number).is_some_and(|open| open.serial == record.serial);
        let reservation = if is_reserved { self.open.remove(&number) } else { None };
        let Some(reservation) = reservation else {
            let Some(number) = self.find(&record.serial)? else { return Ok(Recorded::Abandoned) };
            let sql = "SELECT digest FROM certificate WHERE number = ?1";
            let held: Option<Vec<u8>> =
                self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?;
            let is_same = held.is_some_and(|held| held.as_slice() == issued.digest.as_bytes());
            return Ok(if is_same { Recorded::Durable } else { Recorded::Abandoned });
        };
        let is_key_made = reservation.origin.function == Function::ServerKeygen;
        self.keep(number, record, reservation)?;
        if is_key_made {
            self.pend(number)?;
        }
        Ok(Recorded::Durable)
    }

    /// Writes the certificate of a row that was reserved.
    fn keep(&mut self, number: i64, record: &Record, reservation: Reservation) -> Result<(), Error> {
        let (issued, Reservation { origin, intent, .. }) = (&record.issued, reservation);
        self.write_certificate(number, record)?;
        self.audit.body.issued(&record.serial, issued, &origin);
        if let Some(journal) = &mut self.journal {
            match intent {
                Some(intent) => journal.issued(&intent, record),
                None => {
                    if let Some(row) = row::read(&self.connection, number)? {
                        journal.issued(&row.intent, record);
                    }
                }
            }
        }
        Ok(())
    }

    /// Records the certificate of the row with this number, if it is reserved.
    pub(super) fn record_at(&mut self, number: i64, record: &Record) -> Result<(), Error> {
        match self.open.remove(&number) {
            Some(reservation) => self.keep(number, record, reservation),
            None => Ok(()),
        }
    }

    /// The next row has at least this place, and the ledger at least this time.
    pub(super) fn go_on_at(&mut self, place: i64, at: i64) {
        self.tally.places = self.tally.places.max(place - 1);
        self.tally.time = self.tally.time.max(at);
    }

    fn write_certificate(&mut self, number: i64, record: &Record) -> Result<(), Error> {
        let issued = &record.issued;
        let values = params![
            number,
            seconds(issued.at),
            seconds(record.window.until),
            blob(&issued.digest),
            issued.certificate.as_slice()
        ];
        let sql = "INSERT INTO certificate (number, at, repeat_until, digest, der) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.tally.issued += 1;
        Ok(())
    }

    /// Brings back a row that was lost, from its certificate.
    pub(super) fn adopt(&mut self, Adoption { intent, record }: &Adoption) -> Result<Recorded, Error> {
        let found = by_serial(&self.connection, &self.serials, &intent.serial)?;
        if let Some((_, row)) = found {
            let is_it = row.issued().is_some_and(|issued| issued.digest == record.issued.digest);
            return Ok(if is_it { Recorded::Durable } else { Recorded::Abandoned });
        }
        let Some(number) = self.restore_row(intent)? else { return Ok(Recorded::Abandoned) };
        self.open.remove(&number);
        self.write_certificate(number, record)?;
        let at = seconds(intent.at);
        self.audit.body.adopted(&record.serial, &record.issued, &RequestOrigin::of(intent), at);
        if let Some(journal) = &mut self.journal {
            journal.issued(intent, record);
        }
        Ok(Recorded::Durable)
    }

    /// Reserves the row of a request that was reserved before, in a ledger that lost it: nothing is asked about it. `None` if another row has its
    /// number. A serial number that no life of this ledger has drawn is that of an imported row, which gets a new number.
    pub(super) fn restore_row(&mut self, intent: &Intent) -> Result<Option<i64>, Error> {
        self.tally.time = self.tally.time.max(seconds(intent.at));
        let number = match self.number(&intent.serial).filter(|number| number >> LIFE_BITS <= self.life()) {
            Some(_) => self.free_number(&intent.serial)?,
            None => {
                let next = self.tally.numbers + 1;
                super::foreign::note(&self.connection, &intent.serial, next)?;
                Some(next)
            }
        };
        let Some(number) = number else { return Ok(None) };
        self.reserve(intent, number, short_device(&intent.device))?;
        Ok(Some(number))
    }

    pub(super) fn abandon_serial(&mut self, serial: &Serial) -> Result<(), Error> {
        match self.find(serial)? {
            Some(number) if self.open.contains_key(&number) => {
                self.abandon(number, Abandonment::NotIssued, self.tally.time).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Gives up a reservation: its key is free again, and it no longer counts as one that its device holds.
    pub(super) fn abandon(&mut self, number: i64, why: Abandonment, at: i64) -> Result<Option<Intent>, Error> {
        self.open.remove(&number);
        let Some(row) = row::read(&self.connection, number)? else { return Ok(None) };
        self.connection.prepare_cached("UPDATE intent SET abandoned = 1 WHERE number = ?1")?.execute([number])?;
        let (device, key) = (short_device(&row.intent.device), short(&row.intent.spki));
        self.unmerged.remove(&self.connection, device, key, number)?;
        self.audit.body.abandoned(&row.intent, why, at);
        if let Some(journal) = &mut self.journal {
            journal.abandoned(&row.intent);
        }
        Ok(Some(row.intent))
    }

    /// A reservation that has outlived its time is given up before anything is decided by it. Numbers grow with time, nearly: one that is looked at
    /// later is found by the next batch.
    fn give_up_outlived(&mut self) -> Result<(), Error> {
        for _ in 0..OUTLIVED_MAX {
            match self.open.first_key_value() {
                Some((&number, open)) if open.end <= self.tally.time => {
                    self.abandon(number, Abandonment::Outlived, self.tally.time)?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// The number of a party: a CA, a manufacturer or another anchor.
    fn party(&mut self, party: &AnchorId) -> Result<i64, Error> {
        if let Some(id) = self.parties.get(party) {
            return Ok(*id);
        }
        let digest = &party.as_bytes()[..];
        self.connection.prepare_cached("INSERT OR IGNORE INTO party (digest) VALUES (?1)")?.execute([digest])?;
        let sql = "SELECT id FROM party WHERE digest = ?1";
        let id = self.connection.prepare_cached(sql)?.query_row([digest], |row| row.get(0))?;
        if self.parties.len() >= NAMES_MAX {
            self.parties.clear();
        }
        self.parties.insert(*party, id);
        Ok(id)
    }

    fn profile(&mut self, name: &Arc<str>, version: ProfileVersion) -> Result<i64, Error> {
        let key = (Arc::clone(name), version);
        if let Some(id) = self.profiles.get(&key) {
            return Ok(*id);
        }
        let values = params![&**name, &version.as_bytes()[..]];
        let sql = "INSERT OR IGNORE INTO profile (name, version) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(values)?;
        let sql = "SELECT id FROM profile WHERE name = ?1 AND version = ?2";
        let id = self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        if self.profiles.len() >= NAMES_MAX {
            self.profiles.clear();
        }
        self.profiles.insert(key, id);
        Ok(id)
    }
}

/// Writes something that is new each time, in a transaction of its own: how often the ledger could not write, in `meta`.
pub(super) fn count_fault(connection: &Connection) -> Result<(), Error> {
    let sql = "INSERT INTO meta (name, value) VALUES ('faults', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1";
    connection.execute(sql, []).map(drop)
}

fn lifetime_end(at: i64) -> i64 {
    at.saturating_add(i64::try_from(INTENT_LIFETIME.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
