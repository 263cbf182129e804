//! Rows as they stand in the tables, and as the authority knows them.

use std::net::SocketAddr;
use std::sync::Arc;

use authority::{
    Actor, Cursor, Device, DeviceId, Function, Intent, Issued, LedgerEntry, Origin, ProfileVersion, Record,
    RepeatWindow, Revocation, RowStage,
};
use pki::issue::{RevocationReason, Serial};
use pki::{AnchorId, Digest, Name, Validity};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row};
use rustls_pki_types::UnixTime;

use super::index::{IndexEntry, OfDevice};
use super::newer_code;
use crate::seconds::time;

macro_rules! columns {
    () => {
        "SELECT i.place, i.serial, i.at, i.function, p.name, p.version, ca.digest, m.digest, i.device, a.digest,
  i.vouched_by, i.client, i.factory_key, i.csr, i.spki, i.names, i.to_be_signed, i.subject, i.not_before, i.not_after, i.peer,
  i.abandoned, c.at, c.repeat_until, c.digest, c.der, r.at, r.reason, r.actor "
    };
}

macro_rules! joins {
    () => {
        " JOIN profile p ON p.id = i.profile
JOIN party ca ON ca.id = i.ca JOIN party m ON m.id = i.manufacturer JOIN party a ON a.id = i.anchor
LEFT JOIN certificate c ON c.number = i.number LEFT JOIN revocation r ON r.number = i.number "
    };
}

const BY_NUMBER: &str = concat!(columns!(), "FROM intent i", joins!(), "WHERE i.number = ?1");

/// Rows behind a place, in their order.
pub(crate) const BEHIND: &str = concat!(
    columns!(),
    "FROM place JOIN intent i ON i.number = place.number",
    joins!(),
    "WHERE place.place > ?1 ORDER BY place.place LIMIT ?2"
);

/// Every row in the order of places, with its number behind the columns of [`entry`].
pub(crate) const EVERY: &str = concat!(
    columns!(),
    ", i.number FROM place JOIN intent i ON i.number = place.number",
    joins!(),
    "ORDER BY place.place"
);

/// The same for rows behind a place and up to another one.
pub(crate) const PAGE: &str = concat!(
    columns!(),
    ", i.number FROM place JOIN intent i ON i.number = place.number",
    joins!(),
    "WHERE place.place > ?1 AND place.place <= ?2 ORDER BY place.place LIMIT ?3"
);

/// The column of [`EVERY`] that has the number.
pub(crate) const NUMBER_COLUMN: usize = 29;

/// What the indexes have of the rows behind a place, without those that were given up.
pub(super) const INDEXED: &str = "SELECT i.number, m.digest, i.device, i.spki, i.not_after, i.csr, i.factory_key
FROM place JOIN intent i ON i.number = place.number JOIN party m ON m.id = i.manufacturer
WHERE place.place > ?1 AND NOT i.abandoned ORDER BY place.place";

const INDEXED_ONE: &str = "SELECT i.number, m.digest, i.device, i.spki, i.not_after, i.csr, i.factory_key
FROM intent i JOIN party m ON m.id = i.manufacturer WHERE i.number = ?1";

/// Removes what the tables of the indexes have of the row with this number.
pub(crate) fn remove_from_index(connection: &Connection, number: i64) -> Result<(), Error> {
    let entry = connection.prepare_cached(INDEXED_ONE)?.query_row([number], index_entry)?;
    let sql = "DELETE FROM of_device WHERE device = ?1 AND number = ?2";
    connection.prepare_cached(sql)?.execute([entry.device, number])?;
    connection.prepare_cached("DELETE FROM of_key WHERE spki = ?1 AND number = ?2")?.execute([entry.key, number])?;
    Ok(())
}

