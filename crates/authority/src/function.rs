//! The functions of EST that end in a certificate.

/// What the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `/sen`: a certificate, on the strength of a manufacturer's or one of this CA (RFC 7030 §4.2.1, RFC 9148 §4.4).
    SimpleEnroll,
    /// `/sren`: a successor to the certificate that the client authenticated with (RFC 7030 §4.2.2).
    SimpleReenroll,
    /// `/skg` and `/skc`: a certificate and its key, which the server makes (RFC 7030 §4.4, RFC 9148 §4.8). With a certificate of this CA it
    /// is a renewal, else a first enrolment.
    ServerKeygen,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SimpleEnroll, Self::SimpleReenroll, Self::ServerKeygen];
}
