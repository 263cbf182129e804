//! The connections of the admin socket: who may use it, how many there are, how long each may take.
//!
//! All clients have the rights of the server's own user, so the limits guard against mistakes, such as a script that leaves connections open: when
//! [`Limits::connections`] are open, the next one is told so and closed. A connection that is silent, or does not read its answer, is closed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authority::Actor;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Semaphore;

use super::desk::AdminDesk;
use super::protocol::{AdminAnswer, AdminFault, AdminFaultCode, AdminRequest, LINE_BYTES_MAX};
use super::socket::SocketFile;
use super::user::actor_of;
use crate::panics::guarded_async;

/// The admin socket: a service of the daemon's runtime.
pub(crate) struct AdminListener {
    socket: tokio::net::UnixListener,
    desk: Arc<AdminDesk>,
    /// The name of the socket, as long as it is served.
    _file: SocketFile,
}

impl AdminListener {
    /// Takes over a listening socket. To be called in the context of the runtime that runs it.
    pub(crate) fn new(
        socket: std::os::unix::net::UnixListener,
        file: SocketFile,
        desk: AdminDesk,
    ) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        Ok(Self { socket, desk: Arc::new(desk), _file: file })
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let Self { socket, desk, _file } = self;
        let own_user = rustix::process::geteuid().as_raw();
        serve(socket, desk, Permitted { own_user }, Limits::STANDARD).await
    }
}

/// The users that may use the socket.
#[derive(Clone, Copy, Debug)]
struct Permitted {
    /// The user that the server runs as.
    own_user: u32,
}

impl Permitted {
    /// The mode of the socket keeps all others away; this holds even where somebody has widened it.
    fn permits(self, uid: u32) -> bool {
        uid == self.own_user || uid == 0
    }
}

/// What the clients may take together and each.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections open at once. Each holds one line and one answer at a time: some hundred kilobytes.
    connections: usize,
    /// Bytes of one line.
    line_bytes_max: usize,
    /// From the end of an answer, or the beginning of the connection, to the end of the next line.
    line: Duration,
    /// From the first to the last byte of an answer.
    answer: Duration,
}

impl Limits {
    const STANDARD: Self = Self {
        connections: 16,
        line_bytes_max: LINE_BYTES_MAX,
        line: Duration::from_secs(30),
        answer: Duration::from_secs(10),
    };
}

/// Where connections come from, with the user at the other end.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&mut self) -> impl Future<Output = std::io::Result<(Self::Stream, u32)>>;
}

impl Accept for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&mut self) -> std::io::Result<(Self::Stream, u32)> {
        let (stream, _) = Self::accept(self).await?;
        // SO_PEERCRED: the user that connected, whoever has the descriptor now.
        let uid = stream.peer_cred()?.uid();
        Ok((stream, uid))
    }
}

/// A process without a descriptor for a connection says so at once and again: between two attempts passes so long.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The buffer of a new connection takes the reason of its refusal at once.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(100);

/// Serves for ever: no error of one connection, and none of the listening socket, ends it.
async fn serve(mut source: impl Accept, desk: Arc<AdminDesk>, permitted: Permitted, limits: Limits) -> Infallible {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut failing = false;
    loop {
        let (mut stream, uid) = match source.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the admin socket cannot accept connections; retrying every second");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let refusal = match Arc::clone(&places).try_acquire_owned() {
            _ if !permitted.permits(uid) => forbidden(uid, permitted),
            Err(_) => busy(limits),
            Ok(place) => {
                let desk = Arc::clone(&desk);
                let connection = async move {
                    let _place = place;
                    one(stream, uid, &desk, limits).await;
                };
                tokio::spawn(guarded_async("a connection to the admin socket", connection));
                continue;
            }
        };
        // Whether the client still reads is its business.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, send(&mut stream, &[AdminAnswer::Error(refusal)])).await;
    }
}

/// Requests and answers in turn, until the client closes or a limit is reached.
async fn one(stream: impl AsyncRead + AsyncWrite + Unpin, uid: u32, desk: &AdminDesk, limits: Limits) {
    // Reads a file: not on the runtime's thread.
    let Ok(actor) = tokio::task::spawn_blocking(move || actor_of(uid)).await else { return };
    let mut stream = BufReader::new(stream);
    loop {
        let (answers, goes_on) = match tokio::time::timeout(limits.line, line(&mut stream, limits)).await {
            Err(_) | Ok(Err(_) | Ok(Line::End)) => return,
            Ok(Ok(Line::TooLong)) => (vec![AdminAnswer::Error(too_long(limits))], false),
            Ok(Ok(Line::Whole(line))) => (answer(desk, &actor, &line).await, true),
        };
        match tokio::time::timeout(limits.answer, send(&mut stream, &answers)).await {
            Ok(Ok(())) if goes_on => {}
            Ok(_) => return,
            Err(_) => {
                tracing::debug!(%actor, "a client of the admin socket does not read its answer; closed");
                return;
            }
        }
    }
}

async fn answer(desk: &AdminDesk, actor: &Actor, line: &[u8]) -> Vec<AdminAnswer> {
    match AdminRequest::read(line) {
        Ok(request) => desk.answer(actor, request).await,
        Err(fault) => vec![AdminAnswer::Error(fault)],
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// The next line that is not empty. The end of the stream ends the last one too.
async fn line(stream: &mut BufReader<impl AsyncRead + Unpin>, limits: Limits) -> std::io::Result<Line> {
    let most = u64::try_from(limits.line_bytes_max).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        // One more for the line's end.
        (&mut *stream).take(most.saturating_add(1)).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(Line::End);
        }
        if line.len() > limits.line_bytes_max && !line.ends_with(b"\n") {
            return Ok(Line::TooLong);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Line::Whole(line));
        }
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), answers: &[AdminAnswer]) -> std::io::Result<()> {
    let text: String = answers.iter().map(AdminAnswer::line).collect();
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await
}

fn forbidden(uid: u32, permitted: Permitted) -> AdminFault {
    let user = permitted.own_user;
    AdminFault::new(
        AdminFaultCode::Forbidden,
        format!("user {uid} may not use the admin socket"),
        format!("run as root or as the user of the server, {user}"),
    )
}

fn busy(limits: Limits) -> AdminFault {
    AdminFault::new(
        AdminFaultCode::Busy,
        format!("{} connections to the admin socket are open already", limits.connections),
        format!("try again; a silent connection is closed after {} s", limits.line.as_secs()),
    )
}

fn too_long(limits: Limits) -> AdminFault {
    AdminFault::new(
        AdminFaultCode::LineTooLong,
        format!("the request is longer than {} bytes", limits.line_bytes_max),
        "send its rows in several requests, or by their serial numbers",
    )
}

#[cfg(test)]
mod tests;
