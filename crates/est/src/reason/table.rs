//! The table itself. One row a reason: variant, code, stage, what the peer sees, what it means, what to do on the device,
//! what to do on the server.
//!
//! The remedies name the knobs of Mbed TLS, Zephyr, OpenThread and OpenSSL where these have one; `tests/remedies.rs` says for
//! each reason whether they do, and holds every such name.

use coap::Code;
use dtls::AlertDescription as Alert;

use super::{Entry, Stage, Wire};

/// Writes the enum, the list of all reasons and the match from reason to row from one list, so that none can be missing.
macro_rules! reasons {
    ($($variant:ident: $code:literal, $stage:ident, $wire:expr;
        $meaning:literal;
        $device:literal;
        $server:literal;)+) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the way that an enrolment takes.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// Its row of the table.
            #[must_use]
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Reason::$variant => const {
                        &Entry {
                            code: $code,
                            stage: Stage::$stage,
                            wire: $wire,
                            meaning: $meaning,
                            device: $device,
                            server: $server,
                        }
                    },)+
                }
            }
        }
    };
}

const BAD_REQUEST: Wire = Wire::Response(Code::BAD_REQUEST);
const BAD_OPTION: Wire = Wire::Response(Code::BAD_OPTION);
const FORBIDDEN: Wire = Wire::Response(Code::FORBIDDEN);
const NOT_FOUND: Wire = Wire::Response(Code::NOT_FOUND);
const NOT_ACCEPTABLE: Wire = Wire::Response(Code::NOT_ACCEPTABLE);
const INCOMPLETE: Wire = Wire::Response(Code::REQUEST_ENTITY_INCOMPLETE);
const UNAVAILABLE: Wire = Wire::Response(Code::SERVICE_UNAVAILABLE);

