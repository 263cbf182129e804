//! How a device checks an answer before it stores anything.

use std::fmt;
use std::sync::Arc;

use coap::client::Reply;
use coap::{Code, ContentFormat, multipart};
use pki::chain::{AnchorSet, Listed, PassedOver};
use pki::csr_attributes::CsrAttributes;
use pki::der::{Reader, Tag};
use pki::enveloped_key::{self, DecryptionKey};
use pki::{Certificate, CsrContents, Digest, Encoding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::failure::{AnswerFault, ErrorResponse, Failure, UnreadableAnswer};
use super::operation::{Operation, StartFault};
use crate::key_delivery::{DeliveredKey, KeyDelivery, KeyDeliveryFlaw};
use crate::renewal_info::RenewalInfo;
use crate::resources::Packing;

/// A diagnostic payload is shown up to this length; our own server sends shorter ones.
const DIAGNOSTIC_SHOWN_BYTES_MAX: usize = 256;

/// A response without Max-Age is fresh for a minute (RFC 7252 §5.10.5); a 5.03 without it is read in the same way.
const MAX_AGE_DEFAULT: u32 = 60;

/// A checked answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The CA certificates.
    CaCertificates(CaCertificates),
    /// The issued certificate, DER; its key is that of the request.
    Certificate(Vec<u8>),
    /// A key that the server has made, and its certificate.
    Key(ReceivedKey),
    /// A key that the server has made and encrypted to a key of the device, and its certificate.
    EnvelopedKey(EnvelopedKey),
    /// The CSR attributes, DER: [`pki::csr_attributes::CsrAttributes::parse`] reads them.
    CsrAttributes(Vec<u8>),
    /// When to renew.
    RenewalInfo(RenewalInfo),
    /// The links of discovery, as received.
    Links(String),
}

/// The answer to `/skg` or `/skc`.
#[derive(Clone)]
pub struct ReceivedKey {
    /// The private key, which is that of the certificate.
    pub private_key: Arc<PrivateKey>,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

impl ReceivedKey {
    /// A key and its own certificate.
    fn pair(private_key: PrivateKey, der: &[u8]) -> Result<Self, AnswerFault> {
        let malformed = |error| AnswerFault::Malformed(UnreadableAnswer::Certificate { index: 0, error });
        let certificate = Certificate::parse(der).map_err(malformed)?;
        // The key ends with its public key, which `PrivateKey::read` has computed.
        let is_of_key =
            PublicKey::from_spki(certificate.spki()).is_ok_and(|public| private_key.pkcs8().ends_with(public.point()));
        if !is_of_key {
            return Err(AnswerFault::KeyMismatch);
        }
        Ok(Self { private_key: Arc::new(private_key), certificate: der.to_vec() })
    }
}

impl fmt::Debug for ReceivedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ReceivedKey").field("certificate", &self.certificate.len()).finish_non_exhaustive()
    }
}

/// A certificate identifies its key.
impl PartialEq for ReceivedKey {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Eq for ReceivedKey {}

/// The answer to `/skg` or `/skc` if the request wanted the key encrypted (Content-Format 280).
#[derive(Clone, PartialEq, Eq)]
pub struct EnvelopedKey {
    message: Vec<u8>,
    /// The certificate, DER.
    certificate: Vec<u8>,
}

impl EnvelopedKey {
    /// The message as it came: a CMS EnvelopedData in DER.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The certificate beside it, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Decrypts it with the key that the request named. RFC 9148 §4.8 leaves open whether a SignedData is inside, as RFC 7030 §4.4.2 has it: both
    /// are opened. The second value is the certificate of the signer, whose signature is verified and whose standing the caller judges; without a
    /// signature the session alone vouches for the key. `known` are certificates that the message need not carry.
    ///
    /// # Errors
    /// It cannot be opened, or the certificate beside it is that of another key.
    pub fn open(
        &self,
        decryption: &DecryptionKey<'_>,
        known: &[&Certificate],
    ) -> Result<(ReceivedKey, Option<Certificate>), AnswerFault> {
        let opened = enveloped_key::open(&self.message, decryption, known)
            .map_err(|error| AnswerFault::Malformed(UnreadableAnswer::Envelope(error)))?;
        let received = ReceivedKey::pair(opened.key, &self.certificate)?;
        Ok((received, opened.signer))
    }
}

impl fmt::Debug for EnvelopedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("EnvelopedKey").field("certificate", &self.certificate.len()).finish_non_exhaustive()
    }
}

