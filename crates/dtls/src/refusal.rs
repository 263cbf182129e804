//! Why a handshake failed: a closed set, and one table from it to the alert that the peer is told.

use crate::verify::CertificateFault;
use crate::wire::{AlertDescription, HandshakeType};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// The peer's highest version is not DTLS 1.2 or above.
    Version {
        /// `client_version` or `server_version` as it came, 0xFEFF for DTLS 1.0.
        offered: u16,
    },
    /// No cipher suite in common.
    NoCommonSuite,
    /// The peer does not offer secp256r1, or not the curve of our certificate.
    NoCommonGroup,
    /// The peer does not accept the signature algorithm of our key.
    NoCommonSignatureAlgorithm,
    /// ec_point_formats without the uncompressed format (RFC 8422 §5.1.2).
    NoCommonPointFormat,
    /// compression_methods without null (RFC 5246 §7.4.1.2).
    NoCommonCompression,
    /// The peer does not do extended_master_secret and we require it (RFC 7627 §5.2).
    ExtendedMasterSecretRequired,
    /// renegotiation_info is not empty in an initial handshake (RFC 5746 §3.6).
    RenegotiationInfo,
    /// max_fragment_length names none of the lengths there are (RFC 6066 §4), or record_size_limit less than 64 (RFC 8449 §4).
    RecordLimit {
        /// The code or the bytes that were asked for.
        offered: u16,
    },
    /// A record that is the peer's is longer than the two ends agreed on (RFC 6066 §4).
    RecordOverflow,
    /// The client takes or has no X.509 certificates, only those of other types, such as raw public keys (RFC 7250 §4.2).
    CertificateType,
    /// supported_versions names versions, and DTLS 1.2 is none of them (RFC 8446 §4.2.1).
    SupportedVersions,
    /// The ClientHello with the cookie differs from the one that the cookie was given for (RFC 6347 §4.2.1).
    HelloChanged,
    /// The client sent no certificate (RFC 5246 §7.4.6).
    MissingCertificate,
    /// The verifier refused the chain.
    Certificate(CertificateFault),
    /// The client's signature over the handshake does not verify.
    BadCertificateVerify,
    /// The client's signature over the handshake is not an ECDSA-Sig-Value in DER (RFC 3279 §2.2.3).
    CertificateVerifyEncoding,
    /// The server's signature over its key exchange does not verify.
    BadServerKeyExchange,
    /// The server's signature over its key exchange is not an ECDSA-Sig-Value in DER (RFC 3279 §2.2.3).
    ServerKeyExchangeEncoding,
    /// A signature by an algorithm that was not offered.
    SignatureAlgorithmNotOffered {
        /// Its code point.
        scheme: u16,
    },
    /// The peer's ECDHE point is not a point of the curve (RFC 8422 §5.11).
    BadKeyShare,
    /// The peer chose what was not offered.
    NotOffered {
        /// The message in which it did.
        message: HandshakeType,
    },
    /// An extension that was not offered (RFC 5246 §7.4.1.4).
    UnsupportedExtension {
        /// Its type.
        extension: u16,
    },
    /// The peer's Finished does not match the handshake.
    BadFinished,
    /// A message that does not decode: truncated, with trailing bytes, or with an extension twice.
    Decode {
        /// Which message.
        message: HandshakeType,
    },
    /// A message that has no place here.
    UnexpectedMessage {
        /// What came.
        message: HandshakeType,
        /// What was due.
        expected: HandshakeType,
    },
    /// The peer sent a fatal alert, or closed during the handshake.
    AlertReceived(AlertDescription),
    /// The handshake did not end in time.
    TimedOut {
        /// What was due when time ran out.
        expected: HandshakeType,
    },
    /// No sequence number is left for what has to be sent: the numbers continue those of the ClientHello (RFC 6347 §4.2.1).
    SequenceExhausted,
    /// The server asked for a cookie again and again.
    TooManyHelloVerifyRequests,
    /// All session slots are taken by live peers.
    SessionsFull,
    /// The peer began another handshake in place of this one.
    Restarted,
    /// Every handshake slot was taken, and another peer's handshake needed this one's.
    Displaced,
    /// We ended the handshake ourselves.
    Cancelled,
    /// Our own randomness, signature or key agreement failed.
    Internal,
}

