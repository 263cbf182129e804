//! Authenticates the peer: the two verifiers that the DTLS engine asks, on top of `pki`'s path validation.
//!
//! [`PeerVerifier`] judges devices on the server, against the union of all profiles' anchors; which of them a profile
//! accepts is the authority's decision, request by request. [`ServerVerifier`] judges the server on a device, as RFC 7030
//! §3.6 says: an anchor that was given, the name that was dialled, a certificate for servers. Under anchors of the Explicit
//! database, which are those of the device's own CA, id-kp-cmcRA stands for the name.
//!
//! A session keeps a [`PeerDevice`], which is a digest; the certificate itself lives once in a [`CertificateCache`].

mod certificates;
mod device;
mod lock;
mod refusal;
mod server;
mod shown;
#[cfg(test)]
mod tests;

pub(crate) use certificates::RequestMark;
pub use certificates::{Authenticated, CertificateCache};
pub use device::{NameAuthorities, PeerDevice, PeerVerifier};
pub use server::{AnchorDatabase, AuthenticatedServer, ServerVerifier};
