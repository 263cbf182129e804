//! Serves the revocation lists over HTTP (RFC 5280 §4.2.1.13), at the paths that the certificates name, and nothing else.
//!
//! A request never becomes a path: it is compared with the `crl_url` of each CA, and the file's name is made from what matched. A client is not
//! trusted, see [`connections`]. One connection has one part of one file in memory, however long the list is and however slowly it is read.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use hyper::{Method, Request, Response, StatusCode};
use pki::issue::crl::updates_of;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::task::JoinHandle;

use super::plan::{CrlPlan, file_name};
use crate::files;
use crate::http::connections::{self, Limits, Service};

/// A list of a million entries is 50 MB, which a slow link takes minutes for. When all connections are open, [`connections`] closes one of the address
/// that holds the most for each newcomer.
const LIMITS: Limits = Limits { connections: 64, whole: Duration::from_secs(600), ..Limits::STANDARD };

/// Caches ask again after this time at the latest: a revocation that was published is not hidden by a cache for longer. Asking is cheap (304).
const MAX_AGE: Duration = Duration::from_secs(300);

/// Bytes of a file that are in memory for one connection.
const PART_BYTES: usize = 64 * 1024;

/// Bytes that contain thisUpdate and nextUpdate: the name of the issuer comes before them.
const BEGINNING_BYTES: u64 = 16 * 1024;

/// A bound listener, which [`CrlListener::run`] serves.
pub(crate) struct CrlListener {
    address: SocketAddr,
    socket: tokio::net::TcpListener,
    page: CrlPage,
}

impl CrlListener {
    /// Takes over a bound socket. Call it in the context of the runtime that will run it.
    pub(crate) fn new(socket: TcpListener, page: CrlPage) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { address: socket.local_addr()?, socket: tokio::net::TcpListener::from_std(socket)?, page })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        connections::serve(self.socket, self.page, LIMITS).await
    }
}

type Plan = dyn Fn() -> Arc<CrlPlan> + Send + Sync;

/// What the listener answers with.
#[derive(Clone)]
pub(crate) struct CrlPage {
    folder: PathBuf,
    plan: Arc<Plan>,
}

impl CrlPage {
    pub(crate) fn new(folder: PathBuf, plan: impl Fn() -> Arc<CrlPlan> + Send + Sync + 'static) -> Self {
        Self { folder, plan: Arc::new(plan) }
    }

    /// The file of the list at this path and query.
    fn file_at(&self, target: &str) -> Option<PathBuf> {
        let plan = (self.plan)();
        plan.cas.iter().find_map(|ca| {
            let scope = ca.crl_url()?.scope_at(target)?;
            Some(self.folder.join(file_name(ca.name(), scope)))
        })
    }
}

impl Service for CrlPage {
    const NAME: &'static str = "the listener of the revocation lists";
    type Answer = Part;

    async fn answer(self, request: Request<Incoming>) -> Response<Part> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let Some(path) = self.file_at(target) else { return status(StatusCode::NOT_FOUND) };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = status(StatusCode::METHOD_NOT_ALLOWED);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let opened = tokio::task::spawn_blocking(move || Opened::open(&path)).await;
        match opened {
            Ok(Ok(Some(opened))) => opened.answer(request.method(), request.headers(), UnixTime::now()),
            Ok(Ok(None)) => status(StatusCode::NOT_FOUND),
            Ok(Err(_)) | Err(_) => status(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

fn status(status: StatusCode) -> Response<Part> {
    let mut response = Response::new(Part::none());
    *response.status_mut() = status;
    response
}

/// An open list. Its file may be replaced meanwhile; this one stays as it is.
struct Opened {
    file: File,
    bytes: u64,
    tag: String,
    this_update: UnixTime,
    next_update: UnixTime,
}

impl Opened {
    /// `None` if there is no list yet.
    fn open(path: &std::path::Path) -> io::Result<Option<Self>> {
        let (file, metadata) = match files::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        let mut beginning = Vec::new();
        (&file).take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
        let Some((this_update, next_update)) = updates_of(&beginning) else { return Ok(None) };
        let mut file = file;
        io::Seek::rewind(&mut file)?;
        let written = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let bytes = metadata.len();
        let tag = format!("\"{:x}-{bytes:x}\"", written.as_nanos());
        Ok(Some(Self { file, bytes, tag, this_update, next_update }))
    }

    fn answer(self, method: &Method, headers: &HeaderMap, now: UnixTime) -> Response<Part> {
        let is_known = self.is_known(headers);
        let is_whole = *method == Method::GET && !is_known;
        let body = if is_whole { Part::of(self.file, self.bytes) } else { Part::none() };
        let mut response = Response::new(body);
        let answered = response.headers_mut();
        answered.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkix-crl"));
        let left = Duration::from_secs(self.next_update.as_secs().saturating_sub(now.as_secs()));
        for (name, value) in [
            (CACHE_CONTROL, format!("max-age={}", left.min(MAX_AGE).as_secs())),
            (ETAG, self.tag),
            (LAST_MODIFIED, http_date(self.this_update)),
        ] {
            // These are digits and words in ASCII.
            if let Ok(value) = HeaderValue::try_from(value) {
                answered.insert(name, value);
            }
        }
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            answered.insert(CONTENT_LENGTH, self.bytes.into());
        }
        response
    }

    /// Whether the client has this list (RFC 9110 §13.1.2, §13.1.3: If-Modified-Since counts only without If-None-Match).
    fn is_known(&self, headers: &HeaderMap) -> bool {
        match headers.get(IF_NONE_MATCH) {
            Some(tags) => tags.to_str().is_ok_and(|tags| tags.split(',').any(|tag| tag.trim() == self.tag)),
            None => headers.get(IF_MODIFIED_SINCE).is_some_and(|since| since == http_date(self.this_update).as_str()),
        }
    }
}

/// IMF-fixdate (RFC 9110 §5.6.7).
fn http_date(at: UnixTime) -> String {
    const FORM: &[BorrowedFormatItem<'_>] =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(FORM).unwrap_or_default()
}

/// The rest of a file, read part by part.
pub(crate) struct Part {
    left: u64,
    state: PartState,
}

enum PartState {
    Idle(File),
    Reading(JoinHandle<io::Result<(File, Vec<u8>)>>),
    Done,
}

impl Part {
    fn none() -> Self {
        Self { left: 0, state: PartState::Done }
    }

    fn of(file: File, bytes: u64) -> Self {
        Self { left: bytes, state: PartState::Idle(file) }
    }
}

fn read_part(mut file: File, bytes: usize) -> io::Result<(File, Vec<u8>)> {
    let mut part = vec![0; bytes];
    file.read_exact(&mut part)?;
    Ok((file, part))
}

impl Body for Part {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.state, PartState::Done) {
                PartState::Idle(file) if this.left > 0 => {
                    let bytes = usize::try_from(this.left).unwrap_or(usize::MAX).min(PART_BYTES);
                    this.state = PartState::Reading(tokio::task::spawn_blocking(move || read_part(file, bytes)));
                }
                PartState::Reading(mut reading) => {
                    let polled = Pin::new(&mut reading).poll(context);
                    if polled.is_pending() {
                        this.state = PartState::Reading(reading);
                    }
                    let (file, part) = match ready!(polled) {
                        Ok(Ok(read)) => read,
                        Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                        Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                    };
                    this.left = this.left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
                    this.state = PartState::Idle(file);
                    return Poll::Ready(Some(Ok(Frame::data(part.into()))));
                }
                PartState::Idle(_) | PartState::Done => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
