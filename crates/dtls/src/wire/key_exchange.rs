//! ServerKeyExchange and ClientKeyExchange for ECDHE_ECDSA (RFC 8422 §5.4, §5.7).

use super::codec::{Malformed, Reader, put_u16, with_length_8, with_length_16};
use crate::crypto::{Group, SignatureScheme};

/// ECCurveType named_curve (RFC 8422 §5.4).
const NAMED_CURVE: u8 = 3;

/// A server's ephemeral key and its signature over it.
pub(crate) struct ServerKeyExchange<'a> {
    pub(crate) named_curve: u16,
    pub(crate) point: &'a [u8],
    /// ServerECDHParams as received: the signature covers these bytes.
    pub(crate) parameters: &'a [u8],
    pub(crate) scheme: u16,
    pub(crate) signature: &'a [u8],
}

impl<'a> ServerKeyExchange<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        if reader.u8()? != NAMED_CURVE {
            return Err(Malformed);
        }
        let named_curve = reader.u16()?;
        let point = reader.vector_8()?;
        let parameters = &body[..body.len() - reader.remaining()];
        let scheme = reader.u16()?;
        let signature = reader.vector_16()?;
        reader.end()?;
        Ok(Self { named_curve, point, parameters, scheme, signature })
    }
}

/// Appends ServerECDHParams.
pub(crate) fn encode_ecdhe_parameters(out: &mut Vec<u8>, group: Group, point: &[u8]) {
    out.push(NAMED_CURVE);
    put_u16(out, group.code());
    with_length_8(out, |out| out.extend_from_slice(point));
}

/// The bytes of ServerECDHParams.
pub(crate) const fn ecdhe_parameters_bytes(point: &[u8]) -> usize {
    1 + 2 + 1 + point.len()
}

/// Appends the body of a ServerKeyExchange.
pub(crate) fn encode_server_key_exchange(
    out: &mut Vec<u8>,
    (group, point): (Group, &[u8]),
    scheme: SignatureScheme,
    signature: &[u8],
) {
    encode_ecdhe_parameters(out, group, point);
    put_u16(out, scheme.code());
    with_length_16(out, |out| out.extend_from_slice(signature));
}

/// The bytes of the body of a ServerKeyExchange.
pub(crate) const fn server_key_exchange_bytes(point: &[u8], signature: &[u8]) -> usize {
    ecdhe_parameters_bytes(point) + 2 + 2 + signature.len()
}

/// A client's ephemeral key.
pub(crate) struct ClientKeyExchange<'a> {
    pub(crate) point: &'a [u8],
}

impl<'a> ClientKeyExchange<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let point = reader.vector_8()?;
        reader.end()?;
        Ok(Self { point })
    }
}

/// The body of a ClientKeyExchange.
pub(crate) fn encode_client_key_exchange(point: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + point.len());
    with_length_8(&mut out, |out| out.extend_from_slice(point));
    out
}
