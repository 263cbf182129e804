//! A copy of another party's authority, under keys that are discarded. A configuration is tested with it.

use ring::rand::SecureRandom;

use super::MakeError;
use crate::algorithm::PublicKey;
use crate::certificate::Certificate;
use crate::der::{DerError, Reader, Tag, Writer};
use crate::field::{At, Field};
use crate::key::SigningKey;

/// Copies `original` with another key, signed by another key: serial number, names, dates and extensions, including key identifiers,
/// stay identical. A path through copies breaks the same rules as the path through the originals, except for signatures, and the keys
/// of the originals are not needed.
///
/// # Errors
/// The source of randomness failed. An original that was parsed can be copied.
pub fn copy(
    original: &Certificate,
    public_key: PublicKey<'_>,
    signer: &SigningKey,
    random: &dyn SecureRandom,
) -> Result<Certificate, MakeError> {
    let to_be_signed =
        with_key(original.to_be_signed(), public_key, signer).at(Field::Whole).map_err(MakeError::Certificate)?;
    let signature = signer.sign(random, &to_be_signed)?;
    let mut out = Writer::with_capacity(to_be_signed.len() + 128);
    out.sequence(|out| {
        out.raw(&to_be_signed);
        out.raw(signer.algorithm().identifier());
        out.bit_string(signature.as_bytes());
    });
    Ok(Certificate::parse(&out.into_vec())?)
}

/// The TBSCertificate with the parts that depend on keys replaced: the signature algorithm and the key.
fn with_key(tbs: &[u8], public_key: PublicKey<'_>, signer: &SigningKey) -> Result<Vec<u8>, DerError> {
    let mut original = Reader::sequence(tbs)?;
    let version_and_serial = [original.element()?.whole, original.expect_element(Tag::INTEGER)?.whole];
    original.expect(Tag::SEQUENCE)?;
    let names_and_dates = [original.element()?.whole, original.element()?.whole, original.element()?.whole];
    original.expect(Tag::SEQUENCE)?;
    let mut out = Writer::with_capacity(tbs.len());
    out.sequence(|out| {
        version_and_serial.iter().for_each(|element| out.raw(element));
        out.raw(signer.algorithm().identifier());
        names_and_dates.iter().for_each(|element| out.raw(element));
        out.raw(&public_key.to_spki());
        out.raw(original.rest());
    });
    Ok(out.into_vec())
}
