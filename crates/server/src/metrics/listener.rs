//! `/metrics`, `/healthz`, `/readyz` and `/readyz/issue` on a separate listener: a service of the daemon's runtime that takes no part in serving devices.
//!
//! `/healthz` says that the process lives; `/readyz` that it admits new devices: false while starting and draining, and true while the ledger is
//! unavailable, because `/crts` is still served then. `/readyz/issue` says whether certificates can be issued, and if not, why.
//!
//! A client of this port is not trusted: a connection carries one request, whose time and head are limited, and [`connections`] keeps no more
//! connections open than [`Limits`] allows. Their descriptors and buffers come from the same process as the devices' sockets.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{MetricsPage, UPKEEP_INTERVAL};
use crate::http::connections::{self, Limits, Service};

/// A bound listener, which [`Listener::run`] serves.
pub(crate) struct Listener {
    address: SocketAddr,
    socket: tokio::net::TcpListener,
    page: MetricsPage,
}

impl Listener {
    /// Takes over a bound socket. Call it in the context of the runtime that will run it.
    pub(crate) fn new(socket: TcpListener, page: MetricsPage) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { address: socket.local_addr()?, socket: tokio::net::TcpListener::from_std(socket)?, page })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let Self { socket, page, .. } = self;
        let kept = page.clone();
        let upkeep = async {
            let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
            loop {
                interval.tick().await;
                kept.upkeep();
            }
        };
        tokio::select! {
            never = connections::serve(socket, page, Limits::STANDARD) => never,
            never = upkeep => never,
        }
    }
}

/// The text format of Prometheus, version 0.0.4.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

impl Service for MetricsPage {
    const NAME: &'static str = "the metrics listener";
    type Answer = String;

    async fn answer(self, request: Request<Incoming>) -> Response<String> {
        let (status, kind, text) = match request.uri().path() {
            "/metrics" | "/healthz" | "/readyz" | "/readyz/issue"
                if !matches!(*request.method(), Method::GET | Method::HEAD) =>
            {
                let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, String::new());
                refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return refusal;
            }
            "/metrics" => (StatusCode::OK, METRICS_TEXT, self.render()),
            "/healthz" => (StatusCode::OK, PLAIN_TEXT, "alive\n".to_owned()),
            "/readyz" if self.is_ready() => (StatusCode::OK, PLAIN_TEXT, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, "not ready\n".to_owned()),
            "/readyz/issue" => match self.issuing() {
                Ok(notes) => {
                    let lines = std::iter::once("ready to issue".to_owned()).chain(notes);
                    (StatusCode::OK, PLAIN_TEXT, lines.map(|line| line + "\n").collect())
                }
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, why + "\n"),
            },
            _ => (StatusCode::NOT_FOUND, PLAIN_TEXT, String::new()),
        };
        response(status, kind, text)
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
