//! The key schedule of TLS 1.2 with SHA-256: PRF (RFC 5246 §5), master secrets (§8.1 and RFC 7627 §4), key block (§6.3), Finished (§7.4.9).

use ring::digest::{self, SHA256};
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::aead::Protection;
use super::exchange::Premaster;

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

/// Bytes of verify_data in every suite that we know (RFC 5246 §7.4.9).
pub(crate) const VERIFY_DATA_BYTES: usize = 12;

/// Content of a Finished.
pub(crate) type VerifyData = [u8; VERIFY_DATA_BYTES];

/// A running SHA-256.
#[derive(Clone)]
pub(crate) struct Sha256(digest::Context);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(digest::Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far; more may follow.
    pub(crate) fn current(&self) -> Hash {
        hash_of(&self.0.clone().finish())
    }
}

fn hash_of(digest: &digest::Digest) -> Hash {
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Both directions' keys of one epoch.
pub(crate) struct TrafficKeys {
    pub(crate) client: Protection,
    pub(crate) server: Protection,
}

/// The end whose Finished a verify_data belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhoseFinished {
    Client,
    Server,
}

/// The secret from which all keys of a session are derived.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct MasterSecret([u8; 48]);

impl MasterSecret {
    /// `PRF(pre_master_secret, "master secret", ClientHello.random + ServerHello.random)` (RFC 5246 §8.1).
    pub(crate) fn legacy(premaster: &Premaster, client_random: &[u8; 32], server_random: &[u8; 32]) -> Self {
        let mut secret = [0; 48];
        prf(premaster.as_bytes(), b"master secret", &[client_random, server_random], &mut secret);
        Self(secret)
    }

    /// `PRF(pre_master_secret, "extended master secret", session_hash)` (RFC 7627 §4).
    pub(crate) fn extended(premaster: &Premaster, session_hash: &Hash) -> Self {
        let mut secret = [0; 48];
        prf(premaster.as_bytes(), b"extended master secret", &[session_hash], &mut secret);
        Self(secret)
    }

    /// The bytes, for a key log only.
    pub(crate) fn expose(&self) -> &[u8; 48] {
        &self.0
    }

    /// `PRF(master_secret, "key expansion", server_random + client_random)`: no MAC keys, then keys, then salts (RFC 5246 §6.3).
    pub(crate) fn traffic_keys(&self, client_random: &[u8; 32], server_random: &[u8; 32]) -> TrafficKeys {
        let mut block = Zeroizing::new([0_u8; 40]);
        prf(&self.0, b"key expansion", &[server_random, client_random], block.as_mut());
        let key = |at: usize| block[at..at + 16].try_into().expect("16 bytes");
        let salt = |at: usize| block[at..at + 4].try_into().expect("4 bytes");
        TrafficKeys { client: Protection::new(key(0), salt(32)), server: Protection::new(key(16), salt(36)) }
    }

    /// `PRF(master_secret, finished_label, Hash(handshake_messages))` (RFC 5246 §7.4.9).
    pub(crate) fn verify_data(&self, whose: WhoseFinished, transcript: &Hash) -> VerifyData {
        let label: &[u8] = match whose {
            WhoseFinished::Client => b"client finished",
            WhoseFinished::Server => b"server finished",
        };
        let mut data = [0; VERIFY_DATA_BYTES];
        prf(&self.0, label, &[transcript], &mut data);
        data
    }

    /// Compares in constant time.
    pub(crate) fn finished_matches(&self, whose: WhoseFinished, transcript: &Hash, received: &[u8]) -> bool {
        self.verify_data(whose, transcript).ct_eq(received).into()
    }
}

/// `P_SHA256(secret, label + seed)` (RFC 5246 §5).
fn prf(secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let seeded = |start: Option<&[u8]>| {
        let mut context = hmac::Context::with_key(&key);
        context.update(start.unwrap_or_default());
        context.update(label);
        for part in seed {
            context.update(part);
        }
        context.sign()
    };
    // A(1) = HMAC(secret, label + seed), A(i) = HMAC(secret, A(i - 1)).
    let mut a = seeded(None);
    let mut chunks = out.chunks_mut(32).peekable();
    while let Some(chunk) = chunks.next() {
        let block = seeded(Some(a.as_ref()));
        chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        if chunks.peek().is_some() {
            a = hmac::sign(&key, a.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "TLS 1.2 PRF test vectors" of the IETF TLS mailing list (mailarchive, msg fzVCzk-z3FShgGJ6DOXqM1ydxms), P_SHA256.
    #[test]
    fn prf_gives_the_published_vector() {
        let secret = hex::decode("9bbe436ba940f017b17652849a71db35").unwrap();
        let seed = hex::decode("a0ba9f936cda311827a6f796ffd5198c").unwrap();
        let mut out = [0; 100];
        prf(&secret, b"test label", &[&seed], &mut out);
        let expected = "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66";
        assert_eq!(hex::encode(out), expected);
    }
}
