//! HMAC-SHA256 for values that only we verify: cookies.

use ring::hmac;
use subtle::ConstantTimeEq;

/// A key of HMAC-SHA256.
#[derive(Clone)]
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The first `N` bytes of the HMAC over the concatenation of the parts. Allocates nothing.
    pub(crate) fn tag<const N: usize>(&self, parts: &[&[u8]]) -> [u8; N] {
        const { assert!(N <= 32) };
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref()[..N].try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    /// Compares in constant time.
    pub(crate) fn verify<const N: usize>(&self, parts: &[&[u8]], received: &[u8]) -> bool {
        self.tag::<N>(parts).ct_eq(received).into()
    }
}
