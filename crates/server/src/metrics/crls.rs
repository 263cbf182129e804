//! How the revocation lists are, as lines of the text format.
//!
//! The recorder does not write them, because it keeps every series that it was ever given: the lists of a CA that a reload removed would seem to end.

use std::fmt::Write as _;

use super::descriptions::{CRL_DUE, CRL_FAILURES, CRL_LAST_WRITE, CRL_NEXT_UPDATE, CRL_VALIDITY};
use super::head;
use super::label::{LABEL_BYTES_MAX, bounded};
use crate::crl::CrlStatus;

type Value = fn(&CrlStatus) -> u64;

const METRICS: [(&str, Value); 5] = [
    (CRL_LAST_WRITE, |status| status.last_write),
    (CRL_NEXT_UPDATE, |status| status.next_update),
    (CRL_VALIDITY, |status| status.validity),
    (CRL_DUE, |status| status.due),
    (CRL_FAILURES, |status| status.failures),
];

/// The series of each CA that has revocation lists; nothing if there is none.
pub(super) fn lines(statuses: &[CrlStatus]) -> String {
    let mut text = String::new();
    for (name, value) in METRICS.iter().filter(|_| !statuses.is_empty()) {
        text.push_str(&head(name));
        for status in statuses {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}{{ca=\"{}\"}} {}", bounded(&status.ca, LABEL_BYTES_MAX), value(status));
        }
        text.push('\n');
    }
    text
}
