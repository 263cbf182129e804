//! An issuing CA as a profile needs it: everything but its key, and proved before anything is issued under it.
//!
//! The proof needs only certificates. It does not check whether they are valid today (each issuance checks that again), but there must be a
//! time at which all of them are valid.

use std::fmt;
use std::sync::Arc;

use pki::issue::crl::CrlUrl;
use pki::issue::{IssueError, IssuerCertificate, TemplateSpec};
use pki::{AlgorithmError, Certificate, GeneralName, NameConstraints, UnixTime, Validity};

/// An issuing CA as a profile needs it: everything but its key.
#[derive(Debug)]
pub struct Ca {
    name: Box<str>,
    chain: Vec<Arc<Certificate>>,
    rollover: Vec<Arc<Certificate>>,
    validity: Validity,
    issuer: Arc<IssuerCertificate>,
    /// The validity that all its certificates have in common.
    constraints: Vec<NameConstraints>,
    urls: Urls,
    verify_signatures: VerifySignatures,
}

impl Ca {
    /// A CA from its certificates, the issuing one first, each signed by the next, up to the root. The last one may end below a root
    /// that the devices hold: [`Ca::reaches_root`].
    ///
    /// # Errors
    /// [`CaFault`] names the certificate at fault and the rule that it breaks.
    pub fn new(
        name: &str,
        chain: Vec<Arc<Certificate>>,
        urls: Urls,
        verify_signatures: VerifySignatures,
    ) -> Result<Self, CaFault> {
        let issuing = chain.first().ok_or(CaFault::Empty)?;
        for index in 0..chain.len() {
            prove(&chain, index).map_err(|rule| CaFault::Certificate { index, rule })?;
        }
        let validity = common_validity(&chain)?;
        let issuer = IssuerCertificate::new(Arc::clone(issuing)).map_err(CaFault::Issuer)?;
        if urls.crl.is_some() && !issuer.may_sign_crls() {
            return Err(CaFault::Certificate { index: 0, rule: ChainRule::CrlSign });
        }
        let constraints = chain.iter().filter_map(|certificate| certificate.name_constraints()).collect();
        let (issuer, rollover) = (Arc::new(issuer), Vec::new());
        Ok(Self { name: name.into(), chain, rollover, validity, issuer, constraints, urls, verify_signatures })
    }

    /// Publishes further certificates while devices change from one root to another: the other root, and what each of the two has signed for the other's
    /// key: "the EST server's [...] response SHOULD also include [...] OldWithOld, OldWithNew, and NewWithOld certificates" (RFC 7030 §4.1.3).
    /// Nothing is issued under them.
    ///
    /// # Errors
    /// [`RolloverFault`] names the certificate that is not what it says.
    pub fn with_rollover(mut self, certificates: Vec<Arc<Certificate>>) -> Result<Self, RolloverFault> {
        let refuse = |index, rule| Err(RolloverFault { index, rule });
        if certificates.len() > ROLLOVER_CERTIFICATES_MAX {
            return refuse(ROLLOVER_CERTIFICATES_MAX, RolloverRule::TooMany);
        }
        let is_root = |it: &&Arc<Certificate>| is_self_issued(it) && it.verify_signed_by(it).is_ok();
        let roots: Vec<_> = self.chain.iter().chain(&certificates).filter(is_root).cloned().collect();
        for (index, certificate) in certificates.iter().enumerate() {
            let issues = certificate.key_usage().is_none_or(|usage| usage.key_cert_sign());
            if !certificate.is_ca() || !issues {
                return refuse(index, RolloverRule::NotACa);
            }
            if is_root(&certificate) {
                continue;
            }
            if !roots.iter().any(|root| root.anchor_id() == certificate.anchor_id()) {
                return refuse(index, RolloverRule::NotOfARoot);
            }
            let is_issued_by = |root: &Arc<Certificate>| {
                certificate.issuer().matches(root.subject()) && certificate.verify_signed_by(root).is_ok()
            };
            if !roots.iter().any(is_issued_by) {
                return refuse(index, RolloverRule::NotSignedByARoot);
            }
        }
        self.rollover = certificates;
        Ok(self)
    }

