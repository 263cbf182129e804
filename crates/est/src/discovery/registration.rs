//! The registration of a server's links with a CoRE Resource Directory (RFC 9176 §5), over plain CoAP.
//!
//! ```text
//!   Finding ── GET /.well-known/core?rt=core.rd ──► Registering ── POST /rd?ep=…&lt=…&base=coaps://… ──► Registered
//!      ▲                                                ▲                                                │      │
//!      │                                                └────────── links changed ───────────────────────┤      │ remove
//!      │                                                  POST /LOCATION before the lifetime ends ◄──────┘      ▼
//!      └── Resting: backoff with jitter ◄── no answer, an error, an answer that cannot be used      DELETE /LOCATION ──► Over
//! ```
//!
//! What the directory has listed stays listed until its lifetime ends, whatever fails later. So its location is kept over failures: a server
//! that ends removes it.
//!
//! The directory is not authenticated, and need not be: it learns what discovery tells everybody, and devices authenticate the
//! server that it leads them to. Its answers are bounded and checked. The daemon's service drives it.

use std::fmt;
use std::time::{Duration, Instant};

use coap::client::{Exchange, ExchangeFailure, ExchangeProgress, Reply, RequestSpec};
use coap::{Code, ContentFormat, Message, MessageIds, Method, Token};
use splitmix::SplitMix64;

use super::{LinkBase, parse_links};

/// The first wait after a failure; each further failure in a row doubles it.
const REST_MIN: Duration = Duration::from_secs(30);
/// A directory that comes back is found within this time and a half.
const REST_MAX: Duration = Duration::from_secs(900);
/// A directory cannot put a server off for longer: its entry might end meanwhile.
const REST_INDICATED_MAX: Duration = Duration::from_secs(900);
/// A directory lists few links for `rt=core.rd`, and its other answers are empty.
const ANSWER_BYTES_MAX: usize = 4_096;
/// Of the path of a registration resource or of the directory itself.
const PATH_BYTES_MAX: usize = 255;

/// What is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationSpec {
    /// `ep`: the name of this endpoint, unique within the directory.
    pub endpoint: String,
    /// `lt`: the directory forgets the links this long after the last registration or refresh.
    pub lifetime: Duration,
    /// `base`: the links are paths below it. Without it, a directory would take the source of the datagrams, which serves
    /// no coaps.
    pub base: LinkBase,
    /// The links, in link format.
    pub links: Vec<u8>,
}

/// Where the directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryUri {
    /// A DNS name or an address without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The path of its registration resource; empty if it has to be asked for.
    pub path: String,
}

impl DirectoryUri {
    /// Reads `coap://HOST[:PORT][/PATH]`; `None` if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("coap://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The grammar of the authority is that of a base.
        let checked = LinkBase::parse(&format!("coaps://{authority}")).ok()?;
        let written = checked.as_str().strip_prefix("coaps://")?;
        let (host, port) = match (written.strip_prefix('['), authority.rsplit_once(':')) {
            (Some(inner), _) => (inner.split_once(']')?.0, authority.rsplit_once("]:").map(|(_, port)| port)),
            (None, Some((host, port))) => (host, Some(port)),
            (None, None) => (authority, None),
        };
        let port = port.map_or(Some(COAP_PORT), |port| port.parse().ok())?;
        let path = if path.bytes().all(|byte| byte == b'/') { "" } else { path };
        let plain = path.len() <= PATH_BYTES_MAX && !path.contains(['?', '#', '%', ' ']);
        plain.then(|| Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for DirectoryUri {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(out, "coap://{host}")?;
        if *port != COAP_PORT {
            write!(out, ":{port}")?;
        }
        if path.is_empty() { Ok(()) } else { write!(out, "/{path}") }
    }
}

/// CoAP without DTLS (RFC 7252 §12.6).
pub const COAP_PORT: u16 = 5683;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationEvent {
    /// The directory lists the links, as this resource of its own.
    Registered {
        /// The path of that resource.
        location: String,
    },
    /// The lifetime begins anew.
    Refreshed,
    /// The directory has removed the links.
    Removed,
    /// It did not work. The next attempt comes after `rest`, if the registration is not over.
    Failed {
        /// What was attempted.
        step: &'static str,
        /// Why it failed.
        why: RegistrationFailure,
        /// Until the next attempt.
        rest: Duration,
    },
}

/// Why a step with the directory failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationFailure {
    /// The exchange has no answer.
    Exchange(ExchangeFailure),
    /// The directory refused.
    Refused(Code),
    /// Its list has no link with `rt=core.rd`, or one that leads to another host.
    NoDirectory,
    /// The answer to the registration has no location that a request could go to.
    NoLocation,
}

