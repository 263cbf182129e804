//! A CA certificate of any algorithm, for somebody else's verifier.
//!
//! The anchors of an HTTPS server are mostly RSA, which [`crate::Certificate`] does not read: no signature that this project verifies is made with it.
//! What this reader says decides about nothing but a message to an operator; whoever verifies with the certificate reads it again.

use rustls_pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::Certificate;
use crate::time::Validity;

/// What an operator is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignRoot {
    /// Its subject, as text.
    pub subject: String,
    /// Its validity.
    pub validity: Validity,
    /// Whether it is a CA's: cA TRUE (RFC 5280 §4.2.1.9).
    pub is_ca: bool,
}

impl ForeignRoot {
    /// Reads a certificate: strictly if its algorithms are ours, else as x509-parser does; `None` if that cannot either.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        if let Ok(own) = Certificate::parse(der) {
            return Some(Self { subject: own.subject().to_string(), validity: own.validity(), is_ca: own.is_ca() });
        }
        let (rest, read) = X509Certificate::from_der(der).ok()?;
        let time = |seconds: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        let validity = Validity {
            not_before: time(read.validity().not_before.timestamp()),
            not_after: time(read.validity().not_after.timestamp()),
        };
        rest.is_empty().then(|| Self { subject: read.subject().to_string(), validity, is_ca: read.is_ca() })
    }
}
