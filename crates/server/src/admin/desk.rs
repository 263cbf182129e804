//! Answers the requests of operators with the ledger.

mod relayed;

use std::sync::Arc;
use std::time::Duration;

use authority::{
    Actor, Completion, Cursor, Device, DeviceId, LISTING_ROWS_MAX, Ledger, LedgerEntry, LedgerFault, ListQuery,
    Listing, Locator, RelayId, RelayLedger, RelayQuery, Revocation, Revoke, Revoked, RowFilter, RowState,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::issue::RevocationReason;
use pki::{AnchorId, Certificate, Encoding};
use rustls_pki_types::UnixTime;
use tokio::sync::oneshot;

use super::protocol::{
    AdminAnswer, AdminFault, AdminFaultCode, AdminRequest, CertificateRow, LedgerStatus, ListFilter, REVOKED_ROWS_MAX,
    RelayedRow, RelayedState, RevocationAnswer, RevocationOutcome, RowName, RowStateName, revocation_reason,
    serial_number, time_of,
};
use crate::rfc3339::rfc3339;

/// The ledger answers a page or a batch within milliseconds; after this time its disk hangs.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(20);

/// Digits of a manufacturer's identity that name it, as the log shows them.
const MANUFACTURER_DIGITS_MIN: usize = 8;

/// The manufacturers that the configuration names now.
type Manufacturers = Box<dyn Fn() -> Vec<AnchorId> + Send + Sync>;

/// The time of a revocation that is asked for now.
type RevocationClock = Box<dyn Fn() -> UnixTime + Send + Sync>;

/// Answers requests. It keeps nothing between them: a list goes on by the cursor that its client sends.
pub struct AdminDesk {
    ledger: Arc<dyn Ledger>,
    /// What a Registrar relayed, if it is kept.
    relayed: Option<Arc<dyn RelayLedger>>,
    manufacturers: Manufacturers,
    clock: RevocationClock,
}

impl AdminDesk {
    /// A desk over this ledger. `manufacturers` says whose devices a list by device means if it names no manufacturer; `clock` is the time of a
    /// revocation.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        manufacturers: impl Fn() -> Vec<AnchorId> + Send + Sync + 'static,
        clock: impl Fn() -> UnixTime + Send + Sync + 'static,
    ) -> Self {
        Self { ledger, relayed: None, manufacturers: Box::new(manufacturers), clock: Box::new(clock) }
    }

    /// The same desk, which also shows what a Registrar relayed.
    #[must_use]
    pub fn with_relayed(self, relayed: Option<Arc<dyn RelayLedger>>) -> Self {
        Self { relayed, ..self }
    }

    /// Answers a request of `actor`. The last answer is the only one that is `done` or `error`. There are never more answers than a page or a batch
    /// has rows, and one.
    ///
    /// The future needs tokio's timer. The ledger answers on its own threads; the future only waits.
    pub async fn answer(&self, actor: &Actor, request: AdminRequest) -> Vec<AdminAnswer> {
        let answers = match request {
            AdminRequest::Status {} => self.status().await,
            AdminRequest::CertificateList { filter, after, rows_max } => self.list(filter, after, rows_max).await,
            AdminRequest::CertificateShow { row } => self.show(&row).await,
            AdminRequest::CertificateRelayed { state, after, rows_max } => {
                self.relayed(state, after.as_deref(), rows_max).await
            }
            AdminRequest::CertificateRevoke { rows, reason, dry_run } => {
                self.revoke(actor, &rows, &reason, dry_run).await
            }
            AdminRequest::CertificateRevokeRelayed { certificates, reason, dry_run } => {
                self.revoke_relayed(actor, &certificates, &reason, dry_run).await
            }
            AdminRequest::CertificateCloseRelayed { requests, dry_run } => {
                self.close_relayed(actor, &requests, dry_run).await
            }
        };
        answers.unwrap_or_else(|fault| vec![AdminAnswer::Error(fault)])
    }

    /// [`AdminDesk::answer`] for a thread that has no runtime and may block.
    ///
    /// # Errors
    /// The system refused a timer.
    pub fn answer_blocking(&self, actor: &Actor, request: AdminRequest) -> std::io::Result<Vec<AdminAnswer>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(runtime.block_on(self.answer(actor, request)))
    }

    async fn status(&self) -> Result<Vec<AdminAnswer>, AdminFault> {
        let health = self.ask(|ledger, done| ledger.health(done)).await;
        let certificates = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
        let issued = self.ask(|ledger, done| ledger.count(certificates, done)).await;
        let status = LedgerStatus {
            healthy: health.is_ok(),
            fault: health.as_ref().err().map(|fault| fault.message.clone()),
            rows: health.as_ref().ok().map(|health| health.rows),
            room: health.as_ref().ok().and_then(|health| health.room),
            issued: issued.ok(),
            complete_since: self.ledger.complete_since().map(rfc3339),
        };
        Ok(vec![AdminAnswer::Status(status), AdminAnswer::Done { next: None }])
    }

    async fn list(
        &self,
        filter: ListFilter,
        after: Option<String>,
        rows_max: Option<usize>,
    ) -> Result<Vec<AdminAnswer>, AdminFault> {
        let after = after.as_deref().map(cursor).transpose()?;
        let rows_max = rows_max.unwrap_or(LISTING_ROWS_MAX).clamp(1, LISTING_ROWS_MAX);
        let listing = match self.filters(&filter)? {
            Filters::One(filter) => self.page(filter, after, rows_max).await?,
            Filters::OfDevices(common, devices) => self.merged(&common, devices, after, rows_max).await?,
        };
        let next = listing.next.map(|next| hex::encode(next.as_bytes()));
        let rows = listing.rows.iter().map(|row| AdminAnswer::Row(Box::new(CertificateRow::of(row))));
        Ok(rows.chain([AdminAnswer::Done { next }]).collect())
    }

    /// One page of relayed requests. A page of requests in other states has no row.
    async fn relayed(
        &self,
        state: Option<RelayedState>,
        after: Option<&str>,
        rows_max: Option<usize>,
    ) -> Result<Vec<AdminAnswer>, AdminFault> {
        let place = |text: &str| {
            text.parse().map(RelayId::new).map_err(|_| {
                AdminFault::bad_request(
                    format!("`{text}` is not a place in this list"),
                    "send the `next` of the page before",
                )
            })
        };
        let query = RelayQuery {
            after: after.map(place).transpose()?,
            rows_max: rows_max.unwrap_or(LISTING_ROWS_MAX),
            ..RelayQuery::default()
        };
        let Some(relayed) = &self.relayed else { return Ok(vec![AdminAnswer::Done { next: None }]) };
        let listing = wait(|done| relayed.relayed(query, done)).await?;
        let now = (self.clock)();
        let rows = listing.rows.iter().map(|entry| RelayedRow::of(entry, now));
        let rows = rows.filter(|row| state.is_none_or(|state| row.state == state));
        let rows = rows.map(|row| AdminAnswer::Relayed(Box::new(row)));
        let next = listing.next.map(|next| next.as_u64().to_string());
        Ok(rows.chain([AdminAnswer::Done { next }]).collect())
    }

    async fn page(&self, filter: RowFilter, after: Option<Cursor>, rows_max: usize) -> Result<Listing, AdminFault> {
        let query = ListQuery { filter, after, rows_max };
        self.ask(|ledger, done| ledger.list(query, done)).await
    }

    /// One page of the rows of several devices, in the order of the ledger. A row behind the end of a page is asked for again with the next one.
    async fn merged(
        &self,
        common: &RowFilter,
        devices: Vec<Device>,
        after: Option<Cursor>,
        rows_max: usize,
    ) -> Result<Listing, AdminFault> {
        let mut rows: Vec<LedgerEntry> = Vec::new();
        // The place up to which every device's rows are known.
        let mut end: Option<Cursor> = None;
        for device in devices {
            let filter = RowFilter { device: Some(device), ..common.clone() };
            let listing = self.page(filter, after, rows_max).await?;
            rows.extend(listing.rows);
            end = [end, listing.next].into_iter().flatten().min();
            rows.retain(|row| end.is_none_or(|end| row.cursor <= end));
            rows.sort_by_key(|row| row.cursor);
            if rows.len() > rows_max {
                rows.truncate(rows_max);
                end = rows.last().map(|row| row.cursor);
            }
        }
        Ok(Listing { rows, next: end })
    }

    fn filters(&self, wanted: &ListFilter) -> Result<Filters, AdminFault> {
        let time = |text: &Option<String>| {
            let time = text.as_deref().map(time_of).transpose();
            time.map_err(|fault| AdminFault::bad_request(fault, "give `expires_from` and `expires_before` such a time"))
        };
        let common = RowFilter {
            profile: wanted.profile.as_deref().map(Arc::from),
            state: wanted.state.map(RowState::from),
            expires_from: time(&wanted.expires_from)?,
            expires_before: time(&wanted.expires_before)?,
            ..RowFilter::default()
        };
        match &wanted.device {
            Some(device) => Ok(Filters::OfDevices(common, self.devices(device, wanted.manufacturer.as_deref())?)),
            None if wanted.manufacturer.is_some() => Err(AdminFault::bad_request(
                "a manufacturer without a device does not select rows",
                "give `device` as well",
            )),
            None => Ok(Filters::One(common)),
        }
    }

    /// The devices that an operator can mean by an identity. Most identities are kept folded; the serial number of a hardware module is not.
    fn devices(&self, id: &str, manufacturer: Option<&str>) -> Result<Vec<Device>, AdminFault> {
        let mut ids: Vec<DeviceId> =
            [id.to_owned(), pki::folded(id)].iter().filter_map(|id| DeviceId::new(id)).collect();
        ids.dedup();
        if ids.is_empty() {
            return Err(AdminFault::bad_request(
                "the identity of a device has 1 to 64 bytes and no control characters",
                "write it as the log and `muster cert list` show it",
            ));
        }
        let manufacturers = match manufacturer {
            None => (self.manufacturers)(),
            Some(digits) => self.manufacturers_named(digits)?,
        };
        let of = |manufacturer: AnchorId| ids.iter().map(move |id| Device { manufacturer, id: id.clone() });
        Ok(manufacturers.into_iter().flat_map(of).collect())
    }

    fn manufacturers_named(&self, digits: &str) -> Result<Vec<AnchorId>, AdminFault> {
        let digits = digits.to_ascii_lowercase();
        let octets = hex::decode(&digits).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
        if let Some(octets) = octets {
            return Ok(vec![AnchorId::from_bytes(octets)]);
        }
        let is_prefix =
            digits.len() >= MANUFACTURER_DIGITS_MIN && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let known = (self.manufacturers)();
        let meant: Vec<AnchorId> =
            known.into_iter().filter(|id| is_prefix && id.to_string().starts_with(&digits)).collect();
        if meant.is_empty() {
            return Err(AdminFault::bad_request(
                format!("`{digits}` is not the identity of a manufacturer in the configuration"),
                "give at least 8 of its hexadecimal digits, as the log and `muster cert show` show them; all 64 if the configuration does not name \
                 the manufacturer any more",
            ));
        }
        Ok(meant)
    }

    async fn show(&self, row: &RowName) -> Result<Vec<AdminAnswer>, AdminFault> {
        let named = vec![NamedRow::read(row)?];
        let rows = self.found(&named).await?;
        let rows = rows.iter().map(|row| AdminAnswer::Row(Box::new(CertificateRow::whole(row))));
        Ok(rows.chain([AdminAnswer::Done { next: None }]).collect())
    }

    async fn revoke(
        &self,
        actor: &Actor,
        rows: &[RowName],
        reason: &str,
        dry_run: bool,
    ) -> Result<Vec<AdminAnswer>, AdminFault> {
        let reason = revocation_reason(reason)
            .map_err(|fault| AdminFault::bad_request(fault, "give `reason` one of these names"))?;
        if rows.is_empty() || rows.len() > REVOKED_ROWS_MAX {
            return Err(AdminFault::bad_request(
                format!("the request has {} rows", rows.len()),
                format!("name between 1 and {REVOKED_ROWS_MAX} rows, and send several requests for more"),
            ));
        }
        let named = rows.iter().map(NamedRow::read).collect::<Result<Vec<_>, _>>()?;
        let before = self.found(&named).await?;
        let (outcomes, now) = if dry_run {
            let would = |row: &LedgerEntry| match row.revocation {
                Some(_) => RevocationOutcome::RevokedBefore,
                None => RevocationOutcome::WouldBeRevoked,
            };
            (before.iter().map(would).collect(), before)
        } else {
            let outcomes = self.write(actor, reason, &named, &before).await?;
            (outcomes, self.found(&named).await?)
        };
        let answers = outcomes.into_iter().zip(&now).map(|(outcome, row)| {
            AdminAnswer::Revocation(Box::new(RevocationAnswer { outcome, row: CertificateRow::of(row) }))
        });
        Ok(answers.chain([AdminAnswer::Done { next: None }]).collect())
    }

    async fn write(
        &self,
        actor: &Actor,
        reason: RevocationReason,
        named: &[NamedRow],
        rows: &[LedgerEntry],
    ) -> Result<Vec<RevocationOutcome>, AdminFault> {
        // A wrong clock stops no revocation. Ledger time: never before the latest row, whatever the clock says.
        let now = (self.clock)();
        let at = self.ledger.time().map_or(now, |latest| latest.max(now));
        let revocation = Revocation { reason, at, actor: actor.clone() };
        let batch = named.iter().map(|row| Revoke { row: row.locator.clone(), revocation: revocation.clone() });
        let batch: Vec<Revoke> = batch.collect();
        let revoked = self.ask(|ledger, done| ledger.revoke(batch, done)).await?;
        if revoked.len() != named.len() {
            return Err(ledger_fault(LedgerFault::Answer));
        }
        let mut outcomes = Vec::with_capacity(revoked.len());
        for ((revoked, row), named) in revoked.iter().zip(rows).zip(named) {
            outcomes.push(match revoked {
                Revoked::Now => {
                    let (serial, device) = (row.intent.serial, &row.intent.device.id);
                    tracing::info!(%serial, %device, %reason, %actor, "certificate revoked");
                    RevocationOutcome::Revoked
                }
                Revoked::Before(_) => RevocationOutcome::RevokedBefore,
                // The row was there a moment ago.
                Revoked::Unknown => return Err(unknown(&[named])),
            });
        }
        Ok(outcomes)
    }

    /// The rows that are named, all of them.
    async fn found(&self, named: &[NamedRow]) -> Result<Vec<LedgerEntry>, AdminFault> {
        let locators: Vec<Locator> = named.iter().map(|row| row.locator.clone()).collect();
        let found = self.ask(|ledger, done| ledger.find(locators, done)).await?;
        if found.len() != named.len() {
            return Err(ledger_fault(LedgerFault::Answer));
        }
        let missing: Vec<&NamedRow> =
            found.iter().zip(named).filter_map(|(row, named)| row.is_none().then_some(named)).collect();
        if missing.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(unknown(&missing)) }
    }

    /// Waits for the ledger, without blocking.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Ledger, Completion<Result<T, LedgerFault>>),
    ) -> Result<T, AdminFault> {
        wait(|done| call(&*self.ledger, done)).await
    }
}

