//! `/metrics`, `/healthz` and `/readyz` on a listener of their own: one thread, one tokio runtime, no part in serving devices.
//!
//! `/healthz` says that the process lives; `/readyz` that it admits new devices: false while starting and draining, and true when the ledger is
//! away, because `/crts` is still served then.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

use super::UPKEEP_INTERVAL;

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

    fn get(&self) -> bool {
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
                tracing::error!(%error, "the metrics listener ended");
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
    let routes = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(view);
    let upkeep = async {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            rendering.run_upkeep();
        }
    };
    // An open keep-alive connection must not hold up the end of the process: whichever ends first ends all.
    tokio::select! {
        served = async { axum::serve(listener, routes).await } => served,
        () = upkeep => Ok(()),
        _ = stopped => Ok(()),
    }
}

async fn show_metrics(State(view): State<View>) -> impl IntoResponse {
    // Where the ledger is large, exactness ends at 2^53 rows.
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    view.certificates.set((view.ledger_rows)() as f64);
    // The text format of Prometheus, version 0.0.4.
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], view.rendering.render())
}

async fn show_readiness(State(view): State<View>) -> impl IntoResponse {
    if view.readiness.get() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}
