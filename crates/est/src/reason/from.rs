//! Converts the refusals of the crates below to reasons. The matches are exhaustive on purpose: a variant added below
//! needs its row before this compiles.

use authority::{Asked, Busy, Function, Misissue};
use dtls::{AlertDescription, CertificateFault};
use pki::{CsrError, CsrFlaw};

use super::Reason;

impl From<&dtls::HandshakeRefusal> for Reason {
    fn from(refusal: &dtls::HandshakeRefusal) -> Reason {
        use dtls::HandshakeRefusal;
        match refusal {
            HandshakeRefusal::Version { .. } => Reason::HelloVersion,
            HandshakeRefusal::NoCommonSuite => Reason::HelloNoCommonSuite,
            HandshakeRefusal::NoCommonGroup => Reason::HelloNoCommonGroup,
            HandshakeRefusal::NoCommonSignatureAlgorithm => Reason::HelloNoCommonSignatureAlgorithm,
            HandshakeRefusal::NoCommonPointFormat => Reason::HelloNoCommonPointFormat,
            HandshakeRefusal::NoCommonCompression => Reason::HelloNoCommonCompression,
            HandshakeRefusal::ExtendedMasterSecretRequired => Reason::HelloNoExtendedMasterSecret,
            HandshakeRefusal::RenegotiationInfo => Reason::HelloRenegotiationInfo,
            HandshakeRefusal::RecordLimit { .. } => Reason::HelloRecordLimit,
            HandshakeRefusal::RecordOverflow => Reason::RecordOverflow,
            HandshakeRefusal::CertificateType => Reason::HelloCertificateType,
            HandshakeRefusal::SupportedVersions => Reason::HelloSupportedVersions,
            HandshakeRefusal::SequenceExhausted => Reason::HandshakeSequenceExhausted,
            HandshakeRefusal::HelloChanged => Reason::HelloChanged,
            HandshakeRefusal::MissingCertificate => Reason::CertificateMissing,
            HandshakeRefusal::Certificate(fault) => Reason::from(*fault),
            HandshakeRefusal::BadCertificateVerify => Reason::CertificateNoProof,
            HandshakeRefusal::CertificateVerifyEncoding => Reason::CertificateProofEncoding,
            HandshakeRefusal::BadServerKeyExchange => Reason::ServerKeyExchangeSignature,
            HandshakeRefusal::ServerKeyExchangeEncoding => Reason::ServerKeyExchangeEncoding,
            HandshakeRefusal::SignatureAlgorithmNotOffered { .. } => Reason::SignatureAlgorithmNotOffered,
            HandshakeRefusal::BadKeyShare => Reason::KeyShareBadPoint,
            HandshakeRefusal::NotOffered { .. } => Reason::HelloNotOffered,
            HandshakeRefusal::UnsupportedExtension { .. } => Reason::HelloUnsupportedExtension,
            HandshakeRefusal::BadFinished => Reason::FinishedMismatch,
            HandshakeRefusal::Decode { .. } => Reason::HandshakeDecode,
            HandshakeRefusal::UnexpectedMessage { .. } => Reason::HandshakeUnexpectedMessage,
            HandshakeRefusal::AlertReceived(alert) => Reason::from(*alert),
            HandshakeRefusal::TimedOut { .. } => Reason::HandshakeTimedOut,
            HandshakeRefusal::TooManyHelloVerifyRequests => Reason::HelloCookieLoop,
            HandshakeRefusal::SessionsFull => Reason::SessionsFull,
            HandshakeRefusal::Restarted => Reason::HandshakeRestarted,
            HandshakeRefusal::Displaced => Reason::HandshakeDisplaced,
            HandshakeRefusal::Cancelled => Reason::HandshakeCancelled,
            HandshakeRefusal::Internal => Reason::HandshakeInternal,
        }
    }
}

