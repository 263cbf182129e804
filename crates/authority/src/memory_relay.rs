//! A relay's ledger in memory: bounded, lost at exit, for tests and first steps.
//!
//! It never forgets a row that still answers repeats, is in flight, or whose end is unknown within its window. Without room it first forgets the
//! rows that became useless longest ago; a certificate whose row is forgotten opens nothing any more.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use pki::Digest;
use pki::issue::RevocationReason;
use rustls_pki_types::UnixTime;

use crate::completion::Completion;
use crate::compromised_keys::CompromisedKeys;
use crate::device::Device;
use crate::entry::{LedgerHealth, Revoked};
use crate::function::Function;
use crate::intent::NewRow;
use crate::ledger::LedgerFault;
use crate::relay::{
    Begun, CERTIFICATES_PER_RELAY_MAX, RELAY_LIFETIME, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger,
    RelayListing, RelayQuery, RelayRecord, RelayRequest, RelayStage, Relayed, RelayedCertificate,
};
use crate::revocation::{Actor, Revocation};
use crate::standing::State;

/// About two kilobytes a row: half of what the CA's ledger in memory may take.
const ROWS_MAX_DEFAULT: usize = 250_000;

/// See the module.
pub struct MemoryRelayLedger {
    rows_max: usize,
    rows: Mutex<RelayRows>,
}

impl MemoryRelayLedger {
    /// An empty ledger with room for `rows_max` requests.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, rows: Mutex::new(RelayRows::default()) }
    }

    fn lock(&self) -> Result<MutexGuard<'_, RelayRows>, LedgerFault> {
        self.rows.lock().map_err(|_| LedgerFault::Broken)
    }
}

impl Default for MemoryRelayLedger {
    fn default() -> Self {
        Self::new(ROWS_MAX_DEFAULT)
    }
}

impl fmt::Debug for MemoryRelayLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRelayLedger").field("rows_max", &self.rows_max).finish_non_exhaustive()
    }
}

impl RelayLedger for MemoryRelayLedger {
    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| requests.into_iter().map(|it| rows.begin(it, self.rows_max)).collect());
        done(answer);
    }

    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>) {
        let answer = self.lock().map(|mut rows| certificates.into_iter().map(|it| rows.record(it)).collect());
        done(answer);
    }

    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>) {
        if let Ok(mut rows) = self.lock() {
            for (id, end) in exchanges {
                rows.end(id, end);
            }
        }
    }

    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>) {
        let answer = self.lock().map(|rows| certificates.iter().map(|digest| rows.holder(digest)).collect());
        done(answer);
    }

    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    ) {
        let answer = self.lock().map(|mut rows| {
            certificates.into_iter().map(|(digest, revocation)| rows.revoke(&digest, revocation)).collect()
        });
        done(answer);
    }

    /// It ends with its process, so that none is pending when another one starts.
    fn delivered(&self, _: Vec<Digest>) {}

    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>) {
        let answer = self.lock().map(|rows| rows.page(&query));
        done(answer);
    }

    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        let answer = self.lock().map(|rows| {
            let held = rows.by_id.len();
            LedgerHealth { rows: number(held), room: Some(number(self.rows_max.saturating_sub(held))) }
        });
        done(answer);
    }
}

#[derive(Default)]
struct RelayRows {
    by_id: BTreeMap<RelayId, Row>,
    of_device: HashMap<Device, Vec<RelayId>>,
    /// The row of each certificate.
    of_certificate: HashMap<Digest, RelayId>,
    /// The rows of each key that was asked for or certified.
    of_key: HashMap<Digest, BTreeSet<RelayId>>,
    /// The second from which each row may be forgotten.
    forgettable: BTreeSet<(u64, RelayId)>,
    compromised: CompromisedKeys,
    begun: u64,
}

struct Row {
    entry: RelayEntry,
    /// When the attempt in flight began.
    attempted_at: UnixTime,
    /// Before this time, what is unresolved is not sent again.
    not_before: UnixTime,
}

impl Row {
    fn is_outlived(&self, now: UnixTime) -> bool {
        now.as_secs() >= self.attempted_at.as_secs().saturating_add(RELAY_LIFETIME.as_secs())
    }

