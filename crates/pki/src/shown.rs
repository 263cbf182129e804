//! What peers say, on a terminal: it forges no line, hides nothing and turns nothing around.

use std::fmt::{self, Write as _};

/// A peer's text on one line. What does not show by itself is escaped as Rust does (`\u{202e}`), and so is the backslash.
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

/// Whether a character stands for itself: no control, no line separator (U+2028), no directional mark (U+202E), nothing else that is invisible. A combining
/// mark shows, on the character before it.
#[must_use]
pub fn shows(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust escapes a combining mark at the beginning of a string, and not behind a letter.
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
}
