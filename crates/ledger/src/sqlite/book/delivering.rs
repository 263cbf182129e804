//! Keys that were made for devices, until they have reached them.

use std::collections::BTreeSet;

use authority::{Actor, Function, Revocation};
use pki::Digest;
use pki::issue::{RevocationReason, Serial};
use rusqlite::{Connection, Error};
use rustls_pki_types::UnixTime;

use super::Book;
use crate::journal::event::JournalEvent;
use crate::line::RowEvent;
use crate::relay_line::RelayEvent;
use crate::sqlite::locate::by_serial;
use crate::sqlite::{delivery, relay, row};

/// What is on its way, as the tables have it: whatever else is revoked or delivered costs no look at them.
#[derive(Default)]
pub(super) struct Undelivered {
    rows: BTreeSet<i64>,
    relayed: BTreeSet<[u8; 32]>,
}

impl Undelivered {
    pub(super) fn read(connection: &Connection) -> Result<Self, Error> {
        let (rows, relayed) = delivery::pending(connection)?;
        Ok(Self { rows: rows.into_iter().collect(), relayed: relayed.iter().map(|it| *it.as_bytes()).collect() })
    }
}

impl Book {
    /// The certificate of this row was recorded, and its key is on its way.
    pub(super) fn pend(&mut self, number: i64) -> Result<(), Error> {
        self.undelivered.rows.insert(number);
        delivery::pend(&self.connection, number)
    }

    pub(super) fn pend_relayed(&mut self, certificate: &Digest) -> Result<(), Error> {
        self.undelivered.relayed.insert(*certificate.as_bytes());
        delivery::pend_relayed(&self.connection, certificate)
    }

    /// The key of this row's certificate has arrived, or nobody waits for it any more.
    pub(super) fn end_delivery(&mut self, number: i64) -> Result<(), Error> {
        if self.undelivered.rows.remove(&number) { delivery::end(&self.connection, number) } else { Ok(()) }
    }

    pub(super) fn end_relayed_delivery(&mut self, certificate: &Digest) -> Result<(), Error> {
        let was_pending = self.undelivered.relayed.remove(certificate.as_bytes());
        if was_pending { delivery::end_relayed(&self.connection, certificate) } else { Ok(()) }
    }

    /// The keys of these certificates have reached their devices.
    pub(in crate::sqlite) fn delivered(&mut self, serials: &[Serial], relayed: &[Digest]) -> Result<(), Error> {
        for serial in serials {
            if let Some(number) = self.find(serial)? {
                self.end_delivery(number)?;
            }
        }
        relayed.iter().try_for_each(|certificate| self.end_relayed_delivery(certificate))
    }

    /// Revokes what an earlier process had on its way. Says how many.
    pub(in crate::sqlite) fn revoke_undelivered(&mut self, now: UnixTime) -> Result<usize, Error> {
        let revocation =
            Revocation { reason: RevocationReason::CessationOfOperation, at: now, actor: Actor::undelivered() };
        let Undelivered { rows, relayed } = Undelivered::read(&self.connection)?;
        for number in &rows {
            match row::read(&self.connection, *number)? {
                Some(row) => self.revoke_found((*number, &row), &revocation).map(drop)?,
                // It was pruned.
                None => self.end_delivery(*number)?,
            }
        }
        if !relayed.is_empty() {
            let marks: Vec<_> = relayed.iter().map(|it| (Digest::from_bytes(*it), revocation.clone())).collect();
            self.relay_revoke(&marks)?;
        }
        for certificate in &relayed {
            self.end_relayed_delivery(&Digest::from_bytes(*certificate))?;
        }
        Ok(rows.len() + relayed.len())
    }

    /// The batch of this line was in the journal and not committed: nobody was told of its certificate, so nobody has a key that was made for it.
    pub(in crate::sqlite) fn pend_completed(&mut self, event: &JournalEvent) -> Result<(), Error> {
        match event {
            JournalEvent::Row(event) => match &**event {
                RowEvent::Issued(intent, _) if intent.function == Function::ServerKeygen => {
                    let row = by_serial(&self.connection, &self.serials, &intent.serial)?;
                    row.map_or(Ok(()), |(number, _)| self.pend(number))
                }
                _ => Ok(()),
            },
            JournalEvent::Relay(RelayEvent::Certificate(of)) => {
                let row = relay::read(&self.connection, of.id)?;
                let is_made = row.is_some_and(|row| row.entry.request.function == Function::ServerKeygen);
                if is_made { self.pend_relayed(&of.digest()) } else { Ok(()) }
            }
            JournalEvent::Relay(_) => Ok(()),
        }
    }
}
