//! Object identifiers: a checked view of their DER contents, and the identifiers that this crate knows by name.
//!
//! An [`Oid`] borrows; constants live in the program. Nothing here looks anything up in a registry.

use std::fmt;

/// An object identifier as its DER content octets (without tag and length).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid<'a>(&'a [u8]);

impl<'a> Oid<'a> {
    /// A known identifier from its content octets.
    pub(crate) const fn new(contents: &'a [u8]) -> Self {
        Self(contents)
    }

    /// An identifier from content octets that are well-formed: each arc minimal and whole (X.690 §8.19).
    #[must_use]
    pub fn from_contents(contents: &'a [u8]) -> Option<Self> {
        check_contents(contents).ok().map(|()| Self(contents))
    }

    /// The content octets.
    #[must_use]
    pub const fn contents(self) -> &'a [u8] {
        self.0
    }
}

macro_rules! oids {
    ($($(#[$doc:meta])* $name:ident = $bytes:expr;)*) => { $($(#[$doc])* pub const $name: Oid<'static> = Oid::new(&$bytes);)* };
}

oids! {
    /// commonName, 2.5.4.3
    COMMON_NAME = [0x55, 4, 3];
    /// surname, 2.5.4.4
    SURNAME = [0x55, 4, 4];
    /// serialNumber, 2.5.4.5: IEEE 802.1AR puts it into the subject of an IDevID
    SERIAL_NUMBER = [0x55, 4, 5];
    /// countryName, 2.5.4.6
    COUNTRY = [0x55, 4, 6];
    /// localityName, 2.5.4.7
    LOCALITY = [0x55, 4, 7];
    /// stateOrProvinceName, 2.5.4.8
    STATE = [0x55, 4, 8];
    /// streetAddress, 2.5.4.9
    STREET = [0x55, 4, 9];
    /// organizationName, 2.5.4.10
    ORGANIZATION = [0x55, 4, 10];
    /// organizationalUnitName, 2.5.4.11
    ORGANIZATIONAL_UNIT = [0x55, 4, 11];
    /// title, 2.5.4.12
    TITLE = [0x55, 4, 12];
    /// name, 2.5.4.41
    NAME = [0x55, 4, 41];
    /// givenName, 2.5.4.42
    GIVEN_NAME = [0x55, 4, 42];
    /// dnQualifier, 2.5.4.46
    DN_QUALIFIER = [0x55, 4, 46];
    /// pseudonym, 2.5.4.65
    PSEUDONYM = [0x55, 4, 65];
    /// organizationIdentifier, 2.5.4.97
    ORGANIZATION_IDENTIFIER = [0x55, 4, 97];
    /// userId, 0.9.2342.19200300.100.1.1
    USER_ID = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
    /// domainComponent, 0.9.2342.19200300.100.1.25
    DOMAIN_COMPONENT = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19];
    /// emailAddress (PKCS #9), 1.2.840.113549.1.9.1
    EMAIL_ADDRESS = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

    /// subjectKeyIdentifier, 2.5.29.14
    SUBJECT_KEY_IDENTIFIER = [0x55, 0x1d, 14];
    /// keyUsage, 2.5.29.15
    KEY_USAGE = [0x55, 0x1d, 15];
    /// subjectAltName, 2.5.29.17
    SUBJECT_ALT_NAME = [0x55, 0x1d, 17];
    /// basicConstraints, 2.5.29.19
    BASIC_CONSTRAINTS = [0x55, 0x1d, 19];
    /// cRLNumber, 2.5.29.20
    CRL_NUMBER = [0x55, 0x1d, 20];
    /// issuingDistributionPoint, 2.5.29.28
    ISSUING_DISTRIBUTION_POINT = [0x55, 0x1d, 28];
    /// nameConstraints, 2.5.29.30
    NAME_CONSTRAINTS = [0x55, 0x1d, 30];
    /// cRLDistributionPoints, 2.5.29.31
    CRL_DISTRIBUTION_POINTS = [0x55, 0x1d, 31];
    /// certificatePolicies, 2.5.29.32
    CERTIFICATE_POLICIES = [0x55, 0x1d, 32];
    /// authorityKeyIdentifier, 2.5.29.35
    AUTHORITY_KEY_IDENTIFIER = [0x55, 0x1d, 35];
    /// extKeyUsage, 2.5.29.37
    EXTENDED_KEY_USAGE = [0x55, 0x1d, 37];
    /// anyExtendedKeyUsage, 2.5.29.37.0
    ANY_EXTENDED_KEY_USAGE = [0x55, 0x1d, 37, 0];
    /// id-pe-authorityInfoAccess, 1.3.6.1.5.5.7.1.1
    AUTHORITY_INFO_ACCESS = [0x2b, 6, 1, 5, 5, 7, 1, 1];
    /// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1
    SERVER_AUTH = [0x2b, 6, 1, 5, 5, 7, 3, 1];
    /// id-kp-clientAuth, 1.3.6.1.5.5.7.3.2
    CLIENT_AUTH = [0x2b, 6, 1, 5, 5, 7, 3, 2];
    /// id-kp-OCSPSigning, 1.3.6.1.5.5.7.3.9
    OCSP_SIGNING = [0x2b, 6, 1, 5, 5, 7, 3, 9];
    /// id-kp-cmcRA, 1.3.6.1.5.5.7.3.28
    CMC_RA = [0x2b, 6, 1, 5, 5, 7, 3, 28];
    /// id-on-hardwareModuleName, 1.3.6.1.5.5.7.8.4 (RFC 4108)
    HARDWARE_MODULE_NAME = [0x2b, 6, 1, 5, 5, 7, 8, 4];
    /// id-ad-ocsp, 1.3.6.1.5.5.7.48.1
    OCSP = [0x2b, 6, 1, 5, 5, 7, 48, 1];
    /// id-ad-caIssuers, 1.3.6.1.5.5.7.48.2
    CA_ISSUERS = [0x2b, 6, 1, 5, 5, 7, 48, 2];

    /// challengePassword (PKCS #9), 1.2.840.113549.1.9.7
    CHALLENGE_PASSWORD = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
    /// extensionRequest (PKCS #9), 1.2.840.113549.1.9.14
    EXTENSION_REQUEST = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    /// smimeCapabilities (PKCS #9), 1.2.840.113549.1.9.15
    SMIME_CAPABILITIES = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 15];
    /// id-aa-decryptKeyID (RFC 4108 §2.2.5), 1.2.840.113549.1.9.16.2.37
    DECRYPT_KEY_ID = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 37];
    /// id-aa-asymmDecryptKeyID (RFC 7030 §4.4.1.2), 1.2.840.113549.1.9.16.2.54
    ASYMM_DECRYPT_KEY_ID = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 54];
    /// id-aa-estIdentityLinking (RFC 7894 §3.3), 1.2.840.113549.1.9.16.2.58
    EST_IDENTITY_LINKING = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 58];
    /// id-aa-certificationRequestInfoTemplate (RFC 9908 §3.4), 1.2.840.113549.1.9.16.2.61
    CSR_TEMPLATE = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 61];
    /// id-aa-extensionReqTemplate (RFC 9908 §3.4), 1.2.840.113549.1.9.16.2.62
    EXTENSION_REQUEST_TEMPLATE = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 62];
    /// id-data (PKCS #7), 1.2.840.113549.1.7.1
    PKCS7_DATA = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
    /// id-signedData (PKCS #7), 1.2.840.113549.1.7.2
    PKCS7_SIGNED_DATA = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];

    /// id-envelopedData (PKCS #7), 1.2.840.113549.1.7.3
    PKCS7_ENVELOPED_DATA = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3];
    /// id-contentType (PKCS #9), 1.2.840.113549.1.9.3
    CONTENT_TYPE = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
    /// id-messageDigest (PKCS #9), 1.2.840.113549.1.9.4
    MESSAGE_DIGEST = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
    /// id-ct-KP-aKeyPackage (RFC 5958 §2), 2.16.840.1.101.2.1.2.78.5
    ASYMMETRIC_KEY_PACKAGE = [0x60, 0x86, 0x48, 1, 0x65, 2, 1, 2, 78, 5];
    /// id-aes128-CBC, 2.16.840.1.101.3.4.1.2
    AES128_CBC = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2];
    /// id-aes128-wrap (RFC 3394), 2.16.840.1.101.3.4.1.5
    AES128_WRAP = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 5];
    /// id-aes256-CBC, 2.16.840.1.101.3.4.1.42
    AES256_CBC = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
    /// id-aes256-wrap (RFC 3394), 2.16.840.1.101.3.4.1.45
    AES256_WRAP = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 45];
    /// dhSinglePass-stdDH-sha256kdf-scheme (RFC 5753 §7.1.4), 1.3.132.1.11.1
    ECDH_SHA256_KDF = [0x2b, 0x81, 0x04, 1, 11, 1];

    /// id-ecPublicKey, 1.2.840.10045.2.1
    EC_PUBLIC_KEY = [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// secp256r1, 1.2.840.10045.3.1.7
    SECP256R1 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// secp384r1, 1.3.132.0.34
    SECP384R1 = [0x2b, 0x81, 0x04, 0, 34];
    /// ecdsa-with-SHA256, 1.2.840.10045.4.3.2
    ECDSA_WITH_SHA256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    /// ecdsa-with-SHA384, 1.2.840.10045.4.3.3
    ECDSA_WITH_SHA384 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    /// rsaEncryption (PKCS #1), 1.2.840.113549.1.1.1
    RSA_ENCRYPTION = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// id-sha256, 2.16.840.1.101.3.4.2.1
    SHA256 = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    /// id-sha384, 2.16.840.1.101.3.4.2.2
    SHA384 = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    /// id-sha512, 2.16.840.1.101.3.4.2.3
    SHA512 = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
}

