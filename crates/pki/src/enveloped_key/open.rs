//! Opens an EnvelopedData on the client's side, in both readings of RFC 9148 §4.8.

use std::fmt;

use super::cipher::{AesKey, shared_kek};
use super::signed::{only_key, verify};
use super::{AesStrength, ENVELOPE_LIMITS, EnvelopedKeyError};
use crate::algorithm::PublicKey;
use crate::certificate::Certificate;
use crate::der::{Reader, Tag, check_within};
use crate::oid::{self, Oid};
use crate::private_key::PrivateKey;

/// Recipients in one message. There is one; a few more are the server's affair.
const RECIPIENTS_MAX: usize = 8;

/// The client's key, and the identifier that its request named.
#[derive(Clone, Copy)]
pub enum DecryptionKey<'a> {
    /// The key-encryption key with this DecryptKeyIdentifier.
    Kek {
        /// The identifier.
        id: &'a [u8],
        /// 16 or 32 octets.
        key: &'a [u8],
    },
    /// The private key with this AsymmetricDecryptKeyIdentifier.
    KeyAgreement {
        /// The identifier.
        id: &'a [u8],
        /// The key.
        key: &'a PrivateKey,
    },
}

impl fmt::Debug for DecryptionKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kek { .. } => "Kek(..)",
            Self::KeyAgreement { .. } => "KeyAgreement(..)",
        })
    }
}

/// An opened key.
#[derive(Debug)]
pub struct OpenedKey {
    /// The private key. Whether it belongs to the certificate beside it is the caller's check.
    pub key: PrivateKey,
    /// The certificate whose key signed the package; the signature is verified, whether the certificate is trusted is the caller's decision.
    /// `None`: nobody signed it.
    pub signer: Option<Certificate>,
}

/// Decrypts the payload of Content-Format 280 and verifies the signature in it. `known` are certificates that the caller has, for a message that
/// does not carry the signer's.
///
/// # Errors
/// [`EnvelopedKeyError`].
pub fn open(
    message: &[u8],
    decryption: &DecryptionKey<'_>,
    known: &[&Certificate],
) -> Result<OpenedKey, EnvelopedKeyError> {
    let (recipients, mut content) = read_envelope(message)?;
    let content_type = content.oid()?;
    let mut algorithm = content.nested(Tag::SEQUENCE)?;
    let cipher = algorithm.oid()?;
    let cipher = AesStrength::ALL.into_iter().find(|strength| strength.cbc() == cipher);
    let cipher = cipher.ok_or(EnvelopedKeyError::Algorithm)?;
    let iv = algorithm.expect(Tag::OCTET_STRING)?;
    algorithm.finish()?;
    let ciphertext = content.expect(Tag::context(0))?;
    content.finish()?;

    let content_key = content_key(recipients, decryption)?;
    if content_key.strength() != cipher {
        return Err(EnvelopedKeyError::Decryption);
    }
    let plaintext = content_key.decrypt(iv, ciphertext).ok_or(EnvelopedKeyError::Decryption)?;
    open_content(content_type, &plaintext, known)
}

/// Checks that this is an EnvelopedData, without opening it: a Registrar passes it on and has no key to it.
///
/// # Errors
/// [`EnvelopedKeyError`].
pub fn check_enveloped(message: &[u8]) -> Result<(), EnvelopedKeyError> {
    let (recipients, _) = read_envelope(message)?;
    if recipients.is_empty() { Err(EnvelopedKeyError::NoRecipient) } else { Ok(()) }
}

/// The recipients and the encrypted content of an EnvelopedData (RFC 5652 §6.1).
fn read_envelope(message: &[u8]) -> Result<(Reader<'_>, Reader<'_>), EnvelopedKeyError> {
    check_within(message, ENVELOPE_LIMITS)?;
    let mut content_info = Reader::sequence(message)?;
    if content_info.oid()? != oid::PKCS7_ENVELOPED_DATA {
        return Err(EnvelopedKeyError::NotEnveloped);
    }
    let mut explicit = content_info.nested(Tag::context_constructed(0))?;
    content_info.finish()?;
    let mut enveloped = explicit.nested(Tag::SEQUENCE)?;
    explicit.finish()?;
    if !matches!(enveloped.expect(Tag::INTEGER)?, [0 | 2 | 3]) {
        return Err(EnvelopedKeyError::Version);
    }
    enveloped.optional(Tag::context_constructed(0))?; // originatorInfo: certificates that nothing here needs
    let recipients = enveloped.nested(Tag::SET)?;
    let content = enveloped.nested(Tag::SEQUENCE)?;
    enveloped.optional(Tag::context_constructed(1))?; // unprotectedAttrs
    enveloped.finish()?;
    Ok((recipients, content))
}

fn content_key(mut recipients: Reader<'_>, decryption: &DecryptionKey<'_>) -> Result<AesKey, EnvelopedKeyError> {
    let mut count = 0;
    while !recipients.is_empty() {
        count += 1;
        if count > RECIPIENTS_MAX {
            return Err(EnvelopedKeyError::Several);
        }
        let recipient = recipients.element()?;
        let fields = Reader::new(recipient.contents);
        let found = match *decryption {
            DecryptionKey::Kek { id, key } if recipient.tag == Tag::context_constructed(2) => kek(fields, id, key)?,
            DecryptionKey::KeyAgreement { id, key } if recipient.tag == Tag::context_constructed(1) => {
                key_agreement(fields, id, key)?
            }
            _ => None,
        };
        if let Some(key) = found {
            return Ok(key);
        }
    }
    Err(EnvelopedKeyError::NoRecipient)
}

