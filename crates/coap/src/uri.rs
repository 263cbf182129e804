//! Path segments between a URI and Uri-Path options (RFC 7252 §6.4 and §6.5).
//!
//! It is not a parser of URIs: callers split scheme, authority and path, because what they allow there differs. `est` uses it for the links of a
//! discovery answer, the command line for the URIs and paths that a person types.

use std::fmt::{self, Write as _};

/// The value of a Uri-Path option (or of Uri-Host) for a segment of a URI: "converting each percent-encoding ("%" followed by two hexadecimal digits)
/// to the corresponding byte" (RFC 7252 §6.4).
///
/// # Errors
/// [`UriError`]. A slash or a NUL in a segment is legal in an option; it is refused, because programs behind this one join segments with slashes and end
/// strings at NUL.
pub fn decode_segment(segment: &str) -> Result<String, UriError> {
    let mut octets = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let octet = match byte {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            other => other,
        };
        match octet {
            b'/' => return Err(UriError::Slash),
            0 => return Err(UriError::Nul),
            other => octets.push(other),
        }
    }
    String::from_utf8(octets).map_err(|_| UriError::NotText)
}

fn digit(byte: Option<u8>) -> Result<u8, UriError> {
    let value = byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|value| u8::try_from(value).ok());
    value.ok_or(UriError::Escape)
}

/// A segment as it is written in a URI: every octet that RFC 3986 §3.3 does not allow in a segment is escaped (RFC 7252 §6.5).
#[derive(Clone, Copy, Debug)]
pub struct UriSegment<'a>(pub &'a str);

impl fmt::Display for UriSegment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Why a segment of a URI names no option value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UriError {
    /// A `%` without two hexadecimal digits after it.
    Escape,
    /// A slash, which would be read as the end of the segment.
    Slash,
    /// A NUL.
    Nul,
    /// Its octets are not UTF-8: Uri-Path and Uri-Host are strings (RFC 7252 §5.10).
    NotText,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Escape => "a % is followed by two hexadecimal digits; write %25 for the character itself",
            Self::Slash => "a segment cannot contain a /, not as %2F either",
            Self::Nul => "a segment cannot contain the octet 0 (%00)",
            Self::NotText => "its octets are not UTF-8",
        })
    }
}

impl std::error::Error for UriError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_become_their_octets() {
        // RFC 7252 §6.3: three spellings of one URI.
        for spelling in ["~sensors", "%7Esensors", "%7esensors"] {
            assert_eq!(decode_segment(spelling).as_deref(), Ok("~sensors"));
        }
        // RFC 7252, appendix B: "/%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF".
        let greeting = "%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF";
        assert_eq!(decode_segment(greeting).as_deref(), Ok("\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}"));
        for (wrong, error) in [
            ("a%", UriError::Escape),
            ("a%6", UriError::Escape),
            ("%+1", UriError::Escape),
            ("%\u{e9}1", UriError::Escape),
            ("%2f", UriError::Slash),
            ("a/b", UriError::Slash),
            ("%00", UriError::Nul),
            ("\0", UriError::Nul),
            ("%C3", UriError::NotText),
        ] {
            assert_eq!(decode_segment(wrong), Err(error), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(segment in "[^/\0]*") {
            let written = UriSegment(&segment).to_string();
            prop_assert!(written.is_ascii());
            prop_assert_eq!(decode_segment(&written), Ok(segment));
        }

        #[test]
        fn any_text_is_survived(text in any::<String>(), escapes in "[%0-9a-f]{0,12}") {
            for text in [text, escapes] {
                if let Ok(segment) = decode_segment(&text) {
                    prop_assert!(!segment.contains(['/', '\0']) && segment.len() <= text.len());
                }
            }
        }
    }
}
