//! How the revocation lists are, for the metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::UnixTime;

/// The lists of one CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrlStatus {
    pub(crate) ca: String,
    /// When a list was written last by this process, in seconds since 1970; 0 if none was.
    pub(crate) last_write: u64,
    /// When the first of its lists ends; 0 while one of them is absent.
    pub(crate) next_update: u64,
    /// Lists that ought to be written and are not.
    pub(crate) due: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Seconds from the making of a list to its end.
    pub(crate) validity: u64,
}

/// The CAs of the configuration in force.
#[derive(Default)]
pub(crate) struct CrlStatuses(Mutex<Vec<CrlStatus>>);

impl CrlStatuses {
    fn lock(&self) -> MutexGuard<'_, Vec<CrlStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<CrlStatus> {
        self.lock().clone()
    }

    /// Drops the CAs that are no longer among these, and adds the others.
    pub(super) fn keep(&self, cas: &[&str], validity: Duration) {
        let mut statuses = self.lock();
        statuses.retain(|status| cas.contains(&status.ca.as_str()));
        for ca in cas {
            if !statuses.iter().any(|status| status.ca == *ca) {
                statuses.push(CrlStatus { ca: (*ca).to_owned(), ..CrlStatus::default() });
            }
        }
        statuses.iter_mut().for_each(|status| status.validity = validity.as_secs());
    }

    fn of(&self, ca: &str, change: impl FnOnce(&mut CrlStatus)) {
        if let Some(status) = self.lock().iter_mut().find(|status| status.ca == ca) {
            change(status);
        }
    }

    pub(super) fn written(&self, ca: &str, at: UnixTime) {
        self.of(ca, |status| status.last_write = at.as_secs());
    }

    pub(super) fn failed(&self, ca: &str) {
        self.of(ca, |status| status.failures += 1);
    }

    pub(super) fn due(&self, ca: &str, due: usize) {
        self.of(ca, |status| status.due = u64::try_from(due).unwrap_or(u64::MAX));
    }

    pub(super) fn looked(&self, ca: &str, due: u64, next_update: Option<UnixTime>) {
        self.of(ca, |status| {
            status.due = due;
            status.next_update = next_update.map_or(0, |end| end.as_secs());
        });
    }
}
