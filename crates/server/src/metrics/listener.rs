//! `/metrics`, `/healthz` and `/readyz` on a listener of their own: a service of the daemon's runtime, no part in serving devices.
//!
//! `/healthz` says that the process lives; `/readyz` that it admits new devices: false while starting and draining, and true when the ledger is
//! away, because `/crts` is still served then.
//!
//! Whoever reaches the port is a stranger: a connection is worth one request, which has a deadline and a largest head, and [`connections`] holds
//! no more connections than [`Limits`] allows. Their descriptors and buffers come out of the same process as the devices' sockets.

mod connections;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use super::UPKEEP_INTERVAL;
use connections::{Limits, Service};

/// What the listener asks of the server for each answer.
pub(crate) struct Readings {
    /// Whether new devices are admitted.
    pub(crate) ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// Certificates in the ledger.
    pub(crate) ledger_rows: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// What a request sees.
#[derive(Clone)]
struct View {
    rendering: PrometheusHandle,
    ready: Gauge,
    certificates: Gauge,
    readings: Arc<Readings>,
}

/// A listener that is bound, and a future to be run.
pub(crate) struct Listener {
    address: SocketAddr,
    socket: tokio::net::TcpListener,
    view: View,
}

impl Listener {
    /// Takes over a bound socket. To be called in the context of the runtime that runs it.
    pub(crate) fn new(socket: TcpListener, exposition: &super::Registrar, readings: Readings) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let view = View {
            rendering: exposition.rendering(),
            ready: exposition.ready.clone(),
            certificates: exposition.certificates.clone(),
            readings: Arc::new(readings),
        };
        Ok(Self { address: socket.local_addr()?, socket: tokio::net::TcpListener::from_std(socket)?, view })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let Self { socket, view, .. } = self;
        let rendering = view.rendering.clone();
        let upkeep = async {
            let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
            loop {
                interval.tick().await;
                rendering.run_upkeep();
            }
        };
        tokio::select! {
            never = connections::serve(socket, view, Limits::STANDARD) => never,
            never = upkeep => never,
        }
    }
}

/// The text format of Prometheus, version 0.0.4.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

impl Service for View {
    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let (status, kind, text) = match request.uri().path() {
            "/metrics" | "/healthz" | "/readyz" if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, String::new());
                refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return refusal;
            }
            "/metrics" => (StatusCode::OK, METRICS_TEXT, self.metrics()),
            "/healthz" => (StatusCode::OK, PLAIN_TEXT, "alive\n".to_owned()),
            "/readyz" if (self.readings.ready)() => (StatusCode::OK, PLAIN_TEXT, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, "not ready\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, PLAIN_TEXT, String::new()),
        };
        response(status, kind, text)
    }
}

impl View {
    fn metrics(&self) -> String {
        self.ready.set(if (self.readings.ready)() { 1.0 } else { 0.0 });
        // Where the ledger is large, exactness ends at 2^53 rows.
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.certificates.set((self.readings.ledger_rows)() as f64);
        self.rendering.render()
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
