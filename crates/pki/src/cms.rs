//! Certs-only CMS: the degenerate SignedData in which EST hands out certificates (RFC 7030 §4.2.3 and §4.1.3, RFC 5272's "certs-only";
//! content format 281 of RFC 9148). No signers, no content, no revocation lists.

use std::fmt;

use crate::der::{CMS_LIMITS, DerError, Reader, Tag, Writer, element_len};
use crate::oid;

/// Certificates in one message. `/crts` returns a root, its issuing authorities and, during a roll-over, two more.
pub const CERTIFICATES_MAX: usize = 16;

/// `version 1, digestAlgorithms {}, encapContentInfo { id-data }`. RFC 5652 §5.1 gives version 1, because only plain certificates
/// and id-data content occur.
const HEAD: &[u8] =
    &[0x02, 0x01, 0x01, 0x31, 0x00, 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// `crls [1]` and `signerInfos`: both empty. The example of RFC 9148 appendix A contains the first, as old versions of OpenSSL
/// wrote it; it is OPTIONAL in RFC 5652 §5.1, but decoders of devices were tested against these bytes.
const TAIL: &[u8] = &[0xa1, 0x00, 0x31, 0x00];

/// Writes certificates into a certs-only message. They are a SET OF, which DER sorts, so the given order is lost.
#[must_use]
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    // An answer to an enrolment has one certificate: no memory is asked for to sort it.
    let (mut one, mut several);
    let sorted: &mut [&[u8]] = if let [certificate] = certificates {
        one = [*certificate];
        &mut one
    } else {
        several = certificates.to_vec();
        &mut several
    };
    let set: usize = sorted.iter().map(|der| der.len()).sum();
    let signed_data = HEAD.len() + element_len(set) + TAIL.len();
    let content = element_len(signed_data);
    let content_info = element_len(oid::PKCS7_SIGNED_DATA.contents().len()) + element_len(content);
    let mut out = Writer::with_capacity(element_len(content_info));
    out.header(Tag::SEQUENCE, content_info);
    out.oid(oid::PKCS7_SIGNED_DATA);
    out.header(Tag::context_constructed(0), content);
    out.header(Tag::SEQUENCE, signed_data);
    out.raw(HEAD);
    out.set_of(Tag::context_constructed(0), sorted);
    out.raw(TAIL);
    debug_assert_eq!(out.len(), element_len(content_info));
    out.into_vec()
}

/// Reads the certificates of a certs-only message, in order. The structure around them must be DER. [`crate::Certificate`] parses each
/// certificate, so that one that is not needed does not make the others unusable. For the same reason the result includes the other kinds that
/// the set may contain (attribute certificates, RFC 5652 §10.2.2).
///
/// # Errors
/// The structure is not DER, it is another kind of CMS, it has signers or content, or it has no certificate or more
/// than 16.
pub fn parse_certs_only(der: &[u8]) -> Result<Vec<&[u8]>, CmsError> {
    if der.len() > CMS_LIMITS.bytes_max {
        return Err(DerError::TooLarge.into());
    }
    let mut content_info = Reader::sequence(der)?;
    if content_info.oid()? != oid::PKCS7_SIGNED_DATA {
        return Err(CmsError::NotSignedData);
    }
    let mut content = content_info.nested(Tag::context_constructed(0))?;
    content_info.finish()?;
    let mut signed_data = content.nested(Tag::SEQUENCE)?;
    content.finish()?;

    if signed_data.expect(Tag::INTEGER)? != [1] {
        return Err(CmsError::Version);
    }
    signed_data.expect(Tag::SET)?; // digestAlgorithms: unused without signers
    let mut encapsulated = signed_data.nested(Tag::SEQUENCE)?;
    // RFC 5272 §4.1: the content is absent in a simple response.
    if encapsulated.oid()? != oid::PKCS7_DATA || !encapsulated.is_empty() {
        return Err(CmsError::Content);
    }
    let mut set = Reader::new(signed_data.optional(Tag::context_constructed(0))?.unwrap_or_default());
    signed_data.optional(Tag::context_constructed(1))?; // crls: ignored
    if !signed_data.expect(Tag::SET)?.is_empty() {
        return Err(CmsError::Signers);
    }
    signed_data.finish()?;

    let mut certificates = Vec::new();
    while !set.is_empty() {
        if certificates.len() == CERTIFICATES_MAX {
            return Err(CmsError::TooManyCertificates);
        }
        certificates.push(set.element()?.whole);
    }
    if certificates.is_empty() { Err(CmsError::NoCertificate) } else { Ok(certificates) }
}

