//! Whether certificates can be issued now, and why not: what `/readyz/issue` answers.
//!
//! `/readyz` is true while devices are admitted. It stays true when nothing can be issued, because `/crts` is served and a device that is told to come
//! back later must be able to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authority::{Ca, Ledger};
use rustls_pki_types::UnixTime;

use super::clock::IssuanceClock;
use super::control::{Control, Phase};
use super::snapshot::Snapshot;
use crate::metrics::ClockReading;
use crate::rfc3339::rfc3339;

/// What an issuance needs, as far as it can be known without one.
pub(super) struct IssueReadiness {
    pub(super) control: Arc<Control>,
    pub(super) clock: Arc<IssuanceClock>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
}

impl IssueReadiness {
    /// What it needs of the parts of a server.
    pub(super) fn of(
        control: &Arc<Control>,
        clock: &Arc<IssuanceClock>,
        ledger: &Arc<dyn Ledger>,
        snapshot: &Arc<ArcSwap<Snapshot>>,
    ) -> Arc<Self> {
        let (control, clock) = (Arc::clone(control), Arc::clone(clock));
        Arc::new(Self { control, clock, ledger: Arc::clone(ledger), snapshot: Arc::clone(snapshot) })
    }

    /// How wrong the clock is.
    pub(super) fn clock(&self, utc: UnixTime) -> ClockReading {
        let latest = self.ledger.time().unwrap_or(utc);
        ClockReading {
            behind_ledger_seconds: latest.as_secs().saturating_sub(utc.as_secs()),
            ahead_seconds: self.clock.ahead(utc).as_secs(),
        }
    }

    /// What an operator should know although certificates are issued, one sentence each; or the reason why none is.
    pub(super) fn check(&self, utc: UnixTime) -> Result<Vec<String>, String> {
        if let Some(breakdown) = self.control.breakdown() {
            return Err(breakdown.to_string());
        }
        match self.control.phase() {
            Phase::Starting => return Err("the server is starting".to_owned()),
            Phase::Serving => {}
            Phase::Draining | Phase::Stopping => return Err("the server is draining".to_owned()),
        }
        if let Some(fault) = self.ledger.writes().fault {
            return Err(fault);
        }
        self.clock.check_with(utc, self.ledger.time()).map_err(|why| why.to_string())?;
        of_authorities(&self.snapshot.load().issuers, utc)
    }
}

/// One CA that can issue is enough: the profiles of the others answer 5.03.
fn of_authorities(issuers: &[Arc<Ca>], utc: UnixTime) -> Result<Vec<String>, String> {
    let outside: Vec<String> = issuers.iter().filter_map(|ca| outside_validity(ca, utc)).collect();
    if outside.len() == issuers.len() { Err(outside.join("; ")) } else { Ok(outside) }
}

fn outside_validity(ca: &Ca, utc: UnixTime) -> Option<String> {
    let validity = ca.validity();
    if validity.contains(utc) {
        return None;
    }
    let name = ca.name();
    Some(if utc < validity.not_before {
        format!("the chain of the CA `{name}` is not valid before {}", rfc3339(validity.not_before))
    } else {
        format!("the chain of the CA `{name}` expired on {}", rfc3339(validity.not_after))
    })
}
