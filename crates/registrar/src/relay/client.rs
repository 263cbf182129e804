//! The transport to the upstream CAs: HTTPS with hyper and rustls, on the daemon's tokio runtime.
//!
//! Requests come over a bounded channel; each is a task. Connections are kept and used again, and a request waits for one while all are in use. A redirect is an answer like any other: it is not
//! followed.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use authority::Completion;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use hyper::http::Extensions;
use hyper::{Method, Request, Response};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{AlertDescription, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connections::{ConnectionPlaces, UPSTREAM_CONNECTIONS_MAX};
use super::connector::{ConnectionFacts, TrackedConnector};
use super::upstream::{HttpAnswer, Upstream, UpstreamFailure, UpstreamOperation, UpstreamReply, UpstreamRequest};
use crate::body::{BODY_BYTES_MAX, encode_body};

/// Our own front closes an idle connection after 15 s; a server that closes one just before a request costs that request a repeat.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The heads of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What an upstream client is made of.
pub struct HttpUpstreamSpec {
    /// The anchors of their HTTPS certificates, with keys of any algorithm that rustls takes.
    pub trust: Vec<CertificateDer<'static>>,
    /// The Registrar's certificate, leaf first.
    pub certificate: Vec<Vec<u8>>,
    /// Its key, PKCS #8.
    pub key: zeroize::Zeroizing<Vec<u8>>,
    /// The longest time from the beginning of a request to the end of its answer.
    pub timeout: Duration,
}

/// Requests that may wait on their way to the runtime: as many as a configuration may let wait for upstreams.
const QUEUE_MAX: usize = 65_536;

/// Hands requests to the [`HttpUpstreamService`] on the runtime.
pub struct HttpUpstream {
    sender: mpsc::Sender<Queued>,
    client: Arc<Mutex<Arc<HttpClient>>>,
    places: Arc<ConnectionPlaces>,
}

/// A request on its way to the runtime, and when it was handed over.
type Queued = (Instant, UpstreamRequest, Completion<UpstreamReply>);

/// The part that runs on the runtime.
pub struct HttpUpstreamService {
    receiver: mpsc::Receiver<Queued>,
    client: Arc<Mutex<Arc<HttpClient>>>,
}

struct HttpClient {
    client: Client<TrackedConnector, TrackedBody>,
    places: Arc<ConnectionPlaces>,
    timeout: Duration,
}

impl HttpUpstream {
    /// A client and the service that it needs.
    ///
    /// # Errors
    /// The keys and certificates cannot be used.
    pub fn new(spec: HttpUpstreamSpec) -> Result<(Self, HttpUpstreamService), HttpUpstreamFault> {
        let places = Arc::<ConnectionPlaces>::default();
        let client = Arc::new(Mutex::new(Arc::new(HttpClient::new(spec, Arc::clone(&places))?)));
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let service = HttpUpstreamService { receiver, client: Arc::clone(&client) };
        Ok((Self { sender, client, places }, service))
    }

    /// Uses other keys and certificates for the requests that begin from now on.
    ///
    /// # Errors
    /// The keys and certificates cannot be used; then nothing has changed.
    pub fn renew(&self, spec: HttpUpstreamSpec) -> Result<(), HttpUpstreamFault> {
        let client = Arc::new(HttpClient::new(spec, Arc::clone(&self.places))?);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }
}

impl Upstream for HttpUpstream {
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>) {
        // The channel is as long as requests may wait, and closes only when the process ends.
        if let Err(error) = self.sender.try_send((Instant::now(), request, done)) {
            let (began, _, done) = match error {
                mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued) => queued,
            };
            done(UpstreamReply { took: began.elapsed(), answer: Err(UpstreamFailure::NotSent) });
        }
    }
}

impl fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstream").finish_non_exhaustive()
    }
}