    /// An exchange may still be running after the window has ended.
    fn forgettable_from(&self) -> u64 {
        match &self.entry.stage {
            RelayStage::InFlight => {
                let running = self.attempted_at.as_secs().saturating_add(RELAY_LIFETIME.as_secs());
                running.max(self.entry.request.window.until.as_secs())
            }
            RelayStage::Unresolved => self.entry.request.window.until.as_secs(),
            // A marked certificate is remembered until nobody can authenticate with it.
            RelayStage::Recorded(certificates) => certificates
                .iter()
                .map(|it| match &it.revocation {
                    Some(_) => it.record.issued.validity.not_after.as_secs().saturating_add(1),
                    None => it.record.window.until.as_secs(),
                })
                .max()
                .unwrap_or(0),
        }
    }

    /// What it takes of its device's share.
    fn share(&self, now: UnixTime) -> usize {
        match &self.entry.stage {
            RelayStage::InFlight | RelayStage::Unresolved => usize::from(now < self.entry.request.window.until),
            RelayStage::Recorded(all) => all.iter().filter(|it| now <= it.record.issued.validity.not_after).count(),
        }
    }

    fn keys(&self) -> BTreeSet<Digest> {
        let mut keys: BTreeSet<Digest> = self.entry.request.spki.into_iter().collect();
        if let RelayStage::Recorded(certificates) = &self.entry.stage {
            keys.extend(certificates.iter().map(|it| it.record.spki));
        }
        keys
    }
}

impl RelayRows {
    fn begin(&mut self, request: RelayRequest, rows_max: usize) -> Begun {
        let client = self.holder(&request.client);
        if client.is_some_and(|holder| holder.state != State::Good) {
            return Begun::ClientRevoked;
        }
        if request.spki.is_some_and(|key| self.compromised.contains(&key)) {
            return Begun::KeyCompromised;
        }
        if let Some(known) = self.known(&request) {
            return known;
        }
        if request.new_row == NewRow::Held {
            return Begun::Held;
        }
        if request.spki.is_some_and(|key| self.is_of_another(&key, &request.device)) {
            return Begun::KeyOfAnother;
        }
        self.forget_useless_of(&request.device, request.at);
        let of_device = self.of_device.get(&request.device).into_iter().flatten();
        let share: usize = of_device.filter_map(|id| self.by_id.get(id)).map(|row| row.share(request.at)).sum();
        if share >= usize::try_from(request.certificates_max).unwrap_or(usize::MAX) {
            return Begun::DeviceFull;
        }
        if self.by_id.len() >= rows_max && !self.forget_one(request.at) {
            return Begun::Full;
        }
        self.begun += 1;
        let id = RelayId::new(self.begun);
        let attempted_at = request.at;
        self.of_device.entry(request.device.clone()).or_default().push(id);
        let entry = RelayEntry { id, request, attempts: 1, stage: RelayStage::InFlight };
        self.insert(Row { entry, attempted_at, not_before: attempted_at });
        Begun::New(id)
    }

    /// The answer that an earlier row gives to the request.
    fn known(&mut self, request: &RelayRequest) -> Option<Begun> {
        let ids = self.of_device.get(&request.device)?.clone();
        for id in ids.into_iter().rev() {
            let Some(row) = self.by_id.get(&id) else { continue };
            if !request.asks_the_same_as(&row.entry.request) {
                continue;
            }
            match &row.entry.stage {
                RelayStage::Recorded(certificates) => {
                    if let Some(answer) = certificates.first().filter(|it| answers(it, request)) {
                        return Some(Begun::Repeat(Arc::clone(&answer.record.issued)));
                    }
                }
                RelayStage::InFlight if !row.is_outlived(request.at) => return Some(Begun::InProgress),
                RelayStage::Unresolved if request.at < row.not_before => {
                    let upstream = Arc::clone(&row.entry.request.upstream);
                    return Some(Begun::Waits { id, upstream, until: row.not_before });
                }
                RelayStage::InFlight | RelayStage::Unresolved if request.at < row.entry.request.window.until => {
                    let mut row = self.take(id)?;
                    row.attempted_at = request.at;
                    row.entry.attempts = row.entry.attempts.saturating_add(1);
                    row.entry.stage = RelayStage::InFlight;
                    let upstream = Arc::clone(&row.entry.request.upstream);
                    self.insert(row);
                    return Some(Begun::Unresolved { id, upstream });
                }
                RelayStage::InFlight | RelayStage::Unresolved => {}
            }
        }
        None
    }

