//! The state that the peers of one shard share: limits, totals, counters, the source of message ids.

use super::accounts::SharedAccounts;
use super::answers::Answers;
use super::config::Config;
use super::counters::MessageCounters;
use super::done::ExchangeId;
use super::refusal::RequestRefusal;
use super::response::Response;
use crate::MessageIds;
use crate::time::Spread;

/// State of all peers of one shard.
#[derive(Debug)]
pub struct Shared {
    pub(super) config: Config,
    pub(super) spread: Spread,
    pub(super) counters: MessageCounters,
    pub(super) uploads: SharedAccounts,
    pub(super) answers: Answers,
    /// What is held, bodies excluded.
    pub(super) held: SharedAccounts,
    exchanges: u32,
}

impl Shared {
    /// `seed` is a random number: our own message ids and the jitter of retransmissions come from it.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            spread: Spread::new(seed),
            counters: MessageCounters::default(),
            uploads: SharedAccounts::default(),
            answers: Answers::default(),
            held: SharedAccounts::default(),
            exchanges: 0,
        }
    }

    /// Replaces the configuration; what is already held above a new limit stays until it expires.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> MessageCounters {
        MessageCounters { answers_evicted: self.answers.evicted(), ..self.counters }
    }

    /// Bytes that uploads hold now.
    #[must_use]
    pub fn upload_bytes(&self) -> usize {
        self.uploads.lock().total()
    }

    /// Bytes that kept responses hold now, including the bytes that pending requests reserve.
    #[must_use]
    pub fn response_bytes(&self) -> usize {
        self.answers.bytes()
    }

    /// Bytes held now, bodies excluded: exchanges, open uploads, remembered messages.
    #[must_use]
    pub fn exchange_bytes(&self) -> usize {
        self.held.lock().total()
    }

    /// Max-Age of our own 5.03; 0 would ask for an immediate retry.
    pub(super) fn full_max_age(&self) -> u32 {
        self.config.full_max_age.max(1)
    }

    /// The response that refuses a request here.
    pub(super) fn refusal(&self, refusal: RequestRefusal) -> Response<'static> {
        let response = Response::error(refusal.code(), (self.config.diagnose)(refusal));
        match refusal {
            RequestRefusal::Full(_) => response.with_max_age(self.full_max_age()),
            _ => response,
        }
    }

    /// New message ids for a peer that originates its first message.
    pub(super) fn fresh_ids(&mut self) -> MessageIds {
        MessageIds::new(self.spread.u16())
    }

    pub(super) fn next_exchange(&mut self) -> ExchangeId {
        self.exchanges = self.exchanges.wrapping_add(1);
        ExchangeId(self.exchanges)
    }
}
