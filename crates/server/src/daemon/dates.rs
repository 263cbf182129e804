//! Reports certificates that expire while the server runs: a start and a reload check the configuration, and this task checks the one in force once a
//! day.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::load::{DatedCertificate, warnings_at};

const DAY: Duration = Duration::from_secs(86_400);

/// Lines per day; further certificates are only counted. A bundle of manufacturers may hold any number of certificates that expire together.
const LINES_MAX: usize = 20;

/// Runs as long as the server does. The first check is a day after the start, because the start has reported everything itself.
pub(super) async fn watch(
    certificates: impl Fn() -> Arc<[DatedCertificate]> + Send,
    clock: impl Fn() -> UnixTime + Send,
) -> Infallible {
    let mut days = interval_at(Instant::now() + DAY, DAY);
    days.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        days.tick().await;
        tell(clock(), &certificates());
    }
}

fn tell(now: UnixTime, certificates: &[DatedCertificate]) {
    let warnings = warnings_at(now, certificates);
    for warning in warnings.iter().take(LINES_MAX) {
        tracing::warn!(
            key = warning.key,
            what = warning.what,
            remedy = warning.remedy,
            "a certificate has expired or will expire within 30 days"
        );
    }
    let rest = warnings.len().saturating_sub(LINES_MAX);
    if rest > 0 {
        tracing::warn!(certificates = rest, "further certificates have expired or will expire within 30 days");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::load::CertificateRole;
    use crate::load::testing::{at, dated};
    use crate::logging::{Format, logged};

    #[test]
    fn a_running_server_tells_once_a_day_of_what_expires_by_its_own_clock() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let list: Arc<[DatedCertificate]> = Arc::from(vec![dated(CertificateRole::Ca, "ca.pem", 0, 100)]);
        // The day of each check: 31 days ahead, 30 days ahead, then one after the clock was set.
        let days = Mutex::new(vec![101, 71, 70, 69].into_iter());
        let log = logged(Format::Human, || {
            let clock = || at(days.lock().unwrap().next_back().unwrap());
            let watching = watch(|| Arc::clone(&list), clock);
            runtime.block_on(async {
                tokio::select! {
                    never = watching => match never {},
                    () = tokio::time::sleep(4 * DAY + DAY / 2) => {}
                }
            });
        });
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains("WARN") && lines[0].contains("ca.pem expires on 1970-04-11"), "{log}");
        assert!(lines[1].contains("ca.pem expired on 1970-04-11"), "{log}");
        assert!(days.lock().unwrap().next().is_none(), "four looks in four days and a half");
    }

    #[test]
    fn a_bundle_that_expires_has_twenty_lines_and_a_count() {
        let list: Vec<_> =
            (0..25).map(|number| dated(CertificateRole::Manufacturer, &format!("{number}.pem"), 0, 9)).collect();
        let log = logged(Format::Human, || tell(at(10), &list));
        assert_eq!(log.lines().count(), 21, "{log}");
        assert!(log.lines().last().unwrap().contains("certificates=5"), "{log}");
    }
}
