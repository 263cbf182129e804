//! Makes certificates and requests for `muster init`, the load generator, the simulator and tests.
//!
//! `rcgen` makes roots, issuing and manufacturer authorities, server certificates and IDevIDs here. None of its defaults reaches a
//! certificate: serial, validity, key identifiers and names are arguments, and its output is parsed strictly and compared with the
//! requested values. Certificates of enrolled devices are made in [`crate::issue`]. [`csr`](fn@csr) writes requests, because
//! `rcgen` drops repeated attributes and does not support challengePassword.
//!
//! Nothing here reads a clock or draws global randomness: times and serial numbers are arguments and each signature takes its
//! `SecureRandom`, so that a simulator gets the same bytes from the same seed.

mod copy;
mod csr;

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use ring::rand::SecureRandom;
use rustls_pki_types::{ServerName, UnixTime};
use time::OffsetDateTime;

use crate::algorithm::{Curve, PublicKey, key_identifier};
use crate::certificate::{Certificate, CertificateError};
use crate::der::Tag;
use crate::general_name::{GeneralName, GeneralNames, GeneralNamesError};
use crate::issue::Serial;
use crate::key::SigningKey;
use crate::name::{Name, NameBuilder, NameError};
use crate::oid::{self, Oid};
use crate::private_key::KeyError;
use crate::time::Validity;

pub use copy::copy;
pub use csr::{CsrAdditions, CsrSpec, csr, csr_with, csr_with_extensions};

/// A certification authority: root, issuing or manufacturer's.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityCertificateSpec<'a> {
    /// Its common name.
    pub common_name: &'a str,
    /// Its organization, which precedes the common name.
    pub organization: Option<&'a str>,
    /// The serial number of its certificate.
    pub serial: Serial,
    /// When its certificate is valid.
    pub validity: Validity,
    /// How many authorities may follow below it; `None` for any number.
    pub path_len: Option<u8>,
}

/// A server's certificate.
#[derive(Clone, Copy, Debug)]
pub struct ServerCertificateSpec<'a> {
    /// The names by which clients dial it; the first one is also the common name, if it is short enough.
    pub names: &'a [ServerName<'a>],
    /// The serial number of its certificate.
    pub serial: Serial,
    /// When its certificate is valid.
    pub validity: Validity,
}

/// An IDevID (IEEE 802.1AR): the certificate that a manufacturer puts into a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceCertificateSpec<'a> {
    /// Its common name.
    pub common_name: &'a str,
    /// The serialNumber attribute of its subject.
    pub serial_number: &'a str,
    /// The organization, which precedes the common name.
    pub organization: Option<&'a str>,
    /// The serial number of its certificate.
    pub serial: Serial,
    /// When its certificate is valid; 802.1AR asks for [`crate::NO_WELL_DEFINED_EXPIRATION`].
    pub validity: Validity,
}

/// A signer: an authority's certificate and its key.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub key: &'a SigningKey,
}

/// A self-signed root.
///
/// # Errors
/// A name cannot be encoded, or the source of randomness failed.
pub fn root(
    spec: &AuthorityCertificateSpec<'_>,
    key: &SigningKey,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    let params = authority_params(spec, key.public_key())?;
    let certificate = params.self_signed(&RandomKey { key, random }).map_err(|_| MakeError::Encoding)?;
    released(certificate.der(), &subject_of_authority(spec)?, key.spki())
}

/// An authority below another one: an issuing CA.
///
/// # Errors
/// As [`root`]; also if the parent is not an authority, or the key belongs to another one.
pub fn authority(
    spec: &AuthorityCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    sign(&authority_params(spec, public_key)?, &subject_of_authority(spec)?, public_key, parent, random)
}

/// A server's certificate, compact because devices reassemble it in small buffers: about 450 bytes on P-256. keyUsage
/// digitalSignature, extKeyUsage serverAuth.
///
/// # Errors
/// As [`authority`]; also if there is no name, or one that may not be issued.
pub fn server(
    spec: &ServerCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    server_for(vec![ExtendedKeyUsagePurpose::ServerAuth], spec, public_key, parent, random)
}

/// Like [`server`], with id-kp-cmcRA beside serverAuth: clients of this CA accept the server whatever name they dialled (RFC 7030 §3.6.1).
///
/// # Errors
/// As [`server`].
pub fn ra_server(
    spec: &ServerCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    server_for(vec![ExtendedKeyUsagePurpose::ServerAuth, cmc_ra()], spec, public_key, parent, random)
}

