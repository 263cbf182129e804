//! What a ClientHello offered, as a bounded copy for attempt records and logs.

use std::fmt;

use super::names::{self, Named};

/// What a ClientHello offered, bounded: for attempt records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// client_version; 0xFEFD is DTLS 1.2.
    pub version: u16,
    /// supported_versions, the first 32; empty without the extension.
    pub supported_versions: Vec<u16>,
    /// Cipher suites, the first 32.
    pub suites: Vec<u16>,
    /// Supported groups, the first 32.
    pub groups: Vec<u16>,
    /// Signature algorithms, the first 32.
    pub signature_algorithms: Vec<u16>,
    /// client_certificate_type, the first 32; empty without the extension, which means X.509.
    pub client_certificate_types: Vec<u8>,
    /// server_certificate_type, the first 32; empty without the extension, which means X.509.
    pub server_certificate_types: Vec<u8>,
    /// Types of all extensions, the first 32.
    pub extensions: Vec<u16>,
    /// Whether extended_master_secret was offered.
    pub extended_master_secret: bool,
    /// The DNS name of server_name, if it is one.
    pub server_name: Option<Box<str>>,
}

/// Maximum code points of one kind that a line shows; the rest is counted.
const SHOWN_MAX: usize = 8;

/// Maximum extensions that a line shows. Extensions whose content is shown anyway are left out.
const EXTENSIONS_SHOWN_MAX: usize = 12;

/// Their content is shown: server_name, groups, signature algorithms, certificate types, extended_master_secret, versions.
const SHOWN_BY_CONTENT: [u16; 7] = [0, 10, 13, 19, 20, 23, 43];

/// One line of bounded length, without characters that could break a log: `DTLS 1.2, suites TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, groups
/// secp256r1, ...`.
impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.version == 0 {
            return f.write_str("nothing readable");
        }
        write!(f, "{}", Named(self.version, names::version))?;
        if !self.supported_versions.is_empty() {
            list(f, "supported versions", &self.supported_versions, names::version, SHOWN_MAX)?;
        }
        list(f, "suites", &self.suites, names::suite, SHOWN_MAX)?;
        list(f, "groups", &self.groups, names::group, SHOWN_MAX)?;
        list(f, "signature algorithms", &self.signature_algorithms, names::signature_scheme, SHOWN_MAX)?;
        for (what, types) in [
            ("client certificate types", &self.client_certificate_types),
            ("server certificate types", &self.server_certificate_types),
        ] {
            if !types.is_empty() {
                let codes: Vec<u16> = types.iter().map(|code| u16::from(*code)).collect();
                list(f, what, &codes, names::certificate_type, SHOWN_MAX)?;
            }
        }
        f.write_str(if self.extended_master_secret {
            ", extended master secret"
        } else {
            ", no extended master secret"
        })?;
        let others: Vec<u16> =
            self.extensions.iter().copied().filter(|kind| !SHOWN_BY_CONTENT.contains(kind)).collect();
        if !others.is_empty() {
            list(f, "other extensions", &others, names::extension, EXTENSIONS_SHOWN_MAX)?;
        }
        match &self.server_name {
            Some(name) => write!(f, ", server name {}", name.escape_debug()),
            None => Ok(()),
        }
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    codes: &[u16],
    table: fn(u16) -> Option<&'static str>,
    shown_max: usize,
) -> fmt::Result {
    write!(f, ", {what}")?;
    for code in codes.iter().take(shown_max) {
        write!(f, " {}", Named(*code, table))?;
    }
    match codes.len().saturating_sub(shown_max) {
        0 if codes.is_empty() => f.write_str(" none"),
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{OFFERED_MAX, SERVER_NAME_BYTES_MAX};

    #[test]
    fn d104_d105_d106_an_offer_is_one_bounded_line_of_names() {
        let full = Offered {
            version: 0xFEFD,
            supported_versions: vec![0xFEFC, 0x2A2A, 0xFEFD],
            suites: vec![0xC0AE; OFFERED_MAX],
            groups: vec![0x1A1A, 23, 0x6399],
            signature_algorithms: Vec::new(),
            client_certificate_types: vec![2, 0],
            server_certificate_types: vec![224],
            extensions: vec![10, 22, 0xFF01, 0x1234],
            extended_master_secret: true,
            server_name: Some("a\nb".into()),
        };
        let line = full.to_string();
        assert!(
            line.starts_with(
                "DTLS 1.2, supported versions DTLS 1.3 GREASE:2a2a DTLS 1.2, suites TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 "
            ),
            "{line}"
        );
        assert!(
            line.ends_with(
                " and 24 more, groups GREASE:1a1a secp256r1 0x6399, signature algorithms none, client certificate types \
                 RawPublicKey X509, server certificate types 0x00e0, extended master secret, other extensions encrypt_then_mac \
                 renegotiation_info 0x1234, server name a\\nb"
            ),
            "{line}"
        );
        assert_eq!(Offered::default().to_string(), "nothing readable");
        let long = Offered {
            suites: vec![0xCCA9; OFFERED_MAX],
            signature_algorithms: vec![0x0403; OFFERED_MAX],
            extensions: vec![16; OFFERED_MAX],
            server_name: Some("x".repeat(SERVER_NAME_BYTES_MAX).into()),
            ..full
        };
        assert!(long.to_string().len() < 2_048, "{}", long.to_string().len());
    }
}