impl std::fmt::Debug for AdminDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminDesk").finish_non_exhaustive()
    }
}

/// Waits for an answer of the ledger, without blocking.
async fn wait<T: Send + 'static>(call: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> Result<T, AdminFault> {
    let (sender, receiver) = oneshot::channel();
    // The receiver is gone after the timeout.
    call(Box::new(move |answer| drop(sender.send(answer))));
    match tokio::time::timeout(LEDGER_TIMEOUT, receiver).await {
        Ok(Ok(answer)) => answer.map_err(ledger_fault),
        // A completion that is dropped counts as a fault.
        Ok(Err(_)) => Err(ledger_fault(LedgerFault::Unavailable)),
        Err(_) => Err(AdminFault::new(
            AdminFaultCode::LedgerTimeout,
            format!("the ledger did not answer within {} s", LEDGER_TIMEOUT.as_secs()),
            "look at the log and the disk; asking again is safe, for a revocation too",
        )),
    }
}

/// What a list asks the ledger for.
enum Filters {
    One(RowFilter),
    /// The rows of each of these devices.
    OfDevices(RowFilter, Vec<Device>),
}

/// A row that a request names.
struct NamedRow {
    locator: Locator,
    /// Its serial number, for messages.
    serial: String,
}

impl NamedRow {
    fn read(name: &RowName) -> Result<Self, AdminFault> {
        match name {
            RowName::Serial(text) => {
                let serial = serial_number(text)
                    .map_err(|fault| AdminFault::bad_request(fault, "write it as `muster cert list` prints it"))?;
                Ok(Self { locator: Locator::Serial(serial), serial: serial.to_string() })
            }
            RowName::Certificate(text) => {
                let remedy = "send DER in base64";
                let der = BASE64.decode(text).map_err(|error| AdminFault::bad_request(error.to_string(), remedy))?;
                let certificate = Certificate::parse_as(&der, Encoding::AsIssued)
                    .map_err(|error| AdminFault::bad_request(format!("not a certificate: {error}"), remedy))?;
                let serial = hex::encode(certificate.serial());
                match Locator::of(&certificate) {
                    Some(locator) => Ok(Self { locator, serial }),
                    None => Err(AdminFault::new(
                        AdminFaultCode::UnknownRow,
                        format!("this server did not issue the certificate with the serial number {serial}"),
                        "the certificate of a manufacturer has no row: remove the manufacturer from its profile, or revoke what the device enrolled",
                    )),
                }
            }
        }
    }
}

