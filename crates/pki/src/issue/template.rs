//! The template of a profile's certificates: every part that is the same in all of them, encoded once.

use std::sync::Arc;

use super::crl::CrlUrl;
use super::values::{CertificateValues, Constant, ShardedPoints, TemplateConstants, crl_distribution_points};
use super::{IssueError, IssuerCertificate, Serial, ToBeSigned, lint};
use crate::algorithm::PublicKey;
use crate::certificate::Certificate;
use crate::der::{Tag, Writer, element_len};
use crate::general_name::{GeneralName, GeneralNames};
use crate::name::Name;
use crate::oid::{self, Oid};
use crate::time::Validity;

/// A profile's settings for its certificates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TemplateSpec {
    /// Whether to add extKeyUsage with clientAuth; without extKeyUsage, the certificate serves any purpose that its keyUsage
    /// allows.
    pub client_auth: bool,
    /// Whether to add an empty basicConstraints, which states that the subject is not an authority (RFC 5280 §4.2.1.9
    /// makes it optional for an end entity).
    pub basic_constraints: bool,
    /// cRLDistributionPoints: the URL of the revocation list, or of the one for the certificate's shard. It cannot be added to an issued
    /// certificate.
    pub crl_url: Option<CrlUrl>,
    /// authorityInfoAccess, caIssuers: the URL of the issuer's certificate.
    pub ca_issuers_url: Option<String>,
    /// authorityInfoAccess, ocsp: the URL of the OCSP responder.
    pub ocsp_url: Option<String>,
}

/// Pre-encoded parts of the certificates of one profile under one issuer.
#[derive(Debug)]
pub struct Template {
    issuer: Arc<IssuerCertificate>,
    /// Whether extKeyUsage with clientAuth is among the extensions.
    pub(super) client_auth: bool,
    /// The extensions that are the same in all certificates, for the lint.
    pub(super) constants: Vec<Constant>,
    /// The extension that depends on the serial number.
    sharded: Option<ShardedPoints>,
    /// AlgorithmIdentifier and issuer's name: the bytes after the serial number.
    after_serial: Vec<u8>,
    /// Extensions before the subjectKeyIdentifier.
    before_key_id: Vec<u8>,
    /// Extensions between subjectKeyIdentifier and subjectAltName.
    before_san: Vec<u8>,
    /// Extensions after the subjectAltName; up to the digits of the shard, if there is one.
    after_san: Vec<u8>,
    /// The octets after the digits of the shard.
    after_shard: Vec<u8>,
}

/// `version [0] EXPLICIT INTEGER { v3(2) }`
const VERSION: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02];

/// A subjectKeyIdentifier extension without its last 20 octets, the identifier.
const KEY_ID_HEAD: &[u8] = &[0x30, 0x1d, 0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, 0x14];
const KEY_ID_LEN: usize = KEY_ID_HEAD.len() + 20;

/// keyUsage with digitalSignature only: BIT STRING with seven unused bits.
const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];

impl Template {
    /// Encodes the parts that are the same in all certificates.
    ///
    /// # Errors
    /// [`IssueError::Url`]: a URL of `spec` is not absolute.
    pub fn new(issuer: Arc<IssuerCertificate>, spec: &TemplateSpec) -> Result<Self, IssueError> {
        for url in [&spec.ca_issuers_url, &spec.ocsp_url].into_iter().flatten() {
            GeneralName::Uri(url).check().map_err(|_| IssueError::Url)?;
        }
        let mut after_serial = Writer::default();
        after_serial.raw(issuer.algorithm().identifier());
        after_serial.raw(issuer.certificate().subject().der());

        let constants = constants(&issuer, spec);
        let encode = |wanted: &dyn Fn(Oid<'_>) -> bool| {
            let mut out = Writer::default();
            constants.iter().filter(|constant| wanted(constant.id)).for_each(|constant| constant.write(&mut out));
            out.into_vec()
        };
        let first = |id: Oid<'_>| id == oid::BASIC_CONSTRAINTS;
        let middle = |id: Oid<'_>| id == oid::AUTHORITY_KEY_IDENTIFIER || id == oid::KEY_USAGE;
        let is_purpose = |id: Oid<'_>| id == oid::EXTENDED_KEY_USAGE;
        let (purpose, urls) = (encode(&is_purpose), encode(&|id| !first(id) && !middle(id) && !is_purpose(id)));
        let sharded = spec.crl_url.as_ref().and_then(ShardedPoints::of);
        let (after_san, after_shard) = match &sharded {
            None => ([purpose, urls].concat(), Vec::new()),
            Some(points) => points.split_between(&purpose, &urls),
        };
        Ok(Self {
            issuer,
            after_serial: after_serial.into_vec(),
            before_key_id: encode(&first),
            before_san: encode(&middle),
            after_san,
            after_shard,
            client_auth: spec.client_auth,
            constants,
            sharded,
        })
    }

