//! The two indexes of the rows: what a device has, and who has a key.
//!
//! Both are in random order. An entry that is inserted alone rewrites a page of 4,096 bytes for 30 bytes of it, in each index, and in a large ledger reads
//! it before. So new entries stay in memory, and are merged into the tables in the order of their keys, a slice with each batch:
//!
//! ```text
//!  a new row ──► young ──(it is large)──► merging ──(slices in the order of the keys)──► tables `of_device`, `of_key`
//! ```
//!
//! A look-up asks all three. The rows are the truth: `tally.indexed` is the place up to which every row has its entries in the tables, written in the
//! transaction of the last slice, and a start reads the entries of the rows behind it. A slice that is merged a second time changes nothing.
//!
//! **Bounds.** `young` is taken to be merged when it has [`YOUNG_MAX`] entries, and a batch merges three entries for each one that it adds, so that at most
//! four thirds as many are in memory: about 20 MiB. Whoever waits for the lock waits for a slice at most.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Error, params};

use super::pruned;

/// Entries of each index that are kept in memory before they are merged. The more, the more of them share a page of the table, and the longer takes a
/// start, which reads them again.
pub(super) const YOUNG_MAX: usize = 1 << 17;

/// Entries that a batch merges for each row that it adds, so that it adds fewer than it merges; and one more.
const MERGED_PER_ROW: usize = 3;

/// An entry of the table `of_device`. Digests are cut to 32 bits, which tell the few rows of one device apart; whoever finds a row by them compares
/// the digests of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfDevice {
    pub(super) number: i64,
    pub(super) not_after: i64,
    pub(super) csr: i32,
    pub(super) spki: i32,
    pub(super) factory_key: Option<i32>,
}

/// What leads to one row: the 64 bits of its device and of its key, and the entry of its device.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexEntry {
    pub(super) device: i64,
    pub(super) key: i64,
    pub(super) row: OfDevice,
}

/// The entries that are not in the tables yet. The writer changes them; readers look into them before they look into the tables, so that an entry
/// that is merged meanwhile is found in one of the two.
pub(super) struct Unmerged {
    young_max: usize,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    young: Part,
    merging: Part,
}

#[derive(Default)]
struct Part {
    /// By device and number.
    of_device: BTreeMap<(i64, i64), OfDevice>,
    /// By key and number.
    of_key: BTreeMap<(i64, i64), ()>,
}

impl Part {
    fn insert(&mut self, entry: &IndexEntry) {
        self.of_device.insert((entry.device, entry.row.number), entry.row);
        self.of_key.insert((entry.key, entry.row.number), ());
    }

    fn remove(&mut self, device: i64, key: i64, number: i64) {
        self.of_device.remove(&(device, number));
        self.of_key.remove(&(key, number));
    }
}

impl Unmerged {
    /// No entries, of which `young_max` wait until they are merged.
    pub(super) fn new(young_max: usize) -> Self {
        Self { young_max, parts: Mutex::default() }
    }

    /// A panic under this lock happens in the writer, which breaks the ledger then.
    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a device has, highest number first.
    pub(super) fn of_device(&self, connection: &Connection, device: i64) -> Result<Vec<OfDevice>, Error> {
        let mut entries: Vec<OfDevice> = Vec::new();
        let parts = self.lock();
        for part in [&parts.young, &parts.merging] {
            entries.extend(part.of_device.range((device, i64::MIN)..=(device, i64::MAX)).map(|(_, entry)| *entry));
        }
        drop(parts);
        let sql = "SELECT number, not_after, csr, spki, factory_key FROM of_device WHERE device = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([device])?;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            if entries.iter().all(|entry| entry.number != number) {
                entries.push(OfDevice {
                    number,
                    not_after: row.get(1)?,
                    csr: row.get(2)?,
                    spki: row.get(3)?,
                    factory_key: row.get(4)?,
                });
            }
        }
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.number));
        Ok(entries)
    }

    /// Numbers of the rows with a key; one may be there twice.
    pub(super) fn of_key(&self, connection: &Connection, key: i64) -> Result<Vec<i64>, Error> {
        let mut numbers: Vec<i64> = Vec::new();
        let parts = self.lock();
        for part in [&parts.young, &parts.merging] {
            numbers.extend(part.of_key.range((key, i64::MIN)..=(key, i64::MAX)).map(|((_, number), ())| *number));
        }
        drop(parts);
        let mut statement = connection.prepare_cached("SELECT number FROM of_key WHERE spki = ?1")?;
        let mut rows = statement.query([key])?;
        while let Some(row) = rows.next()? {
            numbers.push(row.get(0)?);
        }
        Ok(numbers)
    }

    /// Begins anew, with the entries of the rows that the tables lack.
    pub(super) fn replace(&self, entries: impl Iterator<Item = Result<IndexEntry, Error>>) -> Result<(), Error> {
        let mut young = Part::default();
        for entry in entries {
            young.insert(&entry?);
        }
        *self.lock() = Parts { young, merging: Part::default() };
        Ok(())
    }

    pub(super) fn insert(&self, entry: &IndexEntry) {
        self.lock().young.insert(entry);
    }

    /// Removes the entries of one row, wherever they are.
    pub(super) fn remove(&self, connection: &Connection, device: i64, key: i64, number: i64) -> Result<(), Error> {
        let mut parts = self.lock();
        parts.young.remove(device, key, number);
        parts.merging.remove(device, key, number);
        drop(parts);
        let sql = "DELETE FROM of_device WHERE device = ?1 AND number = ?2";
        connection.prepare_cached(sql)?.execute([device, number])?;
        let sql = "DELETE FROM of_key WHERE spki = ?1 AND number = ?2";
        connection.prepare_cached(sql)?.execute([key, number]).map(drop)
    }
}

