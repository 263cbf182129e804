//! Converts the refusals of the crates below to reasons. The matches are exhaustive on purpose: a variant added below
//! needs its row before this compiles.

use authority::{
    Asked, Busy, Function, KeyProtectionFlaw, Misissue, UpstreamAnswerFlaw, UpstreamBusy, UpstreamRefusal,
};
use dtls::{AlertDescription, CertificateFault};
use pki::{CsrError, CsrFlaw};

use super::Reason;

impl From<&dtls::HandshakeRefusal> for Reason {
    fn from(refusal: &dtls::HandshakeRefusal) -> Self {
        use dtls::HandshakeRefusal;
        match refusal {
            HandshakeRefusal::Version { .. } => Self::HelloVersion,
            HandshakeRefusal::NoCommonSuite => Self::HelloNoCommonSuite,
            HandshakeRefusal::NoCommonGroup => Self::HelloNoCommonGroup,
            HandshakeRefusal::NoCommonSignatureAlgorithm => Self::HelloNoCommonSignatureAlgorithm,
            HandshakeRefusal::NoCommonPointFormat => Self::HelloNoCommonPointFormat,
            HandshakeRefusal::NoCommonCompression => Self::HelloNoCommonCompression,
            HandshakeRefusal::ExtendedMasterSecretRequired => Self::HelloNoExtendedMasterSecret,
            HandshakeRefusal::RenegotiationInfo => Self::HelloRenegotiationInfo,
            HandshakeRefusal::RecordLimit { .. } => Self::HelloRecordLimit,
            HandshakeRefusal::RecordOverflow => Self::RecordOverflow,
            HandshakeRefusal::CertificateType => Self::HelloCertificateType,
            HandshakeRefusal::SupportedVersions => Self::HelloSupportedVersions,
            HandshakeRefusal::SequenceExhausted => Self::HandshakeSequenceExhausted,
            HandshakeRefusal::HelloChanged => Self::HelloChanged,
            HandshakeRefusal::MissingCertificate => Self::CertificateMissing,
            HandshakeRefusal::Certificate(fault) => Self::from(*fault),
            HandshakeRefusal::BadCertificateVerify => Self::CertificateNoProof,
            HandshakeRefusal::CertificateVerifyEncoding => Self::CertificateProofEncoding,
            HandshakeRefusal::BadServerKeyExchange => Self::ServerKeyExchangeSignature,
            HandshakeRefusal::ServerKeyExchangeEncoding => Self::ServerKeyExchangeEncoding,
            HandshakeRefusal::SignatureAlgorithmNotOffered { .. } => Self::SignatureAlgorithmNotOffered,
            HandshakeRefusal::BadKeyShare => Self::KeyShareBadPoint,
            HandshakeRefusal::NotOffered { .. } => Self::HelloNotOffered,
            HandshakeRefusal::UnsupportedExtension { .. } => Self::HelloUnsupportedExtension,
            HandshakeRefusal::BadFinished => Self::FinishedMismatch,
            HandshakeRefusal::Decode { .. } => Self::HandshakeDecode,
            HandshakeRefusal::UnexpectedMessage { .. } => Self::HandshakeUnexpectedMessage,
            HandshakeRefusal::AlertReceived(alert) => Self::from(*alert),
            HandshakeRefusal::TimedOut { .. } => Self::HandshakeTimedOut,
            HandshakeRefusal::TooManyHelloVerifyRequests => Self::HelloCookieLoop,
            HandshakeRefusal::SessionsFull => Self::SessionsFull,
            HandshakeRefusal::Restarted => Self::HandshakeRestarted,
            HandshakeRefusal::Displaced => Self::HandshakeDisplaced,
            HandshakeRefusal::Cancelled => Self::HandshakeCancelled,
            HandshakeRefusal::Internal => Self::HandshakeInternal,
        }
    }
}