impl HttpUpstreamService {
    /// Serves the requests until every [`HttpUpstream`] is gone. Each request is a task of the runtime that this runs on: as many as the Registrar
    /// lets wait.
    pub async fn run(mut self) {
        while let Some((began, request, done)) = self.receiver.recv().await {
            let shared = Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner));
            tokio::spawn(async move {
                let answer = shared.exchange(&request).await;
                done(UpstreamReply { took: began.elapsed(), answer });
            });
        }
    }

    /// The same, for a runtime whose services never end.
    pub async fn serve(self) -> Infallible {
        self.run().await;
        std::future::pending().await
    }
}

impl HttpClient {
    fn new(spec: HttpUpstreamSpec, places: Arc<ConnectionPlaces>) -> Result<Self, HttpUpstreamFault> {
        let mut roots = RootCertStore::empty();
        for anchor in spec.trust {
            roots.add(anchor).map_err(HttpUpstreamFault::Trust)?;
        }
        let chain = spec.certificate.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(spec.key.to_vec()));
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(HttpUpstreamFault::Identity)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(HttpUpstreamFault::Identity)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(spec.timeout / 2));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(UPSTREAM_CONNECTIONS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(TrackedConnector(connector));
        Ok(Self { client, places, timeout: spec.timeout })
    }

    async fn exchange(&self, request: &UpstreamRequest) -> Result<HttpAnswer, UpstreamFailure> {
        let began = Arc::new(AtomicBool::new(false));
        let Some(http) = Self::request(request, &began) else { return Err(UpstreamFailure::NotSent) };
        let Some(host) = http.uri().authority() else { return Err(UpstreamFailure::NotSent) };
        let end = Instant::now() + self.timeout;
        // A request that gets its place late has half of the time for its answer at least.
        let place = tokio::time::timeout(self.timeout / 2, self.places.at(host).acquire_owned()).await;
        let Ok(Ok(_place)) = place else { return Err(UpstreamFailure::Crowded) };
        let exchange = async {
            let response = self.client.request(http).await.map_err(|error| {
                tracing::debug!(error = %Chain(&error), "a request to an upstream CA failed");
                let is_sent = !error.is_connect() && !is_refused_in_handshake(&error);
                if is_sent { UpstreamFailure::Unknown } else { UpstreamFailure::NotSent }
            })?;
            if let Some(facts) = ConnectionFacts::of(response.extensions()) {
                facts.answered();
            }
            read(response).await
        };
        let answer = tokio::time::timeout_at(end, exchange).await.unwrap_or(Err(UpstreamFailure::Unknown));
        // A task of hyper's, which the end of the answer has woken, gives the connection back: whoever has the place next finds it there.
        tokio::task::yield_now().await;
        match answer {
            // hyper asks for the body when it writes the head: what was not asked for was not sent.
            Err(UpstreamFailure::Unknown) if !began.load(Ordering::Acquire) => Err(UpstreamFailure::NotSent),
            answer => answer,
        }
    }

    fn request(request: &UpstreamRequest, began: &Arc<AtomicBool>) -> Option<Request<TrackedBody>> {
        let base = &request.upstream;
        let label = request.label.as_deref().map(|label| format!("/{label}")).unwrap_or_default();
        let uri = format!("{}{label}/{}", base.trim_end_matches('/'), request.operation.segment());
        let body = |text: String| TrackedBody { bytes: Some(Bytes::from(text)), began: Arc::clone(began) };
        let http = match request.operation {
            UpstreamOperation::CaCertificates | UpstreamOperation::CsrAttributes => {
                Request::builder().method(Method::GET).uri(uri).header(ACCEPT, "*/*").body(body(String::new()))
            }
            UpstreamOperation::Enrol(_) => Request::builder()
                .method(Method::POST)
                .uri(uri)
                .header(ACCEPT, "*/*")
                .header(CONTENT_TYPE, "application/pkcs10")
                // RFC 7030 §4.2.1 requires it; RFC 8951 has servers ignore it.
                .header(HeaderName::from_static("content-transfer-encoding"), "base64")
                .body(body(encode_body(&request.csr))),
        };
        http.ok()
    }
}

