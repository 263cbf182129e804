//! A key that the server generated, on its way to a device that asked for it in encrypted form (RFC 9148 §4.8): by step.

use std::sync::Arc;

use pki::enveloped_key::{
    DecryptionKey, EnvelopeAlgorithms, EnvelopeSecrets, KeyPackage, KeyRecipient, OpenedKey, SignedKey, open, seal,
};
use pki::{Certificate, Curve, GeneratedKey, PrivateKey, PublicKey, SigningKey};
use ring::rand::SystemRandom;
use sim::TestCa;

const SEED: u64 = 4_148;
/// The identifier of the key that both ends have.
const ID: &[u8] = b"device-0001";
/// An AES-128 key: as strong as the curve of the key that it protects.
const KEK: [u8; 16] = [0x5A; 16];

/// How the device's key protects the other one (RFC 7030 §4.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A key-encryption key that both ends have.
    Kek,
    /// The key of the certificate that the device authenticated with, by an agreement with an ephemeral one.
    KeyAgreement,
}

/// What the steps need, prepared: a generated key, its signed package, and both of the device's keys.
pub struct KeyDeliverySteps {
    random: SystemRandom,
    key: GeneratedKey,
    signed: SignedKey,
    signer: SigningKey,
    certificate: Arc<Certificate>,
    device: GeneratedKey,
    private: PrivateKey,
}

impl KeyDeliverySteps {
    /// Both ways to deliver.
    pub const WAYS: [(&str, Delivery); 2] = [("KEK", Delivery::Kek), ("key agreement", Delivery::KeyAgreement)];

    /// Generates the keys. A device of [`TestCa`] signs in place of the CA, with a key of the same curve.
    ///
    /// # Panics
    /// If the PKI of the simulator has no keys.
    #[must_use]
    pub fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "the randomness of a measurement")]
        let random = SystemRandom::new();
        let identity = TestCa::new(SEED).device(1);
        let certificate = identity.certificate;
        let signer = SigningKey::from_pkcs8(identity.key.pkcs8(), &random).expect("a key");
        let [key, device] = [generate(&random), generate(&random)];
        let private = PrivateKey::from_pkcs8(device.pkcs8().to_vec());
        let signed = sign(&key, &certificate, &signer, &random);
        Self { random, key, signed, signer, certificate, device, private }
    }

    /// Generates a key pair on P-256.
    #[must_use]
    pub fn generate(&self) -> GeneratedKey {
        generate(&self.random)
    }

    /// Packs the key and signs the package.
    ///
    /// # Panics
    /// If the key of the signer does not sign.
    #[must_use]
    pub fn sign(&self) -> SignedKey {
        sign(&self.key, &self.certificate, &self.signer, &self.random)
    }

    /// Encrypts the signed package, with the randomness that this takes: an ephemeral key pair for an agreement.
    ///
    /// # Panics
    /// If it is not encrypted.
    #[must_use]
    pub fn seal(&self, delivery: Delivery) -> Vec<u8> {
        let public_key = PublicKey::from_spki(self.device.spki()).expect("a key of ours");
        let recipient = match delivery {
            Delivery::Kek => KeyRecipient::Kek { id: ID, key: &KEK },
            Delivery::KeyAgreement => KeyRecipient::KeyAgreement { id: ID, public_key },
        };
        let algorithms = EnvelopeAlgorithms::choose(&recipient, &[], Curve::P256).expect("AES-128 protects P-256");
        let secrets = EnvelopeSecrets::draw(&recipient, &self.random).expect("randomness");
        seal(&self.signed, &recipient, algorithms, secrets).expect("the key fits the algorithms")
    }

    /// Decrypts the message as the device does, and verifies the signature in it.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open(&self, message: &[u8], delivery: Delivery) -> OpenedKey {
        let decryption = match delivery {
            Delivery::Kek => DecryptionKey::Kek { id: ID, key: &KEK },
            Delivery::KeyAgreement => DecryptionKey::KeyAgreement { id: ID, key: &self.private },
        };
        open(message, &decryption, &[]).expect("a message of ours")
    }
}

impl Default for KeyDeliverySteps {
    fn default() -> Self {
        Self::new()
    }
}

fn generate(random: &SystemRandom) -> GeneratedKey {
    GeneratedKey::generate(Curve::P256, random).expect("randomness")
}

fn sign(key: &GeneratedKey, certificate: &Certificate, signer: &SigningKey, random: &SystemRandom) -> SignedKey {
    let package = KeyPackage::prepare(key, certificate);
    let signature = signer.sign(random, package.to_be_signed()).expect("a key of ours signs");
    package.assemble(&signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_for_either_key_opens_to_the_generated_one() {
        let delivery = KeyDeliverySteps::new();
        for (_, way) in KeyDeliverySteps::WAYS {
            let opened = delivery.open(&delivery.seal(way), way);
            assert_eq!(opened.key.pkcs8(), delivery.key.pkcs8(), "{way:?}");
            assert!(opened.signer.is_some(), "{way:?}");
        }
        assert_ne!(delivery.generate().spki(), delivery.key.spki());
        drop(delivery.sign());
    }
}
