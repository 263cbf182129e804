//! Keys that the server makes for a device (RFC 7030 §4.4, RFC 9148 §4.8).
//!
//! [`PrivateKey::generate`] is for keys that stay on the machine that makes them: `ring` does not wipe its copies. A key that is made here
//! leaves in the answer and exists nowhere else: RustCrypto's `p256` and `p384` wipe the secret, and every buffer here is wiped too. The
//! caller issues a certificate for [`GeneratedKey::public_key_info`] and delivers [`GeneratedKey::pkcs8`], as it is or encrypted
//! ([`crate::enveloped_key`]).

use std::fmt;

use p256::elliptic_curve::sec1::ToSec1Point;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::algorithm::{Curve, PublicKey};
use crate::csr::PublicKeyInfo;
use crate::der::{Tag, Writer};
use crate::oid;
use crate::private_key::{KeyError, PrivateKey};

/// Draws until the private key is in range. On P-256 one draw in 2^32 is not, on P-384 one in 2^194: a source that fails this often is broken.
const DRAWS_MAX: usize = 4;

/// The largest PKCS #8 here has 185 octets. The vector must not grow, because a vector that moves leaves its old octets behind.
const PKCS8_CAPACITY: usize = 256;

/// A new key pair; the private half is wiped when it is dropped.
pub struct GeneratedKey {
    private: PrivateKey,
    curve: Curve,
    spki: Vec<u8>,
}

impl GeneratedKey {
    /// Generates a key pair from the caller's source, by rejection sampling (FIPS 186-5, appendix A.2.2).
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`]: the source failed.
    pub fn generate(curve: Curve, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let mut scalar = Zeroizing::new([0; 48]);
        let scalar = &mut scalar[..curve.point_len() / 2];
        for _ in 0..DRAWS_MAX {
            random.fill(scalar).map_err(|_| KeyError::NoRandomness)?;
            if let Some(point) = public_point(curve, scalar) {
                let private = PrivateKey::from_pkcs8(pkcs8(curve, scalar, &point));
                let spki = PublicKey::new(curve, &point).map_err(KeyError::Algorithm)?.to_spki();
                return Ok(Self { private, curve, spki });
            }
        }
        Err(KeyError::NoRandomness)
    }

    /// The private key in PKCS #8 (RFC 5958 version 1, RFC 5915), with its public key inside the ECPrivateKey, as in appendix A.3 of RFC
    /// 9148: the payload of Content-Format 284.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        self.private.pkcs8()
    }

    /// The curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The SubjectPublicKeyInfo as a template fills it into a certificate, in place of the one of the request.
    #[must_use]
    pub fn public_key_info(&self) -> PublicKeyInfo {
        PublicKeyInfo::new(self.spki.clone())
    }

    /// The private key alone.
    #[must_use]
    pub fn into_private_key(self) -> PrivateKey {
        self.private
    }
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// The uncompressed point of a private key; `None` if the key is zero or not below the order of its curve.
fn public_point(curve: Curve, scalar: &[u8]) -> Option<Vec<u8>> {
    Some(match curve {
        Curve::P256 => p256::SecretKey::from_slice(scalar).ok()?.public_key().to_sec1_point(false).as_bytes().to_vec(),
        Curve::P384 => p384::SecretKey::from_slice(scalar).ok()?.public_key().to_sec1_point(false).as_bytes().to_vec(),
    })
}

fn pkcs8(curve: Curve, scalar: &[u8], point: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(PKCS8_CAPACITY);
    out.sequence(|out| {
        out.unsigned(&[0]);
        out.sequence(|algorithm| {
            algorithm.oid(oid::EC_PUBLIC_KEY);
            algorithm.oid(curve.oid());
        });
        out.nested(Tag::OCTET_STRING, |out| {
            out.sequence(|key| {
                key.unsigned(&[1]);
                key.element(Tag::OCTET_STRING, scalar);
                key.nested(Tag::context_constructed(1), |key| key.bit_string(point));
            });
        });
    });
    let der = out.into_vec();
    debug_assert_eq!(der.capacity(), PKCS8_CAPACITY, "it did not grow");
    der
}

#[cfg(test)]
#[allow(deprecated, reason = "ring seals SecureRandom; these are the sources that give what they are told")]
mod tests {
    use ring::test::rand::{FixedByteRandom, FixedSliceRandom};

    use super::*;
    use crate::der::check_strict;

    const EXAMPLE: &str = include_str!("../tests/vectors/rfc9148/skg-response-62.hex");

    /// The PKCS #8 in the answer of RFC 9148, appendix A.3, and the private key in it.
    fn example() -> (Vec<u8>, Vec<u8>) {
        let payload = hex::decode(EXAMPLE.split_whitespace().collect::<String>()).unwrap();
        let pkcs8 = payload[6..6 + 0x8a].to_vec();
        let scalar = pkcs8[36..68].to_vec();
        (pkcs8, scalar)
    }

    #[test]
    fn the_key_of_rfc_9148_is_made_octet_by_octet() {
        let (pkcs8, scalar) = example();
        let key = GeneratedKey::generate(Curve::P256, &FixedSliceRandom { bytes: &scalar }).unwrap();
        assert_eq!(key.pkcs8(), pkcs8);
    }

    #[test]
    fn ring_computes_the_same_pair() {
        for (curve, octets) in [(Curve::P256, 32), (Curve::P384, 48)] {
            for seed in 1..20 {
                let source = FixedByteRandom { byte: seed };
                let key = GeneratedKey::generate(curve, &source).unwrap();
                assert_eq!(check_strict(key.pkcs8()), Ok(()));
                let of_ring = PrivateKey::generate(curve, &FixedSliceRandom { bytes: &vec![seed; octets] }).unwrap();
                assert_eq!(key.pkcs8(), of_ring.pkcs8());
                assert_eq!(key.public_key_info().der(), key.spki());
            }
        }
    }

    /// Zero, and a number that is not below the order of the curve.
    #[test]
    fn a_broken_source_makes_no_key() {
        for curve in [Curve::P256, Curve::P384] {
            for byte in [0x00, 0xff] {
                let made = GeneratedKey::generate(curve, &FixedByteRandom { byte });
                assert_eq!(made.err(), Some(KeyError::NoRandomness));
            }
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = GeneratedKey::generate(Curve::P256, &FixedByteRandom { byte: 7 }).unwrap();
        assert_eq!(format!("{key:?}"), "GeneratedKey { curve: P256, .. }");
    }
}
