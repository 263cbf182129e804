//! How a request reached the server, as far as a decision depends on it.

use std::sync::Arc;

/// How a request reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From the device, over CoAP and DTLS.
    Coaps,
    /// From the device, over HTTPS: its session has no tls-unique that we can read (TLS 1.3 defines none, RFC 8446 appendix C.5).
    Https,
    /// From a Registrar that was authenticated under this name of the configuration. The device is read from the request, and nothing but the word of
    /// the Registrar ties the two.
    Registrar(Arc<str>),
}
