//! Writes an EnvelopedData (RFC 5652 §6) with one recipient.

use std::fmt;

use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::cipher::{AesKey, Agreed, BLOCK, agree};
use super::{EnvelopeAlgorithms, EnvelopedKeyError, KeyRecipient, SignedKey};
use crate::der::{Tag, Writer};
use crate::generated_key::GeneratedKey;
use crate::oid;

/// What an envelope needs from a source of randomness. Each of them is used once.
pub struct EnvelopeSecrets {
    /// The key of the content; a shorter key is its beginning.
    pub content_key: Zeroizing<[u8; 32]>,
    /// The IV of the content.
    pub iv: [u8; BLOCK],
    /// RFC 5753 §3.1.1: "The sending agent MUST use an ephemeral key". On the curve of the recipient's key; `None` for a key-encryption key.
    pub ephemeral: Option<GeneratedKey>,
}

impl EnvelopeSecrets {
    /// Draws them for this recipient.
    ///
    /// # Errors
    /// [`EnvelopedKeyError::NoRandomness`]: the source failed.
    pub fn draw(recipient: &KeyRecipient<'_>, random: &dyn SecureRandom) -> Result<Self, EnvelopedKeyError> {
        let mut content_key = Zeroizing::new([0; 32]);
        random.fill(content_key.as_mut()).map_err(|_| EnvelopedKeyError::NoRandomness)?;
        let mut iv = [0; BLOCK];
        random.fill(&mut iv).map_err(|_| EnvelopedKeyError::NoRandomness)?;
        let ephemeral = match recipient {
            KeyRecipient::Kek { .. } => None,
            KeyRecipient::KeyAgreement { public_key, .. } => {
                Some(GeneratedKey::generate(public_key.curve(), random).map_err(|_| EnvelopedKeyError::NoRandomness)?)
            }
        };
        Ok(Self { content_key, iv, ephemeral })
    }
}

impl fmt::Debug for EnvelopeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvelopeSecrets(..)")
    }
}

/// Encrypts a signed key to one recipient: the DER of a ContentInfo, the payload of Content-Format 280.
///
/// # Errors
/// [`EnvelopedKeyError::RecipientKey`]: the recipient's key does not fit the algorithms or the ephemeral key, or is not a point of its curve.
pub fn seal(
    signed: &SignedKey,
    recipient: &KeyRecipient<'_>,
    algorithms: EnvelopeAlgorithms,
    secrets: EnvelopeSecrets,
) -> Result<Vec<u8>, EnvelopedKeyError> {
    let EnvelopeSecrets { content_key, iv, ephemeral } = secrets;
    let content_key = AesKey::new(&content_key[..algorithms.content.key_len()]).ok_or(EnvelopedKeyError::Algorithm)?;
    let ciphertext = content_key.encrypt(&iv, &signed.der);
    let recipient = recipient_info(recipient, &content_key, algorithms, ephemeral)?;

    let mut out = Writer::with_capacity(ciphertext.len() + recipient.len() + 128);
    out.sequence(|out| {
        out.oid(oid::PKCS7_ENVELOPED_DATA);
        out.nested(Tag::context_constructed(0), |out| {
            out.sequence(|enveloped| {
                // RFC 5652 §6.1: version 2, because the recipient's version is not 0.
                enveloped.unsigned(&[2]);
                enveloped.element(Tag::SET, &recipient);
                enveloped.sequence(|content| {
                    content.oid(oid::PKCS7_SIGNED_DATA);
                    content.sequence(|algorithm| {
                        algorithm.oid(algorithms.content.cbc());
                        algorithm.element(Tag::OCTET_STRING, &iv);
                    });
                    content.element(Tag::context(0), &ciphertext);
                });
            });
        });
    });
    Ok(out.into_vec())
}

fn recipient_info(
    recipient: &KeyRecipient<'_>,
    content_key: &AesKey,
    algorithms: EnvelopeAlgorithms,
    ephemeral: Option<GeneratedKey>,
) -> Result<Vec<u8>, EnvelopedKeyError> {
    let wrap = algorithms.wrap;
    let mut out = Writer::with_capacity(256);
    match *recipient {
        KeyRecipient::Kek { id, key } => {
            let kek = AesKey::new(key).filter(|kek| kek.strength() == wrap).ok_or(EnvelopedKeyError::RecipientKey)?;
            // RFC 7030 §4.4.2: "version is set to 4".
            out.nested(Tag::context_constructed(2), |info| {
                info.unsigned(&[4]);
                info.sequence(|kek_id| kek_id.element(Tag::OCTET_STRING, id));
                info.sequence(|algorithm| algorithm.oid(wrap.wrap()));
                info.element(Tag::OCTET_STRING, &kek.wrap(content_key));
            });
        }
        KeyRecipient::KeyAgreement { id, public_key } => {
            let Agreed { originator, kek } =
                agree(public_key, wrap, ephemeral.ok_or(EnvelopedKeyError::RecipientKey)?)?;
            out.nested(Tag::context_constructed(1), |info| {
                info.unsigned(&[3]);
                info.nested(Tag::context_constructed(0), |info| {
                    info.nested(Tag::context_constructed(1), |key| {
                        // RFC 5753 §3.1.1: the parameters are "ECParameters, absent, or NULL"; "should be absent, or present as ECParameters".
                        key.sequence(|algorithm| {
                            algorithm.oid(oid::EC_PUBLIC_KEY);
                            algorithm.oid(public_key.curve().oid());
                        });
                        key.bit_string(&originator);
                    });
                });
                info.sequence(|algorithm| {
                    algorithm.oid(oid::ECDH_SHA256_KDF);
                    algorithm.sequence(|algorithm| algorithm.oid(wrap.wrap()));
                });
                info.sequence(|keys| {
                    keys.sequence(|key| {
                        key.nested(Tag::context_constructed(0), |rid| rid.element(Tag::OCTET_STRING, id));
                        key.element(Tag::OCTET_STRING, &kek.wrap(content_key));
                    });
                });
            });
        }
    }
    Ok(out.into_vec())
}