    /// What `/crts` answers: the chain, issuing certificate first, and the certificates of a roll-over.
    #[must_use]
    pub fn published(&self) -> Vec<Arc<Certificate>> {
        let mut all = self.chain.clone();
        for certificate in &self.rollover {
            if all.iter().all(|known| known.digest() != certificate.digest()) {
                all.push(Arc::clone(certificate));
            }
        }
        all
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The issuing certificate.
    #[must_use]
    pub fn certificate(&self) -> &Arc<Certificate> {
        self.issuer.certificate()
    }

    /// Issuing certificate first, root last.
    #[must_use]
    pub fn chain(&self) -> &[Arc<Certificate>] {
        &self.chain
    }

    /// Whether the chain ends in a root, so that the whole chain is proved.
    #[must_use]
    pub fn reaches_root(&self) -> bool {
        self.chain.last().is_some_and(|last| is_self_issued(last))
    }

    /// Whether this certificate names the issuing one as its issuer.
    pub(crate) fn is_named_by(&self, certificate: &Certificate) -> bool {
        certificate.issuer().matches(self.certificate().subject())
    }

    /// Whether one of its certificates has this subject public key info.
    pub(crate) fn holds_key(&self, spki: &[u8]) -> bool {
        self.chain.iter().any(|own| own.spki() == spki)
    }

    /// The time in which every certificate of the chain is valid. Nothing is issued outside of it, because
    /// verifiers would reject the certificate.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The part of `validity` in which the whole chain is valid; `None` if the chain is not valid at `utc`.
    pub(crate) fn bound(&self, validity: Validity, utc: UnixTime) -> Option<Validity> {
        let bounds = self.validity;
        bounds.contains(utc).then(|| Validity {
            not_before: validity.not_before.max(bounds.not_before),
            not_after: validity.not_after.min(bounds.not_after),
        })
    }

    /// Whether the nameConstraints of its chain permit this alternative name: verifiers reject a certificate with another one.
    #[must_use]
    pub fn may_issue(&self, name: &GeneralName<'_>) -> bool {
        self.constraints.iter().all(|constraints| constraints.allow(name))
    }

    /// What certificates contain of it: name, key identifier, signature algorithm.
    #[must_use]
    pub fn issuer(&self) -> &Arc<IssuerCertificate> {
        &self.issuer
    }

    /// Which signatures are checked before release.
    #[must_use]
    pub fn verify_signatures(&self) -> VerifySignatures {
        self.verify_signatures
    }

    /// The URLs at which a verifier finds revocation data and issuers.
    pub(crate) fn urls(&self) -> &Urls {
        &self.urls
    }
}

/// What the certificate at `index` must be for the certificates below it, and for the one above it.
fn prove(chain: &[Arc<Certificate>], index: usize) -> Result<(), ChainRule> {
    let certificate = &chain[index];
    if !certificate.is_ca() {
        return Err(ChainRule::NotACa);
    }
    // RFC 5280 §6.1.4 (n)
    if certificate.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(ChainRule::KeyUsage);
    }
    // RFC 5280 §4.2.1.9: pathLenConstraint counts "non-self-issued intermediate certificates that may follow".
    let below = chain[..index].iter().filter(|below| !is_self_issued(below)).count();
    if let Some(allowed) = certificate.path_len()
        && u32::try_from(below).unwrap_or(u32::MAX) > allowed
    {
        return Err(ChainRule::PathLength { allowed, below });
    }
    // Verifiers treat a CA's extKeyUsage as a limit on what is issued below it; neither webpki nor OpenSSL accepts "any" for
    // clientAuth.
    if certificate.extended_key_usage().is_some_and(|purposes| !purposes.client_auth) {
        return Err(ChainRule::Purpose);
    }
    match chain.get(index + 1) {
        Some(above) if !certificate.issuer().matches(above.subject()) => Err(ChainRule::NotIssuedByNext {
            issuer: certificate.issuer().to_string(),
            above: above.subject().to_string(),
        }),
        Some(above) => certificate.verify_signed_by(above).map_err(|error| match error {
            AlgorithmError::BadSignature => ChainRule::NotSignedByNext { above: above.subject().to_string() },
            _ => ChainRule::Algorithm(error),
        }),
        None if is_self_issued(certificate) => certificate.verify_signed_by(certificate).map_err(|error| match error {
            AlgorithmError::BadSignature => ChainRule::SelfSignature,
            _ => ChainRule::Algorithm(error),
        }),
        None => Ok(()),
    }
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.subject().matches(certificate.issuer())
}

