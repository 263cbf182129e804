//! A key log in the NSS format, which Wireshark and OpenSSL read: one `CLIENT_RANDOM` line per session.
//!
//! Source: draft-ietf-tls-keylogfile, "The SSLKEYLOGFILE Format for TLS".

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dtls::{Now, Observer, TraceEvent};

use super::Lost;

/// Appends the secrets of each session to a file.
pub struct KeyLog {
    writing: Mutex<KeyLogWriter>,
}

struct KeyLogWriter {
    file: File,
    lost: Lost,
}

impl KeyLog {
    /// Opens `path` for appending, as other writers of this format do; only its owner can read a new file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { writing: Mutex::new(KeyLogWriter { file: super::append_secret(path)?, lost: Lost::default() }) })
    }

    /// Why lines are missing, if any are missing.
    pub fn fault(&self) -> Option<String> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).lost.why()
    }
}

impl Observer for KeyLog {
    fn observe(&self, _at: Now, _path: Option<dtls::Path>, event: &TraceEvent<'_>) {
        let TraceEvent::Secrets { client_random, master_secret } = event else { return };
        let line = line(client_random, master_secret);
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let KeyLogWriter { file, lost } = &mut *writing;
        // A key log is read line by line: a truncated line damages at most the next one, and there may be room again later.
        if let Err(error) = file.write_all(line.as_bytes()) {
            lost.note(&error, "the key log cannot be written: secrets are missing in it");
        }
    }
}

/// `CLIENT_RANDOM <client random> <master secret>` and a newline.
pub(super) fn line(client_random: &[u8; 32], master_secret: &[u8; 48]) -> String {
    let mut line = String::with_capacity(14 + 64 + 1 + 96 + 1);
    line.push_str("CLIENT_RANDOM ");
    push_hex(&mut line, client_random);
    line.push(' ');
    push_hex(&mut line, master_secret);
    line.push('\n');
    line
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}
