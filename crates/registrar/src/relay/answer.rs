//! Reads the answers of an upstream CA: media type, base64 (RFC 8951), multipart, CMS. It is tolerant in the form and strict in the content.
//!
//! What comes from here is not yet checked against the request: `RelayProfile::judge` does that.

use authority::{MadeKey, UpstreamAnswerFlaw};
use pki::{Certificate, PrivateKey};

use super::upstream::HttpAnswer;
use crate::body::{BODY_BYTES_MAX, decode_body};

/// The certificate of an enrolment, or of a key that the upstream made.
///
/// # Errors
/// Why it cannot be passed on.
pub fn read_certificate(answer: &HttpAnswer) -> Result<Certificate, UpstreamAnswerFlaw> {
    expect_certs_only(answer.content_type.as_deref())?;
    one_certificate(&answer.body)
}

/// A private key that the upstream made, as it sent it, and its certificate (RFC 7030 §4.4.2). A key in an envelope stays in it.
///
/// # Errors
/// Why they cannot be passed on.
pub fn read_key_and_certificate(answer: &HttpAnswer) -> Result<(MadeKey, Certificate), UpstreamAnswerFlaw> {
    let media_type = MediaType::read(answer.content_type.as_deref().unwrap_or_default());
    if !media_type.is("multipart/mixed") {
        return Err(UpstreamAnswerFlaw::MediaType);
    }
    let boundary = media_type.parameter("boundary").filter(|it| !it.is_empty() && it.len() <= BOUNDARY_BYTES_MAX);
    let parts = parts(&answer.body, boundary.ok_or(UpstreamAnswerFlaw::Malformed)?)?;
    let (mut key, mut certificate) = (None, None);
    for Part { content_type, body } in parts {
        let media_type = MediaType::read(&content_type);
        let again = if media_type.is("application/pkcs8") {
            let der = zeroize::Zeroizing::new(decode_body(body).map_err(|_| UpstreamAnswerFlaw::Malformed)?);
            let read = PrivateKey::read(&der).map_err(|_| UpstreamAnswerFlaw::PrivateKey)?;
            key.replace(MadeKey::Plain(read)).is_some()
        } else if media_type.is_enveloped_key() {
            let der = decode_body(body).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
            pki::enveloped_key::check_enveloped(&der).map_err(|_| UpstreamAnswerFlaw::PrivateKey)?;
            key.replace(MadeKey::Enveloped(der)).is_some()
        } else if expect_certs_only(Some(&content_type)).is_ok() {
            certificate.replace(one_certificate(body)?).is_some()
        } else {
            return Err(UpstreamAnswerFlaw::MediaType);
        };
        if again {
            return Err(UpstreamAnswerFlaw::Malformed);
        }
    }
    Ok((key.ok_or(UpstreamAnswerFlaw::Malformed)?, certificate.ok_or(UpstreamAnswerFlaw::NotOneCertificate)?))
}

/// The CA certificates of `/cacerts`. One that cannot be read does not make the others unusable.
///
/// # Errors
/// The answer cannot be read, or holds none.
pub fn read_ca_certificates(answer: &HttpAnswer) -> Result<Vec<Certificate>, UpstreamAnswerFlaw> {
    if answer.status != 200 {
        return Err(UpstreamAnswerFlaw::Status);
    }
    expect_certs_only(answer.content_type.as_deref())?;
    let der = decode_body(&answer.body).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    let listed = pki::cms::parse_certs_only(&der).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    let read: Vec<Certificate> = listed.into_iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    if read.is_empty() { Err(UpstreamAnswerFlaw::Malformed) } else { Ok(read) }
}

/// The CSR attributes of `/csrattrs`; `None` if the upstream has nothing to say (RFC 7030 §4.5.2: 204 or 404), or does not have this optional function
/// (501).
///
/// # Errors
/// The answer cannot be read.
pub fn read_csr_attributes(answer: &HttpAnswer) -> Result<Option<Vec<u8>>, UpstreamAnswerFlaw> {
    match answer.status {
        204 | 404 | 501 => return Ok(None),
        200 => {}
        _ => return Err(UpstreamAnswerFlaw::Status),
    }
    if answer.body.is_empty() {
        return Ok(None);
    }
    if !MediaType::read(answer.content_type.as_deref().unwrap_or_default()).is("application/csrattrs") {
        return Err(UpstreamAnswerFlaw::MediaType);
    }
    let der = decode_body(&answer.body).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    pki::csr_attributes::CsrAttributes::parse(&der).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    Ok(Some(der))
}

