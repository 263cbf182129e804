//! Ephemeral elliptic-curve Diffie-Hellman (RFC 8422 §5.4, §5.10). Points of the NIST curves are uncompressed; `ring` rejects a point that is
//! not on the curve, and for x25519 a result of zero (RFC 8422 §5.11).

use ring::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::failure::OperationFailed;
use crate::random::Random;

/// The groups of key agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// secp256r1, which every CoAP device supports (RFC 7252 §9.1.3.2).
    Secp256r1,
    /// secp384r1.
    Secp384r1,
    /// x25519 (RFC 7748 §5), for TLS 1.2 by RFC 8422 §5.1.1.
    X25519,
}

impl Group {
    /// Code point of the registry "TLS Supported Groups".
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Secp256r1 => 23,
            Self::Secp384r1 => 24,
            Self::X25519 => 29,
        }
    }

    /// The group of a code point.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            23 => Some(Self::Secp256r1),
            24 => Some(Self::Secp384r1),
            29 => Some(Self::X25519),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::Secp256r1 => &ECDH_P256,
            Self::Secp384r1 => &ECDH_P384,
            Self::X25519 => &X25519,
        }
    }
}

/// One private key for one agreement, and its public point. `ring` keeps the private scalar and does not wipe it: see `SECURITY.md`.
pub(crate) struct EphemeralKey {
    group: Group,
    private: EphemeralPrivateKey,
    public: agreement::PublicKey,
}

impl EphemeralKey {
    pub(crate) fn generate(group: Group, random: &dyn Random) -> Result<Self, OperationFailed> {
        let mut generated = None;
        random.with_secure(&mut |secure| generated = EphemeralPrivateKey::generate(group.algorithm(), secure).ok());
        let private = generated.ok_or(OperationFailed)?;
        let public = private.compute_public_key().map_err(|_| OperationFailed)?;
        Ok(Self { group, private, public })
    }

    /// Its group.
    pub(crate) const fn group(&self) -> Group {
        self.group
    }

    /// The public value: an uncompressed point, or the 32 bytes of x25519.
    pub(crate) fn point(&self) -> &[u8] {
        self.public.as_ref()
    }

    /// Consumes the key. `None` if the peer's point is compressed, at infinity, of the wrong length or off the curve (RFC 8422 §5.11).
    pub(crate) fn agree(self, point: &[u8]) -> Option<Premaster> {
        let peer = UnparsedPublicKey::new(self.group.algorithm(), point);
        agreement::agree_ephemeral(self.private, &peer, Premaster::new).ok()
    }
}

/// The x coordinate of the shared point, in full length; for x25519 the function's result as it is (RFC 8422 §5.10).
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
        for (group, length) in [(Group::Secp256r1, 32), (Group::Secp384r1, 48)] {
            let a = EphemeralKey::generate(group, &Fixed).unwrap();
            let b = EphemeralKey::generate(group, &Fixed).unwrap();
            let (point_a, point_b) = (a.point().to_vec(), b.point().to_vec());
            let shared = a.agree(&point_b).unwrap();
            assert_eq!(shared.as_bytes().len(), length);
            assert_eq!(shared.as_bytes(), b.agree(&point_a).unwrap().as_bytes());
            let mut off_curve = point_a.clone();
            off_curve[20] ^= 1;
            let compressed = [&[2], &point_a[1..=length]].concat();
            let infinity = vec![0];
            for bad in
                [off_curve, compressed, infinity, point_a[1..].to_vec(), [&point_a[..], &[0]].concat(), Vec::new()]
            {
                assert!(EphemeralKey::generate(group, &Fixed).unwrap().agree(&bad).is_none());
            }
        }
    }

    #[test]
    fn x25519_agrees_as_in_rfc_7748_and_refuses_points_of_small_order() {
        let (a, b) = (EphemeralKey::generate(Group::X25519, &Fixed), EphemeralKey::generate(Group::X25519, &Fixed));
        let (a, b) = (a.unwrap(), b.unwrap());
        let (point_a, point_b) = (a.point().to_vec(), b.point().to_vec());
        assert_eq!(point_a.len(), 32);
        let shared = a.agree(&point_b).unwrap();
        assert_eq!(shared.as_bytes(), b.agree(&point_a).unwrap().as_bytes());
        // RFC 7748 §6.1: "the all-zero value" is what 0 and 1 yield; RFC 8422 §5.11 asks to refuse it.
        let one: Vec<u8> = std::iter::once(1).chain([0; 31]).collect();
        for bad in [vec![0; 32], one, point_a[1..].to_vec(), [&point_a[..], &[0]].concat(), Vec::new()] {
            assert!(EphemeralKey::generate(Group::X25519, &Fixed).unwrap().agree(&bad).is_none(), "{bad:?}");
        }
    }
}
