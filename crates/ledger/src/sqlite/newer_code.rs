//! Functions and origins of which the release before has no code: it could not read a row with one.
//!
//! Such a row has a pair of codes that the release before reads, and that no request has: a renewal by a client with the certificate of a manufacturer. What
//! is meant stands in a table beside, which is asked for rows with this pair alone.

use rusqlite::{Connection, Error, OptionalExtension};

/// The table, which version 2 of the schema adds. A file of an earlier build, or of version 1, gets it with the first such row.
pub(super) const TABLES: &str = "
-- What is meant by `function` and `vouched_by` of the row at this place, whose own codes (2, 1) are for the release before.
CREATE TABLE IF NOT EXISTS newer_code (
  place INTEGER PRIMARY KEY,
  function INTEGER NOT NULL,
  vouched_by INTEGER NOT NULL
) STRICT;
";

/// The codes of a function and of an origin, as `intent` has them.
pub(super) type Codes = (i64, i64);

/// What stands in `intent` for what the release before has no code for.
const STAND_IN: Codes = (2, 1);

/// The highest codes that the release before knows.
const KNOWN: Codes = (2, 2);

/// What [`rewrite`] does, for a message.
pub(crate) const REWRITE: &str = "codes of functions and origins that the release before can read";

/// The codes that the row at this place gets for these; writes what they stand for.
pub(super) fn write(connection: &Connection, place: i64, codes: Codes) -> Result<Codes, Error> {
    if codes.0 <= KNOWN.0 && codes.1 <= KNOWN.1 {
        return Ok(codes);
    }
    if !has_table(connection)? {
        connection.execute_batch(TABLES)?;
    }
    note(connection, place, codes)?;
    Ok(STAND_IN)
}

/// What the codes of the row at this place mean.
pub(super) fn meant(connection: &Connection, place: i64, codes: Codes) -> Result<Codes, Error> {
    if codes != STAND_IN || !has_table(connection)? {
        return Ok(codes);
    }
    let sql = "SELECT function, vouched_by FROM newer_code WHERE place = ?1";
    let meant = connection.prepare_cached(sql)?.query_row([place], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(meant.optional()?.unwrap_or(codes))
}

/// Removes what is kept of the row at this place.
pub(crate) fn remove(connection: &Connection, place: i64) -> Result<(), Error> {
    if has_table(connection)? {
        connection.prepare_cached("DELETE FROM newer_code WHERE place = ?1")?.execute([place])?;
    }
    Ok(())
}

/// How many rows an earlier build wrote with codes that the release before does not know. Looks at every row.
pub(crate) fn count_unknown_before(connection: &Connection) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM intent WHERE function > ?1 OR vouched_by > ?2";
    let rows: i64 = connection.query_row(sql, KNOWN, |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Gives the next of these rows behind a number codes that the release before knows. The last number, and how many they were; nothing if none is left.
pub(crate) fn rewrite(connection: &Connection, after: i64, most: i64) -> Result<Option<(i64, u64)>, Error> {
    connection.execute_batch(TABLES)?;
    let sql = "SELECT number, place, function, vouched_by FROM intent
WHERE number > ?1 AND (function > ?2 OR vouched_by > ?3) ORDER BY number LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((after, KNOWN.0, KNOWN.1, most), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, (row.get(2)?, row.get(3)?)))
    })?;
    let rows: Vec<(i64, i64, Codes)> = rows.collect::<Result<_, _>>()?;
    let Some(last) = rows.last().map(|(number, ..)| *number) else { return Ok(None) };
    for (number, place, codes) in &rows {
        note(connection, *place, *codes)?;
        let sql = "UPDATE intent SET function = ?2, vouched_by = ?3 WHERE number = ?1";
        connection.prepare_cached(sql)?.execute((number, STAND_IN.0, STAND_IN.1))?;
    }
    Ok(Some((last, u64::try_from(rows.len()).unwrap_or(0))))
}

fn note(connection: &Connection, place: i64, (function, vouched_by): Codes) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO newer_code (place, function, vouched_by) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((place, function, vouched_by)).map(drop)
}

/// Asked each time: the table comes with the first row that needs it.
fn has_table(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'newer_code'";
    connection.prepare_cached(sql)?.exists([])
}
