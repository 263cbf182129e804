//! Revocations, and the revocation lists that they are entries of.

use authority::{CrlLayout, Intent, LedgerEntry, NextCrl, Revocation, Revoke, Revoked};
use pki::AnchorId;
use rusqlite::{Error, params};

use super::Book;
use crate::audit::record::Abandonment;
use crate::seconds::seconds;
use crate::sqlite::locate::locate;
use crate::sqlite::row::reason_code;
use crate::sqlite::{compromised, crl};

impl Book {
    pub(in crate::sqlite) fn revoke(&mut self, revoke: &Revoke) -> Result<Revoked, Error> {
        let found = locate(&self.connection, &self.serials, &self.unmerged, &revoke.row)?;
        let Some((number, row)) = found else { return Ok(Revoked::Unknown) };
        self.revoke_found((number, &row), &revoke.revocation)
    }

    /// A reservation is given up: a certificate that comes for it is turned away.
    pub(in crate::sqlite) fn revoke_found(
        &mut self,
        (number, row): (i64, &LedgerEntry),
        revocation: &Revocation,
    ) -> Result<Revoked, Error> {
        if self.open.contains_key(&number) {
            self.abandon(number, Abandonment::Revoked, seconds(revocation.at))?;
        }
        if let Some(before) = &row.revocation {
            self.compromise_again(row, revocation)?;
            self.end_delivery(number)?;
            return Ok(Revoked::Before(before.clone()));
        }
        self.write_revocation(number, &row.intent, revocation)?;
        self.end_delivery(number)?;
        if let Some(issued) = row.issued() {
            self.revoked.insert(issued.digest);
        }
        Ok(Revoked::Now)
    }

    pub(in crate::sqlite) fn write_revocation(
        &mut self,
        number: i64,
        intent: &Intent,
        revocation: &Revocation,
    ) -> Result<(), Error> {
        if compromised::is_meant_by(revocation.reason) {
            // Its trigger notes the key.
            compromised::make(&self.connection)?;
            self.has_compromised = None;
            self.give_up_all_of_key(&intent.spki, seconds(revocation.at))?;
        }
        let values = params![number, seconds(revocation.at), reason_code(revocation.reason), revocation.actor.as_str()];
        let sql = "INSERT INTO revocation (number, at, reason, actor) VALUES (?1, ?2, ?3, ?4)";
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.audit.body.revoked(intent, revocation);
        if let Some(journal) = &mut self.journal {
            journal.revoked(&intent.serial, revocation);
        }
        self.has_unfiled = true;
        Ok(())
    }

    pub(super) fn file_revocations(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.has_unfiled) {
            self.crl_layouts.file(&self.connection)?;
        }
        Ok(())
    }

    /// Fixes how the revocation lists of a CA are divided, and says what holds; nothing if the file has no tables for it.
    pub(in crate::sqlite) fn fix_crl_layout(
        &mut self,
        ca: &AnchorId,
        layout: CrlLayout,
    ) -> Result<Option<CrlLayout>, Error> {
        if !crl::has_tables(&self.connection)? {
            return Ok(None);
        }
        let ca = self.party(ca)?;
        self.crl_layouts.fix(&self.connection, ca, layout).map(Some)
    }

    /// The next numbers of these revocation lists; nothing if the file has no tables for them.
    pub(in crate::sqlite) fn number_crls(&mut self, lists: &[NextCrl]) -> Result<Option<Vec<u64>>, Error> {
        if !crl::has_tables(&self.connection)? {
            return Ok(None);
        }
        self.file_revocations()?;
        let mut numbers = Vec::with_capacity(lists.len());
        for next in lists {
            let ca = self.party(&next.ca)?;
            numbers.push(crl::number(&self.connection, ca, next)?);
        }
        Ok(Some(numbers))
    }
}