/// The answer to `/crts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificates {
    /// The certificates that can be trust anchors or lie below one, DER each; at least one is where paths end.
    pub usable: Vec<Vec<u8>>,
    /// The other certificates with the reason why they cannot, such as an RSA root beside the issuing CA: our paths do
    /// not need them.
    pub passed_over: Vec<PassedOver>,
}

/// What the answer is expected to be.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    CaCertificates(Option<Packing>),
    CsrAttributes,
    RenewalInfo,
    Key {
        packing: Packing,
        /// Whether the request wants the key encrypted.
        encrypted: bool,
    },
    Certificate {
        packing: Option<Packing>,
        /// The digest of the SubjectPublicKeyInfo in the request.
        key: Digest,
    },
    Links,
}

impl Expected {
    pub(super) fn of(operation: &Operation, packing: Option<Packing>) -> Result<Self, StartFault> {
        Ok(match operation {
            Operation::CaCertificates => Self::CaCertificates(packing),
            Operation::CsrAttributes => Self::CsrAttributes,
            Operation::RenewalInfo => Self::RenewalInfo,
            Operation::GenerateKey { csr, packing } => {
                let request = CsrContents::parse_as(csr.clone(), Encoding::AsIssued).map_err(|_| StartFault::Csr)?;
                Self::Key { packing: *packing, encrypted: request.key_protection().is_wanted() }
            }
            Operation::Discover { .. } => Self::Links,
            Operation::Enroll { csr } | Operation::Reenroll { csr } => {
                let key = Digest::of(spki_of_request(csr).ok_or(StartFault::Csr)?);
                Self::Certificate { packing, key }
            }
        })
    }

    pub(super) fn check(self, reply: Reply) -> Result<Answer, Failure> {
        if !reply.code.is_success() {
            return Err(refused(reply));
        }
        let answer = match self {
            Self::Links => links(reply),
            Self::CaCertificates(packing) => ca_certificates(&reply, packing),
            Self::CsrAttributes => csr_attributes(reply),
            Self::RenewalInfo => renewal_info(&reply),
            Self::Key { packing, encrypted } => key(reply, packing, encrypted),
            Self::Certificate { packing, key } => issued(&reply, packing, &key),
        };
        answer.map_err(Failure::Answer)
    }
}

fn refused(reply: Reply) -> Failure {
    let Reply { code, max_age, mut body, .. } = reply;
    body.truncate(DIAGNOSTIC_SHOWN_BYTES_MAX);
    // The text of a peer, for our terminal and our log.
    let printable = |text: &String| !text.is_empty() && text.chars().all(pki::shows);
    let refused = ErrorResponse { code, diagnostic: String::from_utf8(body).ok().filter(printable) };
    match code {
        Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS => {
            Failure::Later { refused, max_age: max_age.unwrap_or(MAX_AGE_DEFAULT).max(1) }
        }
        _ => Failure::Refused(refused),
    }
}

fn links(reply: Reply) -> Result<Answer, AnswerFault> {
    // An empty body has no format: libcoap answers a filter without a match with an empty 2.05.
    let empty = reply.body.is_empty() && reply.content_format.is_none();
    if !empty && reply.content_format != Some(ContentFormat::LINK_FORMAT) {
        return Err(AnswerFault::Format(reply.content_format));
    }
    String::from_utf8(reply.body).map(Answer::Links).map_err(|_| AnswerFault::Malformed(UnreadableAnswer::Links))
}

/// A key that is not protected as the request wanted is not used: somebody else may have read it.
fn key(reply: Reply, packing: Packing, encrypted: bool) -> Result<Answer, AnswerFault> {
    if reply.content_format != Some(ContentFormat::MULTIPART_CORE) {
        return Err(AnswerFault::Format(reply.content_format));
    }
    let body = Zeroizing::new(reply.body);
    let malformed = |flaw| AnswerFault::Malformed(UnreadableAnswer::KeyDelivery(flaw));
    let joined = multipart::joined(&body).map_err(|error| malformed(KeyDeliveryFlaw::Multipart(error)))?;
    let delivery = KeyDelivery::decode(joined.as_ref().unwrap_or(&body)).map_err(malformed)?;
    if delivery.packing != packing {
        return Err(AnswerFault::Format(Some(delivery.packing.content_format())));
    }
    let certificates = match packing {
        Packing::CertsOnly => pki::cms::parse_certs_only(delivery.certificate)
            .map_err(|error| AnswerFault::Malformed(UnreadableAnswer::CertsOnly(error)))?,
        Packing::Single => vec![delivery.certificate],
    };
    let [der] = certificates.as_slice() else { return Err(AnswerFault::NotOneCertificate(certificates.len())) };
    match delivery.key {
        DeliveredKey::Pkcs8(key) if !encrypted => {
            let unreadable = |error| AnswerFault::Malformed(UnreadableAnswer::PrivateKey(error));
            ReceivedKey::pair(PrivateKey::read(key).map_err(unreadable)?, der).map(Answer::Key)
        }
        DeliveredKey::Enveloped(message) if encrypted => {
            Ok(Answer::EnvelopedKey(EnvelopedKey { message: message.to_vec(), certificate: der.to_vec() }))
        }
        DeliveredKey::Pkcs8(_) | DeliveredKey::Enveloped(_) => Err(AnswerFault::KeyProtection),
    }
}

