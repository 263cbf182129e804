//! One device on a command line: drives one `est::Client` over one socket, and blocks until the requested operation is done.
//!
//! ```text
//!   BlockingClient::connect ──► Connected ──► ask ──► Answer ──► ask again … ──► close
//! ```
//!
//! A fleet is not driven like this: the load generator has an event loop of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dtls::{IdentityUse, Now, Observer, Random, SessionFacts};
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, Packing, StartFault};
use mio::{Events, Poll, Token};

use crate::clock::Clock;
use crate::udp::{Batch, BindFault, Socket, SocketOptions, is_report};

/// A stop flag that is set between its check and the system call is noticed this much later.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// One socket: a readable and a writable event.
const EVENTS_MAX: usize = 4;
const SOCKET: Token = Token(0);

/// What a device needs in addition to its configuration.
pub struct Setup {
    /// The server's address.
    pub server: SocketAddr,
    /// The address to send from, if one is required.
    pub local: Option<IpAddr>,
    /// How the device sends its requests.
    pub client: Arc<ClientConfig>,
    /// Its identity, trust anchors and cipher suites.
    pub dtls: Arc<DtlsConfig>,
    /// The source of its secrets.
    pub random: Arc<dyn Random>,
    /// Creates the observer once the device's own address is known.
    pub observer: Option<MakeObserver>,
    /// Set by Ctrl-C: whatever the device waits for ends immediately.
    pub stop: Arc<AtomicBool>,
}

/// Creates an observer for a device that sends from this address.
pub type MakeObserver = Box<dyn FnOnce(SocketAddr) -> io::Result<Option<Arc<dyn Observer>>>>;

/// The result of the handshake.
#[derive(Debug)]
pub struct Connected {
    /// The certificate that the server presented.
    pub server: Arc<pki::Certificate>,
    /// The negotiated parameters.
    pub facts: SessionFacts,
    /// Whether the server requested a certificate of the device.
    pub identity: IdentityUse,
}

/// Why a device has no answer.
#[derive(Debug)]
pub enum ConnectionFault {
    /// No socket to the server could be created.
    Bind(BindFault),
    /// The socket or the event loop failed.
    Io(io::Error),
    /// The observer could not be created, such as a capture that cannot be written.
    Observer(io::Error),
    /// The server's machine, or one in front of it, reported that nothing listens there.
    Unreachable(SocketAddr),
    /// A router or a firewall reported that there is no route to the server.
    NoWay {
        /// The server.
        server: SocketAddr,
        /// The error that was reported.
        source: io::Error,
    },
    /// The time ran out.
    TimedOut(Duration),
    /// The stop flag was set.
    Stopped,
    /// The handshake or the request failed.
    Failed(Failure),
    /// The server ended the association.
    Closed(dtls::Closed),
    /// The request could not be built.
    Start(StartFault),
}

impl std::fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind(fault) => write!(f, "{fault}"),
            Self::Io(error) => write!(f, "the network cannot be used: {error}"),
            Self::Unreachable(server) => {
                write!(
                    f,
                    "nothing listens on {server} (reported by ICMP): check that the server is running and that the port is right"
                )
            }
            Self::NoWay { server, source } => {
                write!(f, "no route to {server}: {source} (reported by ICMP)")
            }
            Self::Observer(error) => write!(f, "{error}"),
            Self::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Self::Stopped => f.write_str("interrupted"),
            Self::Failed(failure) => write!(f, "{failure}"),
            Self::Closed(why) => write!(f, "the server ended the session: {why:?}"),
            Self::Start(fault) => write!(f, "the request cannot be made: {fault:?}"),
        }
    }
}

impl std::error::Error for ConnectionFault {}

/// A device with an association.
pub struct BlockingClient {
    poll: Poll,
    socket: Socket,
    batch: Batch,
    client: Client,
    server: SocketAddr,
    stop: Arc<AtomicBool>,
    clock: Clock,
    /// Whether a datagram has arrived from the server: after that, ICMP errors are ignored, because any host could have sent them.
    heard: bool,
}

