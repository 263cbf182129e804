//! When two requests count as the same request.
//!
//! One request (function, profile, device, CSR) yields one certificate inside its window, even if the network repeats it. The window ends
//! with `repeat_window`, when the certificate is due for renewal, when it is revoked, and for a client that authenticates with that very
//! certificate: a client that signs deterministically renews with the same bytes every time.

use std::time::Duration;

use pki::{Digest, Validity};
use ring::digest::{Context, SHA256};
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::function::Function;

/// The key of one request: a digest over function, profile, device and CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a request; `csr` is the digest of its whole DER.
    #[must_use]
    pub fn new(function: Function, profile: &str, device: &Device, csr: &Digest) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[match function {
            Function::SimpleEnroll => 1,
            Function::SimpleReenroll => 2,
            Function::ServerKeygen => 3,
        }]);
        context.update(device.manufacturer.as_bytes());
        // Each text is preceded by its length: no two requests share an encoding.
        for text in [profile, device.id.as_str()] {
            context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(text.as_bytes());
        }
        context.update(csr.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }

    /// A key that was computed before, as stored in a ledger's row. Any 32 bytes are valid: a row can only have a wrong length.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key as bytes, for a ledger's index.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// How long a certificate answers repetitions of its request; fixed when it is issued and stored in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatWindow {
    /// From this time on an identical request counts as a new one.
    pub until: UnixTime,
}

impl RepeatWindow {
    /// The window of a certificate issued at `at`: `repeat_window`, or until it is due for renewal if that is sooner.
    #[must_use]
    pub fn new(at: UnixTime, repeat_window: Duration, validity: &Validity) -> Self {
        let by_profile = at.as_secs().saturating_add(repeat_window.as_secs());
        let until = by_profile.min(renew_after(validity).as_secs());
        Self { until: UnixTime::since_unix_epoch(Duration::from_secs(until)) }
    }

    /// Whether the certificate `issued` answers a request at `at` by a client that authenticated with
    /// `client`.
    #[must_use]
    pub fn repeats(&self, at: UnixTime, issued: &Digest, client: &Digest) -> bool {
        at < self.until && issued != client
    }
}

/// From this time a certificate is due for renewal: two thirds of its life.
pub(crate) fn renew_after(validity: &Validity) -> UnixTime {
    let (from, to) = (validity.not_before.as_secs(), validity.not_after.as_secs());
    let life = to.saturating_sub(from);
    UnixTime::since_unix_epoch(Duration::from_secs(from.saturating_add(life - life / 3)))
}

#[cfg(test)]
mod tests {
    use pki::AnchorId;
    use proptest::prelude::*;

    use super::*;
    use crate::device::DeviceId;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn every_part_of_a_request_is_in_its_key() {
        let of =
            |maker, text| Device { manufacturer: AnchorId::from_bytes([maker; 32]), id: DeviceId::new(text).unwrap() };
        let device = |text| of(1, text);
        let csr = |text: &[u8]| Digest::of(text);
        let keys = [
            Key::new(Function::SimpleEnroll, "ab", &device("c"), &csr(b"1")),
            Key::new(Function::SimpleReenroll, "ab", &device("c"), &csr(b"1")),
            Key::new(Function::SimpleEnroll, "a", &device("bc"), &csr(b"1")),
            Key::new(Function::SimpleEnroll, "ab", &device("d"), &csr(b"1")),
            Key::new(Function::SimpleEnroll, "ab", &of(2, "c"), &csr(b"1")),
            Key::new(Function::SimpleEnroll, "ab", &device("c"), &csr(b"2")),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "key {index} is unique");
        }
        assert_eq!(keys[0], Key::new(Function::SimpleEnroll, "ab", &device("c"), &csr(b"1")));
    }

    #[test]
    fn the_window_ends_with_its_time_or_when_renewal_is_due() {
        let validity = Validity { not_before: at(1_000), not_after: at(1_899) };
        assert_eq!(renew_after(&validity), at(1_600));
        assert_eq!(RepeatWindow::new(at(1_100), Duration::from_secs(100), &validity).until, at(1_200));
        assert_eq!(RepeatWindow::new(at(1_100), Duration::from_secs(9_999), &validity).until, at(1_600));
        assert_eq!(RepeatWindow::new(at(1_100), Duration::MAX, &validity).until, at(1_600));
    }

    #[test]
    fn a_certificate_never_answers_the_client_that_authenticates_with_it() {
        let window = RepeatWindow { until: at(10) };
        let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
        assert!(window.repeats(at(9), &mine, &other));
        assert!(!window.repeats(at(9), &mine, &mine));
        assert!(!window.repeats(at(10), &mine, &other));
    }

    proptest! {
        #[test]
        fn a_key_is_read_back_from_its_bytes(csr: Vec<u8>, profile: String, bytes: [u8; 32]) {
            let device = Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("d").unwrap() };
            let key = Key::new(Function::SimpleReenroll, &profile, &device, &Digest::of(&csr));
            prop_assert_eq!(Key::from_bytes(*key.as_bytes()), key);
            let any = Key::from_bytes(bytes);
            prop_assert_eq!(any.as_bytes(), &bytes);
            prop_assert_eq!(any == key, bytes == *key.as_bytes());
        }
    }
}
