//! Text of the configuration as the value of a label: its length is bounded, and different texts keep different values.

use pki::Digest;

/// Bytes of a label's value: enough for any name that a person would choose.
pub(super) const LABEL_BYTES_MAX: usize = 64;
/// Bytes of a path or of a subject.
pub(super) const LONG_LABEL_BYTES_MAX: usize = 160;
/// Hexadecimal digits of a digest: enough to distinguish the certificates of one configuration.
const DIGEST_DIGITS: usize = 16;
/// The end of a text that was cut: `~` and the digest of the whole.
const MARK_BYTES: usize = 1 + DIGEST_DIGITS;
const _: () = assert!(MARK_BYTES < LABEL_BYTES_MAX && LABEL_BYTES_MAX < LONG_LABEL_BYTES_MAX);

/// The text itself, if it is no longer than `bytes_max`; otherwise its beginning and a digest of the whole, so that two long texts with the same
/// beginning stay distinct. A text with control characters, quotes or backslashes gets the digest too, and each of these characters becomes a
/// dot: the renderer of the metrics omits some backslashes, and two names that differ only in one would become one series.
pub(super) fn bounded(text: &str, bytes_max: usize) -> String {
    let is_unsafe = |letter: char| letter.is_control() || matches!(letter, '"' | '\\');
    if text.len() <= bytes_max && !text.contains(is_unsafe) {
        return text.to_owned();
    }
    let room = bytes_max - MARK_BYTES;
    let end = (0..=room.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let beginning = text.get(..end).unwrap_or_default().replace(is_unsafe, ".");
    format!("{beginning}~{}", digits(&Digest::of(text.as_bytes())))
}

/// The beginning of a digest.
pub(super) fn digits(digest: &Digest) -> String {
    digest.to_string().chars().take(DIGEST_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_and_stays_told_apart() {
        let long = "é".repeat(LABEL_BYTES_MAX);
        let (one, other) =
            (bounded(&format!("{long}1"), LABEL_BYTES_MAX), bounded(&format!("{long}2"), LABEL_BYTES_MAX));
        assert!(one.len() <= LABEL_BYTES_MAX && one.contains('~'), "{one}");
        assert_ne!(one, other);
        assert_eq!(bounded("meters", LABEL_BYTES_MAX), "meters");
        assert_eq!(bounded(&"x".repeat(LABEL_BYTES_MAX), LABEL_BYTES_MAX), "x".repeat(LABEL_BYTES_MAX));
    }

    #[test]
    fn what_the_text_format_would_have_to_escape_is_not_in_a_label() {
        let texts = ["a\"b", "a\\b", "a\\\\b", "a\rb", "a\nb", "a.b"];
        let labels: std::collections::BTreeSet<_> = texts.iter().map(|text| bounded(text, LABEL_BYTES_MAX)).collect();
        assert_eq!(labels.len(), texts.len(), "{labels:?}");
        assert!(
            labels.iter().all(|label| label.starts_with("a.") && !label.contains(['"', '\\', '\n', '\r'])),
            "{labels:?}"
        );
    }
}
