//! State that belongs to the process and outlives each of its configurations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use authority::UpstreamFacts;
use est::CertificateCache;
use net::SystemRandom;
use zeroize::Zeroizing;

/// State that belongs to the process and outlives each of its configurations.
pub(crate) struct Process {
    /// Sessions look up their certificates here.
    pub(crate) certificates: Arc<CertificateCache>,
    /// For cookies, if the configuration names no secret: a device with a cookie from before a reload need not request another one.
    pub(super) cookie_secret: Zeroizing<[u8; 32]>,
    /// What upstream CAs say about themselves, by label: as many as the configurations of this process have labels.
    upstream_facts: Mutex<HashMap<Option<String>, UpstreamFacts>>,
}

impl Process {
    pub(super) fn new() -> Self {
        let mut cookie_secret = Zeroizing::new([0; 32]);
        dtls::Random::fill(&SystemRandom::new(), cookie_secret.as_mut());
        let certificates = Arc::new(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT));
        Self { certificates, cookie_secret, upstream_facts: Mutex::default() }
    }

    /// What the upstream said last for this label.
    pub(crate) fn upstream_facts(&self, label: Option<&str>) -> UpstreamFacts {
        let facts = self.upstream_facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.get(&label.map(str::to_owned)).cloned().unwrap_or_default()
    }

    /// Remembers what the upstream says; whether that is news.
    pub(crate) fn learn(&self, label: Option<&str>, facts: UpstreamFacts) -> bool {
        let mut known = self.upstream_facts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(label.map(str::to_owned)).or_default();
        let is_news = !known.says_the_same_as(&facts);
        *known = facts;
        is_news
    }
}
