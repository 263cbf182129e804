//! The table is complete: every reason is documented, distinct and constructed by something below.

use std::collections::BTreeSet;
use std::time::Duration;

use authority::{
    Asked, Busy, DeviceIdRule, Function, KeyProtectionFlaw, LedgerFault, Misissue, SanKind, SignerFault,
    SubjectAttribute, UpstreamAnswerFlaw, UpstreamBusy, UpstreamRefusal,
};
use coap::Number;
use dtls::{AlertDescription, CertificateFault, HandshakeType};
use pki::{AlgorithmError, CsrFlaw, Field, GeneralNamesError, LocatedError, NameError, SignatureError};

use super::*;
use crate::client::Failure;

const FAULTS: [CertificateFault; 16] = [
    CertificateFault::UnknownIssuer,
    CertificateFault::Expired,
    CertificateFault::NotYetValid,
    CertificateFault::BadSignature,
    CertificateFault::ExtendedKeyUsage,
    CertificateFault::KeyUsage,
    CertificateFault::NameMismatch,
    CertificateFault::PathLength,
    CertificateFault::NotAnAuthority,
    CertificateFault::NameConstraints,
    CertificateFault::CriticalExtension,
    CertificateFault::UnsupportedAlgorithm,
    CertificateFault::BadEncoding,
    CertificateFault::TooManyCertificates,
    CertificateFault::TooMuchWork,
    CertificateFault::DeviceAsServer,
];

const ENDS: [dtls::Closed; 9] = [
    dtls::Closed::ByPeer,
    dtls::Closed::ByUs,
    dtls::Closed::Idle,
    dtls::Closed::Replaced,
    dtls::Closed::Alert(AlertDescription::DECRYPT_ERROR),
    dtls::Closed::Evicted,
    dtls::Closed::Forgeries,
    dtls::Closed::RecordOverflow,
    dtls::Closed::SequenceExhausted,
];

fn handshake_refusals() -> Vec<dtls::HandshakeRefusal> {
    use dtls::HandshakeRefusal;
    let message = HandshakeType::FINISHED;
    let mut all = vec![
        HandshakeRefusal::Version { offered: 0xfeff },
        HandshakeRefusal::NoCommonSuite,
        HandshakeRefusal::NoCommonGroup,
        HandshakeRefusal::NoCommonSignatureAlgorithm,
        HandshakeRefusal::NoCommonPointFormat,
        HandshakeRefusal::NoCommonCompression,
        HandshakeRefusal::ExtendedMasterSecretRequired,
        HandshakeRefusal::RenegotiationInfo,
        HandshakeRefusal::RecordLimit { offered: 9 },
        HandshakeRefusal::RecordOverflow,
        HandshakeRefusal::CertificateType,
        HandshakeRefusal::SupportedVersions,
        HandshakeRefusal::SequenceExhausted,
        HandshakeRefusal::HelloChanged,
        HandshakeRefusal::MissingCertificate,
        HandshakeRefusal::BadCertificateVerify,
        HandshakeRefusal::CertificateVerifyEncoding,
        HandshakeRefusal::BadServerKeyExchange,
        HandshakeRefusal::ServerKeyExchangeEncoding,
        HandshakeRefusal::SignatureAlgorithmNotOffered { scheme: 0x0201 },
        HandshakeRefusal::BadKeyShare,
        HandshakeRefusal::NotOffered { message },
        HandshakeRefusal::UnsupportedExtension { extension: 1 },
        HandshakeRefusal::BadFinished,
        HandshakeRefusal::Decode { message },
        HandshakeRefusal::UnexpectedMessage { message, expected: message },
        HandshakeRefusal::TimedOut { expected: message },
        HandshakeRefusal::TooManyHelloVerifyRequests,
        HandshakeRefusal::SessionsFull,
        HandshakeRefusal::Restarted,
        HandshakeRefusal::Displaced,
        HandshakeRefusal::Cancelled,
        HandshakeRefusal::Internal,
    ];
    all.extend(FAULTS.map(HandshakeRefusal::Certificate));
    let alerts = (0..=u8::MAX).map(AlertDescription);
    all.extend(alerts.map(HandshakeRefusal::AlertReceived));
    all
}

