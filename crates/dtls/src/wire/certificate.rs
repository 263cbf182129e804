//! Certificate, CertificateRequest, CertificateVerify (RFC 5246 §7.4.2, §7.4.4, §7.4.8).

use super::codec::{
    CodePoints, Malformed, Reader, code_points, put_u16, with_length_8, with_length_16, with_length_24,
};
use crate::crypto::SignatureScheme;
use crate::limits::{CERTIFICATES_MAX, HANDSHAKE_MESSAGE_BYTES_MAX};

/// A certificate_list: DER, leaf first, at most [`CERTIFICATES_MAX`]. It stores the ranges of the certificates in the transcript, which holds
/// the message anyway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CertificateChain {
    places: [(usize, usize); CERTIFICATES_MAX],
    count: usize,
}

/// Why a Certificate message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainFault {
    Malformed,
    TooMany,
}

impl From<Malformed> for ChainFault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl CertificateChain {
    /// Reads the body of a Certificate that lies at `at` in the bytes for [`Self::with_slices`].
    pub(crate) fn parse(body: &[u8], at: usize) -> Result<Self, ChainFault> {
        let mut places = [(0, 0); CERTIFICATES_MAX];
        let mut count = 0;
        let mut outer = Reader::new(body);
        let mut list = Reader::new(outer.vector_24()?);
        outer.end()?;
        while !list.is_empty() {
            let der = list.vector_24()?;
            // "opaque ASN.1Cert<1..2^24-1>"
            if der.is_empty() {
                return Err(ChainFault::Malformed);
            }
            let end = at + body.len() - list.remaining();
            *places.get_mut(count).ok_or(ChainFault::TooMany)? = (end - der.len(), end);
            count += 1;
        }
        Ok(Self { places, count })
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Lends the certificates as slices of `bytes`, without a list on the heap.
    pub(crate) fn with_slices<T>(&self, bytes: &[u8], with: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut slices: [&[u8]; CERTIFICATES_MAX] = [&[]; CERTIFICATES_MAX];
        for (slice, (start, end)) in slices.iter_mut().zip(&self.places) {
            *slice = &bytes[*start..*end];
        }
        with(&slices[..self.count])
    }
}

/// The body of a Certificate with an empty certificate_list.
pub(crate) const NO_CERTIFICATES: &[u8] = &[0; 3];

/// The body of a Certificate.
pub(crate) fn encode_certificate(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + chain.iter().map(|der| der.len() + 3).sum::<usize>());
    with_length_24(&mut out, |out| {
        for der in chain {
            with_length_24(out, |out| out.extend_from_slice(der));
        }
    });
    out
}

/// A server's request for a client certificate.
pub(crate) struct CertificateRequest<'a> {
    certificate_types: &'a [u8],
    signature_algorithms: CodePoints<'a>,
}

/// ecdsa_sign (RFC 8422 §5.5).
const ECDSA_SIGN: u8 = 64;

impl<'a> CertificateRequest<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let certificate_types = reader.vector_8()?;
        let signature_algorithms = code_points(reader.vector_16()?)?;
        let mut authorities = Reader::new(reader.vector_16()?);
        while !authorities.is_empty() {
            authorities.vector_16()?;
        }
        reader.end()?;
        Ok(Self { certificate_types, signature_algorithms })
    }

    /// Whether a key that signs with `scheme` satisfies the request.
    pub(crate) fn accepts(&self, scheme: SignatureScheme) -> bool {
        self.certificate_types.contains(&ECDSA_SIGN) && self.signature_algorithms.contains(scheme.code())
    }

    /// Appends a request that names these authorities.
    pub(crate) fn encode(out: &mut Vec<u8>, authorities: &[Vec<u8>]) {
        let start = out.len();
        with_length_8(out, |out| out.push(ECDSA_SIGN));
        with_length_16(out, |out| SignatureScheme::OFFERED.iter().for_each(|scheme| put_u16(out, scheme.code())));
        with_length_16(out, |out| {
            for name in authorities {
                // The list only helps a client to choose, and a shorter one does so too: names that do not fit a
                // message are left out.
                if out.len() - start + 2 + name.len() <= HANDSHAKE_MESSAGE_BYTES_MAX {
                    with_length_16(out, |out| out.extend_from_slice(name));
                }
            }
        });
    }

    /// The bytes that [`Self::encode`] appends, if it leaves out no name.
    pub(crate) fn bytes(authorities: &[Vec<u8>]) -> usize {
        let fixed = 1 + 1 + 2 + 2 * SignatureScheme::OFFERED.len() + 2;
        (fixed + authorities.iter().map(|name| 2 + name.len()).sum::<usize>()).min(HANDSHAKE_MESSAGE_BYTES_MAX)
    }
}

/// A signature over the handshake.
pub(crate) struct CertificateVerify<'a> {
    pub(crate) scheme: u16,
    pub(crate) signature: &'a [u8],
}

impl<'a> CertificateVerify<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let scheme = reader.u16()?;
        let signature = reader.vector_16()?;
        reader.end()?;
        Ok(Self { scheme, signature })
    }

    pub(crate) fn encode(scheme: SignatureScheme, signature: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + signature.len());
        put_u16(&mut out, scheme.code());
        with_length_16(&mut out, |out| out.extend_from_slice(signature));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_comes_back_as_it_was_sent() {
        let chain = vec![vec![1, 2, 3], vec![4], vec![5; 300]];
        let bytes = [&b"before"[..], &encode_certificate(&chain)].concat();
        let parsed = CertificateChain::parse(&bytes[6..], 6).unwrap();
        parsed.with_slices(&bytes, |slices| assert_eq!(slices, chain.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }

    #[test]
    fn a_request_says_how_long_it_is_and_leaves_out_names_that_do_not_fit() {
        assert_eq!(encode_certificate(&[]), NO_CERTIFICATES);
        let encoded = |authorities: &[Vec<u8>]| {
            let mut out = b"before".to_vec();
            CertificateRequest::encode(&mut out, authorities);
            out.split_off(6)
        };
        let names = [vec![1; 40], vec![2; 70]];
        assert_eq!(encoded(&names).len(), CertificateRequest::bytes(&names));
        assert_eq!(encoded(&[]).len(), CertificateRequest::bytes(&[]));
        let long = vec![vec![3; HANDSHAKE_MESSAGE_BYTES_MAX / 2]; 3];
        assert_eq!(encoded(&long), encoded(&long[..1]));
        assert_eq!(CertificateRequest::bytes(&long), HANDSHAKE_MESSAGE_BYTES_MAX);
        assert!(CertificateRequest::parse(&encoded(&long)).is_ok());
    }

    #[test]
    fn d64_more_than_ten_certificates_are_refused_before_anyone_looks_at_them() {
        let chain = vec![vec![1]; CERTIFICATES_MAX + 1];
        assert_eq!(CertificateChain::parse(&encode_certificate(&chain), 0).err(), Some(ChainFault::TooMany));
    }

    #[test]
    fn d61_certificate_lists_with_contradicting_lengths_do_not_decode() {
        let good = encode_certificate(&[vec![1, 2, 3]]);
        for end in 0..good.len() {
            assert!(CertificateChain::parse(&good[..end], 0).is_err());
        }
        let mut trailing = good.clone();
        trailing.push(0);
        assert!(CertificateChain::parse(&trailing, 0).is_err());
        assert!(CertificateChain::parse(&[0, 0, 3, 0, 0, 0], 0).is_err());
        assert!(CertificateChain::parse(&[0, 0, 0], 0).unwrap().is_empty());
    }
}