fn csr_attributes(reply: Reply) -> Result<Answer, AnswerFault> {
    if reply.content_format != Some(ContentFormat::CSR_ATTRIBUTES) {
        return Err(AnswerFault::Format(reply.content_format));
    }
    match CsrAttributes::parse(&reply.body) {
        Ok(_) => Ok(Answer::CsrAttributes(reply.body)),
        Err(error) => Err(AnswerFault::Malformed(UnreadableAnswer::CsrAttributes(error))),
    }
}

fn renewal_info(reply: &Reply) -> Result<Answer, AnswerFault> {
    if reply.content_format != Some(ContentFormat::CBOR) {
        return Err(AnswerFault::Format(reply.content_format));
    }
    let info = RenewalInfo::decode(&reply.body);
    info.map(Answer::RenewalInfo).map_err(|flaw| AnswerFault::Malformed(UnreadableAnswer::RenewalInfo(flaw)))
}

fn ca_certificates(reply: &Reply, packing: Option<Packing>) -> Result<Answer, AnswerFault> {
    let Listed { usable, passed_over } = Listed::anchors(&unpack(reply, packing)?, Encoding::Strict)
        .map_err(|none| AnswerFault::Malformed(none.into()))?;
    let certificates: Vec<_> = usable.iter().map(|member| Arc::clone(&member.certificate)).collect();
    // A client that took it would trust nobody from then on.
    if !AnchorSet::has_anchor(&certificates) {
        return Err(AnswerFault::Malformed(UnreadableAnswer::NoRoot));
    }
    let usable = certificates.iter().map(|certificate| certificate.der().to_vec()).collect();
    Ok(Answer::CaCertificates(CaCertificates { usable, passed_over }))
}

/// RFC 7030 §4.2.3: "containing only the certificate that was issued"; a certificate for another key is useless at
/// best.
fn issued(reply: &Reply, packing: Option<Packing>, key: &Digest) -> Result<Answer, AnswerFault> {
    let certificates = unpack(reply, packing)?;
    let [der] = certificates.as_slice() else { return Err(AnswerFault::NotOneCertificate(certificates.len())) };
    let malformed = |error| AnswerFault::Malformed(UnreadableAnswer::Certificate { index: 0, error });
    let certificate = Certificate::parse(der).map_err(malformed)?;
    if Digest::of(certificate.spki()) != *key {
        return Err(AnswerFault::OtherKey);
    }
    Ok(Answer::Certificate(der.to_vec()))
}

/// The certificates in an answer of the requested format, or of either format if none was requested.
fn unpack(reply: &Reply, packing: Option<Packing>) -> Result<Vec<&[u8]>, AnswerFault> {
    let came = match reply.content_format {
        Some(ContentFormat::PKCS7_CERTS_ONLY) => Packing::CertsOnly,
        Some(ContentFormat::PKIX_CERT) => Packing::Single,
        other => return Err(AnswerFault::Format(other)),
    };
    if packing.is_some_and(|wanted| wanted != came) {
        return Err(AnswerFault::Format(reply.content_format));
    }
    match came {
        Packing::CertsOnly => pki::cms::parse_certs_only(&reply.body)
            .map_err(|error| AnswerFault::Malformed(UnreadableAnswer::CertsOnly(error))),
        Packing::Single => Ok(vec![&reply.body]),
    }
}

