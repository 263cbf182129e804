//! The rows of what a Registrar relays: their tables, and how they are read.
//!
//! They are no rows of the CA's tables: a row there is found by its own serial number, and the upstream has chosen these. A file of version 2 whose
//! ledger never relayed may lack the tables; they are added with the first request.

use std::sync::Arc;

use authority::{
    Device, DeviceId, Issued, NewRow, RELAY_LIFETIME, RelayEntry, RelayHolder, RelayId, RelayListing, RelayQuery,
    RelayRecord, RelayRequest, RelayStage, RelayedCertificate, RepeatWindow, Revocation, State,
};
use pki::{AnchorId, Digest, Validity};
use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use super::row::{self, Columns, blob, function_of, origin_of};
use super::schema;
use crate::relay_line::{RelayEvent, RelayRow};
use crate::seconds::{seconds, time};

/// The tables, which version 2 of the schema adds.
pub(super) const TABLES: &str = "
-- What was relayed to an upstream CA, before it was sent. state: 1 is in flight, 2 has an unknown end, 3 has a certificate.
CREATE TABLE IF NOT EXISTS relay_request (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  attempted_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  state INTEGER NOT NULL,
  function INTEGER NOT NULL,
  profile TEXT NOT NULL,
  manufacturer BLOB NOT NULL,
  device TEXT NOT NULL,
  anchor BLOB NOT NULL,
  vouched_by INTEGER NOT NULL,
  client BLOB NOT NULL,
  csr BLOB NOT NULL,
  spki BLOB,
  names BLOB NOT NULL,
  upstream TEXT NOT NULL,
  peer TEXT NOT NULL,
  repeat_until INTEGER NOT NULL,
  certificates_max INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS relay_of_device ON relay_request (manufacturer, device, id);
CREATE INDEX IF NOT EXISTS relay_of_key ON relay_request (spki) WHERE spki IS NOT NULL;

-- What came back for a request, in the order in which it came: the first one is the answer. Its serial number is the upstream's.
CREATE TABLE IF NOT EXISTS relay_certificate (
  request INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  at INTEGER NOT NULL,
  repeat_until INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  serial BLOB NOT NULL,
  spki BLOB NOT NULL,
  digest BLOB NOT NULL,
  der BLOB NOT NULL,
  revoked_at INTEGER,
  revocation_reason INTEGER,
  revoked_by TEXT,
  PRIMARY KEY (request, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS relay_by_digest ON relay_certificate (digest);
CREATE INDEX IF NOT EXISTS relay_by_key ON relay_certificate (spki);

-- For people: `sqlite3 ledger.db 'SELECT * FROM relayed'`.
CREATE VIEW IF NOT EXISTS relayed AS
SELECT r.id AS request, CASE r.state WHEN 1 THEN 'in flight' WHEN 2 THEN 'unresolved' ELSE 'recorded' END AS state,
  r.upstream, r.attempts, lower(hex(c.serial)) AS upstream_serial, r.device, r.profile,
  CASE r.function WHEN 1 THEN 'sen' WHEN 2 THEN 'sren' WHEN 3 THEN 'skg' ELSE r.function END AS function,
  datetime(r.at, 'unixepoch') AS at, datetime(c.not_after, 'unixepoch') AS not_after, r.peer,
  datetime(c.revoked_at, 'unixepoch') AS revoked_at, c.revoked_by, lower(hex(r.manufacturer)) AS manufacturer,
  lower(hex(r.csr)) AS csr, lower(hex(c.digest)) AS certificate
FROM relay_request r LEFT JOIN relay_certificate c ON c.request = r.id;
";

/// The version of the schema that can have these tables.
const NEEDED: u32 = 2;

/// Whether nothing was heard of the row's attempt for so long that its end is unknown.
pub(super) fn is_outlived(row: &RelayRow, now: i64) -> bool {
    now >= row.attempted_at.saturating_add(lifetime())
}

/// See [`RELAY_LIFETIME`].
fn lifetime() -> i64 {
    i64::try_from(RELAY_LIFETIME.as_secs()).unwrap_or(i64::MAX)
}

/// Whether the schema can have the tables.
pub(super) fn is_migrated(connection: &Connection) -> Result<bool, Error> {
    Ok(schema::version(connection)? >= NEEDED)
}

/// Whether the file has the tables. Asked each time: they come with the first request.
pub(crate) fn has_tables(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = 'relayed'";
    connection.prepare_cached(sql)?.exists([])
}

pub(super) fn state_code(stage: &RelayStage) -> i64 {
    match stage {
        RelayStage::InFlight => 1,
        RelayStage::Unresolved => 2,
        RelayStage::Recorded(_) => 3,
    }
}

macro_rules! request_columns {
    () => {
        "SELECT id, at, attempted_at, attempts, state, function, profile, manufacturer, device, anchor, vouched_by, client, csr, spki, names,
  upstream, peer, repeat_until, certificates_max FROM relay_request "
    };
}

/// The row of this number, with its certificates.
pub(crate) fn read(connection: &Connection, id: RelayId) -> Result<Option<RelayRow>, Error> {
    let sql = concat!(request_columns!(), "WHERE id = ?1");
    let Some(mut row) = connection.prepare_cached(sql)?.query_row([number(id)], request).optional()? else {
        return Ok(None);
    };
    fill(connection, &mut row)?;
    Ok(Some(row))
}

/// Rows behind this one in the order of their numbers, with their certificates.
pub(crate) fn behind(connection: &Connection, after: Option<RelayId>, most: usize) -> Result<Vec<RelayRow>, Error> {
    let sql = concat!(request_columns!(), "WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([after.map_or(0, number), count(most)], request)?;
    let mut rows: Vec<RelayRow> = found.collect::<Result<_, _>>()?;
    rows.iter_mut().try_for_each(|row| fill(connection, row))?;
    Ok(rows)
}

/// The requests of a device, latest first, without their certificates.
pub(super) fn requests_of(connection: &Connection, device: &Device) -> Result<Vec<RelayRow>, Error> {
    let sql = concat!(request_columns!(), "WHERE manufacturer = ?1 AND device = ?2 ORDER BY id DESC");
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![&device.manufacturer.as_bytes()[..], device.id.as_str()], request)?;
    rows.collect()
}

/// One page of rows.
pub(super) fn page(connection: &Connection, query: &RelayQuery) -> Result<RelayListing, Error> {
    if !has_tables(connection)? {
        return Ok(RelayListing::default());
    }
    let bound = query.bound();
    let mut rows = match &query.device {
        None => behind(connection, query.after, bound + 1)?,
        Some(device) => {
            let mut rows = requests_of(connection, device)?;
            rows.retain(|row| query.after.is_none_or(|after| row.entry.id > after));
            rows.reverse();
            rows.truncate(bound + 1);
            rows.iter_mut().try_for_each(|row| fill(connection, row))?;
            rows
        }
    };
    let is_more = rows.len() > bound;
    rows.truncate(bound);
    let next = rows.last().filter(|_| is_more).map(|row| row.entry.id);
    Ok(RelayListing { rows: rows.into_iter().map(|row| row.entry).collect(), next })
}

/// How many rows there are.
pub(super) fn rows(connection: &Connection) -> Result<u64, Error> {
    if !has_tables(connection)? {
        return Ok(0);
    }
    let rows: i64 = connection.query_row("SELECT count(*) FROM relay_request", [], |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The certificates of a row of this device and profile, oldest first.
fn certificates(connection: &Connection, row: &RelayRow) -> Result<Vec<RelayedCertificate>, Error> {
    let sql = "SELECT at, repeat_until, not_before, not_after, serial, spki, digest, der, revoked_at, revocation_reason, revoked_by
FROM relay_certificate WHERE request = ?1 ORDER BY ordinal";
    let (id, of) = (row.entry.id, &row.entry.request);
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([number(id)], |row| certificate(row, id, of))?;
    found.collect()
}

/// Reads the certificates of a row that has some.
pub(super) fn fill(connection: &Connection, row: &mut RelayRow) -> Result<(), Error> {
    if matches!(row.entry.stage, RelayStage::Recorded(_)) {
        row.entry.stage = RelayStage::Recorded(certificates(connection, row)?);
    }
    Ok(())
}

/// The row of this certificate, and where it stands among those of the row.
pub(super) fn place_of(connection: &Connection, digest: &Digest) -> Result<Option<(i64, i64)>, Error> {
    let sql = "SELECT request, ordinal FROM relay_certificate WHERE digest = ?1";
    connection.prepare_cached(sql)?.query_row([blob(digest)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// The row of this certificate, and whether it is marked as revoked; nothing if the ledger lacks it, or never relayed.
pub(crate) fn place_of_any(connection: &Connection, digest: &Digest) -> Result<Option<(i64, bool)>, Error> {
    if !has_tables(connection)? {
        return Ok(None);
    }
    let sql = "SELECT request, revoked_at IS NOT NULL FROM relay_certificate WHERE digest = ?1";
    connection.prepare_cached(sql)?.query_row([blob(digest)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// The operator's mark of this certificate.
pub(super) fn revocation_at(connection: &Connection, place: (i64, i64)) -> Result<Option<Revocation>, Error> {
    let sql =
        "SELECT revoked_at, revocation_reason, revoked_by FROM relay_certificate WHERE request = ?1 AND ordinal = ?2";
    connection.prepare_cached(sql)?.query_row([place.0, place.1], |row| revocation(row, 0))
}

/// The key of the certificate at this place.
pub(super) fn key_at(connection: &Connection, place: (i64, i64)) -> Result<Digest, Error> {
    let sql = "SELECT spki FROM relay_certificate WHERE request = ?1 AND ordinal = ?2";
    connection.prepare_cached(sql)?.query_row([place.0, place.1], |row| row.get(0).map(Digest::from_bytes))
}

/// The holder of this certificate.
pub(super) fn holder(connection: &Connection, digest: &Digest) -> Result<Option<RelayHolder>, Error> {
    if !has_tables(connection)? {
        return Ok(None);
    }
    let sql = "SELECT r.manufacturer, r.device, r.profile, c.not_before, c.not_after, c.revoked_at, c.revocation_reason, c.revoked_by
FROM relay_certificate c JOIN relay_request r ON r.id = c.request WHERE c.digest = ?1";
    let holder = connection.prepare_cached(sql)?.query_row([blob(digest)], |row| {
        let mut columns = Columns { row, next: 0 };
        let device = device(&mut columns)?;
        let profile: Arc<str> = columns.get::<String>()?.into();
        let validity = Validity { not_before: columns.time()?, not_after: columns.time()? };
        let state = revocation(row, columns.next)?.map_or(State::Good, State::Revoked);
        Ok(RelayHolder { device, profile, validity, state })
    });
    holder.optional()
}

fn device(columns: &mut Columns<'_>) -> Result<Device, Error> {
    let manufacturer = AnchorId::from_bytes(columns.array("manufacturer")?);
    Ok(Device { manufacturer, id: columns.read_text("device", DeviceId::new)? })
}

fn request(row: &Row<'_>) -> Result<RelayRow, Error> {
    let mut columns = Columns { row, next: 0 };
    let id = columns.code("id", |id| u64::try_from(id).ok().map(RelayId::new))?;
    let at = columns.time()?;
    let attempted_at = columns.get()?;
    let attempts = columns.code("attempts", |attempts| u32::try_from(attempts).ok())?;
    let stage = columns.code("state", |state| match state {
        1 => Some(RelayStage::InFlight),
        2 => Some(RelayStage::Unresolved),
        3 => Some(RelayStage::Recorded(Vec::new())),
        _ => None,
    })?;
    let function = columns.code("function", function_of)?;
    let profile: Arc<str> = columns.get::<String>()?.into();
    let device = device(&mut columns)?;
    let request = RelayRequest {
        function,
        profile,
        device,
        anchor: AnchorId::from_bytes(columns.array("anchor")?),
        vouched_by: columns.code("vouched_by", origin_of)?,
        client: Digest::from_bytes(columns.array("client")?),
        csr: Digest::from_bytes(columns.array("csr")?),
        spki: columns.get::<Option<[u8; 32]>>()?.map(Digest::from_bytes),
        names: Digest::from_bytes(columns.array("names")?),
        upstream: columns.get::<String>()?.into(),
        peer: columns.read_text("peer", |text| text.parse().ok())?,
        at,
        window: RepeatWindow { until: columns.time()? },
        // A row is written only where it may be.
        new_row: NewRow::Allowed,
        certificates_max: columns.code("certificates_max", |most| u32::try_from(most).ok())?,
    };
    Ok(RelayRow { entry: RelayEntry { id, request, attempts, stage }, attempted_at })
}

fn certificate(row: &Row<'_>, id: RelayId, of: &RelayRequest) -> Result<RelayedCertificate, Error> {
    let mut columns = Columns { row, next: 0 };
    let at = time(columns.get()?);
    let window = RepeatWindow { until: columns.time()? };
    let validity = Validity { not_before: columns.time()?, not_after: columns.time()? };
    let serial: Vec<u8> = columns.get()?;
    let spki = Digest::from_bytes(columns.array("spki")?);
    let digest = Digest::from_bytes(columns.array("digest")?);
    let (device, profile) = (of.device.clone(), Arc::clone(&of.profile));
    let issued = Arc::new(Issued { device, profile, certificate: columns.get()?, digest, validity, at });
    let record = RelayRecord { id, issued, serial: serial.into(), spki, window };
    Ok(RelayedCertificate { record, revocation: revocation(row, columns.next)? })
}

/// The mark in this column and the next two.
fn revocation(row: &Row<'_>, column: usize) -> Result<Option<Revocation>, Error> {
    match row.get::<_, Option<i64>>(column)? {
        Some(_) => row::revocation(row, column).map(Some),
        None => Ok(None),
    }
}

/// Whether the ledger has what a line says came back. A request without a certificate may have been closed.
pub(crate) fn has(connection: &Connection, event: &RelayEvent) -> Result<bool, Error> {
    match event {
        RelayEvent::Certificate(of) => held(connection, &of.digest()).map(|state| state.is_some()),
        RelayEvent::Request(_) | RelayEvent::Closed(_) => Ok(true),
    }
}

/// The state of a certificate that was relayed; `None` if the ledger lacks it.
pub(crate) fn held(connection: &Connection, digest: &Digest) -> Result<Option<State>, Error> {
    Ok(holder(connection, digest)?.map(|holder| holder.state))
}

/// Whether the ledger has another request of the number of this line.
pub(crate) fn contradicts(connection: &Connection, event: &RelayEvent) -> Result<bool, Error> {
    let RelayEvent::Request(row) = event else { return Ok(false) };
    if !has_tables(connection)? {
        return Ok(false);
    }
    let held = read(connection, event.id())?;
    Ok(held.is_some_and(|held| !is_same_request(&row.entry, &held.entry)))
}

/// Whether two rows of one number are of the same request.
pub(super) fn is_same_request(one: &RelayEntry, other: &RelayEntry) -> bool {
    let of = |entry: &RelayEntry| (entry.request.csr, entry.request.device.clone(), entry.request.at);
    of(one) == of(other)
}

/// The share of its bound that a device has at this time: open requests within their window, and certificates that have not ended.
pub(super) fn share(connection: &Connection, device: &Device, now: i64) -> Result<u64, Error> {
    let sql = "SELECT (SELECT count(*) FROM relay_request WHERE manufacturer = ?1 AND device = ?2 AND state <> 3 AND repeat_until > ?3)
 + (SELECT count(*) FROM relay_request r JOIN relay_certificate c ON c.request = r.id
    WHERE r.manufacturer = ?1 AND r.device = ?2 AND c.not_after >= ?3)";
    let values = params![&device.manufacturer.as_bytes()[..], device.id.as_str(), now];
    let share: i64 = connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    Ok(u64::try_from(share).unwrap_or(0))
}

/// Whether another device has asked for this key within its window, or holds a certificate of it.
pub(super) fn is_key_of_another(
    connection: &Connection,
    key: &Digest,
    device: &Device,
    now: i64,
) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM relay_request WHERE spki = ?1 AND (manufacturer, device) <> (?2, ?3) AND (state = 3 OR repeat_until > ?4)
UNION ALL SELECT 1 FROM relay_certificate c JOIN relay_request r ON r.id = c.request
WHERE c.spki = ?1 AND (r.manufacturer, r.device) <> (?2, ?3)";
    let values = params![blob(key), &device.manufacturer.as_bytes()[..], device.id.as_str(), now];
    connection.prepare_cached(sql)?.exists(values)
}

/// Removes what a device has asked for in vain: requests without a certificate whose window and whose attempt are over.
pub(super) fn forget_useless_of(connection: &Connection, device: &Device, now: i64) -> Result<(), Error> {
    let sql = "DELETE FROM relay_request WHERE manufacturer = ?1 AND device = ?2 AND state <> 3 AND repeat_until <= ?3
AND (state = 2 OR attempted_at <= ?4)";
    let values = params![&device.manufacturer.as_bytes()[..], device.id.as_str(), now, now.saturating_sub(lifetime())];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Writes a request, with this number or the next one; says its number.
pub(super) fn insert(connection: &Connection, id: Option<RelayId>, row: &RelayRow) -> Result<RelayId, Error> {
    let RelayEntry { request: of, attempts, stage, .. } = &row.entry;
    let sql = "INSERT INTO relay_request (id, at, attempted_at, attempts, state, function, profile, manufacturer, device, anchor, vouched_by, client,
csr, spki, names, upstream, peer, repeat_until, certificates_max)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";
    connection.prepare_cached(sql)?.execute(params![
        id.map(number),
        seconds(of.at),
        row.attempted_at,
        attempts,
        state_code(stage),
        row::function_code(of.function),
        &*of.profile,
        &of.device.manufacturer.as_bytes()[..],
        of.device.id.as_str(),
        &of.anchor.as_bytes()[..],
        row::origin_code(of.vouched_by),
        blob(&of.client),
        blob(&of.csr),
        of.spki.as_ref().map(blob),
        blob(&of.names),
        &*of.upstream,
        of.peer.to_string(),
        seconds(of.window.until),
        of.certificates_max,
    ])?;
    Ok(RelayId::new(u64::try_from(connection.last_insert_rowid()).unwrap_or(0)))
}

/// Writes the progress of a request.
pub(super) fn update(connection: &Connection, id: RelayId, row: &RelayRow) -> Result<(), Error> {
    let sql = "UPDATE relay_request SET state = ?2, attempts = ?3, attempted_at = ?4, repeat_until = ?5 WHERE id = ?1";
    let until = seconds(row.entry.request.window.until);
    let values = params![number(id), state_code(&row.entry.stage), row.entry.attempts, row.attempted_at, until];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Writes a certificate behind those of its request.
pub(super) fn insert_certificate(connection: &Connection, record: &RelayRecord) -> Result<(), Error> {
    let sql = "INSERT INTO relay_certificate (request, ordinal, at, repeat_until, not_before, not_after, serial, spki, digest, der)
VALUES (?1, (SELECT count(*) FROM relay_certificate WHERE request = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let RelayRecord { id, issued, serial, spki, window } = record;
    let values = params![
        number(*id),
        seconds(issued.at),
        seconds(window.until),
        seconds(issued.validity.not_before),
        seconds(issued.validity.not_after),
        &serial[..],
        blob(spki),
        blob(&issued.digest),
        &issued.certificate,
    ];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Marks the certificate at this place as revoked.
pub(super) fn mark(connection: &Connection, place: (i64, i64), revocation: &Revocation) -> Result<(), Error> {
    let sql = "UPDATE relay_certificate SET revoked_at = ?3, revocation_reason = ?4, revoked_by = ?5 WHERE request = ?1 AND ordinal = ?2";
    let (at, reason) = (seconds(revocation.at), row::reason_code(revocation.reason));
    let values = params![place.0, place.1, at, reason, revocation.actor.as_str()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Removes a request that has no certificate.
pub(super) fn close(connection: &Connection, id: RelayId) -> Result<(), Error> {
    let sql = "DELETE FROM relay_request WHERE id = ?1 AND state <> 3";
    connection.prepare_cached(sql)?.execute([number(id)]).map(drop)
}

/// The number as SQLite has it.
pub(crate) fn number(id: RelayId) -> i64 {
    i64::try_from(id.as_u64()).unwrap_or(i64::MAX)
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
