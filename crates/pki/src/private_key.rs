//! Private keys in files: PKCS #8 (RFC 5958) or SEC 1 (RFC 5915), with or without the public key. All are converted to the form that `ring` and
//! the engines accept: PKCS #8 with its public key.

use std::fmt;

use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

use crate::algorithm::{AlgorithmError, Curve};
use crate::der::{DerError, Reader, Tag};
use crate::oid;

/// A private key as PKCS#8 DER, wiped when dropped.
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// Generates a new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`]: the source failed.
    pub fn generate(curve: Curve, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(signing(curve), random).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self::from_pkcs8(document.as_ref().to_vec()))
    }

    /// Reads a key on P-256 or P-384 from the DER of PKCS #8 or of SEC 1. The public key is computed; if the file contains one, it must be
    /// the same.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn read(der: &[u8]) -> Result<Self, KeyError> {
        let found = DerFields::read(der)?;
        let key = found.with_public_key()?;
        let computed = &key.pkcs8()[key.pkcs8().len() - found.curve.point_len()..];
        let same = found.public.into_iter().flatten().all(|given| is_point(given, computed));
        if same { Ok(key) } else { Err(KeyError::PublicKey) }
    }

    /// Wraps a key in the form that [`Self::generate`] and [`Self::read`] return: PKCS#8 with its public key. It is checked when it
    /// is used: [`crate::SigningKey::from_pkcs8`].
    #[must_use]
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The curve and the private number, big-endian, with the length of the curve's order.
    pub(crate) fn scalar(&self) -> Result<(Curve, &[u8]), KeyError> {
        let fields = DerFields::read(&self.0)?;
        Ok((fields.curve, fields.scalar))
    }

    /// The PKCS#8 DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// The contents of a private key's DER.
struct DerFields<'a> {
    curve: Curve,
    /// Big-endian, with the length of the curve's order.
    scalar: &'a [u8],
    /// Points: from the ECPrivateKey, and from the OneAsymmetricKey around it.
    public: [Option<&'a [u8]>; 2],
}

impl<'a> DerFields<'a> {
    fn read(der: &'a [u8]) -> Result<Self, KeyError> {
        let mut fields = Reader::sequence(der)?;
        if fields.peek() != Some(Tag::INTEGER) {
            return Err(KeyError::NotAKey);
        }
        let version = fields.expect(Tag::INTEGER)?;
        match fields.peek() {
            Some(Tag::SEQUENCE) => Self::read_pkcs8(version, fields),
            Some(Tag::OCTET_STRING) => Self::read_sec1(version, fields, None),
            // RFC 8017, appendix A.1.2, and OpenSSL's format for DSA: nine or six integers.
            Some(Tag::INTEGER) => {
                let mut integers = 1;
                while fields.expect(Tag::INTEGER).is_ok() {
                    integers += 1;
                }
                let kind = if integers > 6 { "RSA" } else { "DSA" };
                Err(AlgorithmError::UnsupportedKey { kind }.into())
            }
            _ => Err(KeyError::NotAKey),
        }
    }

    /// RFC 5958 §2: version, algorithm, key, `attributes [0]`, in version 2 `publicKey [1]`.
    fn read_pkcs8(version: &[u8], mut fields: Reader<'a>) -> Result<Self, KeyError> {
        if !matches!(version, [0 | 1]) {
            return Err(KeyError::Version);
        }
        let mut algorithm = fields.nested(Tag::SEQUENCE)?;
        let kind = algorithm.oid()?;
        if kind != oid::EC_PUBLIC_KEY {
            return Err(AlgorithmError::UnsupportedKey { kind: oid::key_name(kind) }.into());
        }
        let curve = named_curve(algorithm)?;
        let inner = fields.expect(Tag::OCTET_STRING)?;
        fields.optional(Tag::context_constructed(0))?;
        let outer = fields.optional(Tag::context(1))?;
        fields.finish()?;
        let mut inner = Reader::sequence(inner)?;
        let version = inner.expect(Tag::INTEGER)?;
        let found = Self::read_sec1(version, inner, Some(curve))?;
        let outer = outer.map(whole_octets).transpose()?;
        Ok(Self { public: [found.public[0], outer], ..found })
    }

    /// RFC 5915 §3: version 1, privateKey, `parameters [0]`, `publicKey [1]`. The parameters may be omitted inside PKCS #8, which names the
    /// curve.
    fn read_sec1(version: &[u8], mut fields: Reader<'a>, outer: Option<Curve>) -> Result<Self, KeyError> {
        if version != [1] {
            return Err(KeyError::Version);
        }
        let scalar = fields.expect(Tag::OCTET_STRING)?;
        let inner = fields.optional(Tag::context_constructed(0))?;
        let inner = inner.map(|parameters| named_curve(Reader::new(parameters))).transpose()?;
        let curve = match (outer, inner) {
            (Some(outer), Some(inner)) if outer != inner => return Err(KeyError::TwoCurves { outer, inner }),
            (outer, inner) => inner.or(outer).ok_or(KeyError::NoCurve)?,
        };
        let public = fields.optional(Tag::context_constructed(1))?;
        fields.finish()?;
        let public = public.map(|explicit| Reader::new(explicit).octets_of_bit_string()).transpose()?;
        if scalar.len() != scalar_len(curve) {
            return Err(KeyError::Length { curve, octets: scalar.len() });
        }
        Ok(Self { curve, scalar, public: [public, None] })
    }

