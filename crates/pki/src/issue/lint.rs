//! The lint: parses a TBSCertificate and compares each field with the requested values. Bytes that differ are never signed.

use std::fmt;

use super::values::{CertificateValues, Constant, TemplateConstants};
use crate::certificate::{Certificate, CertificateError, ToBeSignedFields};
use crate::der::{CERTIFICATE_LIMITS, check_within};
use crate::encoding::Reading;
use crate::extension::{ExtendedKeyUsage, Extension, Extensions};
use crate::field::{At, Field, LocatedError};
use crate::general_name::GeneralNames;
use crate::oid::{self, Oid};

/// The field of the encoded certificate that differs from the requested values. It is never a client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LintFlaw {
    /// It does not parse.
    Certificate(CertificateError),
    /// The serial number.
    Serial,
    /// The algorithm.
    Algorithm,
    /// The issuer's name.
    Issuer,
    /// The validity.
    Validity,
    /// The subject.
    Subject,
    /// The key.
    PublicKey,
    /// An extension that was not requested, a missing one, or one with another value or criticality.
    Extension,
    /// The alternative names.
    AlternativeNames,
    /// The assembled certificate does not contain exactly the bytes that were signed.
    Assembled,
}

impl fmt::Display for LintFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self {
            Self::Certificate(error) => return error.fmt(f),
            Self::Serial => "serial number",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Validity => "validity",
            Self::Subject => "subject",
            Self::PublicKey => "public key",
            Self::Extension => "extensions",
            Self::AlternativeNames => "alternative names",
            Self::Assembled => "signed bytes",
        };
        write!(f, "{field} differ")
    }
}

/// Checks that `der` contains exactly the requested values under this template.
pub(super) fn check(fixed: &TemplateConstants<'_>, values: &CertificateValues<'_>, der: &[u8]) -> Result<(), LintFlaw> {
    check_within(der, CERTIFICATE_LIMITS).at(Field::Whole).map_err(LintFlaw::Certificate)?;
    let tbs = ToBeSignedFields::read(der).map_err(LintFlaw::Certificate)?;
    let issuer = fixed.issuer;
    let fields = [
        (LintFlaw::Serial, tbs.serial == values.serial.as_bytes()),
        (LintFlaw::Algorithm, tbs.algorithm == issuer.algorithm().identifier()),
        (LintFlaw::Issuer, tbs.issuer == issuer.certificate().subject().der()),
        (LintFlaw::Validity, tbs.validity == values.validity),
        (LintFlaw::Subject, tbs.subject == values.subject.der()),
        (LintFlaw::PublicKey, tbs.spki == values.spki),
    ];
    if let Some(&(fault, _)) = fields.iter().find(|(_, same)| !same) {
        return Err(fault);
    }
    check_values(fixed, values, tbs.extensions)?;
    check_meaning(
        fixed,
        values,
        Extensions::read(tbs.extensions, &mut Reading::default())
            .map_err(|error| LintFlaw::Certificate(LocatedError::into(error)))?,
    )
}

/// Checks that each extension was requested, has the requested value and criticality, and that none is missing.
fn check_values(
    fixed: &TemplateConstants<'_>,
    values: &CertificateValues<'_>,
    mut list: crate::der::Reader<'_>,
) -> Result<(), LintFlaw> {
    let sharded = fixed.sharded.zip(values.shard);
    let mut missing = fixed.constants.len() + 1 + usize::from(!values.san.is_empty()) + usize::from(sharded.is_some());
    while !list.is_empty() {
        let extension =
            Extension::read(&mut list, &mut Reading::default()).at(Field::Extensions).map_err(LintFlaw::Certificate)?;
        let fine = match extension.id {
            oid::SUBJECT_KEY_IDENTIFIER => !extension.critical && extension.value.get(2..) == Some(&values.key_id),
            oid::SUBJECT_ALT_NAME => {
                extension.critical == values.subject.is_empty() && extension.value == values.san.der()
            }
            id => {
                let same = |constant: &Constant| {
                    constant.id == id && constant.critical == extension.critical && constant.value == extension.value
                };
                fixed.constants.iter().any(same)
                    || sharded.is_some_and(|(points, digits)| points.is(&extension, digits))
            }
        };
        missing = missing.checked_sub(1).filter(|_| fine).ok_or(LintFlaw::Extension)?;
    }
    if missing == 0 { Ok(()) } else { Err(LintFlaw::Extension) }
}

/// Whether the extensions of `certificate` are those that a template with these constants writes, except for URLs and the issuer's key
/// identifier.
pub(super) fn has_extensions_of(constants: &[Constant], certificate: &Certificate) -> bool {
    let Ok(tbs) = ToBeSignedFields::read(certificate.to_be_signed()) else { return false };
    let key_id = certificate.public_key().key_identifier();
    let mut list = tbs.extensions;
    // The parser has refused repeated extensions, so counting the required ones is enough.
    let mut found = 0;
    while !list.is_empty() {
        let Ok(extension) = Extension::read(&mut list, &mut Reading::default()) else { return false };
        let (fine, required) = match extension.id {
            oid::SUBJECT_ALT_NAME => (extension.critical == certificate.subject().is_empty(), false),
            id if is_url(id) => (!extension.critical, false),
            oid::AUTHORITY_KEY_IDENTIFIER => (!extension.critical, true),
            oid::SUBJECT_KEY_IDENTIFIER => (!extension.critical && extension.value.get(2..) == Some(&key_id), true),
            id => {
                let same = |constant: &Constant| {
                    constant.id == id && constant.critical == extension.critical && constant.value == extension.value
                };
                (constants.iter().any(same), true)
            }
        };
        if !fine {
            return false;
        }
        found += usize::from(required);
    }
    // The subjectKeyIdentifier is not one of the constants.
    found == 1 + constants.iter().filter(|constant| !is_url(constant.id)).count()
}

fn is_url(id: Oid<'_>) -> bool {
    id == oid::CRL_DISTRIBUTION_POINTS || id == oid::AUTHORITY_INFO_ACCESS
}

/// Compares the meaning of the extensions, read by the parser for certificates from the network.
fn check_meaning(
    fixed: &TemplateConstants<'_>,
    values: &CertificateValues<'_>,
    read: Extensions,
) -> Result<(), LintFlaw> {
    let is_ca = read.basic_constraints.is_some_and(|constraints| constraints.is_ca || constraints.path_len.is_some());
    let purposes = read.extended_key_usage.unwrap_or_default();
    let meant = !is_ca
        && read.key_usage.is_some_and(|usage| usage.is_only_digital_signature())
        && purposes.client_auth == fixed.client_auth
        && ExtendedKeyUsage { client_auth: false, ..purposes } == ExtendedKeyUsage::default()
        && read.subject_key_id.as_deref() == Some(&values.key_id[..])
        && read.authority_key_id.as_deref() == fixed.issuer.certificate().subject_key_id();
    let names: GeneralNames = read.san;
    match (meant, names == *values.san) {
        (true, true) => Ok(()),
        (false, _) => Err(LintFlaw::Extension),
        (true, false) => Err(LintFlaw::AlternativeNames),
    }
}