fn message_refusals() -> Vec<coap::server::RequestRefusal> {
    use coap::server::{BlockFault, Limit, OptionFault, RequestRefusal};
    vec![
        RequestRefusal::BadOption(Number::IF_MATCH, OptionFault::Unknown),
        RequestRefusal::BadOption(Number::IF_MATCH, OptionFault::Length),
        RequestRefusal::BadOption(Number::IF_MATCH, OptionFault::Repeated),
        RequestRefusal::BadOption(Number::URI_PATH, OptionFault::NotText),
        RequestRefusal::UnknownMethod,
        RequestRefusal::Proxy,
        RequestRefusal::BadBlock(BlockFault::ReservedSize),
        RequestRefusal::BadBlock(BlockFault::Short),
        RequestRefusal::BadBlock(BlockFault::Long),
        RequestRefusal::BadBlock(BlockFault::LastLong),
        RequestRefusal::BadBlock(BlockFault::BothDirections),
        RequestRefusal::BlockMissing,
        RequestRefusal::BlockDiffers,
        RequestRefusal::ContentFormatChanged,
        RequestRefusal::TooLarge { body_bytes_max: 1 },
        RequestRefusal::NoResponse,
        RequestRefusal::PastEnd,
        RequestRefusal::Full(Limit::Uploads),
        RequestRefusal::Full(Limit::Responses),
        RequestRefusal::Full(Limit::Pending),
        RequestRefusal::Full(Limit::Exchanges),
    ]
}

fn decisions() -> Vec<authority::Refusal> {
    use authority::Refusal;
    let csr = [
        CsrFlaw::Version,
        CsrFlaw::Name(NameError::EmptyRelativeName),
        CsrFlaw::Key(AlgorithmError::UnsupportedKey { kind: "RSA" }),
        CsrFlaw::ProofOfPossession,
        CsrFlaw::TooManyAttributes,
        CsrFlaw::RepeatedAttribute,
        CsrFlaw::ChallengePassword,
        CsrFlaw::IdentityLinking,
        CsrFlaw::DecryptKey,
        CsrFlaw::Capabilities,
        CsrFlaw::RepeatedExtension,
        CsrFlaw::TooManyExtensions,
        CsrFlaw::ExtensionValue,
        CsrFlaw::Signature(SignatureError::Raw { octets: 64 }),
        CsrFlaw::AlternativeNames(GeneralNamesError::Empty),
    ];
    let mut all: Vec<Refusal> = csr.map(|flaw| Refusal::Csr(LocatedError { field: Field::Whole, flaw })).into();
    all.extend([
        Refusal::KeyType,
        Refusal::Asks(Asked::CertificateAuthority),
        Refusal::Asks(Asked::CertificateSigning),
        Refusal::Asks(Asked::AnyPurpose),
        Refusal::ClientUnknown,
        Refusal::ClientExpired,
        Refusal::ClientEncoding(pki::Deviations::default()),
        Refusal::ClientRevoked,
        Refusal::NotIssuedHere,
        Refusal::ClientOfAnotherProfile("other".into()),
        Refusal::ClientNotInLedger,
        Refusal::ClientOfLostRow,
        Refusal::ManufacturerRemoved,
        Refusal::NoDeviceId(DeviceIdRule::Subject),
        Refusal::SubjectMismatch(mismatch()),
        Refusal::SubjectTemplate(SubjectAttribute::CommonName),
        Refusal::NoName,
        Refusal::SanNotListed(SanKind::Dns),
        Refusal::SanSyntax(SanKind::Dns),
        Refusal::SanConstrained(SanKind::Dns),
        Refusal::SanMismatch(mismatch()),
        Refusal::ChallengeUnbound,
        Refusal::ChallengeOverHttps,
        Refusal::RegistrarNotListed("site".into()),
        Refusal::NoVouchedDevice(DeviceIdRule::Subject),
        Refusal::NothingToRenew,
        Refusal::PredecessorRevoked,
        Refusal::NoServerKeys,
        Refusal::KeyProtection(KeyProtectionFlaw::UnknownSymmetricKey),
        Refusal::KeyProtection(KeyProtectionFlaw::Algorithms),
        Refusal::KeyCipher(pki::Curve::P384),
        Refusal::ChallengeAbsent,
        Refusal::ChallengeMismatch,
        Refusal::IdentityKey,
        Refusal::CaKey,
        Refusal::KeyOfAnotherDevice,
        Refusal::KeyCompromised,
        Refusal::DeviceFull(100),
        Refusal::DeviceDenied,
    ]);
    all.extend(UPSTREAM_REFUSALS.map(Refusal::Upstream));
    all.extend(UPSTREAM_ANSWER_FLAWS.map(Refusal::UpstreamAnswer));
    all
}

