//! Extensions (RFC 5280 §4.2): the structure of the list, and the contents that Muster's decisions depend on.
//!
//! The contents of the extensions listed here pass the strict check before `x509-parser` reads them; the contents of unknown
//! extensions are not read (an unknown critical extension fails the chain).

use x509_parser::extensions as parsed;
use x509_parser::prelude::FromDer;

use crate::der::{CMS_LIMITS, DerError, Reader, Tag, check_as};
use crate::encoding::Reading;
use crate::field::{At, ExtensionField, Field, LocatedError};
use crate::general_name::{GeneralNames, GeneralNamesError};
use crate::oid::{self, Oid};

/// Extensions in a certificate or request. A CA certificate with all common extensions has about ten.
pub(crate) const EXTENSIONS_MAX: usize = 24;

/// The contents of the extensions of a certificate or request that Muster uses.
#[derive(Clone, Default, Debug)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(crate) san: GeneralNames,
    pub(crate) subject_key_id: Option<Box<[u8]>>,
    pub(crate) authority_key_id: Option<Box<[u8]>>,
    /// Whether there are extensions that are not read here.
    pub(crate) others: bool,
}

impl Extensions {
    /// Reads a SEQUENCE OF Extension.
    pub(crate) fn read(mut list: Reader<'_>, reading: &mut Reading) -> Result<Self, LocatedError<ExtensionFlaw>> {
        let mut out = Self::default();
        let mut seen = [Oid::new(&[]); EXTENSIONS_MAX];
        let mut index = 0;
        while !list.is_empty() {
            let unnamed = Field::Extension(ExtensionField { index, name: None });
            let extension = Extension::read(&mut list, reading).at(unnamed)?;
            // Looked up only for an error.
            let field =
                || Field::Extension(ExtensionField { index, name: oid::extension_name(extension.id.contents()) });
            // RFC 5280 §4.2: "A certificate MUST NOT include more than one instance of a particular extension."
            if seen[..index].contains(&extension.id) {
                return Err(LocatedError { field: field(), flaw: ExtensionFlaw::Repeated });
            }
            *seen.get_mut(index).ok_or(ExtensionFlaw::TooMany).at(Field::Extensions)? = extension.id;
            out.remember(extension, reading).map_err(|flaw| LocatedError { field: field(), flaw })?;
            index += 1;
        }
        Ok(out)
    }

    fn remember(&mut self, extension: Extension<'_>, reading: &mut Reading) -> Result<(), ExtensionFlaw> {
        let value = extension.value;
        match extension.id {
            oid::BASIC_CONSTRAINTS => self.basic_constraints = Some(BasicConstraints::read(value, reading)?),
            oid::KEY_USAGE => self.key_usage = Some(KeyUsage::read(value, reading)?),
            oid::EXTENDED_KEY_USAGE => self.extended_key_usage = Some(ExtendedKeyUsage::read(value, reading)?),
            oid::SUBJECT_ALT_NAME => self.san = GeneralNames::read(value, reading)?,
            oid::SUBJECT_KEY_IDENTIFIER => {
                check_value(value, reading)?;
                let mut reader = Reader::new(value);
                self.subject_key_id = Some(key_identifier(reader.expect(Tag::OCTET_STRING)?)?);
                reader.finish()?;
            }
            oid::AUTHORITY_KEY_IDENTIFIER => {
                let whole: parsed::AuthorityKeyIdentifier<'_> = read_whole(value, reading)?;
                self.authority_key_id = whole.key_identifier.map(|id| key_identifier(id.0)).transpose()?;
            }
            // webpki judges it, or nothing does; it must be DER either way.
            oid::NAME_CONSTRAINTS => {
                check_name_constraints(value, reading)?;
                self.others = true;
            }
            oid::CRL_DISTRIBUTION_POINTS | oid::AUTHORITY_INFO_ACCESS | oid::CERTIFICATE_POLICIES => {
                check_value(value, reading)?;
                self.others = true;
            }
            _ => self.others = true,
        }
        Ok(())
    }
}

/// One extension of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) id: Oid<'a>,
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

impl<'a> Extension<'a> {
    pub(crate) fn read(list: &mut Reader<'a>, reading: &mut Reading) -> Result<Self, DerError> {
        let mut extension = list.nested(Tag::SEQUENCE)?;
        let id = extension.oid()?;
        let critical = extension.default_false_as(reading)?;
        let value = extension.expect(Tag::OCTET_STRING)?;
        extension.finish()?;
        Ok(Self { id, critical, value })
    }
}

