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
    /// An answer of this moment; `None` if there was none.
    pub(super) fn new(info: Option<RenewalInfo>, now: UnixTime) -> Self {
        let wait = info.map_or(ASK_AGAIN_SECONDS, |info| info.ask_again.clamp(ASK_SECONDS_MIN, ASK_SECONDS_MAX));
        Self { info, ask_at: now.as_secs().saturating_add(wait) }
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

    /// When the certificate is due as the server sees it: a moment of the window that the certificate's digest selects.
    pub(super) fn due(&self, certificate: &Certificate) -> Option<UnixTime> {
        let info = self.info?;
        Some(schedule::between(certificate, schedule::at(info.start), schedule::at(info.end)))
    }

    /// Whether the operator has called the certificate in.
    pub(super) fn is_called_in(&self) -> bool {
        self.info.is_some_and(|info| info.cause == RenewalInfo::CALLED_IN)
    }
}