/// Attribute types: first the short names of RFC 4514 §3, then the long names that people write in configuration.
const ATTRIBUTE_NAMES: &[(&str, Oid<'static>)] = &[
    ("CN", COMMON_NAME),
    ("C", COUNTRY),
    ("L", LOCALITY),
    ("ST", STATE),
    ("STREET", STREET),
    ("O", ORGANIZATION),
    ("OU", ORGANIZATIONAL_UNIT),
    ("DC", DOMAIN_COMPONENT),
    ("UID", USER_ID),
    ("serialNumber", SERIAL_NUMBER),
    ("SN", SURNAME),
    ("title", TITLE),
    ("name", NAME),
    ("givenName", GIVEN_NAME),
    ("dnQualifier", DN_QUALIFIER),
    ("pseudonym", PSEUDONYM),
    ("organizationIdentifier", ORGANIZATION_IDENTIFIER),
    ("emailAddress", EMAIL_ADDRESS),
    ("commonName", COMMON_NAME),
    ("countryName", COUNTRY),
    ("localityName", LOCALITY),
    ("stateOrProvinceName", STATE),
    ("streetAddress", STREET),
    ("organizationName", ORGANIZATION),
    ("organizationalUnitName", ORGANIZATIONAL_UNIT),
    ("domainComponent", DOMAIN_COMPONENT),
    ("userId", USER_ID),
    ("surname", SURNAME),
];

/// The attribute type with the configuration name `name` (`CN`, `serialNumber`, `commonName`, ...), compared without
/// case.
#[must_use]
pub fn attribute_type(name: &str) -> Option<Oid<'static>> {
    ATTRIBUTE_NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, oid)| oid)
}