impl fmt::Display for RegistrationFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(failure) => failure.fmt(out),
            Self::Refused(code) => write!(out, "the directory answered {code}"),
            Self::NoDirectory => out.write_str("the host lists no resource directory of its own (rt=core.rd)"),
            Self::NoLocation => out.write_str("the answer has no usable Location-Path"),
        }
    }
}

impl std::error::Error for RegistrationFailure {}

/// One server's registration with one directory.
pub struct Registrant {
    spec: RegistrationSpec,
    /// Uri-Host, if the directory has a name.
    uri_host: Option<String>,
    /// The path that the configuration names.
    configured: String,
    phase: RegistrationPhase,
    /// The registration resource, as long as the directory may list it.
    location: Option<String>,
    exchange: Option<Exchange>,
    ids: MessageIds,
    random: SplitMix64,
    /// Failures in a row.
    failures: u32,
    /// The links changed since they were sent.
    changed: bool,
    leaving: bool,
    event: Option<RegistrationEvent>,
}

enum RegistrationPhase {
    /// The directory is asked where it takes registrations.
    Finding,
    /// The registration is on its way.
    Registering { path: String },
    /// Listed, until the refresh is due.
    Registered { path: String, due: Instant },
    /// The refresh is on its way.
    Refreshing { path: String },
    /// Nothing is sent until then.
    Resting { until: Instant },
    /// The removal is on its way.
    Removing,
    /// Nothing is left to do.
    Over,
}

impl Registrant {
    /// Begins at once. `seed` spreads message ids, tokens, refreshes and waits. It has to be secret: without DTLS, the token
    /// alone tells the directory's answers from those of others who don't see the requests.
    #[must_use]
    pub fn new(now: Instant, directory: &DirectoryUri, spec: RegistrationSpec, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let start = u16::try_from(random.draw() >> 48).unwrap_or(0);
        let is_address = directory.host.parse::<std::net::IpAddr>().is_ok();
        let mut registrant = Self {
            spec,
            uri_host: (!is_address).then(|| directory.host.clone()),
            configured: directory.path.clone(),
            phase: RegistrationPhase::Over,
            location: None,
            exchange: None,
            ids: MessageIds::new(start),
            random,
            failures: 0,
            changed: false,
            leaving: false,
            event: None,
        };
        registrant.begin(now);
        registrant
    }

