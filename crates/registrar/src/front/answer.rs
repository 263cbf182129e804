//! The answers of the front, as a shell sends them.

use std::time::Duration;

use est::Reason;
use hyper::body::Bytes;
use zeroize::Zeroizing;

use super::multipart::{self, CERTS_ONLY, FrontKey};
use crate::body::encode_body;
use crate::status::HttpStatus;

/// RFC 7030 §4.5.2.
pub(super) const CSR_ATTRIBUTES: &str = "application/csrattrs";
/// RFC 8951 §5: an error may have the type text/plain.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
#[derive(Clone, PartialEq, Eq)]
pub struct FrontAnswer {
    /// The status code.
    pub status: HttpStatus,
    /// The type of the body; `None` if there is none.
    pub content_type: Option<&'static str>,
    /// When the client may ask again: whole seconds, for the header Retry-After.
    pub retry_after: Option<u32>,
    /// The methods of the resource, for the header Allow.
    pub allow: Option<&'static str>,
    /// The body. It is wiped with its last copy if it holds a key.
    pub body: Bytes,
}

impl std::fmt::Debug for FrontAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, content_type, retry_after, allow: _, body } = self;
        let (status, bytes) = (status.as_u16(), body.len());
        f.debug_struct("FrontAnswer")
            .field("status", &status)
            .field("content_type", content_type)
            .field("retry_after", retry_after)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

impl FrontAnswer {
    /// A success with a body that is prepared.
    pub(super) const fn prepared(content_type: &'static str, body: Bytes) -> Self {
        let status = HttpStatus::new(200);
        Self { status, content_type: Some(content_type), retry_after: None, allow: None, body }
    }

    /// A certificate, "containing only the certificate that was issued" (RFC 7030 §4.2.3).
    #[must_use]
    pub fn certificate(certificate: &[u8]) -> Self {
        let body = encode_body(&pki::cms::certs_only(&[certificate]));
        Self::prepared(CERTS_ONLY, Bytes::from(body))
    }

    /// A key that was made for the client, and its certificate.
    #[must_use]
    pub fn key(key: FrontKey<'_>, certificate: &[u8]) -> Self {
        let body: Zeroizing<Vec<u8>> = multipart::encode(key, &pki::cms::certs_only(&[certificate]));
        Self::prepared(multipart::CONTENT_TYPE, Bytes::from_owner(body))
    }

    /// A refusal. Its text is the code of the reason, unless the profile tells clients nothing.
    #[must_use]
    pub fn refusal(reason: Reason, tells: bool) -> Self {
        let code = reason.response_code().unwrap_or(coap::Code::INTERNAL_SERVER_ERROR);
        let text = if tells { format!("{}\n", reason.code()) } else { String::new() };
        Self {
            status: HttpStatus::of_coap(code),
            content_type: tells.then_some(PLAIN_TEXT),
            retry_after: None,
            allow: None,
            body: Bytes::from(text),
        }
    }

    /// The same, for a request that may be repeated after this time. RFC 7030 §4.2.3: "If the server responds with an HTTP 202, this indicates that
    /// the request has been accepted for processing but that a response is not yet available. The server MUST include a Retry-After header". So a
    /// request that waits for somebody, for another one or for the upstream that accepted it is 202, and one that nobody has accepted 503.
    #[must_use]
    pub fn later(reason: Reason, tells: bool, wait: Duration) -> Self {
        let refusal = Self::refusal(reason, tells);
        let is_accepted = matches!(reason, Reason::DevicePending | Reason::InFlight | Reason::UpstreamAccepted);
        let status = if is_accepted { HttpStatus::new(202) } else { refusal.status };
        let seconds = u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX);
        Self { status, retry_after: Some(seconds), ..refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_accepted_and_what_has_no_room_is_unavailable() {
        let later = |reason| FrontAnswer::later(reason, true, Duration::from_secs(9));
        for (reason, status) in [
            (Reason::DevicePending, 202),
            (Reason::InFlight, 202),
            (Reason::UpstreamAccepted, 202),
            (Reason::UpstreamLater, 503),
            (Reason::AuthorityFull, 503),
            (Reason::LedgerUnavailable, 503),
            (Reason::DeviceOverLimit, 429),
        ] {
            let answer = later(reason);
            assert_eq!((answer.status.as_u16(), answer.retry_after), (status, Some(9)), "{reason}");
            assert_eq!(answer.body, format!("{reason}\n"));
        }
        assert_eq!(FrontAnswer::later(Reason::InFlight, true, Duration::ZERO).retry_after, Some(1), "never at once");
    }

    #[test]
    fn a_refusal_tells_its_code_or_nothing() {
        let told = FrontAnswer::refusal(Reason::SenSubjectMismatch, true);
        assert_eq!((told.status.as_u16(), told.content_type), (403, Some(PLAIN_TEXT)));
        assert_eq!(told.body, "est.sen.subject_mismatch\n");
        let silent = FrontAnswer::refusal(Reason::SenSubjectMismatch, false);
        assert_eq!((silent.status.as_u16(), silent.content_type, silent.body.len()), (403, None, 0));
        assert_eq!(FrontAnswer::refusal(Reason::HttpBodyTooLarge, true).status.as_u16(), 413);
    }

    #[test]
    fn no_answer_shows_its_body() {
        let answer = FrontAnswer::key(FrontKey::Pkcs8(&[0xa5; 8]), &[0x30, 0]);
        let shown = format!("{answer:?}");
        assert!(shown.contains("bytes") && !shown.contains("paWl"), "{shown}");
    }
}
