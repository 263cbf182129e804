//! The SignedData inside an envelope: an AsymmetricKeyPackage (RFC 5958 §2) with one key, signed by the party that generated it.

use std::fmt;

use ring::digest::{SHA256, SHA384, digest};
use zeroize::Zeroizing;

use super::{ENVELOPE_LIMITS, EnvelopedKeyError};
use crate::algorithm::SignatureAlgorithm;
use crate::certificate::Certificate;
use crate::cms::CERTIFICATES_MAX;
use crate::der::{Element, Reader, Tag, Writer, check_within};
use crate::encoding::Reading;
use crate::generated_key::GeneratedKey;
use crate::key::Signature;
use crate::oid::{self, Oid};

/// A package without its signature. Whoever has the signer's key signs [`Self::to_be_signed`].
pub struct KeyPackage {
    /// `SEQUENCE OF OneAsymmetricKey`
    package: Zeroizing<Vec<u8>>,
    signed_attributes: Vec<u8>,
    certificate: Vec<u8>,
    /// issuerAndSerialNumber
    signer: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl KeyPackage {
    /// Prepares the package of `key` for a signature under `certificate`: of the issuing CA, or of the server.
    #[must_use]
    pub fn prepare(key: &GeneratedKey, certificate: &Certificate) -> Self {
        let algorithm = certificate.public_key().curve().algorithm();
        let mut package = Writer::with_capacity(key.pkcs8().len() + 8);
        package.sequence(|package| package.raw(key.pkcs8()));
        let package = Zeroizing::new(package.into_vec());
        let mut signer = Writer::default();
        signer.sequence(|signer| {
            signer.raw(certificate.issuer().der());
            signer.element(Tag::INTEGER, certificate.serial());
        });
        // RFC 5652 §5.3: signedAttrs "MUST be present if the content type of the EncapsulatedContentInfo value being signed is not id-data".
        let content_type = attribute(oid::CONTENT_TYPE, |set| set.oid(oid::ASYMMETRIC_KEY_PACKAGE));
        let message_digest =
            attribute(oid::MESSAGE_DIGEST, |set| set.element(Tag::OCTET_STRING, hash(algorithm, &package).as_ref()));
        let mut signed_attributes = Writer::default();
        // RFC 5652 §5.4: "an EXPLICIT SET OF tag is used" for the signature, IMPLICIT [0] in the message.
        signed_attributes.set_of(Tag::SET, &mut [&content_type, &message_digest]);
        Self {
            package,
            signed_attributes: signed_attributes.into_vec(),
            certificate: certificate.der().to_vec(),
            signer: signer.into_vec(),
            algorithm,
        }
    }

    /// The octets to sign with the key of the certificate, by the algorithm of its curve.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.signed_attributes
    }

    /// The SignedData. The signature is not verified here.
    #[must_use]
    pub fn assemble(&self, signature: &Signature) -> SignedKey {
        let capacity = self.package.len() + self.certificate.len() + self.signer.len() + 512;
        let mut out = Writer::with_capacity(capacity);
        out.sequence(|out| {
            // RFC 5652 §5.1: version 3, because the content type is not id-data.
            out.unsigned(&[3]);
            out.nested(Tag::SET, |set| set.sequence(|algorithm| algorithm.oid(hash_id(self.algorithm))));
            out.sequence(|content| {
                content.oid(oid::ASYMMETRIC_KEY_PACKAGE);
                content
                    .nested(Tag::context_constructed(0), |content| content.element(Tag::OCTET_STRING, &self.package));
            });
            out.element(Tag::context_constructed(0), &self.certificate);
            out.nested(Tag::SET, |signers| {
                signers.sequence(|info| {
                    info.unsigned(&[1]);
                    info.raw(&self.signer);
                    info.sequence(|algorithm| algorithm.oid(hash_id(self.algorithm)));
                    info.element(Tag::context_constructed(0), set_contents(&self.signed_attributes));
                    info.raw(self.algorithm.identifier());
                    info.element(Tag::OCTET_STRING, signature.as_bytes());
                });
            });
        });
        let der = out.into_vec();
        debug_assert_eq!(der.capacity(), capacity, "a vector that grows leaves a copy of the key behind");
        SignedKey { der: Zeroizing::new(der) }
    }
}

impl fmt::Debug for KeyPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPackage").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A signed package: the DER of a SignedData, wiped when it is dropped.
pub struct SignedKey {
    pub(super) der: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SignedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedKey(..)")
    }
}

fn attribute(id: Oid<'_>, value: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| {
        out.oid(id);
        out.nested(Tag::SET, value);
    });
    out.into_vec()
}

/// The contents of an element that was written here.
fn set_contents(der: &[u8]) -> &[u8] {
    Reader::new(der).expect(Tag::SET).expect("`prepare` has written a SET")
}

fn hash(algorithm: SignatureAlgorithm, message: &[u8]) -> ring::digest::Digest {
    match algorithm {
        SignatureAlgorithm::EcdsaWithSha256 => digest(&SHA256, message),
        SignatureAlgorithm::EcdsaWithSha384 => digest(&SHA384, message),
    }
}

const fn hash_id(algorithm: SignatureAlgorithm) -> Oid<'static> {
    match algorithm {
        SignatureAlgorithm::EcdsaWithSha256 => oid::SHA256,
        SignatureAlgorithm::EcdsaWithSha384 => oid::SHA384,
    }
}

/// A verified SignedData: the contents of the package, and the certificate whose key signed it.
pub(super) struct Verified<'a> {
    pub(super) package: &'a [u8],
    pub(super) signer: Certificate,
}

