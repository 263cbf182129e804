//! Simulates a bad link to a real device: a UDP proxy that loses, duplicates, delays and corrupts datagrams as a seed decides.
//!
//! ```text
//!              ┌───────────────────────────── Proxy ─────────────────────────────┐
//!   clients ──►│ listener ──► link towards the server ──► a socket per client ──►│ server
//!           ◄──│ listener ◄── link towards the clients ◄── a socket per client ◄─│
//!              └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The server sees one peer per client, as behind a NAT: cookies, sessions and limits that depend on the address behave as in the field. The model of
//! the link is `link::EmulatedLink`, which the simulator drives in virtual time; here sockets and the clock drive it. The proxy does not interpret what
//! it forwards. It uses one thread, which blocks in [`Proxy::run`]; `muster link` and tests drive it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use link::EmulatedLink;
use mio::{Events, Poll, Token};
use slab::Slab;

use crate::clock::Clock;
use crate::udp::{Batch, BindFault, Socket, SocketOptions};

pub use link::{Conditions, Delay, Tally};

/// Clients at the same time: each needs a descriptor, and a process may have 1,024 of them by default.
pub const CLIENTS_MAX: usize = 512;
/// A client that is silent for this long is forgotten; if it returns, it is a new peer for the server.
pub const IDLE: Duration = Duration::from_secs(300);
/// EXCHANGE_LIFETIME of RFC 7252 §4.8.2: until then a repeated request must come from the same peer to be recognised as a repeat.
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
const _: () = assert!(IDLE.as_secs() > EXCHANGE_LIFETIME.as_secs());

/// A stop flag that is set between its check and the system call is noticed this much later.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the proxy looks for idle clients; no client is forgotten early.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Sockets that one wake-up of the event loop reports; the others follow with the next one.
const EVENTS_MAX: usize = 64;
/// Batches received from one socket in one turn, so that a busy side cannot delay the other side's delivery.
const BATCHES_MAX: usize = 4;
/// A client's socket holds the datagrams of one device, not of a fleet.
const CLIENT_BUFFER_BYTES: usize = 256 << 10;

const LISTENER: Token = Token(usize::MAX);

/// The configuration of a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The address that clients send to; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The server.
    pub to: SocketAddr,
    /// The behaviour of the link, in each direction.
    pub conditions: Conditions,
    /// The seed of the link's random decisions.
    pub seed: u64,
    /// Clients at the same time; [`CLIENTS_MAX`] unless there is a reason.
    pub clients_max: usize,
    /// Silence after which a client is forgotten; [`IDLE`] unless there is a reason.
    pub idle: Duration,
}

/// Why the proxy could not be started.
#[derive(Debug)]
pub enum ProxyFault {
    /// The proxy cannot listen on the address.
    Listen(BindFault),
    /// The proxy cannot send to the server: no route, or no such interface.
    Reach(BindFault),
    /// The event loop failed.
    Io(io::Error),
}

impl std::fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(fault) | Self::Reach(fault) => write!(f, "{fault}"),
            Self::Io(error) => write!(f, "the network cannot be used: {error}"),
        }
    }
}

impl std::error::Error for ProxyFault {}

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounters {
    /// What the link did.
    pub link: Tally,
    /// Datagrams that left the link and were passed to a socket.
    pub delivered: u64,
    /// Datagrams that left the link after their client was forgotten.
    pub stale: u64,
    /// Datagrams that are still in flight.
    pub in_flight: u64,
    /// Datagrams that the system did not send: no room, no route, or longer than the interface allows.
    pub not_sent: u64,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// From clients to the server.
    pub towards_server: ProxyCounters,
    /// From the server to clients.
    pub towards_clients: ProxyCounters,
    /// Number of clients so far, each a peer of its own for the server.
    pub clients: u64,
    /// Datagrams of clients for which there was no room.
    pub turned_away: u64,
    /// How often the server's machine reported that nothing listens there.
    pub unreachable: u64,
}

/// A client, and the address that it sent to: the answer leaves from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientPath {
    peer: SocketAddr,
    local: Option<IpAddr>,
}

