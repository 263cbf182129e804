//! The connections to upstream CAs, and what is known of each: whether an alert on it can still be about the handshake.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, ProtocolVersion};
use tower_service::Service as _;

/// The heads of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Tells the connections of one client, which all show the same certificate, from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64);

/// Makes connections over HTTPS.
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector>,
    identity: Identity,
}

impl Connector {
    /// One that gives a server so long to take a connection of TCP.
    pub(super) fn new(tls: ClientConfig, connect_timeout: Duration) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        Self { https, identity: Identity(MADE.fetch_add(1, Ordering::Relaxed)) }
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// A new connection to the server of this URI, which takes a request.
    pub(super) async fn connect(&self, to: &Uri) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let mut https = self.https.clone();
        poll_fn(|context| https.poll_ready(context)).await?;
        let stream = https.call(to.clone()).await?;
        let version = match &stream {
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.protocol_version(),
            MaybeHttpsStream::Http(_) => None,
        };
        let (mut sender, driver) = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await?;
        // It ends with the connection, which ends when the sender is dropped or the server closes it.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to an upstream CA ended");
            }
        });
        sender.ready().await?;
        let is_tls13 = version == Some(ProtocolVersion::TLSv1_3);
        Ok(Connection { sender, identity: self.identity, is_tls13, has_answered: false })
    }
}

/// A connection, and what is known of it.
pub(super) struct Connection {
    sender: SendRequest<TrackedBody>,
    identity: Identity,
    is_tls13: bool,
    has_answered: bool,
}

impl Connection {
    /// Sends a request and waits for the head of its answer. A request that comes back in the error was not sent.
    pub(super) async fn send(
        &mut self,
        request: Request<TrackedBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<TrackedBody>>> {
        let response = self.sender.try_send_request(request).await?;
        self.has_answered = true;
        Ok(response)
    }

    /// Waits until the next request can be sent.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn is_of(&self, identity: Identity) -> bool {
        self.identity == identity
    }

    /// Whether the upstream may not have looked at the certificate yet, and so at no request. Before TLS 1.3 the handshake ends before the client
    /// sends anything (RFC 5246 §7.3), and in TLS 1.3 an upstream that has answered is beyond it.
    pub(super) fn may_be_in_handshake(&self) -> bool {
        may_be_in_handshake(self.is_tls13, self.has_answered)
    }
}

fn may_be_in_handshake(is_tls13: bool, has_answered: bool) -> bool {
    is_tls13 && !has_answered
}

/// A body that notes when hyper begins to send it.
pub(super) struct TrackedBody {
    bytes: Option<Bytes>,
    began: Arc<AtomicBool>,
}

impl TrackedBody {
    pub(super) fn new(bytes: impl Into<Bytes>, began: Arc<AtomicBool>) -> Self {
        Self { bytes: Some(bytes.into()), began }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_answer_of_a_tls_1_3_connection_can_still_be_about_the_handshake() {
        for (is_tls13, has_answered, may_be) in [(true, false, true), (true, true, false), (false, false, false)] {
            assert_eq!(may_be_in_handshake(is_tls13, has_answered), may_be, "{is_tls13} {has_answered}");
        }
    }
}
