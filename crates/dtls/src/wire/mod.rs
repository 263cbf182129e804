//! wire
mod codec;
mod handshake;
pub use handshake::HandshakeType;
/// What a ClientHello offered, bounded: for attempt records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// client_version; 0xFEFD is DTLS 1.2.
    pub version: u16,
    /// Cipher suites, the first 32.
    pub suites: Vec<u16>,
    /// Supported groups, the first 32.
    pub groups: Vec<u16>,
    /// Signature algorithms, the first 32.
    pub signature_algorithms: Vec<u16>,
    /// Whether extended_master_secret was offered.
    pub extended_master_secret: bool,
    /// The DNS name of server_name, if it is one.
    pub server_name: Option<Box<str>>,
}
pub(crate) struct HelloParameters<'a> { pub(crate) before_cookie: &'a [u8], pub(crate) after_cookie: &'a [u8] }
