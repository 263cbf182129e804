//! Describes certificates for people and as JSON; also the beginning of a command that a message suggests.

use pki::{Certificate, UnixTime};
use server::shell;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How this program was called, so that a suggested command can be copied into a shell: `muster`, or the path that `cargo run` used.
pub(crate) fn program() -> String {
    std::env::args_os().next().map_or_else(|| "muster".to_owned(), shell::word)
}

/// One line: subject, issuer, expiry.
pub(crate) fn line(certificate: &Certificate) -> String {
    format!(
        "{} (issued by {}, valid until {}, {} bytes)",
        certificate.subject(),
        certificate.issuer(),
        rfc3339(certificate.validity().not_after),
        certificate.der().len()
    )
}

/// The certificate, with the fields that a program needs.
pub(crate) fn json(certificate: &Certificate) -> serde_json::Value {
    let validity = certificate.validity();
    serde_json::json!({
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "serial": hex::encode(certificate.serial()),
        "not_before": rfc3339(validity.not_before),
        "not_after": rfc3339(validity.not_after),
        "sha256": certificate.digest().to_string(),
        "bytes": certificate.der().len(),
        "pem": pki::pem::encode(pki::pem::Label::Certificate, certificate.der()),
    })
}

/// A time as RFC 3339 in UTC.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        // Beyond the year 9999, which X.509 cannot represent.
        .unwrap_or_else(|| format!("second {} of the epoch", at.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let at = |seconds| rfc3339(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(at(1_790_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(at(253_402_300_799), "9999-12-31T23:59:59Z", "no well-defined expiration (RFC 5280 §4.1.2.5)");
        assert!(at(u64::MAX).contains("of the epoch"));
    }
}