    /// `ring` has no function that computes a public key, but it computes one when it generates a key: the first number from its source
    /// that is in range becomes the private key. A source that returns this private key makes it compute the pair, in constant time.
    #[allow(
        deprecated,
        reason = "ring seals SecureRandom; the source that its own tests use is the one that gives what it is told"
    )]
    fn with_public_key(&self) -> Result<PrivateKey, KeyError> {
        debug_assert_eq!(self.scalar.len(), scalar_len(self.curve), "the source gives this many octets at a time");
        let source = ring::test::rand::FixedSliceRandom { bytes: self.scalar };
        PrivateKey::generate(self.curve, &source).map_err(|_| KeyError::Range { curve: self.curve })
    }
}

/// The only allowed `parameters`: RFC 5480 §2.1.1 forbids implicitCurve and specifiedCurve.
fn named_curve(mut parameters: Reader<'_>) -> Result<Curve, KeyError> {
    if parameters.peek() != Some(Tag::OID) {
        return Err(AlgorithmError::UnnamedCurve.into());
    }
    let named = parameters.oid()?;
    parameters.finish()?;
    let known = [Curve::P256, Curve::P384].into_iter().find(|curve| curve.oid() == named);
    known.ok_or_else(|| AlgorithmError::UnsupportedCurve { curve: oid::curve_name(named) }.into())
}

/// RFC 5915 §3: "of length ceiling (log2(n)/8) (where n is the order of the curve)".
const fn scalar_len(curve: Curve) -> usize {
    curve.point_len() / 2
}

/// The contents of an IMPLICIT BIT STRING.
fn whole_octets(contents: &[u8]) -> Result<&[u8], DerError> {
    match contents {
        [0, octets @ ..] => Ok(octets),
        _ => Err(DerError::BitString),
    }
}

/// Whether `given` is this uncompressed point. The compressed form (SEC 1 §2.3.3) is 02 or 03, by the last bit of Y,
/// and X.
fn is_point(given: &[u8], uncompressed: &[u8]) -> bool {
    let (x, y) = uncompressed[1..].split_at(uncompressed.len() / 2);
    let compressed = |tag: u8| tag == 2 | (y[y.len() - 1] & 1);
    given == uncompressed || given.split_first().is_some_and(|(&tag, rest)| compressed(tag) && rest == x)
}

/// How `ring` signs with a key on this curve.
pub(crate) const fn signing(curve: Curve) -> &'static ring::signature::EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// Not DER.
    Der(DerError),
    /// DER, but neither PKCS #8 nor SEC 1.
    NotAKey,
    /// A version that is not defined.
    Version,
    /// A key of another kind or on another curve.
    Algorithm(AlgorithmError),
    /// SEC 1 without the name of its curve.
    NoCurve,
    /// The key inside PKCS #8 is on another curve than PKCS #8 names.
    TwoCurves {
        /// The curve that PKCS #8 names.
        outer: Curve,
        /// The curve that the key names.
        inner: Curve,
    },
    /// The private key is longer or shorter than its curve requires.
    Length {
        /// The curve.
        curve: Curve,
        /// The length of the key.
        octets: usize,
    },
    /// The private key is zero, or not below the order of its curve.
    Range {
        /// The curve.
        curve: Curve,
    },
    /// The public key in the file belongs to another private key.
    PublicKey,
    /// The source of randomness failed.
    NoRandomness,
}

impl From<DerError> for KeyError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<AlgorithmError> for KeyError {
    fn from(error: AlgorithmError) -> Self {
        Self::Algorithm(error)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "the private key is not DER: {error}"),
            Self::NotAKey => f.write_str("this is not a PKCS #8 or SEC 1 private key"),
            Self::Version => f.write_str("the private key has an undefined version (RFC 5958 §2, RFC 5915 §3)"),
            Self::Algorithm(error) => error.fmt(f),
            Self::NoCurve => f.write_str("the private key does not name its curve (RFC 5915 §3)"),
            Self::TwoCurves { outer, inner } => {
                write!(f, "the private key is on {inner}, but PKCS #8 says {outer}")
            }
            Self::Length { curve, octets } => {
                write!(f, "the private key has {octets} octets; on {curve} it has {} (RFC 5915 §3)", scalar_len(*curve))
            }
            Self::Range { curve } => write!(f, "the private key is zero, or not less than the order of {curve}"),
            Self::PublicKey => f.write_str("the public key stored with the private key belongs to another private key"),
            Self::NoRandomness => f.write_str("the source of randomness failed"),
        }
    }
}

impl std::error::Error for KeyError {}