impl BlockingClient {
    /// Opens a socket and an association.
    ///
    /// # Errors
    /// [`ConnectionFault`]; [`ConnectionFault::TimedOut`] after `timeout`.
    pub fn connect(setup: Setup, timeout: Duration) -> Result<(Self, Connected), ConnectionFault> {
        let Setup { server, local, client, dtls, random, observer, stop } = setup;
        let mut socket = Socket::connect(server, local, &SocketOptions::default()).map_err(ConnectionFault::Bind)?;
        let poll = Poll::new().map_err(ConnectionFault::Io)?;
        socket.register(poll.registry(), SOCKET).map_err(ConnectionFault::Io)?;
        let clock = Clock;
        let observer = match observer {
            Some(make) => make(socket.local_address()).map_err(ConnectionFault::Observer)?,
            None => None,
        };
        let client = Client::with_observer(client, dtls, random, clock.now(), observer);
        let mut device = Self { poll, socket, batch: Batch::new(), client, server, stop, clock, heard: false };
        let connected = device.wait(timeout, |event| match event {
            ClientEvent::Connected { server, facts, identity } => Some(Connected { server, facts, identity }),
            _ => None,
        })?;
        Ok((device, connected))
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// [`ConnectionFault`]; [`ConnectionFault::TimedOut`] after `timeout`.
    pub fn ask(&mut self, operation: Operation, timeout: Duration) -> Result<Answer, ConnectionFault> {
        let now = self.clock.now();
        self.client.start(now, operation).map_err(ConnectionFault::Start)?;
        self.wait(timeout, |event| match event {
            ClientEvent::Done(answer) => Some(answer),
            _ => None,
        })
    }

    /// The Content-Format that the following requests ask for with Accept.
    pub fn set_accept(&mut self, accept: Option<Packing>) {
        self.client.set_accept(accept);
    }

    /// The configuration of the following requests.
    pub fn set_config(&mut self, config: Arc<ClientConfig>) {
        self.client.set_config(config);
    }

    /// Whether the current trust anchors authenticate the server: after `/crts`, those of its answer.
    ///
    /// # Errors
    /// [`ConnectionFault::Failed`].
    pub fn judge_server(&self) -> Result<(), ConnectionFault> {
        self.client.judge_server(self.clock.now()).map_err(ConnectionFault::Failed)
    }

    /// The address that the device sends from.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_address()
    }

    /// The engine, to read what was negotiated and counted.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the association with close_notify.
    pub fn close(mut self) {
        let now = self.clock.now();
        self.client.close(now);
        self.send();
    }

    /// Runs until an event satisfies `wanted` or ends the association.
    fn wait<T>(&mut self, timeout: Duration, wanted: impl Fn(ClientEvent) -> Option<T>) -> Result<T, ConnectionFault> {
        let end = self.clock.now().mono + timeout;
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            while let Some(event) = self.client.poll_event() {
                match event {
                    ClientEvent::Failed(failure) => {
                        // An alert gives the reason.
                        self.send();
                        return Err(ConnectionFault::Failed(failure));
                    }
                    ClientEvent::Closed(why) => return Err(ConnectionFault::Closed(why)),
                    other => {
                        if let Some(done) = wanted(other) {
                            self.send();
                            return Ok(done);
                        }
                    }
                }
            }
            self.send();
            if self.stop.load(Ordering::Relaxed) {
                return Err(ConnectionFault::Stopped);
            }
            let now = self.clock.now();
            if now.mono >= end {
                return Err(ConnectionFault::TimedOut(timeout));
            }
            self.socket.update_interest(self.poll.registry(), SOCKET).map_err(ConnectionFault::Io)?;
            match self.poll.poll(&mut events, Some(self.sleep(now.mono, end))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.map_err(ConnectionFault::Io)?,
            }
            self.turn(self.clock.now())?;
        }
    }

    fn sleep(&self, now: Instant, end: Instant) -> Duration {
        let next = self.client.poll_timeout().map_or(end, |at| at.min(end));
        next.saturating_duration_since(now).min(STOP_CHECK_INTERVAL)
    }

    fn turn(&mut self, now: Now) -> Result<(), ConnectionFault> {
        loop {
            match self.socket.receive(&mut self.batch) {
                Ok(()) => {
                    self.heard = true;
                    for received in self.batch.datagrams() {
                        self.client.handle_datagram(now, received.bytes);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A datagram that was too long for the path is lost like any other: the engine gradually sends its flights in smaller datagrams.
                Err(error) if is_report(&error) && (self.heard || is_too_long(&error)) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(ConnectionFault::Unreachable(self.server));
                }
                Err(source) if is_report(&source) => {
                    return Err(ConnectionFault::NoWay { server: self.server, source });
                }
                Err(error) => return Err(ConnectionFault::Io(error)),
            }
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.client.handle_timeout(now);
        }
        Ok(())
    }

    fn send(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            self.socket.send(self.server, None, datagram);
        }
        self.socket.flush();
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

impl std::fmt::Debug for BlockingClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingClient").field("server", &self.server).finish_non_exhaustive()
    }
}