impl From<CertificateFault> for Reason {
    fn from(fault: CertificateFault) -> Reason {
        match fault {
            CertificateFault::UnknownIssuer => Reason::CertificateUnknownIssuer,
            CertificateFault::Expired => Reason::CertificateExpired,
            CertificateFault::NotYetValid => Reason::CertificateNotYetValid,
            CertificateFault::BadSignature => Reason::CertificateBadSignature,
            CertificateFault::ExtendedKeyUsage => Reason::CertificateExtendedKeyUsage,
            CertificateFault::KeyUsage => Reason::CertificateKeyUsage,
            CertificateFault::NameMismatch => Reason::CertificateNameMismatch,
            CertificateFault::PathLength => Reason::CertificatePathLength,
            CertificateFault::NotAnAuthority => Reason::CertificateNotAnAuthority,
            CertificateFault::NameConstraints => Reason::CertificateNameConstraints,
            CertificateFault::CriticalExtension => Reason::CertificateCriticalExtension,
            CertificateFault::UnsupportedAlgorithm => Reason::CertificateAlgorithm,
            CertificateFault::BadEncoding => Reason::CertificateBadEncoding,
            CertificateFault::TooManyCertificates => Reason::CertificateTooMany,
            CertificateFault::TooMuchWork => Reason::CertificateTooMuchWork,
            CertificateFault::DeviceAsServer => Reason::CertificateDeviceAsServer,
        }
    }
}

/// An alert by which the peer ended a handshake or a session. Alert codes are an open set: a code without a row of its
/// own is "other".
impl From<AlertDescription> for Reason {
    fn from(alert: AlertDescription) -> Reason {
        match alert {
            AlertDescription::UNKNOWN_CA => Reason::AlertUnknownCa,
            AlertDescription::BAD_CERTIFICATE => Reason::AlertBadCertificate,
            AlertDescription::UNSUPPORTED_CERTIFICATE => Reason::AlertUnsupportedCertificate,
            AlertDescription::CERTIFICATE_REVOKED => Reason::AlertCertificateRevoked,
            AlertDescription::CERTIFICATE_EXPIRED => Reason::AlertCertificateExpired,
            AlertDescription::CERTIFICATE_UNKNOWN => Reason::AlertCertificateUnknown,
            AlertDescription::ACCESS_DENIED => Reason::AlertAccessDenied,
            AlertDescription::HANDSHAKE_FAILURE => Reason::AlertHandshakeFailure,
            AlertDescription::INSUFFICIENT_SECURITY => Reason::AlertInsufficientSecurity,
            AlertDescription::PROTOCOL_VERSION => Reason::AlertProtocolVersion,
            AlertDescription::UNEXPECTED_MESSAGE => Reason::AlertUnexpectedMessage,
            AlertDescription::BAD_RECORD_MAC => Reason::AlertBadRecordMac,
            AlertDescription::RECORD_OVERFLOW => Reason::AlertRecordOverflow,
            AlertDescription::ILLEGAL_PARAMETER => Reason::AlertIllegalParameter,
            AlertDescription::DECODE_ERROR => Reason::AlertDecodeError,
            AlertDescription::DECRYPT_ERROR => Reason::AlertDecryptError,
            AlertDescription::INTERNAL_ERROR => Reason::AlertInternalError,
            AlertDescription::UNSUPPORTED_EXTENSION => Reason::AlertUnsupportedExtension,
            AlertDescription::UNRECOGNIZED_NAME => Reason::AlertUnrecognizedName,
            AlertDescription::CLOSE_NOTIFY => Reason::AlertClosed,
            AlertDescription::USER_CANCELED => Reason::AlertUserCanceled,
            AlertDescription::INAPPROPRIATE_FALLBACK => Reason::AlertInappropriateFallback,
            AlertDescription::NO_RENEGOTIATION => Reason::AlertNoRenegotiation,
            AlertDescription::MISSING_EXTENSION => Reason::AlertMissingExtension,
            AlertDescription::BAD_CERTIFICATE_STATUS_RESPONSE => Reason::AlertCertificateStatus,
            AlertDescription::UNKNOWN_PSK_IDENTITY => Reason::AlertUnknownPskIdentity,
            AlertDescription::CERTIFICATE_REQUIRED => Reason::AlertCertificateRequired,
            AlertDescription::NO_APPLICATION_PROTOCOL => Reason::AlertNoApplicationProtocol,
            _ => Reason::AlertOther,
        }
    }
}

