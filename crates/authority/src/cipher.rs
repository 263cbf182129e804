//! Whether the cipher of a session is as strong as a key that leaves under it in plain.

use pki::Curve;

use crate::refusal::Refusal;

/// RFC 7030 §4.4: "The cipher suite used to return the private key and certificate MUST offer confidentiality commensurate with the private key
/// being delivered to the client."
pub(crate) fn check_cipher(cipher_bits: u16, key: Curve) -> Result<(), Refusal> {
    if cipher_bits >= key.security_bits() { Ok(()) } else { Err(Refusal::KeyCipher(key)) }
}