/// The SubjectPublicKeyInfo of a request (RFC 2986 §4.1). It is our own request: the server checks its signature.
fn spki_of_request(csr: &[u8]) -> Option<&[u8]> {
    let mut info = Reader::sequence(csr).ok()?.nested(Tag::SEQUENCE).ok()?;
    info.expect(Tag::INTEGER).ok()?;
    info.expect(Tag::SEQUENCE).ok()?;
    Some(info.expect_element(Tag::SEQUENCE).ok()?.whole)
}

/// `key_answer`: any answer to `/skg` or `/skc`, behind a byte that says what was asked for. It checks that a key is taken only as protected as it was
/// wanted, and with the certificate of its public half.
///
/// # Panics
/// If the property does not hold.
pub fn fuzz_key_answer(input: &[u8]) {
    let Some((&asked, body)) = input.split_first() else { return };
    let (packing, encrypted) = (if asked & 1 == 0 { Packing::CertsOnly } else { Packing::Single }, asked & 2 != 0);
    let content_format = Some(ContentFormat::MULTIPART_CORE);
    let reply = Reply {
        code: Code::CHANGED,
        content_format,
        max_age: None,
        body: body.to_vec(),
        separate: false,
        location: Vec::new(),
    };
    let received = match (Expected::Key { packing, encrypted }).check(reply) {
        Ok(Answer::Key(received)) => {
            assert!(!encrypted, "a key in plain was taken for an encrypted one");
            received
        }
        Ok(Answer::EnvelopedKey(enveloped)) => {
            assert!(encrypted, "nobody has a key for it");
            let decryption = DecryptionKey::Kek { id: b"kek 1", key: &[7; 16] };
            match enveloped.open(&decryption, &[]) {
                Ok((received, _)) => received,
                Err(_) => return,
            }
        }
        Ok(other) => unreachable!("{other:?}"),
        Err(_) => return,
    };
    let certificate = Certificate::parse(&received.certificate).expect("it was read before");
    assert!(received.private_key.pkcs8().ends_with(certificate.public_key().point()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    /// Appendix A of RFC 9148: answers of other servers.
    fn vector(text: &str) -> Vec<u8> {
        hex::decode(text.split_whitespace().collect::<String>()).unwrap()
    }

    const REQUEST: &str = include_str!("../../tests/vectors/sen-request-286.hex");
    const ISSUED: &str = include_str!("../../tests/vectors/sen-response-281.hex");
    const CA_CERTIFICATES: &str = include_str!("../../tests/vectors/crts-response-281.hex");

    fn reply(code: Code, format: ContentFormat, body: Vec<u8>) -> Reply {
        Reply { code, content_format: Some(format), max_age: None, location: Vec::new(), body, separate: false }
    }

    fn enroll(packing: Option<Packing>) -> Expected {
        Expected::of(&Operation::Enroll { csr: vector(REQUEST) }, packing).unwrap()
    }

    const CMS: ContentFormat = ContentFormat::PKCS7_CERTS_ONLY;

    #[test]
    fn the_answers_of_rfc_9148_are_understood() {
        let Ok(Answer::Certificate(der)) = enroll(None).check(reply(Code::CHANGED, CMS, vector(ISSUED))) else {
            panic!("not taken")
        };
        assert!(Certificate::parse(&der).unwrap().subject().to_string().contains("Wt1234"));
        let expected = Expected::of(&Operation::CaCertificates, None).unwrap();
        let Ok(Answer::CaCertificates(cas)) = expected.check(reply(Code::CONTENT, CMS, vector(CA_CERTIFICATES))) else {
            panic!("not taken")
        };
        assert_eq!((cas.usable.len(), cas.passed_over.len()), (1, 0));
    }

    #[test]
    fn e66_what_can_be_used_of_the_ca_certificates_is_used_and_the_rest_is_named() {
        let check = |body: &[u8]| {
            let expected = Expected::of(&Operation::CaCertificates, None).unwrap();
            expected.check(reply(Code::CONTENT, CMS, body.to_vec()))
        };
        let answer = include_bytes!("../../../pki/tests/vectors/foreign/rsa-root.p7");
        let Ok(Answer::CaCertificates(cas)) = check(answer) else { panic!("not taken") };
        assert_eq!((cas.usable.len(), cas.passed_over.len()), (1, 1));
        assert!(cas.passed_over[0].to_string().contains("RSA"), "{}", cas.passed_over[0]);
        // An answer without a usable certificate is a failure.
        let both = pki::cms::parse_certs_only(answer).unwrap();
        let rsa: Vec<&[u8]> = both.into_iter().filter(|der| Certificate::parse(der).is_err()).collect();
        let failure = check(&pki::cms::certs_only(&rsa)).unwrap_err();
        assert!(failure.to_string().contains("RSA"), "{failure}");
    }

    /// A certificate that signs only CRLs, and a device certificate: beside the issuing CA they are useless and
    /// harmless.
    #[test]
    fn e66_certificates_that_sign_none_are_named_and_passed_over() {
        let (cas, issued) = (vector(CA_CERTIFICATES), vector(ISSUED));
        let ca = pki::cms::parse_certs_only(&cas).unwrap()[0].to_vec();
        let leaf = pki::cms::parse_certs_only(&issued).unwrap()[0].to_vec();
        // keyCertSign and cRLSign are replaced by cRLSign alone. The signature of an anchor is not verified.
        let mut of_lists = ca.clone();
        let usage = ca.windows(4).position(|window| window == [3, 2, 1, 0b0000_0110]).unwrap();
        of_lists[usage + 3] = 0b0000_0010;
        let check = |all: &[&[u8]]| {
            let expected = Expected::of(&Operation::CaCertificates, None).unwrap();
            expected.check(reply(Code::CONTENT, CMS, pki::cms::certs_only(all)))
        };
        let Ok(Answer::CaCertificates(cas)) = check(&[&leaf, &of_lists, &ca]) else { panic!("not taken") };
        assert_eq!(cas.usable, std::slice::from_ref(&ca));
        let said: String = cas.passed_over.iter().map(ToString::to_string).collect();
        for words in ["basicConstraints do not make it an authority", "its keyUsage lacks keyCertSign"] {
            assert!(said.contains(words), "{said}");
        }
        let failure = check(&[&leaf]).unwrap_err();
        assert!(failure.to_string().contains("basicConstraints"), "{failure}");
        assert!(check(&[]).is_err());
    }

    /// Two roots and what each has signed for the other's key: only the latter.
    #[allow(clippy::disallowed_methods, reason = "certificates for a test; which ones does not matter")]
    fn cross_certificates() -> [Certificate; 2] {
        use pki::issue::{NodePrefix, Serial};
        use pki::make::{self, AuthorityCertificateSpec, Parent};
        let random = ring::rand::SystemRandom::new();
        let at = |seconds| pki::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let validity = pki::Validity { not_before: at(1_767_225_600), not_after: at(1_798_761_600) };
        let spec = |common_name| AuthorityCertificateSpec {
            common_name,
            organization: None,
            serial: Serial::new(NodePrefix::new(1), [7; 16]),
            validity,
            path_len: None,
        };
        let keys = [0, 1].map(|_| {
            let key = PrivateKey::generate(pki::Curve::P256, &random).unwrap();
            pki::SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap()
        });
        let names = ["One", "Other"];
        let roots = [0, 1].map(|which| make::root(&spec(names[which]), &keys[which], &random).unwrap());
        [0, 1].map(|of| {
            let parent = Parent { certificate: &roots[1 - of], key: &keys[1 - of] };
            make::authority(&spec(names[of]), keys[of].public_key(), parent, &random).unwrap()
        })
    }

    /// What two roots have signed for each other, without the roots: paths would never end.
    #[test]
    fn an_answer_in_which_no_certificate_can_be_an_anchor_is_refused() {
        let pair = cross_certificates();
        let list: Vec<&[u8]> = pair.iter().map(|it| it.der()).collect();
        let check = |all: &[&[u8]]| {
            let expected = Expected::of(&Operation::CaCertificates, None).unwrap();
            expected.check(reply(Code::CONTENT, CMS, pki::cms::certs_only(all)))
        };
        assert_eq!(check(&list), Err(Failure::Answer(AnswerFault::Malformed(UnreadableAnswer::NoRoot))));
        assert!(check(&list[..1]).is_ok(), "one of them alone is where paths end");
    }

    /// A certificate that is not strict DER, and an attribute certificate, beside the needed one.
    #[test]
    fn e66_a_certificate_that_is_not_der_keeps_nobody_from_the_others() {
        let good = vector(CA_CERTIFICATES);
        let good = pki::cms::parse_certs_only(&good).unwrap()[0].to_vec();
        let foreign = include_bytes!("../../../pki/tests/vectors/foreign/san-unsorted.pem");
        let unsorted = pki::pem::certificates(foreign).unwrap().remove(0);
        let all = [&good[..], &unsorted, &[0xa2, 2, 0x30, 0]];
        let expected = Expected::of(&Operation::CaCertificates, None).unwrap();
        let body = pki::cms::certs_only(&all);
        let Ok(Answer::CaCertificates(cas)) = expected.check(reply(Code::CONTENT, CMS, body)) else {
            panic!("not taken")
        };
        assert_eq!(cas.usable, [good]);
        let said: Vec<String> = cas.passed_over.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().any(|said| said.contains("not in DER order")), "{said:?}");
        // The one certificate of an enrolment is judged as strictly as before, and is named in the failure.
        let failure = enroll(None).check(reply(Code::CHANGED, CMS, pki::cms::certs_only(&[&unsorted]))).unwrap_err();
        assert!(failure.to_string().contains("certificate 1: "), "{failure}");
    }

    #[test]
    fn a_certificate_for_another_key_is_not_taken() {
        // The root of the examples is the only certificate, and it is not for the key of the request.
        let answer = enroll(None).check(reply(Code::CHANGED, CMS, vector(CA_CERTIFICATES)));
        assert_eq!(answer, Err(Failure::Answer(AnswerFault::OtherKey)));
    }

    #[test]
    fn e41_an_answer_with_none_or_two_certificates_is_not_taken() {
        let (issued, root) = (vector(ISSUED), vector(CA_CERTIFICATES));
        let (issued, root) = (pki::cms::parse_certs_only(&issued).unwrap(), pki::cms::parse_certs_only(&root).unwrap());
        let both = pki::cms::certs_only(&[issued[0], root[0]]);
        let answer = enroll(None).check(reply(Code::CHANGED, CMS, both));
        assert_eq!(answer, Err(Failure::Answer(AnswerFault::NotOneCertificate(2))));
        let none = pki::cms::certs_only(&[]);
        let answer = enroll(None).check(reply(Code::CHANGED, CMS, none));
        assert!(matches!(answer, Err(Failure::Answer(AnswerFault::NotOneCertificate(0) | AnswerFault::Malformed(_)))));
    }

    #[test]
    fn the_format_has_to_be_the_one_asked_for() {
        let single = ContentFormat::PKIX_CERT;
        let issued = vector(ISSUED);
        let der = pki::cms::parse_certs_only(&issued).unwrap()[0].to_vec();
        assert!(enroll(None).check(reply(Code::CHANGED, single, der.clone())).is_ok());
        assert!(enroll(Some(Packing::Single)).check(reply(Code::CHANGED, single, der.clone())).is_ok());
        let answer = enroll(Some(Packing::CertsOnly)).check(reply(Code::CHANGED, single, der.clone()));
        assert_eq!(answer, Err(Failure::Answer(AnswerFault::Format(Some(single)))));
        let answer = enroll(None).check(Reply { content_format: None, ..reply(Code::CHANGED, single, der) });
        assert_eq!(answer, Err(Failure::Answer(AnswerFault::Format(None))));
        let answer = enroll(None).check(reply(Code::CHANGED, CMS, b"junk".to_vec()));
        assert!(matches!(answer, Err(Failure::Answer(AnswerFault::Malformed(UnreadableAnswer::CertsOnly(_))))));
        // The other functions have one format each (RFC 9148 §4.3), whatever the payload is.
        let key = vector(include_str!("../../../coap/tests/vectors/rfc9148/skg-response-62.hex"));
        let attributes = vector(include_str!("../../../pki/tests/vectors/rfc9148/att-response-285.hex"));
        for (expected, body) in [
            (Expected::Key { packing: Packing::CertsOnly, encrypted: false }, key),
            (Expected::CsrAttributes, attributes),
            (Expected::Links, b"</est/crts>".to_vec()),
        ] {
            let answer = expected.check(reply(Code::CHANGED, CMS, body));
            assert_eq!(answer, Err(Failure::Answer(AnswerFault::Format(Some(CMS)))));
        }
    }

    /// The error message says what is wrong, not only that something is.
    #[test]
    fn e70_what_cannot_be_read_of_an_answer_is_said() {
        let said = |expected: Expected, format, body: Vec<u8>| {
            let failure = expected.check(reply(Code::CONTENT, format, body)).unwrap_err();
            assert_eq!(failure.reason(), Some(Reason::AnswerMalformed));
            failure.to_string()
        };
        let cas = || Expected::of(&Operation::CaCertificates, None).unwrap();
        // BER: the message of RFC 9148 with an indefinite outermost length (X.690 §8.1.3.6).
        let der = vector(CA_CERTIFICATES);
        assert_eq!(der[..2], [0x30, 0x82]);
        let ber = [&[0x30, 0x80][..], &der[4..], &[0, 0]].concat();
        for expected in [cas(), enroll(None)] {
            let said = said(expected, CMS, ber.clone());
            assert!(said.contains("CMS") && said.contains("indefinite length, which is BER, not DER"), "{said}");
        }
        let said = said(cas(), ContentFormat::PKIX_CERT, vec![0x30, 0x80, 0, 0]);
        assert!(said.contains("certificate 1: ") && said.contains("indefinite length"), "{said}");
    }

    #[test]
    fn refusals_are_told_from_delays() {
        let refused = |code, max_age, body: &[u8]| {
            let reply = Reply {
                code,
                content_format: None,
                max_age,
                location: Vec::new(),
                body: body.to_vec(),
                separate: false,
            };
            enroll(None).check(reply).unwrap_err()
        };
        let failure = refused(Code::FORBIDDEN, None, b"est.sen.subject_mismatch");
        assert_eq!(failure.reason(), Some(Reason::SenSubjectMismatch));
        assert!(matches!(failure, Failure::Refused(_)));
        let failure = refused(Code::SERVICE_UNAVAILABLE, Some(7), b"");
        assert!(matches!(failure, Failure::Later { max_age: 7, .. }));
        let failure = refused(Code::TOO_MANY_REQUESTS, None, b"");
        assert!(matches!(failure, Failure::Later { max_age: MAX_AGE_DEFAULT, .. }));
    }

    #[test]
    fn e58_a_terminal_obeys_no_diagnostic_of_a_server() {
        for (text, shown) in [
            ("\u{1b}[2J", false),
            ("\u{202e}yako", false),
            ("a\u{2028}b", false),
            ("\u{9b}2J", false),
            ("né à Łódź", true),
        ] {
            let reply = Reply {
                code: Code::BAD_REQUEST,
                content_format: None,
                max_age: None,
                location: Vec::new(),
                body: text.into(),
                separate: false,
            };
            let Failure::Refused(refused) = enroll(None).check(reply).unwrap_err() else { panic!("not refused") };
            assert_eq!(refused.diagnostic.as_deref(), shown.then_some(text));
        }
    }

    #[test]
    fn what_is_no_request_starts_nothing() {
        let start = |csr: &[u8]| Expected::of(&Operation::Enroll { csr: csr.to_vec() }, None).err();
        assert_eq!(start(b""), Some(StartFault::Csr));
        assert_eq!(start(b"-----BEGIN CERTIFICATE REQUEST-----"), Some(StartFault::Csr));
        let request = vector(REQUEST);
        for end in 0..128 {
            assert_eq!(start(&request[..end]), Some(StartFault::Csr));
        }
    }

    #[test]
    fn e39_a_key_is_taken_only_with_its_own_certificate_and_as_protected_as_it_was_wanted() {
        let payload = vector(include_str!("../../../coap/tests/vectors/rfc9148/skg-response-62.hex"));
        let check = |packing, encrypted, body: &[u8]| {
            let expected = Expected::Key { packing, encrypted };
            expected.check(reply(Code::CHANGED, ContentFormat::MULTIPART_CORE, body.to_vec()))
        };
        let Ok(Answer::Key(received)) = check(Packing::CertsOnly, false, &payload) else { panic!("not taken") };
        assert!(!format!("{received:?}").contains("48"), "no octet of a key is shown: {received:?}");
        let fault = |failure: Result<Answer, Failure>| failure.unwrap_err();
        assert_eq!(fault(check(Packing::CertsOnly, true, &payload)), Failure::Answer(AnswerFault::KeyProtection));
        let other = Failure::Answer(AnswerFault::Format(Some(CMS)));
        assert_eq!(fault(check(Packing::Single, false, &payload)), other);
        let delivery = KeyDelivery::decode(&payload).unwrap();
        let enveloped = KeyDelivery { key: DeliveredKey::Enveloped(&[0x30, 0]), ..delivery }.encode();
        assert_eq!(fault(check(Packing::CertsOnly, false, &enveloped)), Failure::Answer(AnswerFault::KeyProtection));
        let of_another_key = vector(CA_CERTIFICATES);
        let mixed = KeyDelivery { certificate: &of_another_key, ..delivery }.encode();
        assert_eq!(fault(check(Packing::CertsOnly, false, &mixed)), Failure::Answer(AnswerFault::KeyMismatch));
        let own = pki::cms::parse_certs_only(delivery.certificate).unwrap()[0];
        let two = pki::cms::certs_only(&[own, pki::cms::parse_certs_only(&of_another_key).unwrap()[0]]);
        let two = KeyDelivery { certificate: &two, ..delivery }.encode();
        assert_eq!(fault(check(Packing::CertsOnly, false, &two)), Failure::Answer(AnswerFault::NotOneCertificate(2)));
        for end in 0..payload.len() {
            assert!(check(Packing::CertsOnly, false, &payload[..end]).is_err());
        }
    }

    /// RFC 8710 §3 does not ask for the preferred encoding of CBOR (RFC 8949 §4.1), and nobody makes the key a second time.
    #[test]
    fn e39_a_key_is_taken_in_whatever_encoding_its_collection_comes() {
        let preferred = vector(include_str!("../../../coap/tests/vectors/rfc9148/skg-response-62.hex"));
        let parts = multipart::decode(&preferred).unwrap();
        // An array of indefinite length with an absent part; each format in four octets, each body in chunks of 60 octets and an empty one.
        let mut payload = vec![0x9f, 0x18, 0x00, 0xf6];
        for part in parts {
            payload.extend_from_slice(&[0x1a, 0, 0]);
            payload.extend_from_slice(&part.format.0.to_be_bytes());
            payload.push(0x5f);
            for chunk in part.body.chunks(60) {
                payload.extend_from_slice(&[0x59, 0, u8::try_from(chunk.len()).unwrap()]);
                payload.extend_from_slice(chunk);
            }
            payload.extend_from_slice(&[0x40, 0xff]);
        }
        payload.push(0xff);
        let key = |payload: Vec<u8>| {
            let expected = Expected::Key { packing: Packing::CertsOnly, encrypted: false };
            match expected.check(reply(Code::CHANGED, ContentFormat::MULTIPART_CORE, payload)) {
                Ok(Answer::Key(received)) => received.private_key.pkcs8().to_vec(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(key(payload), key(preferred));
    }

    /// libest's server makes RSA keys: that is its choice, and not an answer that cannot be read.
    #[test]
    fn a_key_of_a_foreign_algorithm_has_a_reason_of_its_own() {
        let payload = vector(include_str!("../../../coap/tests/vectors/rfc9148/skg-response-62.hex"));
        let delivery = KeyDelivery::decode(&payload).unwrap();
        let check = |key: &str| {
            let key = hex::decode(key).unwrap();
            let body = KeyDelivery { key: DeliveredKey::Pkcs8(&key), ..delivery }.encode();
            let expected = Expected::Key { packing: Packing::CertsOnly, encrypted: false };
            let reply = reply(Code::CHANGED, ContentFormat::MULTIPART_CORE, body.to_vec());
            expected.check(reply).unwrap_err()
        };
        // RFC 5958 §2, with the AlgorithmIdentifier of RSA (RFC 8017, appendix A.1), of Ed25519 (RFC 8410 §7), and of EC on P-521 (RFC 5480 §2.1.1).
        for (key, words) in [
            ("3014020100300d06092a864886f70d01010105000400", "RSA"),
            ("300c020100300506032b65700400", "Ed25519"),
            ("3017020100301006072a8648ce3d020106052b810400230400", "P-521"),
        ] {
            let failure = check(key);
            assert_eq!(failure.reason(), Some(Reason::AnswerKeyAlgorithm), "{failure}");
            let said = failure.to_string();
            assert!(said.starts_with("the server made a key that this device cannot use: "), "{said}");
            assert!(said.contains(words) && said.contains("P-256 and P-384"), "{said}");
        }
        for unreadable in ["3000", "3003020100", "3014020101300d06092a864886f70d0101"] {
            assert_eq!(check(unreadable).reason(), Some(Reason::AnswerMalformed), "{unreadable}");
        }
        // The same key, encrypted: it is read once the message is open.
        let error =
            PrivateKey::read(&hex::decode("3014020100300d06092a864886f70d01010105000400").unwrap()).unwrap_err();
        let envelope = UnreadableAnswer::Envelope(enveloped_key::EnvelopedKeyError::Key(error));
        assert_eq!(Failure::Answer(AnswerFault::Malformed(envelope)).reason(), Some(Reason::AnswerKeyAlgorithm));
    }
}
