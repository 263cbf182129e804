//! What the audit keeps of a refusal.

use std::net::SocketAddr;
use std::sync::Arc;

use pki::Digest;
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::function::Function;
use crate::profile_version::ProfileVersion;

/// One request that was refused: the ledger keeps it in its audit. A request that waited for the same request in flight is part of that decision and
/// has no record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRecord {
    /// The stable code of the reason, see [`crate::Refusal::code`]: one of a closed set.
    pub reason: &'static str,
    /// What was asked for.
    pub function: Function,
    /// Name of the profile.
    pub profile: Arc<str>,
    /// The version of the profile that decided.
    pub profile_version: ProfileVersion,
    /// Who asked, if the client's certificate or its row names a device.
    pub device: Option<Device>,
    /// Digest of the certificate that the client authenticated with.
    pub client: Digest,
    /// The network address that asked.
    pub peer: SocketAddr,
    /// The time of the request.
    pub at: UnixTime,
}