/// Whether the tables of the indexes lead to the row of this number and this request, and say the same of it.
pub(crate) fn has_index(connection: &Connection, number: i64, of: &Intent) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM of_device WHERE device = ?1 AND number = ?2 AND not_after = ?3 AND csr = ?4 AND spki = ?5 AND factory_key IS ?6";
    let factory_key = of.factory_key.as_ref().map(tag);
    let not_after = crate::seconds::seconds(of.validity.not_after);
    let values = (short_device(&of.device), number, not_after, tag(&of.csr), tag(&of.spki), factory_key);
    let sql_of_key = "SELECT 1 FROM of_key WHERE spki = ?1 AND number = ?2";
    Ok(connection.prepare_cached(sql)?.exists(values)?
        && connection.prepare_cached(sql_of_key)?.exists((short(&of.spki), number))?)
}

/// An entry of an index, and whether it is that of its row: one that is there, was not given up, and has these values.
pub(crate) struct CheckedEntry {
    /// The value and the number of the row.
    pub(crate) key: (i64, i64),
    pub(crate) is_of_row: bool,
}

macro_rules! checked {
    ($table:literal, $value:literal, $more:literal) => {
        concat!(
            "SELECT i.number, m.digest, i.device, i.spki, i.not_after, i.csr, i.factory_key, i.number IS NOT NULL AND NOT i.abandoned, t.",
            $value,
            ", t.number",
            $more,
            " FROM ",
            $table,
            " t LEFT JOIN intent i ON i.number = t.number LEFT JOIN party m ON m.id = i.manufacturer WHERE (t.",
            $value,
            ", t.number) > (?1, ?2) ORDER BY t.",
            $value,
            ", t.number LIMIT ?3"
        )
    };
}

const OF_DEVICE: &str = checked!("of_device", "device", ", t.not_after, t.csr, t.spki, t.factory_key");
const OF_KEY: &str = checked!("of_key", "spki", "");

/// The next entries of the index of devices behind this key.
pub(crate) fn entries_of_device(
    connection: &Connection,
    after: (i64, i64),
    most: usize,
) -> Result<Vec<CheckedEntry>, Error> {
    checked(connection, OF_DEVICE, (after, most), |row, entry| {
        let own = (entry.device, entry.row.not_after, entry.row.csr, entry.row.spki, entry.row.factory_key);
        Ok(own == (row.get(8)?, row.get(10)?, row.get(11)?, row.get(12)?, row.get(13)?))
    })
}

/// The next entries of the index of keys behind this key.
pub(crate) fn entries_of_key(
    connection: &Connection,
    after: (i64, i64),
    most: usize,
) -> Result<Vec<CheckedEntry>, Error> {
    checked(connection, OF_KEY, (after, most), |row, entry| Ok(entry.key == row.get::<_, i64>(8)?))
}

fn checked(
    connection: &Connection,
    sql: &str,
    ((value, number), most): ((i64, i64), usize),
    is_same: impl Fn(&Row<'_>, &IndexEntry) -> Result<bool, Error>,
) -> Result<Vec<CheckedEntry>, Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let entries = statement.query_map([value, number, most], |row| {
        let key = (row.get(8)?, row.get(9)?);
        let is_held: bool = row.get(7)?;
        let is_of_row = is_held && is_same(row, &index_entry(row)?)?;
        Ok(CheckedEntry { key, is_of_row })
    })?;
    entries.collect()
}

/// A row of [`INDEXED`].
pub(super) fn index_entry(row: &Row<'_>) -> Result<IndexEntry, Error> {
    let mut columns = Columns { row, next: 0 };
    let number = columns.get()?;
    let manufacturer = AnchorId::from_bytes(columns.array("manufacturer")?);
    let id = columns.read_text("device", DeviceId::new)?;
    let device = short_device(&Device { manufacturer, id });
    let key = Digest::from_bytes(columns.array("spki")?);
    let not_after = columns.get()?;
    let csr = tag(&Digest::from_bytes(columns.array("csr")?));
    let factory_key = columns.get::<Option<[u8; 32]>>()?.map(|digest| tag(&Digest::from_bytes(digest)));
    let row = OfDevice { number, not_after, csr, spki: tag(&key), factory_key };
    Ok(IndexEntry { device, key: short(&key), row })
}

/// The serial number in this column.
pub(crate) fn serial(row: &Row<'_>, column: usize) -> Result<Serial, Error> {
    Columns { row, next: column }.read("serial", |bytes| Serial::from_bytes(bytes).ok())
}

