//! How much earlier than its issuance a certificate begins.

use std::time::Duration;

/// Certificates are backdated by this much, for devices whose clock is behind: the limit of CA/Browser practice is 48 h, ours
/// is an hour, and devices that keep no better time than five minutes do not check validity at all.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// The longest that a certificate may be dated back (E28).
const BACKDATE_MAX: Duration = Duration::from_secs(3600);
const _: () = assert!(BACKDATE.as_secs() <= BACKDATE_MAX.as_secs(), "notBefore is at most an hour early");
