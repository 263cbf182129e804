//! What a Registrar asks of the ledger: the same writer, readers and queues as for a CA.

use authority::{
    Begun, Completion, LedgerFault, LedgerHealth, RelayEnd, RelayHolder, RelayId, RelayLedger, RelayListing,
    RelayQuery, RelayRecord, RelayRequest, Relayed, Revocation, Revoked,
};
use crashpoint::Step;
use pki::Digest;

use super::reader::Question;
use super::writer::Write;
use super::{Shared, SqliteLedger};

impl RelayLedger for SqliteLedger {
    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>) {
        self.shared.write(Write::RelayBegin(requests, done));
        crashpoint::passed(Step::IntentQueued);
    }

    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>) {
        crashpoint::passed(Step::Signed);
        self.shared.write(Write::RelayRecord(certificates, done));
        crashpoint::passed(Step::RecordQueued);
    }

    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>) {
        self.shared.write(Write::RelayEnd(exchanges));
    }

    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>) {
        Shared::ask(&self.shared.points, Question::RelayHolders(certificates, done));
    }

    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    ) {
        self.shared.write(Write::RelayRevoke(certificates, done));
    }

    fn delivered(&self, certificates: Vec<Digest>) {
        self.shared.deliveries.add(Vec::new(), certificates);
    }

    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>) {
        Shared::ask(&self.shared.scans, Question::Relayed(query, done));
    }

    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        if let Some(fault) = self.shared.write_fault() {
            return done(Err(fault));
        }
        let health = move |rows: Result<u64, LedgerFault>| done(rows.map(|rows| LedgerHealth { rows, room: None }));
        Shared::ask(&self.shared.scans, Question::RelayRows(Box::new(health)));
    }
}