impl From<CertificateFault> for Reason {
    fn from(fault: CertificateFault) -> Self {
        match fault {
            CertificateFault::UnknownIssuer => Self::CertificateUnknownIssuer,
            CertificateFault::Expired => Self::CertificateExpired,
            CertificateFault::NotYetValid => Self::CertificateNotYetValid,
            CertificateFault::BadSignature => Self::CertificateBadSignature,
            CertificateFault::ExtendedKeyUsage => Self::CertificateExtendedKeyUsage,
            CertificateFault::KeyUsage => Self::CertificateKeyUsage,
            CertificateFault::NameMismatch => Self::CertificateNameMismatch,
            CertificateFault::PathLength => Self::CertificatePathLength,
            CertificateFault::NotAnAuthority => Self::CertificateNotAnAuthority,
            CertificateFault::NameConstraints => Self::CertificateNameConstraints,
            CertificateFault::CriticalExtension => Self::CertificateCriticalExtension,
            CertificateFault::UnsupportedAlgorithm => Self::CertificateAlgorithm,
            CertificateFault::BadEncoding => Self::CertificateBadEncoding,
            CertificateFault::TooManyCertificates => Self::CertificateTooMany,
            CertificateFault::TooMuchWork => Self::CertificateTooMuchWork,
            CertificateFault::DeviceAsServer => Self::CertificateDeviceAsServer,
        }
    }
}

/// An alert by which the peer ended a handshake or a session. Alert codes are an open set: a code without a row of its
/// own is "other".
impl From<AlertDescription> for Reason {
    fn from(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UNKNOWN_CA => Self::AlertUnknownCa,
            AlertDescription::BAD_CERTIFICATE => Self::AlertBadCertificate,
            AlertDescription::UNSUPPORTED_CERTIFICATE => Self::AlertUnsupportedCertificate,
            AlertDescription::CERTIFICATE_REVOKED => Self::AlertCertificateRevoked,
            AlertDescription::CERTIFICATE_EXPIRED => Self::AlertCertificateExpired,
            AlertDescription::CERTIFICATE_UNKNOWN => Self::AlertCertificateUnknown,
            AlertDescription::ACCESS_DENIED => Self::AlertAccessDenied,
            AlertDescription::HANDSHAKE_FAILURE => Self::AlertHandshakeFailure,
            AlertDescription::INSUFFICIENT_SECURITY => Self::AlertInsufficientSecurity,
            AlertDescription::PROTOCOL_VERSION => Self::AlertProtocolVersion,
            AlertDescription::UNEXPECTED_MESSAGE => Self::AlertUnexpectedMessage,
            AlertDescription::BAD_RECORD_MAC => Self::AlertBadRecordMac,
            AlertDescription::RECORD_OVERFLOW => Self::AlertRecordOverflow,
            AlertDescription::ILLEGAL_PARAMETER => Self::AlertIllegalParameter,
            AlertDescription::DECODE_ERROR => Self::AlertDecodeError,
            AlertDescription::DECRYPT_ERROR => Self::AlertDecryptError,
            AlertDescription::INTERNAL_ERROR => Self::AlertInternalError,
            AlertDescription::UNSUPPORTED_EXTENSION => Self::AlertUnsupportedExtension,
            AlertDescription::UNRECOGNIZED_NAME => Self::AlertUnrecognizedName,
            AlertDescription::CLOSE_NOTIFY => Self::AlertClosed,
            AlertDescription::USER_CANCELED => Self::AlertUserCanceled,
            AlertDescription::INAPPROPRIATE_FALLBACK => Self::AlertInappropriateFallback,
            AlertDescription::NO_RENEGOTIATION => Self::AlertNoRenegotiation,
            AlertDescription::MISSING_EXTENSION => Self::AlertMissingExtension,
            AlertDescription::BAD_CERTIFICATE_STATUS_RESPONSE => Self::AlertCertificateStatus,
            AlertDescription::UNKNOWN_PSK_IDENTITY => Self::AlertUnknownPskIdentity,
            AlertDescription::CERTIFICATE_REQUIRED => Self::AlertCertificateRequired,
            AlertDescription::NO_APPLICATION_PROTOCOL => Self::AlertNoApplicationProtocol,
            _ => Self::AlertOther,
        }
    }
}

