//! Keys and signatures: ECDSA on P-256 and P-384.

use std::fmt;

use ring::signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey};

use super::failure::OperationFailed;
use crate::random::Random;

/// The curves of certificates and key agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamedCurve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
}

impl NamedCurve {
    /// Code point of the registry "TLS Supported Groups".
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::P256 => 23,
            Self::P384 => 24,
        }
    }

    /// The curve of a code point.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            23 => Some(Self::P256),
            24 => Some(Self::P384),
            _ => None,
        }
    }

    /// Bytes of an uncompressed point: 4, x, y (SEC 1 §2.3.3).
    pub(crate) const fn point_bytes(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
        }
    }
}

/// Signature algorithms, with the code points that TLS 1.3 gave one name each. In TLS 1.2 such a code names hash and signature
/// algorithm and binds no curve (RFC 5246 §7.4.1.4.1): a P-384 key may sign with SHA-256, and OpenSSL's client does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// ECDSA with SHA-256.
    EcdsaSecp256r1Sha256,
    /// ECDSA with SHA-384.
    EcdsaSecp384r1Sha384,
}

impl SignatureScheme {
    /// The schemes that we offer and accept, in order of preference.
    pub(crate) const OFFERED: [Self; 2] = [Self::EcdsaSecp256r1Sha256, Self::EcdsaSecp384r1Sha384];

    /// Code point of the registry "TLS SignatureScheme".
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::EcdsaSecp256r1Sha256 => 0x0403,
            Self::EcdsaSecp384r1Sha384 => 0x0503,
        }
    }

    /// The scheme of a code point.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0x0403 => Some(Self::EcdsaSecp256r1Sha256),
            0x0503 => Some(Self::EcdsaSecp384r1Sha384),
            _ => None,
        }
    }
}

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EcdsaKeyFault {
    /// Not PKCS#8 of an elliptic-curve key that carries its public key (RFC 5958, RFC 5915).
    Encoding,
    /// Neither P-256 nor P-384, or a point of the wrong form.
    Curve,
}

impl fmt::Display for EcdsaKeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "not a PKCS#8 key on P-256 or P-384 with its public key inside",
            Self::Curve => "not an uncompressed point of P-256 or P-384",
        })
    }
}

impl std::error::Error for EcdsaKeyFault {}

/// An ECDSA signature in DER.
pub(crate) type Signature = signature::Signature;

/// A peer's public key: a curve and an uncompressed point.
#[derive(Clone, PartialEq, Eq)]
pub struct EcdsaPublicKey {
    curve: NamedCurve,
    point: [u8; NamedCurve::P384.point_bytes()],
}

impl EcdsaPublicKey {
    /// `point` is 4, x, y (SEC 1 §2.3.3). Whether it lies on the curve is checked where it is used.
    ///
    /// # Errors
    /// [`EcdsaKeyFault::Curve`] when length or form do not fit `curve`.
    pub fn new(curve: NamedCurve, point: &[u8]) -> Result<Self, EcdsaKeyFault> {
        if point.len() != curve.point_bytes() || point[0] != 4 {
            return Err(EcdsaKeyFault::Curve);
        }
        let mut bytes = [0; NamedCurve::P384.point_bytes()];
        bytes[..point.len()].copy_from_slice(point);
        Ok(Self { curve, point: bytes })
    }

    /// Its curve.
    #[must_use]
    pub fn curve(&self) -> NamedCurve {
        self.curve
    }

    /// The uncompressed point.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point[..self.curve.point_bytes()]
    }

    /// The check whether `signature` is valid under this key for `message`.
    pub(crate) fn check<'a>(
        &'a self,
        scheme: SignatureScheme,
        message: &'a [u8],
        signature: &'a [u8],
    ) -> SignatureCheck<'a> {
        SignatureCheck { curve: self.curve, point: self.point(), scheme, message, signature }
    }
}

/// One signature to be verified.
#[derive(Clone, Copy, Debug)]
pub struct SignatureCheck<'a> {
    /// The curve of the key.
    pub curve: NamedCurve,
    /// The key: an uncompressed point. A point of another form or off the curve verifies no signature.
    pub point: &'a [u8],
    /// Hash and algorithm.
    pub scheme: SignatureScheme,
    /// What was signed.
    pub message: &'a [u8],
    /// ECDSA-Sig-Value in DER.
    pub signature: &'a [u8],
}

