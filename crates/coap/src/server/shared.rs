//! What the peers of one shard share: limits, totals, counters, the source of message ids.

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
    /// What is held beside bodies.
    pub(super) held: SharedAccounts,
    exchanges: u32,
}

impl Shared {
    /// `seed` is a random number: message ids of our own and jitters of retransmissions come from it.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Shared {
        Shared {
            config,
            spread: Spread::new(seed),
            counters: MessageCounters::default(),
            uploads: SharedAccounts::default(),
            answers: Answers::default(),
            held: SharedAccounts::default(),
            exchanges: 0,
        }
    }

    /// Another configuration; what is already held above a new limit stays until it expires.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> MessageCounters {
        MessageCounters { answers_evicted: self.answers.evicted(), ..self.counters }
    }

    /// Bytes that uploads hold now.
    #[must_use]
    pub fn upload_bytes(&self) -> usize {
        self.uploads.lock().total()
    }

    /// Bytes that kept responses hold now, with what pending requests reserve.
    #[must_use]
    pub fn response_bytes(&self) -> usize {
        self.answers.bytes()
    }

    /// Bytes held now beside bodies: exchanges, open uploads, known messages.
    #[must_use]
    pub fn exchange_bytes(&self) -> usize {
        self.held.lock().total()
    }

    /// Max-Age of our own 5.03; 0 would ask for a retry at once.
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

    /// The message ids of a peer that begins its first message.
    pub(super) fn fresh_ids(&mut self) -> MessageIds {
        MessageIds::new(self.spread.u16())
    }

    pub(super) fn next_exchange(&mut self) -> ExchangeId {
        self.exchanges = self.exchanges.wrapping_add(1);
        ExchangeId(self.exchanges)
    }
}
