//! Why a handshake failed: a closed set, and one table that maps it to the alert for the peer.

use crate::verify::CertificateFault;
use crate::wire::{AlertDescription, HandshakeType};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// The peer's highest version is below DTLS 1.2.
    Version {
        /// `client_version` or `server_version` as received; 0xFEFF is DTLS 1.0.
        offered: u16,
    },
    /// There is no cipher suite in common.
    NoCommonSuite,
    /// The peer does not offer secp256r1, or not the curve of our certificate.
    NoCommonGroup,
    /// The peer does not accept the signature algorithm of our key.
    NoCommonSignatureAlgorithm,
    /// ec_point_formats without the uncompressed format (RFC 8422 §5.1.2).
    NoCommonPointFormat,
    /// compression_methods without null (RFC 5246 §7.4.1.2).
    NoCommonCompression,
    /// The peer does not support extended_master_secret and we require it (RFC 7627 §5.2).
    ExtendedMasterSecretRequired,
    /// renegotiation_info is not empty in an initial handshake (RFC 5746 §3.6).
    RenegotiationInfo,
    /// max_fragment_length has an undefined code (RFC 6066 §4), or record_size_limit is below 64 (RFC 8449 §4).
    RecordLimit {
        /// The code or the number of bytes that the peer asked for.
        offered: u16,
    },
    /// An authentic record is longer than the two ends agreed on (RFC 6066 §4).
    RecordOverflow,
    /// The client accepts or has no X.509 certificates, only other types, such as raw public keys (RFC 7250 §4.2).
    CertificateType,
    /// supported_versions does not include DTLS 1.2 (RFC 8446 §4.2.1).
    SupportedVersions,
    /// The ClientHello with the cookie differs from the one that the cookie was issued for (RFC 6347 §4.2.1).
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
    /// The peer chose something that was not offered.
    NotOffered {
        /// The message that holds the choice.
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
    /// A message that is not allowed at this point.
    UnexpectedMessage {
        /// The message that arrived.
        message: HandshakeType,
        /// The message that was expected.
        expected: HandshakeType,
    },
    /// The peer sent a fatal alert, or closed during the handshake.
    AlertReceived(AlertDescription),
    /// The handshake did not end in time.
    TimedOut {
        /// The message that was expected when time ran out.
        expected: HandshakeType,
    },
    /// No sequence number is left for the next record to send: the numbers continue those of the ClientHello (RFC 6347
    /// §4.2.1).
    SequenceExhausted,
    /// The server asked for a cookie too many times.
    TooManyHelloVerifyRequests,
    /// All session slots are taken by live peers.
    SessionsFull,
    /// The peer began another handshake in place of this one.
    Restarted,
    /// Every handshake slot was taken, and another peer's handshake took this one's.
    Displaced,
    /// We ended the handshake ourselves.
    Cancelled,
    /// Our own randomness, signature or key agreement failed.
    Internal,
}

/// Which side causes a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer sent something unacceptable, or nothing.
    Peer,
    /// The cause is on our side, and we have to fix it.
    Ours,
}

impl HandshakeRefusal {
    /// The alert for the peer; `None` if no alert is sent.
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
            // The peer does not listen any more; or all slots are taken, and close_notify says so under the keys that both ends have by then.
            // Without a sequence number nothing can be sent.
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

    /// The side that causes the refusal.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self {
            Self::SessionsFull | Self::Displaced | Self::Internal | Self::Cancelled => Side::Ours,
            _ => Side::Peer,
        }
    }
}

impl CertificateFault {
    /// The alert for the peer (RFC 5246 §7.2.2).
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