/// The row of this number.
pub(crate) fn read(connection: &Connection, number: i64) -> Result<Option<LedgerEntry>, Error> {
    connection.prepare_cached(BY_NUMBER)?.query_row([number], |row| entry(connection, row)).optional()
}

/// A row of [`BEHIND`] or of one number, of this connection.
pub(crate) fn entry(connection: &Connection, row: &Row<'_>) -> Result<LedgerEntry, Error> {
    let mut columns = Columns { row, next: 0 };
    let place: i64 = columns.get()?;
    let serial = columns.read("serial", |bytes| Serial::from_bytes(bytes).ok())?;
    let at = columns.time()?;
    let function = columns.get()?;
    let profile: Arc<str> = columns.get::<String>()?.into();
    let profile_version = ProfileVersion::from_bytes(columns.array("profile version")?);
    let ca = AnchorId::from_bytes(columns.array("ca")?);
    let manufacturer = AnchorId::from_bytes(columns.array("manufacturer")?);
    let id = columns.read_text("device", DeviceId::new)?;
    let device = Device { manufacturer, id };
    let anchor = AnchorId::from_bytes(columns.array("anchor")?);
    let codes = newer_code::meant(connection, place, (function, columns.get()?))?;
    let function = read_code(codes.0, "function", function_of)?;
    let vouched_by = read_code(codes.1, "vouched_by", origin_of)?;
    let client = Digest::from_bytes(columns.array("client")?);
    let factory_key = columns.get::<Option<[u8; 32]>>()?.map(Digest::from_bytes);
    let csr = Digest::from_bytes(columns.array("csr")?);
    let spki = Digest::from_bytes(columns.array("spki")?);
    let names = Digest::from_bytes(columns.array("names")?);
    let to_be_signed = Digest::from_bytes(columns.array("to_be_signed")?);
    let subject = columns.read("subject", |der| Name::parse(der).ok())?;
    let validity = Validity { not_before: columns.time()?, not_after: columns.time()? };
    let peer = columns.read_text("peer", |text| text.parse::<SocketAddr>().ok())?;
    let abandoned: bool = columns.get()?;
    let intent = Intent {
        serial,
        ca,
        to_be_signed,
        function,
        profile: Arc::clone(&profile),
        profile_version,
        device,
        anchor,
        vouched_by,
        client,
        factory_key,
        csr,
        spki,
        names,
        subject,
        validity,
        peer,
        at,
    };
    let stage = match columns.get::<Option<i64>>()? {
        Some(at) => {
            let window = RepeatWindow { until: columns.time()? };
            let digest = Digest::from_bytes(columns.array("certificate")?);
            let certificate: Vec<u8> = columns.get()?;
            let device = intent.device.clone();
            let issued = Issued { device, profile, certificate, digest, validity, at: time(at) };
            RowStage::Issued(Record { serial, issued: Arc::new(issued), window })
        }
        None => {
            columns.next += 3;
            if abandoned { RowStage::Abandoned } else { RowStage::Reserved }
        }
    };
    let revocation = match columns.get::<Option<i64>>()? {
        Some(_) => Some(revocation(row, columns.next - 1)?),
        None => None,
    };
    Ok(LedgerEntry { cursor: cursor(place), intent, stage, revocation })
}

/// The revocation in this column and the next two.
pub(crate) fn revocation(row: &Row<'_>, column: usize) -> Result<Revocation, Error> {
    let mut columns = Columns { row, next: column };
    let at = columns.time()?;
    let reason = columns.code("reason", reason_of)?;
    Ok(Revocation { reason, at, actor: columns.read_text("actor", Actor::new)? })
}

/// Reads the columns of a row in their order.
pub(super) struct Columns<'a> {
    pub(super) row: &'a Row<'a>,
    pub(super) next: usize,
}

