#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::{
    Device, DeviceId, FactoryKeys, Function, Intended, Intent, Issued, NewRow, Origin, ProfileVersion, Record,
    Recorded, RepeatWindow, Reserve,
};
use pki::issue::NodePrefix;
use pki::{AnchorId, Digest, NameBuilder, Validity};
use rusqlite::Connection;
use rustls_pki_types::UnixTime;

use super::super::book::Book;
use super::super::connect_writer;
use super::super::row::{short, short_device};
use super::super::schema::{self, Meta};
use super::Unmerged;
use crate::serial::SerialCipher;

const KEY: [u8; 16] = [7; 16];
const DEVICES: u64 = 40;
const YOUNG: usize = 16;

/// A book, what it keeps in memory, and what it has to know.
pub(in super::super) struct World {
    folder: tempfile::TempDir,
    unmerged: Arc<Unmerged>,
    book: Option<Book>,
    serials: Arc<SerialCipher>,
    /// The device and the key of each row, by number.
    model: BTreeMap<u64, (Device, Digest)>,
    next: u64,
}

impl World {
    pub(in super::super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        super::super::create(&file).unwrap();
        let mut connection = connect_writer(&file).unwrap();
        schema::prepare(&mut connection, &Meta { serial_key: KEY, complete_since: 0 }).unwrap();
        let serials = Arc::new(SerialCipher::new(&KEY));
        let unmerged = Arc::new(Unmerged::new(YOUNG));
        let book = Book::new(connection, (Arc::clone(&serials), Arc::clone(&unmerged)), NodePrefix::new(0)).unwrap();
        Self { folder, unmerged, book: Some(book), serials, model: BTreeMap::new(), next: 1 }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// Closes the book as it is, and reads what is durable.
    fn start_again(&mut self) {
        self.book = None;
        self.unmerged = Arc::new(Unmerged::new(YOUNG));
        self.open();
    }

    fn open(&mut self) {
        let connection = connect_writer(&self.file()).unwrap();
        self.book = Some(
            Book::new(connection, (Arc::clone(&self.serials), Arc::clone(&self.unmerged)), NodePrefix::new(0)).unwrap(),
        );
    }

    pub(in super::super) fn book(&mut self) -> &mut Book {
        self.book.as_mut().unwrap()
    }

    pub(in super::super) fn reserve(&self, number: u64, key: u64) -> Reserve {
        let digest = |what: u8, of: u64| Digest::of_parts(&[&[what], &of.to_be_bytes()]);
        let id = DeviceId::new(&format!("device-{}", number % DEVICES)).unwrap();
        let device = Device { manufacturer: AnchorId::from_bytes([1; 32]), id };
        let (at, csr) = (time(1_000), digest(1, number));
        let intent = Intent {
            serial: self.serials.serial(NodePrefix::new(1), number, [0; 16]),
            ca: AnchorId::from_bytes([2; 32]),
            to_be_signed: digest(2, number),
            function: Function::SimpleEnroll,
            profile: "p".into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            anchor: device.manufacturer,
            device,
            vouched_by: Origin::Manufacturer,
            client: digest(3, number % DEVICES),
            factory_key: None,
            csr,
            spki: digest(4, key),
            names: digest(5, number % DEVICES),
            subject: NameBuilder::new().finish().unwrap(),
            validity: Validity { not_before: at, not_after: time(900_000) },
            peer: ([192, 0, 2, 1], 40_000).into(),
            at,
        };
        Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 100 }
    }

    /// Reserves so many rows, issues every second of them, and gives up some, in one batch.
    fn batch(&mut self, rows: u64) {
        self.book().begin().unwrap();
        for number in self.next..self.next + rows {
            let reserve = self.reserve(number, number);
            assert!(matches!(self.book().intend(&reserve, 0).unwrap(), Intended::Reserved));
            if number.is_multiple_of(2) {
                assert_eq!(self.book().record(&record(&reserve)).unwrap(), Recorded::Durable);
            }
            let Intent { device, spki, .. } = reserve.intent;
            self.model.insert(number, (device, spki));
            if number.is_multiple_of(7) && !number.is_multiple_of(2) {
                // A reservation of an earlier batch: its entries may be anywhere.
                let earlier = number - 6;
                let serial = self.reserve(earlier, earlier).intent.serial;
                self.book().abandon_serial(&serial).unwrap();
                self.model.remove(&earlier);
            }
        }
        self.next += rows;
        self.book().commit().unwrap();
    }

    /// Each row is found by its device and by its key, and nothing else is.
    fn check(&self) {
        let connection = Connection::open(self.file()).unwrap();
        for device in 0..DEVICES {
            let device = self.reserve(device, 0).intent.device;
            let held: Vec<u64> =
                self.model.iter().filter(|(_, row)| row.0 == device).map(|(number, _)| *number).collect();
            let found = self.unmerged.of_device(&connection, short_device(&device)).unwrap();
            let found: Vec<u64> = found.iter().rev().map(|entry| u64::try_from(entry.number).unwrap()).collect();
            assert_eq!(found, held, "rows of {device:?}");
        }
        for number in 1..self.next {
            let key = short(&self.reserve(number, number).intent.spki);
            let mut found = self.unmerged.of_key(&connection, key).unwrap();
            found.dedup();
            let held: Vec<i64> = self.model.get(&number).map(|_| i64::try_from(number).unwrap()).into_iter().collect();
            assert_eq!(found, held, "the key of row {number}");
        }
    }
}

