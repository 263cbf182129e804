//! The signatures of a path: the step from a path without faults to a verified chain.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::anchors::Anchors;
use super::demand::{Demand, LeafUse};
use super::error::{ChainError, ChainRefusal};
use super::judge;
use super::path::{self, ChainPath};
use super::remembered::AuthoritySignature;
use super::sent::{CHAIN_CERTIFICATES_MAX, Chain};
use crate::algorithm::{PublicKey, SignatureAlgorithm};
use crate::certificate::Certificate;
use crate::encoding::Deviations;
use crate::key::Signature;

/// Signatures verified for one chain: each of the seven levels twice, and two more for anchors that share a name. It bounds the
/// work that a peer can cause after proving only its address; webpki alone would verify up to 100.
pub const SIGNATURES_MAX: usize = 16;

const _: () = assert!(SIGNATURES_MAX >= 2 * (CHAIN_CERTIFICATES_MAX - 1));

/// A chain that leads to an anchor.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The peer's own certificate.
    pub leaf: Arc<Certificate>,
    /// The anchor that matched: an index into [`Anchors::certificates`].
    pub anchor: usize,
    /// The deviations from DER in the certificates of its path, without the anchor's.
    pub deviations: Deviations,
    /// The signatures of authorities on its path that were verified now, for [`Anchors::remember`].
    pub authorities: Vec<AuthoritySignature>,
}

/// A chain without faults whose signatures have not been verified. Its sender may have copied the certificates from anywhere.
///
/// It cannot be cloned, and [`Unproven::conclude`] is the only way from it to a [`Verified`].
pub struct Unproven<A> {
    anchors: A,
    chain: Chain,
    demand: Demand,
    /// Paths to try, the current one first.
    paths: std::vec::IntoIter<ChainPath>,
    path: ChainPath,
    /// Whether the search for paths stopped before it found all of them.
    cut_off: bool,
    /// Signatures of earlier paths, and whether they are good.
    known: Vec<(Link, bool)>,
    /// Signatures of the current path whose result is not known yet.
    asked: SignaturesAsked,
    /// Signatures requested so far.
    spent: usize,
    /// Why the first path failed.
    first: Option<ChainRefusal>,
}

/// A signature: the certificate that contains it, and the certificate whose key made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link {
    certificate: usize,
    issuer: Issuer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Issuer {
    Sent(usize),
    Anchor(usize),
}

/// The unverified signatures of one path: at most one for each certificate below its anchor.
#[derive(Clone, Copy, Debug)]
struct SignaturesAsked {
    links: [Link; CHAIN_CERTIFICATES_MAX],
    count: usize,
}

impl SignaturesAsked {
    const NONE: Self =
        Self { links: [Link { certificate: 0, issuer: Issuer::Sent(0) }; CHAIN_CERTIFICATES_MAX], count: 0 };

    fn links(&self) -> &[Link] {
        self.links.get(..self.count).unwrap_or_default()
    }

    fn push(&mut self, link: Link) {
        if let Some(place) = self.links.get_mut(self.count) {
            *place = link;
            self.count += 1;
        }
    }
}

/// A signature to verify.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The key that must have made the signature.
    pub key: PublicKey<'a>,
    /// The signature's algorithm.
    pub algorithm: SignatureAlgorithm,
    /// The signed bytes.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// The result of a round of checks.
#[derive(Debug)]
pub enum Conclusion<A> {
    /// All signatures of a path are good.
    Proven(Verified),
    /// A signature is bad, and another path with other checks remains.
    Further(Box<Unproven<A>>),
}