/// The certificate that a Registrar shows to its upstream CA: the names of a server, with clientAuth and id-kp-cmcRA.
///
/// # Errors
/// As [`server`].
pub fn ra_client(
    spec: &ServerCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    server_for(vec![ExtendedKeyUsagePurpose::ClientAuth, cmc_ra()], spec, public_key, parent, random)
}

/// id-kp-cmcRA (RFC 6402 §2.10).
fn cmc_ra() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 28])
}

fn server_for(
    purposes: Vec<ExtendedKeyUsagePurpose>,
    spec: &ServerCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    let names = GeneralNames::from_server_names(spec.names)?;
    // X.520's ub-common-name: 64 characters.
    let first = spec.names.first().ok_or(MakeError::NoName)?.to_str();
    let subject =
        if first.len() <= 64 { NameBuilder::new().push(oid::COMMON_NAME, &first)? } else { NameBuilder::new() };
    let subject = subject.finish()?;
    let mut params = params(&subject, &spec.serial, spec.validity)?;
    for name in names.iter() {
        params.subject_alt_names.push(match name {
            GeneralName::Dns(name) => SanType::DnsName(name.try_into().map_err(|_| MakeError::Encoding)?),
            GeneralName::Ip(address) => SanType::IpAddress(address),
            _ => return Err(MakeError::Encoding),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes;
    sign(&params, &subject, public_key, parent, random)
}

/// A device's first identity: commonName and serialNumber in the subject, keyUsage digitalSignature.
///
/// # Errors
/// As [`authority`].
pub fn idevid(
    spec: &DeviceCertificateSpec<'_>,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    let subject = spec.subject()?;
    let mut params = params(&subject, &spec.serial, spec.validity)?;
    // RFC 7030 §4.4.1.2: a key that the server is to agree on keys with "MUST either explicitly support keyTransport or keyAgreement or its use MUST
    // be unrestricted".
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
    sign(&params, &subject, public_key, parent, random)
}

impl DeviceCertificateSpec<'_> {
    /// The subject of the IDevID: organization, commonName, serialNumber.
    ///
    /// # Errors
    /// A text does not fit its attribute.
    pub fn subject(&self) -> Result<Name, NameError> {
        let organized = match self.organization {
            Some(organization) => NameBuilder::new().push(oid::ORGANIZATION, organization)?,
            None => NameBuilder::new(),
        };
        organized.push(oid::COMMON_NAME, self.common_name)?.push(oid::SERIAL_NUMBER, self.serial_number)?.finish()
    }
}

fn subject_of_authority(spec: &AuthorityCertificateSpec<'_>) -> Result<Name, NameError> {
    let organized = match spec.organization {
        Some(organization) => NameBuilder::new().push(oid::ORGANIZATION, organization)?,
        None => NameBuilder::new(),
    };
    organized.push(oid::COMMON_NAME, spec.common_name)?.finish()
}

fn authority_params(
    spec: &AuthorityCertificateSpec<'_>,
    public_key: PublicKey<'_>,
) -> Result<CertificateParams, MakeError> {
    let mut params = params(&subject_of_authority(spec)?, &spec.serial, spec.validity)?;
    params.is_ca = IsCa::Ca(spec.path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier(public_key.point()).to_vec());
    Ok(params)
}

/// Parameters without any visible default of rcgen's.
fn params(subject: &Name, serial: &Serial, validity: Validity) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = date_time(validity.not_before)?;
    params.not_after = date_time(validity.not_after)?;
    params.distinguished_name = distinguished_name(subject)?;
    params.is_ca = IsCa::NoCa;
    Ok(params)
}

fn date_time(utc: UnixTime) -> Result<OffsetDateTime, MakeError> {
    let seconds = i64::try_from(utc.as_secs()).map_err(|_| MakeError::Encoding)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| MakeError::Encoding)
}