    /// Handles a datagram that came from the directory's address.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else { return };
        let Some(exchange) = &mut self.exchange else { return };
        let progress = exchange.handle(now, &message, &mut self.ids);
        self.advance(now, progress);
    }

    /// Sends again, refreshes, or begins anew.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(exchange) =
            self.exchange.as_mut().filter(|exchange| exchange.poll_timeout().is_some_and(|at| at <= now))
        {
            let progress = exchange.handle_timeout(now, &mut self.ids);
            self.advance(now, progress);
        }
        match (&self.phase, &self.location) {
            (RegistrationPhase::Registered { path, due }, Some(location)) if *due <= now => {
                let (path, location) = (path.clone(), location.clone());
                self.ask(now, RequestSpec::new(Method::Post, &location));
                self.phase = RegistrationPhase::Refreshing { path };
            }
            (RegistrationPhase::Resting { until }, _) if *until <= now => self.begin(now),
            _ => {}
        }
    }

    /// The next datagram for the directory.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.exchange.as_mut()?.poll_transmit()
    }

    /// When [`Registrant::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().and_then(Exchange::poll_timeout);
        let phase = match &self.phase {
            RegistrationPhase::Registered { due, .. } => Some(*due),
            RegistrationPhase::Resting { until } => Some(*until),
            _ => None,
        };
        exchange.into_iter().chain(phase).min()
    }

    /// What happened since the last call; a later event replaces one that nobody asked for.
    pub fn poll_event(&mut self) -> Option<RegistrationEvent> {
        self.event.take()
    }

    /// Registers other links, if they differ: "the same endpoint name" registers again (RFC 9176 §5), which replaces them.
    pub fn change(&mut self, now: Instant, spec: RegistrationSpec) {
        if self.spec == spec || self.leaving {
            return;
        }
        self.spec = spec;
        match &self.phase {
            RegistrationPhase::Registered { path, .. } => self.register(now, path.clone()),
            // What is on its way may have the old links.
            _ => self.changed = true,
        }
    }

    /// Removes the registration (RFC 9176 §5.3.2): devices must not be led to a server that ends.
    pub fn remove(&mut self, now: Instant) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        match self.phase {
            // Its answer tells what to remove.
            RegistrationPhase::Registering { .. } | RegistrationPhase::Removing => {}
            _ => self.leave_or_end(now),
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, RegistrationPhase::Over)
    }

    fn begin(&mut self, now: Instant) {
        if !self.configured.is_empty() {
            return self.register(now, self.configured.clone());
        }
        let mut spec = RequestSpec::get(".well-known/core").accepting(ContentFormat::LINK_FORMAT);
        spec.queries.push("rt=core.rd".to_owned());
        self.ask(now, spec);
        self.phase = RegistrationPhase::Finding;
    }

    fn register(&mut self, now: Instant, path: String) {
        let mut spec = RequestSpec::post(&path, ContentFormat::LINK_FORMAT, self.spec.links.clone());
        let RegistrationSpec { endpoint, lifetime, base, .. } = &self.spec;
        spec.queries =
            vec![format!("ep={endpoint}"), format!("lt={}", lifetime.as_secs()), format!("base={}", base.as_str())];
        self.changed = false;
        self.ask(now, spec);
        self.phase = RegistrationPhase::Registering { path };
    }

    fn leave_or_end(&mut self, now: Instant) {
        match self.location.take() {
            Some(location) => {
                self.ask(now, RequestSpec::new(Method::Delete, &location));
                self.phase = RegistrationPhase::Removing;
            }
            None => {
                self.exchange = None;
                self.phase = RegistrationPhase::Over;
            }
        }
    }

    fn ask(&mut self, now: Instant, mut spec: RequestSpec) {
        spec.uri_host.clone_from(&self.uri_host);
        spec.answer_bytes_max = ANSWER_BYTES_MAX;
        let token = Token::new(&self.random.draw().to_be_bytes()).unwrap_or(Token::EMPTY);
        let jitter = u32::try_from(self.random.draw() >> 32).unwrap_or(0);
        self.exchange = Some(Exchange::new(now, spec, &mut self.ids, token, jitter));
    }

    fn advance(&mut self, now: Instant, progress: ExchangeProgress) {
        match progress {
            ExchangeProgress::Ignored | ExchangeProgress::Pending | ExchangeProgress::Acknowledged => {}
            ExchangeProgress::Failed(failure) => self.fail(now, RegistrationFailure::Exchange(failure)),
            ExchangeProgress::Done(reply) => self.answered(now, &reply),
        }
    }

    fn answered(&mut self, now: Instant, reply: &Reply) {
        if reply.code.is_error() {
            if reply.code == Code::NOT_FOUND && matches!(self.phase, RegistrationPhase::Refreshing { .. }) {
                // "Registration does not exist" (RFC 9176 §5.3.1): there is nothing to remove.
                self.location = None;
            }
            let at_least = reply.max_age.filter(|_| reply.code == Code::SERVICE_UNAVAILABLE).unwrap_or(0);
            let at_least = Duration::from_secs(at_least.into()).min(REST_INDICATED_MAX);
            return self.put_off(now, RegistrationFailure::Refused(reply.code), at_least);
        }
        match std::mem::replace(&mut self.phase, RegistrationPhase::Over) {
            RegistrationPhase::Finding => match directory_path(&reply.body) {
                Some(path) => self.register(now, path),
                None => {
                    self.phase = RegistrationPhase::Finding;
                    self.fail(now, RegistrationFailure::NoDirectory);
                }
            },
            RegistrationPhase::Registering { path } => {
                let location = reply.location.join("/");
                if !is_location(&reply.location) || location.len() > PATH_BYTES_MAX {
                    self.phase = RegistrationPhase::Registering { path };
                    return self.fail(now, RegistrationFailure::NoLocation);
                }
                self.location = Some(location.clone());
                self.listed(now, path);
                self.event = Some(RegistrationEvent::Registered { location });
            }
            RegistrationPhase::Refreshing { path } => {
                self.listed(now, path);
                self.event = Some(RegistrationEvent::Refreshed);
            }
            RegistrationPhase::Removing => {
                self.event = Some(RegistrationEvent::Removed);
                self.phase = RegistrationPhase::Over;
            }
            // The exchange is over in these: a copy of its answer comes to nothing.
            phase @ (RegistrationPhase::Registered { .. }
            | RegistrationPhase::Resting { .. }
            | RegistrationPhase::Over) => {
                self.phase = phase;
            }
        }
    }

    fn listed(&mut self, now: Instant, path: String) {
        self.failures = 0;
        if self.leaving {
            return self.leave_or_end(now);
        }
        if self.changed {
            return self.register(now, path);
        }
        // Between half and three quarters of the lifetime: time for an outage of the directory, and servers that started
        // together do not refresh together.
        let due = now + self.spec.lifetime.mul_f64(0.5 + 0.25 * self.fraction());
        self.phase = RegistrationPhase::Registered { path, due };
    }

    fn fail(&mut self, now: Instant, why: RegistrationFailure) {
        self.put_off(now, why, Duration::ZERO);
    }

    /// The next attempt is a registration, and where the directory takes it is asked again: a registrant "SHOULD pick another registration URI
    /// from the "URI Discovery" step" (RFC 9176 §5). A 5.03 with Max-Age says how long it has to wait at least.
    fn put_off(&mut self, now: Instant, why: RegistrationFailure, at_least: Duration) {
        let step = match std::mem::replace(&mut self.phase, RegistrationPhase::Over) {
            RegistrationPhase::Refreshing { .. } => "refresh",
            RegistrationPhase::Finding => "discovery",
            RegistrationPhase::Removing => "removal",
            _ => "registration",
        };
        let doubled = REST_MIN.saturating_mul(1 << self.failures.min(8)).min(REST_MAX);
        let rest = doubled.mul_f64(0.5 + self.fraction()) + at_least;
        self.failures = self.failures.saturating_add(1);
        self.event = Some(RegistrationEvent::Failed { step, why, rest });
        if self.leaving {
            self.leave_or_end(now);
        } else {
            self.phase = RegistrationPhase::Resting { until: now + rest };
        }
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.random.draw() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

impl fmt::Debug for Registrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrant").field("spec", &self.spec).field("over", &self.is_over()).finish_non_exhaustive()
    }
}

/// Whether the segments name a resource that a request can go to. The last one is empty if the path ends in a slash.
fn is_location(segments: &[String]) -> bool {
    let named = match segments {
        [named @ .., last] if last.is_empty() => named,
        all => all,
    };
    !named.is_empty() && named.iter().all(|segment| !segment.is_empty() && !segment.contains('/'))
}

/// The path of the registration resource: "the RD's own link format with rt=core.rd" (RFC 9176 §4.3). A link to another
/// host is not followed: the operator configured this one.
fn directory_path(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?;
    let found = parse_links(text)
        .into_iter()
        .find(|link| link.resource_type.split(' ').any(|kind| kind == "core.rd") && link.target.starts_with('/'))?;
    let path = found.target.strip_prefix('/')?;
    let plain = !path.is_empty() && path.len() <= PATH_BYTES_MAX && !path.contains(['?', '#', '%']);
    (plain && !path.starts_with('/')).then(|| path.to_owned())
}

#[cfg(test)]
mod tests;