impl Reason {
    /// The reason for a session's end; `None` if it ended normally.
    #[must_use]
    pub fn of_session(why: dtls::Closed) -> Option<Self> {
        use dtls::Closed;
        match why {
            Closed::ByPeer | Closed::ByUs | Closed::Idle | Closed::Replaced => None,
            Closed::Alert(alert) => Some(Self::from(alert)),
            Closed::Evicted => Some(Self::SessionEvicted),
            Closed::Forgeries => Some(Self::SessionForgeries),
            Closed::RecordOverflow => Some(Self::RecordOverflow),
            Closed::SequenceExhausted => Some(Self::SessionSequenceExhausted),
        }
    }

    /// The reason of a refusal that the CoAP layer answered by itself.
    #[must_use]
    pub fn of_message_layer(refusal: coap::server::RequestRefusal) -> Self {
        use coap::server::{BlockFault, Limit, OptionFault, RequestRefusal};
        match refusal {
            RequestRefusal::BadOption(_, OptionFault::Unknown) => Self::CoapBadOption,
            RequestRefusal::BadOption(_, OptionFault::Length) => Self::CoapOptionLength,
            RequestRefusal::BadOption(_, OptionFault::Repeated) => Self::CoapOptionRepeated,
            RequestRefusal::BadOption(_, OptionFault::NotText) => Self::CoapOptionNotText,
            RequestRefusal::UnknownMethod => Self::CoapMethodUnknown,
            RequestRefusal::Proxy => Self::CoapProxy,
            RequestRefusal::BadBlock(BlockFault::ReservedSize) => Self::CoapBlockMalformed,
            RequestRefusal::BadBlock(BlockFault::Short) => Self::CoapBlockShort,
            RequestRefusal::BadBlock(BlockFault::Long) => Self::CoapBlockLong,
            RequestRefusal::BadBlock(BlockFault::LastLong) => Self::CoapBlockLastLong,
            RequestRefusal::BadBlock(BlockFault::BothDirections) => Self::CoapBlockBoth,
            RequestRefusal::BlockMissing => Self::CoapBlockMissing,
            RequestRefusal::BlockDiffers => Self::CoapBlockDiffers,
            RequestRefusal::ContentFormatChanged => Self::CoapBlockFormatChanged,
            RequestRefusal::TooLarge { .. } => Self::CoapBodyTooLarge,
            RequestRefusal::NoResponse => Self::CoapBlockNoResponse,
            RequestRefusal::PastEnd => Self::CoapBlockPastEnd,
            RequestRefusal::Full(Limit::Uploads) => Self::CoapFull,
            RequestRefusal::Full(Limit::Responses) => Self::CoapAnswersFull,
            RequestRefusal::Full(Limit::Pending) => Self::CoapPendingFull,
            RequestRefusal::Full(Limit::Exchanges) => Self::CoapExchangesFull,
        }
    }

