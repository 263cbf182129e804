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

mod blame;
mod error;
mod judge;
mod list;
mod path;
mod proof;

use std::borrow::Borrow;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};

use crate::certificate::{Certificate, CertificateError};
use crate::der::CERTIFICATE_LIMITS;
use crate::encoding::{Deviations, Encoding};

pub use error::{AnchorError, AnchorFlaw, ChainError, ChainRefusal, Culprit};
pub use list::{Listed, Member, NothingUsable, PassedOver, Unusable};
pub use proof::{Check, Conclusion, Unproven};

/// Certificates that a peer may send: a leaf, the six intermediate authorities that webpki can stack, and the root that some
/// devices append although nobody needs it.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Signatures verified for one chain: each of the seven levels twice, and two to spare for anchors that share a name. A peer that
/// proved no more than its address cannot make us work longer; webpki alone would go to 100.
pub const SIGNATURES_MAX: usize = 16;

const _: () = assert!(SIGNATURES_MAX >= 2 * (CHAIN_CERTIFICATES_MAX - 1));

/// Certificates that are trusted to issue: the manufacturers of a profile, the roots of a client.
#[derive(Clone, Debug)]
pub struct Anchors {
    certificates: Vec<Arc<Certificate>>,
    /// In the same order as `certificates`.
    trust: Vec<TrustAnchor<'static>>,
    /// In the same order: whether leaves below it may be past their notAfter.
    expired_below: Vec<bool>,
    /// In the same order: whether no path leads past it.
    last: Vec<bool>,
    /// How the certificates below them are read.
    encoding: Encoding,
}

impl Anchors {
    /// Anchors from the certificates of authorities, root or not: trust begins at each of them (RFC 5280 §6.1.1 (d)).
    ///
    /// # Errors
    /// [`AnchorError`] for the first certificate that cannot be an anchor. A list that somebody else put together is sorted first:
    /// [`Listed::anchors`].
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Result<Self, AnchorError> {
        let trust = certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| anchor_of(certificate).map_err(|fault| AnchorError { index, fault }))
            .collect::<Result<_, _>>()?;
        let none = vec![false; certificates.len()];
        Ok(Self { certificates, trust, expired_below: none.clone(), last: none, encoding: Encoding::Strict })
    }

    /// Lets leaves below some anchors pass although they are past their notAfter: IDevIDs that outlived their date in a warehouse. Such
    /// a leaf is judged at its own notAfter, everything above it now.
    #[must_use]
    pub fn accepting_expired_below(mut self, accepts: impl Fn(&Certificate) -> bool) -> Self {
        self.expired_below = self.certificates.iter().map(|anchor| accepts(anchor)).collect();
        self
    }

    /// Lets no path lead past some anchors: a certificate of such an authority that a peer sends does not lead on to an anchor above it, which
    /// may stand for another origin with other rules. Past any other anchor a path may go on, for the peer may have a later certificate of
    /// it than we, with wider constraints.
    #[must_use]
    pub fn ending_at(mut self, is_last: impl Fn(&Certificate) -> bool) -> Self {
        self.last = self.certificates.iter().map(|anchor| is_last(anchor)).collect();
        self
    }

    /// Reads the certificates below these anchors in this way. A verifier that serves several profiles reads as leniently as one of them
    /// does; the others look at [`Verified::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The certificates, in the order in which they were given.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

/// The certificate as an anchor, as webpki wants it.
fn anchor_of(certificate: &Certificate) -> Result<TrustAnchor<'static>, AnchorFlaw> {
    if !certificate.is_ca() {
        return Err(AnchorFlaw::NotAnAuthority);
    }
    if certificate.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(AnchorFlaw::KeyUsage);
    }
    let der = CertificateDer::from(certificate.der());
    let anchor = webpki::anchor_from_trusted_cert(&der);
    anchor.map(|anchor| anchor.to_owned()).map_err(|error| AnchorFlaw::Invalid(ChainError::from_webpki(&error)))
}

/// A chain that leads to an anchor.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The peer's own certificate.
    pub leaf: Arc<Certificate>,
    /// The anchor that matched: an index into [`Anchors::certificates`].
    pub anchor: usize,
    /// What of DER the certificates of its path do without, the anchor's aside.
    pub deviations: Deviations,
}

/// What a leaf is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Device,
    Server,
}

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

/// What a peer sent.
struct Chain {
    leaf: Arc<Certificate>,
    others: Vec<Other>,
}

/// A certificate beside the leaf.
enum Other {
    Readable(Box<Certificate>),
    /// It matters only if a path needs it: then this is why there is none. `subject` is what can be told of its name, in DER.
    Unreadable {
        error: CertificateError,
        subject: Option<Box<[u8]>>,
    },
}

impl Other {
    fn readable(&self) -> Option<&Certificate> {
        match self {
            Self::Readable(certificate) => Some(certificate),
            Self::Unreadable { .. } => None,
        }
    }
}

impl Chain {
    fn parse(chain: &[&[u8]], encoding: Encoding) -> Result<Self, ChainRefusal> {
        let (&leaf, rest) = chain.split_first().ok_or(ChainError::Empty)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(ChainError::TooManyCertificates { count: chain.len() }.into());
        }
        let leaf = Certificate::parse_as(leaf, encoding).map_err(|error| {
            let subject = path::skimmed_subject(leaf).and_then(|subject| crate::Name::parse(subject).ok());
            ChainRefusal::of(ChainError::Certificate { index: 0, error }, Culprit { index: Some(0), subject })
        })?;
        let other = |der: &&[u8]| match Certificate::parse_as(der, encoding) {
            Ok(certificate) => Other::Readable(Box::new(certificate)),
            Err(error) => Other::Unreadable { error, subject: path::skimmed_subject(der).map(Into::into) },
        };
        Ok(Self { leaf: Arc::new(leaf), others: rest.iter().map(other).collect() })
    }

    /// The leaf, or one of the others; an index as in the peer's message.
    fn certificate(&self, index: usize) -> Option<&Certificate> {
        match index.checked_sub(1) {
            None => Some(&self.leaf),
            Some(other) => self.others.get(other)?.readable(),
        }
    }
}

/// webpki takes certificates of up to 64 KiB; ours are smaller.
const _: () = assert!(CERTIFICATE_LIMITS.bytes_max < 65_536);