/// The display name of an attribute type, if it has one.
#[must_use]
pub fn attribute_name(attribute: Oid<'_>) -> Option<&'static str> {
    ATTRIBUTE_NAMES.iter().find(|(_, oid)| *oid == attribute).map(|&(name, _)| name)
}

/// Extensions with the names from their definitions.
const EXTENSION_NAMES: &[(&str, Oid<'static>)] = &[
    ("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER),
    ("keyUsage", KEY_USAGE),
    ("subjectAltName", SUBJECT_ALT_NAME),
    ("basicConstraints", BASIC_CONSTRAINTS),
    ("nameConstraints", NAME_CONSTRAINTS),
    ("cRLDistributionPoints", CRL_DISTRIBUTION_POINTS),
    ("certificatePolicies", CERTIFICATE_POLICIES),
    ("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER),
    ("extKeyUsage", EXTENDED_KEY_USAGE),
    ("authorityInfoAccess", AUTHORITY_INFO_ACCESS),
];

/// The name of the extension with these content octets, if it is known here.
pub(crate) fn extension_name(contents: &[u8]) -> Option<&'static str> {
    EXTENSION_NAMES.iter().find(|(_, oid)| oid.contents() == contents).map(|&(name, _)| name)
}

/// Names of unsupported kinds of keys.
const KEY_NAMES: &[(&str, &[u8])] = &[
    ("RSA", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]),
    ("RSASSA-PSS", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]),
    ("DSA", &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1]),
    ("X25519", &[0x2b, 0x65, 0x6e]),
    ("X448", &[0x2b, 0x65, 0x6f]),
    ("Ed25519", &[0x2b, 0x65, 0x70]),
    ("Ed448", &[0x2b, 0x65, 0x71]),
];

/// Names of unsupported curves.
const CURVE_NAMES: &[(&str, &[u8])] = &[
    ("P-192", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1]),
    ("P-224", &[0x2b, 0x81, 0x04, 0, 33]),
    ("P-521", &[0x2b, 0x81, 0x04, 0, 35]),
    ("secp256k1", &[0x2b, 0x81, 0x04, 0, 10]),
    ("brainpoolP256r1", &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7]),
    ("brainpoolP320r1", &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 9]),
    ("brainpoolP384r1", &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 11]),
    ("brainpoolP512r1", &[0x2b, 0x24, 3, 3, 2, 8, 1, 1, 13]),
    ("SM2", &[0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x82, 0x2d]),
];

