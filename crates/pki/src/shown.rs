//! Displays text from peers on a terminal: it cannot forge a line, hide characters or reorder text.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// A peer's text on one line. Invisible characters are escaped as in Rust (`\u{202e}`), and so is the backslash.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'t>(pub &'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if shows(character) && character != '\\' {
                f.write_char(character)
            } else {
                write!(f, "{}", character.escape_debug())
            }
        })
    }
}

/// Writes the inside of a JSON string (RFC 8259 §7). Invisible characters, such as a directional mark (U+202E), are escaped too.
pub struct JsonString<'o>(pub &'o mut dyn fmt::Write);

impl fmt::Write for JsonString<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| match character {
            '"' | '\\' => write!(self.0, "\\{character}"),
            _ if shows(character) => self.0.write_char(character),
            _ => json_escape(character, self.0),
        })
    }
}

/// A line of JSON in which the writer has escaped what RFC 8259 §7 requires: remaining invisible characters are escaped as well. They stand inside
/// strings, because the rest of JSON is printable ASCII.
#[must_use]
pub fn json_line_shown(line: &str) -> Cow<'_, str> {
    // A control character here is the end of the line.
    let hidden = |character: char| character >= ' ' && !shows(character);
    if !line.contains(hidden) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if hidden(character) {
            // Writing to a String cannot fail.
            let _ = json_escape(character, &mut escaped);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// `\u` and four hex digits, twice if the character needs a surrogate pair.
fn json_escape(character: char, out: &mut dyn fmt::Write) -> fmt::Result {
    character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
}

/// Whether a character is visible: not a control character, line separator (U+2028), directional mark (U+202E) or any other invisible character. A
/// combining mark is visible on the character before it.
#[must_use]
pub fn shows(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust escapes a combining mark at the beginning of a string, but not after a letter.
    let mut text = [b'a'; 5];
    character.encode_utf8(&mut text[1..]);
    let text = &text[..1 + character.len_utf8()];
    std::str::from_utf8(text).is_ok_and(|text| text.escape_debug().nth(1) == Some(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e58_what_does_not_show_is_escaped_and_the_rest_stands() {
        for (text, expected) in [
            ("/est/sen", "/est/sen"),
            ("a \"b\" 'c' é ж 字 e\u{301}", "a \"b\" 'c' é ж 字 e\u{301}"),
            ("\u{202e}nes/", r"\u{202e}nes/"),
            ("\u{2028}\u{2066}\u{200b}\u{feff}", r"\u{2028}\u{2066}\u{200b}\u{feff}"),
            ("a\nb\u{1b}[2K\u{9b}\u{7f}\\", r"a\nb\u{1b}[2K\u{9b}\u{7f}\\"),
        ] {
            assert_eq!(Shown(text).to_string(), expected);
        }
    }

    /// Every character that reorders the text around it (Unicode Standard Annex #9, "Directional Formatting Characters").
    const BIDI_CONTROLS: [char; 12] = [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
        '\u{2067}', '\u{2068}', '\u{2069}',
    ];

    fn json(text: &str) -> String {
        let mut out = String::new();
        JsonString(&mut out).write_str(text).unwrap();
        out
    }

    #[test]
    fn e58_json_shows_no_directional_mark_in_a_text_or_in_a_line() {
        for mark in BIDI_CONTROLS {
            let escaped = format!("\\u{:04x}", u32::from(mark));
            assert_eq!(json(&format!("a{mark}b")), format!("a{escaped}b"));
            assert_eq!(json_line_shown(&format!("{{\"a\":\"{mark}\"}}\n")), format!("{{\"a\":\"{escaped}\"}}\n"));
        }
    }

    #[test]
    fn e58_the_inside_of_a_json_string_is_escaped() {
        for (text, expected) in [
            ("Zähler", "Zähler"),
            ("a\"b\\c", r#"a\"b\\c"#),
            ("a\nb\u{1b}\u{7f}", r"a\u000ab\u001b\u007f"),
            ("\u{e0001}", r"\udb40\udc01"),
        ] {
            assert_eq!(json(text), expected);
        }
        assert!(matches!(json_line_shown("{\"a\":\"é\"}\n"), Cow::Borrowed(_)));
    }
}
