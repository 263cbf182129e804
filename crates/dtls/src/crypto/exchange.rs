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

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) {
            out.fill(7);
        }

        #[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
        fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {
            operation(&ring::rand::SystemRandom::new());
        }
    }

    #[test]
    fn d63_bad_points_agree_with_nobody_and_good_ones_do() {
        for (curve, length) in [(Curve::P256, 32), (Curve::P384, 48)] {
            let a = EphemeralKey::generate(curve, &Fixed).unwrap();
            let b = EphemeralKey::generate(curve, &Fixed).unwrap();
            let (point_a, point_b) = (a.point().to_vec(), b.point().to_vec());
            let shared = a.agree(curve, &point_b).unwrap();
            assert_eq!(shared.as_bytes().len(), length);
            assert_eq!(shared.as_bytes(), b.agree(curve, &point_a).unwrap().as_bytes());
            let mut off_curve = point_a.clone();
            off_curve[20] ^= 1;
            let compressed = [&[2], &point_a[1..=length]].concat();
            let infinity = vec![0];
            for bad in
                [off_curve, compressed, infinity, point_a[1..].to_vec(), [&point_a[..], &[0]].concat(), Vec::new()]
            {
                assert!(EphemeralKey::generate(curve, &Fixed).unwrap().agree(curve, &bad).is_none());
            }
        }
    }
}