reasons! {
    // ---- The handshake: hellos.
    HelloVersion: "dtls.hello.version", Handshake, Wire::Alert(Alert::PROTOCOL_VERSION);
        "The peer's highest version is below DTLS 1.2.";
        "Turn DTLS 1.2 on. Mbed TLS: MBEDTLS_SSL_PROTO_DTLS with MBEDTLS_SSL_PROTO_TLS1_2. Zephyr: CONFIG_MBEDTLS_SSL_PROTO_DTLS=y with CONFIG_MBEDTLS_SSL_PROTO_TLS1_2=y (older: CONFIG_MBEDTLS_DTLS with CONFIG_MBEDTLS_TLS_VERSION_1_2) and a socket of IPPROTO_DTLS_1_2. OpenThread: MBEDTLS_SSL_PROTO_TLS1_2 in the mbedtls-config.h of an OT_EXTERNAL_MBEDTLS; its own has it. OpenSSL: DTLS_client_method() without a maximum below DTLS1_2_VERSION (s_client -dtls1_2, not -dtls1).";
        "Nothing to change: RFC 9148 §3 asks for DTLS 1.2 or above.";
    HelloNoCommonSuite: "dtls.hello.no_common_suite", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "No cipher suite that both sides have.";
        "Offer TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, mandatory in RFC 9148 §3. Mbed TLS: MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED with MBEDTLS_CCM_C, and the suite in mbedtls_ssl_conf_ciphersuites if that is called. Zephyr: CONFIG_MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED=y and CONFIG_MBEDTLS_CIPHER_CCM_ENABLED=y, and the suite in TLS_CIPHERSUITE_LIST if that option is set. OpenThread: OT_COAPS=ON and OT_ECDSA=ON; a session with a pre-shared key offers no suite of certificates. OpenSSL 3: cipher string ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0.";
        "Allow all three suites in [dtls] suites.";
    HelloNoCommonGroup: "dtls.hello.no_common_group", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "The peer offers neither secp256r1 nor x25519, or not the curve of our certificate.";
        "Offer secp256r1, and the curve of the server's certificate. Mbed TLS: MBEDTLS_ECP_DP_SECP256R1_ENABLED, and secp256r1 in mbedtls_ssl_conf_groups (2.x: _curves) if that is called. Zephyr: CONFIG_MBEDTLS_ECP_DP_SECP256R1_ENABLED=y. OpenThread: MBEDTLS_ECP_DP_SECP256R1_ENABLED in the mbedtls-config.h of an OT_EXTERNAL_MBEDTLS; its own has it. OpenSSL: P-256 in SSL_set1_groups_list (s_client -groups P-256).";
        "Use a P-256 server certificate for devices that know no other curve.";
    HelloNoCommonSignatureAlgorithm: "dtls.hello.no_common_signature_algorithm", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "The peer does not accept the signature algorithm of our key.";
        "Offer ecdsa_secp256r1_sha256 in signature_algorithms. Mbed TLS: MBEDTLS_SHA256_C and MBEDTLS_ECDSA_C, and the pair in mbedtls_ssl_conf_sig_algs (2.x: _sig_hashes) if that is called. Zephyr: CONFIG_PSA_WANT_ALG_ECDSA=y (older: CONFIG_MBEDTLS_ECDSA_C=y) with SHA-256 enabled. OpenThread: OT_ECDSA=ON. OpenSSL: ECDSA+SHA256 in SSL_set1_sigalgs_list (s_client -sigalgs ECDSA+SHA256).";
        "Use a P-256 server key.";
    HelloNoCommonPointFormat: "dtls.hello.no_common_point_format", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "ec_point_formats without the uncompressed format (RFC 8422 §5.1.2).";
        "Offer the uncompressed point format, or leave the extension out. Mbed TLS, and Zephyr and OpenThread with it, and OpenSSL always offer it: look at what else writes the hello.";
        "Nothing to change.";
    HelloNoCommonCompression: "dtls.hello.no_common_compression", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "compression_methods without null (RFC 5246 §7.4.1.2).";
        "Offer the null compression method. Mbed TLS, and Zephyr and OpenThread with it, and OpenSSL always offer it: look at what else writes the hello.";
        "Nothing to change.";
    HelloNoExtendedMasterSecret: "dtls.hello.no_extended_master_secret", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "The peer does not do extended_master_secret (RFC 7627) and it is required here.";
        "Turn it on. Mbed TLS: MBEDTLS_SSL_EXTENDED_MASTER_SECRET, and no mbedtls_ssl_conf_extended_master_secret that takes it away. Zephyr: CONFIG_MBEDTLS_SSL_EXTENDED_MASTER_SECRET=y (releases without that option: the macro in the file of CONFIG_MBEDTLS_USER_CONFIG_FILE). OpenThread: the macro in the mbedtls-config.h of an OT_EXTERNAL_MBEDTLS. OpenSSL: do not set SSL_OP_NO_EXTENDED_MASTER_SECRET.";
        "Set [dtls] extended_master_secret = \"prefer\".";
    HelloRecordLimit: "dtls.hello.record_limit", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "max_fragment_length names none of the four lengths there are (RFC 6066 §4), or record_size_limit less than 64 bytes (RFC 8449 §4).";
        "Ask for 512, 1,024, 2,048 or 4,096 bytes. Mbed TLS: MBEDTLS_SSL_MAX_FRAG_LEN_512 to _4096 in mbedtls_ssl_conf_max_frag_len. Zephyr: CONFIG_MBEDTLS_SSL_MAX_CONTENT_LEN of at least 512. OpenThread: MBEDTLS_SSL_IN_CONTENT_LEN of at least 512. OpenSSL: SSL_set_tlsext_max_fragment_length (s_client -maxfraglen 512).";
        "Nothing to change.";
    HelloChanged: "dtls.hello.changed", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "The ClientHello that brought the cookie back is not the one that the cookie was given for (RFC 6347 §4.2.1).";
        "Repeat version, random, session id, cipher suites and compression methods unchanged. Mbed TLS, and Zephyr and OpenThread with it, and OpenSSL do: look for something that rewrites datagrams in between.";
        "Nothing to change.";
    HelloRenegotiationInfo: "dtls.hello.renegotiation_info", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "renegotiation_info is not empty in an initial handshake (RFC 5746 §3.6).";
        "Start a new association after a restart instead of renegotiating an old one. Mbed TLS: mbedtls_ssl_session_reset before the next handshake, and no MBEDTLS_SSL_RENEGOTIATION. Zephyr and OpenThread: close the socket or session and open another. OpenSSL: a new SSL object.";
        "Nothing to change.";
    HelloNotOffered: "dtls.hello.not_offered", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "The peer chose something that was not offered to it.";
        "Nothing the device can do: the server is at fault.";
        "Report it to the maker of the server.";
    HelloUnsupportedExtension: "dtls.hello.unsupported_extension", Handshake, Wire::Alert(Alert::UNSUPPORTED_EXTENSION);
        "The server's hello carries an extension that was not offered (RFC 5246 §7.4.1.4).";
        "Nothing the device can do: the server is at fault.";
        "Report it to the maker of the server.";
    HelloCookieLoop: "dtls.hello.cookie_loop", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "The server asked for a cookie again and again.";
        "Keep the source address and port of the ClientHellos the same; a NAT that changes them makes every cookie wrong.";
        "Give all nodes behind one address the same cookie secret.";

    // ---- The handshake: certificates.
    CertificateMissing: "dtls.certificate.missing", Handshake, Wire::Alert(Alert::HANDSHAKE_FAILURE);
        "The client sent no certificate; RFC 9148 §3 asks for one on both sides.";
        "Configure certificate and key. Mbed TLS: mbedtls_ssl_conf_own_cert. Zephyr: tls_credential_add with TLS_CREDENTIAL_PUBLIC_CERTIFICATE (older: TLS_CREDENTIAL_SERVER_CERTIFICATE) and TLS_CREDENTIAL_PRIVATE_KEY, and their tag in TLS_SEC_TAG_LIST. OpenThread: otCoapSecureSetCertificate. OpenSSL: SSL_CTX_use_certificate_chain_file and SSL_CTX_use_PrivateKey_file (s_client -cert and -key).";
        "Nothing to change.";
    CertificateUnknownIssuer: "dtls.certificate.unknown_issuer", Handshake, Wire::Alert(Alert::UNKNOWN_CA);
        "The chain leads to no authority that is trusted here.";
        "Send the whole chain up to the manufacturer's CA, leaf first; on the client side, trust the root that issued the server's certificate. Mbed TLS: mbedtls_x509_crt_parse the intermediates behind the leaf that mbedtls_ssl_conf_own_cert is given. Zephyr: the chain as PEM in TLS_CREDENTIAL_PUBLIC_CERTIFICATE, with CONFIG_MBEDTLS_PEM_CERTIFICATE_FORMAT=y. OpenThread: the chain as PEM in otCoapSecureSetCertificate. OpenSSL: SSL_CTX_use_certificate_chain_file (s_client -cert_chain).";
        "Add the manufacturer's CA certificate to manufacturers of the profile.";
    CertificateExpired: "dtls.certificate.expired", Handshake, Wire::Alert(Alert::CERTIFICATE_EXPIRED);
        "A certificate of the chain is past its notAfter.";
        "Renew before two thirds of the life are over; with an expired certificate, enrol anew with the manufacturer certificate.";
        "Check the server's clock; renew the server's certificate if it is that one. For devices that outlived the date of their manufacturer certificate there is allow_expired_identity in the profile; an expired authority above them it does not excuse.";
    CertificateNotYetValid: "dtls.certificate.not_yet_valid", Handshake, Wire::Alert(Alert::CERTIFICATE_EXPIRED);
        "A certificate of the chain is before its notBefore.";
        "Set the device's clock, if it is the device that complains.";
        "Check the server's clock.";
    CertificateBadSignature: "dtls.certificate.bad_signature", Handshake, Wire::Alert(Alert::BAD_CERTIFICATE);
        "A signature in the chain does not verify.";
        "Read the certificate back from storage and compare: it is damaged, or its issuer has the same name and another key.";
        "Check that the anchor is the CA that really issued these devices, not one of the same name.";
    CertificateExtendedKeyUsage: "dtls.certificate.extended_key_usage", Handshake, Wire::Alert(Alert::UNSUPPORTED_CERTIFICATE);
        "The certificate's extendedKeyUsage excludes its use here: clientAuth for a device, serverAuth for a server.";
        "Use a certificate with clientAuth, or without the extension.";
        "For the server's own certificate: issue one with serverAuth.";
    CertificateKeyUsage: "dtls.certificate.key_usage", Handshake, Wire::Alert(Alert::UNSUPPORTED_CERTIFICATE);
        "The certificate's keyUsage excludes digitalSignature, or it is the certificate of a CA.";
        "Use the device's own certificate, whose keyUsage has digitalSignature or that has no keyUsage.";
        "Nothing to change.";
    CertificateNameMismatch: "dtls.certificate.name_mismatch", Handshake, Wire::Alert(Alert::BAD_CERTIFICATE);
        "The server's certificate does not carry the name that was dialled (RFC 7030 §3.6).";
        "Dial the name or address that stands in the certificate's subjectAltName; common names do not count.";
        "Issue a server certificate with every name and address that devices dial: muster init --name.";
    CertificatePathLength: "dtls.certificate.path_length", Handshake, Wire::Alert(Alert::UNKNOWN_CA);
        "A CA of the chain allows no further CA below it (pathLenConstraint).";
        "Nothing the device can do: its chain is not valid.";
        "Ask the manufacturer for a chain that keeps its own constraints.";
    CertificateNotAnAuthority: "dtls.certificate.not_an_authority", Handshake, Wire::Alert(Alert::UNKNOWN_CA);
        "An issuer in the chain is not a CA (basicConstraints).";
        "Send the CA certificates of the chain, not other ones of the same name.";
        "Ask the manufacturer for CA certificates with basicConstraints.";
    CertificateNameConstraints: "dtls.certificate.name_constraints", Handshake, Wire::Alert(Alert::BAD_CERTIFICATE);
        "A name is outside the name constraints of a CA above it.";
        "Nothing the device can do: its chain is not valid.";
        "Ask the manufacturer; the CA's constraints exclude its own devices.";
    CertificateCriticalExtension: "dtls.certificate.critical_extension", Handshake, Wire::Alert(Alert::UNSUPPORTED_CERTIFICATE);
        "A certificate carries a critical extension that is not understood.";
        "Use a certificate without it.";
        "Ask the manufacturer to mark the extension as not critical.";
    CertificateAlgorithm: "dtls.certificate.unsupported_algorithm", Handshake, Wire::Alert(Alert::UNSUPPORTED_CERTIFICATE);
        "A key or signature algorithm of the chain is not accepted: keys are P-256 or P-384, signatures ECDSA with SHA-256 or SHA-384.";
        "Use a manufacturer certificate with ECDSA keys.";
        "Nothing to change.";
    CertificateBadEncoding: "dtls.certificate.bad_encoding", Handshake, Wire::Alert(Alert::BAD_CERTIFICATE);
        "A certificate of the chain is not strict DER, or not a certificate.";
        "Store and send certificates as DER, byte for byte; no PEM, no trailing bytes.";
        "Nothing to change.";
    CertificateTooMany: "dtls.certificate.too_many", Handshake, Wire::Alert(Alert::BAD_CERTIFICATE);
        "The chain has more certificates than are looked at.";
        "Send the leaf and its intermediates only, each once.";
        "Nothing to change.";
    CertificateTooMuchWork: "dtls.certificate.too_much_work", Handshake, Wire::Alert(Alert::CERTIFICATE_UNKNOWN);
        "The chain would need more signature checks than are done for one peer.";
        "Send the chain in order, leaf first, without certificates of the same name that do not belong to it.";
        "Remove anchors of the same name that are no longer in use.";
    CertificateDeviceAsServer: "dtls.certificate.device_as_server", Handshake, Wire::Alert(Alert::UNSUPPORTED_CERTIFICATE);
        "A certificate issued to a device plays the server (RFC 7030 §3.6).";
        "Do not go on: whoever answers is not the enrolment server.";
        "Issue a server certificate with serverAuth, and find out who answers at this address.";
    CertificateNoProof: "dtls.certificate.no_proof", Handshake, Wire::Alert(Alert::DECRYPT_ERROR);
        "The client's signature over the handshake does not verify under the key of its certificate.";
        "Load the key that belongs to the certificate (openssl pkey -pubout on the one, openssl x509 -pubkey on the other). Mbed TLS, and Zephyr and OpenThread with it: mbedtls_pk_check_pair tells whether it does. OpenSSL: SSL_CTX_check_private_key does.";
        "Nothing to change.";

    // ---- The handshake: keys and order.
    ServerKeyExchangeSignature: "dtls.server_key_exchange.bad_signature", Handshake, Wire::Alert(Alert::DECRYPT_ERROR);
        "The server's signature over its key exchange does not verify under the key of its certificate.";
        "Do not go on: whoever answers does not hold the server's key.";
        "Load the key that belongs to the server's certificate.";
    SignatureAlgorithmNotOffered: "dtls.signature.not_offered", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "The peer signed with an algorithm that was not offered to it.";
        "Sign with an algorithm of the server's list: ecdsa_secp256r1_sha256 or ecdsa_secp384r1_sha384.";
        "Nothing to change.";
    KeyShareBadPoint: "dtls.key_exchange.bad_point", Handshake, Wire::Alert(Alert::ILLEGAL_PARAMETER);
        "The peer's ECDHE value is not a point of the curve (RFC 8422 §5.11).";
        "Look at the elliptic-curve driver: a point that is not on the curve comes from a fault, or from somebody in between.";
        "Nothing to change.";
    FinishedMismatch: "dtls.finished.mismatch", Handshake, Wire::Alert(Alert::DECRYPT_ERROR);
        "The peer's Finished does not match the handshake as it was seen here.";
        "If it is one kind of device: its stack hashes other bytes than it sends (retransmitted or fragmented messages).";
        "Nothing to change.";
    HandshakeDecode: "dtls.handshake.decode", Handshake, Wire::Alert(Alert::DECODE_ERROR);
        "A handshake message does not decode: cut short, with trailing bytes, or with an extension twice.";
        "Update the device's DTLS stack.";
        "Nothing to change.";
    HandshakeUnexpectedMessage: "dtls.handshake.unexpected_message", Handshake, Wire::Alert(Alert::UNEXPECTED_MESSAGE);
        "A handshake message came that has no place there.";
        "Update the device's DTLS stack.";
        "Nothing to change.";
    HandshakeTimedOut: "dtls.handshake.timed_out", Handshake, Wire::Silence;
        "The handshake did not end in time: the peer stopped answering.";
        "Raise the receive buffer to the largest message of the server (muster check prints their sizes), and the timer on slow links; check radio and path MTU. Mbed TLS: MBEDTLS_SSL_IN_CONTENT_LEN and mbedtls_ssl_conf_handshake_timeout. Zephyr: CONFIG_MBEDTLS_SSL_MAX_CONTENT_LEN, and TLS_DTLS_HANDSHAKE_TIMEOUT_MIN of the socket. OpenThread: MBEDTLS_SSL_IN_CONTENT_LEN (Mbed TLS 2.x: MBEDTLS_SSL_MAX_CONTENT_LEN) in the mbedtls-config.h of an OT_EXTERNAL_MBEDTLS. OpenSSL: DTLS_set_timer_cb, and DTLS_set_link_mtu where the path is narrow (s_client -mtu).";
        "Use a small server certificate directly under the root; check that answers leave through the firewall.";
    HandshakeRestarted: "dtls.handshake.restarted", Handshake, Wire::Silence;
        "The peer began another handshake in place of this one.";
        "Look for resets: the device lost its state in the middle.";
        "Nothing to change.";
    HandshakeCancelled: "dtls.handshake.cancelled", Handshake, Wire::Alert(Alert::CLOSE_NOTIFY);
        "This side ended the handshake itself.";
        "Try again.";
        "Nothing to change: the server was stopping.";
    HandshakeInternal: "dtls.handshake.internal", Handshake, Wire::Alert(Alert::INTERNAL_ERROR);
        "Randomness, signature or key agreement failed on this side.";
        "Try again.";
        "A fault of the server: report it with the log.";
    SessionsFull: "dtls.session.full", Handshake, Wire::Close;
        "All session slots are taken by live peers.";
        "Try again later, with a random delay.";
        "Raise the limit of sessions, or shorten idle_timeout.";
    AlertUnknownCa: "dtls.alert.unknown_ca", Handshake, Wire::Silence;
        "The peer does not trust the authority of our chain.";
        "Install the root of the server's certificate as trust anchor (ca/root.pem of muster init). Mbed TLS: mbedtls_ssl_conf_ca_chain. Zephyr: TLS_CREDENTIAL_CA_CERTIFICATE under a tag of TLS_SEC_TAG_LIST. OpenThread: otCoapSecureSetCaCertificateChain. OpenSSL: SSL_CTX_load_verify_locations (s_client -CAfile).";
        "Give the devices the root that issued the server's certificate.";
    AlertCertificate: "dtls.alert.certificate", Handshake, Wire::Silence;
        "The peer refuses our certificate: damaged, expired, of the wrong kind or with the wrong name.";
        "Check the device's clock and the name it dials; Mbed TLS 2.28 compares dNSNames only. Mbed TLS: mbedtls_ssl_set_hostname, and a clock where MBEDTLS_HAVE_TIME_DATE is set. Zephyr: TLS_HOSTNAME of the socket, and a clock where CONFIG_MBEDTLS_HAVE_TIME_DATE is set. OpenThread: the chain of otCoapSecureSetCaCertificateChain, which otCoapSecureSetSslAuthMode has it check. OpenSSL: SSL_set1_host, or X509_VERIFY_PARAM_set1_ip_asc for an address (s_client -verify_hostname, -verify_ip).";
        "Check the server certificate's names, dates and extendedKeyUsage.";
    AlertHandshakeFailure: "dtls.alert.handshake_failure", Handshake, Wire::Silence;
        "The peer found no parameters that it could accept.";
        "Offer what RFC 9148 §3 makes mandatory: ECDHE_ECDSA_AES_128_CCM_8 with secp256r1. muster explain dtls.hello.no_common_suite and dtls.hello.no_common_group have the settings of Mbed TLS, Zephyr, OpenThread and OpenSSL.";
        "Allow both suites in [dtls] suites; use a P-256 server certificate.";
    AlertClosed: "dtls.alert.closed", Handshake, Wire::Silence;
        "The peer ended the handshake with close_notify or user_canceled.";
        "Look into the device's log: it gave up by itself.";
        "Nothing to change.";
    AlertOther: "dtls.alert.received", Handshake, Wire::Silence;
        "The peer ended the handshake with a fatal alert; its name is in the log.";
        "Look into the device's log for what it did not accept; --trace shows the message before the alert. Mbed TLS: MBEDTLS_DEBUG_C with mbedtls_debug_set_threshold. Zephyr: CONFIG_MBEDTLS_DEBUG=y and CONFIG_MBEDTLS_DEBUG_LEVEL. OpenThread: OT_FULL_LOGS=ON. OpenSSL: SSL_CTX_set_msg_callback (s_client -msg).";
        "Look at the last message sent before the alert: serve --trace peer=ADDR.";

    // ---- The request: CoAP, paths, formats.
    CoapBadOption: "coap.option.unknown_critical", Request, BAD_OPTION;
        "The request carries a critical option that is not understood.";
        "Leave out the option (If-Match, If-None-Match, OSCORE and Q-Block are not understood).";
        "Nothing to change.";
    CoapOptionLength: "coap.option.length", Request, BAD_OPTION;
        "The request carries a critical option that is shorter or longer than its definition allows (RFC 7252 §5.4.3).";
        "Write the option in the length that its RFC defines; a path segment, a query and a host name have at most 255 bytes.";
        "Nothing to change.";
    CoapOptionRepeated: "coap.option.repeated", Request, BAD_OPTION;
        "The request carries a critical option twice that may occur once (RFC 7252 §5.4.5).";
        "Send the option once.";
        "Nothing to change.";
    CoapOptionNotText: "coap.option.not_utf8", Request, BAD_OPTION;
        "A path segment, a query or the host name of the request is not UTF-8.";
        "Send the names as UTF-8; those of EST are ASCII.";
        "Nothing to change.";
    CoapProxy: "coap.proxy.not_supported", Request, Wire::Response(Code::PROXYING_NOT_SUPPORTED);
        "The request asks to be forwarded (Proxy-Uri or Proxy-Scheme).";
        "Send the request without Proxy-Uri and Proxy-Scheme.";
        "Nothing to change.";
    CoapBlockMalformed: "coap.block.malformed", Request, BAD_REQUEST;
        "A Block option has the reserved size 7 (RFC 7959 §2.2).";
        "Use a block size of 16 to 1024 bytes (SZX 0 to 6).";
        "Nothing to change.";
    CoapBlockShort: "coap.block.short", Request, BAD_REQUEST;
        "M=1 and payload under the block size: only the last block may be shorter than its Block1 option says (RFC 7959 §2.2).";
        "Fill every block but the last, or clear M in the last one.";
        "Nothing to change.";
    CoapBlockLong: "coap.block.long", Request, BAD_REQUEST;
        "M=1 and payload over the block size: the block is longer than its Block1 option says (RFC 7959 §2.2).";
        "Cut the body into blocks of the size that SZX names.";
        "Nothing to change.";
    CoapBlockLastLong: "coap.block.last_long", Request, BAD_REQUEST;
        "M=0 and payload over the block size: the last block is longer than its Block1 option says (RFC 7959 §2.2).";
        "Cut the body into blocks of the size that SZX names and set M in all but the last, or send it whole without Block1.";
        "Nothing to change.";
    CoapBlockBoth: "coap.block.both", Request, BAD_REQUEST;
        "Block1 stands beside a Block2 whose number is above 0: a request carries a part of its body or asks for a later part of its answer.";
        "Leave Block1 out of the requests for later blocks; beside the last block of the body Block2 has the number 0.";
        "Nothing to change.";
    CoapBlockMissing: "coap.block.missing", Request, INCOMPLETE;
        "A block came without the ones before it, or after its upload was forgotten.";
        "Start the upload again at block 0; send the blocks one at a time, each after the answer to the one before.";
        "Nothing to change.";
    CoapBlockDiffers: "coap.block.differs", Request, INCOMPLETE;
        "A block came again with other bytes, or as the last one in the middle of what is there.";
        "Start the upload again at block 0, and give each upload its own Request-Tag if several overlap.";
        "Nothing to change.";
    CoapBlockFormatChanged: "coap.block.content_format_changed", Request, INCOMPLETE;
        "The Content-Format changed between two blocks of one upload.";
        "Send the same Content-Format in every block.";
        "Nothing to change.";
    CoapBlockNoResponse: "coap.block.no_response", Request, INCOMPLETE;
        "The answer is not kept (any more) of which a later block was asked for, or whose upload's last block came again.";
        "Repeat the whole request; the same CSR yields the same certificate.";
        "Nothing to change.";
    CoapBlockPastEnd: "coap.block.past_end", Request, BAD_OPTION;
        "A block past the end of the response was asked for.";
        "Stop at the block whose more flag is off.";
        "Nothing to change.";
    CoapBodyTooLarge: "coap.body.too_large", Request, Wire::Response(Code::REQUEST_ENTITY_TOO_LARGE);
        "The body is larger than this resource takes.";
        "Send a smaller CSR: no certificates, no extensions beyond what the profile wants.";
        "Nothing to change.";
    CoapFull: "coap.busy.full", Request, UNAVAILABLE;
        "Open uploads hold as many bytes as they may, or this certificate holds more of them than are left for all others.";
        "Wait for Max-Age and send the same request again; finish each upload that is begun.";
        "If it lasts: more shards, or look for a peer that begins uploads and leaves them.";
    CoapAnswersFull: "coap.busy.answers", Request, UNAVAILABLE;
        "Answers that devices still need hold as many bytes as they may, or this certificate holds more of them than are left for all others.";
        "Wait for Max-Age and send the same request again; fetch each answer to its last block.";
        "If it lasts: more shards, or look for a peer that asks and does not fetch its answers.";
    CoapPendingFull: "coap.busy.pending", Request, UNAVAILABLE;
        "As many requests of this session wait for their answer as one session may have.";
        "Wait for the answers to the requests before this one.";
        "If it lasts: look for what delays the authority.";
    CoapNoSuchResource: "coap.path.not_found", Request, NOT_FOUND;
        "The path leads to nothing that this server has.";
        "Ask below /.well-known/est or the path that discovery (GET /.well-known/core?rt=ace.est*) lists; segments are case-sensitive and there is no trailing slash.";
        "If devices use a short root, set it in the configuration.";
    CoapMethodUnknown: "coap.method.unknown", Request, Wire::Response(Code::METHOD_NOT_ALLOWED);
        "The method of the request is not one that CoAP defines (0.01 to 0.07).";
        "Use GET for crts and POST for sen and sren.";
        "Nothing to change.";
    CoapMethod: "coap.method.not_allowed", Request, Wire::Response(Code::METHOD_NOT_ALLOWED);
        "The resource exists and does not take this method: /crts and discovery take GET, /sen and /sren take POST.";
        "Use GET for crts and POST for sen and sren.";
        "Nothing to change.";
    CoapContentFormat: "coap.content_format.unsupported", Request, Wire::Response(Code::UNSUPPORTED_CONTENT_FORMAT);
        "An enrolment's payload has to be labelled Content-Format 286 (application/pkcs10), in every block.";
        "Send the option Content-Format with the value 286 and the CSR as DER, not PEM or base64.";
        "Nothing to change.";
    CoapNotAcceptable: "coap.accept.not_acceptable", Request, NOT_ACCEPTABLE;
        "The option Accept asks for a format that this resource does not come in.";
        "Accept 281 (certs-only CMS) or 287 (one certificate), or leave the option out; discovery comes in 40.";
        "Nothing to change.";
    EstUnknownLabel: "est.path.unknown_label", Request, NOT_FOUND;
        "The path names a label that no profile carries.";
        "Use one of the paths that discovery lists.";
        "Give a profile this label: labels = [\"\", \"...\"]; \"\" is the path without a label.";
    EstFunctionNotServed: "est.path.function_not_served", Request, NOT_FOUND;
        "The function is one of EST's that this server does not offer.";
        "Use crts, sen and sren; generate the key on the device instead of asking for skg.";
        "Nothing to change: att, skg and skc are optional (RFC 9148 §4.2).";
    EstManyCertificates: "est.crts.not_one_certificate", Request, NOT_ACCEPTABLE;
        "Content-Format 287 carries exactly one certificate, and the profile's CA certificates are several.";
        "Ask /crts for 281, or leave Accept out.";
        "Nothing to change, unless the issuing CA is itself the root.";
    EstEmptyRequest: "est.csr.empty", Request, BAD_REQUEST;
        "The enrolment has no payload.";
        "Send the CSR, in Block1 blocks if it does not fit one datagram.";
        "Nothing to change.";
    EstTooManyFilters: "est.discovery.too_many_filters", Request, BAD_REQUEST;
        "The discovery request has more filters than are looked at.";
        "Ask with one filter: rt=ace.est*.";
        "Nothing to change.";
    EstPendingFull: "est.busy.pending_full", Request, UNAVAILABLE;
        "As many enrolments of this shard wait for their answer as the limit allows.";
        "Wait for Max-Age and send the same CSR again.";
        "If it lasts: more cores, or a faster ledger; the limit is there to keep waiting short.";
    EstDraining: "est.busy.draining", Request, UNAVAILABLE;
        "The server is about to stop and takes no new enrolment.";
        "Wait for Max-Age and send the same CSR again, in a new session.";
        "Nothing to change: this is the end of a drain.";
    EstSessionForgotten: "est.session.certificate_forgotten", Request, Wire::Close;
        "The session was idle for so long that the client's certificate has left the cache; the session is closed.";
        "Open a new session and repeat the request.";
        "If it is frequent: more devices keep sessions open than the certificate cache holds; raise it or shorten idle_timeout.";

    // ---- The decision on the CSR.
    CsrMalformed: "est.csr.malformed", Decision, BAD_REQUEST;
        "The payload is not a PKCS #10 request in strict DER.";
        "Send DER, not PEM, and no trailing bytes. Mbed TLS, and Zephyr and OpenThread with it: mbedtls_x509write_csr_der, and take the bytes from the END of its buffer. OpenSSL: i2d_X509_REQ (req -outform DER).";
        "Nothing to change.";
    CsrTooLarge: "est.csr.too_large", Decision, BAD_REQUEST;
        "A part of the request is beyond what is worth reading: names, attributes or nesting.";
        "Ask for the subject and names that the profile wants, and nothing else.";
        "Nothing to change.";
    CsrSubject: "est.csr.subject_malformed", Decision, BAD_REQUEST;
        "The request's subject is no distinguished name that is read here.";
        "Build the subject from UTF8String or PrintableString values, none of them empty.";
        "Nothing to change.";
    CsrAttributes: "est.csr.attributes_malformed", Decision, BAD_REQUEST;
        "An attribute of the request occurs twice or has no valid value: challengePassword is one text of 1 to 255 bytes, requested extensions occur once each.";
        "Leave out the attributes that are not needed.";
        "Nothing to change.";
    CsrSanMalformed: "est.csr.san_malformed", Decision, BAD_REQUEST;
        "The subject alternative names of the request cannot be read.";
        "Leave subjectAltName out of the CSR, or encode each name as RFC 5280 §4.2.1.6 says.";
        "Nothing to change.";
    CsrAlgorithm: "est.csr.algorithm", Decision, BAD_REQUEST;
        "The request's key or signature is of an algorithm that is not accepted.";
        "Use a P-256 key and ecdsa-with-SHA256. Mbed TLS, and Zephyr and OpenThread with it: mbedtls_x509write_csr_set_md_alg with MBEDTLS_MD_SHA256. OpenSSL: X509_REQ_sign with EVP_sha256() (req -sha256).";
        "Nothing to change.";
    CsrSignature: "est.csr.signature", Decision, BAD_REQUEST;
        "The request is not signed with the key that it names: no proof of possession (RFC 7030 §4.2.1).";
        "Sign the CSR with the private key of its own public key, after the last change to it. Mbed TLS, and Zephyr and OpenThread with it: the one key of mbedtls_x509write_csr_set_key is both. OpenSSL: X509_REQ_set_pubkey and X509_REQ_sign with one key, the signature last.";
        "Nothing to change.";
    CsrKeyType: "est.csr.key_type", Decision, BAD_REQUEST;
        "The profile issues no certificate for this kind of key.";
        "Generate a key of a kind that the profile accepts; P-256 always is (RFC 9148 §3). Mbed TLS, and Zephyr and OpenThread with it: mbedtls_ecp_gen_key with MBEDTLS_ECP_DP_SECP256R1. OpenSSL: EVP_EC_gen(\"P-256\") (ecparam -name prime256v1 -genkey).";
        "Let the profile accept the kind of key, if the devices can use no other.";
    CsrAsksAuthority: "est.csr.asks_ca", Decision, FORBIDDEN;
        "The request asks for a CA certificate (basicConstraints cA TRUE).";
        "Leave basicConstraints out of the CSR.";
        "Nothing to change: device certificates are never CAs.";
    CsrAsksSigning: "est.csr.asks_signing", Decision, FORBIDDEN;
        "The request asks for keyCertSign or cRLSign.";
        "Ask for digitalSignature alone, or leave keyUsage out. Mbed TLS, and Zephyr and OpenThread with it: mbedtls_x509write_csr_set_key_usage with MBEDTLS_X509_KU_DIGITAL_SIGNATURE. OpenSSL: keyUsage in the section that req_extensions names.";
        "Nothing to change.";
    CsrAsksAnyPurpose: "est.csr.asks_any_purpose", Decision, FORBIDDEN;
        "The request asks for anyExtendedKeyUsage or for a purpose of authorities.";
        "Leave extendedKeyUsage out of the CSR: the profile decides it.";
        "Nothing to change.";
    ClientNotOfProfile: "est.client.not_of_this_profile", Decision, FORBIDDEN;
        "The client's certificate is trusted, and not by the profile that the label chose.";
        "Enrol under the label of the device's own profile.";
        "Add the manufacturer to the profile, or tell the device its label.";
    ClientExpired: "est.client.expired", Decision, FORBIDDEN;
        "The client's certificate is outside its validity: it ran out while the session lasted, or another profile let it in.";
        "Enrol anew with the manufacturer certificate, and renew earlier: from two thirds of the life on.";
        "For a manufacturer certificate past its date, set allow_expired_identity in the profile that the label chose.";
    ClientRevoked: "est.client.revoked", Decision, FORBIDDEN;
        "The client's certificate is revoked.";
        "Nothing the device can do by itself.";
        "Find out who revoked it and why before the device gets another.";
    ClientNoDeviceId: "est.client.no_device_id", Decision, FORBIDDEN;
        "The client's subject does not yield a device identity by the profile's rule.";
        "Use the manufacturer certificate that carries the attribute, exactly once.";
        "Change device_id of the profile to an attribute that these devices have, such as idevid:subject.CN.";
    SenSubjectMismatch: "est.sen.subject_mismatch", Decision, FORBIDDEN;
        "The CSR's subject is not the subject of the certificate that the client authenticated with.";
        "Copy the subject of that certificate into the CSR, every attribute in its order. Mbed TLS, and Zephyr and OpenThread with it: mbedtls_x509_dn_gets, then mbedtls_x509write_csr_set_subject_name. OpenSSL: X509_get_subject_name, then X509_REQ_set_subject_name.";
        "Set issue.subject to a template such as \"CN={device_id},O=Example\" if devices cannot know their subject.";
    SrenSubjectMismatch: "est.sren.subject_mismatch", Decision, FORBIDDEN;
        "A renewal's subject has to be that of the certificate it renews (RFC 7030 §4.2.2).";
        "Copy the subject of the current certificate into the CSR; to change it, enrol with /sen and the manufacturer certificate. muster explain est.sen.subject_mismatch has the calls of Mbed TLS, Zephyr, OpenThread and OpenSSL.";
        "Nothing to change.";
    SubjectTemplate: "est.sen.subject_template", Decision, FORBIDDEN;
        "The profile's subject template needs an attribute that the client's certificate lacks, has twice, or has with a value that does not fit.";
        "Use the manufacturer certificate that the template was written for.";
        "Change issue.subject of the profile to attributes that these devices have.";
    SanNotListed: "est.csr.san_not_listed", Decision, FORBIDDEN;
        "The CSR asks for a subject alternative name of a kind that the profile does not list.";
        "Leave subjectAltName out of the CSR.";
        "List the kind in the profile, if such names are meant to be certified.";
    SanNotIssuable: "est.csr.san_not_issuable", Decision, FORBIDDEN;
        "The CSR asks for a name that may not be issued as it is written: a wildcard, a trailing dot, characters that are not ASCII.";
        "Leave that name out of the CSR.";
        "Nothing to change.";
    SanMismatch: "est.csr.san_mismatch", Decision, FORBIDDEN;
        "The CSR's subject alternative names are not those of the client's certificate (RFC 7030 §4.2.2).";
        "Copy the names of the current certificate into the CSR, or none where it has none.";
        "Nothing to change.";
    RenewalNotOfThisCa: "est.sren.not_issued_here", Decision, FORBIDDEN;
        "Only a certificate that this CA issued is renewed with /sren (RFC 7030 §4.2.2).";
        "Enrol with POST /sen first; use /sren with the certificate that it gave.";
        "Nothing to change.";
    ChallengeUnbound: "est.csr.challenge_unbound", Decision, FORBIDDEN;
        "The CSR carries a challengePassword, and a session without extended master secret has no tls-unique that could be trusted.";
        "Turn the extended master secret on, or leave challengePassword out. muster explain dtls.hello.no_extended_master_secret has the settings of Mbed TLS, Zephyr, OpenThread and OpenSSL.";
        "Nothing to change.";
    ChallengeMismatch: "est.csr.challenge_mismatch", Decision, FORBIDDEN;
        "The CSR's challengePassword is not the tls-unique of this session (RFC 7030 §3.5).";
        "Make the CSR anew in each session, with base64 of the first Finished message; or leave challengePassword out.";
        "Nothing to change.";
    IdentityKey: "est.csr.identity_key", Decision, FORBIDDEN;
        "The CSR is for the key of the manufacturer certificate.";
        "Generate a key of its own for the certificate.";
        "Nothing to change, unless the devices have one key slot only.";
    CaKey: "est.csr.ca_key", Decision, FORBIDDEN;
        "The CSR is for the key of a CA.";
        "Generate a key of its own for the certificate, and find out how this device came to that key.";
        "Find out how the CA's key came to a device.";
    KeyOfAnotherDevice: "est.csr.key_of_another_device", Decision, FORBIDDEN;
        "Another device holds a certificate for this key.";
        "Generate a new key; if the other device did the same, look at the random generator (a clone or no entropy at first start).";
        "Look for cloned devices: two with one key are one to whoever holds it.";

    // ---- The issuance.
    LedgerUnavailable: "est.busy.ledger", Issuance, UNAVAILABLE;
        "The ledger could not say or keep what was needed; nothing was issued outside it.";
        "Wait for Max-Age and send the same CSR again.";
        "Look at the ledger: its disk, its size, its log.";
    SignerUnavailable: "est.busy.signer", Issuance, UNAVAILABLE;
        "The signer did not sign.";
        "Wait for Max-Age and send the same CSR again.";
        "Look at the CA's key and at the token that holds it.";
    AuthorityFull: "est.busy.full", Issuance, UNAVAILABLE;
        "As many enrolments are in flight as the limits allow.";
        "Wait for Max-Age and send the same CSR again.";
        "If it lasts: more cores, or a faster ledger.";
    InFlight: "est.busy.in_flight", Issuance, UNAVAILABLE;
        "The same request is being worked on; its certificate answers the repeat.";
        "Wait for Max-Age and send the same CSR again.";
        "Nothing to change.";
    SerialsTaken: "est.busy.serials", Issuance, UNAVAILABLE;
        "Every serial number that was drawn was taken.";
        "Wait for Max-Age and send the same CSR again.";
        "Two nodes share a node prefix, or the source of randomness repeats itself: stop issuing and find out.";
    CaOutsideValidity: "est.busy.ca_outside_validity", Issuance, UNAVAILABLE;
        "The CA's certificate is not valid now, so nothing can be issued in its name.";
        "Wait: nothing the device can do.";
        "Renew the issuing CA's certificate, or set the server's clock right.";
    WithheldSignature: "est.busy.withheld_signature", Issuance, UNAVAILABLE;
        "A certificate was signed and not released: its signature does not verify under the CA's key.";
        "Wait for Max-Age and send the same CSR again.";
        "The key and the certificate of the CA do not belong together, or the signer is faulty. Take it out of service.";
    WithheldContent: "est.busy.withheld_content", Issuance, UNAVAILABLE;
        "A certificate was signed and not released: it does not say what was decided.";
        "Wait for Max-Age and send the same CSR again.";
        "A fault of the server: report it with the log.";
    CompletionDropped: "est.busy.dropped", Issuance, UNAVAILABLE;
        "A ledger or signer let go of its work without saying how it ended.";
        "Wait for Max-Age and send the same CSR again.";
        "A fault of the server: report it with the log.";

    // ---- The device's checks of what it got.
    NoAnswer: "device.server.no_answer", Answer, Wire::Silence;
        "The server did not answer in time.";
        "Check address, port (5684) and path; on slow links raise the DTLS timer and the CoAP ACK timeout.";
        "Check that the server listens there and that UDP passes the firewall.";
    RequestTooLong: "device.request.too_long", Answer, Wire::Silence;
        "The request does not fit a datagram of this association.";
        "Use a smaller block, a shorter path, or a larger MTU.";
        "Choose a short root and short labels.";
    AnswerFormat: "device.answer.content_format", Answer, Wire::Silence;
        "The answer is not labelled with the Content-Format that was asked for.";
        "Ask for a format that the server has: leave Accept out for 281.";
        "Answer with 281 or 287 as Accept says.";
    AnswerMalformed: "device.answer.malformed", Answer, Wire::Silence;
        "The answer is no certificate, no certs-only CMS message, or no link format.";
        "Look at the payload with --trace=hex.";
        "Send DER: a CMS SignedData without signers (281) or one certificate (287).";
    AnswerNotOneCertificate: "device.answer.not_one_certificate", Answer, Wire::Silence;
        "An enrolment's answer has to hold exactly one certificate, the one that was issued (RFC 7030 §4.2.3).";
        "Do not use the answer.";
        "Leave the CA certificates out of the answer: they are what /crts is for.";
    AnswerOtherKey: "device.answer.other_key", Answer, Wire::Silence;
        "The certificate is for another key than the one in the CSR.";
        "Do not use the answer.";
        "Find out how answers can be mixed up: a proxy, or a cache that is keyed too short.";
    AnswerTooLarge: "device.answer.too_large", Answer, Wire::Silence;
        "The answer is larger than the device takes.";
        "Raise the limit, or ask for 287 instead of 281.";
        "Issue smaller certificates.";
}
