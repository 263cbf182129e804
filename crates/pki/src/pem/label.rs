//! The kinds of PEM blocks that this crate reads and writes.

/// The contents of a PEM block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// A certificate (RFC 7468 §5)
    Certificate,
    /// A PKCS #10 request (RFC 7468 §7)
    CertificateRequest,
    /// A certificate revocation list (RFC 7468 §6)
    RevocationList,
    /// A PKCS #8 private key, not encrypted (RFC 7468 §10)
    PrivateKey,
    /// A SubjectPublicKeyInfo (RFC 7468 §13)
    PublicKey,
}

impl Label {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::CertificateRequest => "CERTIFICATE REQUEST",
            Self::RevocationList => "X509 CRL",
            Self::PrivateKey => "PRIVATE KEY",
            Self::PublicKey => "PUBLIC KEY",
        }
    }

    pub(super) const fn article(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate",
            Self::CertificateRequest => "a certificate request",
            Self::RevocationList => "a certificate revocation list",
            Self::PrivateKey => "a private key",
            Self::PublicKey => "a public key",
        }
    }
}