const UPSTREAM_REFUSALS: [UpstreamRefusal; 12] = [
    UpstreamRefusal::BadRequest,
    UpstreamRefusal::Unauthorized,
    UpstreamRefusal::Forbidden,
    UpstreamRefusal::NotFound,
    UpstreamRefusal::MethodNotAllowed,
    UpstreamRefusal::NotAcceptable,
    UpstreamRefusal::PreconditionFailed,
    UpstreamRefusal::TooLarge,
    UpstreamRefusal::UnsupportedType,
    UpstreamRefusal::Failed,
    UpstreamRefusal::NotImplemented,
    UpstreamRefusal::TimedOut,
];

const UPSTREAM_ANSWER_FLAWS: [UpstreamAnswerFlaw; 10] = [
    UpstreamAnswerFlaw::Status,
    UpstreamAnswerFlaw::MediaType,
    UpstreamAnswerFlaw::TooLong,
    UpstreamAnswerFlaw::Malformed,
    UpstreamAnswerFlaw::NotOneCertificate,
    UpstreamAnswerFlaw::OtherKey,
    UpstreamAnswerFlaw::OtherIssuer,
    UpstreamAnswerFlaw::Unusable,
    UpstreamAnswerFlaw::PrivateKey,
    UpstreamAnswerFlaw::OfAnother,
];

#[test]
fn e41_what_an_upstream_answers_wrongly_is_a_bad_gateway() {
    for flaw in UPSTREAM_ANSWER_FLAWS {
        assert_eq!(Reason::from(flaw).response_code(), Some(Code::BAD_GATEWAY), "{flaw:?}");
    }
}

#[test]
fn the_audit_records_a_refusal_under_the_code_of_its_reason() {
    for function in Function::ALL {
        for refusal in decisions() {
            assert_eq!(refusal.code(function), Reason::of_decision(&refusal, function).code(), "{refusal:?}");
        }
    }
    let error = pki::Csr::parse(vec![0x30]).unwrap_err();
    assert_eq!(authority::Refusal::Csr(error).code(Function::SimpleEnroll), Reason::from(&error).code());
}

fn mismatch() -> Box<authority::Mismatch> {
    Box::new(authority::Mismatch { asked: "CN=a".into(), held: "CN=b".into() })
}

