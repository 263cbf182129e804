//! Signing keys and their ECDSA signatures. Randomness is an argument of each operation.
//!
//! `ring`'s copy of the key inside a [`SigningKey`] is not zeroized; the PKCS#8 in a [`PrivateKey`] is.

use std::fmt;

use ring::rand::SecureRandom;
use ring::signature::{EcdsaKeyPair, KeyPair};

use crate::algorithm::{Curve, PublicKey, SignatureAlgorithm};
use crate::der::{DerError, Reader, Tag, check_strict};
use crate::private_key::{KeyError, PrivateKey, signing};

/// An ECDSA key that signs certificates and requests.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    curve: Curve,
    spki: Vec<u8>,
}

impl SigningKey {
    /// Reads a key, either in the form of [`PrivateKey`], which is used unchanged, or in any other form that [`PrivateKey::read`] accepts. `ring`
    /// checks that private and public key match.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with the key.
    pub fn from_pkcs8(pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Self, KeyError> {
        match Self::of_pair(pkcs8, random) {
            Some(key) => Ok(key),
            None => Self::of_pair(PrivateKey::read(pkcs8)?.pkcs8(), random).ok_or(KeyError::NoRandomness),
        }
    }

    fn of_pair(pkcs8: &[u8], random: &dyn SecureRandom) -> Option<Self> {
        [Curve::P256, Curve::P384].into_iter().find_map(|curve| {
            let pair = EcdsaKeyPair::from_pkcs8(signing(curve), pkcs8, random).ok()?;
            let spki = PublicKey::new(curve, pair.public_key().as_ref()).ok()?.to_spki();
            Some(Self { pair, curve, spki })
        })
    }

    /// The key's public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey<'_> {
        PublicKey::new(self.curve, self.pair.public_key().as_ref()).expect("ring gives uncompressed points")
    }

    /// The uncompressed point of the public half.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The SubjectPublicKeyInfo of the public half.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The algorithm of the signatures.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.curve.algorithm()
    }

    /// Signs `message` (which is hashed here).
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`]: the source failed.
    pub fn sign(&self, random: &dyn SecureRandom, message: &[u8]) -> Result<Signature, KeyError> {
        let signature = self.pair.sign(random, message).map_err(|_| KeyError::NoRandomness)?;
        Ok(Signature::of(signature.as_ref()).expect("ring's ECDSA signatures have at most 104 bytes"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// The longest ECDSA-Sig-Value on our curves: two integers of 49 bytes on P-384.
const SIGNATURE_BYTES_MAX: usize = 104;

/// An ECDSA signature as DER (ECDSA-Sig-Value, RFC 5480 appendix A), held in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    bytes: [u8; SIGNATURE_BYTES_MAX],
    len: usize,
}

impl Signature {
    /// A signature from outside the process: strict DER of two positive integers, and not too long. It is not verified here.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        check_values(der).map_err(|error| match der.len() {
            // Without a SEQUENCE header, these are the raw integers: two of 32 or of 48 octets.
            64 | 96 if Reader::sequence(der).is_err() => SignatureError::Raw { octets: der.len() },
            _ => error,
        })?;
        Self::of(der)
    }

    fn of(der: &[u8]) -> Result<Self, SignatureError> {
        let mut bytes = [0; SIGNATURE_BYTES_MAX];
        bytes.get_mut(..der.len()).ok_or(SignatureError::TooLong)?.copy_from_slice(der);
        Ok(Self { bytes, len: der.len() })
    }

    /// The DER.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.len)
    }
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3): a SEQUENCE of r and s.
fn check_values(der: &[u8]) -> Result<(), SignatureError> {
    check_strict(der).map_err(SignatureError::NotDer)?;
    let mut values = Reader::sequence(der).map_err(SignatureError::NotDer)?;
    for _ in ["r", "s"] {
        if values.expect(Tag::INTEGER).map_err(SignatureError::NotDer)?.first().is_none_or(|first| first & 0x80 != 0) {
            return Err(SignatureError::Negative);
        }
    }
    values.finish().map_err(SignatureError::NotDer)
}

/// Why bytes are not an ECDSA signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureError {
    /// r and s concatenated, without DER.
    Raw {
        /// Their length in octets.
        octets: usize,
    },
    /// Not strict DER: often r or s is padded to the length of the curve.
    NotDer(DerError),
    /// r or s is negative: its first bit is set, and the leading octet 00 is missing.
    Negative,
    /// Longer than any signature on our curves.
    TooLong,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw { octets } => write!(
                f,
                "the ECDSA signature is not DER: {octets} octets, as r and s have without DER; it has to be a SEQUENCE of two \
                 INTEGER (RFC 3279 §2.2.3)"
            ),
            Self::NotDer(error) => write!(f, "the ECDSA signature is not DER: {error}"),
            Self::Negative => f.write_str("the ECDSA signature is not DER of two positive INTEGER: r or s is negative"),
            Self::TooLong => f.write_str("the ECDSA signature is longer than any P-256 or P-384 signature"),
        }
    }
}

impl std::error::Error for SignatureError {}
