//! Why a job ends without a certificate. Both enums are closed; one table in `est` gives each variant its stable code. [`Refusal::code`] repeats
//! the codes of refusals for the audit, which is written below `est`; a test of `est` compares the two.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pki::{CsrError, CsrFlaw, Curve, Deviations};

use crate::device::{DeviceIdRule, SubjectAttribute};
use crate::function::Function;
use crate::ledger::LedgerFault;
use crate::san::SanKind;
use crate::signer::SignerFault;
use crate::upstream::{UpstreamAnswerFlaw, UpstreamBusy, UpstreamRefusal};

/// The request is refused: the same request will be refused again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The CSR is not a PKCS #10 that we can read, or its signature is not made with its own key.
    Csr(CsrError),
    /// The profile issues no certificate for this kind of key.
    KeyType,
    /// The CSR asks for rights beyond those of a device (RFC 7030 §4.2.1 leaves attributes to the CA).
    Asks(Asked),
    /// The client's certificate chains neither to a manufacturer of the profile nor to its CA.
    ClientUnknown,
    /// The client's certificate is outside its validity at the time of the request (the session may be older).
    ClientExpired,
    /// The client's certificate, or another one up to its anchor, is not strict DER, and the profile requires strict DER.
    ClientEncoding(Deviations),
    /// The client's certificate was issued here and is revoked.
    ClientRevoked,
    /// `/sren` with a certificate that this CA did not issue (RFC 7030 §4.2.2).
    NotIssuedHere,
    /// The client's certificate was issued by another profile of the same CA: it gives access to that profile
    /// only.
    ClientOfAnotherProfile(Arc<str>),
    /// The client's certificate chains to our CA, and the ledger does not know it: it does not identify the client.
    ClientNotInLedger,
    /// The client's certificate was issued here, its row was lost before the ledger was restored from a backup, and the operator refuses such
    /// certificates.
    ClientOfLostRow,
    /// The manufacturer that vouched for the client is not in the profile any more.
    ManufacturerRemoved,
    /// The names in the client's certificate do not yield a device identity by the profile's rule.
    NoDeviceId(DeviceIdRule),
    /// A Registrar that the profile does not list asks for one of its devices.
    RegistrarNotListed(Arc<str>),
    /// A Registrar vouches for a request whose names do not yield a device identity by the profile's rule.
    NoVouchedDevice(DeviceIdRule),
    /// A Registrar renews for a device that holds no valid certificate of this CA.
    NothingToRenew,
    /// A Registrar renews for a device whose last certificate is revoked.
    PredecessorRevoked,
    /// The CSR's subject is not that of the client's certificate.
    SubjectMismatch(Box<Mismatch>),
    /// The profile's subject template needs an attribute that the client's certificate does not have exactly once, or
    /// whose value does not fit the attribute it goes into.
    SubjectTemplate(SubjectAttribute),
    /// The certificate would have neither a subject nor an alternative name (RFC 5280 §4.1.2.6).
    NoName,
    /// The CSR asks for a subject alternative name that the profile does not list.
    SanNotListed(SanKind),
    /// The CSR asks for a name that is never issued: a wildcard, a trailing dot, characters that are not ASCII (RFC 5280 §4.2.1.6).
    SanSyntax(SanKind),
    /// The CSR asks for a name that the nameConstraints of the CA's chain exclude or do not permit (RFC 5280 §4.2.1.10).
    SanConstrained(SanKind),
    /// The CSR asks for subject alternative names that are not those of the client's certificate.
    SanMismatch(Box<Mismatch>),
    /// The profile makes no keys for devices.
    NoServerKeys,
    /// The device wants the private key encrypted to a key of its own (RFC 7030 §4.4.1), and the server cannot do that.
    KeyProtection(KeyProtectionFlaw),
    /// Only the session would protect a key on this curve, and its cipher is weaker than the key (RFC 7030 §4.4).
    KeyCipher(Curve),
    /// The profile requires a link to the session, and the CSR has none.
    ChallengeAbsent,
    /// The CSR is linked to a session, or the profile requires it, and this session has no tls-unique to compare it with (no extended master
    /// secret: RFC 9148 §3, RFC 7627 §5.4).
    ChallengeUnbound,
    /// The CSR is linked to a session, or the profile requires it, and the client is connected over HTTPS, where we have no tls-unique.
    ChallengeOverHttps,
    /// The CSR's challengePassword or estIdentityLinking is not the tls-unique of this session (RFC 7030 §3.5).
    ChallengeMismatch,
    /// The CSR is for the key of the device's manufacturer certificate.
    IdentityKey,
    /// The CSR is for the key of a CA.
    CaKey,
    /// The CSR is for a key for which another device holds a certificate.
    KeyOfAnotherDevice,
    /// The CSR is for the key of a certificate that was revoked because the key is compromised.
    KeyCompromised,
    /// The device holds the maximum of unexpired certificates that the profile allows.
    DeviceFull(u32),
    /// The device may not enrol: an operator has denied it.
    DeviceDenied,
    /// The upstream CA refused the request.
    Upstream(UpstreamRefusal),
    /// The upstream CA gave an answer that cannot be passed on.
    UpstreamAnswer(UpstreamAnswerFlaw),
}

