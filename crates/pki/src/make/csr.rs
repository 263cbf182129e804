//! Certification requests as a device makes them (RFC 2986), in our own DER.

use ring::rand::SecureRandom;

use super::MakeError;
use crate::der::{Tag, Writer};
use crate::general_name::GeneralNames;
use crate::key::SigningKey;
use crate::name::Name;
use crate::oid::{self, Oid};

/// The contents of a request.
#[derive(Clone, Copy, Debug)]
pub struct CsrSpec<'a> {
    /// The subject; the request contains it in strict DER ([`Name::to_strict`]).
    pub subject: &'a Name,
    /// Alternative names; an empty list omits the extension.
    pub san: &'a GeneralNames,
    /// challengePassword: the session's tls-unique in base64, if the request is linked to the session (RFC 7030
    /// §3.5).
    pub challenge_password: Option<&'a str>,
}

/// Makes a request for `key`, signed with it.
///
/// # Errors
/// The source of randomness failed.
pub fn csr(spec: &CsrSpec<'_>, key: &SigningKey, random: &dyn SecureRandom) -> Result<Vec<u8>, MakeError> {
    csr_with_extensions(spec, &[], key, random)
}

/// Like [`csr`], with further extensions, each as type, criticality and value: a request from a curious or hostile client.
///
/// # Errors
/// The source of randomness failed.
pub fn csr_with_extensions(
    spec: &CsrSpec<'_>,
    extensions: &[(Oid<'_>, bool, &[u8])],
    key: &SigningKey,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, MakeError> {
    let mut info = Writer::with_capacity(512);
    info.sequence(|info| {
        info.unsigned(&[0]);
        info.raw(spec.subject.to_strict().der());
        info.raw(key.spki());
        let attributes = [spec.challenge_password.map(challenge_password), extension_request(spec.san, extensions)];
        let mut attributes: Vec<&[u8]> = attributes.iter().flatten().map(Vec::as_slice).collect();
        info.set_of(Tag::context_constructed(0), &mut attributes);
    });
    let info = info.into_vec();
    let signature = key.sign(random, &info)?;
    let mut out = Writer::with_capacity(info.len() + 128);
    out.sequence(|out| {
        out.raw(&info);
        out.raw(key.algorithm().identifier());
        out.bit_string(signature.as_bytes());
    });
    Ok(out.into_vec())
}

/// RFC 2985 §5.4.1; a UTF8String, as in the example of RFC 9148 appendix A.
fn challenge_password(text: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.oid(oid::CHALLENGE_PASSWORD);
        out.nested(Tag::SET, |set| set.element(Tag::UTF8_STRING, text.as_bytes()));
    });
    out.into_vec()
}

/// RFC 2985 §5.4.2.
fn extension_request(san: &GeneralNames, further: &[(Oid<'_>, bool, &[u8])]) -> Option<Vec<u8>> {
    if san.is_empty() && further.is_empty() {
        return None;
    }
    let names = (!san.is_empty()).then_some((oid::SUBJECT_ALT_NAME, false, san.der()));
    let mut out = Writer::default();
    out.sequence(|out| {
        out.oid(oid::EXTENSION_REQUEST);
        out.nested(Tag::SET, |set| {
            set.sequence(|list| names.iter().chain(further).for_each(|extension| write_extension(list, extension)));
        });
    });
    Some(out.into_vec())
}

fn write_extension(list: &mut Writer, &(id, critical, value): &(Oid<'_>, bool, &[u8])) {
    list.sequence(|out| {
        out.oid(id);
        if critical {
            out.true_value();
        }
        out.element(Tag::OCTET_STRING, value);
    });
}