fn expect_certs_only(content_type: Option<&str>) -> Result<(), UpstreamAnswerFlaw> {
    let media_type = MediaType::read(content_type.unwrap_or_default());
    // RFC 7030 §4.2.3: "application/pkcs7-mime", with smime-type=certs-only; older peers leave the parameter out.
    let is_certs_only = media_type.parameter("smime-type").is_none_or(|it| it.eq_ignore_ascii_case("certs-only"));
    if media_type.is("application/pkcs7-mime") && is_certs_only { Ok(()) } else { Err(UpstreamAnswerFlaw::MediaType) }
}

/// RFC 7030 §4.2.3: the answer "MUST be a certs-only CMC Simple PKI Response containing only the certificate that was issued".
fn one_certificate(body: &[u8]) -> Result<Certificate, UpstreamAnswerFlaw> {
    let der = decode_body(body).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    let certificates = pki::cms::parse_certs_only(&der).map_err(|error| match error {
        pki::cms::CmsError::NoCertificate | pki::cms::CmsError::TooManyCertificates => {
            UpstreamAnswerFlaw::NotOneCertificate
        }
        _ => UpstreamAnswerFlaw::Malformed,
    })?;
    let [certificate] = certificates.as_slice() else { return Err(UpstreamAnswerFlaw::NotOneCertificate) };
    Certificate::parse(certificate).map_err(|_| UpstreamAnswerFlaw::Malformed)
}

/// RFC 2046 §5.1.1: a boundary has at most 70 characters.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Parts of a multipart: a key and a certificate.
const PARTS_MAX: usize = 2;

struct Part<'a> {
    content_type: String,
    body: &'a [u8],
}

/// The parts between the delimiters (RFC 2046 §5.1.1). Lines may end in LF alone; preamble and epilogue are ignored.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, UpstreamAnswerFlaw> {
    let text = str::from_utf8(body).map_err(|_| UpstreamAnswerFlaw::Malformed)?;
    if text.len() > BODY_BYTES_MAX {
        return Err(UpstreamAnswerFlaw::TooLong);
    }
    let mut parts = Vec::new();
    let (mut begin, mut at, mut closed) = (None, 0, false);
    for line in text.split_inclusive('\n') {
        let after = at + line.len();
        if let Some(rest) = line.strip_prefix("--").and_then(|it| it.strip_prefix(boundary)) {
            let rest = rest.trim_end();
            if rest.is_empty() || rest == "--" {
                if let Some(begin) = begin.take() {
                    if parts.len() == PARTS_MAX {
                        return Err(UpstreamAnswerFlaw::Malformed);
                    }
                    parts.push(part(&text[begin..at])?);
                }
                if rest == "--" {
                    closed = true;
                    break;
                }
                begin = Some(after);
            }
        }
        at = after;
    }
    if closed && parts.len() == PARTS_MAX { Ok(parts) } else { Err(UpstreamAnswerFlaw::Malformed) }
}

fn part(text: &str) -> Result<Part<'_>, UpstreamAnswerFlaw> {
    let mut at = 0;
    let mut fields: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        at += line.len();
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Part { content_type: content_type(&fields)?, body: &text.as_bytes()[at..] });
        }
        // RFC 5322 §2.2.3: "Unfolding is accomplished by simply removing any CRLF that is immediately followed by WSP."
        if line.starts_with([' ', '\t']) {
            fields.last_mut().ok_or(UpstreamAnswerFlaw::Malformed)?.push_str(line);
        } else {
            fields.push(line.to_owned());
        }
    }
    Err(UpstreamAnswerFlaw::Malformed)
}

/// The one Content-Type of a part.
fn content_type(fields: &[String]) -> Result<String, UpstreamAnswerFlaw> {
    let mut content_type = None;
    for field in fields {
        let (name, value) = field.split_once(':').ok_or(UpstreamAnswerFlaw::Malformed)?;
        // RFC 8951 §3.1: Content-Transfer-Encoding is ignored.
        if name.trim().eq_ignore_ascii_case("content-type") && content_type.replace(value.trim().to_owned()).is_some() {
            return Err(UpstreamAnswerFlaw::Malformed);
        }
    }
    content_type.ok_or(UpstreamAnswerFlaw::Malformed)
}

/// A media type with its parameters (RFC 9110 §8.3.1).
struct MediaType<'a> {
    name: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    fn read(text: &'a str) -> Self {
        let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
        Self { name: name.trim(), parameters }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// RFC 7030 §4.4.2: "application/pkcs7-mime" with the smime-type "server-generated-key", for a key in a CMS EnvelopedData.
    fn is_enveloped_key(&self) -> bool {
        let smime_type = self.parameter("smime-type");
        self.is("application/pkcs7-mime")
            && smime_type.is_some_and(|it| it.eq_ignore_ascii_case("server-generated-key"))
    }

    fn parameter(&self, wanted: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
            name.trim().eq_ignore_ascii_case(wanted).then_some(unquoted)
        })
    }
}
