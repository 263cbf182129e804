//! The functions of EST that end in a certificate.

/// What the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `/sen`: a certificate, on the strength of a manufacturer's or one of this CA (RFC 7030 §4.2.1, RFC 9148 §4.4).
    SimpleEnroll,
    /// `/sren`: a successor to the certificate that the client authenticated with (RFC 7030 §4.2.2).
    SimpleReenroll,
}