    /// The reason of the authority's refusal of a request for `function`: the same mismatch has one meaning for an
    /// enrolment and another for a renewal.
    #[must_use]
    pub fn of_decision(refusal: &authority::Refusal, function: Function) -> Self {
        use authority::Refusal;
        match refusal {
            Refusal::Csr(error) => Self::from(error),
            Refusal::KeyType => Self::CsrKeyType,
            Refusal::Asks(Asked::CertificateAuthority) => Self::CsrAsksAuthority,
            Refusal::Asks(Asked::CertificateSigning) => Self::CsrAsksSigning,
            Refusal::Asks(Asked::AnyPurpose) => Self::CsrAsksAnyPurpose,
            Refusal::ClientUnknown => Self::ClientNotOfProfile,
            Refusal::ClientExpired => Self::ClientExpired,
            Refusal::ClientEncoding(_) => Self::ClientEncoding,
            Refusal::ClientRevoked => Self::ClientRevoked,
            Refusal::NotIssuedHere => Self::RenewalNotOfThisCa,
            Refusal::ClientOfAnotherProfile(_) => Self::ClientOfAnotherProfile,
            Refusal::ClientNotInLedger => Self::ClientNotInLedger,
            Refusal::ClientOfLostRow => Self::ClientOfLostRow,
            Refusal::ManufacturerRemoved => Self::ClientManufacturerRemoved,
            Refusal::NoDeviceId(_) => Self::ClientNoDeviceId,
            Refusal::RegistrarNotListed(_) => Self::RegistrarNotListed,
            Refusal::NoVouchedDevice(_) => Self::RegistrarNoDeviceId,
            Refusal::NothingToRenew => Self::RegistrarNothingToRenew,
            Refusal::PredecessorRevoked => Self::RegistrarCertificateRevoked,
            Refusal::SubjectMismatch(_) => match function {
                Function::SimpleEnroll => Self::SenSubjectMismatch,
                Function::SimpleReenroll => Self::SrenSubjectMismatch,
                Function::ServerKeygen => Self::SkgSubjectMismatch,
            },
            Refusal::SubjectTemplate(_) => Self::SubjectTemplate,
            Refusal::NoName => Self::CsrNoName,
            Refusal::SanNotListed(_) => Self::SanNotListed,
            Refusal::SanSyntax(_) => Self::SanNotIssuable,
            Refusal::SanConstrained(_) => Self::SanConstrained,
            Refusal::SanMismatch(_) => Self::SanMismatch,
            Refusal::NoServerKeys => Self::EstFunctionNotServed,
            Refusal::KeyProtection(
                KeyProtectionFlaw::UnknownSymmetricKey | KeyProtectionFlaw::UnknownAsymmetricKey,
            ) => Self::SkgUnknownKey,
            Refusal::KeyProtection(_) => Self::SkgEncryption,
            Refusal::KeyCipher(_) => Self::SkgCipher,
            Refusal::ChallengeAbsent => Self::ChallengeAbsent,
            Refusal::ChallengeUnbound => Self::ChallengeUnbound,
            Refusal::ChallengeOverHttps => Self::ChallengeOverHttps,
            Refusal::ChallengeMismatch => Self::ChallengeMismatch,
            Refusal::IdentityKey => Self::IdentityKey,
            Refusal::CaKey => Self::CaKey,
            Refusal::KeyOfAnotherDevice => Self::KeyOfAnotherDevice,
            Refusal::KeyCompromised => Self::KeyCompromised,
            Refusal::DeviceFull(_) => Self::DeviceCertificatesFull,
            Refusal::DeviceDenied => Self::DeviceDenied,
            Refusal::Upstream(refusal) => Self::from(*refusal),
            Refusal::UpstreamAnswer(flaw) => Self::from(*flaw),
        }
    }
}

impl From<&CsrError> for Reason {
    fn from(error: &CsrError) -> Self {
        match error.flaw {
            CsrFlaw::Der(_) | CsrFlaw::Version => Self::CsrMalformed,
            CsrFlaw::Name(_) => Self::CsrSubject,
            CsrFlaw::Key(_) => Self::CsrAlgorithm,
            CsrFlaw::Signature(_) => Self::CsrSignatureEncoding,
            CsrFlaw::ProofOfPossession => Self::CsrSignature,
            CsrFlaw::TooManyAttributes => Self::CsrTooLarge,
            CsrFlaw::RepeatedAttribute
            | CsrFlaw::ChallengePassword
            | CsrFlaw::IdentityLinking
            | CsrFlaw::DecryptKey
            | CsrFlaw::Capabilities
            | CsrFlaw::RepeatedExtension
            | CsrFlaw::TooManyExtensions
            | CsrFlaw::ExtensionValue => Self::CsrAttributes,
            CsrFlaw::AlternativeNames(_) => Self::CsrSanMalformed,
        }
    }
}