/// Why bytes are not a certs-only message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CmsError {
    /// Not strict DER, or not the structure of CMS.
    Der(DerError),
    /// A content type other than SignedData.
    NotSignedData,
    /// A version other than 1.
    Version,
    /// It has content.
    Content,
    /// It is signed.
    Signers,
    /// It carries no certificate.
    NoCertificate,
    /// It carries more than 16.
    TooManyCertificates,
}

impl From<DerError> for CmsError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for CmsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "the CMS message is not DER: {error}"),
            Self::NotSignedData => f.write_str("the CMS message is not SignedData"),
            Self::Version => f.write_str("the SignedData version is not 1"),
            Self::Content => f.write_str("the CMS message contains more than certificates"),
            Self::Signers => f.write_str("the CMS message is signed; expected certs-only"),
            Self::NoCertificate => f.write_str("the CMS message contains no certificate"),
            Self::TooManyCertificates => f.write_str("the CMS message contains too many certificates"),
        }
    }
}

impl std::error::Error for CmsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_go_in_and_come_out_sorted() {
        let (one, two) = (&[0x30, 0x03, 0x02, 0x01, 0x05][..], &[0x30, 0x00][..]);
        let message = certs_only(&[one, two]);
        assert_eq!(parse_certs_only(&message), Ok(vec![two, one]), "DER sorts a SET OF");
        assert_eq!(parse_certs_only(&certs_only(&[one])), Ok(vec![one]));
        assert_eq!(parse_certs_only(&certs_only(&[])), Err(CmsError::NoCertificate));
        let many = vec![two; CERTIFICATES_MAX + 1];
        assert_eq!(parse_certs_only(&certs_only(&many)), Err(CmsError::TooManyCertificates));
    }

    #[test]
    fn e20_what_is_not_certs_only_is_refused() {
        let message = certs_only(&[&[0x30, 0x00]]);
        let mut trailing = message.clone();
        trailing.push(0);
        assert_eq!(parse_certs_only(&trailing), Err(CmsError::Der(DerError::Trailing)));
        let replace = |from: &[u8], to: &[u8]| {
            let at = message.windows(from.len()).position(|window| window == from).unwrap();
            let mut out = message.clone();
            out[at..at + from.len()].copy_from_slice(to);
            parse_certs_only(&out).map(|certificates| certificates.len())
        };
        assert_eq!(replace(&[1, 7, 2], &[1, 7, 3]), Err(CmsError::NotSignedData));
        assert_eq!(replace(&[1, 7, 1], &[1, 7, 5]), Err(CmsError::Content));
        assert_eq!(replace(&[2, 1, 1], &[2, 1, 3]), Err(CmsError::Version));
        assert_eq!(replace(&[0xa0, 2, 0x30, 0], &[0xa0, 2, 0x30, 1]), Err(CmsError::Der(DerError::Truncated)));
        assert_eq!(replace(&[0xa0, 2, 0x30, 0], &[0xa0, 2, 0x30, 0x80]), Err(CmsError::Der(DerError::Indefinite)));
        let large = certs_only(&[&[&[0x30, 0x83, 1, 0, 0][..], &[0; 0x1_0000]].concat()]);
        assert_eq!(parse_certs_only(&large), Err(CmsError::Der(DerError::TooLarge)));
    }

    /// One is not DER inside, one is an attribute certificate: both must not affect a reader that needs the third.
    #[test]
    fn e66_what_a_certificate_is_inside_is_not_judged_here() {
        let odd: [&[u8]; 3] = [&[0x30, 3, 2, 1, 5], &[0x30, 4, 2, 2, 0, 1], &[0xa2, 2, 5, 0]];
        assert_eq!(parse_certs_only(&certs_only(&odd)), Ok(odd.to_vec()));
    }
}