/// A client's slot and its number, so that a datagram in flight does not reach the next client of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientId {
    slot: usize,
    number: u64,
}

#[derive(Debug)]
struct ProxyClient {
    number: u64,
    path: ClientPath,
    socket: Socket,
    heard: Instant,
}

/// The proxy; see the documentation of this module.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    poll: Poll,
    listener: Socket,
    clients: Slab<ProxyClient>,
    slots: HashMap<ClientPath, usize>,
    towards_server: EmulatedLink<ClientId>,
    towards_clients: EmulatedLink<ClientId>,
    next_idle_check: Instant,
    summary: Summary,
}

impl Proxy {
    /// Starts to listen; nothing is forwarded before [`Proxy::run`].
    ///
    /// # Errors
    /// [`ProxyFault`]: the address, or the route to the server.
    pub fn bind(settings: Settings) -> Result<Self, ProxyFault> {
        let Settings { listen, to, conditions, seed, .. } = settings;
        // Better reported now than counted at the end.
        client_socket(to).map_err(ProxyFault::Reach)?;
        let mut listener = Socket::bind(listen, &SocketOptions::default()).map_err(ProxyFault::Listen)?;
        let poll = Poll::new().map_err(ProxyFault::Io)?;
        listener.register(poll.registry(), LISTENER).map_err(ProxyFault::Io)?;
        Ok(Self {
            settings,
            poll,
            listener,
            clients: Slab::new(),
            slots: HashMap::new(),
            towards_server: EmulatedLink::new(conditions, seed, "towards the server"),
            towards_clients: EmulatedLink::new(conditions, seed, "towards the clients"),
            next_idle_check: Clock.now().mono,
            summary: Summary::default(),
        })
    }

