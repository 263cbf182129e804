//! The connections of the HTTPS front that are open, by client.

use metrics::Gauge;

use super::descriptions::HTTPS_CONNECTIONS;
use super::registry::Registry;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpsClient {
    /// Nobody knows: the handshake is not over, or the client has shown no certificate, or has more connections than its share.
    Stranger,
    /// An authenticated device.
    Device,
    /// An authenticated Registrar.
    Registrar,
}

/// The gauges.
#[derive(Clone)]
pub(crate) struct HttpsMeters {
    /// In the order of [`HttpsClient`].
    open: [Gauge; 3],
}

impl HttpsMeters {
    pub(super) fn register(registry: Registry<'_>) -> Self {
        let of = |client| registry.gauge(HTTPS_CONNECTIONS, &[("client", client)]);
        Self { open: [of("stranger"), of("device"), of("registrar")] }
    }

    /// Counts a connection until it is dropped; at first it is a stranger's.
    pub(crate) fn open(&self) -> CountedConnection {
        let counted = CountedConnection { meters: self.clone(), client: HttpsClient::Stranger };
        counted.gauge().increment(1.0);
        counted
    }
}

/// A connection that counts as open.
pub(crate) struct CountedConnection {
    meters: HttpsMeters,
    client: HttpsClient,
}

impl CountedConnection {
    /// The client has proven who it is.
    pub(crate) fn is_of(&mut self, client: HttpsClient) {
        self.gauge().decrement(1.0);
        self.client = client;
        self.gauge().increment(1.0);
    }

    fn gauge(&self) -> &Gauge {
        let [stranger, device, registrar] = &self.meters.open;
        match self.client {
            HttpsClient::Stranger => stranger,
            HttpsClient::Device => device,
            HttpsClient::Registrar => registrar,
        }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.gauge().decrement(1.0);
    }
}