/// Names of unsupported signature algorithms.
const SIGNATURE_NAMES: &[(&str, &[u8])] = &[
    ("md5WithRSAEncryption", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4]),
    ("sha1WithRSAEncryption", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5]),
    ("RSASSA-PSS", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]),
    ("sha256WithRSAEncryption", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]),
    ("sha384WithRSAEncryption", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12]),
    ("sha512WithRSAEncryption", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13]),
    ("ecdsa-with-SHA1", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]),
    ("ecdsa-with-SHA224", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1]),
    ("ecdsa-with-SHA512", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4]),
    ("Ed25519", &[0x2b, 0x65, 0x70]),
    ("Ed448", &[0x2b, 0x65, 0x71]),
];

fn name_in(names: &[(&'static str, &[u8])], oid: Oid<'_>) -> &'static str {
    names
        .iter()
        .find(|(_, contents)| *contents == oid.contents())
        .map_or("one that is not known here", |&(name, _)| name)
}

/// The name of an unsupported kind of key.
pub(crate) fn key_name(oid: Oid<'_>) -> &'static str {
    name_in(KEY_NAMES, oid)
}

/// The name of an unsupported curve.
pub(crate) fn curve_name(oid: Oid<'_>) -> &'static str {
    name_in(CURVE_NAMES, oid)
}

/// Whether this is a curve that has a name here and is not supported.
pub(crate) fn is_unsupported_curve(oid: Oid<'_>) -> bool {
    CURVE_NAMES.iter().any(|(_, contents)| *contents == oid.contents())
}

/// Whether this is a signature algorithm that has a name here and is not supported.
pub(crate) fn is_unsupported_signature(oid: Oid<'_>) -> bool {
    SIGNATURE_NAMES.iter().any(|(_, contents)| *contents == oid.contents())
}

/// Whether this identifies an extension: id-ce (RFC 5280 §4.2.1), id-pe (§4.2.2).
pub(crate) fn is_extension(oid: Oid<'_>) -> bool {
    oid.contents().starts_with(&[0x55, 0x1d]) || oid.contents().starts_with(&[0x2b, 6, 1, 5, 5, 7, 1])
}

/// The name of an unsupported signature algorithm.
pub(crate) fn signature_name(oid: Oid<'_>) -> &'static str {
    name_in(SIGNATURE_NAMES, oid)
}

/// Whether these are the contents of an OBJECT IDENTIFIER.
pub(crate) fn check_contents(contents: &[u8]) -> Result<(), crate::der::DerError> {
    let mut starts_arc = true;
    for &byte in contents {
        // X.690 §8.19.2: "the leading octet of the subidentifier shall not have the value 80".
        if starts_arc && byte == 0x80 {
            return Err(crate::der::DerError::ObjectIdentifier);
        }
        starts_arc = byte & 0x80 == 0;
    }
    if starts_arc && !contents.is_empty() { Ok(()) } else { Err(crate::der::DerError::ObjectIdentifier) }
}

impl fmt::Display for Oid<'_> {
    /// Dotted decimal. Arcs beyond 64 bits (UUID arcs) are shown as `?`: they are never a known identifier.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut arc = Some(0u64);
        for &byte in self.0 {
            arc = arc.filter(|&a| a <= u64::MAX >> 7).map(|a| a << 7 | u64::from(byte & 0x7f));
            if byte & 0x80 != 0 {
                continue;
            }
            match (first, arc) {
                // X.690 §8.19.4: the first octet carries two arcs, 40 * X + Y with X at most 2.
                (true, Some(arc)) => {
                    let top = (arc / 40).min(2);
                    write!(f, "{top}.{}", arc - top * 40)?;
                }
                (false, Some(arc)) => write!(f, ".{arc}")?,
                (true, None) => f.write_str("2.?")?,
                (false, None) => f.write_str(".?")?,
            }
            first = false;
            arc = Some(0);
        }
        Ok(())
    }
}

impl fmt::Debug for Oid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_display_as_dotted_decimal() {
        assert_eq!(COMMON_NAME.to_string(), "2.5.4.3");
        assert_eq!(CHALLENGE_PASSWORD.to_string(), "1.2.840.113549.1.9.7");
        assert_eq!(DOMAIN_COMPONENT.to_string(), "0.9.2342.19200300.100.1.25");
        assert_eq!(SECP384R1.to_string(), "1.3.132.0.34");
        assert_eq!(ECDSA_WITH_SHA384.to_string(), "1.2.840.10045.4.3.3");
        assert_eq!(HARDWARE_MODULE_NAME.to_string(), "1.3.6.1.5.5.7.8.4");
    }

    #[test]
    fn names_of_attributes_are_found_without_case() {
        assert_eq!(attribute_type("serialnumber"), Some(SERIAL_NUMBER));
        assert_eq!(attribute_type("commonName"), Some(COMMON_NAME));
        assert_eq!(attribute_type("nonsense"), None);
        assert_eq!(attribute_name(SERIAL_NUMBER), Some("serialNumber"));
    }
}
