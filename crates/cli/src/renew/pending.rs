//! A request that the server answered with "later": it stays in the folder until it has its answer, so that every run sends the same one.
//!
//! An approval, or the 202 of an upstream CA, can take longer than a process lives, and the identical CSR is sent again after "later" (RFC 9148 §4.7).
//! A request that is linked to its session is not kept, because its session ends: then the key stays, and the next request is signed with it.
//!
//! The file is one line of JSON, and the private key in PEM. It is written as a whole, for its owner only.

use std::fs;
use std::time::Duration;

use pki::{Certificate, PrivateKey, UnixTime};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::folder::DeviceFolder;
use super::schedule;
use crate::connection::LATER_MAX;
use crate::files::{self, Access};
use crate::outcome::{CommandFault, CommandResult, Status, say};
use crate::request::RequestPlan;

/// The name of the file.
pub(super) const PENDING: &str = "renew.pending";

/// A request that nobody has answered for so long is made anew: its key is that old.
const KEPT_SECONDS_MAX: u64 = 30 * 86_400;

const _: () = assert!(KEPT_SECONDS_MAX > LATER_MAX.as_secs(), "a request is sent again before it is made anew");

/// See the module.
pub(super) struct PendingRequest {
    /// Since when the request exists.
    pub(super) made_at: UnixTime,
    /// The server is not asked again before.
    pub(super) ask_at: UnixTime,
    /// The request; `None` if it was linked to its session.
    pub(super) csr: Option<Vec<u8>>,
    /// Its key.
    pub(super) key: PrivateKey,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestOwner {
    function: &'static str,
    certificate: String,
}

impl RequestOwner {
    /// A request of this function by the device with this certificate.
    pub(super) fn new(function: &'static str, certificate: &Certificate) -> Self {
        Self { function, certificate: certificate.digest().to_string() }
    }
}

impl PendingRequest {
    /// What is stored for this owner. What is of another one, too old, or cannot be read is removed.
    pub(super) fn read(folder: &DeviceFolder, owner: &RequestOwner, now: UnixTime) -> Option<Self> {
        let path = folder.path(PENDING);
        if !path.exists() {
            return None;
        }
        let bytes = Zeroizing::new(files::read(&path).ok()?);
        let read = Self::parse(&bytes, owner);
        let is_kept = |it: &Self| {
            let made_at = it.made_at.as_secs();
            (made_at..made_at.saturating_add(KEPT_SECONDS_MAX)).contains(&now.as_secs())
        };
        let kept = read.filter(is_kept);
        if kept.is_none() {
            forget(folder);
        }
        kept
    }

    fn parse(bytes: &[u8], owner: &RequestOwner) -> Option<Self> {
        let end = bytes.iter().position(|octet| *octet == b'\n')?;
        let (line, key) = bytes.split_at(end);
        let object: Value = serde_json::from_slice(line).ok()?;
        if object["function"] != owner.function || object["certificate"] != owner.certificate {
            return None;
        }
        let number = |name: &str| object[name].as_u64().map(schedule::at);
        let csr = match &object["csr"] {
            Value::Null => None,
            csr => Some(hex::decode(csr.as_str()?).ok()?),
        };
        let key = pki::pem::private_key(key).ok()?;
        Some(Self { made_at: number("made_at")?, ask_at: number("ask_at")?, csr, key })
    }

    /// Stores the request of a plan, which the server wants to see again after this time.
    pub(super) fn write(
        folder: &DeviceFolder,
        owner: &RequestOwner,
        plan: &RequestPlan,
        (made_at, wait): (UnixTime, Duration),
    ) -> CommandResult {
        // One second more: both times are cut to whole ones, and the server is not asked too early.
        let ask_at = UnixTime::now().as_secs().saturating_add(wait.as_secs()).saturating_add(1);
        let object = json!({
            "function": owner.function,
            "certificate": owner.certificate,
            "made_at": made_at.as_secs(),
            "ask_at": ask_at,
            "csr": plan.unlinked().map(hex::encode),
        });
        let key = pki::pem::encode_private_key(plan.key());
        let text = Zeroizing::new(format!("{object}\n{}", key.as_str()));
        files::write(&folder.path(PENDING), text.as_bytes(), Access::Secret)
    }