/// Every defined method makes key identifiers of at most 64 octets.
fn key_identifier(octets: &[u8]) -> Result<Box<[u8]>, ExtensionFlaw> {
    if (1..=64).contains(&octets.len()) { Ok(octets.into()) } else { Err(ExtensionFlaw::Value) }
}

/// RFC 5280 §4.2.1.10: at least one of `permittedSubtrees [0]` and `excludedSubtrees [1]`, each a `SEQUENCE SIZE (1..MAX)`. webpki treats
/// an empty list as no constraint, which its issuer cannot have meant.
fn check_name_constraints(value: &[u8], reading: &mut Reading) -> Result<(), ExtensionFlaw> {
    check_value(value, reading)?;
    let mut constraints = Reader::sequence(value)?;
    let lists =
        [constraints.optional(Tag::context_constructed(0))?, constraints.optional(Tag::context_constructed(1))?];
    constraints.finish()?;
    let filled = lists.iter().any(Option::is_some) && !lists.contains(&Some(&[]));
    if filled { Ok(()) } else { Err(ExtensionFlaw::Value) }
}

/// The contents of an extension are DER of their own.
fn check_value(value: &[u8], reading: &mut Reading) -> Result<(), DerError> {
    check_as(value, CMS_LIMITS, reading).map_err(|misplaced| misplaced.error)
}

/// Runs the strict check, then `x509-parser` over exactly these bytes.
fn read_whole<'a, T: FromDer<'a, x509_parser::error::X509Error>>(
    value: &'a [u8],
    reading: &mut Reading,
) -> Result<T, ExtensionFlaw> {
    check_value(value, reading)?;
    match T::from_der(value) {
        Ok((&[], read)) => Ok(read),
        _ => Err(ExtensionFlaw::Value),
    }
}

/// basicConstraints (RFC 5280 §4.2.1.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BasicConstraints {
    pub(crate) is_ca: bool,
    pub(crate) path_len: Option<u32>,
}

impl BasicConstraints {
    fn read(value: &[u8], reading: &mut Reading) -> Result<Self, ExtensionFlaw> {
        // x509-parser accepts an encoded FALSE; DER does not.
        let mut contents = Reader::sequence(value)?;
        contents.default_false_as(reading)?;
        let read: parsed::BasicConstraints = read_whole(value, reading)?;
        Ok(Self { is_ca: read.ca, path_len: read.path_len_constraint })
    }
}

/// keyUsage (RFC 5280 §4.2.1.3) as its nine bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    fn read(value: &[u8], reading: &mut Reading) -> Result<Self, ExtensionFlaw> {
        let read: parsed::KeyUsage = read_whole(value, reading)?;
        // "When the keyUsage extension appears in a certificate, at least one of the bits MUST be set to 1."
        if read.flags == 0 || value.len() > 5 { Err(ExtensionFlaw::Value) } else { Ok(Self(read.flags)) }
    }

    /// digitalSignature: the key may sign in a handshake.
    #[must_use]
    pub const fn digital_signature(self) -> bool {
        self.0 & 1 != 0
    }

    /// keyAgreement
    #[must_use]
    pub const fn key_agreement(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// keyCertSign: the key may sign certificates.
    #[must_use]
    pub const fn key_cert_sign(self) -> bool {
        self.0 & 1 << 5 != 0
    }

    /// cRLSign: the key may sign revocation lists.
    #[must_use]
    pub const fn crl_sign(self) -> bool {
        self.0 & 1 << 6 != 0
    }

    /// Whether digitalSignature is the only bit.
    #[must_use]
    pub const fn is_only_digital_signature(self) -> bool {
        self.0 == 1
    }
}

impl std::fmt::Debug for KeyUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyUsage({})", parsed::KeyUsage { flags: self.0 })
    }
}

/// extKeyUsage (RFC 5280 §4.2.1.12): the purposes that matter for an enrolment.
///
/// It is read here rather than by `x509-parser`, which builds a hash set for each extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "a set of purposes, each of which may be in it")]
pub struct ExtendedKeyUsage {
    /// id-kp-serverAuth
    pub server_auth: bool,
    /// id-kp-clientAuth
    pub client_auth: bool,
    /// anyExtendedKeyUsage
    pub any: bool,
    /// id-kp-OCSPSigning
    pub ocsp_signing: bool,
    /// id-kp-cmcRA (RFC 6402): a registration authority
    pub cmc_ra: bool,
    /// Other purposes.
    pub others: bool,
}

impl ExtendedKeyUsage {
    /// Whether clientAuth is the only purpose.
    #[must_use]
    pub fn is_only_client_auth(self) -> bool {
        self == Self { client_auth: true, ..Self::default() }
    }

