//! What belongs to the process, and outlives each configuration of it.

use std::sync::Arc;

use est::CertificateCache;
use net::SystemRandom;
use zeroize::Zeroizing;

/// What belongs to the process, and outlives each configuration of it.
pub(crate) struct Process {
    /// Sessions find their certificates here.
    pub(crate) certificates: Arc<CertificateCache>,
    /// For cookies, where the configuration names no secret: a device that holds one of before a reload need not ask again.
    pub(super) cookie_secret: Zeroizing<[u8; 32]>,
}

impl Process {
    pub(super) fn new() -> Self {
        let mut cookie_secret = Zeroizing::new([0; 32]);
        dtls::Random::fill(&SystemRandom::new(), cookie_secret.as_mut());
        let certificates = Arc::new(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT));
        Self { certificates, cookie_secret }
    }
}
