//! What a Registrar relays, inside the transaction of a batch: see [`authority::RelayLedger`].

use std::sync::Arc;

use authority::{
    Begun, CERTIFICATES_PER_RELAY_MAX, Function, NewRow, RelayEnd, RelayEntry, RelayId, RelayRecord, RelayRequest,
    RelayStage, Relayed, RelayedCertificate, Revocation, Revoked, State,
};
use pki::Digest;
use rusqlite::Error;

use super::super::attach::Replayed;
use super::super::{pruned, relay};
use super::Book;
use crate::relay_line::{RelayEvent, RelayRow, ReplayedCertificate};
use crate::seconds::{seconds, time};

impl Book {
    /// Begins each request; nothing if the schema has no place for them yet.
    pub(in crate::sqlite) fn relay_begin(&mut self, requests: &[RelayRequest]) -> Result<Option<Vec<Begun>>, Error> {
        self.relaying(|book| requests.iter().map(|request| book.relay_begin_one(request)).collect())
    }

    pub(in crate::sqlite) fn relay_record(&mut self, records: &[RelayRecord]) -> Result<Option<Vec<Relayed>>, Error> {
        self.relaying(|book| {
            let mut answers = Vec::with_capacity(records.len());
            for record in records {
                let mut answer = book.relay_record_one(record)?;
                if matches!(answer, Relayed::First | Relayed::Second(_)) {
                    if book.mark_compromised(record)? {
                        answer = Relayed::KeyCompromised;
                    } else if book.is_key_made(record.id)? {
                        book.pend_relayed(&record.issued.digest)?;
                    }
                }
                answers.push(answer);
            }
            Ok(answers)
        })
    }

    fn is_key_made(&self, id: RelayId) -> Result<bool, Error> {
        let row = relay::read(&self.connection, id)?;
        Ok(row.is_some_and(|row| row.entry.request.function == Function::ServerKeygen))
    }

    pub(in crate::sqlite) fn relay_end(&mut self, exchanges: &[(RelayId, RelayEnd)]) -> Result<Option<()>, Error> {
        self.relaying(|book| exchanges.iter().try_for_each(|(id, end)| book.relay_end_one(*id, *end)))
    }

    pub(in crate::sqlite) fn relay_revoke(
        &mut self,
        certificates: &[(Digest, Revocation)],
    ) -> Result<Option<Vec<Revoked>>, Error> {
        self.relaying(|book| {
            certificates.iter().map(|(digest, revocation)| book.relay_revoke_one(digest, revocation)).collect()
        })
    }