    /// The issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<IssuerCertificate> {
        &self.issuer
    }

    /// Makes one certificate, ready to sign: `spki` is a whole SubjectPublicKeyInfo; the subject is written in strict
    /// DER ([`Name::to_strict`]); an empty `san` omits the extension.
    ///
    /// # Errors
    /// A certificate may not contain one of the values, or [`IssueError::Lint`]: the bytes differ from the requested
    /// values.
    pub fn fill(
        &self,
        subject: &Name,
        san: &GeneralNames,
        spki: &[u8],
        serial: &Serial,
        validity: Validity,
    ) -> Result<ToBeSigned, IssueError> {
        let key = PublicKey::from_spki(spki).map_err(IssueError::Key)?;
        let subject = &*subject.to_strict();
        let shard = self.sharded.as_ref().map(|points| points.shard_of(serial).digits());
        let values = CertificateValues { subject, san, spki, key_id: key.key_identifier(), serial, shard, validity };
        values.check(&self.issuer)?;
        let der = self.encode(&values);
        lint::check(&self.fixed(), &values, &der).map_err(IssueError::Lint)?;
        Ok(ToBeSigned { der, issuer: Arc::clone(&self.issuer) })
    }

    /// Whether this template could have made `certificate`, now or before a change of its URLs: the serial number is Muster's, and the
    /// extensions are exactly those that the template writes, with their values and criticality. URLs and the issuer's key identifier may
    /// differ, because the configuration and the issuer's own certificate may have changed since. The signature and the names are not
    /// checked.
    #[must_use]
    pub fn could_have_made(&self, certificate: &Certificate) -> bool {
        Serial::from_bytes(certificate.serial()).is_ok() && lint::has_extensions_of(&self.constants, certificate)
    }

    pub(super) fn fixed(&self) -> TemplateConstants<'_> {
        TemplateConstants {
            issuer: &self.issuer,
            constants: &self.constants,
            sharded: self.sharded.as_ref(),
            client_auth: self.client_auth,
        }
    }

    fn encode(&self, values: &CertificateValues<'_>) -> Vec<u8> {
        let (not_before, not_after) =
            (crate::time::encode(values.validity.not_before), crate::time::encode(values.validity.not_after));
        let period = element_len(not_before.contents().len()) + element_len(not_after.contents().len());
        let san = SanExtension::of(values);
        let shard = values.shard.as_ref().map_or(&[][..], |digits| digits.as_bytes());
        let extensions = self.before_key_id.len()
            + KEY_ID_LEN
            + self.before_san.len()
            + san.len()
            + self.after_san.len()
            + shard.len()
            + self.after_shard.len();
        let contents = VERSION.len()
            + element_len(values.serial.as_bytes().len())
            + self.after_serial.len()
            + element_len(period)
            + values.subject.der().len()
            + values.spki.len()
            + element_len(element_len(extensions));

        let mut out = Writer::with_capacity(element_len(contents));
        out.header(Tag::SEQUENCE, contents);
        out.raw(VERSION);
        out.element(Tag::INTEGER, values.serial.as_bytes());
        out.raw(&self.after_serial);
        out.header(Tag::SEQUENCE, period);
        out.element(not_before.tag, not_before.contents());
        out.element(not_after.tag, not_after.contents());
        out.raw(values.subject.der());
        out.raw(values.spki);
        out.header(Tag::context_constructed(3), element_len(extensions));
        out.header(Tag::SEQUENCE, extensions);
        out.raw(&self.before_key_id);
        out.raw(KEY_ID_HEAD);
        out.raw(&values.key_id);
        out.raw(&self.before_san);
        san.write(&mut out);
        out.raw(&self.after_san);
        if values.shard.is_some() {
            out.raw(shard);
            out.raw(&self.after_shard);
        }
        debug_assert_eq!(out.len(), element_len(contents));
        out.into_vec()
    }
}

