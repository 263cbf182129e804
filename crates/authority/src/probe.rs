//! Tries a profile out: verifiers must accept the certificates that it issues.
//!
//! ```text
//!  CA's certificates ──copied, each under a new key──► copies ──issue──► one certificate, and one for each kind of name listed
//!                                                         └──────────────► verified to each of the copies, the root last
//! ```
//!
//! The copies have the names, dates and extensions of the originals and are signed with keys that are made for the trial and dropped with it.
//! So neither the CA's key nor a token is needed, and the CA's key never signs a certificate that is not in the ledger.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pki::chain::{Anchors, ChainError, verify_device};
use pki::issue::{self, IssueError, IssuerCertificate, NodePrefix, Serial, Template};
use pki::make::{self, MakeError};
use pki::{
    Certificate, Curve, GeneralName, GeneralNames, Name, NameBuilder, PrivateKey, SigningKey, UnixTime, Validity, oid,
};

use crate::backdate::BACKDATE;
use crate::ca_profile::CaProfile;
use crate::device::SubjectAttribute;
use crate::random::Random;
use crate::san::SanKind;
use crate::subject::SubjectRule;

/// The result of a successful trial. None of these certificates can be used: their keys are dropped.
#[derive(Debug)]
pub struct Probe {
    /// Issued as the profile issues: one without alternative names, then one for each kind that it lists.
    pub certificates: Vec<Certificate>,
    /// The copies above them, the issuing one first.
    pub authorities: Vec<Arc<Certificate>>,
}

/// Issues by `profile` under copies of its CA, and verifies the result as this server and others do: as a client's certificate, with each
/// certificate of the chain as the anchor. If the CA is not valid at `utc`, the trial uses the nearest time at which it is.
///
/// # Errors
/// [`ProbeFault`] names the certificate of the chain that breaks a rule.
pub fn probe(profile: &CaProfile, utc: UnixTime, random: &dyn Random) -> Result<Probe, ProbeFault> {
    let bounds = profile.ca().validity();
    let trial = Trial::new(profile, utc.max(bounds.not_before).min(bounds.not_after), random)?;
    let mut certificates = vec![trial.issue(&GeneralNames::empty())?];
    for kind in &profile.spec().san {
        certificates.push(trial.issue_any(&samples(*kind, profile))?);
    }
    Ok(Probe { certificates, authorities: trial.authorities })
}

/// Why verifiers would reject what a profile issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeFault {
    /// The certificate of the CA's chain that breaks the rule; 0 is the issuing one.
    pub index: usize,
    /// The rule.
    pub rule: ProbeRule,
}

/// What is wrong with a certificate that a profile would issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRule {
    /// Its subject is outside the nameConstraints of the certificate at fault, or these constrain directory names, which are not evaluated
    /// here.
    Subject,
    /// The profile lists this kind of alternative name, but the nameConstraints of the certificate at fault permit
    /// none.
    Names(SanKind),
    /// Path validation rejects it for another reason.
    Chain(ChainError),
    /// It cannot be built.
    Issue(IssueError),
    /// The copies cannot be built.
    Copy(MakeError),
}

impl fmt::Display for ProbeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => f.write_str(
                "has nameConstraints on directory names: path validation here cannot judge them and refuses every certificate below",
            ),
            Self::Names(kind) => {
                write!(f, "has nameConstraints that allow no name of the kind `{kind}`, which the profile issues (RFC 5280 §4.2.1.10)")
            }
            Self::Chain(error) => write!(f, "does not verify what is issued below it: {error}"),
            Self::Issue(error) => write!(f, "cannot issue certificates as the profile requires: {error}"),
            Self::Copy(error) => write!(f, "cannot be tried out: {error}"),
        }
    }
}

impl fmt::Display for ProbeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} of the CA's chain {}", self.index + 1, self.rule)
    }
}

impl std::error::Error for ProbeFault {}

/// Copies of a CA, the temporary key of the issuing one, and the common parts of all certificates that they
/// issue.
struct Trial<'a> {
    authorities: Vec<Arc<Certificate>>,
    key: SigningKey,
    template: Template,
    subject: Name,
    validity: Validity,
    utc: UnixTime,
    random: &'a dyn Random,
}

impl<'a> Trial<'a> {
    fn new(profile: &CaProfile, utc: UnixTime, random: &'a dyn Random) -> Result<Self, ProbeFault> {
        let of_issuing = |rule| ProbeFault { index: 0, rule };
        let (authorities, key) = copies(profile.ca().chain(), random)?;
        let issuing = authorities.first().ok_or(of_issuing(ProbeRule::Issue(IssueError::NotAnAuthority)))?;
        let issue = |error| of_issuing(ProbeRule::Issue(error));
        let issuer = Arc::new(IssuerCertificate::new(Arc::clone(issuing)).map_err(issue)?);
        let validity = issue::validity(&issuer, utc, profile.spec().validity, BACKDATE).map_err(issue)?;
        let template = Template::new(issuer, &profile.ca().urls().template()).map_err(issue)?;
        let subject = subject(profile).ok_or(issue(IssueError::NoSubject))?;
        Ok(Trial { authorities, key, template, subject, validity, utc, random })
    }

