//! The one table of HTTP status codes and CoAP response codes (RFC 9148 §4.5 and §5, RFC 8075 §7).

use coap::Code;

/// A status code of HTTP that has a row in the table, or stands for its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpStatus(u16);

/// Status code of HTTP, response code of CoAP. The first row with a code is its translation in each direction.
///
/// RFC 9148 §4.5: 200 becomes 2.05 for a GET and 2.04 for a POST; 202 and 503 become 5.03, because CoAP has no "accepted": the client repeats its
/// request after Max-Age. The other rows are those of RFC 8075 §7, table 2.
pub(crate) const TABLE: &[(u16, Code)] = &[
    (200, Code::CHANGED),
    (200, Code::CONTENT),
    (400, Code::BAD_REQUEST),
    (401, Code::UNAUTHORIZED),
    (403, Code::FORBIDDEN),
    (404, Code::NOT_FOUND),
    (405, Code::METHOD_NOT_ALLOWED),
    (406, Code::NOT_ACCEPTABLE),
    (400, Code::BAD_OPTION),
    (400, Code::REQUEST_ENTITY_INCOMPLETE),
    (412, Code::PRECONDITION_FAILED),
    (413, Code::REQUEST_ENTITY_TOO_LARGE),
    (415, Code::UNSUPPORTED_CONTENT_FORMAT),
    (429, Code::TOO_MANY_REQUESTS),
    (500, Code::INTERNAL_SERVER_ERROR),
    (501, Code::NOT_IMPLEMENTED),
    (502, Code::BAD_GATEWAY),
    (503, Code::SERVICE_UNAVAILABLE),
    (202, Code::SERVICE_UNAVAILABLE),
    (504, Code::GATEWAY_TIMEOUT),
    (502, Code::PROXYING_NOT_SUPPORTED),
];

impl HttpStatus {
    /// A status code as received.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self(status)
    }

    /// The status code.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// What a Registrar answers to its device for this status of a POST. A status without a row is that of its class: RFC 9110 §15, "a client MUST
    /// understand the class of any status code"; a redirect or an informational answer is none that can be passed on.
    #[must_use]
    pub fn to_coap(self) -> Code {
        match TABLE.iter().find(|(http, _)| *http == self.0) {
            Some((_, code)) => *code,
            None if self.0 / 100 == 4 => Code::BAD_REQUEST,
            None => Code::BAD_GATEWAY,
        }
    }

    /// The status of the HTTPS front for what the CoAP server answers with this code.
    #[must_use]
    pub fn of_coap(code: Code) -> Self {
        match TABLE.iter().find(|(_, coap)| *coap == code) {
            Some((http, _)) => Self(*http),
            None if code.class() == 4 => Self(400),
            None => Self(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_rfc_9148_becomes_its_code_and_comes_back() {
        for (status, code) in [
            (400, Code::BAD_REQUEST),
            (401, Code::UNAUTHORIZED),
            (403, Code::FORBIDDEN),
            (404, Code::NOT_FOUND),
            (405, Code::METHOD_NOT_ALLOWED),
            (406, Code::NOT_ACCEPTABLE),
            (412, Code::PRECONDITION_FAILED),
            (413, Code::REQUEST_ENTITY_TOO_LARGE),
            (415, Code::UNSUPPORTED_CONTENT_FORMAT),
            (500, Code::INTERNAL_SERVER_ERROR),
            (501, Code::NOT_IMPLEMENTED),
            (502, Code::BAD_GATEWAY),
            (503, Code::SERVICE_UNAVAILABLE),
            (504, Code::GATEWAY_TIMEOUT),
        ] {
            assert_eq!(HttpStatus::new(status).to_coap(), code);
            assert_eq!(HttpStatus::of_coap(code).as_u16(), status);
        }
        assert_eq!(HttpStatus::new(202).to_coap(), Code::SERVICE_UNAVAILABLE, "accepted, come again");
        assert_eq!(HttpStatus::new(200).to_coap(), Code::CHANGED, "of a POST");
        assert_eq!(HttpStatus::of_coap(Code::CONTENT).as_u16(), 200, "of a GET");
    }

    #[test]
    fn what_the_table_does_not_know_is_its_class() {
        for (status, code) in [(410, Code::BAD_REQUEST), (302, Code::BAD_GATEWAY), (100, Code::BAD_GATEWAY)] {
            assert_eq!(HttpStatus::new(status).to_coap(), code);
        }
        for (status, code) in [(599, Code::BAD_GATEWAY), (999, Code::BAD_GATEWAY), (0, Code::BAD_GATEWAY)] {
            assert_eq!(HttpStatus::new(status).to_coap(), code);
        }
    }
}
