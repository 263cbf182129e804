//! Chains: from a peer's certificates to an anchor of ours (RFC 5280 §6), by `rustls-webpki`, and what it leaves out.
//!
//! ```text
//!   collect_device / collect_server   chain -> Unproven: a path that is in order, and the signatures that it rests on
//!   Unproven::checks                  whoever can verify many signatures at once does so
//!   Unproven::conclude                results -> Proven(Verified), or the next path (Further), or a refusal
//! ```
//!
//! `path` finds paths, certificate by certificate; it decides nothing. `judge` gives one path to webpki, which judges it under the
//! assumption that exactly the signatures of that path are good: validity, basicConstraints with pathLenConstraint, nameConstraints,
//! critical extensions, extKeyUsage where there is one. `proof` holds what is assumed until each of these signatures has been
//! verified. A signature is verified once, however many paths it is part of.
//!
//! No path leads past an anchor of [`Anchors::ending_at`]: what a certificate of such an authority says of who is above it is of no interest.
//!
//! webpki does not look at keyUsage and forgets an anchor's own pathLenConstraint. These are checked here, as is that a leaf is not one
//! of the anchors themselves. webpki refuses every chain below directoryName constraints; such a chain is [`ChainError::NameConstraints`].
//!
//! What a peer sends beside its path is bounded and otherwise of no interest: a root with an RSA key, a certificate of version 1 or with
//! an odd serial number is refused only where a path needs it.
//!
//! Issuer and subject are compared as RFC 5280 §7.1 says (case, white space and string type do not matter) where the subject is an
//! anchor's; between certificates that a peer sends, byte by byte, as webpki does.
//!
//! Revocation is not looked at: whether a certificate still stands is the ledger's to say.

mod anchors;
mod blame;
mod demand;
mod error;
mod judge;
mod list;
mod path;
mod proof;
mod sent;

use std::borrow::Borrow;

use rustls_pki_types::{ServerName, UnixTime};

use crate::certificate::Certificate;
use demand::Role;
use sent::Chain;

pub use anchors::Anchors;
pub use error::{AnchorError, AnchorFlaw, ChainError, ChainRefusal, Culprit};
pub use list::{Listed, Member, NothingUsable, PassedOver, Unusable};
pub use proof::{Check, Conclusion, SIGNATURES_MAX, Unproven, Verified};
pub use sent::CHAIN_CERTIFICATES_MAX;

/// Judges everything but the signatures of a device's chain, leaf first: for a handshake in which it authenticates as a client.
///
/// keyUsage has to contain digitalSignature where there is a keyUsage (RFC 5280 §4.2.1.3), and extKeyUsage clientAuth where there is
/// an extKeyUsage: IDevIDs seldom have one.
///
/// # Errors
/// [`ChainRefusal`], each cause on its own.
pub fn collect_device<A: Borrow<Anchors>>(
    anchors: A,
    chain: &[&[u8]],
    utc: UnixTime,
) -> Result<Unproven<A>, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.borrow().encoding)?;
    Unproven::begin(anchors, chain, Role::Device, utc)
}

/// Judges everything but the signatures of the chain of a server, leaf first, that was dialled as `name`.
///
/// RFC 7030 §3.6.1 wants the name that was dialled in the certificate. Where there is an extKeyUsage, it has to contain serverAuth,
/// so that no device below the same anchor can play the server; where there is none, the name in the SAN is what speaks for it.
///
/// # Errors
/// [`ChainRefusal`], each cause on its own.
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

fn begin_server<A: Borrow<Anchors>>(anchors: A, chain: Chain, utc: UnixTime) -> Result<Unproven<A>, ChainRefusal> {
    if let Some(purposes) = chain.leaf.extended_key_usage()
        && !purposes.server_auth
    {
        let error = if purposes.client_auth { ChainError::DeviceAsServer } else { ChainError::ExtendedKeyUsage };
        return Err(ChainRefusal::of_certificate(error, 0, &chain.leaf));
    }
    Unproven::begin(anchors, chain, Role::Server, utc)
}

/// [`collect_device`] and all that follows from it, on the spot.
///
/// # Errors
/// [`ChainRefusal`], each cause on its own.
pub fn verify_device(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainRefusal> {
    collect_device(anchors, chain, utc)?.run()
}

/// [`collect_server`] and all that follows from it, on the spot.
///
/// # Errors
/// [`ChainRefusal`], each cause on its own.
pub fn verify_server(
    anchors: &Anchors,
    chain: &[&[u8]],
    utc: UnixTime,
    name: &ServerName<'_>,
) -> Result<Verified, ChainRefusal> {
    collect_server(anchors, chain, utc, name)?.run()
}

/// [`verify_server`] without a name: whether a chain is that of a server at all, for whoever is about to show it. Here extKeyUsage has to be
/// there: without a name, nothing else would say that it is one.
///
/// # Errors
/// [`ChainRefusal`], each cause on its own.
pub fn verify_server_of_any_name(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainRefusal> {
    let chain = Chain::parse(chain, anchors.encoding)?;
    if chain.leaf.extended_key_usage().is_none() {
        return Err(ChainRefusal::of_certificate(ChainError::ExtendedKeyUsage, 0, &chain.leaf));
    }
    begin_server(anchors, chain, utc)?.run()
}

/// Whether the certificate bears the name of a server, as [`verify_server`] compares it: RFC 9525 §6.3 matches the dNSNames and
/// iPAddresses of the SAN; a common name never names a server.
#[must_use]
pub fn bears_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    judge::check_name(certificate, name).is_ok()
}
