//! What an upstream's answer means for the device that waits, and for the row of its request.

use std::sync::Arc;

use authority::{MadeKey, Random, RelayEnd, RelayPermit, UpstreamAnswerFlaw, UpstreamBusy, UpstreamRefusal};
use coap::Code;
use pki::Certificate;
use rustls_pki_types::UnixTime;

use super::checked::certificate;
use super::retry_after::retry_after;
use super::upstream::HttpAnswer;
use crate::status::HttpStatus;

/// What an upstream's answer is for the device, and how it ends the exchange.
pub(super) enum Answered {
    /// A certificate that can be passed on, and its private key if it was made for the device.
    Certificate(Box<Certificate>, Option<Arc<MadeKey>>),
    Refused(UpstreamRefusal, RelayEnd),
    Later(UpstreamBusy, RelayEnd),
    Flawed(UpstreamAnswerFlaw, RelayEnd),
}

impl Answered {
    pub(super) fn read(answer: &HttpAnswer, permit: &RelayPermit, at: UnixTime, random: &dyn Random) -> Self {
        let later = || UpstreamBusy::Later { wait: retry_after(answer.retry_after.as_deref(), at) };
        match answer.status {
            200 => match certificate(answer, permit, at, random) {
                Ok((certificate, made)) => Self::Certificate(Box::new(certificate), made),
                Err(flaw) => Self::Flawed(flaw, RelayEnd::Refused),
            },
            // RFC 7030 §4.2.3: "The client MUST wait at least the specified 'Retry-After' time before repeating the same request": the
            // upstream has it, and no other does.
            202 => Self::Later(later(), RelayEnd::Unknown),
            // The Registrar asks too often, not this device.
            429 | 503 => Self::Later(later(), RelayEnd::Refused),
            status => Self::refused(status),
        }
    }

    /// By the one table of status codes. A failure inside the upstream or in front of it may come after the certificate was issued.
    fn refused(status: u16) -> Self {
        let refusal = match HttpStatus::new(status).to_coap() {
            Code::UNAUTHORIZED => UpstreamRefusal::Unauthorized,
            Code::FORBIDDEN => UpstreamRefusal::Forbidden,
            Code::NOT_FOUND => UpstreamRefusal::NotFound,
            Code::BAD_REQUEST => UpstreamRefusal::BadRequest,
            Code::INTERNAL_SERVER_ERROR => return Self::Refused(UpstreamRefusal::Failed, RelayEnd::Unknown),
            Code::GATEWAY_TIMEOUT => return Self::Refused(UpstreamRefusal::TimedOut, RelayEnd::Unknown),
            Code::NOT_IMPLEMENTED => UpstreamRefusal::NotImplemented,
            _ if status / 100 == 5 => return Self::Flawed(UpstreamAnswerFlaw::Status, RelayEnd::Unknown),
            _ => return Self::Flawed(UpstreamAnswerFlaw::Status, RelayEnd::Refused),
        };
        Self::Refused(refusal, RelayEnd::Refused)
    }
}
