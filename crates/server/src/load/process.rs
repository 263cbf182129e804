//! State that belongs to the process and outlives each of its configurations.

use std::sync::Arc;

use est::CertificateCache;
use net::SystemRandom;
use zeroize::Zeroizing;

/// State that belongs to the process and outlives each of its configurations.
pub(crate) struct Process {
    /// Sessions look up their certificates here.
    pub(crate) certificates: Arc<CertificateCache>,
    /// For cookies, if the configuration names no secret: a device with a cookie from before a reload need not request another one.
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