impl From<&Busy> for Reason {
    fn from(busy: &Busy) -> Self {
        match busy {
            Busy::Ledger(_) => Self::LedgerUnavailable,
            Busy::Signer(_) => Self::SignerUnavailable,
            Busy::Full => Self::AuthorityFull,
            Busy::DeviceInFlight => Self::DeviceInFlight,
            Busy::InFlight => Self::InFlight,
            Busy::DevicePending => Self::DevicePending,
            Busy::DeviceOverLimit { .. } => Self::DeviceOverLimit,
            Busy::Serials => Self::SerialsTaken,
            Busy::CaOutsideValidity => Self::CaOutsideValidity,
            Busy::Withheld(Misissue::Signature) => Self::WithheldSignature,
            Busy::Withheld(Misissue::Lint) => Self::WithheldContent,
            Busy::ClockBehind { .. } => Self::ClockBehind,
            Busy::ClockAhead { .. } => Self::ClockAhead,
            Busy::Dropped => Self::CompletionDropped,
            Busy::WrongAuthority => Self::WrongAuthority,
            Busy::Upstream(UpstreamBusy::Unreachable) => Self::UpstreamUnreachable,
            Busy::Upstream(UpstreamBusy::Resting) => Self::UpstreamResting,
            Busy::Upstream(UpstreamBusy::Silent) => Self::UpstreamSilent,
            Busy::Upstream(UpstreamBusy::Accepted { .. }) => Self::UpstreamAccepted,
            Busy::Upstream(UpstreamBusy::Later { .. }) => Self::UpstreamLater,
            Busy::Upstream(UpstreamBusy::TooMany { .. }) => Self::UpstreamTooMany,
            Busy::Upstream(UpstreamBusy::Full) => Self::UpstreamFull,
            Busy::Upstream(UpstreamBusy::NotReady) => Self::UpstreamNotReady,
        }
    }
}

impl From<UpstreamRefusal> for Reason {
    fn from(refusal: UpstreamRefusal) -> Self {
        match refusal {
            UpstreamRefusal::BadRequest => Self::UpstreamBadRequest,
            UpstreamRefusal::Unauthorized => Self::UpstreamUnauthorized,
            UpstreamRefusal::Forbidden => Self::UpstreamForbidden,
            UpstreamRefusal::NotFound => Self::UpstreamNotFound,
            UpstreamRefusal::MethodNotAllowed => Self::UpstreamMethodNotAllowed,
            UpstreamRefusal::NotAcceptable => Self::UpstreamNotAcceptable,
            UpstreamRefusal::PreconditionFailed => Self::UpstreamPreconditionFailed,
            UpstreamRefusal::TooLarge => Self::UpstreamTooLarge,
            UpstreamRefusal::UnsupportedType => Self::UpstreamUnsupportedType,
            UpstreamRefusal::Failed => Self::UpstreamFailed,
            UpstreamRefusal::NotImplemented => Self::UpstreamNotImplemented,
            UpstreamRefusal::TimedOut => Self::UpstreamTimedOut,
        }
    }
}

impl From<UpstreamAnswerFlaw> for Reason {
    fn from(flaw: UpstreamAnswerFlaw) -> Self {
        match flaw {
            UpstreamAnswerFlaw::Status => Self::UpstreamAnswerStatus,
            UpstreamAnswerFlaw::MediaType => Self::UpstreamAnswerMediaType,
            UpstreamAnswerFlaw::TooLong => Self::UpstreamAnswerTooLong,
            UpstreamAnswerFlaw::Malformed => Self::UpstreamAnswerMalformed,
            UpstreamAnswerFlaw::NotOneCertificate => Self::UpstreamAnswerNotOneCertificate,
            UpstreamAnswerFlaw::OtherKey => Self::UpstreamAnswerOtherKey,
            UpstreamAnswerFlaw::OtherIssuer => Self::UpstreamAnswerOtherIssuer,
            UpstreamAnswerFlaw::Unusable => Self::UpstreamAnswerUnusable,
            UpstreamAnswerFlaw::OfAnother => Self::UpstreamAnswerOfAnother,
            UpstreamAnswerFlaw::PrivateKey => Self::UpstreamAnswerPrivateKey,
        }
    }
}
