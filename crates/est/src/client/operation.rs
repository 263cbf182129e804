//! The requests that a client can make, and why one did not start.

use std::fmt;

use crate::resources::Packing;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `GET /crts`.
    CaCertificates,
    /// `POST /sen`.
    Enroll {
        /// PKCS #10, DER.
        csr: Vec<u8>,
    },
    /// `POST /sren`.
    Reenroll {
        /// PKCS #10, DER.
        csr: Vec<u8>,
    },
    /// `POST /skg` or `/skc`: a key made by the server, and its certificate.
    GenerateKey {
        /// PKCS #10, DER; the server ignores its key and its signature.
        csr: Vec<u8>,
        /// The path: `/skg` has the certificate in a certs-only message, `/skc` a bare one (RFC 9148 §4.8).
        packing: Packing,
    },
    /// `GET /att`.
    CsrAttributes,
    /// `GET /ren`: when to renew the certificate of the association.
    RenewalInfo,
    /// `GET /.well-known/core`.
    Discover {
        /// A filter, such as `rt=ace.est*`.
        query: Option<String>,
    },
}

/// Why no request was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The handshake has not ended, or the association is over.
    NotConnected,
    /// A request is in progress.
    Busy,
    /// The CSR cannot be read.
    Csr,
}

impl fmt::Display for StartFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotConnected => "the client is not connected to the server",
            Self::Busy => "another request is under way",
            Self::Csr => "the request is not a PKCS #10 request in DER",
        })
    }
}

impl std::error::Error for StartFault {}
