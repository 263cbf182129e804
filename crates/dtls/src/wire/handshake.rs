//! The handshake header (RFC 6347 §4.2.2): every message of the handshake may come in fragments, each with this header.

use std::fmt;

use super::codec::{Malformed, Reader, u24};

/// Type of a handshake message (RFC 5246 §7.4, RFC 6347 §4.3.2), as its code point.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandshakeType(pub u8);

macro_rules! handshake_types {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        impl HandshakeType {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

            /// Name in RFC 5246; `"unknown"` for others.
            pub const fn name(self) -> &'static str {
                match self.0 { $($code => $name,)* _ => "unknown" }
            }
        }
    };
}

handshake_types! {
    /// Asks for a renegotiation.
    HELLO_REQUEST = 0, "HelloRequest";
    /// Begins a handshake.
    CLIENT_HELLO = 1, "ClientHello";
    /// Chooses from what was offered.
    SERVER_HELLO = 2, "ServerHello";
    /// Requests a proof of the address (RFC 6347 §4.2.1).
    HELLO_VERIFY_REQUEST = 3, "HelloVerifyRequest";
    /// A chain.
    CERTIFICATE = 11, "Certificate";
    /// The server's ephemeral key and its signature over it.
    SERVER_KEY_EXCHANGE = 12, "ServerKeyExchange";
    /// Asks the client for its chain.
    CERTIFICATE_REQUEST = 13, "CertificateRequest";
    /// The server's flight is done.
    SERVER_HELLO_DONE = 14, "ServerHelloDone";
    /// The client's signature over the handshake.
    CERTIFICATE_VERIFY = 15, "CertificateVerify";
    /// The client's ephemeral key.
    CLIENT_KEY_EXCHANGE = 16, "ClientKeyExchange";
    /// The first protected message.
    FINISHED = 20, "Finished";
}

impl fmt::Debug for HandshakeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// Type, length, message_seq, fragment_offset, fragment_length.
pub(crate) const HANDSHAKE_HEADER_BYTES: usize = 12;

/// One fragment, or one whole message, with lengths that fit together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: HandshakeType,
    /// Bytes of the whole message.
    pub(crate) length: usize,
    pub(crate) message_seq: u16,
    pub(crate) offset: usize,
    pub(crate) body: &'a [u8],
}

impl<'a> Fragment<'a> {
    pub(crate) fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let kind = HandshakeType(reader.u8()?);
        let length = reader.u24()?;
        let message_seq = reader.u16()?;
        let offset = reader.u24()?;
        let fragment_length = reader.u24()?;
        let body = reader.take(fragment_length)?;
        // 24-bit values: the sum cannot overflow a usize.
        if offset + fragment_length > length {
            return Err(Malformed);
        }
        Ok(Self { kind, length, message_seq, offset, body })
    }

    pub(crate) const fn is_whole(&self) -> bool {
        self.body.len() == self.length
    }
}

/// The header of a fragment of `fragment_length` bytes from `offset` on, of a message of `length` bytes.
pub(crate) fn handshake_header(
    kind: HandshakeType,
    message_seq: u16,
    length: usize,
    offset: usize,
    fragment_length: usize,
) -> [u8; HANDSHAKE_HEADER_BYTES] {
    let mut header = [0; HANDSHAKE_HEADER_BYTES];
    header[0] = kind.0;
    header[1..4].copy_from_slice(&u24(length));
    header[4..6].copy_from_slice(&message_seq.to_be_bytes());
    header[6..9].copy_from_slice(&u24(offset));
    header[9..].copy_from_slice(&u24(fragment_length));
    header
}
