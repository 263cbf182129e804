//! A row of the ledger as the schema has it.

use authority::{Function, LedgerEntry, Origin, Revocation, RowStage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::protocol::{CertificateRow, RowRevocation};
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
            function: match intent.function {
                Function::SimpleEnroll => "sen",
                Function::SimpleReenroll => "sren",
                Function::ServerKeygen => "skg",
            }
            .to_owned(),
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

fn revocation(of: &Revocation) -> RowRevocation {
    RowRevocation { reason: of.reason.name().to_owned(), at: rfc3339(of.at), actor: of.actor.to_string() }
}
