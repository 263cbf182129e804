//! State that belongs to the process and outlives each of its configurations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authority::UpstreamFacts;
use est::CertificateCache;
use net::SystemRandom;
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

/// State that belongs to the process and outlives each of its configurations.
pub(crate) struct Process {
    /// Sessions look up their certificates here.
    pub(crate) certificates: Arc<CertificateCache>,
    /// For cookies, if the configuration names no secret: a device with a cookie from before a reload need not request another one.
    pub(super) cookie_secret: Zeroizing<[u8; 32]>,
    /// What upstream CAs say about themselves, by profile: as many as the configurations of this process have.
    upstreams: Mutex<HashMap<String, UpstreamAnswers>>,
}

/// What upstream CAs have said about themselves for one profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamAnswers {
    /// The last answers that fit the profile.
    pub(crate) good: Option<GoodAnswers>,
    /// Why the last attempt brought none.
    pub(crate) failure: Option<String>,
}

/// Answers that fit a profile, and where they are from: another upstream, or another label, is another CA.
#[derive(Clone, Debug)]
pub(crate) struct GoodAnswers {
    /// The URL of the upstream.
    pub(crate) upstream: Arc<str>,
    /// The label that was asked.
    pub(crate) label: Option<String>,
    /// What it said.
    pub(crate) facts: UpstreamFacts,
    /// When it said so last.
    pub(crate) at: UnixTime,
    /// When it last said something of its CSR attributes that can be used: a failure of that function alone takes away no answer of before.
    pub(crate) attributes_at: UnixTime,
}

/// What no upstream has confirmed for this long is not handed out any more: two of the longest `refresh_interval`, so that one refresh that fails takes
/// nothing away.
const ANSWERS_AGE_MAX: Duration = Duration::from_secs(60 * 86_400);

impl GoodAnswers {
    /// What is handed out at this time: the CA certificates that have not expired. `None` if there are none, or if the answers are too old.
    pub(crate) fn served_at(&self, now: UnixTime) -> Option<UpstreamFacts> {
        let mut facts = self.facts.clone();
        facts.ca_certificates.retain(|it| now <= it.validity().not_after);
        let is_fresh = |at: UnixTime| now.as_secs().saturating_sub(at.as_secs()) <= ANSWERS_AGE_MAX.as_secs();
        facts.csr_attributes = facts.csr_attributes.filter(|_| is_fresh(self.attributes_at));
        (is_fresh(self.at) && !facts.ca_certificates.is_empty()).then_some(facts)
    }

    /// The next second in which less is handed out than at this time.
    pub(crate) fn next_end(&self, now: UnixTime) -> Option<u64> {
        let too_old = |at: UnixTime| at.as_secs().saturating_add(ANSWERS_AGE_MAX.as_secs());
        let expiries = self.facts.ca_certificates.iter().map(|it| it.validity().not_after.as_secs());
        expiries
            .chain([too_old(self.at), too_old(self.attributes_at)])
            .map(|last| last.saturating_add(1))
            .filter(|end| *end > now.as_secs())
            .min()
    }
}

impl Process {
    pub(super) fn new() -> Self {
        let mut cookie_secret = Zeroizing::new([0; 32]);
        dtls::Random::fill(&SystemRandom::new(), cookie_secret.as_mut());
        let certificates = Arc::new(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT));
        Self { certificates, cookie_secret, upstreams: Mutex::default() }
    }

    /// What upstreams have said for this profile.
    pub(crate) fn upstream_answers(&self, profile: &str) -> UpstreamAnswers {
        self.upstreams().get(profile).cloned().unwrap_or_default()
    }

    /// Keeps answers that fit the profile; whether they are news.
    pub(crate) fn learn(&self, profile: &str, answers: GoodAnswers) -> bool {
        let mut known = self.upstreams();
        let known = known.entry(profile.to_owned()).or_default();
        if known.failure.take().is_some() {
            tracing::info!(profile, upstream = %answers.upstream, "an upstream CA gives answers (cacerts, csrattrs) that this profile can use again");
        }
        let is_news = known.good.as_ref().is_none_or(|before| {
            !before.facts.says_the_same_as(&answers.facts)
                || (&before.upstream, &before.label) != (&answers.upstream, &answers.label)
        });
        known.good = Some(answers);
        is_news
    }

    /// Keeps why an attempt brought no answers that fit the profile; what was good before stays. It is logged when it begins, and when the reason
    /// changes.
    pub(crate) fn learned_nothing(&self, profile: &str, why: String) {
        let mut known = self.upstreams();
        let known = known.entry(profile.to_owned()).or_default();
        if known.failure.as_ref() != Some(&why) {
            let consequence = match &known.good {
                Some(_) => "devices go on getting the last answers that did",
                None => "until one does, every request of its devices is answered with 5.03 (try again later)",
            };
            tracing::warn!(
                profile,
                "no upstream CA gives answers (cacerts, csrattrs) that this profile can use: {why}; {consequence}"
            );
            known.failure = Some(why);
        }
    }

    fn upstreams(&self) -> MutexGuard<'_, HashMap<String, UpstreamAnswers>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