impl Refusal {
    /// The stable code of the refusal of a request for `function`: what the audit records, and what `est` sends and logs.
    #[must_use]
    pub const fn code(&self, function: Function) -> &'static str {
        match self {
            Self::Csr(error) => csr_code(&error.flaw),
            Self::KeyType => "est.csr.key_type",
            Self::Asks(Asked::CertificateAuthority) => "est.csr.asks_ca",
            Self::Asks(Asked::CertificateSigning) => "est.csr.asks_signing",
            Self::Asks(Asked::AnyPurpose) => "est.csr.asks_any_purpose",
            Self::ClientUnknown => "est.client.not_of_this_profile",
            Self::ClientExpired => "est.client.expired",
            Self::ClientEncoding(_) => "est.client.encoding",
            Self::ClientRevoked => "est.client.revoked",
            Self::NotIssuedHere => "est.sren.not_issued_here",
            Self::ClientOfAnotherProfile(_) => "est.client.of_another_profile",
            Self::ClientNotInLedger => "est.client.not_in_ledger",
            Self::ClientOfLostRow => "est.client.of_lost_row",
            Self::ManufacturerRemoved => "est.client.manufacturer_removed",
            Self::NoDeviceId(_) => "est.client.no_device_id",
            Self::RegistrarNotListed(_) => "est.registrar.not_listed",
            Self::NoVouchedDevice(_) => "est.registrar.no_device_id",
            Self::NothingToRenew => "est.registrar.nothing_to_renew",
            Self::PredecessorRevoked => "est.registrar.certificate_revoked",
            Self::SubjectMismatch(_) => match function {
                Function::SimpleEnroll => "est.sen.subject_mismatch",
                Function::SimpleReenroll => "est.sren.subject_mismatch",
                Function::ServerKeygen => "est.skg.subject_mismatch",
            },
            Self::SubjectTemplate(_) => "est.sen.subject_template",
            Self::NoName => "est.csr.no_name",
            Self::SanNotListed(_) => "est.csr.san_not_listed",
            Self::SanSyntax(_) => "est.csr.san_not_issuable",
            Self::SanConstrained(_) => "est.csr.san_constrained",
            Self::SanMismatch(_) => "est.csr.san_mismatch",
            Self::NoServerKeys => "est.path.function_not_served",
            Self::KeyProtection(KeyProtectionFlaw::UnknownSymmetricKey | KeyProtectionFlaw::UnknownAsymmetricKey) => {
                "est.skg.unknown_encryption_key"
            }
            Self::KeyProtection(_) => "est.skg.encryption_not_possible",
            Self::KeyCipher(_) => "est.skg.cipher_too_weak",
            Self::ChallengeAbsent => "est.csr.challenge_absent",
            Self::ChallengeUnbound => "est.csr.challenge_unbound",
            Self::ChallengeOverHttps => "est.csr.challenge_over_https",
            Self::ChallengeMismatch => "est.csr.challenge_mismatch",
            Self::IdentityKey => "est.csr.identity_key",
            Self::CaKey => "est.csr.ca_key",
            Self::KeyOfAnotherDevice => "est.csr.key_of_another_device",
            Self::KeyCompromised => "est.csr.key_compromised",
            Self::DeviceFull(_) => "est.device.certificates_full",
            Self::DeviceDenied => "est.device.denied",
            Self::Upstream(refusal) => refusal.code(),
            Self::UpstreamAnswer(flaw) => flaw.code(),
        }
    }

    /// Two values that had to be equal, in one line: for the operator, never for the wire.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::SubjectMismatch(mismatch) | Self::SanMismatch(mismatch) => Some(mismatch.to_string()),
            _ => None,
        }
    }
}

