//! The EST-coaps client of one device: a DTLS association and one request at a time over it.
//!
//! ```text
//!   Client::new ──► handshake ──► Connected ──start──► exchange ──► Done(Answer) ─┐
//!                      │              ▲                    │                      │ start again
//!                      ▼              └────────────────────┼──────────────────────┘
//!                 Failed, over                             ▼
//!                                            Failed: refused, later, no answer, ...
//! ```
//!
//! With a [`Persistence`] a failure that another try may mend is no event of that kind but [`ClientEvent::Again`]: the client
//! rests, connects again if it has to, and repeats the identical request until it is answered or the deadline passes.
//!
//! It is driven as the server is: datagrams and time go in, `poll_transmit`, `poll_event` and `poll_timeout` come out. The
//! command line, the load generator's fleet and the simulator drive this same type, so it is small: no thread, no buffer
//! that is not in use, and what a fleet shares is behind `Arc`s.
//!
//! The server is checked as RFC 7030 §3.6 says, by [`ServerVerifier`]; what it answers is checked here: exactly one
//! certificate for an enrolment, for the key of the request.

mod answer;
mod config;
mod event;
mod failure;
mod operation;
mod persistence;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use coap::client::{Exchange, ExchangeProgress, RequestSpec};
use coap::{BlockSize, ContentFormat, Message, MessageIds, Method, Token};
use dtls::{IdentityUse, Now, Random, SendFault, SessionFacts};
use pki::Certificate;

use crate::resources::{DISCOVERY_PATH, Packing, Resource};
use crate::room;
use crate::verify::ServerVerifier;
use answer::Expected;
use persistence::{Effort, IDLE_MAX, Next, Remedy};

pub use answer::{Answer, CaCertificates};
pub use config::{ClientConfig, DtlsConfig};
pub use event::ClientEvent;
pub use failure::{AnswerFault, ErrorResponse, Failure, UnreadableAnswer};
pub use operation::{Operation, StartFault};
pub use persistence::Persistence;

/// Length of our tokens: one request at a time is told from the one before, and a block counts one on.
const TOKEN_BYTES: usize = 2;

/// One device's association.
pub struct Client {
    dtls: dtls::Client<ServerVerifier>,
    config: Arc<ClientConfig>,
    /// For further associations, as is `observer`.
    dtls_config: Arc<DtlsConfig>,
    observer: Option<Arc<dyn dtls::Observer>>,
    random: Arc<dyn Random>,
    ids: MessageIds,
    accept: Option<Packing>,
    phase: Phase,
    /// The last request, kept to acknowledge repetitions of a separate response.
    exchange: Option<Box<Exchange>>,
    /// What is persisted in, if there is something.
    task: Option<Box<Task>>,
    /// When the server was heard last.
    heard: Instant,
    events: VecDeque<ClientEvent>,
}

/// Where the client stands.
enum Phase {
    Connecting,
    Connected,
    Asking(Expected),
    /// A try failed, and the next one has its time.
    Resting(Next),
    /// The association ended while nothing was asked, and the next request begins another one.
    Dormant,
    Over,
}

/// What a client persists in.
struct Task {
    /// `None`: only the association is wanted.
    operation: Option<Operation>,
    accept: Option<Packing>,
    effort: Effort,
}