/// One roll-over has one other root and two certificates across; this leaves room for a second one, and one answer of `/crts` is
/// still a few kilobytes.
const ROLLOVER_CERTIFICATES_MAX: usize = 8;

/// Why certificates are not those of a roll-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloverFault {
    /// The place of the certificate at fault among those given, counted from 0.
    pub index: usize,
    /// The rule that it breaks.
    pub rule: RolloverRule,
}

/// A rule that a certificate of a roll-over breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloverRule {
    /// There are more certificates than one answer carries.
    TooMany,
    /// basicConstraints does not have cA, or keyUsage is without keyCertSign.
    NotACa,
    /// Neither a root, nor a certificate for the name and key of one.
    NotOfARoot,
    /// No root of the CA or of the roll-over has signed it.
    NotSignedByARoot,
}

impl fmt::Display for RolloverRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "is one of more than {ROLLOVER_CERTIFICATES_MAX} certificates"),
            Self::NotACa => f.write_str("is not a CA certificate (basicConstraints, keyUsage)"),
            Self::NotOfARoot => f.write_str("is not a root, and does not have the name and the key of a root"),
            Self::NotSignedByARoot => f.write_str("is not signed by the root that it names as its issuer"),
        }
    }
}

impl fmt::Display for RolloverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} of the roll-over {}", self.index + 1, self.rule)
    }
}

impl std::error::Error for RolloverFault {}

/// The time in which all certificates are valid; the error names the first certificate that leaves no such
/// time.
fn common_validity(chain: &[Arc<Certificate>]) -> Result<Validity, CaFault> {
    let mut common: Option<Validity> = None;
    for (index, certificate) in chain.iter().enumerate() {
        let of_this = certificate.validity();
        let both = common.map_or(of_this, |common| Validity {
            not_before: common.not_before.max(of_this.not_before),
            not_after: common.not_after.min(of_this.not_after),
        });
        if both.not_before > both.not_after {
            return Err(CaFault::Certificate { index, rule: ChainRule::NeverValidTogether });
        }
        common = Some(both);
    }
    common.ok_or(CaFault::Empty)
}

/// The URLs at which a verifier finds revocation data and issuers. They go into every certificate and cannot be added
/// later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Urls {
    /// `crl_url`: cRLDistributionPoints (RFC 5280 §4.2.1.13).
    pub crl: Option<CrlUrl>,
    /// `ca_issuers_url`: id-ad-caIssuers in authorityInfoAccess (RFC 5280 §4.2.2.1).
    pub ca_issuers: Option<String>,
    /// `ocsp_url`: id-ad-ocsp in authorityInfoAccess (RFC 5280 §4.2.2.1).
    pub ocsp: Option<String>,
}

impl Urls {
    pub(crate) fn template(&self) -> TemplateSpec {
        TemplateSpec {
            client_auth: true,
            crl_url: self.crl.clone(),
            ca_issuers_url: self.ca_issuers.clone(),
            ocsp_url: self.ocsp.clone(),
            ..TemplateSpec::default()
        }
    }
}

