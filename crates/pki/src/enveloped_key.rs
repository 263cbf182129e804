//! Server-generated keys that are encrypted to a key of the client (RFC 7030 §4.4.2, RFC 9148 §4.8): the payload of Content-Format 280.
//!
//! ```text
//! GeneratedKey --KeyPackage::prepare--> KeyPackage --(a signer)--> assemble --> SignedKey --seal--> ContentInfo
//!     ContentInfo { EnvelopedData { KEKRecipientInfo | KeyAgreeRecipientInfo, SignedData { AsymmetricKeyPackage { PKCS #8 } } } }
//! ContentInfo --open--> OpenedKey { PrivateKey, signer }
//! ```
//!
//! RFC 7030 §4.4.2: "the private key is placed inside of a CMS SignedData. The SignedData is signed by the party that generated the private key
//! [...]. The SignedData is further protected by placing it inside of a CMS EnvelopedData, as described in Section 4 of RFC5958." We write that.
//! RFC 9148 §4.8 can also be read so that the PKCS #8 itself is in the EnvelopedData: [`open()`] reads both. A key that nobody signed is
//! protected by DTLS alone against an exchange, because AES-CBC does not authenticate it; [`OpenedKey::signer`] is `None` then.
//!
//! Algorithms: AES-128 and AES-256 in CBC mode (RFC 3565), AES key wrap (RFC 3394), ECDH with the X9.63 KDF and SHA-256 (RFC 5753) on P-256 and
//! P-384. AES-GCM belongs to AuthEnvelopedData (RFC 5083, RFC 5084 §3), a content type that RFC 7030 does not name; key transport needs RSA. Both
//! are refused.
//!
//! Everything that holds a private key in plain is wiped. That is why the DER is written here and not by the crate `cms`: its types own copies
//! that are not wiped, its builders bring in RSA and SHA-1, and it cannot build a KEKRecipientInfo.

mod cipher;
mod open;
mod seal;
mod signed;

use std::fmt;

use crate::algorithm::{AlgorithmError, Curve, PublicKey};
use crate::certificate::CertificateError;
use crate::der::{DerError, DerLimits};
use crate::oid::{self, Oid};
use crate::private_key::KeyError;

pub(crate) use open::open_content;
pub use open::{DecryptionKey, OpenedKey, check_enveloped, open};
pub use seal::{EnvelopeSecrets, seal};
pub use signed::{KeyPackage, SignedKey};

/// Ours has about 1.2 KiB with a certificate. A signer may add the certificates of its chain.
const ENVELOPE_LIMITS: DerLimits = DerLimits { bytes_max: 16_384, elements_max: 512 };

/// To whom a key is encrypted. The identifier is the one that the request named ([`crate::KeyProtection`]).
#[derive(Clone, Copy)]
pub enum KeyRecipient<'a> {
    /// A key-encryption key that both ends have: RFC 7030 §4.4.2, "the kekri key management technique".
    Kek {
        /// DecryptKeyIdentifier: "key-encryption key identifier (kekid) is set to the value of the DecryptKeyIdentifier".
        id: &'a [u8],
        /// 16 or 32 octets.
        key: &'a [u8],
    },
    /// A static key pair of the client: "the KeyAgreeRecipientInfo (kari) key management technique".
    KeyAgreement {
        /// AsymmetricDecryptKeyIdentifier: "The recipient's key identifier is [...] copied from the attribute".
        id: &'a [u8],
        /// Its public half.
        public_key: PublicKey<'a>,
    },
}

impl fmt::Debug for KeyRecipient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kek { .. } => "Kek(..)",
            Self::KeyAgreement { .. } => "KeyAgreement(..)",
        })
    }
}

/// An AES key length, which decides the cipher and the key wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AesStrength {
    /// AES-128
    Aes128,
    /// AES-256
    Aes256,
}

impl AesStrength {
    const ALL: [Self; 2] = [Self::Aes128, Self::Aes256];

    /// The strength of a key of this many octets.
    #[must_use]
    pub const fn of_key(octets: usize) -> Option<Self> {
        match octets {
            16 => Some(Self::Aes128),
            32 => Some(Self::Aes256),
            _ => None,
        }
    }

    pub(crate) const fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }

    /// Its strength in bits (NIST SP 800-57 part 1, table 2).
    #[must_use]
    pub const fn security_bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes256 => 256,
        }
    }

    const fn cbc(self) -> Oid<'static> {
        match self {
            Self::Aes128 => oid::AES128_CBC,
            Self::Aes256 => oid::AES256_CBC,
        }
    }

    const fn wrap(self) -> Oid<'static> {
        match self {
            Self::Aes128 => oid::AES128_WRAP,
            Self::Aes256 => oid::AES256_WRAP,
        }
    }
}

/// The algorithms of one envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnvelopeAlgorithms {
    /// The cipher of the content.
    pub content: AesStrength,
    /// The key wrap.
    pub wrap: AesStrength,
}