    /// A certificate with these alternative names, verified.
    fn issue(&self, san: &GeneralNames) -> Result<Certificate, ProbeFault> {
        let issue = |error| ProbeFault { index: 0, rule: ProbeRule::Issue(error) };
        let copy = |error| ProbeFault { index: 0, rule: ProbeRule::Copy(error) };
        let spki = new_key(self.random).map_err(copy)?.spki().to_vec();
        let mut octets = [0; 16];
        self.random.fill(&mut octets);
        let serial = Serial::new(NodePrefix::new(0), octets);
        let to_be_signed = self.template.fill(&self.subject, san, &spki, &serial, self.validity).map_err(issue)?;
        let signature = with(self.random, |random| self.key.sign(random, to_be_signed.der()).map_err(MakeError::Key))
            .map_err(copy)?;
        let certificate = to_be_signed.assemble(&signature).map_err(issue)?;
        self.verify(&certificate)?;
        Ok(certificate)
    }

    /// A certificate with the first of these names that the CA may issue.
    fn issue_any(&self, (kind, samples): &(SanKind, Vec<GeneralNames>)) -> Result<Certificate, ProbeFault> {
        let mut last = ProbeFault { index: 0, rule: ProbeRule::Names(*kind) };
        for san in samples {
            match self.issue(san) {
                Err(ProbeFault { index, rule: ProbeRule::Subject }) => {
                    last = ProbeFault { index, rule: ProbeRule::Names(*kind) };
                }
                other => return other,
            }
        }
        Err(last)
    }

    /// Verifies to each certificate of the chain in turn: the first that fails is the one at fault.
    fn verify(&self, certificate: &Certificate) -> Result<(), ProbeFault> {
        let mut path = vec![certificate.der()];
        for (index, authority) in self.authorities.iter().enumerate() {
            let fault = |error| ProbeFault {
                index,
                rule: match error {
                    ChainError::NameConstraints => ProbeRule::Subject,
                    other => ProbeRule::Chain(other),
                },
            };
            let anchors = Anchors::new(vec![Arc::clone(authority)]).map_err(|_| fault(ChainError::NotAnAuthority))?;
            verify_device(&anchors, &path, self.utc).map_err(|refusal| fault(refusal.error))?;
            path.push(authority.der());
        }
        Ok(())
    }
}

/// The chain under new keys. The last one signs itself if the original does, else a key that is in no certificate signs it.
fn copies(chain: &[Arc<Certificate>], random: &dyn Random) -> Result<(Vec<Arc<Certificate>>, SigningKey), ProbeFault> {
    let fault = |index| move |error| ProbeFault { index, rule: ProbeRule::Copy(error) };
    let mut made = Vec::with_capacity(chain.len());
    let mut issuing = None;
    let mut key = new_key(random).map_err(fault(0))?;
    for (index, original) in chain.iter().enumerate() {
        let above = new_key(random).map_err(fault(index))?;
        let is_root = original.subject().matches(original.issuer());
        let signer = if is_root { &key } else { &above };
        let copied = with(random, |random| make::copy(original, key.public_key(), signer, random));
        made.push(Arc::new(copied.map_err(fault(index))?));
        let used = std::mem::replace(&mut key, above);
        issuing.get_or_insert(used);
    }
    let issuing = issuing.ok_or(ProbeFault { index: 0, rule: ProbeRule::Issue(IssueError::NotAnAuthority) })?;
    Ok((made, issuing))
}

fn new_key(random: &dyn Random) -> Result<SigningKey, MakeError> {
    let private = with(random, |random| PrivateKey::generate(Curve::P256, random).map_err(MakeError::Key))?;
    with(random, |random| SigningKey::from_pkcs8(private.pkcs8(), random).map_err(MakeError::Key))
}

fn with<T>(
    random: &dyn Random,
    mut operation: impl FnMut(&dyn ring::rand::SecureRandom) -> Result<T, MakeError>,
) -> Result<T, MakeError> {
    let mut result = Err(MakeError::Encoding);
    random.with_secure(&mut |secure| result = operation(secure));
    result
}

/// The subject that the profile gives a device with short attribute values, or the device's own if the profile keeps it.
fn subject(profile: &CaProfile) -> Option<Name> {
    let mut builder = NameBuilder::new();
    for attribute in SubjectAttribute::ALL {
        let value = if attribute == SubjectAttribute::Country { "ZZ" } else { "0" };
        builder = builder.push(attribute.oid(), value).ok()?;
    }
    let of_device = builder.finish().ok()?;
    match &profile.spec().subject {
        SubjectRule::Csr => Some(of_device),
        // A value that does not fit the template is refused for each device separately.
        SubjectRule::Template(template) => template.fill("0", &of_device).ok().or(Some(of_device)),
    }
}

/// hwType 1.2.3.4, hwSerialNum 00 (RFC 4108 §5).
const HARDWARE_MODULE: &[u8] = &[0x30, 0x08, 0x06, 0x03, 0x2a, 0x03, 0x04, 0x04, 0x01, 0x00];

/// Names of a kind to try: one without special meaning, and one inside each subtree that the CA is limited
/// to.
fn samples(kind: SanKind, profile: &CaProfile) -> (SanKind, Vec<GeneralNames>) {
    let general: &[GeneralName<'_>] = match kind {
        SanKind::Dns => &[GeneralName::Dns("device.example")],
        SanKind::Ip => &[
            GeneralName::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            GeneralName::Ip(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        ],
        SanKind::Uri => &[GeneralName::Uri("urn:example:device")],
        SanKind::Email => &[GeneralName::Email("device@device.example")],
        SanKind::HardwareModule => &[GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value: HARDWARE_MODULE }],
        SanKind::Other => &[],
    };
    let general = general.iter().filter_map(|name| GeneralNames::new([*name]).ok());
    let permitted = profile.ca().chain().iter().flat_map(|authority| authority.permitted_samples());
    let of_kind = |names: &GeneralNames| names.iter().all(|name| SanKind::of(&name) == kind);
    (kind, general.chain(permitted.filter(of_kind)).collect())
}
