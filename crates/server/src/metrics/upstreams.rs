//! What a Registrar knows of its upstream CAs, as lines of the text format.
//!
//! The recorder does not write them, because it keeps every series that it was ever given: the answers for a profile that a reload removed would
//! seem to grow old.

use std::fmt::Write as _;

use super::descriptions::{UPSTREAM_FACTS, UPSTREAM_REFRESH_FAILED, UPSTREAM_RESTING};
use super::head;
use super::label::{LABEL_BYTES_MAX, bounded};
use crate::load::{UpstreamReading, UpstreamStatus};

type Value = fn(&UpstreamStatus) -> u64;

const METRICS: [(&str, Value); 2] =
    [(UPSTREAM_FACTS, |status| status.confirmed_at), (UPSTREAM_REFRESH_FAILED, |status| u64::from(status.has_failed))];

/// The series of each profile and each upstream of a Registrar; nothing for a CA.
pub(super) fn lines(reading: &UpstreamReading) -> String {
    let mut text = String::new();
    let UpstreamReading { answers, resting } = reading;
    if !resting.is_empty() {
        text.push_str(&head(UPSTREAM_RESTING));
        for (upstream, rests) in resting {
            let upstream = bounded(upstream, LABEL_BYTES_MAX);
            let _ = writeln!(text, "{UPSTREAM_RESTING}{{upstream=\"{upstream}\"}} {}", u64::from(*rests));
        }
        text.push('\n');
    }
    for (name, value) in METRICS.iter().filter(|_| !answers.is_empty()) {
        text.push_str(&head(name));
        for status in answers {
            let profile = bounded(&status.profile, LABEL_BYTES_MAX);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}{{profile=\"{profile}\"}} {}", value(status));
        }
        text.push('\n');
    }
    text
}
