//! Whether the entries of the indexes and of the revocation lists are those of their rows, read in ranges.

use authority::CrlLayout;
use pki::issue::Serial;
use rusqlite::{Connection, Error, Row};
use rustls_pki_types::UnixTime;

use super::RowFlaw;
use crate::seconds::seconds;
use crate::sqlite::crl::Layouts;
use crate::sqlite::{row, schema};

/// Entries that are looked at in one statement.
const PAGE_ROWS: usize = 4_096;

/// A row that is at fault, by its number, and how.
type Found = Option<(i64, RowFlaw)>;

/// The first entry of an index that is not that of its row.
pub(super) fn check_indexes(connection: &Connection) -> Result<Found, Error> {
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let page = row::entries_of_device(connection, after, PAGE_ROWS)?;
        let Some(last) = page.last() else { break };
        after = last.key;
        if let Some(wrong) = page.iter().find(|entry| !entry.is_of_row) {
            return Ok(Some((wrong.key.1, RowFlaw::Alone("an entry of the index of devices that is not of its row"))));
        }
    }
    after = (i64::MIN, i64::MIN);
    loop {
        let page = row::entries_of_key(connection, after, PAGE_ROWS)?;
        let Some(last) = page.last() else { return Ok(None) };
        after = last.key;
        if let Some(wrong) = page.iter().find(|entry| !entry.is_of_row) {
            return Ok(Some((wrong.key.1, RowFlaw::Alone("an entry of the index of keys that is not of its row"))));
        }
    }
}

/// The first entry of a revocation list that is not its revocation, or revocation of a certificate that has not ended and is in no list.
pub(super) fn check_lists(connection: &Connection, now: UnixTime) -> Result<Found, Error> {
    if schema::version(connection)? < 2 {
        return Ok(None);
    }
    let layouts = Layouts::read(connection)?;
    if let Some(number) = first_false_entry(connection, &layouts)? {
        return Ok(Some((number, RowFlaw::Alone("an entry of a revocation list that is not its revocation"))));
    }
    let unlisted = first_unlisted(connection, seconds(now))?;
    Ok(unlisted.map(|number| (number, RowFlaw::Alone("a revocation that is not in its revocation list"))))
}

fn first_false_entry(connection: &Connection, layouts: &Layouts) -> Result<Option<i64>, Error> {
    let sql = "SELECT e.ca, e.list, e.number, e.serial,
  coalesce(e.ca = i.ca AND e.serial = i.serial AND e.not_after = i.not_after AND e.at = r.at AND e.reason = r.reason, 0)
FROM crl_entry e LEFT JOIN revocation r ON r.number = e.number LEFT JOIN intent i ON i.number = e.number
WHERE (e.ca, e.list, e.number) > (?1, ?2, ?3) ORDER BY e.ca, e.list, e.number LIMIT ?4";
    let is_good = |row: &Row<'_>| -> Result<bool, Error> {
        let (ca, list, serial): (i64, u32, Serial) = (row.get(0)?, row.get(1)?, row::serial(row, 3)?);
        let is_its_list = |layout: &CrlLayout| layout.list_of(&serial) == list;
        Ok(row.get(4)? && layouts.of(ca).is_some_and(is_its_list))
    };
    let mut statement = connection.prepare(sql)?;
    let mut after = (i64::MIN, i64::MIN, i64::MIN);
    loop {
        let mut rows = statement.query((after.0, after.1, after.2, limit()))?;
        let mut is_last = true;
        while let Some(row) = rows.next()? {
            (after, is_last) = ((row.get(0)?, row.get(1)?, row.get(2)?), false);
            if !is_good(row)? {
                return Ok(Some(after.2));
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

/// A list is made without the certificates that have ended, so their entries may be gone.
fn first_unlisted(connection: &Connection, now: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT r.number, i.not_after < ?3
  OR NOT EXISTS (SELECT 1 FROM crl_layout l WHERE l.ca = i.ca)
  OR EXISTS (SELECT 1 FROM crl_unfiled u WHERE u.ca = i.ca AND u.number = r.number), i.ca, i.serial
FROM revocation r JOIN intent i ON i.number = r.number WHERE r.number > ?1 ORDER BY r.number LIMIT ?2";
    let layouts = Layouts::read(connection)?;
    let mut statement = connection.prepare(sql)?;
    let mut after = i64::MIN;
    loop {
        let snapshot = connection.unchecked_transaction()?;
        let mut rows = statement.query([after, limit(), now])?;
        let mut is_last = true;
        while let Some(row) = rows.next()? {
            (after, is_last) = (row.get(0)?, false);
            let (is_excused, ca): (bool, i64) = (row.get(1)?, row.get(2)?);
            if !is_excused && !layouts.has_entry(connection, (ca, after), &row::serial(row, 3)?)? {
                return Ok(Some(after));
            }
        }
        drop(rows);
        drop(snapshot);
        if is_last {
            return Ok(None);
        }
    }
}

fn limit() -> i64 {
    i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX)
}
