//! The algorithms that Muster accepts, and nothing else: ECDSA with SHA-256 or SHA-384, on P-256 or P-384.
//!
//! RFC 9148 §3 makes secp256r1 mandatory; P-384 serves certification authorities. Curve and hash are independent: `openssl req` signs with
//! SHA-256 by default, also under a P-384 key, and a policy that names one hash for all keys signs with SHA-384 under P-256. SHA-1, MD5 and
//! RSA are refused before any cryptography runs.

use std::fmt;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::der::{DerError, Reader, Tag};
use crate::encoding::{Deviation, Reading};
use crate::oid;

/// A curve on the allow-list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
}

impl Curve {
    /// Bytes of an uncompressed point (RFC 5480 §2.2): 04, X, Y.
    #[must_use]
    pub const fn point_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
        }
    }

    /// The only signature algorithm that our own keys of this curve use.
    #[must_use]
    pub const fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 => SignatureAlgorithm::EcdsaWithSha256,
            Self::P384 => SignatureAlgorithm::EcdsaWithSha384,
        }
    }

    /// Its strength in bits (NIST SP 800-57 part 1, table 2).
    #[must_use]
    pub const fn security_bits(self) -> u16 {
        match self {
            Self::P256 => 128,
            Self::P384 => 192,
        }
    }

    pub(crate) const fn oid(self) -> oid::Oid<'static> {
        match self {
            Self::P256 => oid::SECP256R1,
            Self::P384 => oid::SECP384R1,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        })
    }
}

/// A signature algorithm on the allow-list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256
    EcdsaWithSha256,
    /// ecdsa-with-SHA384
    EcdsaWithSha384,
}

impl SignatureAlgorithm {
    /// The whole AlgorithmIdentifier. RFC 5758 §3.2: "the encoding MUST omit the parameters field".
    #[must_use]
    pub const fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaWithSha256 => &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaWithSha384 => &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        }
    }

    /// Reads a whole AlgorithmIdentifier.
    pub(crate) fn from_identifier(der: &[u8], reading: &mut Reading) -> Result<Self, AlgorithmError> {
        const ALL: [SignatureAlgorithm; 2] = [SignatureAlgorithm::EcdsaWithSha256, SignatureAlgorithm::EcdsaWithSha384];
        if let Some(found) = ALL.into_iter().find(|algorithm| algorithm.identifier() == der) {
            return Ok(found);
        }
        let mut identifier = Reader::sequence(der)?;
        let id = identifier.oid()?;
        let known = ALL.into_iter().find(|algorithm| algorithm.identifier().get(4..) == Some(id.contents()));
        let Some(known) = known else {
            return Err(AlgorithmError::UnsupportedSignature { algorithm: oid::signature_name(id) });
        };
        let null = identifier.rest() == [0x05, 0x00];
        if null && reading.lets(Deviation::NullParameters) {
            return Ok(known);
        }
        Err(AlgorithmError::SignatureParameters { null })
    }

    fn verification(self, curve: Curve) -> &'static dyn VerificationAlgorithm {
        match (self, curve) {
            (Self::EcdsaWithSha256, Curve::P256) => &ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaWithSha256, Curve::P384) => &ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaWithSha384, Curve::P256) => &ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaWithSha384, Curve::P384) => &ECDSA_P384_SHA384_ASN1,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaWithSha256 => "ecdsa-with-SHA256",
            Self::EcdsaWithSha384 => "ecdsa-with-SHA384",
        })
    }
}

