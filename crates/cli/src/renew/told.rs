//! What the server last said about the renewal of the current certificate (`/ren`), and when to ask again.

use est::RenewalInfo;
use pki::{Certificate, UnixTime};
use serde_json::{Value, json};

use super::folder::DeviceFolder;
use super::schedule;
use crate::files::{self, Access};
use crate::outcome::CommandResult;

const FILE: &str = "renew.json";

/// A server that gave no answer is asked again after this time.
const ASK_AGAIN_SECONDS: u64 = 3_600;

/// A server without the resource `ren` is asked again after this time.
const ASK_WITHOUT_SECONDS: u64 = 86_400;

/// What was told leaves this part of a life for repeats.
const REPEATS_DIVISOR: u64 = 20;

/// The next ask is later by up to this part of the time until then, so that devices that asked together do not come back together.
const ASK_SPREAD_DIVISOR: u64 = 10;

/// A server cannot make a device ask more often than once a minute, or less often than once a week.
const ASK_SECONDS_MIN: u64 = 60;
const ASK_SECONDS_MAX: u64 = 7 * 86_400;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    info: Option<RenewalInfo>,
    ask_at: u64,
}

impl Told {
    /// An answer of this moment; `None` if the server has no resource `ren`.
    pub(super) fn new(info: Option<RenewalInfo>, certificate: &Certificate, now: UnixTime) -> Self {
        let wait = info.map_or(ASK_WITHOUT_SECONDS, |info| info.ask_again.clamp(ASK_SECONDS_MIN, ASK_SECONDS_MAX));
        Self { info, ask_at: ask_at(certificate, now, wait) }
    }

    /// No answer: what was known stays, and only the next ask is later.
    pub(super) fn unanswered(known: Option<Self>, certificate: &Certificate, now: UnixTime) -> Self {
        Self { info: known.and_then(|known| known.info), ask_at: ask_at(certificate, now, ASK_AGAIN_SECONDS) }
    }

    /// What is stored about this certificate. A file that cannot be read, or is about another certificate, says nothing.
    pub(super) fn read(folder: &DeviceFolder, certificate: &Certificate) -> Option<Self> {
        let object: Value = serde_json::from_slice(&files::read(&folder.path(FILE)).ok()?).ok()?;
        if object["certificate"] != certificate.digest().to_string() {
            return None;
        }
        let number = |name: &str| object[name].as_u64();
        let window = || {
            let (start, end) = (number("start")?, number("end")?);
            (start <= end).then_some(RenewalInfo { start, end, ask_again: 0, cause: number("cause")? })
        };
        Some(Self { info: window(), ask_at: number("ask_at")? })
    }

    /// Stores it for this certificate.
    pub(super) fn write(&self, folder: &DeviceFolder, certificate: &Certificate) -> CommandResult {
        let info = self.info.as_ref();
        let object = json!({
            "certificate": certificate.digest().to_string(),
            "ask_at": self.ask_at,
            "start": info.map(|info| info.start),
            "end": info.map(|info| info.end),
            "cause": info.map(|info| info.cause),
        });
        files::write(&folder.path(FILE), object.to_string().as_bytes(), Access::Public)
    }

    /// When to ask again.
    pub(super) fn ask_at(&self) -> UnixTime {
        schedule::at(self.ask_at)
    }

    /// When the certificate is due as the server sees it: a moment of the window that the certificate's digest selects, and early enough that repeats
    /// are possible before it expires.
    pub(super) fn due(&self, certificate: &Certificate) -> Option<UnixTime> {
        let info = self.info?;
        let (begin, expiry) = (certificate.validity().not_before.as_secs(), certificate.validity().not_after.as_secs());
        let last = expiry.saturating_sub(expiry.saturating_sub(begin) / REPEATS_DIVISOR);
        let told = schedule::between(certificate, schedule::at(info.start), schedule::at(info.end));
        Some(told.min(schedule::at(last)))
    }

    /// Whether the operator has called the certificate in.
    pub(super) fn is_called_in(&self) -> bool {
        self.info.is_some_and(|info| info.cause == RenewalInfo::CALLED_IN)
    }
}

fn ask_at(certificate: &Certificate, now: UnixTime, wait: u64) -> u64 {
    let first = now.as_secs().saturating_add(wait);
    let last = first.saturating_add(wait / ASK_SPREAD_DIVISOR);
    schedule::between(certificate, schedule::at(first), schedule::at(last)).as_secs()
}

#[cfg(test)]
mod tests {
    use pki::ServerName;

    use super::*;
    use crate::init::Material;

    #[test]
    fn a_window_far_away_is_cut_and_a_missed_answer_keeps_what_was_told() {
        let names = [ServerName::try_from("localhost").unwrap()];
        let now = UnixTime::now();
        let certificate = Material::make(&names, now).unwrap().server.certificate;
        let far = certificate.validity().not_after.as_secs() * 2;
        let info = RenewalInfo { start: far, end: far, ask_again: 3_600, cause: RenewalInfo::CALLED_IN };
        let told = Told::new(Some(info), &certificate, now);
        assert!(told.due(&certificate).unwrap() < certificate.validity().not_after);
        let hour = now.as_secs() + 3_600;
        assert!((hour..hour + 360).contains(&told.ask_at));
        assert!(Told::unanswered(Some(told), &certificate, now).is_called_in());
        assert!(Told::new(None, &certificate, now).ask_at >= now.as_secs() + 86_400);
    }
}