impl Reason {
    /// The reason for a session's end; `None` if it ended normally.
    #[must_use]
    pub fn of_session(why: dtls::Closed) -> Option<Reason> {
        use dtls::Closed;
        match why {
            Closed::ByPeer | Closed::ByUs | Closed::Idle | Closed::Replaced => None,
            Closed::Alert(alert) => Some(Reason::from(alert)),
            Closed::Evicted => Some(Reason::SessionEvicted),
            Closed::Forgeries => Some(Reason::SessionForgeries),
            Closed::RecordOverflow => Some(Reason::RecordOverflow),
            Closed::SequenceExhausted => Some(Reason::SessionSequenceExhausted),
        }
    }

    /// The reason of a refusal that the CoAP layer answered by itself.
    #[must_use]
    pub fn of_message_layer(refusal: coap::server::RequestRefusal) -> Reason {
        use coap::server::{BlockFault, Limit, OptionFault, RequestRefusal};
        match refusal {
            RequestRefusal::BadOption(_, OptionFault::Unknown) => Reason::CoapBadOption,
            RequestRefusal::BadOption(_, OptionFault::Length) => Reason::CoapOptionLength,
            RequestRefusal::BadOption(_, OptionFault::Repeated) => Reason::CoapOptionRepeated,
            RequestRefusal::BadOption(_, OptionFault::NotText) => Reason::CoapOptionNotText,
            RequestRefusal::UnknownMethod => Reason::CoapMethodUnknown,
            RequestRefusal::Proxy => Reason::CoapProxy,
            RequestRefusal::BadBlock(BlockFault::ReservedSize) => Reason::CoapBlockMalformed,
            RequestRefusal::BadBlock(BlockFault::Short) => Reason::CoapBlockShort,
            RequestRefusal::BadBlock(BlockFault::Long) => Reason::CoapBlockLong,
            RequestRefusal::BadBlock(BlockFault::LastLong) => Reason::CoapBlockLastLong,
            RequestRefusal::BadBlock(BlockFault::BothDirections) => Reason::CoapBlockBoth,
            RequestRefusal::BlockMissing => Reason::CoapBlockMissing,
            RequestRefusal::BlockDiffers => Reason::CoapBlockDiffers,
            RequestRefusal::ContentFormatChanged => Reason::CoapBlockFormatChanged,
            RequestRefusal::TooLarge { .. } => Reason::CoapBodyTooLarge,
            RequestRefusal::NoResponse => Reason::CoapBlockNoResponse,
            RequestRefusal::PastEnd => Reason::CoapBlockPastEnd,
            RequestRefusal::Full(Limit::Uploads) => Reason::CoapFull,
            RequestRefusal::Full(Limit::Responses) => Reason::CoapAnswersFull,
            RequestRefusal::Full(Limit::Pending) => Reason::CoapPendingFull,
            RequestRefusal::Full(Limit::Exchanges) => Reason::CoapExchangesFull,
        }
    }

