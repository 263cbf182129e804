//! The primitives of an envelope: AES-CBC, AES key wrap, and the key that ECDH agrees on.

use aes::{Aes128, Aes256};
use aes_kw::KeyInit;
use aes_kw::{KwAes128, KwAes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{AesStrength, EnvelopedKeyError};
use crate::algorithm::{Curve, PublicKey};
use crate::der::{Tag, Writer};
use crate::generated_key::GeneratedKey;
use crate::private_key::PrivateKey;

/// Octets of an AES block, and of the IV in CBC mode.
pub(super) const BLOCK: usize = 16;

/// Octets that key wrap adds (RFC 3394 §2.2.1).
const WRAP_OVERHEAD: usize = 8;

/// The largest key here, and its wrapping.
const KEY_MAX: usize = 32;

/// An AES key, wiped when it is dropped.
pub(super) struct AesKey {
    octets: Zeroizing<[u8; KEY_MAX]>,
    strength: AesStrength,
}

impl AesKey {
    pub(super) fn new(octets: &[u8]) -> Option<Self> {
        let strength = AesStrength::of_key(octets.len())?;
        let mut key = Zeroizing::new([0; KEY_MAX]);
        key[..octets.len()].copy_from_slice(octets);
        Some(Self { octets: key, strength })
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..self.strength.key_len()]
    }

    pub(super) const fn strength(&self) -> AesStrength {
        self.strength
    }

    /// Encrypts in CBC mode, with the padding of RFC 5652 §6.3.
    pub(super) fn encrypt(&self, iv: &[u8; BLOCK], plaintext: &[u8]) -> Vec<u8> {
        let mut out = vec![0; (plaintext.len() / BLOCK + 1) * BLOCK];
        let (key, iv) = (self.octets(), &iv[..]);
        let written = match self.strength {
            AesStrength::Aes128 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
                .expect("the key has the length of its strength")
                .encrypt_padded_b2b::<Pkcs7>(plaintext, &mut out)
                .map(<[u8]>::len),
            AesStrength::Aes256 => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
                .expect("the key has the length of its strength")
                .encrypt_padded_b2b::<Pkcs7>(plaintext, &mut out)
                .map(<[u8]>::len),
        };
        debug_assert_eq!(written.ok(), Some(out.len()), "the padding fills the last block");
        out
    }

    /// Decrypts what [`Self::encrypt`] has encrypted.
    pub(super) fn decrypt(&self, iv: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(vec![0; ciphertext.len()]);
        let key = self.octets();
        let len = match self.strength {
            AesStrength::Aes128 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
                .ok()?
                .decrypt_padded_b2b::<Pkcs7>(ciphertext, &mut out)
                .ok()?
                .len(),
            AesStrength::Aes256 => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
                .ok()?
                .decrypt_padded_b2b::<Pkcs7>(ciphertext, &mut out)
                .ok()?
                .len(),
        };
        out.truncate(len);
        Some(out)
    }

    /// Wraps `other` with this key (RFC 3394).
    pub(super) fn wrap(&self, other: &Self) -> Vec<u8> {
        let mut out = vec![0; other.octets().len() + WRAP_OVERHEAD];
        let key = self.octets();
        let wrapped = match self.strength {
            AesStrength::Aes128 => {
                KwAes128::new_from_slice(key).map(|kw| kw.wrap_key(other.octets(), &mut out).is_ok())
            }
            AesStrength::Aes256 => {
                KwAes256::new_from_slice(key).map(|kw| kw.wrap_key(other.octets(), &mut out).is_ok())
            }
        };
        debug_assert_eq!(wrapped.ok(), Some(true), "an AES key is two or four units of 64 bits");
        out
    }

    /// Unwraps a key; `None` if the integrity check of RFC 3394 §2.2.3 fails.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Option<Self> {
        let mut out = Zeroizing::new([0; KEY_MAX]);
        let key = self.octets();
        let unwrapped = match self.strength {
            AesStrength::Aes128 => KwAes128::new_from_slice(key).ok()?.unwrap_key(wrapped, &mut out[..]).ok()?.len(),
            AesStrength::Aes256 => KwAes256::new_from_slice(key).ok()?.unwrap_key(wrapped, &mut out[..]).ok()?.len(),
        };
        Self::new(&out[..unwrapped])
    }
}

/// A key pair for one message, and what it agrees on with the recipient.
pub(super) struct Agreed {
    /// The public half of the originator's key.
    pub(super) originator: Vec<u8>,
    pub(super) kek: AesKey,
}

/// Agrees with the recipient by an ephemeral key of its curve.
pub(super) fn agree(
    recipient: PublicKey<'_>,
    wrap: AesStrength,
    ephemeral: GeneratedKey,
) -> Result<Agreed, EnvelopedKeyError> {
    let public = PublicKey::from_spki(ephemeral.spki()).map_err(|_| EnvelopedKeyError::RecipientKey)?;
    let originator = public.point().to_vec();
    let kek = shared_kek(&ephemeral.into_private_key(), recipient, wrap, None)?;
    Ok(Agreed { originator, kek })
}

/// The key-encryption key of an ephemeral and a static key pair.
pub(super) fn shared_kek(
    private: &PrivateKey,
    public: PublicKey<'_>,
    wrap: AesStrength,
    ukm: Option<&[u8]>,
) -> Result<AesKey, EnvelopedKeyError> {
    let failed = EnvelopedKeyError::RecipientKey;
    let (curve, scalar) = private.scalar()?;
    if curve != public.curve() {
        return Err(failed);
    }
    let mut secret = Zeroizing::new([0; 48]);
    let secret = &mut secret[..curve.point_len() / 2];
    match curve {
        Curve::P256 => {
            let key = p256::SecretKey::from_slice(scalar).map_err(|_| failed)?;
            let point = p256::PublicKey::from_sec1_bytes(public.point()).map_err(|_| failed)?;
            secret.copy_from_slice(key.diffie_hellman(&point).raw_secret_bytes());
        }
        Curve::P384 => {
            let key = p384::SecretKey::from_slice(scalar).map_err(|_| failed)?;
            let point = p384::PublicKey::from_sec1_bytes(public.point()).map_err(|_| failed)?;
            secret.copy_from_slice(key.diffie_hellman(&point).raw_secret_bytes());
        }
    }
    let digest = kdf(secret, wrap, ukm);
    AesKey::new(&digest[..wrap.key_len()]).ok_or(failed)
}

/// ANSI X9.63 with SHA-256 (SEC 1 §3.6.1), over the ECC-CMS-SharedInfo of RFC 5753 §7.2. One block of the hash is enough for a key here.
fn kdf(secret: &[u8], wrap: AesStrength, ukm: Option<&[u8]>) -> Zeroizing<[u8; KEY_MAX]> {
    let bits = u32::try_from(wrap.key_len() * 8).expect("at most 256");
    let mut info = Writer::with_capacity(64);
    info.sequence(|info| {
        info.sequence(|algorithm| algorithm.oid(wrap.wrap()));
        if let Some(ukm) = ukm {
            info.nested(Tag::context_constructed(0), |info| info.element(Tag::OCTET_STRING, ukm));
        }
        info.nested(Tag::context_constructed(2), |info| info.element(Tag::OCTET_STRING, &bits.to_be_bytes()));
    });
    let mut hash = Context::new(&SHA256);
    hash.update(secret);
    hash.update(&1u32.to_be_bytes());
    hash.update(&info.into_vec());
    let mut out = Zeroizing::new([0; KEY_MAX]);
    out.copy_from_slice(hash.finish().as_ref());
    out
}