const fn csr_code(flaw: &CsrFlaw) -> &'static str {
    match flaw {
        CsrFlaw::Der(_) | CsrFlaw::Version => "est.csr.malformed",
        CsrFlaw::Name(_) => "est.csr.subject_malformed",
        CsrFlaw::Key(_) => "est.csr.algorithm",
        CsrFlaw::Signature(_) => "est.csr.signature_encoding",
        CsrFlaw::ProofOfPossession => "est.csr.signature",
        CsrFlaw::TooManyAttributes => "est.csr.too_large",
        CsrFlaw::RepeatedAttribute
        | CsrFlaw::ChallengePassword
        | CsrFlaw::IdentityLinking
        | CsrFlaw::DecryptKey
        | CsrFlaw::Capabilities
        | CsrFlaw::RepeatedExtension
        | CsrFlaw::TooManyExtensions
        | CsrFlaw::ExtensionValue => "est.csr.attributes_malformed",
        CsrFlaw::AlternativeNames(_) => "est.csr.san_malformed",
    }
}

/// Two values that had to be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The value in the CSR.
    pub asked: String,
    /// The value in the client's certificate.
    pub held: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request has {:?}, the client's certificate {:?}", self.asked, self.held)
    }
}

/// What a CSR must not ask for. Anything else that it asks for and the profile does not name is ignored, never
/// copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `basicConstraints` with cA TRUE.
    CertificateAuthority,
    /// keyUsage keyCertSign or cRLSign.
    CertificateSigning,
    /// extendedKeyUsage anyExtendedKeyUsage, or that of an authority: id-kp-cmcRA (RFC 6402 §2.10),
    /// id-kp-OCSPSigning.
    AnyPurpose,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csr(error) => write!(f, "the request cannot be accepted: {error}"),
            Self::KeyType => f.write_str("the profile issues no certificate for this kind of key"),
            Self::Asks(asked) => write!(f, "the request asks for {asked}"),
            Self::ClientUnknown => f.write_str("the client's certificate was not issued by a manufacturer or CA of this profile"),
            Self::ClientExpired => f.write_str("the client's certificate is outside its validity"),
            Self::ClientEncoding(deviations) => {
                write!(f, "the client's certificates are not strict DER: {deviations}")
            }
            Self::ClientRevoked => f.write_str("the client's certificate is revoked"),
            Self::NotIssuedHere => f.write_str("only a certificate of this CA can be renewed"),
            Self::ClientOfAnotherProfile(issuing) => {
                write!(f, "the client's certificate is of profile {issuing:?} and can be used with that profile only")
            }
            Self::ClientNotInLedger => f.write_str("the ledger does not hold the client's certificate"),
            Self::ClientOfLostRow => {
                f.write_str("the row of the client's certificate was lost before the ledger was restored from a backup")
            }
            Self::ManufacturerRemoved => {
                f.write_str("the manufacturer of the client's device is no longer listed in the profile")
            }
            Self::NoDeviceId(rule) => write!(f, "the rule `{rule}` finds no identity in the client's certificate"),
            Self::RegistrarNotListed(name) => write!(f, "the profile does not list the Registrar {name:?}"),
            Self::NoVouchedDevice(rule) => write!(f, "the rule `{rule}` finds no identity in the request"),
            Self::NothingToRenew => f.write_str("the device holds no valid certificate that could be renewed"),
            Self::PredecessorRevoked => f.write_str("the certificate that the device got last is revoked"),
            Self::SubjectMismatch(_) => f.write_str("the subject asked for is not that of the client's certificate"),
            Self::SubjectTemplate(attribute) => {
                write!(f, "the profile's subject template cannot be filled: {attribute}")
            }
            Self::NoName => f.write_str(
                "the certificate would have no name: the client's subject is empty and the request asks for no alternative name",
            ),
            Self::SanNotListed(kind) => write!(f, "the profile lists no subject alternative name of kind {kind}"),
            Self::SanConstrained(kind) => {
                write!(f, "the nameConstraints of the CA's chain do not permit an alternative name of kind {kind}")
            }
            Self::SanSyntax(kind) => {
                write!(f, "an alternative name of kind {kind} may not be issued as it is written")
            }
            Self::SanMismatch(_) => {
                f.write_str("the alternative names asked for are not those of the client's certificate")
            }
            Self::NoServerKeys => f.write_str("the profile makes no keys for devices"),
            Self::KeyProtection(flaw) => {
                write!(f, "the device wants its private key encrypted, and the server cannot do that: {flaw}")
            }
            Self::KeyCipher(curve) => {
                write!(f, "a {curve} key would leave under a cipher that is weaker than the key")
            }
            Self::ChallengeAbsent => {
                f.write_str("the request is not linked to the session, and the profile requires it")
            }
            Self::ChallengeUnbound => {
                f.write_str("no request can be linked to a session without extended master secret")
            }
            Self::ChallengeOverHttps => f.write_str("no request can be linked to a session of HTTPS"),
            Self::ChallengeMismatch => f.write_str("the request is linked to another session, or to none"),
            Self::IdentityKey => f.write_str("the key is that of the manufacturer certificate"),
            Self::CaKey => f.write_str("the key is that of a CA"),
            Self::KeyOfAnotherDevice => f.write_str("another device holds a certificate for this key"),
            Self::KeyCompromised => f.write_str("a certificate of this key was revoked because the key is compromised"),
            Self::DeviceFull(max) => {
                write!(f, "the device holds {max} certificates that have not expired, and the profile allows no more")
            }
            Self::DeviceDenied => f.write_str("the device is denied by an operator"),
            Self::Upstream(refusal) => refusal.fmt(f),
            Self::UpstreamAnswer(flaw) => flaw.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a private key cannot be encrypted as the device wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProtectionFlaw {
    /// The profile has no key-encryption key with this identifier.
    UnknownSymmetricKey,
    /// The identifier is not that of the key in the client's certificate.
    UnknownAsymmetricKey,
    /// The keyUsage of the client's certificate does not allow key agreement.
    KeyUsage,
    /// The client's algorithms are unknown here, or weaker than the key that they would protect.
    Algorithms,
    /// The request names both a symmetric and an asymmetric key.
    TwoKeys,
    /// This server has no key that signs the packages of keys.
    NoSigner,
}

