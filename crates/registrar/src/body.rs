//! The body of EST over HTTPS: DER in base64.
//!
//! RFC 8951 §3.1: "This document updates RFC 7030 to require the POST request and payload response of all endpoints using base64 encoding, as
//! specified in Section 4 of RFC 4648. In both cases, the DER payload is used directly as the input to the base64 encoding. This format is to be
//! used regardless of any Content-Transfer-Encoding header, and any value in that header MUST be ignored."

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Bytes of a body as it is sent: a list of certificates for `/cacerts` is the longest that an honest peer sends, and fits many times over.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The bytes of a body are not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFlaw;

impl fmt::Display for BodyFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not base64 of DER (RFC 8951 §3.1)")
    }
}

impl std::error::Error for BodyFlaw {}

/// The body for this DER, in one line.
#[must_use]
pub fn encode_body(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// The DER of a body. RFC 8951 §3.2.1: "whitespace MUST be tolerated" in what older peers send, line breaks above all.
///
/// # Errors
/// [`BodyFlaw`] if it is anything but base64 and white space, or empty.
pub fn decode_body(body: &[u8]) -> Result<Vec<u8>, BodyFlaw> {
    // It may be that of a key. As long as it can be: a vector that grows leaves a copy behind.
    let mut dense = Zeroizing::new(Vec::with_capacity(body.len()));
    dense.extend(body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
    let der = STANDARD.decode(&*dense).map_err(|_| BodyFlaw)?;
    if der.is_empty() { Err(BodyFlaw) } else { Ok(der) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_blanks_are_ignored_and_nothing_else_is() {
        let der = [0x30, 0x03, 0x02, 0x01, 0x05];
        assert_eq!(encode_body(&der), "MAMCAQU=");
        for body in ["MAMCAQU=", "MAMC\r\nAQU=\r\n", " MA MC\tAQ\nU= "] {
            assert_eq!(decode_body(body.as_bytes()).as_deref(), Ok(&der[..]), "{body:?}");
        }
        for body in ["", "\r\n", "MAMCAQU", "MAMCAQU==", "-----BEGIN", "MAMC AQU_", "\u{0}MAMCAQU="] {
            assert_eq!(decode_body(body.as_bytes()), Err(BodyFlaw), "{body:?}");
        }
    }
}
