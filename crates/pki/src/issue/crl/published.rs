//! Reads revocation lists that were signed before: whether a file still is the list that it should be, and when it ends.

use rustls_pki_types::UnixTime;

use super::lint::CrlValues;
use super::spec::CrlSpec;
use super::url::CrlScope;
use crate::der::{Reader, Tag};
use crate::encoding::Reading;
use crate::extension::Extension;
use crate::issue::IssuerCertificate;
use crate::oid;

/// What a signed list says beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishedCrl {
    /// The CRL number.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// When it ends.
    pub next_update: UnixTime,
}

impl PublishedCrl {
    /// Reads a list; `None` if it was not signed by this issuer for this scope. Entries are not looked at: the signature covers them.
    #[must_use]
    pub fn read(der: &[u8], issuer: &IssuerCertificate, scope: CrlScope<'_>) -> Option<Self> {
        let mut parts = Reader::sequence(der).ok()?;
        let signed = parts.expect_element(Tag::SEQUENCE).ok()?;
        let algorithm = parts.expect_element(Tag::SEQUENCE).ok()?;
        let signature = parts.octets_of_bit_string().ok()?;
        parts.finish().ok()?;
        let mut list = Reader::new(signed.contents);
        list.expect(Tag::INTEGER).ok()?;
        let named = list.expect_element(Tag::SEQUENCE).ok()?;
        let name = list.expect_element(Tag::SEQUENCE).ok()?;
        let (this_update, next_update) = (list.time().ok()?, list.time().ok()?);
        list.optional(Tag::SEQUENCE).ok()?;
        let number = number(list)?;
        let values = CrlValues::new(issuer, &CrlSpec { scope, number, this_update, next_update });
        let identifier = issuer.algorithm().identifier();
        let is_ours = algorithm.whole == identifier
            && named.whole == identifier
            && name.whole == issuer.certificate().subject().der()
            && list.rest() == values.extensions()
            && issuer.certificate().public_key().verify(signed.whole, signature).is_ok();
        is_ours.then_some(Self { number, this_update, next_update })
    }
}

/// The CRL number in `crlExtensions [0]`.
fn number(mut list: Reader<'_>) -> Option<u64> {
    let mut extensions = list.nested(Tag::context_constructed(0)).ok()?.nested(Tag::SEQUENCE).ok()?;
    while !extensions.is_empty() {
        let extension = Extension::read(&mut extensions, &mut Reading::default()).ok()?;
        if extension.id == oid::CRL_NUMBER {
            let octets = Reader::new(extension.value).expect(Tag::INTEGER).ok()?;
            let mut wide = [0; 9];
            let start = wide.len().checked_sub(octets.len())?;
            wide[start..].copy_from_slice(octets);
            let [0, number @ ..] = wide else { return None };
            return Some(u64::from_be_bytes(number));
        }
    }
    None
}

/// thisUpdate and nextUpdate of a list of which only the beginning is there: some kilobytes are enough.
#[must_use]
pub fn updates_of(beginning: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let signed = skip_header(skip_header(beginning)?)?;
    let mut list = Reader::new(signed);
    list.expect(Tag::INTEGER).ok()?;
    list.expect(Tag::SEQUENCE).ok()?;
    list.expect(Tag::SEQUENCE).ok()?;
    Some((list.time().ok()?, list.time().ok()?))
}

/// What follows the identifier and length octets of a SEQUENCE (X.690 §8.1.3), however much of its contents is there.
fn skip_header(der: &[u8]) -> Option<&[u8]> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let further = if length < 0x80 { 0 } else { usize::from(length & 0x7f) };
    if tag == Tag::SEQUENCE.octet() { rest.get(further..) } else { None }
}
