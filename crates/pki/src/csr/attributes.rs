//! The attributes of a request (RFC 2985 §5.4): those that are used here, and how many there may be.

use super::{CsrError, CsrFlaw};
use crate::der::{DerError, Reader, Tag};
use crate::encoding::Reading;
use crate::extension::Extensions;
use crate::field::{At, Field, LocatedError};
use crate::oid::{self, Oid};

/// Attributes of a request. Six kinds are used here; a server may ask for a few others (RFC 7030 §4.5.2).
pub(super) const ATTRIBUTES_MAX: usize = 8;

/// Octets of a key's identifier. RFC 4108 §2.2.5 sets no limit; identifiers are names, hashes or key identifiers.
pub(crate) const KEY_ID_MAX: usize = 64;

/// Capabilities in smimeCapabilities. There are eight combinations of the algorithms that Muster knows.
const CAPABILITIES_MAX: usize = 32;

/// RFC 2985 §5.4.1 limits it to pkcs-9-ub-challengePassword, which appendix A of RFC 2985 sets to 255; so does RFC 7894 §3.3 with
/// ub-aa-est-identity-linking.
const CHALLENGE_PASSWORD_MAX: usize = 255;

/// The attributes (RFC 2985 §5.4): a SET OF under `[0]`.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pub(super) challenge_password: Option<&'a str>,
    pub(super) identity_linking: Option<&'a str>,
    pub(super) decrypt_key_id: Option<&'a [u8]>,
    pub(super) asymm_decrypt_key_id: Option<&'a [u8]>,
    /// The contents of the SMIMECapabilities.
    pub(super) capabilities: Option<&'a [u8]>,
    /// The contents of the Extensions.
    pub(super) extension_list: Option<&'a [u8]>,
    pub(super) extensions: Extensions,
}

impl<'a> Attributes<'a> {
    pub(super) fn read(contents: &'a [u8], reading: &mut Reading) -> Result<Self, CsrError> {
        let mut list = Reader::new(contents);
        let mut out = Self::default();
        let mut count = 0;
        while !list.is_empty() {
            let field = Field::Attribute(count);
            count += 1;
            if count > ATTRIBUTES_MAX {
                return Err(CsrFlaw::TooManyAttributes).at(Field::Attributes);
            }
            let (kind, mut values) = read_attribute(&mut list).at(field)?;
            if kind == oid::EXTENSION_REQUEST {
                let extensions = values.nested(Tag::SEQUENCE).at(field)?;
                once(&mut out.extension_list, extensions.rest()).at(field)?;
                out.extensions = Extensions::read(extensions, reading).map_err(LocatedError::into)?;
                values.finish().at(field)?;
            } else {
                out.remember(kind, values).at(field)?;
            }
        }
        Ok(out)
    }

    /// Every attribute that is used here has one value. The others are not read.
    fn remember(&mut self, kind: Oid<'a>, mut values: Reader<'a>) -> Result<(), CsrFlaw> {
        match kind {
            oid::CHALLENGE_PASSWORD => {
                once(&mut self.challenge_password, text(&mut values, CsrFlaw::ChallengePassword)?)?;
            }
            oid::EST_IDENTITY_LINKING => {
                once(&mut self.identity_linking, text(&mut values, CsrFlaw::IdentityLinking)?)?;
            }
            oid::DECRYPT_KEY_ID => once(&mut self.decrypt_key_id, key_id(&mut values)?)?,
            oid::ASYMM_DECRYPT_KEY_ID => once(&mut self.asymm_decrypt_key_id, key_id(&mut values)?)?,
            oid::SMIME_CAPABILITIES => {
                let list = values.nested(Tag::SEQUENCE)?;
                check_capabilities(list)?;
                once(&mut self.capabilities, list.rest())?;
            }
            _ => return Ok(()),
        }
        Ok(values.finish()?)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), CsrFlaw> {
    if place.replace(value).is_some() { Err(CsrFlaw::RepeatedAttribute) } else { Ok(()) }
}

/// RFC 4108 §2.2.5 and RFC 7030 §4.4.1.2: an OCTET STRING.
fn key_id<'a>(values: &mut Reader<'a>) -> Result<&'a [u8], CsrFlaw> {
    let id = values.expect(Tag::OCTET_STRING)?;
    if (1..=KEY_ID_MAX).contains(&id.len()) { Ok(id) } else { Err(CsrFlaw::DecryptKey) }
}

/// RFC 8551 §2.5.2: `SEQUENCE OF SEQUENCE { capabilityID OBJECT IDENTIFIER, parameters ANY OPTIONAL }`.
fn check_capabilities(mut list: Reader<'_>) -> Result<(), CsrFlaw> {
    let mut count = 0;
    while !list.is_empty() {
        let mut capability = list.nested(Tag::SEQUENCE)?;
        capability.oid()?;
        if !capability.is_empty() {
            capability.element()?;
        }
        capability.finish()?;
        count += 1;
        if count > CAPABILITIES_MAX {
            return Err(CsrFlaw::Capabilities);
        }
    }
    Ok(())
}

/// The type of the next attribute, and its values.
pub(super) fn read_attribute<'a>(list: &mut Reader<'a>) -> Result<(Oid<'a>, Reader<'a>), DerError> {
    let mut attribute = list.nested(Tag::SEQUENCE)?;
    let kind = attribute.oid()?;
    let values = attribute.nested(Tag::SET)?;
    attribute.finish()?;
    Ok((kind, values))
}

/// RFC 2985 §5.4.1, RFC 7894 §3.3: a single-valued DirectoryString. IA5String is not a DirectoryString, but older clients send it.
fn text<'a>(values: &mut Reader<'a>, flaw: CsrFlaw) -> Result<&'a str, CsrFlaw> {
    let value = values.element()?;
    let known = [Tag::UTF8_STRING, Tag::PRINTABLE_STRING, Tag::IA5_STRING, Tag::TELETEX_STRING].contains(&value.tag);
    match std::str::from_utf8(value.contents) {
        Ok(text) if known && (1..=CHALLENGE_PASSWORD_MAX).contains(&text.len()) => Ok(text),
        _ => Err(flaw),
    }
}
