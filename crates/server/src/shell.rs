//! Quoting for commands that are printed to be copied into a shell.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pki::pem::PemError;

/// A word of a command for a POSIX shell. A plain word stays as it is; one with blanks or quotes is written `'...'`; one that is not
/// UTF-8, or has characters that do not show, is written `$'...'` with their bytes, which bash, zsh, ksh and POSIX.1-2024 read: no name forges a line.
#[must_use]
pub fn word(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    match word.to_str() {
        Some(text) if !text.is_empty() && !text.starts_with('~') && text.bytes().all(is_plain) => text.to_owned(),
        Some(text) if text.chars().all(shows) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(word.as_bytes()),
    }
}

/// A path as an argument; one that begins with a dash is not taken for an option.
#[must_use]
pub fn path(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    if path.as_os_str().as_bytes().starts_with(b"-") { word(Path::new(".").join(path)) } else { word(path) }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_./:@%+,=-~".contains(&byte)
}

fn shows(c: char) -> bool {
    // Rust's own table of what can be printed: an escape begins with a backslash.
    matches!(c, '\\' | '\'' | '"') || c.escape_debug().next() != Some('\\')
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::from("$'");
    let mut after_escape = false;
    for &byte in bytes {
        // A hexadecimal digit behind an escape would be read as part of it.
        let plain = is_plain(byte) || byte == b' ';
        if plain && !(after_escape && byte.is_ascii_hexdigit()) {
            text.push(char::from(byte));
            after_escape = false;
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            after_escape = true;
        }
    }
    text.push('\'');
    text
}

/// The command, if there is one, that converts `file` to a readable file beside it.
#[must_use]
pub fn conversion(found: &PemError, file: &Path) -> Option<String> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    found.command(&path(file), &path(&new))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell makes of it, byte for byte.
    fn read_by_bash(quoted: &str) -> Vec<u8> {
        let script = format!("printf %s {quoted}");
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{quoted}");
        output.stdout
    }

    #[test]
    fn what_means_nothing_special_stands_as_it_is() {
        for plain in ["muster", "./target/debug/muster", "/srv/pki/muster.toml", "a~b", "[", "é"] {
            let quoted = word(plain);
            assert_eq!(quoted == plain, !matches!(plain, "[" | "é"), "{quoted}");
            assert_eq!(read_by_bash(&quoted), plain.as_bytes());
        }
        assert_eq!(word(""), "''");
    }

    #[test]
    fn every_byte_survives_the_shell() {
        let hard: [&[u8]; 12] = [
            b"a folder",
            b"it's",
            b"\"two\"",
            b"$(reboot)`reboot`",
            b"~root",
            b"a\nb\tc",
            "t\u{202e}xt".as_bytes(),
            b"\xff\xfe41 f",
            b"\\",
            b"\xffa'b\"c\\d",
            b"*?[x];&|<>#!",
            "für".as_bytes(),
        ];
        for bytes in hard {
            let quoted = word(OsStr::from_bytes(bytes));
            assert_eq!(read_by_bash(&quoted), bytes, "{quoted}");
            assert!(quoted.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{quoted}");
        }
    }

    #[test]
    fn a_path_that_begins_with_a_dash_is_no_option() {
        assert_eq!(path("-rf"), "./-rf");
        assert_eq!(path("-a b"), "'./-a b'");
        assert_eq!(path("/-rf"), "/-rf");
    }
}