/// Rows that a message names; further ones are counted.
const NAMED_MAX: usize = 8;

/// The first of `rows`, and how many further ones there are.
fn named(rows: &[impl ToString]) -> String {
    let mut names: Vec<String> = rows.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = rows.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

fn unknown(rows: &[&NamedRow]) -> AdminFault {
    let serials: Vec<&str> = rows.iter().map(|row| row.serial.as_str()).collect();
    AdminFault::new(
        AdminFaultCode::UnknownRow,
        format!("the ledger has no row of {}", named(&serials)),
        "nothing was changed; `muster cert list` shows the rows, and each CA and node has a ledger of its own",
    )
}

fn ledger_fault(fault: LedgerFault) -> AdminFault {
    AdminFault::new(
        AdminFaultCode::LedgerUnavailable,
        format!("the ledger: {fault}"),
        "the log of the server says why; ask again when the ledger works",
    )
}

fn cursor(text: &str) -> Result<Cursor, AdminFault> {
    let octets = hex::decode(text).ok().and_then(|octets| <[u8; 16]>::try_from(octets).ok());
    octets.map(Cursor::from_bytes).ok_or_else(|| {
        AdminFault::bad_request(
            format!("`{text}` is not a place in a list"),
            "send the `next` of the page before, or no `after`",
        )
    })
}

impl From<RowStateName> for RowState {
    fn from(name: RowStateName) -> Self {
        match name {
            RowStateName::Good => Self::Good,
            RowStateName::Revoked => Self::Revoked,
            RowStateName::Issued => Self::Issued,
            RowStateName::Abandoned => Self::Abandoned,
            RowStateName::Reserved => Self::Reserved,
        }
    }
}

#[cfg(test)]
mod tests;
