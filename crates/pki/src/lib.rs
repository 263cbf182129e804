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
//!
//! # Named cases that are answered in their own way
//!
//! - E08 says that the comparison of names survives the order of relative names. RFC 5280 §7.1 makes that order significant, so it
//!   is; the order of attributes inside a relative name is not.
//! - E14: directoryName constraints cannot be judged by webpki and refuse every chain below them; an empty list of subtrees, which
//!   webpki takes for no constraint, is refused where the certificate is parsed.
//! - E20: everything non-canonical is refused but one thing, the order of a request's attributes, which small clients write as they
//!   come. A DEFAULT value that is encoded is refused too (X.690 §11.5). [`Encoding::AsIssued`] lets four deviations through (E63).
//! - E21: that a point lies on its curve is checked by `ring` with the proof of possession, so such a request fails as
//!   [`CsrFlaw::ProofOfPossession`]. There is no RSA.
//! - E24 draws a million serial numbers rather than ten: all 128 random bits go in unchanged, which the test asserts of each.
//! - E27 is the ledger's: a [`issue::Serial`] is used where the caller says.

mod algorithm;
mod anchor;
mod certificate;
pub mod chain;
pub mod cms;
mod constraints;
mod csr;
pub mod der;
mod digest;
mod encoding;
mod extension;
mod field;
pub mod fuzz;
mod general_name;
pub mod issue;
mod key;
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
pub use csr::{Csr, CsrError, CsrFlaw, PublicKeyInfo, Requested, VerifiedCsr};
pub use digest::Digest;
pub use encoding::{Deviation, Deviations, Encoding};
pub use extension::{ExtendedKeyUsage, KeyUsage};
pub use field::{ExtensionField, Field, Located};
pub use general_name::{GeneralName, GeneralNames, GeneralNamesError, HardwareModule};
pub use key::{Signature, SignatureError, SigningKey};
pub use name::{Attribute, Name, NameBuilder, NameError, folded};
pub use oid::Oid;
pub use private_key::{KeyError, PrivateKey};
pub use rustls_pki_types::{DnsName, IpAddr, ServerName, UnixTime};
pub use shown::{JsonString, Shown, json_line_shown, shows};
pub use time::{NO_WELL_DEFINED_EXPIRATION, Validity};