/// Whose doing a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer sent something that does not serve, or nothing.
    Peer,
    /// It is for us to mend.
    Ours,
}

impl HandshakeRefusal {
    /// The alert that tells the peer; `None` where there is nobody to be told.
    #[must_use]
    pub const fn alert(&self) -> Option<AlertDescription> {
        use AlertDescription as Alert;
        Some(match self {
            Self::Version { .. } | Self::SupportedVersions => Alert::PROTOCOL_VERSION,
            Self::RecordOverflow => Alert::RECORD_OVERFLOW,
            Self::CertificateType => Alert::UNSUPPORTED_CERTIFICATE,
            Self::NoCommonSuite
            | Self::NoCommonGroup
            | Self::NoCommonSignatureAlgorithm
            | Self::ExtendedMasterSecretRequired
            | Self::RenegotiationInfo
            | Self::MissingCertificate
            | Self::TooManyHelloVerifyRequests => Alert::HANDSHAKE_FAILURE,
            Self::NoCommonPointFormat
            | Self::NoCommonCompression
            | Self::SignatureAlgorithmNotOffered { .. }
            | Self::BadKeyShare
            | Self::RecordLimit { .. }
            | Self::HelloChanged
            | Self::NotOffered { .. } => Alert::ILLEGAL_PARAMETER,
            Self::Certificate(fault) => fault.alert(),
            Self::BadCertificateVerify
            | Self::CertificateVerifyEncoding
            | Self::BadServerKeyExchange
            | Self::ServerKeyExchangeEncoding
            | Self::BadFinished => Alert::DECRYPT_ERROR,
            Self::UnsupportedExtension { .. } => Alert::UNSUPPORTED_EXTENSION,
            Self::Decode { .. } => Alert::DECODE_ERROR,
            Self::UnexpectedMessage { .. } => Alert::UNEXPECTED_MESSAGE,
            // Nobody listens, or, for a full house, close_notify says it under the keys that both ends have by then.
            // Without a sequence number nothing can be told.
            Self::AlertReceived(_)
            | Self::TimedOut { .. }
            | Self::Restarted
            | Self::Displaced
            | Self::SessionsFull
            | Self::SequenceExhausted => return None,
            Self::Internal => Alert::INTERNAL_ERROR,
            Self::Cancelled => Alert::CLOSE_NOTIFY,
        })
    }

    /// Whose doing it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self {
            Self::SessionsFull | Self::Displaced | Self::Internal | Self::Cancelled => Side::Ours,
            _ => Side::Peer,
        }
    }
}

impl CertificateFault {
    /// The alert that tells the peer (RFC 5246 §7.2.2).
    #[must_use]
    pub const fn alert(self) -> AlertDescription {
        use AlertDescription as Alert;
        match self {
            Self::UnknownIssuer | Self::PathLength | Self::NotAnAuthority => Alert::UNKNOWN_CA,
            Self::Expired | Self::NotYetValid => Alert::CERTIFICATE_EXPIRED,
            Self::BadSignature
            | Self::NameMismatch
            | Self::BadEncoding
            | Self::TooManyCertificates
            | Self::NameConstraints => Alert::BAD_CERTIFICATE,
            Self::ExtendedKeyUsage
            | Self::KeyUsage
            | Self::CriticalExtension
            | Self::UnsupportedAlgorithm
            | Self::DeviceAsServer => Alert::UNSUPPORTED_CERTIFICATE,
            Self::TooMuchWork => Alert::CERTIFICATE_UNKNOWN,
        }
    }
}
