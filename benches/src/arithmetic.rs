//! The arithmetic that one full enrolment cannot avoid on the server's side, with the primitives that Muster uses.

use std::error::Error;
use std::hint::black_box;

use aes::Aes128;
use ccm::aead::AeadInOut;
use ccm::consts::{U8, U12};
use ccm::{Ccm, KeyInit};
use dtls::Suite;
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, Signature};
use ring::{aead, digest, hmac, signature};

/// A request or an answer of an enrolment, between a 20-byte acknowledgement and a full block.
const RECORD_BYTES: usize = 100;
/// Handshake messages that the transcript covers, with an IDevID and a server certificate of about 450 bytes each.
const TRANSCRIPT_BYTES: usize = 1700;
/// The input of a cookie: address and hello.
const COOKIE_INPUT_BYTES: usize = 120;
/// The bytes whose signatures are made and verified.
const MESSAGE: [u8; 300] = [7; 300];

/// Keys and signatures to calculate with.
pub struct Arithmetic {
    random: SystemRandom,
    key: EcdsaKeyPair,
    made: Signature,
    peer: PublicKey,
    mac: hmac::Key,
    record: [u8; RECORD_BYTES],
}

impl Arithmetic {
    /// Makes the keys.
    ///
    /// # Errors
    /// No randomness.
    pub fn new() -> Result<Self, Box<dyn Error>> {
        #[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| "no key")?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).map_err(|_| "no key")?;
        let made = key.sign(&random, &MESSAGE).map_err(|_| "no signature")?;
        let peer = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| "no key")?;
        let peer = peer.compute_public_key().map_err(|_| "no key")?;
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        Ok(Self { random, key, made, peer, mac, record: [5; RECORD_BYTES] })
    }

    /// One signature.
    ///
    /// # Errors
    /// None is made.
    pub fn sign(&mut self) -> Result<(), Box<dyn Error>> {
        let _signature = black_box(self.key.sign(&self.random, black_box(&MESSAGE)).map_err(|_| "no signature")?);
        Ok(())
    }

    /// One verification.
    ///
    /// # Errors
    /// A good signature is refused.
    pub fn verify(&mut self) -> Result<(), Box<dyn Error>> {
        let public = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key().as_ref());
        public.verify(black_box(&MESSAGE), self.made.as_ref()).map_err(|_| "a good signature was refused".into())
    }

    /// An ephemeral key, and the agreement with it.
    ///
    /// # Errors
    /// No key, or no agreement.
    pub fn agree(&mut self) -> Result<(), Box<dyn Error>> {
        let mine = EphemeralPrivateKey::generate(&ECDH_P256, &self.random).map_err(|_| "no key")?;
        black_box(mine.compute_public_key().map_err(|_| "no key")?);
        agree_ephemeral(mine, &UnparsedPublicKey::new(&ECDH_P256, self.peer.as_ref()), |secret| {
            black_box(secret[0]);
        })
        .map_err(|_| "no agreement".into())
    }

    /// Two cookies, the transcript, and the five expansions of the PRF (master secret, key block, both Finished).
    ///
    /// # Errors
    /// Never.
    pub fn handshake_symmetric(&mut self) -> Result<(), Box<dyn Error>> {
        let (cookie, transcript, seed) = ([2; COOKIE_INPUT_BYTES], [3; TRANSCRIPT_BYTES], [4; 77]);
        for _ in 0..2 {
            black_box(hmac::sign(&self.mac, black_box(&cookie)));
        }
        black_box(digest::digest(&digest::SHA256, black_box(&transcript)));
        // RFC 5246 §5: each 32 bytes of P_SHA256 cost A(i) and one more HMAC. 48 bytes of master secret, 40 of keys, 12 and 12 of Finished.
        for _expansion in 0..6 {
            let a = hmac::sign(&self.mac, black_box(&seed));
            let mut context = hmac::Context::with_key(&self.mac);
            context.update(a.as_ref());
            context.update(&seed);
            black_box(context.sign());
        }
        Ok(())
    }

    /// One record. Its key is expanded for it: sessions keep raw keys.
    ///
    /// # Errors
    /// It is not sealed.
    pub fn record(&mut self, suite: Suite) -> Result<(), Box<dyn Error>> {
        match suite {
            Suite::EcdheEcdsaAes128GcmSha256 => self.gcm_record(),
            Suite::EcdheEcdsaAes128Ccm8 | Suite::EcdheEcdsaAes128Ccm => self.ccm8_record(),
        }
    }

    /// The floor of one enrolment: two signatures (key exchange, certificate), three verifications (device certificate, its proof, the request's
    /// proof), one agreement, and so many records.
    ///
    /// # Errors
    /// Those of its parts.
    pub fn enrolment(&mut self, suite: Suite, records: usize) -> Result<(), Box<dyn Error>> {
        self.handshake_symmetric()?;
        self.sign()?;
        self.verify()?;
        self.verify()?;
        self.agree()?;
        self.verify()?;
        self.sign()?;
        (0..records).try_for_each(|_| self.record(suite))
    }

    fn ccm8_record(&mut self) -> Result<(), Box<dyn Error>> {
        let (nonce, associated) = ([6_u8; 12], [8_u8; 13]);
        let cipher = Ccm::<Aes128, U8, U12>::new(black_box(&[9_u8; 16].into()));
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &associated, self.record.as_mut_slice().into())
            .map_err(|_| "not sealed")?;
        black_box(tag);
        Ok(())
    }

    fn gcm_record(&mut self) -> Result<(), Box<dyn Error>> {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, black_box(&[9; 16])).map_err(|_| "no key")?;
        let nonce = aead::Nonce::assume_unique_for_key([6; 12]);
        let tag =
            aead::LessSafeKey::new(key).seal_in_place_separate_tag(nonce, aead::Aad::from([8; 13]), &mut self.record);
        let _tag = black_box(tag.map_err(|_| "not sealed")?);
        Ok(())
    }
}
