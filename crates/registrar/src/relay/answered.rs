//! What an upstream's answer means for the device that waits, and for the row of its request.

use std::sync::Arc;
use std::time::Duration;

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
        let wait = retry_after(answer.retry_after.as_deref(), at);
        match answer.status {
            200 => match certificate(answer, permit, at, random) {
                Ok((certificate, made)) => Self::Certificate(Box::new(certificate), made),
                // The status says that it issued, so another upstream would issue a second certificate.
                Err(flaw) => Self::Flawed(flaw, RelayEnd::Unknown),
            },
            // RFC 7030 §4.2.3: "The client MUST wait at least the specified 'Retry-After' time before repeating the same request": the
            // upstream has it, and no other does.
            202 => Self::Later(UpstreamBusy::Accepted { wait }, RelayEnd::Unknown),
            status => Self::by_table(status, wait, answer.retry_after.is_some()),
        }
    }

    /// By the one table of status codes. A failure inside the upstream or in front of it may come after the certificate was issued.
    fn by_table(status: u16, wait: Duration, names_a_time: bool) -> Self {
        let refusal = match HttpStatus::new(status).to_coap() {
            Code::UNAUTHORIZED => UpstreamRefusal::Unauthorized,
            Code::FORBIDDEN => UpstreamRefusal::Forbidden,
            Code::NOT_FOUND => UpstreamRefusal::NotFound,
            Code::BAD_REQUEST => UpstreamRefusal::BadRequest,
            Code::METHOD_NOT_ALLOWED => UpstreamRefusal::MethodNotAllowed,
            Code::NOT_ACCEPTABLE => UpstreamRefusal::NotAcceptable,
            Code::PRECONDITION_FAILED => UpstreamRefusal::PreconditionFailed,
            Code::REQUEST_ENTITY_TOO_LARGE => UpstreamRefusal::TooLarge,
            Code::UNSUPPORTED_CONTENT_FORMAT => UpstreamRefusal::UnsupportedType,
            // RFC 6585 §4 and RFC 8516: who asks too often is told when to ask again.
            Code::TOO_MANY_REQUESTS => return Self::Later(UpstreamBusy::TooMany { wait }, RelayEnd::Refused),
            // Who names a time has not taken the request. A 503 without one may be that of a proxy whose connection to the CA broke after it had passed
            // the request on.
            Code::SERVICE_UNAVAILABLE => {
                let end = if names_a_time { RelayEnd::Refused } else { RelayEnd::Unknown };
                return Self::Later(UpstreamBusy::Later { wait }, end);
            }
            Code::INTERNAL_SERVER_ERROR => return Self::Refused(UpstreamRefusal::Failed, RelayEnd::Unknown),
            Code::GATEWAY_TIMEOUT => return Self::Refused(UpstreamRefusal::TimedOut, RelayEnd::Unknown),
            Code::NOT_IMPLEMENTED => UpstreamRefusal::NotImplemented,
            _ if status / 100 == 5 => return Self::Flawed(UpstreamAnswerFlaw::Status, RelayEnd::Unknown),
            _ => return Self::Flawed(UpstreamAnswerFlaw::Status, RelayEnd::Refused),
        };
        Self::Refused(refusal, RelayEnd::Refused)
    }
}