impl<A: Borrow<Anchors>> Unproven<A> {
    pub(super) fn begin(anchors: A, chain: Chain, leaf_use: LeafUse, utc: UnixTime) -> Result<Self, ChainRefusal> {
        judge::check_leaf(&chain.leaf, anchors.borrow())?;
        let found = path::find(&chain, anchors.borrow())?;
        let mut paths = found.found.into_iter();
        let Some(path) = paths.next() else { return Err(ChainError::UnknownIssuer.into()) };
        let begun = Self {
            anchors,
            chain,
            demand: Demand { leaf_use, utc },
            paths,
            path,
            cut_off: found.cut_off,
            known: Vec::new(),
            asked: SignaturesAsked::NONE,
            spent: 0,
            first: None,
        };
        begun.try_path()
    }

    /// The peer's own certificate. Nothing proves yet that the peer has its key, or that its issuer signed it.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.chain.leaf
    }

    /// The signatures of the current path that have not been verified yet.
    pub fn checks(&self) -> impl Iterator<Item = Check<'_>> {
        self.asked.links().iter().filter_map(|link| self.check(*link))
    }

    /// Takes the result of each check, in the order of the checks, and continues.
    ///
    /// # Errors
    /// [`ChainRefusal`] if no path remains, or if [`SIGNATURES_MAX`] signatures have been verified.
    pub fn conclude(mut self, results: impl ExactSizeIterator<Item = bool>) -> Result<Conclusion<A>, ChainRefusal> {
        let asked = self.asked;
        // A missing result counts as a bad signature.
        if results.len() != asked.count {
            return Err(ChainError::BadSignature.into());
        }
        let mut good = [false; CHAIN_CERTIFICATES_MAX];
        good.iter_mut().zip(results).for_each(|(place, result)| *place = result);
        let results = || asked.links().iter().copied().zip(good);
        let Some((bad, _)) = results().find(|(_, good)| !good) else {
            let members = self.path.indices().filter_map(|index| self.chain.certificate(index));
            let deviations = members.map(Certificate::deviations).fold(Deviations::default(), Deviations::and);
            let leaf = Arc::clone(&self.chain.leaf);
            let authorities = self.authorities_proven();
            return Ok(Conclusion::Proven(Verified { leaf, anchor: self.path.anchor, deviations, authorities }));
        };
        let refusal = self.bad_signature(bad);
        self.known.extend(results());
        self.next_path(refusal).map(|next| Conclusion::Further(Box::new(next)))
    }

    /// Verifies all signatures at once.
    ///
    /// # Errors
    /// [`ChainRefusal`], with one variant for each cause.
    pub fn run(self) -> Result<Verified, ChainRefusal> {
        let mut unproven = self;
        loop {
            let mut results = [false; CHAIN_CERTIFICATES_MAX];
            let mut count = 0;
            for (result, check) in results.iter_mut().zip(unproven.checks()) {
                *result = check.key.verify_as(check.algorithm, check.message, check.signature).is_ok();
                count += 1;
            }
            match unproven.conclude(results.into_iter().take(count))? {
                Conclusion::Proven(verified) => return Ok(verified),
                Conclusion::Further(next) => unproven = *next,
            }
        }
    }

    fn next_path(mut self, refusal: ChainRefusal) -> Result<Self, ChainRefusal> {
        self.give_up_path(refusal)?;
        self.try_path()
    }

    /// Moves to the next path; if none remains, the chain fails with the fault of the first path.
    fn give_up_path(&mut self, refusal: ChainRefusal) -> Result<(), ChainRefusal> {
        let first = self.first.take().unwrap_or(refusal);
        self.path = match self.paths.next() {
            Some(path) => path,
            None if self.cut_off => return Err(ChainError::TooMuchWork.into()),
            None => return Err(first),
        };
        self.first = Some(first);
        Ok(())
    }

    /// Judges paths until one has no fault apart from its unverified signatures.
    fn try_path(mut self) -> Result<Self, ChainRefusal> {
        loop {
            let refusal = match judge::judge(&self.chain, &self.path, self.anchors.borrow(), self.demand) {
                Err(refusal) => refusal,
                Ok(()) => match self.ask() {
                    Ok(()) => return Ok(self),
                    Err(refusal) => refusal,
                },
            };
            if self.spent > SIGNATURES_MAX {
                return Err(ChainError::TooMuchWork.into());
            }
            self.give_up_path(refusal)?;
        }
    }

    /// Requests the signatures of the current path whose result is not known.
    fn ask(&mut self) -> Result<(), ChainRefusal> {
        let mut asked = SignaturesAsked::NONE;
        for (certificate, issuer) in self.path.links() {
            let issuer = issuer.map_or(Issuer::Anchor(self.path.anchor), Issuer::Sent);
            let link = Link { certificate, issuer };
            match self.known.iter().find(|(known, _)| self.is_same(*known, link)) {
                Some((_, true)) => {}
                Some((_, false)) => return Err(self.bad_signature(link)),
                None if self.is_remembered(link) => {}
                None => asked.push(link),
            }
        }
        self.spent += asked.count;
        if self.spent > SIGNATURES_MAX {
            return Err(ChainError::TooMuchWork.into());
        }
        self.asked = asked;
        Ok(())
    }

    /// Whether the signature was verified for another chain. That of a leaf is not remembered: a device proves its own.
    fn is_remembered(&self, link: Link) -> bool {
        let (Some(certificate), Some(signer)) = (self.chain.certificate(link.certificate), self.issuer(link.issuer))
        else {
            return false;
        };
        let asked = || AuthoritySignature::of(certificate, signer);
        link.certificate != 0 && self.anchors.borrow().remembered.has(&asked(), self.demand.utc)
    }

    /// The signatures of authorities that the current path rests on, as far as they were asked for. All of the path are good.
    fn authorities_proven(&self) -> Vec<AuthoritySignature> {
        let of_authorities = self.asked.links().iter().filter(|link| link.certificate != 0);
        let signature = |link: &Link| {
            let (certificate, signer) = (self.chain.certificate(link.certificate)?, self.issuer(link.issuer)?);
            Some(AuthoritySignature::of(certificate, signer))
        };
        of_authorities.filter_map(signature).collect()
    }

    /// Whether both are one signature by one key: an authority may occur twice, as sent and as trusted.
    fn is_same(&self, one: Link, other: Link) -> bool {
        one.certificate == other.certificate
            && self.issuer(one.issuer).map(Certificate::spki) == self.issuer(other.issuer).map(Certificate::spki)
    }

    fn issuer(&self, issuer: Issuer) -> Option<&Certificate> {
        match issuer {
            Issuer::Sent(index) => self.chain.certificate(index),
            Issuer::Anchor(index) => self.anchors.borrow().certificates().get(index).map(Arc::as_ref),
        }
    }

    fn check(&self, link: Link) -> Option<Check<'_>> {
        let certificate = self.chain.certificate(link.certificate)?;
        let key = self.issuer(link.issuer)?.public_key();
        // webpki has already refused a path with another algorithm; `conclude` counts a missing result as bad.
        let algorithm = certificate.signature_algorithm()?;
        Some(Check { key, algorithm, message: certificate.to_be_signed(), signature: certificate.signature() })
    }

    fn bad_signature(&self, link: Link) -> ChainRefusal {
        let Some(certificate) = self.chain.certificate(link.certificate) else {
            return ChainError::BadSignature.into();
        };
        if let Err(error) = Signature::from_der(certificate.signature()) {
            return ChainRefusal::of_certificate(ChainError::SignatureEncoding, link.certificate, certificate)
                .with(error.to_string());
        }
        let by = match link.issuer {
            Issuer::Sent(index) => format!("certificate {index} of the chain"),
            Issuer::Anchor(_) => "the trusted authority".into(),
        };
        let name = certificate.issuer();
        ChainRefusal::of_certificate(ChainError::BadSignature, link.certificate, certificate)
            .with(format!("its signature does not verify with the key of {by} of the name {name}"))
    }
}

impl<A> fmt::Debug for Unproven<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unproven").field("leaf", &self.chain.leaf).field("path", &self.path).finish_non_exhaustive()
    }
}
