//! The transport to the upstream CAs: HTTPS with hyper and rustls, on the daemon's tokio runtime.
//!
//! Requests come over a bounded channel; each is a task. Connections are kept and used again, and a request waits for one while all are in use
//! ([`super::connections`]). A redirect is an answer like any other: it is not followed.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authority::Completion;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, Request, Response, Uri};
use rustls::{AlertDescription, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::connections::{IDLE_TIMEOUT, Place, UpstreamConnections};
use super::connector::{Connection, Connector, TrackedBody};
use super::upstream::{HttpAnswer, Upstream, UpstreamFailure, UpstreamOperation, UpstreamReply, UpstreamRequest};
use crate::body::{BODY_BYTES_MAX, encode_body};

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
    connections: Arc<UpstreamConnections>,
}

/// A request on its way to the runtime, and when it was handed over.
type Queued = (Instant, UpstreamRequest, Completion<UpstreamReply>);

/// The part that runs on the runtime.
pub struct HttpUpstreamService {
    receiver: mpsc::Receiver<Queued>,
    client: Arc<Mutex<Arc<HttpClient>>>,
    connections: Arc<UpstreamConnections>,
}

struct HttpClient {
    connector: Connector,
    connections: Arc<UpstreamConnections>,
    timeout: Duration,
}

impl HttpUpstream {
    /// A client and the service that it needs.
    ///
    /// # Errors
    /// The keys and certificates cannot be used.
    pub fn new(spec: HttpUpstreamSpec) -> Result<(Self, HttpUpstreamService), HttpUpstreamFault> {
        let connections = Arc::<UpstreamConnections>::default();
        let client = Arc::new(Mutex::new(Arc::new(HttpClient::new(spec, Arc::clone(&connections))?)));
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let service =
            HttpUpstreamService { receiver, client: Arc::clone(&client), connections: Arc::clone(&connections) };
        Ok((Self { sender, client, connections }, service))
    }

