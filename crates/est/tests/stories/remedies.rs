//! The remedies for the firmware engineer: if a common stack has a setting or a call for a reason, the text names those
//! of all four stacks, and each name was looked up in its project.

use std::collections::BTreeSet;

use est::Reason;

/// The stacks that devices are built with.
const STACKS: [&str; 4] = ["Mbed TLS", "Zephyr", "OpenThread", "OpenSSL"];

/// Every reason is in exactly one of these lists: a new one needs a decision.
const REMEDIES: [(Remedy, &[Reason]); 6] = [
    (Remedy::OfTheStack, OF_THE_STACK),
    (Remedy::FaultOfTheStack, FAULT_OF_THE_STACK),
    (Remedy::OfTheCertificate, OF_THE_CERTIFICATE),
    (Remedy::OfTheRequest, OF_THE_REQUEST),
    (Remedy::Elsewhere, ELSEWHERE),
    (Remedy::OfOurClient, OF_OUR_CLIENT),
];

/// Where on the device the remedy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// In a setting or a call of the stack: the text names it for each of the four.
    OfTheStack,
    /// In the stack, which is at fault and has no setting for this.
    FaultOfTheStack,
    /// In the device's certificates or its clock, which came from the factory.
    OfTheCertificate,
    /// In what the device's own program puts into its request: paths, options, blocks, names of a CSR.
    OfTheRequest,
    /// Not on the device: it can only try again.
    Elsewhere,
    /// In the client that reports it, which is ours: only the device's text is checked.
    OfOurClient,
}

/// # Panics
/// If a reason is in no list, or in two.
fn remedy(reason: Reason) -> Remedy {
    let found: Vec<Remedy> =
        REMEDIES.iter().filter(|(_, reasons)| reasons.contains(&reason)).map(|(remedy, _)| *remedy).collect();
    assert_eq!(found.len(), 1, "{reason:?}: where on the device is its remedy? {found:?}");
    found[0]
}

#[test]
fn what_a_stack_has_a_setting_for_is_told_in_the_words_of_all_four() {
    for &reason in Reason::ALL {
        let text = reason.entry().device;
        let named: Vec<&str> = STACKS.into_iter().filter(|stack| text.contains(stack)).collect();
        let expected: &[&str] = if remedy(reason) == Remedy::OfTheStack { &STACKS } else { &[] };
        assert_eq!(named, expected, "{reason}: {text}");
        assert!(
            !STACKS.iter().any(|stack| reason.entry().server.contains(stack)),
            "{reason}: the server's text names a device's stack"
        );
        assert!(reason.explain().contains(text), "what `muster explain` prints");
    }
}

#[test]
fn a_reason_that_points_to_another_points_to_one_with_its_own_words() {
    let mut pointers = 0;
    for reason in Reason::ALL {
        let text = reason.entry().device;
        let Some((_, after)) = text.split_once("muster explain ") else { continue };
        let codes = after.split([' ', ',']).filter(|word| word.contains('.') && !word.ends_with('.'));
        for code in codes {
            let other =
                Reason::from_code(code).unwrap_or_else(|| panic!("{reason} points to {code}, which does not exist"));
            assert_eq!(remedy(other), Remedy::OfTheStack);
            assert!(
                !other.entry().device.contains("muster explain"),
                "{reason}: its target must not point to another reason"
            );
            pointers += 1;
        }
    }
    assert_eq!(pointers, 9);
}

#[test]
fn every_word_of_a_stack_was_looked_up_there() {
    let is_of_a_stack = |word: &&str| {
        let prefixes = [
            "MBEDTLS_",
            "mbedtls_",
            "CONFIG_",
            "OT_",
            "otCoap",
            "SSL_",
            "X509_",
            "DTLS_",
            "DTLS1",
            "TLS_",
            "EVP_",
            "IPPROTO_",
            "i2d_",
            "tls_credential",
        ];
        prefixes.iter().any(|prefix| word.starts_with(prefix)) && !word.starts_with("TLS_ECDHE_ECDSA_WITH")
    };
    let said: BTreeSet<&str> = Reason::ALL
        .iter()
        .flat_map(|reason| reason.entry().device.split(|it: char| !it.is_ascii_alphanumeric() && it != '_'))
        .filter(is_of_a_stack)
        .collect();
    let known: BTreeSet<&str> =
        [&MBED_TLS[..], &ZEPHYR, &OPEN_THREAD, &OPEN_SSL].into_iter().flatten().copied().collect();
    let unknown: Vec<_> = said.difference(&known).collect();
    assert!(unknown.is_empty(), "look these up, then add them: {unknown:?}");
    let unused: Vec<_> = known.difference(&said).collect();
    assert!(unused.is_empty(), "no text contains these any more: {unused:?}");
}