impl Client {
    /// Begins the handshake: its first datagram waits in [`Client::poll_transmit`].
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, dtls: Arc<DtlsConfig>, random: Arc<dyn Random>, now: Now) -> Client {
        Client::with_observer(config, dtls, random, now, None)
    }

    /// The same, with somebody who sees the event stream from the first ClientHello on.
    #[must_use]
    pub fn with_observer(
        config: Arc<ClientConfig>,
        dtls: Arc<DtlsConfig>,
        random: Arc<dyn Random>,
        now: Now,
        observer: Option<Arc<dyn dtls::Observer>>,
    ) -> Client {
        let mut start = [0; 2];
        random.fill(&mut start);
        let effort = config.persistence.map(|policy| Effort::new(&policy, now.mono));
        let task = effort.map(|effort| Box::new(Task { operation: None, accept: None, effort }));
        Client {
            dtls: dtls::Client::with_observer(Arc::clone(&dtls), Arc::clone(&random), now, observer.clone()),
            accept: config.accept,
            config,
            dtls_config: dtls,
            observer,
            random,
            ids: MessageIds::new(u16::from_be_bytes(start)),
            phase: Phase::Connecting,
            exchange: None,
            task,
            heard: now.mono,
            events: VecDeque::new(),
        }
    }

    /// What the requests that follow ask for; until then it is what the configuration says.
    pub fn set_accept(&mut self, accept: Option<Packing>) {
        self.accept = accept;
    }

    /// Starts a request.
    ///
    /// # Errors
    /// [`StartFault`]: one at a time, and only over an association; with a [`Persistence`], one that there has been.
    pub fn start(&mut self, now: Now, operation: Operation) -> Result<(), StartFault> {
        match self.phase {
            Phase::Connected | Phase::Dormant => {}
            Phase::Asking(_) | Phase::Resting(_) => return Err(StartFault::Busy),
            Phase::Connecting | Phase::Over => return Err(StartFault::NotConnected),
        }
        let expected = Expected::of(&operation, self.accept)?;
        let Some(policy) = &self.config.persistence else {
            self.ask(now, operation, self.accept, expected);
            return Ok(());
        };
        let effort = Effort::new(policy, now.mono);
        self.task = Some(Box::new(Task { operation: Some(operation.clone()), accept: self.accept, effort }));
        let stale = now.mono.saturating_duration_since(self.heard) > IDLE_MAX;
        if stale || matches!(self.phase, Phase::Dormant) {
            self.rest(now, Next { at: now.mono, remedy: Remedy::Handshake });
        } else {
            self.ask(now, operation, self.accept, expected);
        }
        Ok(())
    }

    /// One datagram from the server; records in it are opened in place.
    pub fn handle_datagram(&mut self, now: Now, datagram: &mut [u8]) {
        self.dtls.handle_datagram(now, datagram);
        self.drain_events(now, datagram);
    }

    /// Serves every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.task.as_ref().is_some_and(|task| task.effort.deadline <= now.mono) {
            return self.give_up(now);
        }
        if let Phase::Resting(next) = self.phase
            && next.at <= now.mono
        {
            return self.try_again(now, next.remedy);
        }
        self.dtls.handle_timeout(now);
        self.drain_events(now, &[]);
        let due = self.exchange.as_ref().and_then(|exchange| exchange.poll_timeout()).is_some_and(|at| at <= now.mono);
        if due && let Some(exchange) = &mut self.exchange {
            let progress = exchange.handle_timeout(now.mono, &mut self.ids);
            self.progress(now, progress);
        }
    }

    /// When [`Client::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().and_then(|exchange| exchange.poll_timeout());
        let deadline = self.task.as_ref().map(|task| task.effort.deadline);
        let rest = if let Phase::Resting(next) = self.phase { Some(next.at) } else { None };
        [self.dtls.poll_timeout(), exchange, deadline, rest].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.dtls.poll_transmit()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Ends the association with close_notify.
    pub fn close(&mut self, now: Now) {
        self.dtls.close(now);
        self.exchange = None;
        self.task = None;
        self.phase = Phase::Over;
    }

    /// Whether nothing can be asked any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// What was negotiated, once connected.
    #[must_use]
    pub fn facts(&self) -> Option<SessionFacts> {
        self.dtls.facts()
    }

    /// Noise that the DTLS layer dropped, by reason, in the association that there is.
    #[must_use]
    pub fn drops(&self) -> &dtls::DropCounters {
        self.dtls.drops()
    }

    /// Who sees the event stream of the DTLS layer.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn dtls::Observer>>) {
        self.observer.clone_from(&observer);
        self.dtls.set_observer(observer);
    }

    fn ask(&mut self, now: Now, operation: Operation, accept: Option<Packing>, expected: Expected) {
        let spec = self.request(operation, accept);
        let mut seed = [0; TOKEN_BYTES + 4];
        self.random.fill(&mut seed);
        let (token, jitter) = seed.split_at(TOKEN_BYTES);
        let token = Token::new(token).unwrap_or(Token::EMPTY);
        let jitter = jitter.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        self.exchange = Some(Box::new(Exchange::new(now.mono, spec, &mut self.ids, token, jitter)));
        self.phase = Phase::Asking(expected);
        self.pump(now);
    }

    fn request(&self, operation: Operation, accept: Option<Packing>) -> RequestSpec {
        let (method, path, queries, body) = match operation {
            Operation::CaCertificates => (Method::Get, self.path(Resource::CaCertificates), Vec::new(), Vec::new()),
            Operation::Enroll { csr } => (Method::Post, self.path(Resource::SimpleEnroll), Vec::new(), csr),
            Operation::Reenroll { csr } => (Method::Post, self.path(Resource::SimpleReenroll), Vec::new(), csr),
            Operation::Discover { query } => {
                let path = DISCOVERY_PATH.map(str::to_owned).to_vec();
                (Method::Get, path, query.into_iter().collect(), Vec::new())
            }
        };
        let function = path.as_slice() != DISCOVERY_PATH;
        let mut spec = RequestSpec::get("");
        spec.method = method;
        spec.path = path;
        spec.queries = queries;
        spec.content_format = (method == Method::Post).then_some(ContentFormat::PKCS10);
        spec.accept = accept.filter(|_| function).map(Packing::content_format);
        spec.body = body;
        spec.block = self.block();
        spec.kind = self.config.kind;
        spec.uri_host.clone_from(&self.config.uri_host);
        spec.uri_port = self.config.uri_port;
        spec.ack_timeout = self.config.ack_timeout;
        spec.repeats = self.config.persistence.map_or(0, |policy| policy.exchange_repeats);
        spec.answer_bytes_max = self.config.answer_bytes_max;
        spec
    }

    fn path(&self, resource: Resource) -> Vec<String> {
        let mut path = Vec::with_capacity(self.config.path.len() + 1);
        path.extend_from_slice(&self.config.path);
        path.push(resource.segment().to_owned());
        path
    }

    /// The configured block, or the largest below it that fits a record of this association with what surrounds it.
    fn block(&self) -> BlockSize {
        self.config.block.min(room::block_within(self.dtls.plaintext_max(), room::REQUEST_OVERHEAD_BYTES))
    }

    fn drain_events(&mut self, now: Now, datagram: &[u8]) {
        while let Some(event) = self.dtls.poll_event() {
            match event {
                dtls::ClientEvent::Established { peer, facts, identity } => self.connected(now, peer, facts, identity),
                dtls::ClientEvent::Data { plaintext } => {
                    if let Some(plaintext) = datagram.get(plaintext) {
                        self.handle_message(now, plaintext);
                    }
                }
                dtls::ClientEvent::Closed { why } => self.closed(now, why),
                dtls::ClientEvent::Failed { refusal: dtls::HandshakeRefusal::Certificate(fault), account } => {
                    self.ended(now, Failure::Untrusted { fault, detail: account.detail });
                }
                dtls::ClientEvent::Failed { refusal, .. } => self.ended(now, Failure::Handshake(refusal)),
            }
        }
    }

    fn connected(&mut self, now: Now, server: Arc<Certificate>, facts: SessionFacts, identity: IdentityUse) {
        self.heard = now.mono;
        self.phase = Phase::Connected;
        if self.task.as_ref().is_some_and(|task| task.operation.is_some()) {
            self.events.push_back(ClientEvent::Reconnected { server, facts });
            self.ask_again(now);
        } else {
            self.task = None;
            self.events.push_back(ClientEvent::Connected { server, facts, identity });
        }
    }

    /// The association has ended, by the server's word or by what its records say.
    fn closed(&mut self, now: Now, why: dtls::Closed) {
        match &mut self.phase {
            Phase::Asking(_) => self.ended(now, Failure::Closed(why)),
            Phase::Resting(next) => {
                next.remedy = Remedy::Handshake;
                self.exchange = None;
            }
            // What `close` ended is over already, and nobody waits to hear it again.
            Phase::Over | Phase::Dormant => {}
            Phase::Connecting | Phase::Connected => {
                self.exchange = None;
                self.phase = if self.config.persistence.is_some() { Phase::Dormant } else { Phase::Over };
                self.events.push_back(ClientEvent::Closed(why));
            }
        }
    }

    /// A try failed, and the association with it.
    fn ended(&mut self, now: Now, failure: Failure) {
        if !self.is_over() {
            self.phase = Phase::Over;
            self.exchange = None;
            self.failed(now, failure);
        }
    }

    /// A try failed: another one follows, or that was the last.
    fn failed(&mut self, now: Now, failure: Failure) {
        if let Some(observer) = &self.observer {
            let (reason, words) = (failure.reason().map_or("closed", crate::Reason::code), failure.to_string());
            observer.observe(now, None, &dtls::TraceEvent::Failed { reason, detail: Some(&words) });
        }
        let next = match (&self.config.persistence, &mut self.task) {
            (Some(policy), Some(task)) => task.effort.after(&failure, policy, now.mono, self.random.as_ref()),
            _ => None,
        };
        match next {
            Some(next) => {
                self.events.push_back(ClientEvent::Again { after: failure, at: next.at });
                self.rest(now, next);
            }
            None => {
                self.task = None;
                self.events.push_back(ClientEvent::Failed(failure));
            }
        }
    }

    /// Waits for the next try. An association that is of no use any more is closed, for the case that the server still
    /// has it; its close_notify leaves before the next ClientHello.
    fn rest(&mut self, now: Now, next: Next) {
        if next.remedy == Remedy::Handshake {
            self.drop_association(now);
        }
        self.phase = Phase::Resting(next);
    }

    fn drop_association(&mut self, now: Now) {
        self.exchange = None;
        self.dtls.close(now);
        // That it closed is no news to who closed it.
        while self.dtls.poll_event().is_some() {}
    }

    fn try_again(&mut self, now: Now, remedy: Remedy) {
        match remedy {
            Remedy::Request => self.ask_again(now),
            Remedy::Handshake => {
                let (config, random) = (Arc::clone(&self.dtls_config), Arc::clone(&self.random));
                self.dtls = dtls::Client::with_observer(config, random, now, self.observer.clone());
                self.phase = Phase::Connecting;
            }
        }
    }

    /// The identical request once more.
    fn ask_again(&mut self, now: Now) {
        let Some(task) = &self.task else { return };
        let (Some(operation), accept) = (task.operation.clone(), task.accept) else { return };
        // It was a request when it was started.
        if let Ok(expected) = Expected::of(&operation, accept) {
            self.ask(now, operation, accept, expected);
        }
    }

    /// The deadline has come.
    fn give_up(&mut self, now: Now) {
        let Some(task) = self.task.take() else { return };
        match self.phase {
            Phase::Asking(_) | Phase::Resting(Next { remedy: Remedy::Request, .. }) => {
                self.exchange = None;
                self.phase = Phase::Connected;
            }
            _ => {
                self.drop_association(now);
                self.phase = Phase::Over;
            }
        }
        self.events.push_back(ClientEvent::Failed(task.effort.into_failure()));
    }

    fn handle_message(&mut self, now: Now, plaintext: &[u8]) {
        // What is no CoAP is noise, authenticated or not.
        let Ok(message) = Message::parse(plaintext) else { return };
        self.heard = now.mono;
        let Some(exchange) = &mut self.exchange else { return };
        let progress = exchange.handle(now.mono, &message, &mut self.ids);
        self.progress(now, progress);
    }

    fn progress(&mut self, now: Now, progress: ExchangeProgress) {
        self.pump(now);
        match progress {
            ExchangeProgress::Ignored | ExchangeProgress::Pending => {}
            ExchangeProgress::Acknowledged => self.events.push_back(ClientEvent::Acknowledged),
            ExchangeProgress::Done(reply) => {
                let Some(expected) = self.finish() else { return };
                match expected.check(reply) {
                    Ok(answer) => {
                        self.task = None;
                        self.events.push_back(ClientEvent::Done(answer));
                    }
                    Err(failure) => self.failed(now, failure),
                }
            }
            ExchangeProgress::Failed(failure) => {
                if self.finish().is_some() {
                    self.failed(now, Failure::Request(failure));
                }
            }
        }
    }

    /// The request is over; what was expected of it.
    fn finish(&mut self) -> Option<Expected> {
        match std::mem::replace(&mut self.phase, Phase::Connected) {
            Phase::Asking(expected) => Some(expected),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Hands what the exchange has to send to the DTLS layer.
    fn pump(&mut self, now: Now) {
        let Some(exchange) = &mut self.exchange else { return };
        let mut fault = None;
        while let Some(message) = exchange.poll_transmit() {
            fault = self.dtls.send(now, message).err().or(fault);
        }
        // A message that does not fit will not fit when it is sent again.
        if let Some(SendFault::TooLong { plaintext_bytes_max }) = fault
            && self.finish().is_some()
        {
            self.exchange = None;
            self.failed(now, Failure::TooLong { plaintext_bytes_max });
        }
    }
}