impl SignatureCheck<'_> {
    fn holds(&self) -> bool {
        let algorithm = match (self.curve, self.scheme) {
            (NamedCurve::P256, SignatureScheme::EcdsaSecp256r1Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (NamedCurve::P256, SignatureScheme::EcdsaSecp384r1Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (NamedCurve::P384, SignatureScheme::EcdsaSecp256r1Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (NamedCurve::P384, SignatureScheme::EcdsaSecp384r1Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        };
        UnparsedPublicKey::new(algorithm, self.point).verify(self.message, self.signature).is_ok()
    }
}

/// The results of checks, in order. Only `run_many` makes them.
#[derive(Clone, Copy, Debug)]
pub struct Verdicts<'a>(&'a [bool]);

impl<'a> Verdicts<'a> {
    /// Whether each signature is good.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + 'a {
        self.0.iter().copied()
    }

    /// The first one, and the others.
    pub(crate) fn split_first(self) -> Option<(bool, Self)> {
        self.0.split_first().map(|(first, rest)| (*first, Self(rest)))
    }
}

/// What [`run_many`] found, in the order of the checks.
pub(crate) struct SignatureResults(Vec<bool>);

impl SignatureResults {
    /// The verdicts at `range`; empty if the range is out of bounds.
    pub(crate) fn at(&self, range: std::ops::Range<usize>) -> Verdicts<'_> {
        Verdicts(self.0.get(range).unwrap_or_default())
    }
}

/// Verifies the signatures of one round of judgements: those of one handshake if its steps run inline, or of all jobs given to one
/// [`crate::PublicKeyJob::run_many`] if steps are suspended. It verifies one after the other. All verification of the engine goes through
/// here, so batch verification has one place to be added.
pub(crate) fn run_many(checks: &[SignatureCheck<'_>]) -> SignatureResults {
    SignatureResults(checks.iter().map(SignatureCheck::holds).collect())
}

/// Whether these bytes are an ECDSA-Sig-Value in DER (RFC 3279 §2.2.3): a SEQUENCE of two positive INTEGERs without padding. Called only for
/// signatures that do not verify, to name the cause.
pub(crate) fn is_der_signature(bytes: &[u8]) -> bool {
    fn integer(bytes: &[u8]) -> Option<&[u8]> {
        let (&[tag, length], rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(length.into())?;
        let padded = matches!(value, [0, second, ..] if second & 0x80 == 0);
        let positive = value.first().is_some_and(|first| first & 0x80 == 0);
        (tag == 2 && length < 0x80 && positive && !padded).then_some(rest)
    }
    let Some((&[0x30, length], content)) = bytes.split_first_chunk() else { return false };
    // Two INTEGERs of 49 bytes are 102: the long form of a length is never needed.
    usize::from(length) == content.len() && integer(content).and_then(integer).is_some_and(<[u8]>::is_empty)
}

impl fmt::Debug for EcdsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcdsaPublicKey({:?})", self.curve)
    }
}

/// The private key of an identity. `ring` keeps the scalar and does not wipe it: see `SECURITY.md`.
pub struct EcdsaSigningKey {
    pair: EcdsaKeyPair,
    public: EcdsaPublicKey,
}

impl EcdsaSigningKey {
    /// Reads a PKCS#8 key (RFC 5958) on P-256 or P-384 that carries its public key, as OpenSSL writes it.
    ///
    /// # Errors
    /// [`EcdsaKeyFault::Encoding`] for anything else.
    pub fn from_pkcs8(pkcs8: &[u8], random: &dyn Random) -> Result<Self, EcdsaKeyFault> {
        let mut found = None;
        for (curve, algorithm) in [
            (NamedCurve::P256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            (NamedCurve::P384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        ] {
            random.with_secure(&mut |secure| {
                if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, secure) {
                    found = Some((curve, pair));
                }
            });
        }
        let (curve, pair) = found.ok_or(EcdsaKeyFault::Encoding)?;
        let public = EcdsaPublicKey::new(curve, pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &EcdsaPublicKey {
        &self.public
    }

    /// The only algorithm that this key signs with: the hash that fits its curve.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        match self.public.curve {
            NamedCurve::P256 => SignatureScheme::EcdsaSecp256r1Sha256,
            NamedCurve::P384 => SignatureScheme::EcdsaSecp384r1Sha384,
        }
    }

    pub(crate) fn sign(&self, message: &[u8], random: &dyn Random) -> Result<Signature, OperationFailed> {
        let mut signed = None;
        random.with_secure(&mut |secure| signed = self.pair.sign(secure, message).ok());
        signed.ok_or(OperationFailed)
    }
}

impl fmt::Debug for EcdsaSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcdsaSigningKey({:?})", self.public.curve)
    }
}
