//! The contents of a certificate: the constants of its template, and the values for this certificate alone.

use super::{IssueError, IssuerCertificate, Serial};
use crate::der::{Tag, Writer};
use crate::general_name::GeneralNames;
use crate::name::Name;
use crate::oid::Oid;
use crate::time::Validity;

/// The constants that the lint checks in every certificate of a template.
pub(super) struct TemplateConstants<'t> {
    pub(super) issuer: &'t IssuerCertificate,
    /// The extensions that are the same in all certificates.
    pub(super) constants: &'t [Constant],
    pub(super) client_auth: bool,
}

/// An extension that is the same in all certificates of a template.
#[derive(Debug)]
pub(super) struct Constant {
    pub(super) id: Oid<'static>,
    pub(super) critical: bool,
    pub(super) value: Vec<u8>,
}

impl Constant {
    pub(super) fn write(&self, out: &mut Writer) {
        out.sequence(|out| {
            out.oid(self.id);
            if self.critical {
                out.true_value();
            }
            out.element(Tag::OCTET_STRING, &self.value);
        });
    }
}

/// The values of one certificate.
pub(super) struct CertificateValues<'a> {
    pub(super) subject: &'a Name,
    pub(super) san: &'a GeneralNames,
    pub(super) spki: &'a [u8],
    pub(super) key_id: [u8; 20],
    pub(super) serial: &'a Serial,
    pub(super) validity: Validity,
}

impl CertificateValues<'_> {
    pub(super) fn check(&self, issuer: &IssuerCertificate) -> Result<(), IssueError> {
        if self.subject.is_empty() && self.san.is_empty() {
            return Err(IssueError::NoSubject);
        }
        self.san.iter().try_for_each(|name| name.check()).map_err(IssueError::AlternativeNames)?;
        let bounds = issuer.certificate().validity();
        let within = bounds.not_before <= self.validity.not_before
            && self.validity.not_before <= self.validity.not_after
            && self.validity.not_after <= bounds.not_after;
        if within { Ok(()) } else { Err(IssueError::OutsideIssuer) }
    }
}
