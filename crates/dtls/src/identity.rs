//! The identity of this side: a certificate chain and the key of its leaf.

use crate::crypto::EcdsaSigningKey;
use crate::limits::{CERTIFICATES_MAX, HANDSHAKE_MESSAGE_BYTES_MAX};
use crate::wire::encode_certificate;

/// A chain of certificates and the signing key of its leaf. The whole chain is sent; a root need not be in it.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    /// The body of the Certificate message, the same in each handshake.
    message: Box<[u8]>,
    key: EcdsaSigningKey,
}

impl Identity {
    /// `chain` is DER, leaf first. The caller checks that the key belongs to the leaf (`pki` does).
    #[must_use]
    pub fn new(chain: Vec<Vec<u8>>, key: EcdsaSigningKey) -> Self {
        debug_assert!(chain.len() <= CERTIFICATES_MAX);
        debug_assert!(chain.iter().map(|der| der.len() + 3).sum::<usize>() + 3 <= HANDSHAKE_MESSAGE_BYTES_MAX);
        Self { message: encode_certificate(&chain).into(), chain, key }
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The body of the Certificate message.
    pub(crate) fn certificate_message(&self) -> &[u8] {
        &self.message
    }

    /// The key of the leaf.
    #[must_use]
    pub fn key(&self) -> &EcdsaSigningKey {
        &self.key
    }
}
