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
//! With a [`Persistence`] a failure that another attempt may fix is reported as [`ClientEvent::Again`]: the client
//! rests, connects again if it has to, and repeats the identical request until it is answered or the deadline passes.
//!
//! It is driven like the server: datagrams and time go in, `poll_transmit`, `poll_event` and `poll_timeout` come out.
//! The command line, the load generator's fleet and the simulator drive this same type, so it is small: it has no
//! thread and no unused buffer, and a fleet shares common data behind `Arc`s.
//!
//! [`ServerVerifier`] checks the server as RFC 7030 §3.6 requires; this module checks its answers: exactly one
//! certificate for an enrolment, for the key of the request.

mod answer;
mod config;
mod event;
mod failure;
mod operation;
mod persistence;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use coap::client::{Exchange, ExchangeProgress, RequestSpec};
use coap::{BlockSize, Code, ContentFormat, Message, MessageIds, Method, Token};
use dtls::{IdentityUse, Now, Random, SendFault, SessionFacts};
use pki::chain::AnchorSet;
use pki::{Certificate, Encoding};

use crate::resources::{DISCOVERY_PATH, Packing, Resource};
use crate::room;
use crate::verify::{AuthenticatedServer, ServerVerifier};
use answer::Expected;
use persistence::{Effort, IDLE_MAX, Next, Remedy};
use state::{Asking, ClientState, Pursuit, Task};

pub use answer::{Answer, CaCertificates, EnvelopedKey, ReceivedKey, fuzz_key_answer};
pub use config::{AnchorUpdate, ClientConfig, DtlsConfig};
pub use event::ClientEvent;
pub use failure::{AnswerFault, ErrorResponse, Failure, UnreadableAnswer};
pub use operation::{Operation, StartFault};
pub use persistence::Persistence;

/// Length of our tokens: a token distinguishes a request from the previous one, and each block increments it.
const TOKEN_BYTES: usize = 2;

/// One device's association.
pub struct Client {
    dtls: dtls::Client<ServerVerifier>,
    config: Arc<ClientConfig>,
    /// For further associations, like `observer`.
    dtls_config: Arc<DtlsConfig>,
    observer: Option<Arc<dyn dtls::Observer>>,
    random: Arc<dyn Random>,
    ids: MessageIds,
    accept: Option<Packing>,
    /// The server of the association has not been judged by the current anchors.
    anchors_changed: bool,
    state: ClientState,
    /// When the last datagram from the server arrived.
    heard: Instant,
    events: VecDeque<ClientEvent>,
    /// The server has taken a block of the request in progress and asked for the next one.
    uploading: bool,
    uploads_sent_away: u64,
}

