//! Certification requests as a device makes them (RFC 2986), in our own DER.

use ring::rand::SecureRandom;

use super::MakeError;
use crate::csr::KeyProtection;
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

/// What a request may contain beyond a [`CsrSpec`]: what CSR attributes ask for, and how a server-generated key has to be encrypted.
#[derive(Clone, Copy, Debug, Default)]
pub struct CsrAdditions<'a> {
    /// Further extensions, each as type, criticality and value.
    pub extensions: &'a [(Oid<'a>, bool, &'a [u8])],
    /// estIdentityLinking (RFC 7894 §3.3): the session's tls-unique in base64, see [`crate::linking::LinkingText`]. If the server's CSR
    /// attributes name it, it replaces [`CsrSpec::challenge_password`].
    pub identity_linking: Option<&'a str>,
    /// The key to which a server-generated key is encrypted, and the client's algorithms (RFC 7030 §4.4.1).
    pub key_protection: Option<&'a KeyProtection<'a>>,
    /// Further attributes: the type, and the consecutive DER of the values, sorted.
    pub attributes: &'a [(Oid<'a>, &'a [u8])],
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
    csr_with(spec, &CsrAdditions { extensions, ..CsrAdditions::default() }, key, random)
}

/// Like [`csr`], with more in it.
///
/// # Errors
/// The source of randomness failed.
pub fn csr_with(
    spec: &CsrSpec<'_>,
    additions: &CsrAdditions<'_>,
    key: &SigningKey,
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, MakeError> {
    let mut info = Writer::with_capacity(512);
    info.sequence(|info| {
        info.unsigned(&[0]);
        info.raw(spec.subject.to_strict().der());
        info.raw(key.spki());
        let attributes = attributes(spec, additions);
        let mut attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
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

fn attributes(spec: &CsrSpec<'_>, additions: &CsrAdditions<'_>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    // RFC 2985 §5.4.1; a UTF8String, as in the example of RFC 9148 appendix A.
    let linking =
        [(oid::CHALLENGE_PASSWORD, spec.challenge_password), (oid::EST_IDENTITY_LINKING, additions.identity_linking)];
    for (id, text) in linking {
        out.extend(text.map(|text| attribute(id, |set| set.element(Tag::UTF8_STRING, text.as_bytes()))));
    }
    out.extend(extension_request(spec.san, additions.extensions));
    if let Some(KeyProtection { decrypt_key_id, asymm_decrypt_key_id, capabilities }) = additions.key_protection {
        let ids = [(oid::DECRYPT_KEY_ID, decrypt_key_id), (oid::ASYMM_DECRYPT_KEY_ID, asymm_decrypt_key_id)];
        for (id, key_id) in ids {
            out.extend(key_id.map(|key_id| attribute(id, |set| set.element(Tag::OCTET_STRING, key_id))));
        }
        if !capabilities.is_empty() {
            out.push(attribute(oid::SMIME_CAPABILITIES, |set| {
                set.sequence(|list| capabilities.iter().for_each(|&id| list.sequence(|capability| capability.oid(id))));
            }));
        }
    }
    out.extend(additions.attributes.iter().map(|(id, values)| attribute(*id, |set| set.raw(values))));
    out
}

fn attribute(id: Oid<'_>, values: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.oid(id);
        out.nested(Tag::SET, values);
    });
    out.into_vec()
}

/// RFC 2985 §5.4.2.
fn extension_request(san: &GeneralNames, further: &[(Oid<'_>, bool, &[u8])]) -> Option<Vec<u8>> {
    if san.is_empty() && further.is_empty() {
        return None;
    }
    let names = (!san.is_empty()).then_some((oid::SUBJECT_ALT_NAME, false, san.der()));
    Some(attribute(oid::EXTENSION_REQUEST, |set| {
        set.sequence(|list| names.iter().chain(further).for_each(|extension| write_extension(list, extension)));
    }))
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