    fn read(value: &[u8], reading: &mut Reading) -> Result<Self, ExtensionFlaw> {
        check_value(value, reading)?;
        let mut purposes = Reader::sequence(value)?;
        if purposes.is_empty() {
            return Err(ExtensionFlaw::Value); // "SEQUENCE SIZE (1..MAX) OF KeyPurposeId"
        }
        let mut out = Self::default();
        while !purposes.is_empty() {
            match purposes.oid()? {
                oid::SERVER_AUTH => out.server_auth = true,
                oid::CLIENT_AUTH => out.client_auth = true,
                oid::ANY_EXTENDED_KEY_USAGE => out.any = true,
                oid::OCSP_SIGNING => out.ocsp_signing = true,
                oid::CMC_RA => out.cmc_ra = true,
                _ => out.others = true,
            }
        }
        Ok(out)
    }
}

/// Why extensions cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExtensionFlaw {
    Der(DerError),
    Names(GeneralNamesError),
    Repeated,
    TooMany,
    Value,
}

impl From<DerError> for ExtensionFlaw {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<GeneralNamesError> for ExtensionFlaw {
    fn from(error: GeneralNamesError) -> Self {
        Self::Names(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Writer;

    fn list(extensions: &[(Oid<'_>, bool, &[u8])]) -> Vec<u8> {
        let mut out = Writer::default();
        for (id, critical, value) in extensions {
            out.sequence(|out| {
                out.oid(*id);
                if *critical {
                    out.true_value();
                }
                out.element(Tag::OCTET_STRING, value);
            });
        }
        out.into_vec()
    }

    fn read(extensions: &[(Oid<'_>, bool, &[u8])]) -> Result<Extensions, ExtensionFlaw> {
        Extensions::read(Reader::new(&list(extensions)), &mut Reading::default()).map_err(|located| located.flaw)
    }

    #[test]
    fn key_usage_bits_are_those_of_rfc_5280() {
        let usage = |bits: &[u8]| read(&[(oid::KEY_USAGE, true, bits)]).map(|e| e.key_usage.unwrap());
        assert!(usage(&[3, 2, 7, 0x80]).unwrap().is_only_digital_signature());
        let ca = usage(&[3, 2, 1, 0x06]).unwrap();
        assert!(ca.key_cert_sign() && ca.crl_sign() && !ca.digital_signature());
        let device = usage(&[3, 2, 5, 0xa0]).unwrap();
        assert!(device.digital_signature() && !device.is_only_digital_signature());
        assert!(usage(&[3, 2, 3, 0x08]).unwrap().key_agreement());
        assert_eq!(usage(&[3, 1, 0]), Err(ExtensionFlaw::Value), "no bit at all");
        assert_eq!(usage(&[3, 4, 0, 0x80, 0, 1]), Err(ExtensionFlaw::Value), "more bits than there are");
    }

    #[test]
    fn e20_extension_contents_are_strict_too() {
        assert_eq!(
            read(&[(oid::BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 0])]).unwrap_err(),
            ExtensionFlaw::Der(DerError::EncodedDefault)
        );
        assert_eq!(
            read(&[(oid::BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 1])]).unwrap_err(),
            ExtensionFlaw::Der(DerError::Boolean)
        );
        assert_eq!(
            read(&[(oid::KEY_USAGE, true, &[3, 0x81, 2, 7, 0x80])]).unwrap_err(),
            ExtensionFlaw::Der(DerError::Length)
        );
        assert_eq!(
            read(&[(oid::KEY_USAGE, true, &[3, 2, 7, 0x80, 0])]).unwrap_err(),
            ExtensionFlaw::Der(DerError::Trailing)
        );
        assert_eq!(read(&[(oid::EXTENDED_KEY_USAGE, false, &[0x30, 0])]).unwrap_err(), ExtensionFlaw::Value);
        assert!(
            read(&[(Oid::new(&[0x2a, 3]), false, &[0xff, 0xff])]).unwrap().others,
            "an unknown one may hold anything"
        );
    }

    #[test]
    fn e20_extensions_are_single_and_bounded() {
        let usage = (oid::KEY_USAGE, true, &[3, 2, 7, 0x80][..]);
        assert_eq!(read(&[usage, usage]).unwrap_err(), ExtensionFlaw::Repeated);
        let ids: Vec<[u8; 2]> = (0..=u8::try_from(EXTENSIONS_MAX).unwrap()).map(|i| [0x2a, i]).collect();
        let many: Vec<_> = ids.iter().map(|id| (Oid::new(id), false, &[][..])).collect();
        assert_eq!(read(&many).unwrap_err(), ExtensionFlaw::TooMany);
        assert!(read(&many[1..]).is_ok());
    }
}
