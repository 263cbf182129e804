//! Content-Formats (RFC 7252 §12.3): constants for those that EST-coaps uses; any other number can be represented too.

use std::fmt;

use crate::message::uint;

/// A Content-Format number of the IANA registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// `text/plain; charset=utf-8`
    pub const TEXT_PLAIN: Self = Self(0);
    /// `application/link-format` (RFC 6690)
    pub const LINK_FORMAT: Self = Self(40);
    /// `application/octet-stream`
    pub const OCTET_STREAM: Self = Self(42);
    /// `application/cbor` (RFC 8949)
    pub const CBOR: Self = Self(60);
    /// `application/multipart-core` (RFC 8710)
    pub const MULTIPART_CORE: Self = Self(62);
    /// `application/pkcs7-mime; smime-type=server-generated-key` (RFC 9148 §9.1)
    pub const PKCS7_SERVER_GENERATED_KEY: Self = Self(280);
    /// `application/pkcs7-mime; smime-type=certs-only` (RFC 9148 §9.1)
    pub const PKCS7_CERTS_ONLY: Self = Self(281);
    /// `application/pkcs8` (RFC 9148 §9.1)
    pub const PKCS8: Self = Self(284);
    /// `application/csrattrs` (RFC 9148 §9.1)
    pub const CSR_ATTRIBUTES: Self = Self(285);
    /// `application/pkcs10` (RFC 9148 §9.1)
    pub const PKCS10: Self = Self(286);
    /// `application/pkix-cert` (RFC 9148 §9.1)
    pub const PKIX_CERT: Self = Self(287);

    /// The value of a Content-Format or Accept option, 0 to 2 bytes. Content-Format is elective: a longer value is
    /// ignored, whatever number it holds (RFC 7252 §5.4.3).
    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        let number = uint(value).filter(|_| value.len() <= 2)?;
        u16::try_from(number).ok().map(ContentFormat)
    }
}

impl fmt::Display for ContentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
