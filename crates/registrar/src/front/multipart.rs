//! The answer to `serverkeygen`: a key and its certificate in one `multipart/mixed` (RFC 7030 §4.4.2, RFC 2046 §5.1).
//!
//! It is written here and read by nobody here: the Registrar's client has the reader.

use std::io::Write as _;

use zeroize::Zeroizing;

use crate::body::encode_body;

/// The type with the boundary. Base64 has no `-`, so that no line of a part can be taken for the boundary.
pub(super) const CONTENT_TYPE: &str = "multipart/mixed; boundary=muster-part";

/// RFC 7030 §4.1.3 and §4.2.3: a certs-only message.
pub(super) const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

const KEY: &str = "application/pkcs8";
/// RFC 7030 §4.4.2: "the smime-type parameter [...] server-generated-key".
const ENVELOPED_KEY: &str = "application/pkcs7-mime; smime-type=server-generated-key";

/// A private key as the authority hands it out.
#[derive(Clone, Copy)]
pub enum FrontKey<'k> {
    /// PKCS #8: TLS alone protects it.
    Pkcs8(&'k [u8]),
    /// CMS, encrypted to a key of the client (RFC 7030 §4.4.2).
    Enveloped(&'k [u8]),
}

/// The bytes, key first, as in the example of RFC 7030 appendix A.4. They are wiped when they are dropped.
pub(super) fn encode(key: FrontKey<'_>, certs_only: &[u8]) -> Zeroizing<Vec<u8>> {
    let (kind, key) = match key {
        FrontKey::Pkcs8(key) => (KEY, key),
        FrontKey::Enveloped(key) => (ENVELOPED_KEY, key),
    };
    let key = Zeroizing::new(encode_body(key));
    let certificate = encode_body(certs_only);
    // As long as it will be: a buffer that grows leaves a copy of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(512 + key.len() + certificate.len()));
    for (kind, body) in [(kind, key.as_str()), (CERTS_ONLY, certificate.as_str())] {
        // Unlike the header of a whole message, which RFC 8951 does away with, that of a part tells a reader of MIME how to read it.
        let _a_vector_takes_all =
            write!(out, "--muster-part\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n");
    }
    out.extend_from_slice(b"--muster-part--\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_with_their_types_in_base64() {
        let body = encode(FrontKey::Pkcs8(&[1, 2, 3]), &[4, 5, 6]);
        let text = std::str::from_utf8(&body).unwrap();
        let parts: Vec<&str> = text.split("--muster-part").collect();
        let [before, key, certificate, end] = parts[..] else { panic!("{text}") };
        assert_eq!((before, end), ("", "--\r\n"));
        assert!(key.contains("Content-Type: application/pkcs8\r\n") && key.ends_with("\r\n\r\nAQID\r\n"), "{key}");
        assert!(certificate.contains(CERTS_ONLY) && certificate.ends_with("\r\n\r\nBAUG\r\n"), "{certificate}");
        let text = encode(FrontKey::Enveloped(&[1]), &[4]);
        assert!(String::from_utf8_lossy(&text).contains("smime-type=server-generated-key"));
    }

    #[test]
    fn the_buffer_of_a_key_does_not_grow() {
        let key = vec![0xff; 4_096];
        let body = encode(FrontKey::Enveloped(&key), &key);
        let most = 512 + 2 * encode_body(&key).len();
        assert_eq!(body.capacity(), most, "one allocation, of the size that was asked for");
    }
}
