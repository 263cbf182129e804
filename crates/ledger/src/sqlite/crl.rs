//! The revocation lists of the CAs: how they are divided, their numbers, and the entries of each.
//!
//! The shard of a certificate follows from a hash of its serial number, which SQL does not compute. So a trigger notes each new revocation, whichever
//! release or program writes it, and the writer files it: it adds an entry to its list in the transaction that revokes.

use std::collections::BTreeMap;
use std::sync::Arc;

use authority::{
    CRL_ENTRIES_PAGE_MAX, CRL_LISTS_MAX, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery,
    CrlListState, CrlListing, NextCrl,
};
use pki::issue::Serial;
use pki::issue::crl::{CrlEntry, CrlShards};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, params};

use super::row::{self, cursor, place, reason_of};
use super::schema::{self, Fill};
use crate::seconds::{seconds, time};

/// The tables, which version 2 of the schema adds.
pub(super) const TABLES: &str = "
-- How the revocation lists of a CA are divided, fixed before its first certificate: 0 is one list for the whole CA.
CREATE TABLE IF NOT EXISTS crl_layout (
  ca INTEGER PRIMARY KEY,
  shards INTEGER NOT NULL
) STRICT;

-- The URL of the lists of a CA with shards, with its placeholder. Files of earlier releases get the table, and the URL, with their next start.
CREATE TABLE IF NOT EXISTS crl_url (
  ca INTEGER PRIMARY KEY,
  url TEXT NOT NULL
) STRICT;