fn busy() -> Vec<Busy> {
    vec![
        Busy::Ledger(LedgerFault::Unavailable),
        Busy::Signer(SignerFault::NoKey),
        Busy::Full,
        Busy::DeviceInFlight,
        Busy::InFlight,
        Busy::DevicePending,
        Busy::DeviceOverLimit { wait: Duration::from_secs(9) },
        Busy::Serials,
        Busy::CaOutsideValidity,
        Busy::ClockBehind { by: Duration::from_secs(61) },
        Busy::ClockAhead { by: Duration::from_secs(301) },
        Busy::Withheld(Misissue::Signature),
        Busy::Withheld(Misissue::Lint),
        Busy::Dropped,
        Busy::WrongAuthority,
        Busy::Upstream(UpstreamBusy::Unreachable),
        Busy::Upstream(UpstreamBusy::Resting),
        Busy::Upstream(UpstreamBusy::Silent),
        Busy::Upstream(UpstreamBusy::Accepted { wait: Duration::from_secs(9) }),
        Busy::Upstream(UpstreamBusy::Later { wait: Duration::from_secs(9) }),
        Busy::Upstream(UpstreamBusy::TooMany { wait: Duration::from_secs(9) }),
        Busy::Upstream(UpstreamBusy::Full),
        Busy::Upstream(UpstreamBusy::NotReady),
    ]
}

/// Reasons that arise in the HTTPS front, whose tests see them.
const OF_THE_FRONT: [Reason; 8] = [
    Reason::HttpNoSuchResource,
    Reason::HttpMethod,
    Reason::HttpContentType,
    Reason::HttpBodyEncoding,
    Reason::HttpBodyTooLarge,
    Reason::HttpBodyBroken,
    Reason::HttpNoCertificate,
    Reason::HttpConnectionsFull,
];

/// Reasons that arise in this crate; each is constructed where it arises, and the tests of that place see it.
const OUR_OWN: [Reason; 22] = [
    Reason::CoapNoSuchResource,
    Reason::CoapMethod,
    Reason::CoapContentFormat,
    Reason::CoapNotAcceptable,
    Reason::EstUnknownLabel,
    Reason::EstFunctionNotServed,
    Reason::EstNoCsrAttributes,
    Reason::EstManyCertificates,
    Reason::EstEmptyRequest,
    Reason::EstTooManyFilters,
    Reason::EstPendingFull,
    Reason::EstDraining,
    Reason::EstSessionForgotten,
    Reason::NoAnswer,
    Reason::RequestTooLong,
    Reason::AnswerFormat,
    Reason::AnswerMalformed,
    Reason::AnswerNotOneCertificate,
    Reason::AnswerOtherKey,
    Reason::AnswerKeyProtection,
    Reason::AnswerKeyMismatch,
    Reason::AnswerKeyAlgorithm,
];

/// How a request of our client can end without an answer.
fn requests() -> [coap::client::ExchangeFailure; 6] {
    use coap::client::ExchangeFailure::{BadBlock, BadOption, Changing, Reset, Timeout, TooLarge};
    [Timeout, Reset, BadOption(Number(65_001)), BadBlock, Changing, TooLarge]
}

#[test]
fn an_answer_that_did_not_come_whole_is_not_called_malformed() {
    for failure in requests() {
        let told = Failure::Request(failure);
        let reason = told.reason().unwrap();
        assert_ne!(reason, Reason::AnswerMalformed, "{told}: it was not read");
        assert!(!told.to_string().contains(&format!("{failure:?}")), "for people: {told}");
    }
}

#[test]
fn every_reason_is_reached_by_a_refusal() {
    let mut reached = BTreeSet::from(OUR_OWN);
    reached.extend(OF_THE_FRONT);
    reached.extend(requests().into_iter().filter_map(|failure| Failure::Request(failure).reason()));
    reached.extend(handshake_refusals().iter().map(Reason::from));
    reached.extend(ENDS.into_iter().filter_map(Reason::of_session));
    reached.extend(message_refusals().into_iter().map(Reason::of_message_layer));
    reached.extend(busy().iter().map(Reason::from));
    for function in Function::ALL {
        reached.extend(decisions().iter().map(|refusal| Reason::of_decision(refusal, function)));
    }
    // Invalid DER serves as its own example: no variant has to be constructed by hand.
    reached.insert(Reason::from(&pki::Csr::parse(vec![0x30]).unwrap_err()));
    let missed: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !reached.contains(reason)).collect();
    assert!(missed.is_empty(), "nothing leads to {missed:?}");
}

