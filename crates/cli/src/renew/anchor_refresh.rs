//! When the CA certificates of a folder have to be fetched although the device's own certificate is not due: before one of them expires.
//!
//! Each renewal fetches them too. So this matters to a device whose own certificate outlives one of its CA, as in a roll-over.

use pki::{Certificate, UnixTime};
use serde_json::{Value, json};

use super::folder::{ANCHORS, DeviceFolder};
use super::schedule;
use crate::files::{self, Access};
use crate::outcome::CommandResult;
use crate::pem;

const FILE: &str = "anchors.json";

/// A server that still lists a CA certificate that expires soon is asked again after this time, or a tenth more.
const ASK_AGAIN_SECONDS: u64 = 86_400;
const ASK_SPREAD_DIVISOR: u64 = 10;

/// The CA certificates are fetched in this part of the life of one of them: each device at a moment of its own, and all before its last tenth.
const BEGIN_PERCENT: u64 = 80;
const END_PERCENT: u64 = 90;

/// A CA certificate expires soon, and the server was not asked lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnchorRefresh;

impl AnchorRefresh {
    /// Whether it is time. One that has expired already is of no use to anybody, and is no reason to ask.
    pub(super) fn due(folder: &DeviceFolder, own: &Certificate, now: UnixTime) -> Option<Self> {
        let list = pem::read_list(&folder.path(ANCHORS)).ok()?;
        let mut authorities = list.iter().filter_map(|der| Certificate::parse(der).ok());
        let expires_soon =
            |authority: Certificate| now <= authority.validity().not_after && now >= moment(&authority, own);
        let put_off = asked_until(folder).is_some_and(|until| now.as_secs() < until);
        (!put_off && authorities.any(expires_soon)).then_some(Self)
    }

    /// Notes that the server is asked now, whatever it answers.
    pub(super) fn put_off(self, folder: &DeviceFolder, own: &Certificate, now: UnixTime) -> CommandResult {
        let first = now.as_secs().saturating_add(ASK_AGAIN_SECONDS);
        let last = first.saturating_add(ASK_AGAIN_SECONDS / ASK_SPREAD_DIVISOR);
        let until = schedule::between(own, schedule::at(first), schedule::at(last)).as_secs();
        files::write(&folder.path(FILE), json!({ "ask_at": until }).to_string().as_bytes(), Access::Public)
    }
}

/// The moment of this device. Its own certificate selects it: a fleet has one CA.
fn moment(authority: &Certificate, own: &Certificate) -> UnixTime {
    let (begin, end) = (authority.validity().not_before.as_secs(), authority.validity().not_after.as_secs());
    let share = |percent: u64| {
        let seconds = u128::from(end.saturating_sub(begin)) * u128::from(percent) / 100;
        schedule::at(begin.saturating_add(u64::try_from(seconds).unwrap_or(u64::MAX)))
    };
    schedule::between(own, share(BEGIN_PERCENT), share(END_PERCENT))
}

fn asked_until(folder: &DeviceFolder) -> Option<u64> {
    let object: Value = serde_json::from_slice(&files::read(&folder.path(FILE)).ok()?).ok()?;
    object["ask_at"].as_u64()
}

#[cfg(test)]
mod tests {
    use pki::ServerName;

    use super::*;
    use crate::init::Material;

    #[test]
    fn the_ca_certificates_are_due_in_the_last_fifth_of_one_and_then_once_a_day() {
        let names = [ServerName::try_from("localhost").unwrap()];
        let material = Material::make(&names, UnixTime::now()).unwrap();
        let (root, own) = (&material.root.certificate, &material.device.certificate);
        let (begin, end) = (root.validity().not_before.as_secs(), root.validity().not_after.as_secs());
        let at = |percent: u64| schedule::at(begin + (end - begin) / 100 * percent);
        let scratch = tempfile::tempdir().unwrap();
        let folder = DeviceFolder::lock(scratch.path()).unwrap();
        assert_eq!(AnchorRefresh::due(&folder, own, at(95)), None, "without CA certificates there is nothing to do");
        folder.keep_anchors(std::slice::from_ref(root)).unwrap();
        assert_eq!(AnchorRefresh::due(&folder, own, at(79)), None);
        let due = AnchorRefresh::due(&folder, own, at(91)).expect("before its last tenth");
        due.put_off(&folder, own, at(91)).unwrap();
        let later = |seconds: u64| schedule::at(at(91).as_secs() + seconds);
        assert_eq!(AnchorRefresh::due(&folder, own, later(ASK_AGAIN_SECONDS - 1)), None);
        assert!(AnchorRefresh::due(&folder, own, later(ASK_AGAIN_SECONDS * 2)).is_some());
        assert_eq!(AnchorRefresh::due(&folder, own, schedule::at(end + 1)), None, "an expired one is no reason");
    }
}
