//! One connection: its handshake, then its requests one after the other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use est::{Attempt, Reason};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use registrar::relay::UPSTREAM_CONNECTIONS_MAX;
use registrar::{FrontSession, cipher_bits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::pace::BURST;
use super::request::{AnswerBody, Connected};
use crate::http::connections::{ConnectionRank, Conversation, network};
use crate::metrics::HttpsClient;

/// From the accepted connection to the end of its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// From the end of an answer, or of the handshake, to the complete head of the next request.
const HEAD: Duration = Duration::from_secs(15);

/// Bytes of a head; a longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The smallest buffer that hyper accepts.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(HEAD_BYTES_MAX <= BUFFER_BYTES_MAX);

/// The life of a connection of a device: cacerts, csrattrs and an enrolment, on a slow link.
const LIFE_OF_DEVICE: Duration = Duration::from_secs(60);

/// The life of a connection of a Registrar, which carries the enrolments of many devices. After it a revoked or expired certificate is gone for good.
const LIFE_OF_REGISTRAR: Duration = Duration::from_secs(600);

/// After its life, for the request that is being answered.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// Connections of one device, and of one Registrar: a device has one, and a second one if it gave the first one up.
const DEVICE_CONNECTIONS_MAX: usize = 4;
const REGISTRAR_CONNECTIONS_MAX: usize = 64;
const _: () = assert!(
    UPSTREAM_CONNECTIONS_MAX < REGISTRAR_CONNECTIONS_MAX && UPSTREAM_CONNECTIONS_MAX < BURST as usize,
    "what a Registrar of ours opens in a burst is let in"
);
const _: () = assert!(
    2 * REGISTRAR_CONNECTIONS_MAX <= super::CONNECTIONS_MAX - super::STRANGERS_MAX,
    "one Registrar leaves room for others"
);

/// The conversation of the front, with what all of them share.
#[derive(Clone)]
pub(super) struct FrontConversation(pub(super) Arc<Shared>);

impl Conversation for FrontConversation {
    const NAME: &'static str = "the HTTPS listener";

    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        rank: Arc<ConnectionRank>,
    ) {
        let shared = self.0;
        let mut open = shared.parts.meters.https.open();
        let may_begin = {
            let mut pace = shared.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.admits(Instant::now(), network(peer.ip()))
        };
        if !may_begin {
            tracing::debug!(%peer, listener = Self::NAME, "a connection was closed: its network begins too many handshakes");
            return;
        }
        let Some((stream, connected)) = shake_hands(&shared, stream, peer).await else { return };
        let is_registrar = connected.is_registrar();
        let life = if is_registrar { LIFE_OF_REGISTRAR } else { LIFE_OF_DEVICE };
        let most = if is_registrar { REGISTRAR_CONNECTIONS_MAX } else { DEVICE_CONNECTIONS_MAX };
        let share = connected.certificate().map(|certificate| shared.shares.take(certificate, most));
        // A certificate with more connections than its share ranks as a stranger with those.
        if matches!(share, Some(Some(_))) {
            rank.authenticated();
            shared.pace.lock().unwrap_or_else(PoisonError::into_inner).knows(Instant::now(), network(peer.ip()));
            open.is_of(if is_registrar { HttpsClient::Registrar } else { HttpsClient::Device });
        }
        let connected = Arc::new(connected.within_share(!matches!(share, Some(None))));
        let service = service_fn(|request: Request<Incoming>| {
            let (connected, rank) = (Arc::clone(&connected), Arc::clone(&rank));
            async move {
                rank.works(true);
                let answer: Response<AnswerBody> = connected.answer(request).await;
                rank.works(false);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = match timeout(life, connection.as_mut()).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(LAST_ANSWER, connection).await.ok()
            }
        };
        match ended {
            // The last answer was handed to the network, and close_notify after it.
            Some(Ok(())) => connected.delivered(),
            Some(Err(error)) => tracing::debug!(%error, listener = Self::NAME, "a connection failed"),
            None => tracing::debug!(listener = Self::NAME, "a connection took too long"),
        }
    }
}

type Shaken<S> = (tokio_rustls::server::TlsStream<S>, Connected);

/// The handshake; `None` after it failed, which is reported if a certificate was at fault.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    stream: S,
    peer: SocketAddr,
) -> Option<Shaken<S>> {
    let snapshot = shared.parts.snapshot.load_full();
    // A reload can take the section away; the socket goes with the next restart.
    let loaded = snapshot.front.as_ref()?;
    let (config, verdict) = match loaded.identity.for_connection(&loaded.front) {
        Ok(made) => made,
        Err(error) => {
            tracing::error!(%error, "no connection over HTTPS is possible");
            return None;
        }
    };
    let since = Instant::now();
    let shaken = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
    match (shaken, verdict.take()) {
        (Ok(Ok(stream)), verdict) => {
            let session = stream.get_ref().1;
            let chain = session.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
            let cipher_bits = session.negotiated_cipher_suite().map_or(0, |suite| cipher_bits(suite.suite()));
            let client = verdict.and_then(Result::ok);
            shared.parts.meters.handshakes.increment(1);
            let connected = Connected::new(
                Arc::clone(shared),
                FrontSession { peer, cipher_bits },
                chain,
                (Arc::clone(&loaded.front), client),
            );
            Some((stream, connected))
        }
        (Ok(Err(_)), Some(Err(refusal))) => {
            let reason = Reason::from(refusal.fault);
            snapshot.meters.of(None).refused(reason);
            shared.parts.refusals.report(Attempt {
                detail: refusal.detail,
                elapsed: since.elapsed(),
                ..Attempt::refused(peer, reason, String::new())
            });
            None
        }
        (Ok(Err(error)), _) => {
            tracing::debug!(%peer, %error, "a handshake of TLS failed");
            None
        }
        (Err(_), _) => {
            tracing::debug!(%peer, "a handshake of TLS took too long");
            None
        }
    }
}