fn sign(
    params: &CertificateParams,
    subject: &Name,
    public_key: PublicKey<'_>,
    parent: Parent<'_>,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    if parent.key.spki() != parent.certificate.spki() || !parent.certificate.is_ca() {
        return Err(MakeError::Parent);
    }
    let key_id = parent.certificate.subject_key_id().ok_or(MakeError::Parent)?;
    let mut of_parent = CertificateParams::default();
    of_parent.distinguished_name = distinguished_name(parent.certificate.subject())?;
    of_parent.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
    let issuer = rcgen::Issuer::from_params(&of_parent, RandomKey { key: parent.key, random });

    let mut params = params.clone();
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(&OfSubject(public_key), &issuer).map_err(|_| MakeError::Encoding)?;
    let certificate = released(made.der(), subject, &public_key.to_spki())?;
    // rcgen encodes the parent's name again; path validation compares bytes.
    if certificate.issuer() != parent.certificate.subject() {
        return Err(MakeError::ParentName);
    }
    Ok(certificate)
}

/// Parses rcgen's output strictly, and checks that it contains the requested values.
fn released(der: &[u8], subject: &Name, spki: &[u8]) -> Result<Certificate, MakeError> {
    let certificate = Certificate::parse(der)?;
    let same = certificate.subject() == subject && certificate.spki() == spki;
    if same { Ok(certificate) } else { Err(MakeError::Encoding) }
}

/// A name in rcgen's form: one attribute in each relative name, no type twice.
fn distinguished_name(name: &Name) -> Result<DistinguishedName, MakeError> {
    let mut out = DistinguishedName::new();
    for attribute in name.attributes() {
        let text = attribute.text().ok_or(MakeError::ParentName)?;
        let value = match attribute.tag {
            Tag::UTF8_STRING => DnValue::Utf8String(text.to_owned()),
            Tag::PRINTABLE_STRING => DnValue::PrintableString(text.try_into().map_err(|_| MakeError::ParentName)?),
            Tag::IA5_STRING => DnValue::Ia5String(text.try_into().map_err(|_| MakeError::ParentName)?),
            _ => return Err(MakeError::ParentName),
        };
        let kind = DnType::from_oid(&arcs(attribute.kind));
        if out.get(&kind).is_some() {
            return Err(MakeError::ParentName); // rcgen would drop one of the two
        }
        out.push(kind, value);
    }
    Ok(out)
}

fn arcs(oid: Oid<'_>) -> Vec<u64> {
    oid.to_string().split('.').filter_map(|arc| arc.parse().ok()).collect()
}

/// A signing key for rcgen that uses the caller's randomness; rcgen's own keys draw from the system.
struct RandomKey<'a> {
    key: &'a SigningKey,
    random: &'a dyn SecureRandom,
}

impl PublicKeyData for RandomKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm(self.key.public_key().curve())
    }
}

impl rcgen::SigningKey for RandomKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.key.sign(self.random, message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

/// The key to certify.
struct OfSubject<'a>(PublicKey<'a>);

impl PublicKeyData for OfSubject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        algorithm(self.0.curve())
    }
}

const fn algorithm(curve: Curve) -> &'static SignatureAlgorithm {
    match curve {
        Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    }
}

/// Why a certificate or request could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MakeError {
    /// A text does not fit into a name.
    Name(NameError),
    /// An alternative name may not be issued.
    AlternativeNames(GeneralNamesError),
    /// A server has no name.
    NoName,
    /// The parent is not an authority, has no subjectKeyIdentifier, or has another key.
    Parent,
    /// rcgen cannot encode the parent's name identically: it has several attributes in one relative name, one type twice, or
    /// rare string types.
    ParentName,
    /// A key operation failed.
    Key(KeyError),
    /// A value cannot be encoded, or was not encoded as requested.
    Encoding,
    /// The result does not parse.
    Certificate(CertificateError),
}

impl From<NameError> for MakeError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<GeneralNamesError> for MakeError {
    fn from(error: GeneralNamesError) -> Self {
        Self::AlternativeNames(error)
    }
}

impl From<KeyError> for MakeError {
    fn from(fault: KeyError) -> Self {
        Self::Key(fault)
    }
}

impl From<CertificateError> for MakeError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::AlternativeNames(error) => error.fmt(f),
            Self::NoName => f.write_str("a server's certificate needs a name"),
            Self::Parent => {
                f.write_str("the signing certificate is not an authority's, or the key does not belong to it")
            }
            Self::ParentName => f.write_str("the authority's name has a form that cannot be encoded again"),
            Self::Key(fault) => fault.fmt(f),
            Self::Encoding => f.write_str("a value cannot be encoded"),
            Self::Certificate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MakeError {}
