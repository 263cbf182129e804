//! What a decision permits: one issuance, which consumes it.

use std::net::SocketAddr;
use std::sync::Arc;

use pki::issue::{IssueError, Serial, ToBeSigned};
use pki::{AnchorId, Certificate, Digest, GeneralNames, Name, PublicKeyInfo, Validity};
use rustls_pki_types::UnixTime;

use crate::ca_profile::CaProfile;
use crate::checks::renews;
use crate::device::Device;
use crate::function::Function;
use crate::idempotency::Key;
use crate::key_protection::MadeKey;
use crate::origin::Origin;
use crate::profile::Profile;
use crate::refusal::{Busy, Refusal};
use crate::refusal_record::RefusalRecord;

/// The right to one certificate.
pub(crate) struct Permit {
    pub(crate) function: Function,
    pub(crate) profile: Arc<Profile>,
    pub(crate) rules: Arc<CaProfile>,
    pub(crate) device: Device,
    pub(crate) anchor: AnchorId,
    pub(crate) origin: Origin,
    pub(crate) client: Arc<Certificate>,
    /// The certificate whose names are kept: that of the client, or the one last issued to the device that a Registrar vouches for.
    pub(crate) holder: Arc<Certificate>,
    /// The subject, if it differs from the holder's own.
    pub(crate) subject: Option<Name>,
    pub(crate) key: Key,
    /// Digest of the CSR; if the server has made the key, of the CSR and the key, because a later request gets another pair.
    pub(crate) csr: Digest,
    /// Digest of the names that it asks for.
    pub(crate) names: Digest,
    /// The key to certify: that of the request, or one that the server has made.
    pub(crate) public_key: PublicKeyInfo,
    /// Its private half, if the server has made it.
    pub(crate) private_key: Option<MadeKey>,
    /// The alternative names in the request.
    pub(crate) san: GeneralNames,
    pub(crate) peer: SocketAddr,
    pub(crate) waits: Option<Busy>,
}

impl Permit {
    pub(crate) fn function(&self) -> Function {
        self.function
    }

    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// What the CA issues by.
    pub(crate) fn rules(&self) -> &CaProfile {
        &self.rules
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn anchor(&self) -> AnchorId {
        self.anchor
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// The names of the factory certificate, if the client authenticated with it.
    pub(crate) fn factory_key(&self) -> Option<Digest> {
        (self.origin == Origin::Manufacturer).then(|| Digest::of(self.client.spki()))
    }

    pub(crate) fn client(&self) -> Digest {
        self.client.digest()
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Why the device gets no new certificate now. A repeat of a request that was answered before is answered all the same.
    pub(crate) fn waits(&self) -> Option<Busy> {
        self.waits
    }

    pub(crate) fn csr(&self) -> Digest {
        self.csr
    }

    pub(crate) fn names(&self) -> Digest {
        self.names
    }

    pub(crate) fn subject(&self) -> &Name {
        self.subject.as_ref().unwrap_or_else(|| self.holder.subject())
    }

    /// The profile lists each of these names, and the holder's certificate has it, or a Registrar vouches for it. A renewal keeps the names and their
    /// form; other requests get the names as they asked for them.
    pub(crate) fn san(&self) -> &GeneralNames {
        if renews(self.function, self.origin) { self.holder.san() } else { &self.san }
    }

    /// The private key, for the outcome.
    pub(crate) fn take_private_key(&mut self) -> Option<MadeKey> {
        self.private_key.take()
    }

    pub(crate) fn spki(&self) -> &[u8] {
        self.public_key.der()
    }

    pub(crate) fn refused(&self, why: &Refusal, at: UnixTime) -> RefusalRecord {
        RefusalRecord {
            reason: why.code(self.function),
            function: self.function,
            profile: Arc::clone(self.profile.shared_name()),
            profile_version: self.rules.version(),
            device: Some(self.device.clone()),
            client: self.client.digest(),
            peer: self.peer,
            at,
        }
    }

    pub(crate) fn fill(&self, serial: &Serial, validity: Validity) -> Result<ToBeSigned, IssueError> {
        self.rules.template().fill(self.subject(), self.san(), self.spki(), serial, validity)
    }
}
