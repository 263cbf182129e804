//! The connections of an HTTP listener: how many may be open, how long each may last, and which one is closed when there are too many.
//!
//! What is said on a connection is a [`Conversation`]. [`OneRequest`] carries one request; that of the HTTPS front carries several. When as many as there may be are open, a newcomer is still accepted and another one is closed for it
//! ([`displaced`]): of the address that holds the most, the oldest without a complete head, or else the oldest. So a client that opens connections
//! and stays silent displaces its own, and cannot keep out a request from another address; a request from its own address only has to send its head
//! before that many newer connections arrive. An attacker with many addresses has to keep up that many connections at every moment; a firewall, or
//! the address that the listener is bound to, has to keep such an attacker out.
//!
//! Where clients authenticate, strangers have a share of the places and authenticated clients the rest ([`Places`]): strangers displace each other as
//! long as they hold their share, from however many addresses they come, and authenticated clients never take the places in which a newcomer
//! authenticates.

use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::panics::guarded_async;

/// What unauthenticated clients may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections open at once; each is a descriptor and a task.
    pub(crate) connections: usize,
    /// Bytes of a head, request line included; a longer one is answered with 431.
    pub(crate) head_bytes_max: usize,
    /// Time from the accepted connection to the complete head.
    pub(crate) head: Duration,
    /// Time from the accepted connection to the last byte of the answer.
    pub(crate) whole: Duration,
}

impl Limits {
    /// A few scrapers and probes, each with one connection at a time, fit many times over. A scrape times out after ten seconds unless Prometheus is
    /// configured otherwise; no client waits longer for an answer.
    pub(crate) const STANDARD: Self = Self {
        connections: 32,
        head_bytes_max: 8 * 1024,
        head: Duration::from_secs(5),
        whole: Duration::from_secs(15),
    };
}

/// The smallest buffer that hyper accepts; [`Limits::head_bytes_max`] limits the head to less.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(
    Limits::STANDARD.head_bytes_max <= BUFFER_BYTES_MAX,
    "hyper's buffer would limit a head before its own limit does"
);

/// Answers a request.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// What the log calls the listener.
    const NAME: &'static str;
    /// What an answer carries. One connection holds one of them, a part at a time.
    type Answer: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<Self::Answer>> + Send + 'static;
}

/// Where connections come from.
pub(crate) trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&mut self) -> impl Future<Output = std::io::Result<(Self::Stream, SocketAddr)>>;
}

impl Accept for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&mut self) -> std::io::Result<(Self::Stream, SocketAddr)> {
        Self::accept(self).await
    }
}

/// Time between two attempts to accept: a kernel without a free descriptor or buffer (`EMFILE`, `ENFILE`, `ENOBUFS`) fails each of them at once.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What is said on one connection.
pub(crate) trait Conversation: Clone + Send + Sync + 'static {
    /// What the log calls the listener.
    const NAME: &'static str;

    /// Serves the connection to its end, within limits of its own, and says in `rank` what the connection is worth meanwhile.
    fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        rank: Arc<ConnectionRank>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// What a connection is worth when a newcomer needs its place.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRank {
    at_work: AtomicBool,
    is_authenticated: AtomicBool,
}

impl ConnectionRank {
    /// Says whether a whole request is being answered.
    pub(crate) fn works(&self, at_work: bool) {
        self.at_work.store(at_work, Ordering::Relaxed);
    }

    /// The client has proven who it is, and has a place of its own.
    pub(crate) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Relaxed);
    }

    fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Relaxed)
    }

    fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }
}

/// How many connections may be open at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// All of them.
    pub(crate) connections: usize,
    /// Of these, what clients that have not authenticated can hold against those that have: a stranger displaces another stranger from there on.
    pub(crate) strangers: usize,
}

/// One request on each connection.
#[derive(Clone)]
struct OneRequest<S> {
    service: S,
    limits: Limits,
}

impl<S: Service> Conversation for OneRequest<S> {
    const NAME: &'static str = S::NAME;

    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        _peer: SocketAddr,
        rank: Arc<ConnectionRank>,
    ) {
        one(stream, self.service, rank, self.limits).await;
    }
}

/// Serves one request on each connection until it is dropped: errors of a connection or of the listening socket do not end it.
pub(crate) async fn serve<S: Service>(source: impl Accept, service: S, limits: Limits) -> Infallible {
    // Nobody authenticates: all places are for strangers.
    let places = Places { connections: limits.connections, strangers: limits.connections };
    serve_conversations(source, OneRequest { service, limits }, places).await
}

/// Serves until it is dropped, with at most so many connections open at once.
pub(crate) async fn serve_conversations<C: Conversation>(
    mut source: impl Accept,
    conversation: C,
    places: Places,
) -> Infallible {
    let mut open: Vec<Open> = Vec::with_capacity(places.connections);
    let mut failing = false;
    loop {
        let (stream, peer) = match source.accept().await {
            Ok(accepted) => accepted,
            // The client gave up while it waited; accept the next one at once.
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, listener = C::NAME, "the listener cannot accept connections; retrying every second");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        open.retain(|open| !open.task.is_finished());
        if open.len() >= places.connections
            && let Some(place) = displaced(&open, places.strangers)
        {
            open.remove(place).task.abort();
        }
        let rank = Arc::new(ConnectionRank::default());
        let connection = conversation.clone().converse(stream, peer, Arc::clone(&rank));
        let task = tokio::spawn(guarded_async(C::NAME, connection)).abort_handle();
        open.push(Open { from: network(peer.ip()), rank, task });
        // Before the next newcomer is accepted, the closed connection returns its descriptor, and connections whose head has arrived get their
        // answer.
        tokio::task::yield_now().await;
    }
}

/// One request and its answer, unless a deadline passes first.
async fn one<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: S,
    rank: Arc<ConnectionRank>,
    limits: Limits,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        rank.works(true);
        let answer = service.clone().answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(limits.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, listener = S::NAME, "a connection failed"),
        Err(_) => tracing::debug!(listener = S::NAME, "a connection took too long"),
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// An open connection. The list is in order of arrival.
struct Open {
    from: IpAddr,
    rank: Arc<ConnectionRank>,
    task: AbortHandle,
}

/// The index of the connection to close. Of strangers, if they hold their share: of the address that holds the most, the oldest that has sent no
/// complete head, or else the oldest. Of authenticated clients otherwise: one without a request that is being answered comes first, because such a
/// request would have an unknown end; of these, one of the address that holds the most.
fn displaced(open: &[Open], strangers_max: usize) -> Option<usize> {
    let strangers = open.iter().filter(|it| !it.rank.is_authenticated()).count();
    let gives_way = |it: &Open| it.rank.is_authenticated() == (strangers < strangers_max);
    let order = |it: &Open| {
        let of_its_address = open.iter().filter(|other| other.from == it.from && gives_way(other)).count();
        let (crowd, at_work) = (std::cmp::Reverse(of_its_address), it.rank.is_at_work());
        (it.rank.is_authenticated() && at_work, crowd, at_work)
    };
    let candidates = open.iter().enumerate().filter(|(_, it)| gives_way(it));
    candidates.min_by_key(|(_, it)| order(it)).map(|(place, _)| place)
}

/// What counts as one address: an IPv6 host can choose any address of its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests;