/// Headers and `mbedtls_config.h` (2.x: `config.h`) of 2.28 and 3.6; OpenThread has the same in its `third_party/mbedtls/mbedtls-config.h`.
const MBED_TLS: [&str; 37] = [
    "MBEDTLS_CCM_C",
    "MBEDTLS_DEBUG_C",
    "MBEDTLS_ECDSA_C",
    "MBEDTLS_ECP_DP_SECP256R1",
    "MBEDTLS_ECP_DP_SECP256R1_ENABLED",
    "MBEDTLS_HAVE_TIME_DATE",
    "MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED",
    "MBEDTLS_MD_SHA256",
    "MBEDTLS_SHA256_C",
    "MBEDTLS_SSL_EXTENDED_MASTER_SECRET",
    "MBEDTLS_SSL_IN_CONTENT_LEN",
    "MBEDTLS_SSL_MAX_CONTENT_LEN",
    "MBEDTLS_SSL_MAX_FRAG_LEN_512",
    "MBEDTLS_SSL_PROTO_DTLS",
    "MBEDTLS_SSL_PROTO_TLS1_2",
    "MBEDTLS_SSL_RENEGOTIATION",
    "MBEDTLS_X509_KU_DIGITAL_SIGNATURE",
    "mbedtls_debug_set_threshold",
    "mbedtls_ecp_gen_key",
    "mbedtls_pk_check_pair",
    "mbedtls_ssl_conf_ca_chain",
    "mbedtls_ssl_conf_ciphersuites",
    "mbedtls_ssl_conf_extended_master_secret",
    "mbedtls_ssl_conf_groups",
    "mbedtls_ssl_conf_handshake_timeout",
    "mbedtls_ssl_conf_max_frag_len",
    "mbedtls_ssl_conf_own_cert",
    "mbedtls_ssl_conf_sig_algs",
    "mbedtls_ssl_session_reset",
    "mbedtls_ssl_set_hostname",
    "mbedtls_x509_crt_parse",
    "mbedtls_x509_dn_gets",
    "mbedtls_x509write_csr_der",
    "mbedtls_x509write_csr_set_key",
    "mbedtls_x509write_csr_set_key_usage",
    "mbedtls_x509write_csr_set_md_alg",
    "mbedtls_x509write_csr_set_subject_name",
];

/// `modules/mbedtls/Kconfig*`, `include/zephyr/net/{socket,tls_credentials}.h`.
const ZEPHYR: [&str; 26] = [
    "CONFIG_MBEDTLS_CIPHER_CCM_ENABLED",
    "CONFIG_MBEDTLS_DEBUG",
    "CONFIG_MBEDTLS_DEBUG_LEVEL",
    "CONFIG_MBEDTLS_DTLS",
    "CONFIG_MBEDTLS_ECDSA_C",
    "CONFIG_MBEDTLS_ECP_DP_SECP256R1_ENABLED",
    "CONFIG_MBEDTLS_HAVE_TIME_DATE",
    "CONFIG_MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED",
    "CONFIG_MBEDTLS_PEM_CERTIFICATE_FORMAT",
    "CONFIG_MBEDTLS_SSL_EXTENDED_MASTER_SECRET",
    "CONFIG_MBEDTLS_SSL_MAX_CONTENT_LEN",
    "CONFIG_MBEDTLS_SSL_PROTO_DTLS",
    "CONFIG_MBEDTLS_SSL_PROTO_TLS1_2",
    "CONFIG_MBEDTLS_TLS_VERSION_1_2",
    "CONFIG_MBEDTLS_USER_CONFIG_FILE",
    "CONFIG_PSA_WANT_ALG_ECDSA",
    "IPPROTO_DTLS_1_2",
    "TLS_CIPHERSUITE_LIST",
    "TLS_CREDENTIAL_CA_CERTIFICATE",
    "TLS_CREDENTIAL_PRIVATE_KEY",
    "TLS_CREDENTIAL_PUBLIC_CERTIFICATE",
    "TLS_CREDENTIAL_SERVER_CERTIFICATE",
    "TLS_DTLS_HANDSHAKE_TIMEOUT_MIN",
    "TLS_HOSTNAME",
    "TLS_SEC_TAG_LIST",
    "tls_credential_add",
];