    /// Does this once the file has the tables.
    fn relaying<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if !relay::is_migrated(&self.connection)? {
            return Ok(None);
        }
        if !relay::has_tables(&self.connection)? {
            self.connection.execute_batch(relay::TABLES)?;
        }
        write(self).map(Some)
    }

    fn relay_begin_one(&mut self, request: &RelayRequest) -> Result<Begun, Error> {
        let now = seconds(request.at);
        self.tally.time = self.tally.time.max(now);
        let client = relay::holder(&self.connection, &request.client)?;
        if client.is_some_and(|holder| holder.state != State::Good) {
            return Ok(Begun::ClientRevoked);
        }
        if let Some(key) = &request.spki
            && self.is_compromised(key)?
        {
            return Ok(Begun::KeyCompromised);
        }
        if let Some(known) = self.relay_known(request)? {
            return Ok(known);
        }
        if request.new_row == NewRow::Held {
            return Ok(Begun::Held);
        }
        if let Some(key) = &request.spki
            && relay::is_key_of_another(&self.connection, key, &request.device, now)?
        {
            return Ok(Begun::KeyOfAnother);
        }
        relay::forget_useless_of(&self.connection, &request.device, now)?;
        if relay::share(&self.connection, &request.device, now)? >= u64::from(request.certificates_max) {
            return Ok(Begun::DeviceFull);
        }
        let (id, stage) = (RelayId::new(0), RelayStage::InFlight);
        let entry = RelayEntry { id, request: request.clone(), attempts: 1, stage };
        let mut row = RelayRow { entry, attempted_at: now };
        let id = relay::insert(&self.connection, None, &row)?;
        row.entry.id = id;
        self.relay_attempted(&row);
        Ok(Begun::New(id))
    }

    /// The answer that an earlier row gives to the request: the latest one that asks for the same.
    fn relay_known(&mut self, request: &RelayRequest) -> Result<Option<Begun>, Error> {
        let now = seconds(request.at);
        for mut row in relay::requests_of(&self.connection, &request.device)? {
            if !request.asks_the_same_as(&row.entry.request) {
                continue;
            }
            relay::fill(&self.connection, &mut row)?;
            let is_within = request.at < row.entry.request.window.until;
            match &row.entry.stage {
                RelayStage::Recorded(certificates) => {
                    if let Some(answer) = certificates.first().filter(|it| answers(it, request)) {
                        return Ok(Some(Begun::Repeat(Arc::clone(&answer.record.issued))));
                    }
                }
                RelayStage::InFlight if !relay::is_outlived(&row, now) => return Ok(Some(Begun::InProgress)),
                RelayStage::Unresolved if now < row.attempted_at => {
                    let (id, until) = (row.entry.id, time(row.attempted_at));
                    return Ok(Some(Begun::Waits { id, upstream: row.entry.request.upstream, until }));
                }
                RelayStage::InFlight | RelayStage::Unresolved if is_within => {
                    row.attempted_at = now;
                    row.entry.attempts = row.entry.attempts.saturating_add(1);
                    row.entry.stage = RelayStage::InFlight;
                    relay::update(&self.connection, row.entry.id, &row)?;
                    self.relay_attempted(&row);
                    let upstream = Arc::clone(&row.entry.request.upstream);
                    return Ok(Some(Begun::Unresolved { id: row.entry.id, upstream }));
                }
                RelayStage::InFlight | RelayStage::Unresolved => {}
            }
        }
        Ok(None)
    }

    fn relay_attempted(&mut self, row: &RelayRow) {
        self.audit.body.relay_begun(&row.entry, row.latest());
        if let Some(journal) = &mut self.journal {
            journal.relay_request(row);
        }
    }

    fn relay_record_one(&mut self, record: &RelayRecord) -> Result<Relayed, Error> {
        let Some(mut row) = relay::read(&self.connection, record.id)? else { return Ok(Relayed::Unknown) };
        self.tally.time = self.tally.time.max(seconds(record.issued.at));
        let digest = record.issued.digest;
        if let Some((holder, _)) = relay::place_of(&self.connection, &digest)?
            && holder != relay::number(record.id)
        {
            return self.relay_record_held(&row, holder);
        }
        let (answer, is_new) = match &row.entry.stage {
            // A replayed line says so before that of the certificate.
            RelayStage::Recorded(held) if !held.is_empty() => {
                let first = held.first().map(|it| Arc::clone(&it.record.issued));
                let is_known = held.iter().any(|it| it.record.issued.digest == digest);
                let is_new = !is_known && held.len() < CERTIFICATES_PER_RELAY_MAX;
                (first.map_or(Relayed::Unknown, Relayed::Second), is_new)
            }
            _ => {
                row.entry.stage = RelayStage::Recorded(Vec::new());
                relay::update(&self.connection, record.id, &row)?;
                (Relayed::First, true)
            }
        };
        if is_new {
            relay::insert_certificate(&self.connection, record)?;
            self.audit.body.relay_recorded(&row.entry, record);
            if let Some(journal) = &mut self.journal {
                // Both, so that the batch says everything about the row.
                journal.relay_request(&row);
                journal.relay_certificate(&RelayedCertificate { record: record.clone(), revocation: None });
            }
        }
        Ok(answer)
    }

    /// A certificate came back for a request, and the row of another one has it.
    fn relay_record_held(&mut self, row: &RelayRow, holder: i64) -> Result<Relayed, Error> {
        let holder = relay::read(&self.connection, RelayId::new(u64::try_from(holder).unwrap_or(0)))?;
        let Some(holder) = holder else { return Ok(Relayed::Unknown) };
        let (of, held) = (&row.entry.request, &holder.entry.request);
        if (&of.device, &of.profile) != (&held.device, &held.profile) {
            return Ok(Relayed::OfAnother);
        }
        if let RelayStage::Recorded(certificates) = &row.entry.stage {
            let first = certificates.first().map(|it| Arc::clone(&it.record.issued));
            return Ok(first.map_or(Relayed::Unknown, Relayed::Second));
        }
        self.relay_close(&row.entry, RelayEnd::Refused)?;
        Ok(Relayed::First)
    }

    fn relay_end_one(&mut self, id: RelayId, end: RelayEnd) -> Result<(), Error> {
        let Some(mut row) = relay::read(&self.connection, id)? else { return Ok(()) };
        let is_unknown = match (&row.entry.stage, end) {
            (RelayStage::Recorded(_), _) => return Ok(()),
            (_, RelayEnd::Unknown) => true,
            (_, RelayEnd::Later { until, not_before }) => {
                let window = &mut row.entry.request.window;
                window.until = window.until.max(until);
                row.attempted_at = row.attempted_at.max(seconds(not_before));
                true
            }
            // An earlier attempt may have been answered with a certificate that was lost.
            (_, RelayEnd::NotSent) => row.entry.attempts > 1,
            (_, RelayEnd::Refused) => false,
        };
        if !is_unknown {
            return self.relay_close(&row.entry, end);
        }
        row.entry.stage = RelayStage::Unresolved;
        relay::update(&self.connection, id, &row)?;
        self.audit.body.relay_ended(&row.entry, RelayEnd::Unknown, self.tally.time);
        if let Some(journal) = &mut self.journal {
            journal.relay_request(&row);
        }
        Ok(())
    }

    /// Forgets a request without a certificate.
    fn relay_close(&mut self, entry: &RelayEntry, end: RelayEnd) -> Result<(), Error> {
        relay::close(&self.connection, entry.id)?;
        self.audit.body.relay_ended(entry, end, self.tally.time);
        if let Some(journal) = &mut self.journal {
            journal.relay_closed(entry.id);
        }
        Ok(())
    }

    pub(super) fn relay_revoke_one(&mut self, digest: &Digest, revocation: &Revocation) -> Result<Revoked, Error> {
        let Some(place) = relay::place_of(&self.connection, digest)? else { return Ok(Revoked::Unknown) };
        let before = relay::revocation_at(&self.connection, place)?;
        let is_key_new = self.compromise_relayed(place, revocation)?;
        if before.is_none() {
            relay::mark(&self.connection, place, revocation)?;
            self.end_relayed_delivery(digest)?;
        }
        if (before.is_none() || is_key_new)
            && let Some(row) = relay::read(&self.connection, RelayId::new(u64::try_from(place.0).unwrap_or(0)))?
            && let RelayStage::Recorded(held) = &row.entry.stage
            && let Some(marked) = held.iter().find(|it| it.record.issued.digest == *digest)
        {
            // After a first mark for another reason: a replay learns of the key by the second one.
            let said = RelayedCertificate { record: marked.record.clone(), revocation: Some(revocation.clone()) };
            match &before {
                None => self.audit.body.relay_revoked(&row.entry, &said, revocation),
                Some(_) => self.audit.body.key_compromised(&row.entry.request.device, &said.record.spki, revocation),
            }
            if let Some(journal) = &mut self.journal {
                journal.relay_request(&row);
                journal.relay_certificate(&said);
            }
        }
        Ok(before.map_or(Revoked::Now, Revoked::Before))
    }

    /// Makes the ledger say what a line says, if it does not already. What it has is never taken back: lines of before a backup are replayed too.
    pub(in crate::sqlite) fn relay_replay(&mut self, event: &RelayEvent) -> Result<Replayed, Error> {
        Ok(self.relaying(|book| book.relay_replay_one(event))?.unwrap_or(Replayed::Contradiction))
    }

    fn relay_replay_one(&mut self, event: &RelayEvent) -> Result<Replayed, Error> {
        let held = relay::read(&self.connection, event.id())?;
        match (event, held) {
            (RelayEvent::Request(row), None) => {
                relay::insert(&self.connection, Some(event.id()), &open(row))?;
                self.tally.time = self.tally.time.max(row.latest());
                self.relay_attempted(&open(row));
                Ok(Replayed::Row)
            }
            (RelayEvent::Request(row), Some(held)) if !relay::is_same_request(&row.entry, &held.entry) => {
                Ok(Replayed::Contradiction)
            }
            (RelayEvent::Request(row), Some(held)) => {
                let row = open(row);
                if matches!(held.entry.stage, RelayStage::Recorded(_)) || progress(&row) <= progress(&held) {
                    return Ok(Replayed::Known);
                }
                relay::update(&self.connection, event.id(), &row)?;
                self.relay_attempted(&row);
                Ok(Replayed::Row)
            }
            (RelayEvent::Certificate(_), None) => Ok(Replayed::NoRow),
            (RelayEvent::Certificate(of), Some(row)) => {
                let recorded = self.relay_replay_certificate(of, &row)?;
                let Some(revocation) = &of.revocation else { return Ok(recorded) };
                match self.relay_revoke_one(&of.digest(), revocation)? {
                    Revoked::Now => Ok(Replayed::Revocation),
                    Revoked::Before(_) | Revoked::Unknown => Ok(recorded),
                }
            }
            (RelayEvent::Closed(id), Some(row)) if !matches!(row.entry.stage, RelayStage::Recorded(_)) => {
                relay::close(&self.connection, *id)?;
                self.audit.body.relay_ended(&row.entry, RelayEnd::Refused, self.tally.time);
                Ok(Replayed::Known)
            }
            (RelayEvent::Closed(_), _) => Ok(Replayed::Known),
        }
    }

    fn relay_replay_certificate(&mut self, of: &ReplayedCertificate, row: &RelayRow) -> Result<Replayed, Error> {
        if relay::place_of(&self.connection, &of.digest())?.is_some() {
            return Ok(Replayed::Known);
        }
        if pruned::until(&self.connection)?.is_some_and(|until| seconds(of.validity.not_after) < until) {
            // The line of its request came before: it is removed again, unless it has another certificate.
            relay::close(&self.connection, of.id)?;
            return Ok(Replayed::Known);
        }
        match self.relay_record_one(&of.record(&row.entry.request))? {
            Relayed::First | Relayed::Second(_) | Relayed::KeyCompromised => Ok(Replayed::Row),
            Relayed::OfAnother => Ok(Replayed::Contradiction),
            Relayed::Unknown => Ok(Replayed::NoRow),
        }
    }
}

/// The row as it was before its certificate came, whose own line follows.
fn open(row: &RelayRow) -> RelayRow {
    let stage = match &row.entry.stage {
        RelayStage::Recorded(_) => RelayStage::InFlight,
        stage => stage.clone(),
    };
    RelayRow { entry: RelayEntry { stage, ..row.entry.clone() }, attempted_at: row.attempted_at }
}

/// How far an open row is: what is further replaces what is not.
fn progress(row: &RelayRow) -> (u32, i64) {
    (row.entry.attempts, relay::state_code(&row.entry.stage))
}

/// Whether the certificate answers the request once more.
fn answers(certificate: &RelayedCertificate, request: &RelayRequest) -> bool {
    let record = &certificate.record;
    request.function != Function::ServerKeygen
        && certificate.revocation.is_none()
        && record.window.repeats(request.at, &record.issued.digest, &request.client)
}