/// Reads the fields of a SignedData and verifies its only signature. `known` are certificates that the caller has, for a message that does not
/// carry the signer's.
pub(super) fn verify<'a>(mut fields: Reader<'a>, known: &[&Certificate]) -> Result<Verified<'a>, EnvelopedKeyError> {
    if !matches!(fields.expect(Tag::INTEGER)?, [1 | 3]) {
        return Err(EnvelopedKeyError::Version);
    }
    fields.expect(Tag::SET)?;
    let mut content = fields.nested(Tag::SEQUENCE)?;
    let content_type = content.oid()?;
    let package = content.nested(Tag::context_constructed(0))?.expect(Tag::OCTET_STRING)?;
    let certificates = fields.optional(Tag::context_constructed(0))?.unwrap_or(&[]);
    fields.optional(Tag::context_constructed(1))?;
    let mut signers = fields.nested(Tag::SET)?;
    fields.finish()?;
    let mut info = signers.nested(Tag::SEQUENCE).map_err(|_| EnvelopedKeyError::Several)?;
    signers.finish().map_err(|_| EnvelopedKeyError::Several)?;

    info.expect(Tag::INTEGER)?;
    let named = info.element()?;
    let digest_algorithm = info.nested(Tag::SEQUENCE)?.oid()?;
    let attributes = info.optional(Tag::context_constructed(0))?;
    let algorithm = info.expect_element(Tag::SEQUENCE)?.whole;
    let signature = info.expect(Tag::OCTET_STRING)?;

    let signer = find_signer(named, certificates, known)?;
    let algorithm = SignatureAlgorithm::from_identifier(algorithm, &mut Reading::default())
        .map_err(|_| EnvelopedKeyError::Algorithm)?;
    if digest_algorithm != hash_id(algorithm) {
        return Err(EnvelopedKeyError::Algorithm);
    }
    let message = match attributes {
        Some(attributes) => {
            check_attributes(attributes, content_type, hash(algorithm, package).as_ref())?;
            let mut set = Writer::with_capacity(attributes.len() + 4);
            set.element(Tag::SET, attributes);
            set.into_vec()
        }
        // RFC 5652 §5.3: only id-data may be signed without attributes.
        None if content_type == oid::PKCS7_DATA => package.to_vec(),
        None => return Err(EnvelopedKeyError::Signature),
    };
    signer.public_key().verify_as(algorithm, &message, signature)?;
    Ok(Verified { package, signer })
}

/// RFC 5652 §5.3: issuerAndSerialNumber, or `subjectKeyIdentifier [0]`.
fn find_signer(
    named: Element<'_>,
    certificates: &[u8],
    known: &[&Certificate],
) -> Result<Certificate, EnvelopedKeyError> {
    let matches = |certificate: &Certificate| {
        if named.tag == Tag::context(0) {
            return certificate.subject_key_id() == Some(named.contents);
        }
        let mut fields = Reader::new(named.contents);
        let issuer = fields.expect_element(Tag::SEQUENCE).map(|issuer| issuer.whole);
        issuer == Ok(certificate.issuer().der()) && fields.expect(Tag::INTEGER) == Ok(certificate.serial())
    };
    if let Some(certificate) = known.iter().find(|certificate| matches(certificate)) {
        return Ok(Certificate::parse(certificate.der())?);
    }
    let mut list = Reader::new(certificates);
    for _ in 0..CERTIFICATES_MAX {
        if list.is_empty() {
            break;
        }
        if let Ok(certificate) = Certificate::parse(list.element()?.whole)
            && matches(&certificate)
        {
            return Ok(certificate);
        }
    }
    Err(EnvelopedKeyError::Signer)
}

/// RFC 5652 §5.4: content-type and message-digest, each once, with the values of the content.
fn check_attributes(contents: &[u8], content_type: Oid<'_>, digest: &[u8]) -> Result<(), EnvelopedKeyError> {
    let mut list = Reader::new(contents);
    let (mut type_seen, mut digest_seen) = (0, 0);
    while !list.is_empty() {
        let mut attribute = list.nested(Tag::SEQUENCE)?;
        let id = attribute.oid()?;
        let mut values = attribute.nested(Tag::SET)?;
        attribute.finish()?;
        let holds = match id {
            oid::CONTENT_TYPE => {
                type_seen += 1;
                values.oid()? == content_type && values.is_empty()
            }
            oid::MESSAGE_DIGEST => {
                digest_seen += 1;
                values.expect(Tag::OCTET_STRING)? == digest && values.is_empty()
            }
            _ => true,
        };
        if !holds {
            return Err(EnvelopedKeyError::Signature);
        }
    }
    if (type_seen, digest_seen) == (1, 1) { Ok(()) } else { Err(EnvelopedKeyError::Signature) }
}

/// The PKCS #8 in a package, or the PKCS #8 that stands there without one.
pub(super) fn only_key(der: &[u8]) -> Result<&[u8], EnvelopedKeyError> {
    check_within(der, ENVELOPE_LIMITS).map_err(|_| EnvelopedKeyError::Content)?;
    let mut package = Reader::sequence(der).map_err(|_| EnvelopedKeyError::Content)?;
    match package.peek() {
        Some(Tag::INTEGER) => Ok(der),
        Some(Tag::SEQUENCE) => {
            let key = package.element()?.whole;
            package.finish().map_err(|_| EnvelopedKeyError::Several)?;
            Ok(key)
        }
        _ => Err(EnvelopedKeyError::Content),
    }
}