    fn is_of_another(&self, key: &Digest, device: &Device) -> bool {
        let rows = self.of_key.get(key).into_iter().flatten().filter_map(|id| self.by_id.get(id));
        rows.into_iter().any(|row| row.entry.request.device != *device)
    }

    /// A certificate whose key was marked as compromised while its request was upstream is recorded, marked, and not passed on.
    fn record(&mut self, record: RelayRecord) -> Relayed {
        let (key, digest, at) = (record.spki, record.issued.digest, record.issued.at);
        let answer = self.record_any(record);
        let is_written = matches!(answer, Relayed::First | Relayed::Second(_));
        if !is_written || !self.compromised.contains(&key) {
            return answer;
        }
        self.revoke(&digest, Revocation { reason: RevocationReason::KeyCompromise, at, actor: Actor::server() });
        Relayed::KeyCompromised
    }

    fn record_any(&mut self, record: RelayRecord) -> Relayed {
        if let Some(holder) = self.of_certificate.get(&record.issued.digest).copied().filter(|it| *it != record.id) {
            return self.record_held(record.id, holder);
        }
        let Some(mut row) = self.take(record.id) else { return Relayed::Unknown };
        let (id, digest) = (record.id, record.issued.digest);
        let certificate = RelayedCertificate { record, revocation: None };
        let answer = match &mut row.entry.stage {
            RelayStage::Recorded(certificates) => {
                let first = certificates.first().map(|it| Arc::clone(&it.record.issued));
                let is_known = certificates.iter().any(|it| it.record.issued.digest == digest);
                if !is_known && certificates.len() < CERTIFICATES_PER_RELAY_MAX {
                    certificates.push(certificate);
                    self.of_certificate.insert(digest, id);
                }
                first.map_or(Relayed::Unknown, Relayed::Second)
            }
            stage => {
                *stage = RelayStage::Recorded(vec![certificate]);
                self.of_certificate.insert(digest, id);
                Relayed::First
            }
        };
        self.insert(row);
        answer
    }

    /// A certificate came back for a request, and the row of another one has it.
    fn record_held(&mut self, id: RelayId, holder: RelayId) -> Relayed {
        let (Some(row), Some(holder)) = (self.by_id.get(&id), self.by_id.get(&holder)) else { return Relayed::Unknown };
        let (of, held) = (&row.entry.request, &holder.entry.request);
        if (&of.device, &of.profile) != (&held.device, &held.profile) {
            return Relayed::OfAnother;
        }
        if let RelayStage::Recorded(certificates) = &row.entry.stage {
            let first = certificates.first().map(|it| Arc::clone(&it.record.issued));
            return first.map_or(Relayed::Unknown, Relayed::Second);
        }
        if let Some(row) = self.take(id) {
            self.detach(&row);
        }
        Relayed::First
    }

    fn end(&mut self, id: RelayId, end: RelayEnd) {
        let Some(mut row) = self.take(id) else { return };
        match (&row.entry.stage, end) {
            (RelayStage::Recorded(_), _) => self.insert(row),
            (_, RelayEnd::Unknown) => {
                row.entry.stage = RelayStage::Unresolved;
                self.insert(row);
            }
            (_, RelayEnd::Later { until, not_before }) => {
                row.entry.stage = RelayStage::Unresolved;
                row.not_before = not_before;
                let window = &mut row.entry.request.window;
                window.until = window.until.max(until);
                self.insert(row);
            }
            // An earlier attempt may have been answered with a certificate that was lost: only a first attempt that was not sent, or
            // was refused, leaves nothing behind.
            (_, RelayEnd::NotSent) if row.entry.attempts > 1 => {
                row.entry.stage = RelayStage::Unresolved;
                self.insert(row);
            }
            (_, RelayEnd::NotSent | RelayEnd::Refused) => self.detach(&row),
        }
    }