impl EnvelopeAlgorithms {
    /// Chooses from a client's capabilities ([`crate::KeyProtection::capabilities`]): of each kind the first one that is known here. RFC 7030
    /// §4.4.2: "keyEncryptionAlgorithm is set to one of the key wrap algorithms that the client included in the SMIMECapabilities". A client
    /// that names no cipher, or no key wrap, has not restricted it: then it gets the strength of the recipient's key.
    ///
    /// Nothing that is weaker than the `protected` key is chosen: "the cipher suite used to return the private key and certificate MUST offer
    /// confidentiality commensurate with the private key being delivered" (RFC 7030 §4.4) is said of what keeps the key secret, and that is the
    /// envelope here.
    ///
    /// `None`: the client asks for algorithms that cannot be given. Its request is refused, never answered in plain.
    #[must_use]
    pub fn choose(recipient: &KeyRecipient<'_>, capabilities: &[Oid<'_>], protected: Curve) -> Option<Self> {
        const SCHEMES: &[u8] = &[0x2b, 0x81, 0x04, 1]; // certicom schemes, 1.3.132.1
        const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
        let default = match recipient {
            KeyRecipient::Kek { key, .. } => AesStrength::of_key(key.len())?,
            KeyRecipient::KeyAgreement { public_key, .. } => match public_key.curve() {
                Curve::P256 => AesStrength::Aes128,
                Curve::P384 => AesStrength::Aes256,
            },
        };
        let is_enough = |strength: AesStrength| strength.security_bits() >= protected.security_bits();
        let is_wrap = |id: &Oid<'_>| matches!(id.contents().strip_prefix(AES), Some([5 | 25 | 45]));
        let is_cipher = |id: &Oid<'_>| id.contents().starts_with(AES) && !is_wrap(id);
        let pick = |is_kind: &dyn Fn(&Oid<'_>) -> bool, id_of: fn(AesStrength) -> Oid<'static>| {
            let mut kind = capabilities.iter().filter(|id| is_kind(id)).peekable();
            if kind.peek().is_none() {
                return Some(default).filter(|strength| is_enough(*strength));
            }
            let known = |id: &Oid<'_>| AesStrength::ALL.into_iter().find(|strength| id_of(*strength) == *id);
            kind.filter_map(known).find(|strength| is_enough(*strength))
        };
        let content = pick(&is_cipher, AesStrength::cbc)?;
        let wrap = match recipient {
            // The length of the shared key decides: the client must be able to unwrap with it.
            KeyRecipient::Kek { .. } => {
                let wraps = capabilities.iter().filter(|id| is_wrap(id)).count();
                let is_taken = wraps == 0 || capabilities.contains(&default.wrap());
                (is_taken && is_enough(default)).then_some(default)?
            }
            KeyRecipient::KeyAgreement { public_key, .. } => {
                // A key that is agreed on is no stronger than the curve that it is agreed on with.
                if public_key.curve().security_bits() < protected.security_bits() {
                    return None;
                }
                let named = capabilities.iter().any(|id| id.contents().starts_with(SCHEMES));
                if named && !capabilities.contains(&oid::ECDH_SHA256_KDF) {
                    return None;
                }
                pick(&is_wrap, AesStrength::wrap)?
            }
        };
        Some(Self { content, wrap })
    }
}

/// Why a key cannot be sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvelopedKeyError {
    /// Not strict DER, or not the structure of its definition.
    Der(DerError),
    /// Not an EnvelopedData.
    NotEnveloped,
    /// A version that does not belong to the structure.
    Version,
    /// No recipient with this identifier and of this kind.
    NoRecipient,
    /// A cipher, key wrap, key agreement, digest or signature that is not supported.
    Algorithm,
    /// The recipient's or the originator's key has the wrong length or curve, or is not a point of it.
    RecipientKey,
    /// The key cannot be unwrapped, or the content is not what was encrypted: another key, or changed octets.
    Decryption,
    /// What was encrypted is neither a SignedData, nor an AsymmetricKeyPackage, nor a PKCS #8.
    Content,
    /// There is not exactly one key, signer or signature.
    Several,
    /// The certificate of the signer is not there, or does not parse.
    Signer,
    /// The signature is not that of the signer over this key.
    Signature,
    /// The private key cannot be used.
    Key(KeyError),
    /// The source of randomness failed.
    NoRandomness,
}

impl From<DerError> for EnvelopedKeyError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<KeyError> for EnvelopedKeyError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<AlgorithmError> for EnvelopedKeyError {
    fn from(_: AlgorithmError) -> Self {
        Self::Signature
    }
}

impl From<CertificateError> for EnvelopedKeyError {
    fn from(_: CertificateError) -> Self {
        Self::Signer
    }
}

impl fmt::Display for EnvelopedKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Der(error) => return error.fmt(f),
            Self::Key(error) => return error.fmt(f),
            Self::NotEnveloped => "not a CMS EnvelopedData (RFC 5652 §6.1)",
            Self::Version => "a CMS version that does not match its contents (RFC 5652)",
            Self::NoRecipient => "the message is not encrypted to this key",
            Self::Algorithm => "an algorithm that is not supported",
            Self::RecipientKey => "the key of the recipient or of the originator does not fit",
            Self::Decryption => "the message cannot be decrypted with this key",
            Self::Content => "the content is not a private key (RFC 5958)",
            Self::Several => "there is not exactly one key and one signer",
            Self::Signer => "the certificate of the signer is missing or unreadable",
            Self::Signature => "the signature over the key does not verify",
            Self::NoRandomness => "the source of randomness failed",
        })
    }
}

impl std::error::Error for EnvelopedKeyError {}
