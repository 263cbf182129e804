//! The extension trusted_ca_keys (RFC 6066 §6), the Trusted CA Indication: the authorities that a client accepts above a server's
//! certificate.
//!
//! ```text
//!   TrustedAuthority = type, identifier:  0 pre_agreed, nothing   1 key_sha1_hash, 20 bytes
//!                                         2 x509_name, a vector   3 cert_sha1_hash, 20 bytes
//! ```
//!
//! Our client names keys. A key hash is as short as that of a certificate, and stays the same if the root is certified anew. A name is
//! longer, and during a roll-over two roots may share it.

use super::codec::{Malformed, Reader, with_length_16};

const PRE_AGREED: u8 = 0;
const KEY_SHA1_HASH: u8 = 1;
const X509_NAME: u8 = 2;
const CERT_SHA1_HASH: u8 = 3;

const HASH_BYTES: usize = 20;

/// The SHA-1 of an authority's subjectPublicKey. It only says which authority is meant, and protects nothing: the client verifies the
/// chain that it is shown, whatever this hash has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityKeyHash([u8; HASH_BYTES]);

impl AuthorityKeyHash {
    /// Bytes of the extension without an authority: its type and length, and the length of the list.
    pub(crate) const FRAME_BYTES: usize = 6;

    /// Bytes in the extension.
    pub(crate) const BYTES: usize = 1 + HASH_BYTES;

    /// From the hash.
    #[must_use]
    pub const fn from_bytes(sha1: [u8; HASH_BYTES]) -> Self {
        Self(sha1)
    }
}

/// The content of the extension.
pub(super) fn put_authorities(out: &mut Vec<u8>, authorities: &[AuthorityKeyHash]) {
    with_length_16(out, |out| {
        for AuthorityKeyHash(hash) in authorities {
            out.push(KEY_SHA1_HASH);
            out.extend_from_slice(hash);
        }
    });
}

/// Checks the form of the extension's content and keeps nothing of it: a server of ours has one certificate. A type that RFC 6066 does not
/// define has no length that a reader could know, so it does not decode.
pub(super) fn check_authorities(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let mut list = Reader::new(reader.vector_16()?);
    while !list.is_empty() {
        match list.u8()? {
            PRE_AGREED => {}
            KEY_SHA1_HASH | CERT_SHA1_HASH => {
                list.array::<HASH_BYTES>()?;
            }
            // opaque DistinguishedName<1..2^16-1>
            X509_NAME if list.vector_16()?.is_empty() => return Err(Malformed),
            X509_NAME => {}
            _ => return Err(Malformed),
        }
    }
    Ok(())
}
