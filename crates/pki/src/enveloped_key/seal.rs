//! Writes an EnvelopedData (RFC 5652 §6) with one recipient.

use ring::rand::SecureRandom;

use super::cipher::{AesKey, Agreed, BLOCK, agree};
use super::{EnvelopeAlgorithms, EnvelopedKeyError, KeyRecipient, SignedKey};
use crate::der::{Tag, Writer};
use crate::oid;

/// Encrypts a signed key to one recipient: the DER of a ContentInfo, the payload of Content-Format 280.
///
/// # Errors
/// [`EnvelopedKeyError::RecipientKey`]: the recipient's key does not fit the algorithms, or is not a point of its curve.
/// [`EnvelopedKeyError::NoRandomness`]: the source failed.
pub fn seal(
    signed: &SignedKey,
    recipient: &KeyRecipient<'_>,
    algorithms: EnvelopeAlgorithms,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, EnvelopedKeyError> {
    let content_key = AesKey::generate(algorithms.content, random)?;
    let mut iv = [0; BLOCK];
    random.fill(&mut iv).map_err(|_| EnvelopedKeyError::NoRandomness)?;
    let ciphertext = content_key.encrypt(&iv, &signed.der);
    let recipient = recipient_info(recipient, &content_key, algorithms, random)?;

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
    random: &dyn SecureRandom,
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
            let Agreed { originator, kek } = agree(public_key, wrap, random)?;
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