#[test]
fn every_reason_is_documented() {
    let words = |text: &str| text.split_whitespace().count();
    for reason in Reason::ALL {
        let Entry { code, meaning, device, server, .. } = reason.entry();
        assert!(words(meaning) >= 4 && meaning.ends_with(['.', ')', '!']), "{code}: {meaning}");
        for remedy in [device, server] {
            assert!(words(remedy) >= 2 && remedy.ends_with('.') && !remedy.contains('|'), "{code}: {remedy}");
        }
        assert!(Reason::markdown().contains(&format!("| `{code}` |")));
        assert!(reason.explain().starts_with(code));
    }
}

#[test]
fn codes_are_stable_names() {
    let mut seen = BTreeSet::new();
    for reason in Reason::ALL {
        let code = reason.code();
        assert!(seen.insert(code), "{code} twice");
        assert!(code.len() <= DIAGNOSTIC_BYTES_MAX, "{code}");
        assert!(code.len() <= coap::server::Response::DIAGNOSTIC_BYTES_MAX);
        assert!(code.split('.').count() >= 3 || code.split('.').count() == 2, "{code}");
        assert!(
            code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._".contains(&byte)),
            "{code}"
        );
        assert_eq!(Reason::from_code(code), Some(*reason));
    }
    assert_eq!(Reason::from_code("est.sen"), None);
}

#[test]
fn codes_that_others_rely_on() {
    // They stand in the configuration's documentation and in alert rules: a code keeps its meaning for ever.
    assert_eq!(Reason::HelloNoCommonSuite.code(), "dtls.hello.no_common_suite");
    assert_eq!(Reason::SenSubjectMismatch.code(), "est.sen.subject_mismatch");
}

#[test]
fn the_table_says_what_the_wire_says() {
    for refusal in handshake_refusals() {
        // Whose place was taken during its handshake has a session for as long as it takes to say that it is over.
        let unsaid = if refusal == dtls::HandshakeRefusal::SessionsFull { Wire::Close } else { Wire::Silence };
        let expected = refusal.alert().map_or(unsaid, Wire::Alert);
        assert_eq!(Reason::from(&refusal).entry().wire, expected, "{refusal:?}");
    }
    let codes = [
        (Reason::CoapBadOption, Code::BAD_OPTION),
        (Reason::CoapProxy, Code::PROXYING_NOT_SUPPORTED),
        (Reason::CoapBodyTooLarge, Code::REQUEST_ENTITY_TOO_LARGE),
        (Reason::CoapBlockMissing, Code::REQUEST_ENTITY_INCOMPLETE),
        (Reason::CoapBlockPastEnd, Code::BAD_OPTION),
    ];
    for (reason, code) in codes {
        assert_eq!(reason.response_code(), Some(code));
    }
    for reason in busy().iter().map(Reason::from) {
        // RFC 8516: 4.29 where it is the client that asks too often, of this server or of its upstream.
        let is_often = [Reason::DeviceOverLimit, Reason::UpstreamTooMany].contains(&reason);
        let code = if is_often { Code::TOO_MANY_REQUESTS } else { Code::SERVICE_UNAVAILABLE };
        assert_eq!(reason.response_code(), Some(code), "{reason}");
    }
    assert_eq!(Reason::DeviceDenied.response_code(), Some(Code::FORBIDDEN));
}

