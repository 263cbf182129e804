//! Marks what a Registrar relayed as revoked, and closes requests whose end is unknown.

use std::sync::Arc;

use authority::{
    Actor, LedgerFault, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger, RelayQuery, Revocation, Revoked, State,
};
use pki::Digest;

use super::{AdminDesk, ledger_fault, named, wait};
use crate::admin::protocol::{
    AdminAnswer, AdminFault, AdminFaultCode, REVOKED_ROWS_MAX, RelayedRevocationAnswer, RelayedRow, RelayedState,
    RevocationOutcome, revocation_reason,
};
use crate::admin::row::revocation as row_revocation;
use crate::rfc3339::rfc3339;

impl AdminDesk {
    pub(super) async fn revoke_relayed(
        &self,
        actor: &Actor,
        certificates: &[String],
        reason: &str,
        dry_run: bool,
    ) -> Result<Vec<AdminAnswer>, AdminFault> {
        let reason = revocation_reason(reason)
            .map_err(|fault| AdminFault::bad_request(fault, "give `reason` one of these names"))?;
        if certificates.is_empty() || certificates.len() > REVOKED_ROWS_MAX {
            return Err(AdminFault::bad_request(
                format!("the request has {} certificates", certificates.len()),
                format!("name between 1 and {REVOKED_ROWS_MAX} certificates, and send several requests for more"),
            ));
        }
        let digests = certificates.iter().map(|text| digest(text)).collect::<Result<Vec<_>, _>>()?;
        let Some(relayed) = self.relayed.as_ref() else { return Err(unknown(&digests)) };
        let before = found(relayed, &digests).await?;
        let (outcomes, now) = if dry_run {
            let would = |holder: &RelayHolder| match holder.state {
                State::Revoked(_) => RevocationOutcome::RevokedBefore,
                _ => RevocationOutcome::WouldBeRevoked,
            };
            (before.iter().map(would).collect(), before)
        } else {
            // As for a row of the CA: a wrong clock stops no revocation, and none is dated before the latest row.
            let now = (self.clock)();
            let at = self.ledger.time().map_or(now, |latest| latest.max(now));
            let revocation = Revocation { reason, at, actor: actor.clone() };
            let outcomes = mark(relayed, &digests, &before, &revocation).await?;
            (outcomes, found(relayed, &digests).await?)
        };
        let answers = outcomes.into_iter().zip(digests.iter().zip(&now)).map(|(outcome, (digest, holder))| {
            AdminAnswer::RelayedRevocation(Box::new(RelayedRevocationAnswer {
                outcome,
                certificate_sha256: digest.to_string(),
                device: holder.device.id.as_str().to_owned(),
                profile: holder.profile.to_string(),
                not_after: rfc3339(holder.validity.not_after),
                revocation: match &holder.state {
                    State::Revoked(revocation) => Some(row_revocation(revocation)),
                    _ => None,
                },
            }))
        });
        Ok(answers.chain([AdminAnswer::Done { next: None }]).collect())
    }

    /// Closes requests whose end is unknown.
    pub(super) async fn close_relayed(
        &self,
        actor: &Actor,
        requests: &[u64],
        dry_run: bool,
    ) -> Result<Vec<AdminAnswer>, AdminFault> {
        if requests.is_empty() || requests.len() > REVOKED_ROWS_MAX {
            return Err(AdminFault::bad_request(
                format!("the request has {} numbers", requests.len()),
                format!("name between 1 and {REVOKED_ROWS_MAX} relayed requests, and send several requests for more"),
            ));
        }
        let Some(relayed) = self.relayed.as_ref() else { return Err(not_open(requests)) };
        let (mut open, mut others) = (Vec::new(), Vec::new());
        for request in requests {
            let entry = entry(relayed, *request).await?.map(|entry| RelayedRow::of(&entry, (self.clock)()));
            match entry.filter(|row| row.state == RelayedState::Unresolved) {
                Some(row) => open.push(row),
                None => others.push(*request),
            }
        }
        if !others.is_empty() {
            return Err(not_open(&others));
        }
        if !dry_run {
            relayed.end(requests.iter().map(|request| (RelayId::new(*request), RelayEnd::Refused)).collect());
            // An end has no answer, but calls take effect in their order: this one comes after it.
            wait(|done| relayed.mark_revoked(Vec::new(), done)).await?;
            for RelayedRow { request, device, upstream, .. } in &open {
                if entry(relayed, *request).await?.is_some() {
                    return Err(ledger_fault(LedgerFault::Answer));
                }
                tracing::warn!(request, %device, %upstream, %actor, "relayed request closed: its upstream may have issued a certificate");
            }
        }
        let rows = open.into_iter().map(|row| AdminAnswer::Relayed(Box::new(row)));
        Ok(rows.chain([AdminAnswer::Done { next: None }]).collect())
    }
}

