//! The contents of a certificate: the constants of its template, and the values for this certificate alone.

use super::crl::{CrlShard, CrlShards, CrlUrl, ShardDigits, distribution_point, shard_of};
use super::{IssueError, IssuerCertificate, Serial};
use crate::der::{Tag, Writer};
use crate::extension::Extension;
use crate::general_name::GeneralNames;
use crate::name::Name;
use crate::oid::{self, Oid};
use crate::time::Validity;

/// The constants that the lint checks in every certificate of a template.
pub(super) struct TemplateConstants<'t> {
    pub(super) issuer: &'t IssuerCertificate,
    /// The extensions that are the same in all certificates.
    pub(super) constants: &'t [Constant],
    /// The cRLDistributionPoints that differ from shard to shard.
    pub(super) sharded: Option<&'t ShardedPoints>,
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

/// The cRLDistributionPoints extension of a CA whose revocation lists are sharded: constant except for the digits of the shard.
#[derive(Debug)]
pub(super) struct ShardedPoints {
    shards: CrlShards,
    /// The extension of shard 0.
    first: Constant,
    /// How many octets of the URL follow the shard. They are also the last ones of the extension.
    after: usize,
}

impl ShardedPoints {
    /// `None` if all certificates contain the same URL.
    pub(super) fn of(url: &CrlUrl) -> Option<Self> {
        let shards = url.shards()?;
        let (before, after) = url.around();
        let value = crl_distribution_points(&format!("{before}{}{after}", shards.shard(0)?));
        let first = Constant { id: oid::CRL_DISTRIBUTION_POINTS, critical: false, value };
        Some(Self { shards, first, after: after.len() })
    }

    /// The shard of a certificate.
    pub(super) fn shard_of(&self, serial: &Serial) -> CrlShard {
        shard_of(serial, self.shards)
    }

    /// The extensions `before`, this one, and the extensions `after`: split into the octets before the digits of the shard and those after.
    pub(super) fn split_between(&self, before: &[u8], after: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut out = Writer::default();
        out.raw(before);
        self.first.write(&mut out);
        let extensions = out.into_vec();
        let (before, end) = self.around(&extensions);
        (before.to_vec(), [end, after].concat())
    }

    /// The octets before and after the digits of the shard in `ending`, which ends with the extension.
    fn around<'e>(&self, ending: &'e [u8]) -> (&'e [u8], &'e [u8]) {
        let (before, after) = ending.split_at(ending.len().saturating_sub(self.after));
        (&before[..before.len().saturating_sub(self.shards.width())], after)
    }

    /// Whether this is the extension for the shard with these digits.
    pub(super) fn is(&self, extension: &Extension<'_>, digits: ShardDigits) -> bool {
        let (before, after) = self.around(&self.first.value);
        extension.id == self.first.id
            && extension.critical == self.first.critical
            && extension.value.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) == Some(digits.as_bytes())
    }
}

/// RFC 5280 §4.2.1.13: one point, its fullName one URI.
pub(super) fn crl_distribution_points(url: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.element(Tag::SEQUENCE, &distribution_point(url));
    out.into_vec()
}

/// The values of one certificate.
pub(super) struct CertificateValues<'a> {
    pub(super) subject: &'a Name,
    pub(super) san: &'a GeneralNames,
    pub(super) spki: &'a [u8],
    pub(super) key_id: [u8; 20],
    pub(super) serial: &'a Serial,
    /// The digits of its shard, if the CA's revocation lists are sharded.
    pub(super) shard: Option<ShardDigits>,
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
