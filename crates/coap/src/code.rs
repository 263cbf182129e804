//! Codes: methods and response codes (RFC 7252 §12.1).

use std::fmt;

/// The code of a message: a class of three bits and a detail of five (RFC 7252 §3), written `c.dd`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u8);

impl Code {
    /// 0.00: an empty message.
    pub const EMPTY: Self = Self(0);
    /// 2.01 Created.
    pub const CREATED: Self = Self::new(2, 1);
    /// 2.02 Deleted.
    pub const DELETED: Self = Self::new(2, 2);
    /// 2.03 Valid.
    pub const VALID: Self = Self::new(2, 3);
    /// 2.04 Changed.
    pub const CHANGED: Self = Self::new(2, 4);
    /// 2.05 Content.
    pub const CONTENT: Self = Self::new(2, 5);
    /// 2.31 Continue (RFC 7959 §2.9.1).
    pub const CONTINUE: Self = Self::new(2, 31);
    /// 4.00 Bad Request.
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    /// 4.01 Unauthorized.
    pub const UNAUTHORIZED: Self = Self::new(4, 1);
    /// 4.02 Bad Option.
    pub const BAD_OPTION: Self = Self::new(4, 2);
    /// 4.03 Forbidden.
    pub const FORBIDDEN: Self = Self::new(4, 3);
    /// 4.04 Not Found.
    pub const NOT_FOUND: Self = Self::new(4, 4);
    /// 4.05 Method Not Allowed.
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    /// 4.06 Not Acceptable.
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    /// 4.08 Request Entity Incomplete (RFC 7959 §2.9.2).
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    /// 4.12 Precondition Failed.
    pub const PRECONDITION_FAILED: Self = Self::new(4, 12);
    /// 4.13 Request Entity Too Large.
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    /// 4.15 Unsupported Content-Format.
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    /// 4.29 Too Many Requests (RFC 8516).
    pub const TOO_MANY_REQUESTS: Self = Self::new(4, 29);
    /// 5.00 Internal Server Error.
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);
    /// 5.01 Not Implemented.
    pub const NOT_IMPLEMENTED: Self = Self::new(5, 1);
    /// 5.02 Bad Gateway.
    pub const BAD_GATEWAY: Self = Self::new(5, 2);
    /// 5.03 Service Unavailable.
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);
    /// 5.04 Gateway Timeout.
    pub const GATEWAY_TIMEOUT: Self = Self::new(5, 4);
    /// 5.05 Proxying Not Supported.
    pub const PROXYING_NOT_SUPPORTED: Self = Self::new(5, 5);

    /// `class` is 0 to 7, `detail` 0 to 31; higher bits are cut off.
    #[must_use]
    pub const fn new(class: u8, detail: u8) -> Self {
        Self((class & 7) << 5 | detail & 31)
    }

    /// From the byte on the wire.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The class, 0 to 7.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The detail, 0 to 31.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 31
    }

    /// Class 0 but not 0.00.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// Classes 2, 4 and 5; the others are reserved (RFC 7252 §12.1).
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Class 2.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }

    /// Classes 4 and 5.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self.class(), 4 | 5)
    }

    /// The registered name, such as `Content`; `None` if it is not known here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match (self.class(), self.detail()) {
            (0, 0) => "Empty",
            (0, 1) => "GET",
            (0, 2) => "POST",
            (0, 3) => "PUT",
            (0, 4) => "DELETE",
            (0, 5) => "FETCH",
            (0, 6) => "PATCH",
            (0, 7) => "iPATCH",
            (2, 1) => "Created",
            (2, 2) => "Deleted",
            (2, 3) => "Valid",
            (2, 4) => "Changed",
            (2, 5) => "Content",
            (2, 31) => "Continue",
            (4, 0) => "Bad Request",
            (4, 1) => "Unauthorized",
            (4, 2) => "Bad Option",
            (4, 3) => "Forbidden",
            (4, 4) => "Not Found",
            (4, 5) => "Method Not Allowed",
            (4, 6) => "Not Acceptable",
            (4, 8) => "Request Entity Incomplete",
            (4, 9) => "Conflict",
            (4, 12) => "Precondition Failed",
            (4, 13) => "Request Entity Too Large",
            (4, 15) => "Unsupported Content-Format",
            (4, 22) => "Unprocessable Entity",
            (4, 29) => "Too Many Requests",
            (5, 0) => "Internal Server Error",
            (5, 1) => "Not Implemented",
            (5, 2) => "Bad Gateway",
            (5, 3) => "Service Unavailable",
            (5, 4) => "Gateway Timeout",
            (5, 5) => "Proxying Not Supported",
            (5, 8) => "Hop Limit Reached",
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{self} {name}"),
            None => write!(f, "{self}"),
        }
    }
}

/// A request method (RFC 7252 §5.8, RFC 8132).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// 0.01
    Get = 1,
    /// 0.02
    Post = 2,
    /// 0.03
    Put = 3,
    /// 0.04
    Delete = 4,
    /// 0.05 (RFC 8132)
    Fetch = 5,
    /// 0.06 (RFC 8132)
    Patch = 6,
    /// 0.07 (RFC 8132)
    IPatch = 7,
}

impl Method {
    /// The method of a request code; `None` for an unknown one, which is answered with 4.05 (RFC 7252 §5.8).
    #[must_use]
    pub const fn from_code(code: Code) -> Option<Self> {
        Some(match code.byte() {
            1 => Self::Get,
            2 => Self::Post,
            3 => Self::Put,
            4 => Self::Delete,
            5 => Self::Fetch,
            6 => Self::Patch,
            7 => Self::IPatch,
            _ => return None,
        })
    }

    /// Whether a payload is defined for the method. If not, "the recipient MUST ignore it" (RFC 7252 §5.5).
    #[must_use]
    pub const fn has_payload(self) -> bool {
        match self {
            Self::Post | Self::Put | Self::Fetch | Self::Patch | Self::IPatch => true,
            Self::Get | Self::Delete => false,
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> Code {
        Code(self as u8)
    }

    /// As written in traces: `GET`, `POST`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Fetch => "FETCH",
            Self::Patch => "PATCH",
            Self::IPatch => "iPATCH",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_class_and_detail() {
        assert_eq!(Code::CONTENT.byte(), 0x45);
        assert_eq!(Code::CONTINUE.byte(), 0x5f);
        assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE.to_string(), "4.13");
        assert!(Code::from_byte(0x01).is_request());
        assert!(!Code::from_byte(0xc1).is_response(), "class 6 is reserved");
    }

    #[test]
    fn methods_and_codes_are_one_table() {
        for byte in 0..=255 {
            let code = Code::from_byte(byte);
            if let Some(method) = Method::from_code(code) {
                assert_eq!(method.code(), code);
                assert_eq!(code.name(), Some(method.name()));
            }
        }
    }
}
