//! `/metrics`, `/healthz` and `/readyz` on a listener of their own: one thread, one tokio runtime, no part in serving devices.
//!
//! `/healthz` says that the process lives; `/readyz` that it admits new devices: false while starting and draining, and true when the ledger is
//! away, because `/crts` is still served then.
//!
//! Whoever reaches the port is a stranger: a connection is worth one request, which has a deadline and a largest head, and [`connections`] holds
//! no more connections than [`Limits`] allows. Their descriptors and buffers come out of the same process as the devices' sockets.

mod connections;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

use super::UPKEEP_INTERVAL;
use connections::{Limits, Service};

/// Whether new devices are admitted.
#[derive(Clone)]
pub(crate) struct Readiness {
    admitting: Arc<AtomicBool>,
    gauge: Gauge,
}

impl Readiness {
    pub(crate) fn starting(gauge: Gauge) -> Self {
        gauge.set(0.0);
        Self { admitting: Arc::new(AtomicBool::new(false)), gauge }
    }

    pub(crate) fn set(&self, admitting: bool) {
        self.admitting.store(admitting, Ordering::Relaxed);
        self.gauge.set(if admitting { 1.0 } else { 0.0 });
    }

    pub(crate) fn get(&self) -> bool {
        self.admitting.load(Ordering::Relaxed)
    }
}

/// What a request sees.
#[derive(Clone)]
struct View {
    rendering: PrometheusHandle,
    readiness: Readiness,
    certificates: Gauge,
    ledger_rows: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The running listener; dropping it ends it.
pub(crate) struct Listener {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Takes over a bound socket.
    pub(crate) fn start(
        socket: TcpListener,
        registrar: &super::Registrar,
        readiness: Readiness,
        ledger_rows: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let view = View {
            rendering: registrar.rendering(),
            readiness,
            certificates: registrar.certificates.clone(),
            ledger_rows,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("muster-metrics".into()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(socket, view, stopped)) {
                tracing::error!(%error, "the metrics listener cannot start");
            }
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has logged what ended it.
            let _ = thread.join();
        }
    }
}

async fn serve(socket: TcpListener, view: View, stopped: oneshot::Receiver<()>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let rendering = view.rendering.clone();
    let upkeep = async {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            rendering.run_upkeep();
        }
    };
    // An open connection must not hold up the end of the process: whichever ends first ends all.
    tokio::select! {
        never = connections::serve(listener, view, Limits::STANDARD) => match never {},
        () = upkeep => Ok(()),
        _ = stopped => Ok(()),
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
            "/readyz" if self.readiness.get() => (StatusCode::OK, PLAIN_TEXT, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, "not ready\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, PLAIN_TEXT, String::new()),
        };
        response(status, kind, text)
    }
}

impl View {
    fn metrics(&self) -> String {
        // Where the ledger is large, exactness ends at 2^53 rows.
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.certificates.set((self.ledger_rows)() as f64);
        self.rendering.render()
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
