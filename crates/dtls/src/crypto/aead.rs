//! Record protection: AES-128-CCM and CCM_8 (RFC 6655) and AES-128-GCM (RFC 5288), over raw keys that are expanded for each record.
//!
//! Expanding costs about 30 ns per record and keeps a session small: two keys of 20 bytes instead of two schedules of 176 and
//! more.

use aes::Aes128;
use ccm::aead::AeadInOut;
use ccm::consts::{U8, U12, U16};
use ccm::{Ccm, KeyInit};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The cipher suites of this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8` (RFC 7251), mandatory for CoAP (RFC 7252 §9.1.3.3) and EST-coaps (RFC 9148 §3).
    EcdheEcdsaAes128Ccm8,
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_CCM` (RFC 7251): the whole tag of 16 bytes.
    EcdheEcdsaAes128Ccm,
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256` (RFC 5289 §3.2).
    EcdheEcdsaAes128GcmSha256,
}

impl Suite {
    /// Code point of the registry "TLS Cipher Suites".
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::EcdheEcdsaAes128Ccm8 => 0xC0AE,
            Self::EcdheEcdsaAes128Ccm => 0xC0AC,
            Self::EcdheEcdsaAes128GcmSha256 => 0xC02B,
        }
    }

    /// The strength of its cipher in bits.
    #[must_use]
    pub const fn security_bits(self) -> u16 {
        match self {
            Self::EcdheEcdsaAes128Ccm8 | Self::EcdheEcdsaAes128Ccm | Self::EcdheEcdsaAes128GcmSha256 => 128,
        }
    }

    /// The suite of a code point.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0xC0AE => Some(Self::EcdheEcdsaAes128Ccm8),
            0xC0AC => Some(Self::EcdheEcdsaAes128Ccm),
            0xC02B => Some(Self::EcdheEcdsaAes128GcmSha256),
            _ => None,
        }
    }

    /// Name of the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdheEcdsaAes128Ccm8 => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
            Self::EcdheEcdsaAes128Ccm => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
            Self::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        }
    }

    /// Bytes of the authentication tag: 8 (RFC 6655 §6.1) or 16 (RFC 5288 §3, RFC 6655 §3).
    pub(crate) const fn tag_bytes(self) -> usize {
        match self {
            Self::EcdheEcdsaAes128Ccm8 => 8,
            Self::EcdheEcdsaAes128Ccm | Self::EcdheEcdsaAes128GcmSha256 => TAG_BYTES_MAX,
        }
    }
}

/// The explicit part of the nonce, sent with each record (RFC 6655 §3, RFC 5288 §3).
pub(crate) const EXPLICIT_NONCE_BYTES: usize = 8;

/// epoch and sequence number, type, version, length (RFC 5246 §6.2.3.3).
pub(crate) const AAD_BYTES: usize = 13;

const KEY_BYTES: usize = 16;
const SALT_BYTES: usize = 4;
const TAG_BYTES_MAX: usize = 16;

type AesCcm = Ccm<Aes128, U16, U12>;
type AesCcm8 = Ccm<Aes128, U8, U12>;

/// A record did not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadTag;

/// Key and salt of one direction of one epoch.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Protection {
    key: [u8; KEY_BYTES],
    salt: [u8; SALT_BYTES],
}

impl Protection {
    pub(crate) const fn new(key: [u8; KEY_BYTES], salt: [u8; SALT_BYTES]) -> Self {
        Self { key, salt }
    }

    /// Encrypts in place and appends the tag. `record` holds the plaintext from `start` on.
    pub(crate) fn seal(
        &self,
        suite: Suite,
        explicit: [u8; EXPLICIT_NONCE_BYTES],
        aad: &[u8; AAD_BYTES],
        record: &mut Vec<u8>,
        start: usize,
    ) {
        let nonce = self.nonce(explicit);
        let plaintext = &mut record[start..];
        match suite {
            Suite::EcdheEcdsaAes128Ccm8 => {
                let tag = AesCcm8::new(&self.key.into())
                    .encrypt_inout_detached(&nonce.into(), aad, plaintext.into())
                    .expect("a record is shorter than CCM's limit for a 12-byte nonce, 2^24");
                record.extend_from_slice(&tag);
            }
            Suite::EcdheEcdsaAes128Ccm => {
                let tag = AesCcm::new(&self.key.into())
                    .encrypt_inout_detached(&nonce.into(), aad, plaintext.into())
                    .expect("a record is shorter than CCM's limit for a 12-byte nonce, 2^24");
                record.extend_from_slice(&tag);
            }
            Suite::EcdheEcdsaAes128GcmSha256 => {
                let tag = self
                    .gcm()
                    .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plaintext)
                    .expect("a record is shorter than GCM's limit, 2^36");
                record.extend_from_slice(tag.as_ref());
            }
        }
    }

    /// Authenticates and decrypts `ciphertext` in place. On failure its content is lost.
    pub(crate) fn open(
        &self,
        suite: Suite,
        explicit: [u8; EXPLICIT_NONCE_BYTES],
        aad: &[u8; AAD_BYTES],
        ciphertext: &mut [u8],
        tag: &[u8],
    ) -> Result<(), BadTag> {
        let nonce = self.nonce(explicit);
        match suite {
            Suite::EcdheEcdsaAes128Ccm8 => {
                let tag: [u8; 8] = tag.try_into().map_err(|_| BadTag)?;
                AesCcm8::new(&self.key.into())
                    .decrypt_inout_detached(&nonce.into(), aad, ciphertext.into(), &tag.into())
                    .map_err(|_| BadTag)
            }
            Suite::EcdheEcdsaAes128Ccm => {
                let tag: [u8; TAG_BYTES_MAX] = tag.try_into().map_err(|_| BadTag)?;
                AesCcm::new(&self.key.into())
                    .decrypt_inout_detached(&nonce.into(), aad, ciphertext.into(), &tag.into())
                    .map_err(|_| BadTag)
            }
            Suite::EcdheEcdsaAes128GcmSha256 => {
                let tag: [u8; TAG_BYTES_MAX] = tag.try_into().map_err(|_| BadTag)?;
                self.gcm()
                    .open_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(aad),
                        Tag::from(tag),
                        ciphertext,
                        0..,
                    )
                    .map(|_| ())
                    .map_err(|_| BadTag)
            }
        }
    }

    fn nonce(&self, explicit: [u8; EXPLICIT_NONCE_BYTES]) -> [u8; SALT_BYTES + EXPLICIT_NONCE_BYTES] {
        let mut nonce = [0; SALT_BYTES + EXPLICIT_NONCE_BYTES];
        nonce[..SALT_BYTES].copy_from_slice(&self.salt);
        nonce[SALT_BYTES..].copy_from_slice(&explicit);
        nonce
    }

    fn gcm(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &self.key).expect("AES-128 keys have 16 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Suite; 3] =
        [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256];

    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not() {
        for suite in SUITES {
            let protection = Protection::new([7; 16], [9; 4]);
            let mut record = b"headerplaintext".to_vec();
            protection.seal(suite, [1; 8], &[2; 13], &mut record, 6);
            assert_eq!(record.len(), 15 + suite.tag_bytes());
            for flipped in 6..record.len() {
                let mut copy = record.clone();
                copy[flipped] ^= 1;
                let (body, tag) = copy[6..].split_at_mut(9);
                assert_eq!(protection.open(suite, [1; 8], &[2; 13], body, tag), Err(BadTag));
            }
            let (body, tag) = record[6..].split_at_mut(9);
            assert_eq!(protection.open(suite, [1; 8], &[2; 13], body, tag), Ok(()));
            assert_eq!(body, b"plaintext");
        }
    }

    #[test]
    fn a_tag_of_another_length_never_opens() {
        for suite in SUITES {
            for length in [0, 4, 7, 9, 15, 17] {
                let opened =
                    Protection::new([7; 16], [9; 4]).open(suite, [1; 8], &[2; 13], &mut [0; 4], &vec![0; length]);
                assert_eq!(opened, Err(BadTag));
            }
        }
    }
}
