//! HelloVerifyRequest (RFC 6347 §4.2.1).

use super::codec::{Malformed, Reader, put_u16, with_length_8};
use super::registry::DTLS_1_0;

/// A server's request for a proof of the address.
pub(crate) struct HelloVerifyRequest<'a> {
    pub(crate) cookie: &'a [u8],
}

impl<'a> HelloVerifyRequest<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        // Its version only describes the format and does not take part in version negotiation (RFC 6347
        // §4.2.1).
        reader.u16()?;
        let cookie = reader.vector_8()?;
        reader.end()?;
        Ok(Self { cookie })
    }
}

/// Appends the body: "DTLS 1.2 server implementations SHOULD use DTLS version 1.0 regardless" (RFC 6347 §4.2.1).
pub(crate) fn encode_hello_verify_request(out: &mut Vec<u8>, cookie: &[u8]) {
    put_u16(out, DTLS_1_0);
    with_length_8(out, |out| out.extend_from_slice(cookie));
}