/// `etc/cmake/options.cmake`, `include/openthread/coap_secure.h`.
const OPEN_THREAD: [&str; 7] = [
    "OT_COAPS",
    "OT_ECDSA",
    "OT_EXTERNAL_MBEDTLS",
    "OT_FULL_LOGS",
    "otCoapSecureSetCaCertificateChain",
    "otCoapSecureSetCertificate",
    "otCoapSecureSetSslAuthMode",
];

/// `include/openssl/*.h` of 3.0.
const OPEN_SSL: [&str; 23] = [
    "DTLS1_2_VERSION",
    "DTLS_client_method",
    "DTLS_set_link_mtu",
    "DTLS_set_timer_cb",
    "EVP_EC_gen",
    "EVP_sha256",
    "SSL_CTX_check_private_key",
    "SSL_CTX_load_verify_locations",
    "SSL_CTX_set_msg_callback",
    "SSL_CTX_use_PrivateKey_file",
    "SSL_CTX_use_certificate_chain_file",
    "SSL_OP_NO_EXTENDED_MASTER_SECRET",
    "SSL_set1_groups_list",
    "SSL_set1_host",
    "SSL_set1_sigalgs_list",
    "SSL_set_tlsext_max_fragment_length",
    "X509_REQ_set_pubkey",
    "X509_REQ_set_subject_name",
    "X509_REQ_sign",
    "X509_VERIFY_PARAM_set1_ip_asc",
    "X509_get_subject_name",
    "i2d_ECDSA_SIG",
    "i2d_X509_REQ",
];

const OF_THE_STACK: &[Reason] = &[
    Reason::HelloVersion,
    Reason::HelloNoCommonSuite,
    Reason::HelloNoCommonGroup,
    Reason::HelloNoCommonSignatureAlgorithm,
    Reason::HelloNoCommonPointFormat,
    Reason::HelloNoCommonCompression,
    Reason::HelloNoExtendedMasterSecret,
    Reason::HelloRecordLimit,
    Reason::HelloChanged,
    Reason::HelloRenegotiationInfo,
    Reason::CertificateMissing,
    Reason::CertificateUnknownIssuer,
    Reason::CertificateNoProof,
    Reason::HandshakeTimedOut,
    Reason::AlertUnknownCa,
    Reason::AlertBadCertificate,
    Reason::AlertUnsupportedCertificate,
    Reason::AlertCertificateUnknown,
    Reason::AlertInsufficientSecurity,
    Reason::AlertProtocolVersion,
    Reason::HelloSupportedVersions,
    Reason::AlertHandshakeFailure,
    Reason::AlertOther,
    Reason::CsrMalformed,
    Reason::CsrAlgorithm,
    Reason::CsrSignature,
    Reason::CsrSignatureEncoding,
    Reason::CsrKeyType,
    Reason::CsrAsksSigning,
    Reason::SenSubjectMismatch,
    Reason::SrenSubjectMismatch,
    Reason::ChallengeUnbound,
];