/// KEKRecipientInfo (RFC 5652 §6.2.3). `None`: it is for another key.
fn kek(mut info: Reader<'_>, id: &[u8], key: &[u8]) -> Result<Option<AesKey>, EnvelopedKeyError> {
    if info.expect(Tag::INTEGER)? != [4] {
        return Err(EnvelopedKeyError::Version);
    }
    if info.nested(Tag::SEQUENCE)?.expect(Tag::OCTET_STRING)? != id {
        return Ok(None);
    }
    let wrap = wrap_algorithm(info.nested(Tag::SEQUENCE)?)?;
    let wrapped = info.expect(Tag::OCTET_STRING)?;
    info.finish()?;
    let kek = AesKey::new(key).filter(|kek| kek.strength() == wrap).ok_or(EnvelopedKeyError::RecipientKey)?;
    kek.unwrap(wrapped).map(Some).ok_or(EnvelopedKeyError::Decryption)
}

/// KeyAgreeRecipientInfo (RFC 5652 §6.2.2, RFC 5753 §3.1). `None`: it is for other keys.
fn key_agreement(mut info: Reader<'_>, id: &[u8], key: &PrivateKey) -> Result<Option<AesKey>, EnvelopedKeyError> {
    if info.expect(Tag::INTEGER)? != [3] {
        return Err(EnvelopedKeyError::Version);
    }
    let mut originator = info.nested(Tag::context_constructed(0))?;
    let ukm = info.optional(Tag::context_constructed(1))?;
    let ukm = ukm.map(|ukm| Reader::new(ukm).expect(Tag::OCTET_STRING)).transpose()?;
    let mut scheme = info.nested(Tag::SEQUENCE)?;
    let mut keys = info.nested(Tag::SEQUENCE)?;
    info.finish()?;
    let mut wrapped = None;
    while !keys.is_empty() {
        let mut recipient = keys.nested(Tag::SEQUENCE)?;
        let rid = recipient.element()?;
        let encrypted = recipient.expect(Tag::OCTET_STRING)?;
        // `rKeyId [0]`: the identifier of the request. An issuerAndSerialNumber is of a certificate that the caller does not name.
        let is_ours =
            rid.tag == Tag::context_constructed(0) && Reader::new(rid.contents).expect(Tag::OCTET_STRING) == Ok(id);
        if is_ours {
            wrapped = Some(encrypted);
        }
    }
    let Some(wrapped) = wrapped else { return Ok(None) };

    if scheme.oid()? != oid::ECDH_SHA256_KDF {
        return Err(EnvelopedKeyError::Algorithm);
    }
    let wrap = wrap_algorithm(scheme.nested(Tag::SEQUENCE)?)?;
    scheme.finish()?;
    let mut originator = originator.nested(Tag::context_constructed(1)).map_err(|_| EnvelopedKeyError::Algorithm)?;
    originator.expect(Tag::SEQUENCE)?;
    let point = originator.octets_of_bit_string()?;
    originator.finish()?;
    let (curve, _) = key.scalar()?;
    let public = PublicKey::new(curve, point).map_err(|_| EnvelopedKeyError::RecipientKey)?;
    let kek = shared_kek(key, public, wrap, ukm)?;
    kek.unwrap(wrapped).map(Some).ok_or(EnvelopedKeyError::Decryption)
}

/// RFC 3565 §4.1: the parameters are absent. RFC 5753 §7.1.5 has examples with NULL, which OpenSSL does not write.
fn wrap_algorithm(mut algorithm: Reader<'_>) -> Result<AesStrength, EnvelopedKeyError> {
    let id = algorithm.oid()?;
    algorithm.finish().map_err(|_| EnvelopedKeyError::Algorithm)?;
    AesStrength::ALL.into_iter().find(|strength| strength.wrap() == id).ok_or(EnvelopedKeyError::Algorithm)
}

/// A SignedData as such or, as some write it, in a ContentInfo; an AsymmetricKeyPackage; or a bare PKCS #8.
pub(crate) fn open_content(
    content_type: Oid<'_>,
    der: &[u8],
    known: &[&Certificate],
) -> Result<OpenedKey, EnvelopedKeyError> {
    check_within(der, ENVELOPE_LIMITS).map_err(|_| EnvelopedKeyError::Content)?;
    let mut fields = Reader::sequence(der).map_err(|_| EnvelopedKeyError::Content)?;
    if fields.peek() == Some(Tag::OID) {
        if fields.oid()? != oid::PKCS7_SIGNED_DATA {
            return Err(EnvelopedKeyError::Content);
        }
        let mut explicit = fields.nested(Tag::context_constructed(0))?;
        fields.finish()?;
        fields = explicit.nested(Tag::SEQUENCE)?;
        explicit.finish()?;
    } else if content_type != oid::PKCS7_SIGNED_DATA {
        return Ok(OpenedKey { key: PrivateKey::read(only_key(der)?)?, signer: None });
    }
    let verified = verify(fields, known)?;
    Ok(OpenedKey { key: PrivateKey::read(only_key(verified.package)?)?, signer: Some(verified.signer) })
}
