//! Code points that several messages share.

/// DTLS 1.0, in the record header of first messages and in HelloVerifyRequest (RFC 6347 §4.2.1).
pub(crate) const DTLS_1_0: u16 = 0xFEFF;

/// DTLS 1.2 (RFC 6347 §4.1).
pub(crate) const DTLS_1_2: u16 = 0xFEFD;

/// DTLS 1.3 (RFC 9147 §5.3), which we do not support.
pub(crate) const DTLS_1_3: u16 = 0xFEFC;

/// Types of extensions that are read or written here.
pub(crate) mod extension {
    pub(crate) const SERVER_NAME: u16 = 0;
    pub(crate) const MAX_FRAGMENT_LENGTH: u16 = 1;
    pub(crate) const TRUSTED_CA_KEYS: u16 = 3;
    pub(crate) const SUPPORTED_GROUPS: u16 = 10;
    pub(crate) const EC_POINT_FORMATS: u16 = 11;
    pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(crate) const CLIENT_CERTIFICATE_TYPE: u16 = 19;
    pub(crate) const SERVER_CERTIFICATE_TYPE: u16 = 20;
    pub(crate) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(crate) const RECORD_SIZE_LIMIT: u16 = 28;
    pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
    pub(crate) const RENEGOTIATION_INFO: u16 = 0xFF01;
}

/// `TLS_EMPTY_RENEGOTIATION_INFO_SCSV` (RFC 5746 §3.3).
pub(crate) const EMPTY_RENEGOTIATION_INFO_SCSV: u16 = 0x00FF;

/// The certificate type X.509 (RFC 7250 §6).
pub(crate) const X509: u8 = 0;

/// The uncompressed point format (RFC 8422 §5.1.2), the only one in use.
pub(crate) const UNCOMPRESSED: u8 = 0;