fn constants(issuer: &IssuerCertificate, spec: &TemplateSpec) -> Vec<Constant> {
    let mut out = Vec::new();
    let mut add = |id, critical, value| out.push(Constant { id, critical, value });
    if spec.basic_constraints {
        // RFC 5280 §4.2.1.9: critical in certificates of authorities; optional in those of end entities.
        add(oid::BASIC_CONSTRAINTS, false, vec![0x30, 0x00]);
    }
    add(oid::AUTHORITY_KEY_IDENTIFIER, false, authority_key_identifier(issuer));
    // RFC 5280 §4.2.1.3: "When present, conforming CAs SHOULD mark this extension as critical."
    add(oid::KEY_USAGE, true, DIGITAL_SIGNATURE.to_vec());
    if spec.client_auth {
        add(oid::EXTENDED_KEY_USAGE, false, extended_key_usage());
    }
    if let Some(url) = spec.crl_url.as_ref().filter(|url| url.shards().is_none()) {
        add(oid::CRL_DISTRIBUTION_POINTS, false, crl_distribution_points(url.around().0));
    }
    if let Some(value) = authority_info_access(spec) {
        add(oid::AUTHORITY_INFO_ACCESS, false, value);
    }
    out
}

/// The subjectAltName extension of one certificate; empty if there are no names.
struct SanExtension<'a> {
    names: &'a [u8],
    /// RFC 5280 §4.2.1.6: "If the subject field contains an empty sequence, then [...] the subjectAltName extension [...] MUST \[be\] mark\[ed\]
    /// as critical."
    critical: bool,
}

impl<'a> SanExtension<'a> {
    fn of(values: &CertificateValues<'a>) -> Self {
        Self { names: values.san.der(), critical: values.subject.is_empty() }
    }

    fn contents_len(&self) -> usize {
        element_len(oid::SUBJECT_ALT_NAME.contents().len())
            + if self.critical { 3 } else { 0 }
            + element_len(self.names.len())
    }

    fn len(&self) -> usize {
        if self.names.is_empty() { 0 } else { element_len(self.contents_len()) }
    }

    fn write(&self, out: &mut Writer) {
        if !self.names.is_empty() {
            out.header(Tag::SEQUENCE, self.contents_len());
            out.oid(oid::SUBJECT_ALT_NAME);
            if self.critical {
                out.true_value();
            }
            out.element(Tag::OCTET_STRING, self.names);
        }
    }
}

/// RFC 5280 §4.2.1.1: keyIdentifier alone, "derived from the [...] subject key identifier extension" of the issuer.
pub(super) fn authority_key_identifier(issuer: &IssuerCertificate) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| out.element(Tag::context(0), issuer.certificate().subject_key_id().unwrap_or_default()));
    out.into_vec()
}

fn extended_key_usage() -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| out.oid(oid::CLIENT_AUTH));
    out.into_vec()
}

/// RFC 5280 §4.2.2.1.
fn authority_info_access(spec: &TemplateSpec) -> Option<Vec<u8>> {
    let ways = [(oid::OCSP, &spec.ocsp_url), (oid::CA_ISSUERS, &spec.ca_issuers_url)];
    if ways.iter().all(|(_, url)| url.is_none()) {
        return None;
    }
    let mut out = Writer::default();
    out.sequence(|out| {
        for (method, url) in ways {
            if let Some(url) = url {
                out.sequence(|out| {
                    out.oid(method);
                    out.element(Tag::context(6), url.as_bytes());
                });
            }
        }
    });
    Some(out.into_vec())
}