/// `verify_signatures` of a CA: which signatures are checked before a certificate is released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifySignatures {
    /// Those made by a signer outside of the process.
    #[default]
    External,
    /// All: this also guards against faults of memory and CPU, and costs about one verification per
    /// enrolment.
    Always,
}

/// Why certificates do not make a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaFault {
    /// There is no certificate.
    Empty,
    /// A certificate of the chain breaks a rule.
    Certificate {
        /// Its place in the chain; 0 is the issuing one.
        index: usize,
        /// The rule.
        rule: ChainRule,
    },
    /// The issuing certificate cannot issue.
    Issuer(IssueError),
}

impl CaFault {
    /// The place of the certificate at fault in the chain.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Certificate { index, .. } => Some(*index),
            Self::Issuer(_) => Some(0),
        }
    }
}

/// A rule that a certificate of a CA's chain breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainRule {
    /// basicConstraints is absent or does not have cA.
    NotACa,
    /// keyUsage without keyCertSign.
    KeyUsage,
    /// More authorities are below it than its pathLenConstraint allows.
    PathLength {
        /// The pathLenConstraint.
        allowed: u32,
        /// How many there are.
        below: usize,
    },
    /// extKeyUsage without clientAuth: certificates below it would not be accepted from clients.
    Purpose,
    /// Its issuer name differs from the subject of the certificate above it in the chain.
    NotIssuedByNext {
        /// Its issuer.
        issuer: String,
        /// The subject of the certificate above.
        above: String,
    },
    /// The certificate above it has the name of its issuer, but another key.
    NotSignedByNext {
        /// The subject of the certificate above.
        above: String,
    },
    /// It names itself as its issuer, but its signature is not made with its own key.
    SelfSignature,
    /// Its signature is made with an algorithm that is not on the allow-list.
    Algorithm(AlgorithmError),
    /// Its certificates name revocation lists, and it has a keyUsage without cRLSign. No other key can sign these lists, because the
    /// certificates name no other CRL issuer (RFC 5280 §4.2.1.13).
    CrlSign,
    /// Its validity and that of those below it have no day in common.
    NeverValidTogether,
}

impl fmt::Display for ChainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACa => f.write_str("is not a CA certificate (basicConstraints, RFC 5280 §4.2.1.9)"),
            Self::KeyUsage => f.write_str("has a keyUsage without keyCertSign (RFC 5280 §4.2.1.3)"),
            Self::PathLength { allowed, below } => write!(
                f,
                "has pathLenConstraint {allowed} and is above {below} CA certificate{} (RFC 5280 §4.2.1.9)",
                if *below == 1 { "" } else { "s" }
            ),
            Self::Purpose => f.write_str(
                "has an extKeyUsage without clientAuth: no certificate below it authenticates a device (RFC 5280 §4.2.1.12)",
            ),
            Self::NotIssuedByNext { issuer, above } => {
                write!(f, "is issued by `{issuer}`, and the certificate above it is `{above}`")
            }
            Self::NotSignedByNext { above } => {
                write!(f, "is not signed by the key of the certificate above it, another `{above}` than its issuer")
            }
            Self::SelfSignature => f.write_str("is self-issued, and its signature does not verify with its own key"),
            Self::Algorithm(error) => error.fmt(f),
            Self::CrlSign => f.write_str(
                "has a keyUsage without cRLSign, so verifiers accept no revocation list of it (RFC 5280 §4.2.1.3)",
            ),
            Self::NeverValidTogether => {
                f.write_str("is never valid at the same time as the certificates below it")
            }
        }
    }
}

impl fmt::Display for CaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no certificate in the CA's file"),
            Self::Certificate { index, rule } => write!(f, "certificate {} of the CA's chain {rule}", index + 1),
            Self::Issuer(error) => write!(f, "the issuing certificate cannot issue: {error}"),
        }
    }
}

impl std::error::Error for CaFault {}
