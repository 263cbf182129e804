//! Asks an upstream that rests for its CA certificates, while another one serves the devices.
//!
//! An upstream that could not be reached is tried by a request: if it still cannot be, nothing was sent, and the request goes to the next one. One that
//! took requests and did not serve them would keep the request that tries it, because what is unknown never goes to another upstream. So it is asked for
//! something harmless first.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::upstream::{UpstreamOperation, UpstreamRequest};
use super::{RelaySubmission, after};

impl RelaySubmission {
    /// Asks the upstream whose turn it is, if one is.
    pub(super) fn probe(&self, label: Option<&str>, at: UnixTime) {
        let pool = Arc::clone(&self.parts().pool);
        let Some((upstream, began)) = pool.probe(at) else { return };
        let Some(name) = pool.name(upstream).cloned() else { return };
        let operation = UpstreamOperation::CaCertificates;
        let request = UpstreamRequest { upstream: name, operation, label: label.map(Arc::from), csr: Vec::new() };
        let probed =
            move |reply: super::UpstreamReply| pool.probed(upstream, began, after(at, reply.took), &reply.answer);
        self.parts().upstream.send(request, Box::new(probed));
    }
}