    /// Uses other keys and certificates for the requests that begin from now on.
    ///
    /// # Errors
    /// The keys and certificates cannot be used; then nothing has changed.
    pub fn renew(&self, spec: HttpUpstreamSpec) -> Result<(), HttpUpstreamFault> {
        let client = Arc::new(HttpClient::new(spec, Arc::clone(&self.connections))?);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        self.connections.close_idle();
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
        let mut reaping = tokio::time::interval(IDLE_TIMEOUT / 2);
        reaping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (began, request, done) = tokio::select! {
                queued = self.receiver.recv() => match queued {
                    Some(queued) => queued,
                    None => return,
                },
                _ = reaping.tick() => {
                    self.connections.reap();
                    continue;
                }
            };
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
    fn new(spec: HttpUpstreamSpec, connections: Arc<UpstreamConnections>) -> Result<Self, HttpUpstreamFault> {
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
        Ok(Self { connector: Connector::new(tls, spec.timeout / 2), connections, timeout: spec.timeout })
    }

    async fn exchange(&self, request: &UpstreamRequest) -> Result<HttpAnswer, UpstreamFailure> {
        let began = Arc::new(AtomicBool::new(false));
        let Some((host, to, http)) = Self::request(request, &began) else { return Err(UpstreamFailure::NotSent) };
        let end = Instant::now() + self.timeout;
        // A request that gets its place late has half of the time for its answer at least.
        let place = tokio::time::timeout(self.timeout / 2, self.connections.place(&host)).await;
        let Ok(Ok(place)) = place else { return Err(UpstreamFailure::Crowded) };
        let exchange = self.converse(place, &to, http);
        match tokio::time::timeout_at(end, exchange).await.unwrap_or(Err(UpstreamFailure::Unknown)) {
            // hyper asks for the body when it writes the head: what was not asked for was not sent.
            Err(UpstreamFailure::Unknown) if !began.load(Ordering::Acquire) => Err(UpstreamFailure::NotSent),
            answer => answer,
        }
    }

    /// Sends the request on an idle connection or on a new one, and keeps the connection if its answer came whole.
    async fn converse(
        &self,
        place: Place,
        to: &Uri,
        mut http: Request<TrackedBody>,
    ) -> Result<HttpAnswer, UpstreamFailure> {
        loop {
            let idle = place.take_idle(self.connector.identity());
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connector.connect(to).await.map_err(|error| {
                    tracing::debug!(error = %Chain(&*error), "a connection to an upstream CA could not be made");
                    UpstreamFailure::NotSent
                })?,
            };
            let mut failed = match connection.send(http).await {
                Ok(response) => {
                    let answer = read(response).await?;
                    place.keep(connection);
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            http = match failed.take_message() {
                // The upstream has closed it meanwhile.
                Some(unsent) if was_idle => unsent,
                unsent => {
                    let error = failed.into_error();
                    tracing::debug!(error = %Chain(&error), "a request to an upstream CA failed");
                    let is_sent = unsent.is_none() && !is_refused_in_handshake(&connection, &error);
                    return Err(if is_sent { UpstreamFailure::Unknown } else { UpstreamFailure::NotSent });
                }
            };
        }
    }

    /// The host, where it is, and the request in the form that it has on a connection there (RFC 9112 §3.2.1).
    fn request(request: &UpstreamRequest, began: &Arc<AtomicBool>) -> Option<(Authority, Uri, Request<TrackedBody>)> {
        let base = &request.upstream;
        let label = request.label.as_deref().map(|label| format!("/{label}")).unwrap_or_default();
        let uri = format!("{}{label}/{}", base.trim_end_matches('/'), request.operation.segment());
        let to: Uri = uri.parse().ok()?;
        let host = to.authority()?.clone();
        let path = Uri::from(to.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        let body = |text: String| TrackedBody::new(text, Arc::clone(began));
        let host_field = match to.port_u16() {
            None | Some(443) => to.host()?.to_owned(),
            Some(port) => format!("{}:{port}", to.host()?),
        };
        let http = Request::builder().uri(path).header(HOST, host_field).header(ACCEPT, "*/*");
        let http = match request.operation {
            UpstreamOperation::CaCertificates | UpstreamOperation::CsrAttributes => {
                http.method(Method::GET).body(body(String::new()))
            }
            UpstreamOperation::Enrol(_) => http
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/pkcs10")
                // RFC 7030 §4.2.1 requires it; RFC 8951 has servers ignore it.
                .header(HeaderName::from_static("content-transfer-encoding"), "base64")
                .body(body(encode_body(&request.csr))),
        };
        Some((host, to, http.ok()?))
    }
}

/// Whether the upstream has ended the handshake over the Registrar's certificate. In TLS 1.3 it says so after the client has begun to send (RFC 8446
/// §4.4.2.4, appendix C.2), and has looked at nothing of that. The same alert on a connection whose handshake is over comes after it took the request:
/// a server may look at the certificate again.
fn is_refused_in_handshake(connection: &Connection, error: &hyper::Error) -> bool {
    connection.may_be_in_handshake() && refuses_our_certificate(error)
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
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use authority::Function;
    use hyper::body::Body as _;

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
        let (host, to, mut http) = HttpClient::request(&request, &began).unwrap();
        assert_eq!((host.as_str(), to.scheme_str()), ("ca.example", Some("https")));
        assert_eq!(http.uri(), "/.well-known/est/meters/simpleenroll", "RFC 9112 §3.2.1: origin-form");
        assert_eq!(
            (http.method(), &http.headers()[CONTENT_TYPE], &http.headers()[HOST]),
            (&Method::POST, &"application/pkcs10".parse().unwrap(), &"ca.example".parse().unwrap())
        );
        assert_eq!(http.headers()["content-transfer-encoding"], "base64", "RFC 7030 §4.2.1");
        assert!(!began.load(Ordering::Acquire));
        let body = Pin::new(http.body_mut()).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(body))) = body else { panic!("no body") };
        assert_eq!(body.into_data().unwrap(), "MAMCAQU=");
        assert!(began.load(Ordering::Acquire), "what was asked for may be sent");
        (request.operation, request.label) = (UpstreamOperation::CaCertificates, None);
        for (authority, host_field) in
            [("ca.example:8443", "ca.example:8443"), ("ca.example:443", "ca.example"), ("[::1]:8443", "[::1]:8443")]
        {
            request.upstream = format!("https://{authority}/.well-known/est").into();
            let (host, _, http) = HttpClient::request(&request, &began).unwrap();
            assert_eq!((host.as_str(), &http.headers()[HOST]), (authority, &host_field.parse().unwrap()));
            assert_eq!((http.uri().path(), http.method()), ("/.well-known/est/cacerts", &Method::GET));
            assert!(http.body().is_end_stream(), "a GET has no body");
        }
    }
}
