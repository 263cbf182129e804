//! What a ClientHello offered, as a bounded copy that may stay in an attempt record and stand in a log.

use std::fmt;

/// What a ClientHello offered, bounded: for attempt records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// client_version; 0xFEFD is DTLS 1.2.
    pub version: u16,
    /// Cipher suites, the first 32.
    pub suites: Vec<u16>,
    /// Supported groups, the first 32.
    pub groups: Vec<u16>,
    /// Signature algorithms, the first 32.
    pub signature_algorithms: Vec<u16>,
    /// Whether extended_master_secret was offered.
    pub extended_master_secret: bool,
    /// The DNS name of server_name, if it is one.
    pub server_name: Option<Box<str>>,
}

/// Code points of one kind that a line shows; the rest is counted.
const SHOWN_MAX: usize = 8;

/// One line of bounded length, without anything in it that could break a log: `DTLS 1.2, suites c0ae c02b, groups 0017, ...`.
impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            0 => return f.write_str("nothing readable"),
            0xFEFF => f.write_str("DTLS 1.0")?,
            0xFEFD => f.write_str("DTLS 1.2")?,
            other => write!(f, "version {other:04x}")?,
        }
        for (name, codes) in
            [("suites", &self.suites), ("groups", &self.groups), ("signature algorithms", &self.signature_algorithms)]
        {
            write!(f, ", {name}")?;
            for code in codes.iter().take(SHOWN_MAX) {
                write!(f, " {code:04x}")?;
            }
            match codes.len().saturating_sub(SHOWN_MAX) {
                0 if codes.is_empty() => f.write_str(" none")?,
                0 => {}
                more => write!(f, " and {more} more")?,
            }
        }
        f.write_str(if self.extended_master_secret {
            ", extended master secret"
        } else {
            ", no extended master secret"
        })?;
        match &self.server_name {
            Some(name) => write!(f, ", server name {}", name.escape_debug()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{OFFERED_MAX, SERVER_NAME_BYTES_MAX};

    #[test]
    fn an_offer_is_one_bounded_line() {
        let full = Offered {
            version: 0xFEFD,
            suites: vec![0xC0AE; OFFERED_MAX],
            groups: vec![23],
            signature_algorithms: Vec::new(),
            extended_master_secret: true,
            server_name: Some("a\nb".into()),
        };
        let line = full.to_string();
        assert!(line.starts_with("DTLS 1.2, suites c0ae c0ae"), "{line}");
        assert!(
            line.ends_with(
                "and 24 more, groups 0017, signature algorithms none, extended master secret, server name a\\nb"
            ),
            "{line}"
        );
        assert_eq!(Offered::default().to_string(), "nothing readable");
        let long = Offered { server_name: Some("x".repeat(SERVER_NAME_BYTES_MAX).into()), ..full };
        assert!(long.to_string().len() < 500);
    }
}
