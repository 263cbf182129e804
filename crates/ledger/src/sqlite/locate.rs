//! Finds rows.

use authority::{LedgerEntry, Locator};
use pki::issue::Serial;
use rusqlite::{Connection, Error};

use super::foreign;
use super::index::Unmerged;
use super::row::{self, short_device};
use crate::serial::SerialCipher;

/// The row that is meant, with its number.
pub(super) fn locate(
    connection: &Connection,
    serials: &SerialCipher,
    unmerged: &Unmerged,
    locator: &Locator,
) -> Result<Option<(i64, LedgerEntry)>, Error> {
    match locator {
        Locator::Serial(serial) => by_serial(connection, serials, serial),
        Locator::Certificate(serial, digest) => {
            let is_it = |row: &LedgerEntry| row.issued().is_some_and(|issued| issued.digest == *digest);
            Ok(by_serial(connection, serials, serial)?.filter(|(_, row)| is_it(row)))
        }
        Locator::NewestOf { device, profile } => {
            let held = unmerged.of_device(connection, short_device(device))?;
            let is_it = |row: &LedgerEntry| {
                row.issued().is_some() && row.intent.device == *device && row.intent.profile == *profile
            };
            let is_good = |row: &LedgerEntry| row.revocation.is_none() && is_it(row);
            let numbers = || held.iter().map(|entry| entry.number);
            match newest(connection, numbers(), is_good)? {
                Some(found) => Ok(Some(found)),
                None => newest(connection, numbers(), is_it),
            }
        }
    }
}

/// The row of this serial number, with its own number.
pub(crate) fn by_serial(
    connection: &Connection,
    serials: &SerialCipher,
    serial: &Serial,
) -> Result<Option<(i64, LedgerEntry)>, Error> {
    if let Ok(number) = i64::try_from(serials.number(serial))
        && let Some(row) = row::read(connection, number)?.filter(|row| row.intent.serial == *serial)
    {
        return Ok(Some((number, row)));
    }
    let Some(number) = foreign::number(connection, serial)? else { return Ok(None) };
    Ok(row::read(connection, number)?.map(|row| (number, row)))
}

/// Of the rows with these numbers, the one that was reserved last and is meant.
pub(super) fn newest(
    connection: &Connection,
    numbers: impl Iterator<Item = i64>,
    is_it: impl Fn(&LedgerEntry) -> bool,
) -> Result<Option<(i64, LedgerEntry)>, Error> {
    let mut newest: Option<(i64, LedgerEntry)> = None;
    for number in numbers {
        if let Some(row) = row::read(connection, number)?.filter(&is_it)
            && newest.as_ref().is_none_or(|(_, newest)| newest.cursor < row.cursor)
        {
            newest = Some((number, row));
        }
    }
    Ok(newest)
}
