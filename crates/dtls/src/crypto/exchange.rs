//! Ephemeral elliptic-curve Diffie-Hellman (RFC 8422 §5.4, §5.10). Points are uncompressed; `ring` refuses any that is not on the curve.

use ring::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Curve, OperationFailed};
use crate::route::Random;

/// One private key for one agreement, and its public point. `ring` keeps the private scalar and does not wipe it: see `SECURITY.md`.
pub(crate) struct EphemeralKey {
    private: EphemeralPrivateKey,
    public: agreement::PublicKey,
}

impl EphemeralKey {
    pub(crate) fn generate(curve: Curve, random: &dyn Random) -> Result<Self, OperationFailed> {
        let mut generated = None;
        random.with_secure(&mut |secure| generated = EphemeralPrivateKey::generate(algorithm(curve), secure).ok());
        let private = generated.ok_or(OperationFailed)?;
        let public = private.compute_public_key().map_err(|_| OperationFailed)?;
        Ok(Self { private, public })
    }

    /// The uncompressed point.
    pub(crate) fn point(&self) -> &[u8] {
        self.public.as_ref()
    }

    /// Uses the key up. `None` when the peer's point is compressed, at infinity, of the wrong length or off the curve (RFC 8422 §5.11).
    pub(crate) fn agree(self, curve: Curve, point: &[u8]) -> Option<Premaster> {
        let peer = UnparsedPublicKey::new(algorithm(curve), point);
        agreement::agree_ephemeral(self.private, &peer, Premaster::new).ok()
    }
}

fn algorithm(curve: Curve) -> &'static agreement::Algorithm {
    match curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
    }
}

/// The x coordinate of the shared point, in full length (RFC 8422 §5.10).
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Premaster {
    bytes: [u8; 48],
    length: usize,
}

impl Premaster {
    fn new(secret: &[u8]) -> Self {
        let mut bytes = [0; 48];
        bytes[..secret.len()].copy_from_slice(secret);
        Self { bytes, length: secret.len() }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
