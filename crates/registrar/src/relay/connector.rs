//! The connections to upstream CAs, and what is known of each: whether an alert on it can still be about the handshake.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ProtocolVersion;
use tokio::net::TcpStream;
use tower_service::Service;

/// Makes connections over HTTPS that carry their [`ConnectionFacts`].
#[derive(Clone)]
pub(super) struct TrackedConnector(pub(super) HttpsConnector<HttpConnector>);

/// What is known of one connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionFacts {
    is_tls13: bool,
    has_answered: Arc<AtomicBool>,
}

impl ConnectionFacts {
    /// Those of the connection that an answer came on, or a request failed on.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().cloned()
    }

    /// An answer came.
    pub(super) fn answered(&self) {
        self.has_answered.store(true, Ordering::Release);
    }

    /// Whether the upstream may not have looked at the certificate yet, and so at no request. Before TLS 1.3 the handshake ends before the client
    /// sends anything (RFC 5246 §7.3), and in TLS 1.3 an upstream that has answered is beyond it.
    pub(super) fn may_be_in_handshake(&self) -> bool {
        self.is_tls13 && !self.has_answered.load(Ordering::Acquire)
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection with its facts.
pub(super) struct TrackedStream {
    stream: Stream,
    facts: ConnectionFacts,
}

impl TrackedStream {
    fn new(stream: Stream) -> Self {
        let version = match &stream {
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.protocol_version(),
            MaybeHttpsStream::Http(_) => None,
        };
        let facts =
            ConnectionFacts { is_tls13: version == Some(ProtocolVersion::TLSv1_3), has_answered: Arc::default() };
        Self { stream, facts }
    }
}

impl Service<Uri> for TrackedConnector {
    type Response = TrackedStream;
    type Error = <HttpsConnector<HttpConnector> as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<TrackedStream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move { connecting.await.map(TrackedStream::new) })
    }
}

impl Connection for TrackedStream {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.facts.clone())
    }
}

impl Read for TrackedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for TrackedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_answer_of_a_tls_1_3_connection_can_still_be_about_the_handshake() {
        for (is_tls13, answered, may_be) in [(true, false, true), (true, true, false), (false, false, false)] {
            let facts = ConnectionFacts { is_tls13, has_answered: Arc::default() };
            if answered {
                facts.clone().answered();
            }
            assert_eq!(facts.may_be_in_handshake(), may_be, "{is_tls13} {answered}");
        }
    }
}