/// A public key on the allow-list: the curve and its uncompressed point.
///
/// This type does not check that the point lies on the curve. `ring` checks it whenever the key verifies a signature or agrees
/// on a secret: a key off the curve verifies nothing. The proof of possession of a CSR is such a verification, so a key off
/// the curve never gets a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey<'a> {
    curve: Curve,
    point: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo (RFC 5480 §2).
    ///
    /// # Errors
    /// The key is of another kind or curve, or its point is compressed, at infinity or of the wrong length.
    pub fn from_spki(der: &'a [u8]) -> Result<Self, AlgorithmError> {
        let mut spki = Reader::sequence(der)?;
        let mut algorithm = spki.nested(Tag::SEQUENCE)?;
        let kind = algorithm.oid()?;
        if kind != oid::EC_PUBLIC_KEY {
            return Err(AlgorithmError::UnsupportedKey { kind: oid::key_name(kind) });
        }
        // RFC 5480 §2.1.1: implicitCurve and specifiedCurve MUST NOT be used in PKIX; namedCurve is an OID.
        if algorithm.peek() != Some(Tag::OID) {
            return Err(AlgorithmError::UnnamedCurve);
        }
        let named = algorithm.oid()?;
        algorithm.finish()?;
        let curve = [Curve::P256, Curve::P384].into_iter().find(|curve| curve.oid() == named);
        let curve = curve.ok_or(AlgorithmError::UnsupportedCurve { curve: oid::curve_name(named) })?;
        let point = spki.octets_of_bit_string()?;
        spki.finish()?;
        Self::new(curve, point)
    }

    /// A key from its uncompressed point.
    ///
    /// # Errors
    /// [`AlgorithmError::Point`] when the point is compressed, at infinity or of the wrong length.
    pub fn new(curve: Curve, point: &'a [u8]) -> Result<Self, AlgorithmError> {
        if point.len() != curve.point_len() || point[0] != 0x04 {
            return Err(AlgorithmError::Point { curve });
        }
        Ok(Self { curve, point })
    }

    /// The curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The uncompressed point: 04, X, Y.
    #[must_use]
    pub const fn point(&self) -> &'a [u8] {
        self.point
    }

    /// The whole SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        let mut out = crate::der::Writer::with_capacity(128);
        out.sequence(|out| {
            out.sequence(|out| {
                out.oid(oid::EC_PUBLIC_KEY);
                out.oid(self.curve.oid());
            });
            out.bit_string(self.point);
        });
        out.into_vec()
    }

    /// Verifies an ECDSA signature (DER) over `message` with the algorithm of this key's curve.
    ///
    /// # Errors
    /// [`AlgorithmError::BadSignature`]: the signature is wrong or not DER, or the point is not on the curve.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AlgorithmError> {
        self.verify_as(self.curve.algorithm(), message, signature)
    }

    /// Verifies a signature of this algorithm.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_as(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), AlgorithmError> {
        UnparsedPublicKey::new(algorithm.verification(self.curve), self.point)
            .verify(message, signature)
            .map_err(|_| AlgorithmError::BadSignature)
    }

    /// The key identifier of this key, see [`key_identifier`].
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        key_identifier(self.point)
    }

    /// The SHA-1 of the subjectPublicKey, by which the Trusted CA Indication names the key of an authority (RFC 6066 §6). It proves nothing:
    /// it only says which key is meant.
    #[must_use]
    pub fn trusted_ca_hash(&self) -> [u8; 20] {
        let mut out = [0; 20];
        out.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.point).as_ref());
        out
    }
}

/// The key identifier for a subjectPublicKey: method 1 of RFC 7093 §2, "the leftmost 160 bits of the SHA-256 hash of the value
/// of the BIT STRING subjectPublicKey (excluding the tag, length, and number of unused bits)". It replaces the SHA-1 of RFC
/// 5280 §4.2.1.2: it has the same size, and no certificate of ours depends on SHA-1.
#[must_use]
pub fn key_identifier(point: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(&digest(&SHA256, point).as_ref()[..20]);
    out
}

/// Why a key, an algorithm or a signature is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlgorithmError {
    /// Not the DER of a SubjectPublicKeyInfo.
    Der(DerError),
    /// The signature algorithm is not on the allow-list.
    UnsupportedSignature {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The algorithm is ECDSA and has parameters, which RFC 5758 forbids.
    SignatureParameters {
        /// The parameters are NULL.
        null: bool,
    },
    /// The key is not an elliptic-curve key.
    UnsupportedKey {
        /// Kind of the key.
        kind: &'static str,
    },
    /// The curve is not on the allow-list.
    UnsupportedCurve {
        /// Name of the curve.
        curve: &'static str,
    },
    /// The curve is not given by name.
    UnnamedCurve,
    /// The point is compressed, at infinity or of the wrong length for its curve.
    Point {
        /// The curve that the key claims.
        curve: Curve,
    },
    /// The signature does not verify, or the point is not on its curve.
    BadSignature,
}

impl From<DerError> for AlgorithmError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for AlgorithmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::UnsupportedSignature { algorithm } => {
                write!(
                    f,
                    "the signature algorithm is {algorithm}; accepted are ecdsa-with-SHA256 and ecdsa-with-SHA384"
                )
            }
            Self::SignatureParameters { null: true } => {
                f.write_str("ECDSA algorithm with NULL parameters, which must be absent (RFC 5758 §3.2)")
            }
            Self::SignatureParameters { null: false } => {
                f.write_str("ECDSA algorithm with parameters, which must be absent (RFC 5758 §3.2)")
            }
            Self::UnsupportedKey { kind } => {
                write!(f, "the key type is {kind}; accepted are elliptic-curve keys on P-256 and P-384")
            }
            Self::UnsupportedCurve { curve } => write!(f, "the key's curve is {curve}; accepted are P-256 and P-384"),
            Self::UnnamedCurve => f.write_str("the key's curve is not given by name (RFC 5480 §2.1.1)"),
            Self::Point { curve } => write!(f, "the public key is not an uncompressed point of {curve}"),
            Self::BadSignature => f.write_str("the signature does not verify"),
        }
    }
}

impl std::error::Error for AlgorithmError {}
