//! Chains: from a peer's certificates to one of our anchors (RFC 5280 §6). `rustls-webpki` validates paths; this
//! module adds what it omits.
//!
//! ```text
//!   collect_device / collect_server   chain -> Unproven: a path that is in order, and the signatures that it rests on
//!   Unproven::checks                  whoever can verify many signatures at once does so
//!   Unproven::conclude                results -> Proven(Verified), or the next path (Further), or a refusal
//! ```
//!
//! `path` finds paths, certificate by certificate; it decides nothing. `judge` gives one path to webpki, which judges it under the
//! assumption that exactly the signatures of that path are good: validity, basicConstraints with pathLenConstraint, nameConstraints,
//! critical extensions, and extKeyUsage if present. `proof` keeps this assumption as unproven until each of these signatures has
//! been verified. A signature is verified once, even if several paths contain it; that of an authority is remembered for further chains
//! (`remembered`, [`Anchors::remember`]).
//!
//! No path continues past an anchor of [`Anchors::ending_at`]: the issuer named in the certificate of such an authority is ignored.
//!
//! webpki does not check keyUsage and ignores an anchor's own pathLenConstraint. Both are checked here, and a leaf that is itself an
//! anchor is refused here. webpki refuses every chain below directoryName constraints; such a chain is [`ChainError::NameConstraints`].
//!
//! Certificates outside the path are bounded in number and otherwise ignored: a root with an RSA key, or a certificate of version 1 or
//! with an odd serial number, is refused only if a path needs it.
//!
//! Where an issuer is compared with an anchor's subject, the comparison follows RFC 5280 §7.1 (case, white space and string type
//! do not matter). Between certificates that a peer sends it is byte by byte, as in webpki.
//!
//! Revocation is not checked here: the ledger knows whether a certificate has been revoked. An authority is shut out by a change of the
//! anchors, which forgets what was remembered.

mod anchor_set;
mod anchors;
mod blame;
mod demand;
mod error;
mod judge;
mod list;
mod path;
mod proof;
mod remembered;
mod sent;

use std::borrow::Borrow;

use rustls_pki_types::{ServerName, UnixTime};

use crate::certificate::Certificate;
use demand::LeafUse;
use sent::Chain;

pub use anchor_set::AnchorSet;
pub use anchors::Anchors;
pub use error::{AnchorError, AnchorFlaw, ChainError, ChainRefusal, Culprit};
pub use list::{CertificateListError, Listed, Member, PassedOver, Unusable};
pub use proof::{Check, Conclusion, SIGNATURES_MAX, Unproven, Verified};
pub use remembered::{AUTHORITIES_REMEMBERED_MAX, AuthoritySignature};
pub use sent::CHAIN_CERTIFICATES_MAX;

/// Judges a device's chain, leaf first, except for its signatures. The device authenticates as a client in a handshake.
///
/// If the leaf has keyUsage, it must contain digitalSignature (RFC 5280 §4.2.1.3). If the leaf has extKeyUsage, it must contain
/// clientAuth: IDevIDs seldom have an extKeyUsage.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn collect_device<A: Borrow<Anchors>>(
    anchors: A,
    chain: &[&[u8]],
    utc: UnixTime,
) -> Result<Unproven<A>, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.borrow().encoding)?;
    Unproven::begin(anchors, chain, LeafUse::Device, utc)
}

/// Judges the chain of a server that was dialled as `name`, leaf first, except for its signatures.
///
/// RFC 7030 §3.6.1 requires the dialled name in the certificate. If the leaf has extKeyUsage, it must contain serverAuth, so that
/// no device below the same anchor can impersonate the server; without extKeyUsage, the name in the SAN identifies the server.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn collect_server<A: Borrow<Anchors>>(
    anchors: A,
    chain: &[&[u8]],
    utc: UnixTime,
    name: &ServerName<'_>,
) -> Result<Unproven<A>, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.borrow().encoding)?;
    let unproven = begin_server(anchors, chain, utc)?;
    judge::check_name(unproven.leaf(), name)?;
    Ok(unproven)
}

/// Like [`collect_server`], for anchors of the Explicit database: "the client MUST check either the configured URI or the most recent HTTP
/// redirection URI against the server's identity ..., or the EST server certificate MUST contain the id-kp-cmcRA \[RFC6402\] extended
/// key usage extension" (RFC 7030 §3.6.1). id-kp-cmcRA stands for the name only: serverAuth is required beside it, because a certificate
/// with extKeyUsage serves no purpose that it does not list (RFC 5280 §4.2.1.12).
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn collect_server_or_ra<A: Borrow<Anchors>>(
    anchors: A,
    chain: &[&[u8]],
    utc: UnixTime,
    name: &ServerName<'_>,
) -> Result<Unproven<A>, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.borrow().encoding)?;
    let unproven = begin_server(anchors, chain, utc)?;
    if !unproven.leaf().is_registration_authority() {
        judge::check_name(unproven.leaf(), name)?;
    }
    Ok(unproven)
}

/// Like [`collect_server_or_ra`] for a server whose name nobody has configured, such as one that answered a multicast: id-kp-cmcRA is required.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn collect_ra<A: Borrow<Anchors>>(anchors: A, chain: &[&[u8]], utc: UnixTime) -> Result<Unproven<A>, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.borrow().encoding)?;
    if !chain.leaf.is_registration_authority() {
        return Err(ChainRefusal::of_certificate(ChainError::ExtendedKeyUsage, 0, &chain.leaf));
    }
    begin_server(anchors, chain, utc)
}

fn begin_server<A: Borrow<Anchors>>(anchors: A, chain: Chain, utc: UnixTime) -> Result<Unproven<A>, ChainRefusal> {
    if let Some(purposes) = chain.leaf.extended_key_usage()
        && !purposes.server_auth
    {
        let error = if purposes.client_auth { ChainError::DeviceAsServer } else { ChainError::ExtendedKeyUsage };
        return Err(ChainRefusal::of_certificate(error, 0, &chain.leaf));
    }
    Unproven::begin(anchors, chain, LeafUse::Server, utc)
}

/// Runs [`collect_device`] and verifies all signatures at once.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn verify_device(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainRefusal> {
    collect_device(anchors, chain, utc)?.run()
}

/// Runs [`collect_server`] and verifies all signatures at once.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn verify_server(
    anchors: &Anchors,
    chain: &[&[u8]],
    utc: UnixTime,
    name: &ServerName<'_>,
) -> Result<Verified, ChainRefusal> {
    collect_server(anchors, chain, utc, name)?.run()
}

/// [`verify_server`] without a name: whether a chain is a server's chain at all. A server checks its own chain with it before it uses the
/// chain. extKeyUsage is required here: without a name, nothing else marks the leaf as a server's.
///
/// # Errors
/// [`ChainRefusal`], with one variant for each cause.
pub fn verify_server_of_any_name(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.encoding)?;
    if chain.leaf.extended_key_usage().is_none() {
        return Err(ChainRefusal::of_certificate(ChainError::ExtendedKeyUsage, 0, &chain.leaf));
    }
    begin_server(anchors, chain, utc)?.run()
}

/// Whether the certificate contains the name of a server, compared as [`verify_server`] does: RFC 9525 §6.3 matches the
/// dNSNames and iPAddresses of the SAN; a common name never identifies a server.
#[must_use]
pub fn bears_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    judge::check_name(certificate, name).is_ok()
}
