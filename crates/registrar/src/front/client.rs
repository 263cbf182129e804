//! Who is connected: a device, or a Registrar of the configuration.

use std::sync::Arc;

use est::{Authenticated, PeerVerifier};
use pki::chain::{self, Anchors, ChainRefusal};
use pki::{Certificate, ServerName};
use rustls_pki_types::UnixTime;

/// A Registrar of the configuration.
pub struct FrontRegistrar {
    name: Arc<str>,
    anchors: Anchors,
    certified_as: ServerName<'static>,
}

impl FrontRegistrar {
    /// `name` is that of its section, `certified_as` the name in its certificate, which chains to one of the anchors.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(
        name: &str,
        anchors: Vec<Arc<Certificate>>,
        certified_as: ServerName<'static>,
    ) -> Result<Self, chain::AnchorError> {
        Ok(Self { name: name.into(), anchors: Anchors::new(anchors)?, certified_as })
    }

    /// The client with this chain, if it is this Registrar: its certificate says so by id-kp-cmcRA and bears the configured name, and its chain is
    /// judged as that of a device is, which asks for clientAuth too. RFC 7030 §3.7 leaves the authorisation of clients to the server; RFC 6402 §2.10
    /// has id-kp-cmcRA for a registration authority.
    fn authenticate(&self, chain: &[&[u8]], utc: UnixTime) -> Result<FrontClient, ChainRefusal> {
        let verified = chain::verify_device(&self.anchors, chain, utc)?;
        let anchor = self.anchors.certificates()[verified.anchor].anchor_id();
        let authenticated = Authenticated { certificate: verified.leaf, anchor, deviations: verified.deviations };
        Ok(FrontClient { authenticated, registrar: Some(Arc::clone(&self.name)) })
    }

    /// Whether this leaf could be its own.
    fn may_be(&self, leaf: &Certificate) -> bool {
        leaf.is_registration_authority() && chain::bears_name(leaf, &self.certified_as)
    }
}

/// A client that is authenticated.
#[derive(Clone, Debug)]
pub struct FrontClient {
    /// Its certificate, and where the chain ended.
    pub authenticated: Authenticated,
    /// The name of the Registrar's section, if it is one. A certificate with id-kp-cmcRA that no section describes is that of a device.
    pub registrar: Option<Arc<str>>,
}

impl FrontClient {
    /// Judges a chain, leaf first, without its proof of possession: that is in the handshake.
    pub(super) fn judge(
        registrars: &[FrontRegistrar],
        devices: &PeerVerifier,
        chain: &[&[u8]],
        utc: UnixTime,
    ) -> Result<Self, dtls::CertificateRefusal> {
        let leaf = chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
        let candidates = registrars.iter().filter(|it| leaf.as_ref().is_some_and(|leaf| it.may_be(leaf)));
        for registrar in candidates {
            // Somebody else may have certified the name: then it is no Registrar, and may still be a device.
            if let Ok(client) = registrar.authenticate(chain, utc) {
                return Ok(client);
            }
        }
        devices.authenticate(chain, utc).map(|authenticated| Self { authenticated, registrar: None })
    }
}
