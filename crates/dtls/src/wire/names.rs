//! Names of code points as IANA registers them, for output that a person reads. A code point without a name is shown
//! in hex.

use std::fmt;

macro_rules! names {
    ($(#[$doc:meta])* $table:ident: $($code:literal = $name:literal,)*) => {
        $(#[$doc])*
        pub(super) const fn $table(code: u16) -> Option<&'static str> {
            match code {
                $($code => Some($name),)*
                _ => None,
            }
        }
    };
}

names! {
    /// Cipher suites that devices are known to offer.
    suite:
    0x00A8 = "TLS_PSK_WITH_AES_128_GCM_SHA256",
    0x00AE = "TLS_PSK_WITH_AES_128_CBC_SHA256",
    0x00FF = "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
    0x002F = "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0035 = "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x003C = "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x009C = "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D = "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E = "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F = "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x1301 = "TLS_AES_128_GCM_SHA256",
    0x1302 = "TLS_AES_256_GCM_SHA384",
    0x1303 = "TLS_CHACHA20_POLY1305_SHA256",
    0x1304 = "TLS_AES_128_CCM_SHA256",
    0x1305 = "TLS_AES_128_CCM_8_SHA256",
    0xC009 = "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A = "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC013 = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014 = "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC023 = "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC024 = "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC02B = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC037 = "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
    0xC0A4 = "TLS_PSK_WITH_AES_128_CCM",
    0xC0A8 = "TLS_PSK_WITH_AES_128_CCM_8",
    0xC0AC = "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    0xC0AD = "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
    0xC0AE = "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
    0xC0AF = "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8",
    0xCCA8 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}

names! {
    /// Groups.
    group:
    0x0013 = "secp192r1",
    0x0015 = "secp224r1",
    0x0016 = "secp256k1",
    0x0017 = "secp256r1",
    0x0018 = "secp384r1",
    0x0019 = "secp521r1",
    0x001A = "brainpoolP256r1",
    0x001B = "brainpoolP384r1",
    0x001C = "brainpoolP512r1",
    0x001D = "x25519",
    0x001E = "x448",
    0x0100 = "ffdhe2048",
    0x0101 = "ffdhe3072",
    0x0102 = "ffdhe4096",
    0x11EC = "X25519MLKEM768",
}

names! {
    /// Signature schemes: pairs of hash and signature in TLS 1.2, names of RFC 8446 §4.2.3.
    signature_scheme:
    0x0201 = "rsa_pkcs1_sha1",
    0x0203 = "ecdsa_sha1",
    0x0301 = "rsa_pkcs1_sha224",
    0x0303 = "ecdsa_sha224",
    0x0401 = "rsa_pkcs1_sha256",
    0x0403 = "ecdsa_secp256r1_sha256",
    0x0501 = "rsa_pkcs1_sha384",
    0x0503 = "ecdsa_secp384r1_sha384",
    0x0601 = "rsa_pkcs1_sha512",
    0x0603 = "ecdsa_secp521r1_sha512",
    0x0804 = "rsa_pss_rsae_sha256",
    0x0805 = "rsa_pss_rsae_sha384",
    0x0806 = "rsa_pss_rsae_sha512",
    0x0807 = "ed25519",
    0x0808 = "ed448",
    0x0809 = "rsa_pss_pss_sha256",
    0x080A = "rsa_pss_pss_sha384",
    0x080B = "rsa_pss_pss_sha512",
}

names! {
    /// Versions of DTLS.
    version:
    0xFEFF = "DTLS 1.0",
    0xFEFD = "DTLS 1.2",
    0xFEFC = "DTLS 1.3",
}

names! {
    /// Types of certificates.
    certificate_type:
    0 = "X509",
    1 = "OpenPGP",
    2 = "RawPublicKey",
    3 = "1609Dot2",
}

names! {
    /// Extensions.
    extension:
    0 = "server_name",
    1 = "max_fragment_length",
    3 = "trusted_ca_keys",
    5 = "status_request",
    10 = "supported_groups",
    11 = "ec_point_formats",
    13 = "signature_algorithms",
    14 = "use_srtp",
    15 = "heartbeat",
    16 = "application_layer_protocol_negotiation",
    19 = "client_certificate_type",
    20 = "server_certificate_type",
    21 = "padding",
    22 = "encrypt_then_mac",
    23 = "extended_master_secret",
    28 = "record_size_limit",
    35 = "session_ticket",
    41 = "pre_shared_key",
    42 = "early_data",
    43 = "supported_versions",
    44 = "cookie",
    45 = "psk_key_exchange_modes",
    47 = "certificate_authorities",
    49 = "post_handshake_auth",
    50 = "signature_algorithms_cert",
    51 = "key_share",
    53 = "connection_id_deprecated",
    54 = "connection_id",
    0xFF01 = "renegotiation_info",
}

/// Whether a two-byte code is reserved for GREASE (RFC 8701 §2): both bytes are the same and end in A.
const fn is_grease(code: u16) -> bool {
    code >> 8 == code & 0xFF && code & 0x0F == 0x0A
}

/// A code point, and the table to look up its name in.
pub(super) struct Named(pub(super) u16, pub(super) fn(u16) -> Option<&'static str>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code, table) = self;
        match table(*code) {
            Some(name) => f.write_str(name),
            None if is_grease(*code) => write!(f, "GREASE:{code:04x}"),
            None => write!(f, "0x{code:04x}"),
        }
    }
}