const FAULT_OF_THE_STACK: &[Reason] = &[
    Reason::AlertUnexpectedMessage,
    Reason::AlertBadRecordMac,
    Reason::AlertRecordOverflow,
    Reason::AlertIllegalParameter,
    Reason::AlertDecodeError,
    Reason::AlertDecryptError,
    Reason::AlertInternalError,
    Reason::AlertUnsupportedExtension,
    Reason::RecordOverflow,
    Reason::HandshakeSequenceExhausted,
    Reason::SessionSequenceExhausted,
    Reason::HelloCertificateType,
    Reason::CertificateProofEncoding,
    Reason::SignatureAlgorithmNotOffered,
    Reason::KeyShareBadPoint,
    Reason::FinishedMismatch,
    Reason::HandshakeDecode,
    Reason::HandshakeUnexpectedMessage,
    Reason::HandshakeRestarted,
    Reason::AlertClosed,
    Reason::AlertUserCanceled,
    Reason::AlertInappropriateFallback,
    Reason::AlertNoRenegotiation,
    Reason::AlertMissingExtension,
    Reason::AlertCertificateStatus,
    Reason::AlertUnknownPskIdentity,
    Reason::AlertCertificateRequired,
    Reason::AlertNoApplicationProtocol,
    Reason::AlertCertificateRevoked,
    Reason::AlertAccessDenied,
    Reason::AlertUnrecognizedName,
];

const OF_THE_CERTIFICATE: &[Reason] = &[
    Reason::AlertCertificateExpired,
    Reason::CertificateExpired,
    Reason::CertificateNotYetValid,
    Reason::CertificateBadSignature,
    Reason::CertificateExtendedKeyUsage,
    Reason::CertificateKeyUsage,
    Reason::CertificatePathLength,
    Reason::CertificateNotAnAuthority,
    Reason::CertificateNameConstraints,
    Reason::CertificateCriticalExtension,
    Reason::CertificateAlgorithm,
    Reason::CertificateBadEncoding,
    Reason::CertificateTooMany,
    Reason::CertificateTooMuchWork,
    Reason::ClientNotOfProfile,
    Reason::ClientExpired,
    Reason::ClientEncoding,
    Reason::ClientRevoked,
    Reason::ClientOfAnotherProfile,
    Reason::ClientNotInLedger,
    Reason::ClientOfLostRow,
    Reason::ClientManufacturerRemoved,
    Reason::ClientNoDeviceId,
    Reason::HttpNoCertificate,
    Reason::SubjectTemplate,
];

const OF_THE_REQUEST: &[Reason] = &[
    Reason::CoapBadOption,
    Reason::CoapOptionLength,
    Reason::CoapOptionRepeated,
    Reason::CoapOptionNotText,
    Reason::CoapProxy,
    Reason::CoapBlockMalformed,
    Reason::CoapBlockShort,
    Reason::CoapBlockLong,
    Reason::CoapBlockLastLong,
    Reason::CoapBlockBoth,
    Reason::CoapBlockMissing,
    Reason::CoapBlockDiffers,
    Reason::CoapBlockFormatChanged,
    Reason::CoapBlockNoResponse,
    Reason::CoapBlockPastEnd,
    Reason::CoapBodyTooLarge,
    Reason::CoapNoSuchResource,
    Reason::CoapMethodUnknown,
    Reason::CoapMethod,
    Reason::CoapContentFormat,
    Reason::CoapNotAcceptable,
    Reason::EstUnknownLabel,
    Reason::EstFunctionNotServed,
    Reason::EstNoCsrAttributes,
    Reason::EstManyCertificates,
    Reason::EstEmptyRequest,
    Reason::EstTooManyFilters,
    Reason::CsrTooLarge,
    Reason::CsrSubject,
    Reason::CsrAttributes,
    Reason::CsrSanMalformed,
    Reason::CsrAsksAuthority,
    Reason::CsrAsksAnyPurpose,
    Reason::CsrNoName,
    Reason::SanNotListed,
    Reason::SanNotIssuable,
    Reason::SanConstrained,
    Reason::SanMismatch,
    Reason::RenewalNotOfThisCa,
    Reason::SkgSubjectMismatch,
    Reason::SkgUnknownKey,
    Reason::SkgEncryption,
    Reason::SkgCipher,
    Reason::ChallengeAbsent,
    Reason::ChallengeMismatch,
    Reason::ChallengeOverHttps,
    Reason::HttpNoSuchResource,
    Reason::HttpMethod,
    Reason::HttpContentType,
    Reason::HttpBodyEncoding,
    Reason::HttpBodyTooLarge,
    Reason::HttpBodyBroken,
    Reason::RegistrarNoDeviceId,
    Reason::RegistrarNothingToRenew,
    Reason::IdentityKey,
    Reason::CaKey,
    Reason::KeyOfAnotherDevice,
    Reason::KeyCompromised,
    Reason::DeviceCertificatesFull,
    Reason::DeviceOverLimit,
    Reason::UpstreamBadRequest,
    Reason::UpstreamTooLarge,
    Reason::UpstreamNotFound,
    Reason::UpstreamNotImplemented,
];

