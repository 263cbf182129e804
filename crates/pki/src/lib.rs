//! Bytes in, DER out: strict DER, chains, CSRs, certificates, CMS.
//!
//! All ASN.1 from peers and files is parsed once here and becomes a type that needs no further checks:
//!
//! ```text
//! bytes -> der::check_strict -> Certificate ---> chain::verify_device / verify_server -> Verified
//!                            -> Csr -> verify -> VerifiedCsr --+
//!                                                              v
//!                     issue::Issuer + TemplateSpec -> Template::fill -> ToBeSigned -> (a signer) -> assemble -> Certificate
//!                                                                                                            -> cms::certs_only
//! ```
//!
//! Our own strict DER pass and algorithm allow-list run before `x509-parser` or `rustls-webpki` reads anything: both
//! accept encodings that DER forbids. `ring` does the arithmetic, webpki validates paths; [`chain`] adds the checks
//! that webpki omits (keyUsage, the server's EKU, a leaf that is itself an anchor).
//!
//! This crate is pure: it reads no clock, file, socket or global randomness. Times are [`UnixTime`] arguments, and
//! each operation takes its own `ring::rand::SecureRandom`. It is not an authority: the crate `authority` decides
//! which certificates to issue, and this crate encodes the result.
//!
//! # Named cases that differ from their description
//!
//! - E08 says that the comparison of names ignores the order of relative names. RFC 5280 §7.1 makes that order significant, so the
//!   comparison respects it; the order of attributes inside a relative name does not matter.
//! - E14: webpki cannot judge directoryName constraints and refuses every chain below them. An empty list of subtrees, which
//!   webpki treats as no constraint, is refused when the certificate is parsed.
//! - E20: everything non-canonical is refused except the order of a request's attributes, which small clients do not sort. An
//!   encoded DEFAULT value is refused too (X.690 §11.5). [`Encoding::AsIssued`] accepts four deviations (E63).
//! - E21: `ring` checks with the proof of possession that a point lies on its curve, so a request with a bad point
//!   fails as [`CsrFlaw::ProofOfPossession`]. RSA is not supported.
//! - E24 draws a million serial numbers instead of ten: the test asserts for each that it contains all 128 random bits
//!   unchanged.
//! - E27 belongs to the ledger: this crate uses the [`issue::Serial`] that the caller passes.

mod algorithm;
mod anchor;
mod certificate;
pub mod chain;
pub mod cms;
mod constraints;
mod csr;
pub mod csr_attributes;
pub mod der;
mod digest;
mod encoding;
pub mod enveloped_key;
mod extension;
mod field;
mod foreign_root;
pub mod fuzz;
mod general_name;
mod generated_key;
pub mod issue;
mod key;
mod key_encryption;
pub mod linking;
pub mod make;
mod name;
pub mod oid;
pub mod pem;
mod private_key;
mod shown;
mod time;

pub use algorithm::{AlgorithmError, Curve, PublicKey, SignatureAlgorithm, key_identifier};
pub use anchor::AnchorId;
pub use certificate::{Certificate, CertificateError, CertificateFlaw};
pub use constraints::NameConstraints;
pub use csr::{Csr, CsrContents, CsrError, CsrFlaw, KeyProtection, PublicKeyInfo, Requested, VerifiedCsr};
pub use digest::Digest;
pub use encoding::{Deviation, Deviations, Encoding};
pub use extension::{ExtendedKeyUsage, KeyUsage};
pub use field::{ExtensionField, Field, LocatedError};
pub use foreign_root::ForeignRoot;
pub use general_name::{GeneralName, GeneralNames, GeneralNamesError, HardwareModule};
pub use generated_key::GeneratedKey;
pub use key::{Signature, SignatureError, SigningKey};
pub use key_encryption::{KeyEncryptionKey, KeyEncryptionKeys, KeyEncryptionKeysError, KeyEncryptionKeysFlaw};
pub use name::{Attribute, Name, NameBuilder, NameError, folded};
pub use oid::Oid;
pub use private_key::{KeyError, PrivateKey};
pub use rustls_pki_types::{DnsName, IpAddr, ServerName, UnixTime};
pub use shown::{JsonString, Shown, json_line_shown, shows};
pub use time::{NO_WELL_DEFINED_EXPIRATION, Validity};
