//! Whether a request gets a row, or an answer that is there.

use authority::{FactoryKeys, Intended, Intent, LedgerEntry, NewRow, Record, Reserve, RowStage};
use rusqlite::Error;

use super::{Book, lifetime_end};
use crate::audit::record::Abandonment;
use crate::seconds::seconds;
use crate::sqlite::index::OfDevice;
use crate::sqlite::locate::newest;
use crate::sqlite::row::{self, short, short_device, tag};

impl Book {
    /// Reserves a row. `waited` says how many seconds ago it was asked for: its lifetime begins now.
    pub(in crate::sqlite) fn intend(&mut self, reserve: &Reserve, waited: i64) -> Result<Intended, Error> {
        let Reserve { intent, factory_keys, new_row, certificates_max } = reserve;
        if self.revoked.contains(&intent.client) {
            return Ok(Intended::ClientRevoked);
        }
        if self.is_compromised(&intent.spki)? {
            return Ok(Intended::KeyCompromised);
        }
        self.tally.time = self.tally.time.max(seconds(intent.at));
        self.give_up_outlived()?;
        let device = short_device(&intent.device);
        let of_device = self.unmerged.of_device(&self.connection, device)?;
        if let Some(answer) = self.answered(intent, &of_device)? {
            return Ok(answer);
        }
        if *new_row == NewRow::Held {
            return Ok(Intended::Held);
        }
        if self.is_key_of_another(intent, &of_device)? {
            return Ok(Intended::KeyOfAnother);
        }
        if *factory_keys == FactoryKeys::Refused && self.is_factory_key(intent, &of_device)? {
            return Ok(Intended::FactoryKey);
        }
        let Some(number) = self.free_number(&intent.serial)? else { return Ok(Intended::SerialTaken) };
        if self.is_full(intent, &of_device, *certificates_max)? {
            return Ok(Intended::DeviceFull);
        }
        self.reserve(intent, number, device)?;
        if let Some(open) = self.open.get_mut(&number) {
            open.end = open.end.saturating_add(waited);
        }
        Ok(Intended::Reserved)
    }

    /// The answer to a request that has a row already: the newest row that asks for the same and was not given up decides. A reservation that
    /// outlived its time is given up on the way.
    fn answered(&mut self, intent: &Intent, of_device: &[OfDevice]) -> Result<Option<Intended>, Error> {
        while let Some((number, row)) = self.newest_same(intent, of_device)? {
            match row.stage {
                RowStage::Reserved if self.end_of(number, &row.intent) <= seconds(intent.at) => {
                    self.abandon(number, Abandonment::Outlived, seconds(intent.at))?;
                }
                RowStage::Reserved => return Ok(Some(Intended::InProgress)),
                RowStage::Issued(Record { issued, window, .. })
                    if row.revocation.is_none() && window.repeats(intent.at, &issued.digest, &intent.client) =>
                {
                    return Ok(Some(Intended::Repeat(issued)));
                }
                RowStage::Issued(_) | RowStage::Abandoned => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The second from which a reservation is outlived.
    fn end_of(&self, number: i64, intent: &Intent) -> i64 {
        self.open.get(&number).map_or_else(|| lifetime_end(seconds(intent.at)), |open| open.end)
    }

    fn newest_same(&self, intent: &Intent, of_device: &[OfDevice]) -> Result<Option<(i64, LedgerEntry)>, Error> {
        let (csr, spki) = (tag(&intent.csr), tag(&intent.spki));
        let alike = of_device.iter().filter(|it| it.csr == csr || it.spki == spki).map(|it| it.number);
        newest(&self.connection, alike, |row| {
            !matches!(row.stage, RowStage::Abandoned) && intent.asks_the_same_as(&row.intent)
        })
    }

    fn is_key_of_another(&self, intent: &Intent, of_device: &[OfDevice]) -> Result<bool, Error> {
        for number in self.unmerged.of_key(&self.connection, short(&intent.spki))? {
            if of_device.iter().any(|own| own.number == number) {
                continue;
            }
            let row = row::read(&self.connection, number)?;
            if row.is_some_and(|row| row.intent.spki == intent.spki && row.intent.device != intent.device) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_factory_key(&self, intent: &Intent, of_device: &[OfDevice]) -> Result<bool, Error> {
        if intent.factory_key == Some(intent.spki) {
            return Ok(true);
        }
        let spki = tag(&intent.spki);
        for entry in of_device.iter().filter(|it| it.factory_key == Some(spki)) {
            let row = row::read(&self.connection, entry.number)?;
            if row.is_some_and(|row| row.intent.device == intent.device && row.intent.factory_key == Some(intent.spki))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_full(&self, intent: &Intent, of_device: &[OfDevice], certificates_max: u32) -> Result<bool, Error> {
        let now = seconds(intent.at);
        let max = usize::try_from(certificates_max).unwrap_or(usize::MAX);
        let unexpired: Vec<&OfDevice> = of_device.iter().filter(|it| it.not_after >= now).collect();
        if unexpired.len() < max {
            return Ok(false);
        }
        // Looked at whole only here: another device may share the 64 bits.
        let mut held = 0;
        for entry in unexpired {
            let row = row::read(&self.connection, entry.number)?;
            // One that was given up a moment ago may still stand in what was read.
            let holds =
                |row: LedgerEntry| row.intent.device == intent.device && !matches!(row.stage, RowStage::Abandoned);
            held += usize::from(row.is_some_and(holds));
        }
        Ok(held >= max)
    }
}
