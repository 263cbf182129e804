//! Lists of certificates from people and servers: trust files, answers of `/crts`, chain files.
//!
//! An unusable certificate in a list is skipped and reported, as in the chain of a peer: a root with an RSA key does not prevent the use
//! of the certificates beside it.

use std::fmt;
use std::sync::Arc;

use super::anchors::anchor_of;
use super::error::AnchorFlaw;
use super::sent::skimmed_subject;
use crate::certificate::{Certificate, CertificateError};
use crate::encoding::Encoding;
use crate::name::Name;

/// The usable certificates of a list, and a reason for each of the others.
#[derive(Clone, Debug)]
pub struct Listed {
    /// In the order of the list; never empty.
    pub usable: Vec<Member>,
    /// In the order of the list.
    pub passed_over: Vec<PassedOver>,
}

/// A certificate and its place.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its place in the list, counted from 0.
    pub index: usize,
    /// The certificate.
    pub certificate: Arc<Certificate>,
}

/// A certificate that cannot be used in its position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedOver {
    /// Its place in the list, counted from 0.
    pub index: usize,
    /// Its subject, as far as it could be read.
    pub subject: Option<Name>,
    /// Why it cannot be used.
    pub reason: Unusable,
}

/// Why a certificate of a list cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// It cannot be read.
    Unreadable(CertificateError),
    /// It cannot be read under [`Encoding::Strict`], but [`Encoding::AsIssued`] accepts it.
    NotStrict(CertificateError),
    /// It can be read, but cannot be an anchor.
    NoAnchor(AnchorFlaw),
}

/// A list without a usable certificate, or without the one that is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateListError {
    /// How many certificates the list has.
    pub count: usize,
    /// The unusable certificates; empty for an empty list.
    pub passed_over: Vec<PassedOver>,
}

impl Listed {
    /// The certificates that can be anchors. [`super::Anchors::new`] accepts each of them, and so all of them together.
    ///
    /// # Errors
    /// [`CertificateListError`] if the list has no such certificate.
    pub fn anchors<D: AsRef<[u8]>>(list: &[D], encoding: Encoding) -> Result<Self, CertificateListError> {
        Self::of(list, encoding, |certificate| anchor_of(certificate).map(drop))
    }

    /// The readable certificates of our own chain, leaf first. Only building a path shows whether they are the right ones.
    ///
    /// # Errors
    /// [`CertificateListError`] if the leaf cannot be read.
    pub fn chain<D: AsRef<[u8]>>(list: &[D], encoding: Encoding) -> Result<Self, CertificateListError> {
        let listed = Self::readable(list, encoding)?;
        if listed.usable.first().is_some_and(|leaf| leaf.index == 0) {
            return Ok(listed);
        }
        let leaf = listed.passed_over.into_iter().take(1).collect();
        Err(CertificateListError { count: list.len(), passed_over: leaf })
    }

    /// The readable certificates, whatever their purpose.
    ///
    /// # Errors
    /// [`CertificateListError`] if the list has no such certificate.
    pub fn readable<D: AsRef<[u8]>>(list: &[D], encoding: Encoding) -> Result<Self, CertificateListError> {
        Self::of(list, encoding, |_| Ok(()))
    }

    fn of<D: AsRef<[u8]>>(
        list: &[D],
        encoding: Encoding,
        suits: impl Fn(&Certificate) -> Result<(), AnchorFlaw>,
    ) -> Result<Self, CertificateListError> {
        let (mut usable, mut passed_over) = (Vec::new(), Vec::new());
        for (index, der) in list.iter().map(AsRef::as_ref).enumerate() {
            let (subject, reason) = match Certificate::parse_as(der, encoding) {
                Ok(certificate) => match suits(&certificate) {
                    Ok(()) => {
                        usable.push(Member { index, certificate: Arc::new(certificate) });
                        continue;
                    }
                    Err(fault) => (Some(certificate.subject().clone()), Unusable::NoAnchor(fault)),
                },
                Err(error) => match Certificate::parse_as(der, Encoding::AsIssued) {
                    Ok(certificate) if suits(&certificate).is_ok() => {
                        (Some(certificate.subject().clone()), Unusable::NotStrict(error))
                    }
                    _ => {
                        let subject = skimmed_subject(der).and_then(|subject| Name::parse(subject).ok());
                        (subject, Unusable::Unreadable(error))
                    }
                },
            };
            passed_over.push(PassedOver { index, subject, reason });
        }
        if usable.is_empty() {
            return Err(CertificateListError { count: list.len(), passed_over });
        }
        Ok(Self { usable, passed_over })
    }

    /// The usable certificates.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.usable.iter().map(|member| Arc::clone(&member.certificate)).collect()
    }
}

impl PassedOver {
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {}", self.index + 1)?;
        self.subject.as_ref().map_or(Ok(()), |subject| write!(f, " (`{subject}`)"))
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name(f)?;
        write!(f, " is ignored: {}", self.reason)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) | Self::NotStrict(error) => error.fmt(f),
            Self::NoAnchor(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for CertificateListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// At most this many are named; a wrong file may hold a thousand.
        const NAMED_MAX: usize = 4;
        match self.passed_over.as_slice() {
            [] => f.write_str("it contains no certificate"),
            [only] if self.count == 1 => only.reason.fmt(f),
            several => {
                for (index, passed_over) in several.iter().take(NAMED_MAX).enumerate() {
                    f.write_str(if index > 0 { "; " } else { "" })?;
                    passed_over.name(f)?;
                    write!(f, ": {}", passed_over.reason)?;
                }
                match several.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for CertificateListError {}