impl fmt::Display for KeyProtectionFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownSymmetricKey => "the profile has no key with this DecryptKeyIdentifier",
            Self::UnknownAsymmetricKey => {
                "AsymmetricDecryptKeyIdentifier is not the key identifier of the client's certificate"
            }
            Self::KeyUsage => "keyUsage of the client's certificate does not allow keyAgreement",
            Self::Algorithms => "no algorithm of the client is known here and as strong as the key",
            Self::TwoKeys => "it names two keys",
            Self::NoSigner => "it has no key to sign packages with",
        })
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CertificateAuthority => "a CA certificate (basicConstraints)",
            Self::CertificateSigning => "the right to sign certificates or CRLs (keyUsage)",
            Self::AnyPurpose => "any purpose, or that of an authority (extendedKeyUsage)",
        })
    }
}

/// The request is in order; it can be repeated unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The ledger could not provide or store what was needed.
    Ledger(LedgerFault),
    /// The signer did not sign.
    Signer(SignerFault),
    /// The maximum of enrolments is in flight.
    Full,
    /// The maximum of enrolments of this device is in flight.
    DeviceInFlight,
    /// The same request is being worked on, and this one could not wait for it.
    InFlight,
    /// An operator must approve the device first.
    DevicePending,
    /// The device has asked too often.
    DeviceOverLimit {
        /// Time until it may try again; at least a second.
        wait: Duration,
    },
    /// Every serial drawn was taken.
    Serials,
    /// The clock is before the ledger's latest row.
    ClockBehind {
        /// By this much.
        by: Duration,
    },
    /// The clock jumped ahead while the server ran.
    ClockAhead {
        /// By this much.
        by: Duration,
    },
    /// The CA's certificate is outside its validity: nothing can be issued under it.
    CaOutsideValidity,
    /// A certificate was made and not released, because a check before release failed.
    Withheld(Misissue),
    /// A ledger or signer dropped its completion.
    Dropped,
    /// The profile was made for another authority: the program that built the server combined the wrong two.
    WrongAuthority,
    /// The upstream CA has not answered.
    Upstream(UpstreamBusy),
}

