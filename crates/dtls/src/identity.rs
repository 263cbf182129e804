//! The identity of this side: a certificate chain and the key of its leaf.

use crate::crypto::EcdsaSigningKey;
use crate::limits::{CERTIFICATES_MAX, HANDSHAKE_MESSAGE_BYTES_MAX};

/// A chain of certificates and the signing key of its leaf. The whole chain is sent; a root need not be in it.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    key: EcdsaSigningKey,
}

impl Identity {
    /// `chain` is DER, leaf first. The caller checks that the key belongs to the leaf (`pki` does).
    #[must_use]
    pub fn new(chain: Vec<Vec<u8>>, key: EcdsaSigningKey) -> Self {
        debug_assert!(chain.len() <= CERTIFICATES_MAX);
        debug_assert!(chain.iter().map(|der| der.len() + 3).sum::<usize>() + 3 <= HANDSHAKE_MESSAGE_BYTES_MAX);
        Self { chain, key }
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The key of the leaf.
    #[must_use]
    pub fn key(&self) -> &EcdsaSigningKey {
        &self.key
    }
}