pub(in super::super) fn record(reserve: &Reserve) -> Record {
    let Intent { serial, device, profile, validity, at, .. } = reserve.intent.clone();
    let certificate = serial.to_string().into_bytes();
    let issued = Issued { device, profile, digest: Digest::of(&certificate), certificate, validity, at };
    Record { serial, issued: Arc::new(issued), window: RepeatWindow::new(at, Duration::from_secs(1_000), &validity) }
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn count(file: &Path, sql: &str) -> i64 {
    Connection::open(file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn an_entry_is_found_wherever_it_is() {
    let mut world = World::new();
    for rows in [1, 5, 3, 9, 2, 30, 1, 1, 1, 1, 70, 4, 4, 4, 4, 4, 4] {
        world.batch(rows);
        world.check();
    }
    let merged = count(&world.file(), "SELECT count(*) FROM of_device");
    let all = i64::try_from(world.model.len()).unwrap();
    assert!(merged > 0 && merged < all, "{merged} of {all} entries are in the table: both places are tested");
}

#[test]
fn a_key_is_refused_to_another_device_wherever_its_entry_is() {
    let mut world = World::new();
    for _ in 0..40 {
        world.batch(3);
    }
    let (old, new) = (2, world.next - 1);
    for number in [old, new] {
        // The next number is of another device.
        let mut reserve = world.reserve(world.next + u64::from(world.next % DEVICES == number % DEVICES), number);
        reserve.intent.csr = Digest::of(b"another");
        world.book().begin().unwrap();
        assert!(matches!(world.book().intend(&reserve, 0).unwrap(), Intended::KeyOfAnother), "the key of row {number}");
        world.book().commit().unwrap();
    }
}

/// Otherwise each start would read again every row that was ever given up.
#[test]
fn the_mark_passes_rows_that_were_given_up() {
    let mut world = World::new();
    for batch in 0..200 {
        let reserve = world.reserve(world.next, world.next);
        world.book().begin().unwrap();
        assert!(matches!(world.book().intend(&reserve, 0).unwrap(), Intended::Reserved));
        world.book().abandon_serial(&reserve.intent.serial).unwrap();
        world.next += 1;
        world.book().commit().unwrap();
        if batch % 50 == 0 {
            world.start_again();
        }
    }
    let behind = count(&world.file(), "SELECT places - indexed FROM tally");
    assert!(behind <= 2 * i64::try_from(YOUNG).unwrap(), "{behind} rows are behind the mark");
    world.batch(20);
    world.check();
}

/// Whatever part of a merge is durable: the rows behind the mark are read again.
#[test]
fn a_start_in_the_middle_of_a_merge_finds_every_entry() {
    let mut world = World::new();
    let mut halves = 0;
    for batch in 0..120 {
        world.batch(1 + batch % 4);
        let indexed = count(&world.file(), "SELECT count(*) FROM place WHERE place <= (SELECT indexed FROM tally)");
        let merged = count(&world.file(), "SELECT count(*) FROM of_device");
        halves += i32::from(merged > indexed);
        world.start_again();
        world.check();
    }
    assert!(halves > 5, "the process ended in the middle of {halves} merges");
}

/// The mark of a merge stands in the transaction of its last slice: without that commit, the rows are read again.
#[test]
fn a_batch_that_is_not_committed_leaves_no_entry() {
    let mut world = World::new();
    for batch in 0..60 {
        world.batch(1 + batch % 5);
        let reserve = world.reserve(world.next, world.next);
        world.book().begin().unwrap();
        assert!(matches!(world.book().intend(&reserve, 0).unwrap(), Intended::Reserved));
        // As the writer does after a fault: the connection is closed, and what is in memory is read anew.
        world.book = None;
        world.open();
        world.check();
    }
}

/// Rows are pruned beside the process that has their entries in memory.
#[test]
fn an_entry_whose_row_was_pruned_is_not_merged() {
    let mut world = World::new();
    world.batch(8);
    let connection = Connection::open(world.file()).unwrap();
    connection
        .execute_batch(
            "DELETE FROM intent WHERE number IN (2, 4); DELETE FROM certificate WHERE number IN (2, 4);
DELETE FROM place WHERE number IN (2, 4); INSERT INTO meta VALUES ('pruned_until', 1)",
        )
        .unwrap();
    for _ in 0..20 {
        world.batch(8);
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    for table in ["of_device", "of_key"] {
        assert!(count(&format!("SELECT count(*) FROM {table}")) > 50);
        assert_eq!(count(&format!("SELECT count(*) FROM {table} WHERE number IN (2, 4)")), 0, "{table}");
    }
}
