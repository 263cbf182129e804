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

/// The body of a ServerKeyExchange.
pub(crate) fn encode_server_key_exchange(
    group: Group,
    point: &[u8],
    scheme: SignatureScheme,
    signature: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + point.len() + signature.len());
    encode_ecdhe_parameters(&mut out, group, point);
    put_u16(&mut out, scheme.code());
    with_length_16(&mut out, |out| out.extend_from_slice(signature));
    out
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