/// The fault that a check before release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misissue {
    /// The signature does not verify under the CA's key.
    Signature,
    /// The certificate does not say what was decided, or breaks a rule of RFC 5280.
    Lint,
}

impl Busy {
    /// When a repetition makes sense, before jitter: soon if the request is in progress, in minutes if a person must act first. A client that
    /// repeats too early only gets this answer again.
    #[must_use]
    pub const fn max_age(self) -> Duration {
        Duration::from_secs(match self {
            Self::DeviceOverLimit { wait } => return wait,
            Self::Upstream(busy) => return busy.max_age(),
            Self::InFlight | Self::DeviceInFlight => 3,
            Self::Full | Self::Dropped | Self::Ledger(LedgerFault::Abandoned | LedgerFault::Answer) => 5,
            Self::Ledger(LedgerFault::Unavailable | LedgerFault::Broken) | Self::Signer(_) => 10,
            Self::Serials => 60,
            Self::Ledger(LedgerFault::Full | LedgerFault::NeedsMigration) | Self::Withheld(_) => 300,
            Self::DevicePending | Self::WrongAuthority | Self::ClockBehind { .. } | Self::ClockAhead { .. } => 300,
            Self::CaOutsideValidity => 3_600,
        })
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(fault) => write!(f, "ledger: {fault}"),
            Self::Signer(fault) => write!(f, "signer: {fault}"),
            Self::Full => f.write_str("too many enrolments in flight"),
            Self::DeviceInFlight => f.write_str("too many enrolments of this device in flight"),
            Self::InFlight => f.write_str("the same request is in flight"),
            Self::DevicePending => f.write_str("the device waits for approval"),
            Self::DeviceOverLimit { wait } => {
                write!(f, "the device is over its limit and may try again in {} s", wait.as_secs())
            }
            Self::Serials => f.write_str("every serial drawn was taken"),
            Self::ClockBehind { by } => {
                write!(f, "the clock is {} s before the ledger's latest row", by.as_secs())
            }
            Self::ClockAhead { by } => write!(f, "the clock jumped {} s ahead", by.as_secs()),
            Self::CaOutsideValidity => f.write_str("the CA's certificate is outside its validity"),
            Self::Withheld(Misissue::Signature) => f.write_str("withheld: the signature does not verify"),
            Self::Withheld(Misissue::Lint) => f.write_str("withheld: the certificate is not what was decided"),
            Self::Dropped => f.write_str("a ledger or signer dropped its completion"),
            Self::WrongAuthority => f.write_str("the profile was made for another authority"),
            Self::Upstream(busy) => busy.fmt(f),
        }
    }
}