const ELSEWHERE: &[Reason] = &[
    Reason::HandshakeInternal,
    Reason::HandshakeDisplaced,
    Reason::SessionsFull,
    Reason::SessionEvicted,
    Reason::SessionForgeries,
    Reason::CoapFull,
    Reason::CoapAnswersFull,
    Reason::CoapPendingFull,
    Reason::CoapExchangesFull,
    Reason::EstPendingFull,
    Reason::HttpConnectionsFull,
    Reason::RegistrarNotListed,
    Reason::RegistrarCertificateRevoked,
    Reason::EstDraining,
    Reason::EstSessionForgotten,
    Reason::LedgerUnavailable,
    Reason::SignerUnavailable,
    Reason::AuthorityFull,
    Reason::DeviceDenied,
    Reason::DevicePending,
    Reason::DeviceInFlight,
    Reason::InFlight,
    Reason::SerialsTaken,
    Reason::CaOutsideValidity,
    Reason::WithheldSignature,
    Reason::WithheldContent,
    Reason::CompletionDropped,
    Reason::WrongAuthority,
    Reason::UpstreamUnreachable,
    Reason::UpstreamResting,
    Reason::UpstreamSilent,
    Reason::UpstreamAccepted,
    Reason::UpstreamLater,
    Reason::UpstreamTooMany,
    Reason::UpstreamFull,
    Reason::UpstreamNotReady,
    Reason::UpstreamUnauthorized,
    Reason::UpstreamForbidden,
    Reason::UpstreamMethodNotAllowed,
    Reason::UpstreamNotAcceptable,
    Reason::UpstreamPreconditionFailed,
    Reason::UpstreamUnsupportedType,
    Reason::UpstreamFailed,
    Reason::UpstreamTimedOut,
    Reason::UpstreamAnswerStatus,
    Reason::UpstreamAnswerMediaType,
    Reason::UpstreamAnswerTooLong,
    Reason::UpstreamAnswerMalformed,
    Reason::UpstreamAnswerNotOneCertificate,
    Reason::UpstreamAnswerOtherKey,
    Reason::UpstreamAnswerOtherIssuer,
    Reason::UpstreamAnswerUnusable,
    Reason::UpstreamAnswerOfAnother,
    Reason::UpstreamAnswerPrivateKey,
    Reason::ClockBehind,
    Reason::ClockAhead,
];

const OF_OUR_CLIENT: &[Reason] = &[
    Reason::HelloNotOffered,
    Reason::HelloUnsupportedExtension,
    Reason::HelloCookieLoop,
    Reason::CertificateNameMismatch,
    Reason::CertificateDeviceAsServer,
    Reason::ServerKeyExchangeSignature,
    Reason::ServerKeyExchangeEncoding,
    Reason::HandshakeCancelled,
    Reason::NoAnswer,
    Reason::RequestTooLong,
    Reason::AnswerFormat,
    Reason::AnswerMalformed,
    Reason::AnswerNotOneCertificate,
    Reason::AnswerOtherKey,
    Reason::AnswerKeyProtection,
    Reason::AnswerKeyMismatch,
    Reason::AnswerKeyAlgorithm,
    Reason::AnswerTooLarge,
    Reason::AnswerBlocks,
    Reason::AnswerCriticalOption,
    Reason::AnswerReset,
];