impl Columns<'_> {
    pub(super) fn get<T: rusqlite::types::FromSql>(&mut self) -> Result<T, Error> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    pub(super) fn time(&mut self) -> Result<UnixTime, Error> {
        Ok(time(self.get()?))
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        self.read(what, |bytes| bytes.try_into().ok())
    }

    pub(super) fn read<T>(&mut self, what: &'static str, read: impl Fn(&[u8]) -> Option<T>) -> Result<T, Error> {
        self.next += 1;
        let value = self.row.get_ref(self.next - 1)?;
        value.as_bytes().ok().and_then(read).ok_or_else(|| damaged(self.next - 1, Type::Blob, what))
    }

    pub(super) fn read_text<T>(&mut self, what: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
        self.next += 1;
        let value = self.row.get_ref(self.next - 1)?;
        value.as_str().ok().and_then(read).ok_or_else(|| damaged(self.next - 1, Type::Text, what))
    }

    pub(super) fn code<T>(&mut self, what: &'static str, read: impl Fn(i64) -> Option<T>) -> Result<T, Error> {
        let code = self.get()?;
        read(code).ok_or_else(|| damaged(self.next - 1, Type::Integer, what))
    }
}

/// What a code means.
pub(super) fn read_code<T>(code: i64, what: &'static str, read: impl Fn(i64) -> Option<T>) -> Result<T, Error> {
    read(code).ok_or_else(|| damaged(0, Type::Integer, what))
}

/// The value of a column that holds a code.
pub(super) fn code<T>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
    read: impl Fn(i64) -> Option<T>,
) -> Result<T, Error> {
    Columns { row, next: column }.code(what, read)
}

/// The address in this column.
pub(super) fn peer(row: &Row<'_>, column: usize) -> Result<SocketAddr, Error> {
    Columns { row, next: column }.read_text("peer", |text| text.parse().ok())
}

/// A column that no release of ours has written so.
fn damaged(column: usize, kind: Type, what: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, kind, format!("the column {what} is damaged").into())
}

pub(super) fn function_code(function: Function) -> i64 {
    match function {
        Function::SimpleEnroll => 1,
        Function::SimpleReenroll => 2,
        Function::ServerKeygen => 3,
    }
}

pub(super) fn function_of(code: i64) -> Option<Function> {
    Function::ALL.into_iter().find(|function| function_code(*function) == code)
}

pub(super) fn origin_code(origin: Origin) -> i64 {
    match origin {
        Origin::Manufacturer => 1,
        Origin::ThisCa => 2,
        Origin::Registrar => 3,
    }
}

pub(super) fn origin_of(code: i64) -> Option<Origin> {
    [Origin::Manufacturer, Origin::ThisCa, Origin::Registrar].into_iter().find(|origin| origin_code(*origin) == code)
}

pub(super) fn reason_code(reason: RevocationReason) -> i64 {
    i64::from(reason.code())
}

pub(super) fn reason_of(code: i64) -> Option<RevocationReason> {
    RevocationReason::ALL.into_iter().find(|reason| reason_code(*reason) == code)
}

/// Where a row stands in the order of lists.
pub(super) fn cursor(place: i64) -> Cursor {
    Cursor::from_bytes(u128::try_from(place).unwrap_or(0).to_be_bytes())
}

/// The place that a cursor means; a place behind every row for a cursor that no SQLite ledger has made.
pub(crate) fn place(cursor: &Cursor) -> i64 {
    i64::try_from(u128::from_be_bytes(*cursor.as_bytes())).unwrap_or(i64::MAX)
}

pub(super) fn blob(digest: &Digest) -> &[u8] {
    digest.as_bytes()
}

/// The first 64 bits of a digest, for an index. Whoever finds a row by it compares the digest.
pub(super) fn short(digest: &Digest) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    i64::from_be_bytes(bytes)
}

/// The first 32 bits of a digest, for the few rows of one device.
pub(super) fn tag(digest: &Digest) -> i32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&digest.as_bytes()[..4]);
    i32::from_be_bytes(bytes)
}

/// The first 64 bits of the digest of a device.
pub(super) fn short_device(device: &Device) -> i64 {
    short(&Digest::of_parts(&[device.manufacturer.as_bytes(), device.id.as_str().as_bytes()]))
}