    /// The reason of the authority's refusal of a request for `function`: the same mismatch has one meaning for an
    /// enrolment and another for a renewal.
    #[must_use]
    pub fn of_decision(refusal: &authority::Refusal, function: Function) -> Reason {
        use authority::Refusal;
        match refusal {
            Refusal::Csr(error) => Reason::from(error),
            Refusal::KeyType => Reason::CsrKeyType,
            Refusal::Asks(Asked::CertificateAuthority) => Reason::CsrAsksAuthority,
            Refusal::Asks(Asked::CertificateSigning) => Reason::CsrAsksSigning,
            Refusal::Asks(Asked::AnyPurpose) => Reason::CsrAsksAnyPurpose,
            Refusal::ClientUnknown => Reason::ClientNotOfProfile,
            Refusal::ClientExpired => Reason::ClientExpired,
            Refusal::ClientEncoding(_) => Reason::ClientEncoding,
            Refusal::ClientRevoked => Reason::ClientRevoked,
            Refusal::NotIssuedHere => Reason::RenewalNotOfThisCa,
            Refusal::ClientOfAnotherProfile(_) => Reason::ClientOfAnotherProfile,
            Refusal::ClientNotInLedger => Reason::ClientNotInLedger,
            Refusal::ManufacturerRemoved => Reason::ClientManufacturerRemoved,
            Refusal::NoDeviceId(_) => Reason::ClientNoDeviceId,
            Refusal::SubjectMismatch(_) => match function {
                Function::SimpleEnroll => Reason::SenSubjectMismatch,
                Function::SimpleReenroll => Reason::SrenSubjectMismatch,
            },
            Refusal::SubjectTemplate(_) => Reason::SubjectTemplate,
            Refusal::NoName => Reason::CsrNoName,
            Refusal::SanNotListed(_) => Reason::SanNotListed,
            Refusal::SanSyntax(_) => Reason::SanNotIssuable,
            Refusal::SanConstrained(_) => Reason::SanConstrained,
            Refusal::SanMismatch(_) => Reason::SanMismatch,
            Refusal::ChallengeUnbound => Reason::ChallengeUnbound,
            Refusal::ChallengeMismatch => Reason::ChallengeMismatch,
            Refusal::IdentityKey => Reason::IdentityKey,
            Refusal::CaKey => Reason::CaKey,
            Refusal::KeyOfAnotherDevice => Reason::KeyOfAnotherDevice,
            Refusal::DeviceFull(_) => Reason::DeviceCertificatesFull,
            Refusal::DeviceDenied => Reason::DeviceDenied,
        }
    }
}

impl From<&CsrError> for Reason {
    fn from(error: &CsrError) -> Reason {
        match error.flaw {
            CsrFlaw::Der(_) | CsrFlaw::Version => Reason::CsrMalformed,
            CsrFlaw::Name(_) => Reason::CsrSubject,
            CsrFlaw::Key(_) => Reason::CsrAlgorithm,
            CsrFlaw::Signature(_) => Reason::CsrSignatureEncoding,
            CsrFlaw::ProofOfPossession => Reason::CsrSignature,
            CsrFlaw::TooManyAttributes => Reason::CsrTooLarge,
            CsrFlaw::RepeatedAttribute
            | CsrFlaw::ChallengePassword
            | CsrFlaw::RepeatedExtension
            | CsrFlaw::TooManyExtensions
            | CsrFlaw::ExtensionValue => Reason::CsrAttributes,
            CsrFlaw::AlternativeNames(_) => Reason::CsrSanMalformed,
        }
    }
}

impl From<&Busy> for Reason {
    fn from(busy: &Busy) -> Reason {
        match busy {
            Busy::Ledger(_) => Reason::LedgerUnavailable,
            Busy::Signer(_) => Reason::SignerUnavailable,
            Busy::Full => Reason::AuthorityFull,
            Busy::DeviceInFlight => Reason::DeviceInFlight,
            Busy::InFlight => Reason::InFlight,
            Busy::DevicePending => Reason::DevicePending,
            Busy::DeviceOverLimit { .. } => Reason::DeviceOverLimit,
            Busy::Serials => Reason::SerialsTaken,
            Busy::CaOutsideValidity => Reason::CaOutsideValidity,
            Busy::Withheld(Misissue::Signature) => Reason::WithheldSignature,
            Busy::Withheld(Misissue::Lint) => Reason::WithheldContent,
            Busy::Dropped => Reason::CompletionDropped,
        }
    }
}