impl Client {
    /// Begins the handshake: its first datagram is available from [`Client::poll_transmit`].
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, dtls: Arc<DtlsConfig>, random: Arc<dyn Random>, now: Now) -> Self {
        Self::with_observer(config, dtls, random, now, None)
    }

    /// Like [`Client::new`], with an observer of the event stream from the first ClientHello on.
    #[must_use]
    pub fn with_observer(
        config: Arc<ClientConfig>,
        dtls: Arc<DtlsConfig>,
        random: Arc<dyn Random>,
        now: Now,
        observer: Option<Arc<dyn dtls::Observer>>,
    ) -> Self {
        let mut start = [0; 2];
        random.fill(&mut start);
        let task = config.persistence.map(|policy| Task::Associate(Box::new(Effort::new(policy, now.mono))));
        Self {
            dtls: dtls::Client::with_observer(Arc::clone(&dtls), Arc::clone(&random), now, observer.clone()),
            accept: config.accept,
            anchors_changed: false,
            config,
            dtls_config: dtls,
            observer,
            random,
            ids: MessageIds::new(u16::from_be_bytes(start)),
            state: ClientState::Connecting(task),
            heard: now.mono,
            events: VecDeque::new(),
            uploading: false,
            uploads_sent_away: 0,
        }
    }

    /// The uploads since the last call of which the server took blocks, and which it then ended with 5.03 or 4.29: all of it has to come again.
    pub fn take_uploads_sent_away(&mut self) -> u64 {
        std::mem::take(&mut self.uploads_sent_away)
    }

    /// Sets the format that later requests ask for; until then the configuration decides.
    pub fn set_accept(&mut self, accept: Option<Packing>) {
        self.accept = accept;
    }

    /// Sets the configuration of later requests, such as the paths of a discovery answer. A request in progress keeps its own.
    pub fn set_config(&mut self, config: Arc<ClientConfig>) {
        self.config = config;
    }

    /// Starts a request.
    ///
    /// # Errors
    /// [`StartFault`]: only one request at a time, and only over an association; with a [`Persistence`], an association
    /// that has ended is replaced.
    pub fn start(&mut self, now: Now, operation: Operation) -> Result<(), StartFault> {
        let dormant = match self.state {
            ClientState::Connected(_) => false,
            ClientState::Dormant => true,
            ClientState::Asking(_) | ClientState::Waiting { .. } | ClientState::Resting { .. } => {
                return Err(StartFault::Busy);
            }
            ClientState::Connecting(_) | ClientState::Over => return Err(StartFault::NotConnected),
        };
        let accept = self.accept;
        let expected = Expected::of(&operation, accept)?;
        if !dormant && let Err(failure) = self.judge_server_again(now) {
            self.disown(now, failure);
            return Ok(());
        }
        let Some(policy) = self.config.persistence else {
            self.ask(now, operation, accept, expected, None);
            return Ok(());
        };
        let effort = Effort::new(policy, now.mono);
        let pursuit = Box::new(Pursuit { operation: operation.clone(), accept, expected, effort });
        if dormant || now.mono.saturating_duration_since(self.heard) > IDLE_MAX {
            self.drop_association(now);
            self.state = ClientState::Resting { at: now.mono, task: Task::Request(pursuit) };
        } else {
            self.ask(now, operation, accept, expected, Some(pursuit));
        }
        Ok(())
    }

    /// Handles one datagram from the server; records in it are decrypted in place.
    pub fn handle_datagram(&mut self, now: Now, datagram: &mut [u8]) {
        self.dtls.handle_datagram(now, datagram);
        self.drain_events(now, datagram);
    }

    /// Handles every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.state.deadline().is_some_and(|deadline| deadline <= now.mono) {
            return self.give_up(now);
        }
        if self.state.next_try().is_some_and(|at| at <= now.mono) {
            return self.try_again(now);
        }
        self.dtls.handle_timeout(now);
        self.drain_events(now, &[]);
        if let Some(exchange) = self.state.exchange_mut()
            && exchange.poll_timeout().is_some_and(|at| at <= now.mono)
        {
            let progress = exchange.handle_timeout(now.mono, &mut self.ids);
            self.progress(now, progress);
        }
    }

    /// When [`Client::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.state.exchange().and_then(Exchange::poll_timeout);
        let own = [self.state.deadline(), self.state.next_try()];
        [self.dtls.poll_timeout(), exchange].into_iter().chain(own).flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.dtls.poll_transmit()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Ends the association with close_notify.
    pub fn close(&mut self, now: Now) {
        self.dtls.close(now);
        self.state = ClientState::Over;
    }

    /// Whether no further request can be made.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, ClientState::Over)
    }

    /// What was negotiated, once connected.
    #[must_use]
    pub fn facts(&self) -> Option<SessionFacts> {
        self.dtls.facts()
    }

    /// The configuration of its next association: after `/crts`, with the anchors of that answer.
    #[must_use]
    pub const fn dtls_config(&self) -> &Arc<DtlsConfig> {
        &self.dtls_config
    }

    /// Datagrams that the DTLS layer dropped, by reason, in the current association.
    #[must_use]
    pub fn drops(&self) -> &dtls::DropCounters {
        self.dtls.drops()
    }

    /// Sets the observer of the DTLS layer's event stream.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn dtls::Observer>>) {
        self.observer.clone_from(&observer);
        self.dtls.set_observer(observer);
    }

    /// "SHOULD revalidate the server certificate chain against the updated Explicit TA from the /crts response before
    /// proceeding with the subsequent requests" (RFC 9148 §9.1).
    fn judge_server_again(&mut self, now: Now) -> Result<(), Failure> {
        if std::mem::take(&mut self.anchors_changed) { self.judge_server(now) } else { Ok(()) }
    }

    /// Whether the current anchors authenticate the server of the association: after `/crts`, those of the answer. The next request asks it by
    /// itself; a caller that stores the anchors asks it before.
    ///
    /// # Errors
    /// [`Failure::Disowned`].
    pub fn judge_server(&self, now: Now) -> Result<(), Failure> {
        let Some(server) = self.dtls.peer() else { return Ok(()) };
        let judged = self.dtls_config.verifier.judge_again(server, now.utc);
        judged.map_err(|dtls::CertificateRefusal { fault, detail }| Failure::Disowned { fault, detail })
    }

    /// "If the server certificate chain does not authenticate against the database, the client SHOULD close the connection
    /// without completing the rest of the requests" (RFC 9148 §9.1).
    fn disown(&mut self, now: Now, failure: Failure) {
        self.drop_association(now);
        self.state = if self.config.persistence.is_some() { ClientState::Dormant } else { ClientState::Over };
        self.failed(now, failure, None);
    }

    /// "The updated Explicit TA MUST continue to be used in new DTLS connections" (RFC 9148 §9.1).
    fn adopt(&mut self, received: &CaCertificates) {
        let parsed = received.usable.iter().filter_map(|der| Certificate::parse_as(der, Encoding::Strict).ok());
        let set = AnchorSet::sort(&parsed.map(Arc::new).collect::<Vec<_>>());
        // Each of them was found to be fit for an anchor when the answer was checked.
        let Ok(verifier) = self.dtls_config.verifier.with_explicit(set) else { return };
        self.dtls_config = Arc::new(self.dtls_config.with_verifier(Arc::new(verifier)));
        self.anchors_changed = true;
    }

    fn ask(
        &mut self,
        now: Now,
        operation: Operation,
        accept: Option<Packing>,
        expected: Expected,
        pursuit: Option<Box<Pursuit>>,
    ) {
        let spec = self.request(operation, accept);
        let mut seed = [0; TOKEN_BYTES + 4];
        self.random.fill(&mut seed);
        let (token, jitter) = seed.split_at(TOKEN_BYTES);
        let token = Token::new(token).unwrap_or(Token::EMPTY);
        let jitter = jitter.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        let exchange = Box::new(Exchange::new(now.mono, spec, &mut self.ids, token, jitter));
        self.uploading = false;
        self.state = ClientState::Asking(Asking { exchange, expected, pursuit });
        self.pump(now);
    }

    fn request(&self, operation: Operation, accept: Option<Packing>) -> RequestSpec {
        // The others have one format each.
        let certificates =
            matches!(operation, Operation::CaCertificates | Operation::Enroll { .. } | Operation::Reenroll { .. });
        let (method, path, queries, body) = match operation {
            Operation::CaCertificates => (Method::Get, self.path(Resource::CaCertificates), Vec::new(), Vec::new()),
            Operation::GenerateKey { csr, packing } => {
                let resource = match packing {
                    Packing::CertsOnly => Resource::ServerKeygen,
                    Packing::Single => Resource::ServerKeygenBare,
                };
                (Method::Post, self.path(resource), Vec::new(), csr)
            }
            Operation::CsrAttributes => (Method::Get, self.path(Resource::CsrAttributes), Vec::new(), Vec::new()),
            Operation::RenewalInfo => (Method::Get, self.path(Resource::RenewalInfo), Vec::new(), Vec::new()),
            Operation::Enroll { csr } => (Method::Post, self.path(Resource::SimpleEnroll), Vec::new(), csr),
            Operation::Reenroll { csr } => (Method::Post, self.path(Resource::SimpleReenroll), Vec::new(), csr),
            Operation::Discover { query } => {
                let path = DISCOVERY_PATH.map(str::to_owned).to_vec();
                (Method::Get, path, query.into_iter().collect(), Vec::new())
            }
        };
        let mut spec = RequestSpec::get("");
        spec.method = method;
        spec.path = path;
        spec.queries = queries;
        spec.content_format = (method == Method::Post).then_some(ContentFormat::PKCS10);
        spec.accept = accept.filter(|_| certificates).map(Packing::content_format);
        spec.body = body;
        spec.block = self.block();
        spec.kind = self.config.kind;
        spec.uri_host.clone_from(&self.config.uri_host);
        spec.uri_port = self.config.uri_port;
        spec.ack_timeout = self.config.ack_timeout;
        spec.response_wait = self.config.response_wait;
        spec.repeats = self.config.persistence.map_or(0, |policy| policy.exchange_repeats);
        spec.answer_bytes_max = self.config.answer_bytes_max;
        spec
    }

    fn path(&self, resource: Resource) -> Vec<String> {
        if let Some(found) = &self.config.found {
            return found.path(resource);
        }
        let mut path = Vec::with_capacity(self.config.path.len() + 1);
        path.extend_from_slice(&self.config.path);
        path.push(resource.segment().to_owned());
        path
    }

    /// The configured block size, or the largest one below it whose message fits a record of this association.
    fn block(&self) -> BlockSize {
        self.config.block.min(room::block_within(self.dtls.plaintext_max(), room::REQUEST_OVERHEAD_BYTES))
    }

    fn drain_events(&mut self, now: Now, datagram: &[u8]) {
        while let Some(event) = self.dtls.poll_event() {
            match event {
                dtls::ClientEvent::Established { peer, facts, identity } => self.connected(now, &peer, facts, identity),
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

    fn connected(&mut self, now: Now, server: &AuthenticatedServer, facts: SessionFacts, identity: IdentityUse) {
        let server = Arc::clone(&server.certificate);
        self.heard = now.mono;
        self.anchors_changed = false;
        match self.take(ClientState::Connected(None)) {
            ClientState::Connecting(Some(Task::Request(pursuit))) => {
                self.events.push_back(ClientEvent::Reconnected { server, facts });
                self.ask_again(now, pursuit);
            }
            _ => self.events.push_back(ClientEvent::Connected { server, facts, identity }),
        }
    }

    /// The association has ended: the server closed it, or its records ended it.
    fn closed(&mut self, now: Now, why: dtls::Closed) {
        match self.take(ClientState::Over) {
            state @ (ClientState::Asking(_) | ClientState::Connecting(Some(_))) => {
                self.state = state;
                self.ended(now, Failure::Closed(why));
            }
            ClientState::Waiting { at, pursuit, .. } => {
                self.state = ClientState::Resting { at, task: Task::Request(pursuit) }
            }
            // The association was already over: there is nothing to report again.
            state @ (ClientState::Resting { .. } | ClientState::Dormant | ClientState::Over) => self.state = state,
            ClientState::Connecting(None) | ClientState::Connected(_) => {
                self.state = if self.config.persistence.is_some() { ClientState::Dormant } else { ClientState::Over };
                self.events.push_back(ClientEvent::Closed(why));
            }
        }
    }

    /// A try failed, and its association with it.
    fn ended(&mut self, now: Now, failure: Failure) {
        let task = match self.take(ClientState::Over) {
            ClientState::Over => return,
            ClientState::Connecting(task) => task,
            ClientState::Asking(Asking { pursuit, .. }) => pursuit.map(Task::Request),
            ClientState::Waiting { pursuit, .. } => Some(Task::Request(pursuit)),
            ClientState::Resting { task, .. } => Some(task),
            ClientState::Connected(_) | ClientState::Dormant => None,
        };
        self.failed(now, failure, task);
    }

    /// A try failed: either another one follows, or the failure is final.
    fn failed(&mut self, now: Now, failure: Failure, task: Option<Task>) {
        if let Some(observer) = &self.observer {
            let (reason, words) = (failure.reason().map_or("closed", crate::Reason::code), failure.to_string());
            observer.observe(now, None, &dtls::TraceEvent::Failed { reason, detail: Some(&words) });
        }
        let next = task.and_then(|mut task| {
            let next = task.effort_mut().after(&failure, now.mono, self.random.as_ref())?;
            Some((next, task))
        });
        match next {
            Some((next, task)) => {
                self.events.push_back(ClientEvent::Again { after: failure, at: next.at });
                self.put_off(now, next, task);
            }
            None => self.events.push_back(ClientEvent::Failed(failure)),
        }
    }

    /// Waits for the next try. An association that is no longer of use is closed in case the server still has it; its
    /// close_notify is sent before the next ClientHello.
    fn put_off(&mut self, now: Now, next: Next, task: Task) {
        let Next { at, remedy } = next;
        self.state = match (remedy, task, self.take(ClientState::Over)) {
            (Remedy::Request, Task::Request(pursuit), ClientState::Connected(Some(exchange))) => {
                ClientState::Waiting { at, pursuit, exchange }
            }
            (_, task, _) => {
                self.drop_association(now);
                ClientState::Resting { at, task }
            }
        };
    }

    fn drop_association(&mut self, now: Now) {
        self.dtls.close(now);
        // We closed it: discard the event.
        while self.dtls.poll_event().is_some() {}
    }

    /// The time for the next try has come.
    fn try_again(&mut self, now: Now) {
        match self.take(ClientState::Connected(None)) {
            ClientState::Waiting { pursuit, .. } => self.ask_again(now, pursuit),
            ClientState::Resting { task, .. } => {
                let (config, random) = (Arc::clone(&self.dtls_config), Arc::clone(&self.random));
                self.dtls = dtls::Client::with_observer(config, random, now, self.observer.clone());
                self.state = ClientState::Connecting(Some(task));
            }
            other => self.state = other,
        }
    }

    /// Sends the identical request again.
    fn ask_again(&mut self, now: Now, pursuit: Box<Pursuit>) {
        self.ask(now, pursuit.operation.clone(), pursuit.accept, pursuit.expected, Some(pursuit));
    }

    /// The deadline has passed.
    fn give_up(&mut self, now: Now) {
        let effort = match self.take(ClientState::Over) {
            ClientState::Asking(Asking { pursuit: Some(pursuit), .. }) | ClientState::Waiting { pursuit, .. } => {
                self.state = ClientState::Connected(None);
                pursuit.effort
            }
            ClientState::Connecting(Some(task)) | ClientState::Resting { task, .. } => {
                self.drop_association(now);
                task.into_effort()
            }
            other => {
                self.state = other;
                return;
            }
        };
        self.events.push_back(ClientEvent::Failed(effort.into_failure()));
    }

    fn handle_message(&mut self, now: Now, plaintext: &[u8]) {
        // A plaintext that is not CoAP is noise, even though it is authenticated.
        let Ok(message) = Message::parse(plaintext) else { return };
        self.heard = now.mono;
        let Some(exchange) = self.state.exchange_mut() else { return };
        let progress = exchange.handle(now.mono, &message, &mut self.ids);
        self.uploading |= message.code() == Code::CONTINUE && matches!(progress, ExchangeProgress::Pending);
        self.progress(now, progress);
    }

    fn progress(&mut self, now: Now, progress: ExchangeProgress) {
        self.pump(now);
        match progress {
            ExchangeProgress::Ignored | ExchangeProgress::Pending => {}
            ExchangeProgress::Acknowledged => self.events.push_back(ClientEvent::Acknowledged),
            ExchangeProgress::Done(reply) => {
                let Some((expected, task)) = self.finish() else { return };
                match expected.check(reply) {
                    Ok(answer) => {
                        if let Answer::CaCertificates(received) = &answer
                            && self.config.anchor_update == AnchorUpdate::Adopt
                        {
                            self.adopt(received);
                        }
                        self.events.push_back(ClientEvent::Done(answer));
                    }
                    Err(failure) => {
                        let is_cut = self.uploading && matches!(failure, Failure::Later { .. });
                        self.uploads_sent_away += u64::from(is_cut);
                        self.failed(now, failure, task);
                    }
                }
            }
            ExchangeProgress::Failed(failure) => {
                if let Some((_, task)) = self.finish() {
                    self.failed(now, Failure::Request(failure), task);
                }
            }
        }
    }

    /// The request is over: returns the expected answer and the task that it belonged to.
    fn finish(&mut self) -> Option<(Expected, Option<Task>)> {
        match self.take(ClientState::Over) {
            ClientState::Asking(Asking { exchange, expected, pursuit }) => {
                self.state = ClientState::Connected(Some(exchange));
                Some((expected, pursuit.map(Task::Request)))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Hands the messages of the exchange to the DTLS layer.
    fn pump(&mut self, now: Now) {
        let Some(exchange) = self.state.exchange_mut() else { return };
        let mut fault = None;
        while let Some(message) = exchange.poll_transmit() {
            fault = self.dtls.send(now, message).err().or(fault);
        }
        // A message that does not fit now will not fit when it is retransmitted.
        if let Some(SendFault::TooLong { plaintext_bytes_max }) = fault
            && let Some((_, task)) = self.finish()
        {
            self.state = ClientState::Connected(None);
            self.failed(now, Failure::TooLong { plaintext_bytes_max }, task);
        }
    }

    fn take(&mut self, next: ClientState) -> ClientState {
        std::mem::replace(&mut self.state, next)
    }
}
