//! A row of the ledger as the schema has it.

use authority::{
    Function, LedgerEntry, Origin, RELAY_LIFETIME, RelayEntry, RelayStage, RelayedCertificate, Revocation, RowStage,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::UnixTime;

use super::protocol::{CertificateRow, RelayedCertificateRow, RelayedRow, RelayedState, RowRevocation};
use crate::rfc3339::rfc3339;

impl CertificateRow {
    /// The row without its certificate.
    pub(super) fn of(entry: &LedgerEntry) -> Self {
        let intent = &entry.intent;
        let is_revoked = entry.revocation.is_some();
        let (state, record) = match &entry.stage {
            RowStage::Reserved => ("reserved", None),
            RowStage::Abandoned => (if is_revoked { "abandoned, revoked" } else { "abandoned" }, None),
            RowStage::Issued(record) => (if is_revoked { "revoked" } else { "good" }, Some(record)),
        };
        let issued = record.map(|record| &record.issued);
        let validity = issued.map_or(intent.validity, |issued| issued.validity);
        Self {
            serial: intent.serial.to_string(),
            state: state.to_owned(),
            revocation: entry.revocation.as_ref().map(revocation),
            device: intent.device.id.to_string(),
            manufacturer: intent.device.manufacturer.to_string(),
            profile: intent.profile.to_string(),
            profile_version: intent.profile_version.to_string(),
            function: function_name(intent.function).to_owned(),
            subject: intent.subject.to_string(),
            not_before: rfc3339(validity.not_before),
            not_after: rfc3339(validity.not_after),
            requested_at: rfc3339(intent.at),
            issued_at: issued.map(|issued| rfc3339(issued.at)),
            repeats_until: record.map(|record| rfc3339(record.window.until)),
            peer: intent.peer.to_string(),
            vouched_by: match intent.vouched_by {
                Origin::Manufacturer => "manufacturer",
                Origin::ThisCa => "this_ca",
                Origin::Registrar => "registrar",
            }
            .to_owned(),
            ca: intent.ca.to_string(),
            anchor: intent.anchor.to_string(),
            certificate_sha256: issued.map(|issued| issued.digest.to_string()),
            client_sha256: intent.client.to_string(),
            factory_key_sha256: intent.factory_key.map(|digest| digest.to_string()),
            csr_sha256: intent.csr.to_string(),
            key_sha256: intent.spki.to_string(),
            names_sha256: intent.names.to_string(),
            to_be_signed_sha256: intent.to_be_signed.to_string(),
            request: hex::encode(intent.key().as_bytes()),
            certificate: None,
        }
    }

    /// The row with its certificate.
    pub(super) fn whole(entry: &LedgerEntry) -> Self {
        Self { certificate: entry.issued().map(|issued| BASE64.encode(&issued.certificate)), ..Self::of(entry) }
    }
}

impl RelayedRow {
    /// The row as it is at this time.
    pub(super) fn of(entry: &RelayEntry, now: UnixTime) -> Self {
        let of = &entry.request;
        let certificates = match &entry.stage {
            RelayStage::Recorded(held) => held.iter().map(RelayedCertificateRow::of).collect(),
            RelayStage::InFlight | RelayStage::Unresolved => Vec::new(),
        };
        Self {
            request: entry.id.as_u64(),
            state: relayed_state(entry, now),
            upstream: of.upstream.to_string(),
            attempts: entry.attempts,
            device: of.device.id.to_string(),
            manufacturer: of.device.manufacturer.to_string(),
            profile: of.profile.to_string(),
            function: function_name(of.function).to_owned(),
            requested_at: rfc3339(of.at),
            peer: of.peer.to_string(),
            client_sha256: of.client.to_string(),
            csr_sha256: of.csr.to_string(),
            certificates,
        }
    }
}

impl RelayedCertificateRow {
    fn of(of: &RelayedCertificate) -> Self {
        let issued = &of.record.issued;
        Self {
            upstream_serial: hex::encode(&of.record.serial),
            certificate_sha256: issued.digest.to_string(),
            not_before: rfc3339(issued.validity.not_before),
            not_after: rfc3339(issued.validity.not_after),
            recorded_at: rfc3339(issued.at),
            revocation: of.revocation.as_ref().map(revocation),
        }
    }
}

/// An attempt of which nothing was heard for its lifetime, for example over a crash, has an unknown end. So has a request that is tried again.
fn relayed_state(entry: &RelayEntry, now: UnixTime) -> RelayedState {
    let is_over = now.as_secs() >= entry.request.at.as_secs().saturating_add(RELAY_LIFETIME.as_secs());
    match &entry.stage {
        RelayStage::Recorded(_) => RelayedState::Recorded,
        RelayStage::InFlight if !is_over && entry.attempts <= 1 => RelayedState::InFlight,
        RelayStage::InFlight | RelayStage::Unresolved => RelayedState::Unresolved,
    }
}

/// As in the paths of EST-coaps (RFC 9148 §5.1).
const fn function_name(function: Function) -> &'static str {
    match function {
        Function::SimpleEnroll => "sen",
        Function::SimpleReenroll => "sren",
        Function::ServerKeygen => "skg",
    }
}

pub(super) fn revocation(of: &Revocation) -> RowRevocation {
    RowRevocation { reason: of.reason.name().to_owned(), at: rfc3339(of.at), actor: of.actor.to_string() }
}
