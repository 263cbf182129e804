//! The lint of revocation lists: parses a TBSCertList and compares each field with the requested values. Bytes that differ are never signed.

use std::fmt;

use rustls_pki_types::UnixTime;

use super::spec::CrlSpec;
use super::url::{CrlScope, distribution_point};
use crate::der::{DerError, DerLimits, Reader, Tag, Writer, check_within};
use crate::encoding::Reading;
use crate::extension::Extension;
use crate::issue::template::authority_key_identifier;
use crate::issue::values::Constant;
use crate::issue::{IssuerCertificate, Serial};
use crate::oid;

/// Elements of one entry: SEQUENCE, serial number, time, and five for the reason.
const ENTRY_ELEMENTS_MAX: usize = 8;

/// Elements of a list without entries: issuer's name and extensions have about fifty.
const OTHER_ELEMENTS_MAX: usize = 512;

/// The values of a list, apart from its entries and what the issuer gives.
pub(super) struct CrlValues {
    this_update: UnixTime,
    next_update: UnixTime,
    constants: Vec<Constant>,
    /// `crlExtensions [0]`.
    extensions: Vec<u8>,
}

impl CrlValues {
    pub(super) fn new(issuer: &IssuerCertificate, spec: &CrlSpec<'_>) -> Self {
        let mut number = Writer::default();
        number.unsigned(&spec.number.to_be_bytes());
        // RFC 5280 §5.2: "Conforming CRL issuers are REQUIRED to include the authority key identifier [...] and the CRL number [...]
        // extensions in all CRLs issued." Neither is critical.
        let mut constants = vec![
            Constant { id: oid::AUTHORITY_KEY_IDENTIFIER, critical: false, value: authority_key_identifier(issuer) },
            Constant { id: oid::CRL_NUMBER, critical: false, value: number.into_vec() },
        ];
        if let CrlScope::Shard(scope) = &spec.scope {
            // RFC 5280 §5.2.5: "the issuing distribution point is a critical CRL extension". Critical, it stops a verifier from taking this
            // list for one that covers the whole CA. onlyContainsUserCerts stays FALSE: a certificate of a CA below this one would
            // belong to a shard like any other.
            constants.push(Constant {
                id: oid::ISSUING_DISTRIBUTION_POINT,
                critical: true,
                value: distribution_point(&scope.url()),
            });
        }
        let mut extensions = Writer::default();
        extensions.nested(Tag::context_constructed(0), |out| {
            out.sequence(|out| constants.iter().for_each(|constant| constant.write(out)));
        });
        let (this_update, next_update) = (spec.this_update, spec.next_update);
        Self { this_update, next_update, constants, extensions: extensions.into_vec() }
    }

    pub(super) fn extensions(&self) -> &[u8] {
        &self.extensions
    }

    /// Checks that `der` contains exactly these values and so many entries.
    pub(super) fn check(&self, issuer: &IssuerCertificate, entries: usize, der: &[u8]) -> Result<(), CrlFlaw> {
        let elements_max = entries * ENTRY_ELEMENTS_MAX + OTHER_ELEMENTS_MAX;
        check_within(der, DerLimits { bytes_max: der.len(), elements_max })?;
        let mut list = Reader::sequence(der)?;
        let fields = [
            (CrlFlaw::Version, list.expect(Tag::INTEGER)? == [1]),
            (CrlFlaw::Algorithm, list.expect_element(Tag::SEQUENCE)?.whole == issuer.algorithm().identifier()),
            (CrlFlaw::Issuer, list.expect_element(Tag::SEQUENCE)?.whole == issuer.certificate().subject().der()),
            (CrlFlaw::Updates, list.time()? == self.this_update && list.time()? == self.next_update),
        ];
        if let Some(&(flaw, _)) = fields.iter().find(|(_, same)| !same) {
            return Err(flaw);
        }
        let revoked = list.optional(Tag::SEQUENCE)?;
        if revoked.is_some() == (entries == 0) || count(revoked.unwrap_or_default())? != entries {
            return Err(CrlFlaw::Entries);
        }
        let mut explicit = list.nested(Tag::context_constructed(0))?;
        let mut extensions = explicit.nested(Tag::SEQUENCE)?;
        explicit.finish()?;
        list.finish()?;
        for constant in &self.constants {
            let extension = Extension::read(&mut extensions, &mut Reading::default())?;
            let same = constant.id == extension.id
                && constant.critical == extension.critical
                && constant.value == extension.value;
            if !same {
                return Err(CrlFlaw::Extensions);
            }
        }
        if extensions.is_empty() { Ok(()) } else { Err(CrlFlaw::Extensions) }
    }
}

/// How many entries there are; each has a serial number of ours and a time.
fn count(entries: &[u8]) -> Result<usize, CrlFlaw> {
    let mut entries = Reader::new(entries);
    let mut count = 0;
    while !entries.is_empty() {
        let mut entry = entries.nested(Tag::SEQUENCE)?;
        Serial::from_bytes(entry.expect(Tag::INTEGER)?).map_err(|_| CrlFlaw::Entries)?;
        entry.time()?;
        entry.optional(Tag::SEQUENCE)?;
        entry.finish()?;
        count += 1;
    }
    Ok(count)
}

/// The field of an encoded revocation list that differs from the requested values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrlFlaw {
    /// It is not strict DER of a TBSCertList.
    Der(DerError),
    /// The version.
    Version,
    /// The algorithm.
    Algorithm,
    /// The issuer's name.
    Issuer,
    /// thisUpdate or nextUpdate.
    Updates,
    /// An entry more or less, one without a serial number of ours, or an empty list of entries.
    Entries,
    /// An extension more or less, or one with another value or criticality.
    Extensions,
    /// The assembled list does not contain exactly the bytes that were signed.
    Assembled,
}

impl From<DerError> for CrlFlaw {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for CrlFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self {
            Self::Der(error) => return error.fmt(f),
            Self::Version => "version",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Updates => "thisUpdate or nextUpdate",
            Self::Entries => "entries",
            Self::Extensions => "extensions",
            Self::Assembled => "signed bytes",
        };
        write!(f, "{field} differ")
    }
}