    fn holder(&self, digest: &Digest) -> Option<RelayHolder> {
        let row = self.by_id.get(self.of_certificate.get(digest)?)?;
        let RelayStage::Recorded(certificates) = &row.entry.stage else { return None };
        let certificate = certificates.iter().find(|it| it.record.issued.digest == *digest)?;
        Some(RelayHolder {
            device: row.entry.request.device.clone(),
            profile: Arc::clone(&row.entry.request.profile),
            validity: certificate.record.issued.validity,
            state: certificate.revocation.clone().map_or(State::Good, State::Revoked),
        })
    }

    fn revoke(&mut self, digest: &Digest, revocation: Revocation) -> Revoked {
        let row = self.of_certificate.get(digest).copied().and_then(|id| self.take(id));
        let Some(mut row) = row else { return Revoked::Unknown };
        let mut answer = Revoked::Unknown;
        if let RelayStage::Recorded(certificates) = &mut row.entry.stage
            && let Some(certificate) = certificates.iter_mut().find(|it| it.record.issued.digest == *digest)
        {
            self.compromised.note(certificate.record.spki, &revocation);
            answer = match &certificate.revocation {
                Some(before) => Revoked::Before(before.clone()),
                None => {
                    certificate.revocation = Some(revocation);
                    Revoked::Now
                }
            };
        }
        self.insert(row);
        answer
    }

    fn page(&self, query: &RelayQuery) -> RelayListing {
        let from = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = Vec::new();
        for (_, row) in self.by_id.range((from, Bound::Unbounded)) {
            if query.device.as_ref().is_some_and(|device| *device != row.entry.request.device) {
                continue;
            }
            if rows.len() == query.bound() {
                let next = rows.last().map(|entry: &RelayEntry| entry.id);
                return RelayListing { rows, next };
            }
            rows.push(row.entry.clone());
        }
        RelayListing { rows, next: None }
    }

    /// Takes a row out of the map and of the indexes that change with its stage; [`Self::insert`] puts it back.
    fn take(&mut self, id: RelayId) -> Option<Row> {
        let row = self.by_id.remove(&id)?;
        self.forgettable.remove(&(row.forgettable_from(), id));
        for key in row.keys() {
            if let Some(rows) = self.of_key.get_mut(&key) {
                rows.remove(&id);
                if rows.is_empty() {
                    self.of_key.remove(&key);
                }
            }
        }
        Some(row)
    }

    fn insert(&mut self, row: Row) {
        let id = row.entry.id;
        self.forgettable.insert((row.forgettable_from(), id));
        for key in row.keys() {
            self.of_key.entry(key).or_default().insert(id);
        }
        self.by_id.insert(id, row);
    }

    /// Removes what is left of a row that was taken out.
    fn detach(&mut self, row: &Row) {
        if let RelayStage::Recorded(certificates) = &row.entry.stage {
            for certificate in certificates {
                self.of_certificate.remove(&certificate.record.issued.digest);
            }
        }
        let device = &row.entry.request.device;
        if let Some(ids) = self.of_device.get_mut(device) {
            ids.retain(|id| *id != row.entry.id);
            if ids.is_empty() {
                self.of_device.remove(device);
            }
        }
    }

    /// Removes the rows of a device that have neither an unexpired certificate nor a repeat to answer: what one device has is bounded by its share.
    fn forget_useless_of(&mut self, device: &Device, now: UnixTime) {
        let ids = self.of_device.get(device).cloned().unwrap_or_default();
        for id in ids {
            let is_useless =
                self.by_id.get(&id).is_some_and(|row| row.share(now) == 0 && row.forgettable_from() <= now.as_secs());
            if is_useless && let Some(row) = self.take(id) {
                self.detach(&row);
            }
        }
    }

    fn forget_one(&mut self, now: UnixTime) -> bool {
        let Some(&(from, id)) = self.forgettable.first() else { return false };
        if from > now.as_secs() {
            return false;
        }
        if let Some(row) = self.take(id) {
            self.detach(&row);
        }
        true
    }
}

/// Whether the certificate answers the request once more.
fn answers(certificate: &RelayedCertificate, request: &RelayRequest) -> bool {
    let record = &certificate.record;
    request.function != Function::ServerKeygen
        && certificate.revocation.is_none()
        && record.window.repeats(request.at, &record.issued.digest, &request.client)
}

fn number(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