    /// How long the server is not asked yet. Nobody writes a longer rest than [`LATER_MAX`]: the clock was wrong then or is now, and the server is asked.
    pub(super) fn rest(&self, now: UnixTime) -> Option<Duration> {
        let rest = self.ask_at.as_secs().saturating_sub(now.as_secs());
        (1..=LATER_MAX.as_secs() + 1).contains(&rest).then_some(Duration::from_secs(rest))
    }
}

/// Says of a renewal that was interrupted what stays in the folder, and what the next run does.
pub(super) fn explain_interrupted(folder: &DeviceFolder, fault: CommandFault) -> CommandFault {
    if fault.status() != Status::Interrupted {
        return fault;
    }
    let same = "interrupted; certificate and key are as they were";
    let path = folder.path(PENDING);
    if path.exists() {
        let message =
            format!("{same}, and the request that waits for its answer is in {} with its key", path.display());
        CommandFault::new(Status::Interrupted, message)
            .remedy("the next run sends the same request, not before the time that the server asked for")
    } else {
        CommandFault::new(Status::Interrupted, same).remedy("the next run begins anew")
    }
}

/// Removes what is stored: it has its answer, or is of no use.
pub(super) fn forget(folder: &DeviceFolder) {
    let path = folder.path(PENDING);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            say!("muster: cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use dtls::SessionFacts;
    use pki::ServerName;

    use super::*;
    use crate::init::Material;
    use crate::request::{RequestNames, RequestedFunction};

    fn facts() -> SessionFacts {
        SessionFacts {
            suite: dtls::Suite::EcdheEcdsaAes128Ccm8,
            extended_master_secret: true,
            tls_unique: *b"twelve bytes",
        }
    }

    #[test]
    fn a_kept_request_is_that_of_one_identity_for_a_while_and_a_linked_one_is_signed_anew() {
        let now = UnixTime::now();
        let material = Material::make(&[ServerName::try_from("localhost").unwrap()], now).unwrap();
        let own = &material.device.certificate;
        let owner = RequestOwner::new("sren", own);
        let scratch = tempfile::tempdir().unwrap();
        let folder = DeviceFolder::lock(scratch.path()).unwrap();
        let names = || RequestNames::of(own, RequestedFunction::Reenroll).unwrap();
        for links in [false, true] {
            let plan = RequestPlan::new(names(), None, links).unwrap();
            let csr = plan.request(&facts()).unwrap();
            let keep = || PendingRequest::write(&folder, &owner, &plan, (now, Duration::from_secs(300))).unwrap();
            keep();
            let mode = fs::metadata(folder.path(PENDING)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let kept = PendingRequest::read(&folder, &owner, now).unwrap();
            assert!(kept.rest(now).is_some_and(|rest| (300..310).contains(&rest.as_secs())));
            assert_eq!(kept.rest(schedule::at(now.as_secs() + 400)), None);
            let far = PendingRequest { ask_at: schedule::at(u64::MAX), csr: None, ..kept };
            assert_eq!(far.rest(now), None, "no server silences a device for ever");
            let kept = PendingRequest::read(&folder, &owner, now).unwrap();
            assert_eq!(kept.csr.is_none(), links, "a link is that of a session which has ended");
            let again = match kept.csr {
                Some(csr) => RequestPlan::again(kept.key, csr).unwrap(),
                None => RequestPlan::with_key(names(), None, links, Some(kept.key)).unwrap(),
            };
            assert_eq!(again.key().pkcs8(), plan.key().pkcs8());
            assert_eq!(again.request(&facts()).unwrap() == csr, !links);

            for (other, at) in [
                (RequestOwner::new("sen", own), now),
                (RequestOwner::new("sren", &material.server.certificate), now),
                (owner.clone(), schedule::at(now.as_secs() + KEPT_SECONDS_MAX)),
                // The clock was set back: nobody knows how old it is.
                (owner.clone(), schedule::at(now.as_secs() - 1)),
            ] {
                keep();
                assert!(PendingRequest::read(&folder, &other, at).is_none(), "{other:?}");
                assert!(!folder.path(PENDING).exists(), "it is of no use any more");
            }
        }
    }
}
