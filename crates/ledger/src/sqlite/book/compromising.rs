//! Keys that are compromised: see [`compromised`].

use authority::{Actor, LedgerEntry, RelayRecord, Revocation};
use pki::Digest;
use pki::issue::RevocationReason;
use rusqlite::Error;

use super::Book;
use crate::audit::record::Abandonment;
use crate::seconds::seconds;
use crate::sqlite::row::{self, short};
use crate::sqlite::{compromised, relay};

impl Book {
    /// Whether a certificate of this key was revoked because the key is compromised.
    pub(super) fn is_compromised(&mut self, key: &Digest) -> Result<bool, Error> {
        if self.has_compromised.is_none() {
            self.has_compromised_table = self.has_compromised_table || compromised::has_table(&self.connection)?;
            self.has_compromised = Some(self.has_compromised_table && compromised::has_any(&self.connection)?);
        }
        if self.has_compromised == Some(true) { compromised::has(&self.connection, key) } else { Ok(false) }
    }

    /// The row of this key is being revoked: what is reserved for its key is given up, and a certificate that comes for it is turned away.
    pub(super) fn give_up_all_of_key(&mut self, key: &Digest, at: i64) -> Result<(), Error> {
        for number in self.unmerged.of_key(&self.connection, short(key))? {
            let is_open = self.open.contains_key(&number);
            if is_open && row::read(&self.connection, number)?.is_some_and(|row| row.intent.spki == *key) {
                self.abandon(number, Abandonment::Revoked, at)?;
            }
        }
        Ok(())
    }

    /// A row that was revoked before for another reason is revoked again, because its key is compromised: the first revocation stands, and the key is
    /// refused from now on. The journal gets the second one too, which says it to a replay.
    pub(super) fn compromise_again(&mut self, row: &LedgerEntry, revocation: &Revocation) -> Result<(), Error> {
        let key = &row.intent.spki;
        if !compromised::is_meant_by(revocation.reason) || self.is_compromised(key)? {
            return Ok(());
        }
        compromised::note(&self.connection, key, seconds(revocation.at))?;
        self.has_compromised = None;
        self.give_up_all_of_key(key, seconds(revocation.at))?;
        self.audit.body.key_compromised(&row.intent.device, key, revocation);
        if let Some(journal) = &mut self.journal {
            journal.revoked(&row.intent.serial, revocation);
        }
        Ok(())
    }

    /// A relayed certificate is marked, at first or again, because its key is compromised. Says whether the key is newly known as such.
    pub(super) fn compromise_relayed(&mut self, place: (i64, i64), revocation: &Revocation) -> Result<bool, Error> {
        if !compromised::is_meant_by(revocation.reason) {
            return Ok(false);
        }
        let key = relay::key_at(&self.connection, place)?;
        self.has_compromised = None;
        compromised::note(&self.connection, &key, seconds(revocation.at))
    }

    /// Marks a certificate that came back although its key was marked as compromised while its request was upstream. Says whether that is so.
    pub(super) fn mark_compromised(&mut self, record: &RelayRecord) -> Result<bool, Error> {
        if !self.is_compromised(&record.spki)? {
            return Ok(false);
        }
        let (reason, actor) = (RevocationReason::KeyCompromise, Actor::server());
        self.relay_revoke_one(&record.issued.digest, &Revocation { reason, at: record.issued.at, actor })?;
        Ok(true)
    }
}