/// Whether the upstream has ended the handshake over the Registrar's certificate. In TLS 1.3 it says so after the client has begun to send (RFC 8446
/// §4.4.2.4, appendix C.2), and has looked at nothing of that. The same alert on a connection whose handshake is over comes after it took the request:
/// a server may look at the certificate again.
fn is_refused_in_handshake(error: &hyper_util::client::legacy::Error) -> bool {
    let facts = error.connect_info().and_then(|connection| {
        let mut extensions = Extensions::new();
        connection.get_extras(&mut extensions);
        ConnectionFacts::of(&extensions)
    });
    facts.is_some_and(|facts| facts.may_be_in_handshake()) && refuses_our_certificate(error)
}

fn refuses_our_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = cause.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return matches!(
                alert,
                AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::CertificateRequired
            );
        }
        next = cause.source();
    }
    false
}

async fn read(response: Response<Incoming>) -> Result<HttpAnswer, UpstreamFailure> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, content_type, retry_after) = (response.status().as_u16(), text(CONTENT_TYPE), text(RETRY_AFTER));
    match Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(HttpAnswer { status, content_type, retry_after, body: body.to_bytes().into() }),
        Err(error) if error.is::<LengthLimitError>() => Err(UpstreamFailure::TooLong),
        Err(_) => Err(UpstreamFailure::Unknown),
    }
}

/// A body that notes when hyper begins to send it.
struct TrackedBody {
    bytes: Option<Bytes>,
    began: Arc<AtomicBool>,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.began.store(true, Ordering::Release);
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

/// An error with its causes, in one line.
struct Chain<'e>(&'e dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Why an upstream client cannot be made.
#[derive(Debug)]
pub enum HttpUpstreamFault {
    /// An anchor cannot be used.
    Trust(rustls::Error),
    /// Certificate and key cannot be used.
    Identity(rustls::Error),
}

impl fmt::Display for HttpUpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust(error) => write!(f, "a trust anchor cannot be used: {error}"),
            Self::Identity(error) => write!(f, "certificate and key cannot be used: {error}"),
        }
    }
}

impl Error for HttpUpstreamFault {}

#[cfg(test)]
mod tests {
    use authority::Function;

    use super::*;

    /// RFC 9148 §5: paths by Table 1, Content-Formats by §8.1, and "a conversion from CBOR major type 2 to Base64 encoding MUST take place".
    #[test]
    fn a_request_has_the_path_the_type_and_the_body_of_rfc_7030() {
        let began = Arc::default();
        let mut request = UpstreamRequest {
            upstream: "https://ca.example/.well-known/est/".into(),
            operation: UpstreamOperation::Enrol(Function::SimpleEnroll),
            label: Some("meters".into()),
            csr: vec![0x30, 0x03, 0x02, 0x01, 0x05],
        };
        let http = HttpClient::request(&request, &began).unwrap();
        assert_eq!(http.uri(), "https://ca.example/.well-known/est/meters/simpleenroll");
        assert_eq!(
            (http.method(), &http.headers()[CONTENT_TYPE]),
            (&Method::POST, &"application/pkcs10".parse().unwrap())
        );
        assert_eq!(http.headers()["content-transfer-encoding"], "base64", "RFC 7030 §4.2.1");
        assert_eq!(http.body().bytes.as_deref(), Some(&b"MAMCAQU="[..]));
        (request.operation, request.label) = (UpstreamOperation::CaCertificates, None);
        let http = HttpClient::request(&request, &began).unwrap();
        assert_eq!(
            (http.uri().to_string().as_str(), http.method()),
            ("https://ca.example/.well-known/est/cacerts", &Method::GET)
        );
        assert!(http.body().is_end_stream(), "a GET has no body");
    }
}