/// The row of this number.
async fn entry(relayed: &Arc<dyn RelayLedger>, request: u64) -> Result<Option<RelayEntry>, AdminFault> {
    let query = RelayQuery { after: request.checked_sub(1).map(RelayId::new), rows_max: 1, ..RelayQuery::default() };
    let listing = wait(|done| relayed.relayed(query, done)).await?;
    Ok(listing.rows.into_iter().find(|entry| entry.id.as_u64() == request))
}

fn not_open(requests: &[u64]) -> AdminFault {
    AdminFault::new(
        AdminFaultCode::UnknownRow,
        format!("no relayed request whose end is unknown has the number {}", named(requests)),
        "nothing was changed; `muster cert relayed --state unresolved` shows the requests whose end is unknown",
    )
}

fn digest(text: &str) -> Result<Digest, AdminFault> {
    let octets = hex::decode(text).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    octets.map(Digest::from_bytes).ok_or_else(|| {
        AdminFault::bad_request(
            format!("`{text}` is not the SHA-256 of a certificate"),
            "give the `certificate_sha256` that `muster cert relayed --json` shows",
        )
    })
}

/// The holders of these certificates, all of them.
async fn found(relayed: &Arc<dyn RelayLedger>, digests: &[Digest]) -> Result<Vec<RelayHolder>, AdminFault> {
    let holders = wait(|done| relayed.holders(digests.to_vec(), done)).await?;
    if holders.len() != digests.len() {
        return Err(ledger_fault(LedgerFault::Answer));
    }
    let missing = holders.iter().zip(digests).filter_map(|(holder, digest)| holder.is_none().then_some(*digest));
    let missing: Vec<Digest> = missing.collect();
    if missing.is_empty() { Ok(holders.into_iter().flatten().collect()) } else { Err(unknown(&missing)) }
}

async fn mark(
    relayed: &Arc<dyn RelayLedger>,
    digests: &[Digest],
    holders: &[RelayHolder],
    revocation: &Revocation,
) -> Result<Vec<RevocationOutcome>, AdminFault> {
    let marks = digests.iter().map(|digest| (*digest, revocation.clone())).collect();
    let marked = wait(|done| relayed.mark_revoked(marks, done)).await?;
    if marked.len() != digests.len() {
        return Err(ledger_fault(LedgerFault::Answer));
    }
    let mut outcomes = Vec::with_capacity(marked.len());
    for ((marked, digest), holder) in marked.iter().zip(digests).zip(holders) {
        outcomes.push(match marked {
            Revoked::Now => {
                let (device, Revocation { reason, actor, .. }) = (&holder.device.id, revocation);
                tracing::info!(certificate = %digest, %device, %reason, %actor, "relayed certificate revoked");
                RevocationOutcome::Revoked
            }
            Revoked::Before(_) => RevocationOutcome::RevokedBefore,
            // It was there a moment ago.
            Revoked::Unknown => return Err(unknown(&[*digest])),
        });
    }
    Ok(outcomes)
}

fn unknown(digests: &[Digest]) -> AdminFault {
    AdminFault::new(
        AdminFaultCode::UnknownRow,
        format!("no certificate that was relayed has the SHA-256 {}", named(digests)),
        "nothing was changed; `muster cert relayed` shows what was relayed",
    )
}