-- One list: its last CRL number, how many entries were filed in it, and how many of them that number covers.
CREATE TABLE IF NOT EXISTS crl_list (
  ca INTEGER NOT NULL,
  list INTEGER NOT NULL,
  crl_number INTEGER NOT NULL,
  filed INTEGER NOT NULL,
  covered INTEGER NOT NULL,
  PRIMARY KEY (ca, list)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS crl_outdated ON crl_list (ca, list) WHERE covered < filed;

-- The entries of each list, by the number of the row.
CREATE TABLE IF NOT EXISTS crl_entry (
  ca INTEGER NOT NULL,
  list INTEGER NOT NULL,
  number INTEGER NOT NULL,
  serial BLOB NOT NULL,
  at INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  PRIMARY KEY (ca, list, number)
) STRICT, WITHOUT ROWID;

-- Revocations that are not in their list yet.
CREATE TABLE IF NOT EXISTS crl_unfiled (
  ca INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (ca, number)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS revocation_unfiled AFTER INSERT ON revocation BEGIN
  INSERT OR IGNORE INTO crl_unfiled (ca, number) SELECT ca, number FROM intent WHERE number = new.number;
END;
";

/// The revocations of version 1.
pub(super) const FILL: Fill = Fill {
    what: "earlier revocations to their lists",
    count: "SELECT count(*) FROM revocation",
    page: "SELECT r.number, i.ca FROM revocation r JOIN intent i ON i.number = r.number WHERE r.number > ?1 ORDER BY r.number LIMIT ?2",
    order: "key",
    insert: "INSERT OR IGNORE INTO crl_unfiled (number, ca) VALUES (?1, ?2)",
};

/// The table of the URLs: version 2 of the release before lacks it.
const URLS: &str = "CREATE TABLE IF NOT EXISTS crl_url (ca INTEGER PRIMARY KEY, url TEXT NOT NULL) STRICT";

/// The URL of a layout that the release before fixed.
const URL_UNKNOWN: &str = "";

/// The version of the schema that has these tables.
const NEEDED: u32 = 2;

/// Revocations that are filed at a time: what they have in memory is bounded.
const FILED_MAX: usize = 4_096;

/// The layouts that are fixed, by the number of the CA: a configuration has few CAs.
pub(crate) struct Layouts(Vec<(i64, CrlLayout)>);

impl Layouts {
    /// Those of the file; none where it has no tables for them yet.
    pub(crate) fn read(connection: &Connection) -> Result<Self, Error> {
        if !has_tables(connection)? {
            return Ok(Self(Vec::new()));
        }
        let has_urls = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'crl_url'")?.exists([])?;
        let sql = if has_urls {
            "SELECT l.ca, l.shards, u.url FROM crl_layout l LEFT JOIN crl_url u ON u.ca = l.ca"
        } else {
            "SELECT ca, shards, NULL FROM crl_layout"
        };
        let mut statement = connection.prepare(sql)?;
        let layouts = statement.query_map([], |row| {
            let url: Option<String> = row.get(2)?;
            let layout_of = |code| layout_of(code, url.as_deref().unwrap_or(URL_UNKNOWN));
            Ok((row.get(0)?, row::code(row, 1, "shards", layout_of)?))
        })?;
        Ok(Self(layouts.collect::<Result<_, _>>()?))
    }

    /// Fixes the layout of this CA unless it is fixed and a row was reserved with it, and says what holds.
    pub(super) fn fix(&mut self, connection: &Connection, ca: i64, layout: CrlLayout) -> Result<CrlLayout, Error> {
        if let Some(fixed) = self.of(ca)
            && *fixed != layout
            && !is_same_but_url_unknown(fixed, &layout)
            && has_row(connection, ca)?
        {
            return Ok(fixed.clone());
        }
        if self.of(ca) == Some(&layout) {
            return Ok(layout);
        }
        connection.execute("INSERT OR REPLACE INTO crl_layout (ca, shards) VALUES (?1, ?2)", [ca, code(&layout)])?;
        if let CrlLayout::Sharded { url, .. } = &layout {
            connection.execute_batch(URLS)?;
            connection.execute("INSERT OR REPLACE INTO crl_url (ca, url) VALUES (?1, ?2)", params![ca, url])?;
        }
        self.0.retain(|(known, _)| *known != ca);
        self.0.push((ca, layout.clone()));
        self.file(connection)?;
        Ok(layout)
    }

    /// How the lists of this CA are divided.
    pub(crate) fn of(&self, ca: i64) -> Option<&CrlLayout> {
        self.0.iter().find(|(known, _)| *known == ca).map(|(_, layout)| layout)
    }

    /// Whether a list of this CA has the revocation of the row with this number.
    pub(crate) fn has_entry(
        &self,
        connection: &Connection,
        (ca, number): (i64, i64),
        serial: &Serial,
    ) -> Result<bool, Error> {
        let Some(layout) = self.of(ca) else { return Ok(false) };
        let sql = "SELECT 1 FROM crl_entry WHERE ca = ?1 AND list = ?2 AND number = ?3";
        connection.prepare_cached(sql)?.exists((ca, layout.list_of(serial), number))
    }

    /// Adds each revocation that is not filed yet to its list.
    pub(super) fn file(&self, connection: &Connection) -> Result<(), Error> {
        for (ca, layout) in &self.0 {
            while let Some((filed, last)) = unfiled(connection, *ca)? {
                add(connection, *ca, layout, &filed)?;
                let sql = "DELETE FROM crl_unfiled WHERE ca = ?1 AND number <= ?2";
                connection.prepare_cached(sql)?.execute([*ca, last])?;
            }
        }
        Ok(())
    }
}

/// The numbers of the CA and of the row at this place.
fn row_at(connection: &Connection, place: i64) -> Result<(i64, i64), Error> {
    let sql = "SELECT i.ca, i.number FROM place p JOIN intent i ON i.number = p.number WHERE p.place = ?1";
    connection.prepare_cached(sql)?.query_row([place], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether a list has the revocation of the row at this place.
pub(crate) fn has_entry(
    connection: &Connection,
    layouts: &Layouts,
    (place, serial): (i64, &Serial),
) -> Result<bool, Error> {
    layouts.has_entry(connection, row_at(connection, place)?, serial)
}

/// Removes what the tables of the lists have of the row at this place.
pub(crate) fn remove(connection: &Connection, layouts: &Layouts, (place, serial): (i64, &Serial)) -> Result<(), Error> {
    let (ca, number) = row_at(connection, place)?;
    if let Some(layout) = layouts.of(ca) {
        let sql = "DELETE FROM crl_entry WHERE ca = ?1 AND list = ?2 AND number = ?3";
        connection.prepare_cached(sql)?.execute((ca, layout.list_of(serial), number))?;
    }
    let sql = "DELETE FROM crl_unfiled WHERE ca = ?1 AND number = ?2";
    connection.prepare_cached(sql)?.execute([ca, number]).map(drop)
}

/// What an entry has.
struct Filed {
    number: i64,
    serial: Serial,
    at: i64,
    reason: i64,
    not_after: i64,
}

/// Revocations of this CA that are not filed, and the number of the last one; nothing if there are none. A revocation whose row is gone is left out.
fn unfiled(connection: &Connection, ca: i64) -> Result<Option<(Vec<Filed>, i64)>, Error> {
    let sql = "SELECT u.number, i.serial, r.at, r.reason, i.not_after FROM crl_unfiled u
LEFT JOIN revocation r ON r.number = u.number LEFT JOIN intent i ON i.number = r.number
WHERE u.ca = ?1 ORDER BY u.number LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![ca, i64::try_from(FILED_MAX).unwrap_or(i64::MAX)])?;
    let (mut filed, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        last = Some(number);
        if row.get_ref(1)? != ValueRef::Null {
            let serial = row::serial(row, 1)?;
            filed.push(Filed { number, serial, at: row.get(2)?, reason: row.get(3)?, not_after: row.get(4)? });
        }
    }
    Ok(last.map(|last| (filed, last)))
}

fn add(connection: &Connection, ca: i64, layout: &CrlLayout, filed: &[Filed]) -> Result<(), Error> {
    let mut in_list: BTreeMap<u32, i64> = BTreeMap::new();
    let sql = "INSERT OR IGNORE INTO crl_entry (ca, list, number, serial, at, reason, not_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut insert = connection.prepare_cached(sql)?;
    for Filed { number, serial, at, reason, not_after } in filed {
        let list = layout.list_of(serial);
        let added = insert.execute(params![ca, list, number, &serial.as_bytes()[..], at, reason, not_after])?;
        *in_list.entry(list).or_default() += i64::try_from(added).unwrap_or(1);
    }
    let sql = "INSERT INTO crl_list (ca, list, crl_number, filed, covered) VALUES (?1, ?2, 0, ?3, 0)
ON CONFLICT (ca, list) DO UPDATE SET filed = filed + ?3";
    let mut count = connection.prepare_cached(sql)?;
    for (list, added) in in_list {
        count.execute(params![ca, list, added])?;
    }
    Ok(())
}

/// The next number of a list, which then covers what was filed in it.
pub(super) fn number(connection: &Connection, ca: i64, next: &NextCrl) -> Result<u64, Error> {
    if let Some(before) = next.expired_before {
        let sql = "DELETE FROM crl_entry WHERE ca = ?1 AND list = ?2 AND not_after < ?3";
        connection.prepare_cached(sql)?.execute(params![ca, next.list, seconds(before)])?;
    }
    let sql = "INSERT INTO crl_list (ca, list, crl_number, filed, covered) VALUES (?1, ?2, max(?3, 1), 0, 0)
ON CONFLICT (ca, list) DO UPDATE SET crl_number = max(crl_number + 1, ?3), covered = filed RETURNING crl_number";
    let number_min = i64::try_from(next.number_min).unwrap_or(i64::MAX);
    let number: i64 =
        connection.prepare_cached(sql)?.query_row(params![ca, next.list, number_min], |row| row.get(0))?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Whether the file has the tables of the revocation lists. Asked each time: a file can be migrated while it is open.
pub(super) fn has_tables(connection: &Connection) -> Result<bool, Error> {
    Ok(schema::version(connection)? >= NEEDED)
}

/// One page of lists.
pub(super) fn lists(connection: &Connection, query: &CrlListQuery) -> Result<CrlListing, Error> {
    let sql = match query.which {
        CrlListFilter::Known => {
            "SELECT list, crl_number, covered < filed FROM crl_list
WHERE ca = (SELECT id FROM party WHERE digest = ?1) AND list > ?2 ORDER BY list LIMIT ?3"
        }
        CrlListFilter::Outdated => {
            "SELECT list, crl_number, 1 FROM crl_list
WHERE ca = (SELECT id FROM party WHERE digest = ?1) AND list > ?2 AND covered < filed ORDER BY list LIMIT ?3"
        }
    };
    let after = query.after.map_or(-1, i64::from);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![&query.ca.as_bytes()[..], after, limit(CRL_LISTS_MAX)])?;
    let mut lists = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(1)?;
        let number = u64::try_from(number).unwrap_or(0);
        lists.push(CrlListState { list: row.get(0)?, number, is_outdated: row.get(2)? });
    }
    let is_more = lists.len() > CRL_LISTS_MAX;
    lists.truncate(CRL_LISTS_MAX);
    let next = lists.last().filter(|_| is_more).map(|last| last.list);
    Ok(CrlListing { lists, next })
}

/// One page of entries.
pub(super) fn entries(connection: &Connection, query: &CrlEntryQuery) -> Result<CrlEntryPage, Error> {
    let sql = "SELECT number, serial, at, reason FROM crl_entry
WHERE ca = (SELECT id FROM party WHERE digest = ?1) AND list = ?2 AND number > ?3 ORDER BY number LIMIT ?4";
    let after = query.after.as_ref().map_or(0, place);
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![&query.ca.as_bytes()[..], query.list, after, limit(CRL_ENTRIES_PAGE_MAX)];
    let mut rows = statement.query(values)?;
    let (mut page, mut last) = (CrlEntryPage::default(), None);
    while let Some(row) = rows.next()? {
        if page.entries.len() == CRL_ENTRIES_PAGE_MAX {
            page.next = last;
            break;
        }
        last = Some(cursor(row.get(0)?));
        let (serial, at) = (row::serial(row, 1)?, time(row.get(2)?));
        page.entries.push(CrlEntry { serial, at, reason: row::code(row, 3, "reason", reason_of)? });
    }
    Ok(page)
}

/// One more than is wanted: whether any is left.
fn limit(wanted: usize) -> i64 {
    i64::try_from(wanted + 1).unwrap_or(i64::MAX)
}

/// Whether a reservation, and so perhaps a certificate, of this CA is there. Asked only when a layout is to change: it may look at every row.
fn has_row(connection: &Connection, ca: i64) -> Result<bool, Error> {
    connection.prepare("SELECT 1 FROM intent WHERE ca = ?1 LIMIT 1")?.exists([ca])
}

/// Whether the release before fixed this number of shards, and the URL is not known.
fn is_same_but_url_unknown(fixed: &CrlLayout, wanted: &CrlLayout) -> bool {
    match (fixed, wanted) {
        (CrlLayout::Sharded { shards, url }, CrlLayout::Sharded { shards: wanted, .. }) => {
            shards == wanted && **url == *URL_UNKNOWN
        }
        _ => false,
    }
}

fn code(layout: &CrlLayout) -> i64 {
    match layout {
        CrlLayout::Whole => 0,
        CrlLayout::Sharded { shards, .. } => shards.count().into(),
    }
}

fn layout_of(code: i64, url: &str) -> Option<CrlLayout> {
    match u32::try_from(code).ok()? {
        0 => Some(CrlLayout::Whole),
        count => CrlShards::new(count).map(|shards| CrlLayout::Sharded { shards, url: Arc::from(url) }),
    }
}