/// How far the writer has merged.
#[derive(Debug, Default)]
pub(super) enum Merge {
    #[default]
    None,
    /// The last keys that were merged, and the place up to which the tables have every entry once all are.
    At { device: Option<(i64, i64)>, key: Option<(i64, i64)>, indexed: i64 },
    /// All are in the tables, and the batch that has the last slice is not committed yet.
    Merged,
}

impl Merge {
    /// Merges one slice into the tables, in the transaction of a batch that added so many rows up to this place, in a ledger whose tables have every
    /// entry up to another one. That place, if it has changed.
    pub(super) fn step(
        &mut self,
        unmerged: &Unmerged,
        connection: &Connection,
        rows: usize,
        (places, indexed): (i64, i64),
    ) -> Result<Option<i64>, Error> {
        let parts = &mut *unmerged.lock();
        // Rows that are given up leave no entry, and still a start reads them again until the mark has passed them.
        let behind = usize::try_from(places.saturating_sub(indexed)).unwrap_or(0);
        let is_due = parts.young.of_device.len() >= unmerged.young_max || behind / 2 >= unmerged.young_max;
        if matches!(self, Self::None) && is_due {
            parts.merging = std::mem::take(&mut parts.young);
            *self = Self::At { device: None, key: None, indexed: places };
        }
        let Self::At { device, key, indexed } = self else { return Ok(None) };
        let slice = rows * MERGED_PER_ROW + 1;
        // Asked each time: rows are pruned beside this process, which still has their entries.
        let sql = if pruned::is_any(connection)? { &OF_ROWS_THAT_ARE_LEFT } else { &OF_ALL };
        let is_device_left = merge_devices(&parts.merging, (connection, sql), device, slice)?;
        let is_key_left = merge_keys(&parts.merging, (connection, sql), key, slice)?;
        if is_device_left || is_key_left {
            return Ok(None);
        }
        let indexed = *indexed;
        *self = Self::Merged;
        Ok(Some(indexed))
    }

    /// The batch is durable: what it merged last is in the tables.
    pub(super) fn committed(&mut self, unmerged: &Unmerged) {
        if matches!(self, Self::Merged) {
            let merged = std::mem::take(&mut unmerged.lock().merging);
            drop(merged);
            *self = Self::None;
        }
    }
}

/// What merges an entry.
struct MergeSql {
    device: &'static str,
    key: &'static str,
}

const OF_ALL: MergeSql = MergeSql {
    device: "INSERT OR IGNORE INTO of_device (device, number, not_after, csr, spki, factory_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    key: "INSERT OR IGNORE INTO of_key (spki, number) VALUES (?1, ?2)",
};

/// The same, unless its row was pruned.
const OF_ROWS_THAT_ARE_LEFT: MergeSql = MergeSql {
    device: "INSERT OR IGNORE INTO of_device (device, number, not_after, csr, spki, factory_key)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM intent WHERE number = ?2)",
    key: "INSERT OR IGNORE INTO of_key (spki, number) SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM intent WHERE number = ?2)",
};

/// Merges entries behind `last`, and says whether any is left.
fn merge_devices(
    part: &Part,
    (connection, sql): (&Connection, &MergeSql),
    last: &mut Option<(i64, i64)>,
    slice: usize,
) -> Result<bool, Error> {
    let mut statement = connection.prepare_cached(sql.device)?;
    let mut entries = part.of_device.range((last.map_or(Unbounded, Excluded), Unbounded));
    for (&(device, number), entry) in entries.by_ref().take(slice) {
        let OfDevice { not_after, csr, spki, factory_key, .. } = entry;
        statement.execute(params![device, number, not_after, csr, spki, factory_key])?;
        *last = Some((device, number));
    }
    Ok(entries.next().is_some())
}

/// Merges entries behind `last`, and says whether any is left.
fn merge_keys(
    part: &Part,
    (connection, sql): (&Connection, &MergeSql),
    last: &mut Option<(i64, i64)>,
    slice: usize,
) -> Result<bool, Error> {
    let mut statement = connection.prepare_cached(sql.key)?;
    let mut entries = part.of_key.range((last.map_or(Unbounded, Excluded), Unbounded));
    for (&(key, number), ()) in entries.by_ref().take(slice) {
        statement.execute([key, number])?;
        *last = Some((key, number));
    }
    Ok(entries.next().is_some())
}

#[cfg(test)]
pub(super) mod tests;
