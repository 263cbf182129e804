//! Alerts (RFC 5246 §7.2): the closed vocabulary in which two ends tell each other why an association ends.

/// Level of an alert (RFC 5246 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertLevel {
    /// The association continues.
    Warning,
    /// The association ends.
    Fatal,
}

impl AlertLevel {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Warning => 1,
            Self::Fatal => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Warning),
            2 => Some(Self::Fatal),
            _ => None,
        }
    }
}

/// Description of an alert: its code of the IANA registry "TLS Alerts". Unknown codes are kept as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AlertDescription(pub u8);

/// The alerts that this crate sends or explains, with their registry names.
macro_rules! descriptions {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        impl AlertDescription {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

            /// Registry name; `"unknown"` for codes without a name here.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $name,)*
                    _ => "unknown",
                }
            }
        }
    };
}

descriptions! {
    /// The sender will send no more on this association.
    CLOSE_NOTIFY = 0, "close_notify";
    /// A message came out of order.
    UNEXPECTED_MESSAGE = 10, "unexpected_message";
    /// A record did not open.
    BAD_RECORD_MAC = 20, "bad_record_mac";
    /// A record is longer than was agreed on.
    RECORD_OVERFLOW = 22, "record_overflow";
    /// There is no acceptable set of parameters.
    HANDSHAKE_FAILURE = 40, "handshake_failure";
    /// A certificate was corrupt or did not verify.
    BAD_CERTIFICATE = 42, "bad_certificate";
    /// A certificate has an unsuitable type or purpose.
    UNSUPPORTED_CERTIFICATE = 43, "unsupported_certificate";
    /// A certificate was revoked.
    CERTIFICATE_REVOKED = 44, "certificate_revoked";
    /// A certificate is not valid now.
    CERTIFICATE_EXPIRED = 45, "certificate_expired";
    /// Some other fault of a certificate.
    CERTIFICATE_UNKNOWN = 46, "certificate_unknown";
    /// A field was out of range or inconsistent with others.
    ILLEGAL_PARAMETER = 47, "illegal_parameter";
    /// The chain leads to no trusted authority.
    UNKNOWN_CA = 48, "unknown_ca";
    /// The certificate is good, but its holder is not admitted.
    ACCESS_DENIED = 49, "access_denied";
    /// A message could not be decoded.
    DECODE_ERROR = 50, "decode_error";
    /// A signature or a Finished did not verify.
    DECRYPT_ERROR = 51, "decrypt_error";
    /// A second ClientHello asked for less than the first, which looked like a downgrade.
    INAPPROPRIATE_FALLBACK = 86, "inappropriate_fallback";
    /// The version offered is not supported.
    PROTOCOL_VERSION = 70, "protocol_version";
    /// Nothing that both ends accept was strong enough.
    INSUFFICIENT_SECURITY = 71, "insufficient_security";
    /// The sender failed for a reason of its own.
    INTERNAL_ERROR = 80, "internal_error";
    /// The handshake was cancelled for a reason outside the protocol.
    USER_CANCELED = 90, "user_canceled";
    /// A request to renegotiate is refused; always a warning.
    NO_RENEGOTIATION = 100, "no_renegotiation";
    /// A ServerHello carried an extension that was not offered.
    UNSUPPORTED_EXTENSION = 110, "unsupported_extension";
    /// An extension that was required is missing.
    MISSING_EXTENSION = 109, "missing_extension";
    /// The server name is not known.
    UNRECOGNIZED_NAME = 112, "unrecognized_name";
    /// An OCSP response was not acceptable.
    BAD_CERTIFICATE_STATUS_RESPONSE = 113, "bad_certificate_status_response";
    /// There is no pre-shared key for that identity.
    UNKNOWN_PSK_IDENTITY = 115, "unknown_psk_identity";
    /// A certificate was required and none was sent.
    CERTIFICATE_REQUIRED = 116, "certificate_required";
    /// There is no application protocol in common.
    NO_APPLICATION_PROTOCOL = 120, "no_application_protocol";
}

/// Level and description of an alert, if it is one.
pub(crate) fn parse_alert(content: &[u8]) -> Option<(AlertLevel, AlertDescription)> {
    let [level, description] = content else { return None };
    AlertLevel::from_code(*level).map(|level| (level, AlertDescription(*description)))
}