    /// The address that clients send to, with the real port if 0 was requested.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    /// Forwards until `stop` is set or the time is over.
    ///
    /// # Errors
    /// The listener or the event loop failed.
    pub fn run(&mut self, stop: &AtomicBool, at_most: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut batch = Batch::new();
        // Edge-triggered: datagrams that arrived before this run, or at the end of an earlier one, cause no new event.
        let known = self.clients.iter().map(|(slot, _)| Token(slot));
        let mut ready: Vec<Token> = std::iter::once(LISTENER).chain(known).collect();
        let until = at_most.map(|time| Clock.now().mono + time);
        loop {
            let now = Clock.now().mono;
            for token in std::mem::take(&mut ready) {
                if self.receive(now, token, &mut batch)? {
                    ready.push(token);
                }
            }
            self.deliver(now);
            self.forget_idle(now);
            self.flush()?;
            if stop.load(Ordering::Relaxed) || until.is_some_and(|at| at <= now) {
                return Ok(());
            }
            let wait = if ready.is_empty() { self.sleep(now, until) } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if !ready.contains(&event.token()) {
                    ready.push(event.token());
                }
            }
        }
    }

    /// What has passed so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = self.summary;
        summary.towards_server.link = self.towards_server.tally();
        summary.towards_server.in_flight = self.towards_server.in_flight() as u64;
        summary.towards_server.not_sent += self.clients.iter().map(|(_, client)| not_sent(&client.socket)).sum::<u64>();
        summary.towards_clients.link = self.towards_clients.tally();
        summary.towards_clients.in_flight = self.towards_clients.in_flight() as u64;
        summary.towards_clients.not_sent = not_sent(&self.listener);
        summary
    }

    fn sleep(&self, now: Instant, until: Option<Instant>) -> Duration {
        let next = [self.towards_server.next(), self.towards_clients.next(), until].into_iter().flatten().min();
        next.map_or(STOP_CHECK_INTERVAL, |at| at.saturating_duration_since(now).min(STOP_CHECK_INTERVAL))
    }

    /// Receives what waits at one socket; returns whether more waits.
    fn receive(&mut self, now: Instant, token: Token, batch: &mut Batch) -> io::Result<bool> {
        for _ in 0..BATCHES_MAX {
            let socket = match token {
                LISTENER => &mut self.listener,
                Token(slot) => match self.clients.get_mut(slot) {
                    Some(client) => &mut client.socket,
                    None => return Ok(false),
                },
            };
            match socket.receive(batch) {
                Ok(()) if token == LISTENER => self.forward_to_server(now, batch),
                Ok(()) => self.forward_to_client(now, token.0, batch),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // ICMP: nothing listens at the server's address. The client notices that as it would without the proxy.
                Err(_) if token != LISTENER => self.summary.unreachable += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn forward_to_server(&mut self, now: Instant, batch: &mut Batch) {
        for received in batch.datagrams() {
            match self.client(now, ClientPath { peer: received.peer, local: received.local }) {
                Some(id) => self.towards_server.send(now, id, received.bytes),
                None => self.summary.turned_away += 1,
            }
        }
    }

    fn forward_to_client(&mut self, now: Instant, slot: usize, batch: &mut Batch) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.heard = now;
        let id = ClientId { slot, number: client.number };
        for received in batch.datagrams() {
            self.towards_clients.send(now, id, received.bytes);
        }
    }

    /// The client on this path; a new client if there is room.
    fn client(&mut self, now: Instant, path: ClientPath) -> Option<ClientId> {
        if let Some(&slot) = self.slots.get(&path) {
            let client = &mut self.clients[slot];
            client.heard = now;
            return Some(ClientId { slot, number: client.number });
        }
        if self.clients.len() >= self.settings.clients_max {
            return None;
        }
        let mut socket = client_socket(self.settings.to).ok()?;
        let entry = self.clients.vacant_entry();
        let slot = entry.key();
        socket.register(self.poll.registry(), Token(slot)).ok()?;
        self.summary.clients += 1;
        let number = self.summary.clients;
        entry.insert(ProxyClient { number, path, socket, heard: now });
        self.slots.insert(path, slot);
        Some(ClientId { slot, number })
    }

    /// Forwards the datagrams that have arrived at the far ends of the links.
    fn deliver(&mut self, now: Instant) {
        while let Some((id, bytes)) = self.towards_server.receive(now) {
            match self.clients.get_mut(id.slot).filter(|client| client.number == id.number) {
                Some(client) => {
                    client.socket.send(self.settings.to, None, &bytes);
                    self.summary.towards_server.delivered += 1;
                }
                None => self.summary.towards_server.stale += 1,
            }
        }
        while let Some((id, bytes)) = self.towards_clients.receive(now) {
            match self.clients.get(id.slot).filter(|client| client.number == id.number) {
                Some(client) => {
                    self.listener.send(client.path.peer, client.path.local, &bytes);
                    self.summary.towards_clients.delivered += 1;
                }
                None => self.summary.towards_clients.stale += 1,
            }
        }
    }

    fn forget_idle(&mut self, now: Instant) {
        if now < self.next_idle_check {
            return;
        }
        self.next_idle_check = now + IDLE_CHECK_INTERVAL;
        let Self { clients, slots, settings, summary, .. } = self;
        clients.retain(|_, client| {
            let stays = now.saturating_duration_since(client.heard) < settings.idle;
            if !stays {
                slots.remove(&client.path);
                summary.towards_server.not_sent += not_sent(&client.socket);
            }
            stays
        });
    }

    fn flush(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        self.listener.flush();
        self.listener.update_interest(registry, LISTENER)?;
        for (slot, client) in &mut self.clients {
            client.socket.flush();
            client.socket.update_interest(registry, Token(slot))?;
        }
        Ok(())
    }
}

/// A socket that the server sees as one peer.
fn client_socket(to: SocketAddr) -> Result<Socket, BindFault> {
    let options = SocketOptions {
        receive_buffer_bytes: CLIENT_BUFFER_BYTES,
        send_buffer_bytes: CLIENT_BUFFER_BYTES,
        ..SocketOptions::default()
    };
    Socket::connect(to, None, &options)
}

fn not_sent(socket: &Socket) -> u64 {
    let counters = socket.counters();
    counters.dropped_backlog_full + counters.dropped_refused
}

#[cfg(test)]
mod tests;
