//! All cryptography of the engine behind one module: suites, record protection, key schedule, keys and signatures.
//!
//! The primitives come from `ring` (P-256, P-384, x25519, SHA-2, HMAC, AES-GCM) and RustCrypto (`aes` and `ccm`, because ring has no CCM). No
//! other module names either library, so a second provider changes only this folder.

mod aead;
mod exchange;
mod failure;
mod kdf;
mod keys;
mod mac;

pub use aead::Suite;
pub(crate) use aead::{AAD_BYTES, EXPLICIT_NONCE_BYTES, Protection};
pub use exchange::Group;
pub(crate) use exchange::{EphemeralKey, Premaster};
pub(crate) use kdf::{Hash, MasterSecret, Sha256, TrafficKeys, VerifyData, WhoseFinished};
pub use keys::{EcdsaKeyFault, EcdsaPublicKey, EcdsaSigningKey, NamedCurve, SignatureCheck, SignatureScheme, Verdicts};
pub(crate) use keys::{Signature, is_der_signature, run_many};
pub(crate) use mac::MacKey;