#[test]
fn c46_the_text_of_a_refused_block_says_what_came() {
    use coap::server::{BlockFault, RequestRefusal};
    for (fault, words) in [
        (BlockFault::LastLong, "M=0 and payload over the block size"),
        (BlockFault::Long, "M=1 and payload over the block size"),
        (BlockFault::Short, "M=1 and payload under the block size"),
    ] {
        let reason = Reason::of_message_layer(RequestRefusal::BadBlock(fault));
        assert!(reason.entry().meaning.starts_with(words), "{reason}");
        assert_eq!(reason.response_code(), Some(Code::BAD_REQUEST));
    }
    // Each refusal of the message layer has a separate reason: no text has to cover two inputs.
    let reasons: Vec<Reason> = message_refusals().into_iter().map(Reason::of_message_layer).collect();
    assert_eq!(reasons.iter().collect::<BTreeSet<_>>().len(), reasons.len());
}

/// A reason that several faults share has a text that is true of each of them, and a remedy for each.
#[test]
fn d101_the_text_of_a_shared_reason_holds_for_each_of_its_faults() {
    for (reason, words) in [
        // The leaf's purposes, and those of an intermediate.
        (Reason::CertificateExtendedKeyUsage, &["that of the leaf", "that of an intermediate", "each"][..]),
        // A leaf without digitalSignature, an intermediate without keyCertSign, the certificate of a CA.
        (Reason::CertificateKeyUsage, &["digitalSignature in a leaf", "keyCertSign in an intermediate", "of a CA"]),
        // ECDSA on another curve, and other keys.
        (Reason::CertificateAlgorithm, &["on P-256 or P-384", "P-521", "RSA"]),
        // The date of the leaf can be excused, that of an intermediate cannot, and an anchor has none.
        (
            Reason::CertificateExpired,
            &["allow_expired_identity", "not excuse an expired intermediate", "are not checked"],
        ),
        // Bytes that are not CMS, and a CMS message in BER.
        (Reason::AnswerMalformed, &["in DER", "BER"]),
    ] {
        let Entry { meaning, device, server, .. } = reason.entry();
        let text = format!("{meaning} {device} {server}");
        for word in words {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }
    let both = Reason::ALL.iter().filter(|it| it.explain().contains("both suites"));
    assert_eq!(both.collect::<Vec<_>>(), Vec::<&Reason>::new(), "there are three suites");
}

#[test]
fn e07_mismatch_of_a_renewal_is_its_own_reason() {
    let mismatch = authority::Refusal::SubjectMismatch(mismatch());
    assert_eq!(Reason::of_decision(&mismatch, Function::SimpleEnroll).code(), "est.sen.subject_mismatch");
    assert_eq!(Reason::of_decision(&mismatch, Function::SimpleReenroll).code(), "est.sren.subject_mismatch");
    assert_eq!(Reason::SrenSubjectMismatch.response_code(), Some(Code::FORBIDDEN));
}

#[test]
fn a_mistyped_code_finds_its_neighbours() {
    let near: Vec<&str> = Reason::near("est.sen.subjct").map(Reason::code).collect();
    assert!(near.contains(&"est.sen.subject_mismatch"), "{near:?}");
    assert_eq!(Reason::near("nothing.like.it").count(), 0);
}

#[test]
fn d104_each_way_a_session_should_not_end_has_a_reason_of_its_own() {
    let reasons: Vec<Reason> = ENDS.into_iter().filter_map(Reason::of_session).collect();
    let codes = [
        "dtls.alert.decrypt_error",
        "dtls.session.evicted",
        "dtls.session.forgeries",
        "dtls.record.overflow",
        "dtls.session.sequence_exhausted",
    ];
    assert_eq!(reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>(), codes);
}

#[test]
fn d104_an_alert_that_was_received_stands_by_its_name() {
    for code in 0..=u8::MAX {
        let alert = AlertDescription(code);
        let reason = Reason::from(alert);
        // Reason and metric share the code.
        match alert.name() {
            "unknown" => assert_eq!(reason, Reason::AlertOther),
            name => assert_eq!(reason.code(), format!("dtls.alert.{name}")),
        }
    }
    let named = (0..=u8::MAX).filter(|code| AlertDescription(*code).name() != "unknown").count();
    assert_eq!(named, 28);
}
