//! Linking a request to its DTLS session: tls-unique in base64 (RFC 7030 §3.5, RFC 7894 §3.3).
//!
//! RFC 7030 §3.5: "The client MUST then place the base64-encoded tls-unique value in the challengePassword". RFC 7894 §3.3 adds the attribute
//! estIdentityLinking for the same text. `make::csr` writes either, [`crate::CsrContents::link`] compares them. This module reads no session:
//! the caller has the value from the session's facts, and decides whether a request must be linked.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;

/// tls-unique (RFC 5929 §3.1): the verify_data of the first Finished message of the session's handshake, 12 octets in (D)TLS 1.2 (RFC 5246
/// §7.4.9).
pub type TlsUniqueValue = [u8; 12];

/// Octets of the base64 of a [`TlsUniqueValue`]; it needs no padding.
const LINKING_TEXT_LEN: usize = 16;
const _: () = assert!(size_of::<TlsUniqueValue>() / 3 * 4 == LINKING_TEXT_LEN);

/// The text that links a request to a session: a tls-unique in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkingText([u8; LINKING_TEXT_LEN]);

impl LinkingText {
    /// Encodes a tls-unique (RFC 4648 §4, without line breaks).
    #[must_use]
    pub fn of(tls_unique: &TlsUniqueValue) -> Self {
        let mut text = [0; LINKING_TEXT_LEN];
        let written = BASE64.encode_slice(tls_unique, &mut text);
        debug_assert_eq!(written, Ok(LINKING_TEXT_LEN), "twelve octets are sixteen characters");
        Self(text)
    }

    /// The tls-unique in a text; `None` if it is not exactly one in base64.
    #[must_use]
    pub fn read(text: &str) -> Option<TlsUniqueValue> {
        let value: TlsUniqueValue = BASE64.decode(text).ok()?.try_into().ok()?;
        Self::of(&value).is(text).then_some(value)
    }

    /// The text, for challengePassword or estIdentityLinking.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }

    /// Whether `claimed` is exactly this text: no white space, no other alphabet, no other length. It takes the same time for every text of
    /// the right length.
    #[must_use]
    pub fn is(&self, claimed: &str) -> bool {
        self.0.ct_eq(claimed.as_bytes()).into()
    }
}

impl fmt::Debug for LinkingText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkingText({})", self.as_str())
    }
}

/// Whether a request is linked to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionLink {
    /// It has no attribute that links it.
    Absent,
    /// It is linked to this session.
    Matches,
    /// It has an attribute with another value: of another session, of an attacker, or not a tls-unique at all.
    Mismatch,
}

impl SessionLink {
    /// Compares the attributes of a request. If both are there, estIdentityLinking decides: RFC 7894 §3 leaves challengePassword to its other
    /// meanings then.
    #[must_use]
    pub fn of(challenge_password: Option<&str>, identity_linking: Option<&str>, tls_unique: &TlsUniqueValue) -> Self {
        match identity_linking.or(challenge_password) {
            None => Self::Absent,
            Some(claimed) if LinkingText::of(tls_unique).is(claimed) => Self::Matches,
            Some(_) => Self::Mismatch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS_UNIQUE: TlsUniqueValue = [0xfb, 0xff, 0xfe, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn only_the_exact_base64_of_the_session_links() {
        let text = LinkingText::of(&TLS_UNIQUE);
        assert_eq!(text.as_str(), "+//+AAECAwQFBgcI", "as `printf ... | base64` has it");
        assert!(text.is("+//+AAECAwQFBgcI"));
        for wrong in [
            "",
            "+//+AAECAwQFBgcJ",
            "-__-AAECAwQFBgcI",
            "+//+AAECAwQFBgcI=",
            "+//+AAECAwQFBgcI\n",
            " +//+AAECAwQFBgcI",
            "+//+AAECAwQFBgc",
            "fbfffe000102030405060708",
        ] {
            assert!(!text.is(wrong), "{wrong:?}");
            assert_ne!(LinkingText::read(wrong), Some(TLS_UNIQUE), "{wrong:?}");
        }
        assert_eq!(LinkingText::read(text.as_str()), Some(TLS_UNIQUE));
        assert_eq!(LinkingText::read("revoke me"), None);
    }

    #[test]
    fn e03_every_bit_of_the_tls_unique_counts() {
        let ours = LinkingText::of(&TLS_UNIQUE);
        for bit in 0..96 {
            let mut other = TLS_UNIQUE;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!ours.is(LinkingText::of(&other).as_str()), "bit {bit}");
        }
    }

    #[test]
    fn the_attribute_made_for_linking_decides_if_there_are_two() {
        let text = LinkingText::of(&TLS_UNIQUE);
        let link = |challenge, linking| SessionLink::of(challenge, linking, &TLS_UNIQUE);
        assert_eq!(link(None, None), SessionLink::Absent);
        assert_eq!(link(Some(text.as_str()), None), SessionLink::Matches);
        assert_eq!(link(Some("revoke me"), None), SessionLink::Mismatch);
        assert_eq!(link(None, Some(text.as_str())), SessionLink::Matches);
        assert_eq!(link(Some("revoke me"), Some(text.as_str())), SessionLink::Matches);
        assert_eq!(link(Some(text.as_str()), Some("other")), SessionLink::Mismatch);
    }
}
