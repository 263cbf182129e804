//! Writes one JSON object as a line, its members in the order in which they are given.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::JsonString;

/// The two hexadecimal digits of each octet.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [[0; 2]; 256];
    let mut octet = 0;
    while octet < 256 {
        hex[octet] = [DIGITS[octet >> 4], DIGITS[octet & 15]];
        octet += 1;
    }
    hex
};

/// An object that is being written. Names are ours and need no escape.
pub(crate) struct JsonLine<'o>(&'o mut String);

impl<'o> JsonLine<'o> {
    /// Begins an object with its type.
    pub(crate) fn begin(out: &'o mut String, kind: &str) -> Self {
        out.push_str("{\"type\":\"");
        out.push_str(kind);
        out.push('"');
        Self(out)
    }

    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    pub(crate) fn number(mut self, name: &str, value: i64) -> Self {
        self.name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// Text from outside: escaped.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.0.push('"');
        let _ = JsonString(self.0).write_str(value);
        self.0.push('"');
        self
    }

    /// Text that needs no escape.
    pub(crate) fn plain(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        let _ = write!(self.0, "\"{value}\"");
        self
    }

    /// Octets in hexadecimal.
    pub(crate) fn hex(mut self, name: &str, octets: &[u8]) -> Self {
        self.name(name);
        self.0.push('"');
        // A digest at a time: one check of the text and one growth of the line instead of 64.
        for part in octets.chunks(32) {
            let mut digits = [0; 64];
            for (two, octet) in digits.chunks_exact_mut(2).zip(part) {
                two.copy_from_slice(&HEX[usize::from(*octet)]);
            }
            self.0.push_str(str::from_utf8(&digits[..2 * part.len()]).unwrap_or_default());
        }
        self.0.push('"');
        self
    }

    /// Octets in base64.
    pub(crate) fn base64(mut self, name: &str, octets: &[u8]) -> Self {
        self.name(name);
        self.0.push('"');
        BASE64.encode_string(octets, self.0);
        self.0.push('"');
        self
    }

    /// Ends without the brace: a signature follows.
    pub(crate) fn unfinished(self) {}

    pub(crate) fn end(self) {
        self.0.push('}');
    }
}

/// Reads hexadecimal of exactly this many octets.
pub(crate) fn octets<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let hex = hex.as_bytes();
    if hex.len() != 2 * N {
        return None;
    }
    let mut octets = [0; N];
    for (octet, digits) in octets.iter_mut().zip(hex.chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *octet = digit(0)? << 4 | digit(1)?;
    }
    Some(octets)
}
