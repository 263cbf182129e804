//! Bytes in, DER out: strict DER, chains, CSRs, certificates, CMS.
//!
//! Everything that a peer or a file says in ASN.1 passes here once and becomes a type that nobody checks again:
//!
//! ```text
//! bytes -> der::check_strict -> Certificate ---> chain::verify_device / verify_server -> Verified
//!                            -> Csr -> verify -> VerifiedCsr --+
//!                                                              v
//!                     issue::Issuer + TemplateSpec -> Template::fill -> ToBeSigned -> (a signer) -> assemble -> Certificate
//!                                                                                                            -> cms::certs_only
//! ```
//!
//! Our own strict DER pass and algorithm allow-list run before `x509-parser` or `rustls-webpki` look at anything: both
//! accept encodings that DER forbids. The arithmetic is `ring`'s, path validation is webpki's; what webpki leaves out
//! (keyUsage, the server's EKU, a leaf that is itself an anchor) is added in [`chain`].
//!
//! This crate is pure: it reads no clock, file, socket or global randomness. Times are [`UnixTime`] arguments and
//! randomness is a `ring::rand::SecureRandom` for one operation. It is not an authority: what may be issued to whom is
//! decided by the crate `authority`; here the decision becomes bytes.

mod algorithm;
mod certificate;
pub mod chain;
pub mod cms;
mod csr;
pub mod der;
mod digest;
mod extension;
pub mod fuzz;
mod general_name;
pub mod issue;
mod key;
pub mod make;
mod name;
pub mod oid;
pub mod pem;
mod time;

pub use algorithm::{AlgorithmError, Curve, PublicKey, SignatureAlgorithm, key_identifier};
pub use certificate::{Certificate, CertificateError};
pub use csr::{Csr, CsrError, Requested, VerifiedCsr};
pub use digest::Digest;
pub use extension::{ExtendedKeyUsage, KeyUsage};
pub use general_name::{GeneralName, GeneralNames, GeneralNamesError};
pub use key::{KeyFault, PrivateKey, Signature, SignatureError, SigningKey};
pub use name::{Attribute, Name, NameBuilder, NameError};
pub use oid::Oid;
pub use rustls_pki_types::{DnsName, IpAddr, ServerName, UnixTime};
pub use time::{NO_WELL_DEFINED_EXPIRATION, Validity};
