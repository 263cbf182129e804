//! The attributes of a request (RFC 2985 §5.4): those that are used here, and how many there may be.

use super::{CsrError, CsrFlaw};
use crate::der::{DerError, Reader, Tag};
use crate::encoding::Reading;
use crate::extension::Extensions;
use crate::field::{At, Field, LocatedError};
use crate::oid;

/// Attributes of a request. challengePassword and extensionRequest are the two that are used here.
pub(super) const ATTRIBUTES_MAX: usize = 8;

/// RFC 2985 §5.4.1 limits it to pkcs-9-ub-challengePassword, which appendix A of RFC 2985 sets to 255.
const CHALLENGE_PASSWORD_MAX: usize = 255;

/// The attributes (RFC 2985 §5.4): a SET OF under `[0]`.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pub(super) challenge_password: Option<&'a str>,
    pub(super) extensions: Extensions,
}

impl<'a> Attributes<'a> {
    pub(super) fn read(contents: &'a [u8], reading: &mut Reading) -> Result<Self, CsrError> {
        let mut list = Reader::new(contents);
        let mut out = Self::default();
        let (mut count, mut has_extensions) = (0, false);
        while !list.is_empty() {
            let field = Field::Attribute(count);
            count += 1;
            if count > ATTRIBUTES_MAX {
                return Err(CsrFlaw::TooManyAttributes).at(Field::Attributes);
            }
            let (kind, mut values) = read_attribute(&mut list).at(field)?;
            match kind {
                oid::CHALLENGE_PASSWORD => {
                    let text = challenge_password(&mut values).at(field)?;
                    if out.challenge_password.replace(text).is_some() {
                        return Err(CsrFlaw::RepeatedAttribute).at(field);
                    }
                    values.finish().at(field)?;
                }
                oid::EXTENSION_REQUEST => {
                    if std::mem::replace(&mut has_extensions, true) {
                        return Err(CsrFlaw::RepeatedAttribute).at(field);
                    }
                    let extensions = values.nested(Tag::SEQUENCE).at(field)?;
                    out.extensions = Extensions::read(extensions, reading).map_err(LocatedError::into)?;
                    values.finish().at(field)?;
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

fn read_attribute<'a>(list: &mut Reader<'a>) -> Result<(oid::Oid<'a>, Reader<'a>), DerError> {
    let mut attribute = list.nested(Tag::SEQUENCE)?;
    let kind = attribute.oid()?;
    let values = attribute.nested(Tag::SET)?;
    attribute.finish()?;
    Ok((kind, values))
}

/// RFC 2985 §5.4.1: a single-valued DirectoryString. IA5String is not a DirectoryString, but older clients send it.
fn challenge_password<'a>(values: &mut Reader<'a>) -> Result<&'a str, CsrFlaw> {
    let value = values.element()?;
    let known = [Tag::UTF8_STRING, Tag::PRINTABLE_STRING, Tag::IA5_STRING, Tag::TELETEX_STRING].contains(&value.tag);
    match std::str::from_utf8(value.contents) {
        Ok(text) if known && (1..=CHALLENGE_PASSWORD_MAX).contains(&text.len()) => Ok(text),
        _ => Err(CsrFlaw::ChallengePassword),
    }
}
