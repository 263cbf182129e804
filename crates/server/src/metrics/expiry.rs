//! When the certificates of the configuration expire, as lines of the text format.
//!
//! The recorder does not write them, because it keeps every series that it was ever given: it would show the expiry of a certificate that a
//! reload removed until the process ends.

use std::fmt::Write as _;

use super::descriptions::CERTIFICATE_EXPIRY;
use super::label::{LONG_LABEL_BYTES_MAX, bounded, digits};
use crate::load::DatedCertificate;

/// Certificates shown. A configuration may name bundles of any size; the certificates that expire last are left out.
const CERTIFICATES_SHOWN_MAX: usize = 1_000;

/// The series, without the lines that describe the metric.
pub(super) fn lines(certificates: &[DatedCertificate]) -> String {
    let mut soonest: Vec<&DatedCertificate> = certificates.iter().collect();
    // One certificate may be in several files, and one file in several profiles.
    soonest.sort_by_key(|it| it.order());
    soonest.dedup_by_key(|it| it.order());
    let mut text = String::new();
    for certificate in soonest.into_iter().take(CERTIFICATES_SHOWN_MAX) {
        let (kind, subject) = (certificate.role.label(), bounded(&certificate.subject, LONG_LABEL_BYTES_MAX));
        let file = bounded(&certificate.path.to_string_lossy(), LONG_LABEL_BYTES_MAX);
        let (digest, at) = (digits(&certificate.digest), certificate.not_after().as_secs());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{CERTIFICATE_EXPIRY}{{kind=\"{kind}\",subject=\"{subject}\",file=\"{file}\",sha256=\"{digest}\"}} {at}"
        );
    }
    text
}
