//! The state that the peers of one shard share: limits, totals, counters, the source of message ids.

use super::accounts::{Owner, SharedAccounts};
use super::answers::Answers;
use super::config::Config;
use super::counters::MessageCounters;
use super::done::ExchangeId;
use super::refusal::RequestRefusal;
use super::response::Response;
use crate::time::Spread;
use crate::{MessageId, MessageIds};

/// State of all peers of one shard.
#[derive(Debug)]
pub struct Shared {
    pub(super) config: Config,
    pub(super) spread: Spread,
    seed: u64,
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
            seed,
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

    /// Max-Age of our own 5.03 to this message of an owner: the configured one and up to half of it more, at least 1, because 0 would ask for an
    /// immediate retry. Those who are refused at the same time do not come back at the same time, and a copy of a message is told the same.
    pub(super) fn full_max_age(&self, owner: Owner, id: MessageId) -> u32 {
        let least = self.config.full_max_age.max(1);
        let place = owner.0.rotate_left(16) ^ u64::from(id.0);
        let spread = splitmix::at(self.seed, place) % u64::from(least / 2 + 1);
        u32::try_from(spread).unwrap_or(0).saturating_add(least)
    }

    /// The response that refuses a request here; without Max-Age.
    pub(super) fn refusal(&self, refusal: RequestRefusal) -> Response<'static> {
        Response::error(refusal.code(), (self.config.diagnose)(refusal))
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
