//! The part of a dry run that plays a Registrar's surroundings: an upstream CA that nothing is sent to, and a relay's ledger that knows one holder.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use authority::{
    Begun, Completion, LedgerFault, LedgerHealth, MemoryRelayLedger, RelayEnd, RelayHolder, RelayId, RelayLedger,
    RelayListing, RelayQuery, RelayRecord, RelayRequest, Relayed, Revocation, Revoked,
};
use pki::Digest;
use registrar::relay::{Upstream, UpstreamFailure, UpstreamReply, UpstreamRequest};

/// Keeps the request that it is asked to send, and sends nothing.
#[derive(Default)]
pub(super) struct KeptRequest(Mutex<Option<UpstreamRequest>>);

impl KeptRequest {
    /// What would have been sent.
    pub(super) fn take(&self) -> Option<UpstreamRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Upstream for KeptRequest {
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        done(UpstreamReply { took: Duration::ZERO, answer: Err(UpstreamFailure::Unknown) });
    }
}

/// A relay's ledger that knows one certificate: that of the client, if an upstream CA of the profile issued it.
pub(super) struct AssumedRelayLedger {
    pub(super) inner: MemoryRelayLedger,
    pub(super) holder: Option<RelayHolder>,
}

impl RelayLedger for AssumedRelayLedger {
    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>) {
        done(Ok(certificates.iter().map(|_| self.holder.clone()).collect()));
    }

    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>) {
        self.inner.begin(requests, done);
    }

    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>) {
        self.inner.record(certificates, done);
    }

    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>) {
        self.inner.end(exchanges);
    }

    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    ) {
        self.inner.mark_revoked(certificates, done);
    }

    fn delivered(&self, certificates: Vec<Digest>) {
        self.inner.delivered(certificates);
    }

    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>) {
        self.inner.relayed(query, done);
    }

    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.inner.relay_health(done);
    }
}

/// The path of the request, for people: the upstream's URL, the label and the function.
pub(super) fn target(request: &UpstreamRequest) -> String {
    let label = request.label.as_ref().map_or(String::new(), |label| format!("/{label}"));
    format!("{}{label}/{}", request.upstream, request.operation.segment())
}
