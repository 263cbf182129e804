//! Recognises DER and the representations of EST-coaps, by their bytes or by their Content-Format.

use coap::ContentFormat;
use coap::multipart::{self, MultipartError};
use est::Reason;
use pki::cms::{self, CmsError};
use pki::csr_attributes::CsrAttributes;
use pki::der::{DerError, Reader};
use pki::enveloped_key::{self, EnvelopedKeyError};
use pki::pem::{self, DerKind, Found, PemError};
use pki::{Digest, SigningKey, UnixTime};
use ring::rand::SystemRandom;

use super::inspection::Inspection;
use super::{certificate, request};

/// Collections inside collections that are followed.
const DEPTH_MAX: usize = 2;

/// Characters of a text that are shown.
const TEXT_SHOWN_MAX: usize = 400;

/// What some DER contains.
pub(super) fn of_der(der: &[u8], utc: UnixTime) -> Inspection {
    if let Ok(asked) = CsrAttributes::parse(der) {
        return request::csr_attributes(&asked, der.len());
    }
    match pem::certificates(der) {
        Ok(list) if list.len() == 1 && list[0] == der => match certificate::chain(&list, utc).pop() {
            Some(only) => only,
            None => unknown(der),
        },
        Ok(_) | Err(PemError::Cms(_)) => of_any_cms(der, utc),
        Err(PemError::Other { found: Found::Der(kind), .. }) => of_kind(kind, der),
        Err(PemError::Der { error, .. }) => not_der(der, &error),
        Err(_) => unknown(der),
    }
}

fn of_kind(kind: DerKind, der: &[u8]) -> Inspection {
    match kind {
        DerKind::Request => request::request(der),
        DerKind::PrivateKey => private_key(der),
        DerKind::EncryptedKey => Inspection::new("encrypted private key (PKCS #8)").field("bytes", der.len()).noted(
            "it is not decrypted here, and Muster reads no encrypted keys",
            None,
            Some("`openssl pkcs8 -inform DER -in FILE -out NEW` decrypts it"),
        ),
        DerKind::PublicKey => match pki::PublicKey::from_spki(der) {
            Ok(key) => Inspection::new("public key").field("publicKey", certificate::public_key(&key)),
            Err(error) => Inspection::new("public key").field("bytes", der.len()).refused(
                error.to_string(),
                Reason::from_code("est.csr.algorithm"),
                "use a key on P-256 or P-384",
            ),
        },
        other => Inspection::new(other.to_string()).field("bytes", der.len()).noted(
            "not shown: EST-coaps does not exchange it",
            None,
            Some("`openssl` shows it: `openssl crl -text`, `openssl pkcs12 -info`"),
        ),
    }
}

/// CMS of whichever kind EST-coaps has: certs-only, or an encrypted key.
fn of_any_cms(der: &[u8], utc: UnixTime) -> Inspection {
    match enveloped_key::check_enveloped(der) {
        Ok(()) => encrypted_key(der),
        Err(EnvelopedKeyError::NotEnveloped) => of_cms(der, utc),
        // Damaged, and of the content type that an encrypted key has.
        Err(error) if content_type(der).as_deref() == Some(ENVELOPED_DATA) => encrypted_key(der).refused(
            error.to_string(),
            Reason::from_code("device.answer.malformed"),
            "the server has to send an EnvelopedData in DER (RFC 7030 §4.4.2)",
        ),
        Err(_) => of_cms(der, utc),
    }
}

/// A key that the server has made and encrypted; it is not decrypted here.
fn encrypted_key(der: &[u8]) -> Inspection {
    Inspection::new("encrypted private key in CMS (280)")
        .field_if("contentType", content_type(der))
        .field("bytes", der.len())
}

/// Certs-only CMS.
pub(super) fn of_cms(der: &[u8], utc: UnixTime) -> Inspection {
    match cms::parse_certs_only(der) {
        Ok(list) => Inspection::new("certs-only CMS (281)")
            .field("certificates", list.len())
            .field("bytes", der.len())
            .parts(certificate::bag(&list, utc)),
        Err(error) => malformed_cms(der, &error),
    }
}

fn malformed_cms(der: &[u8], error: &CmsError) -> Inspection {
    let shown = Inspection::new("CMS").field_if("contentType", content_type(der)).field("bytes", der.len());
    let remedy = match PemError::Cms(*error).command("FILE", "NEW") {
        Some(command) if matches!(error, CmsError::Der(_)) => {
            format!("the server that sent it has to encode it in DER; `{command}` reads it here")
        }
        _ => "EST-coaps answers with certs-only CMS: no content, no signer (RFC 9148 §4.3)".to_owned(),
    };
    shown.refused(error.to_string(), Reason::from_code("device.answer.malformed"), remedy)
}

/// The content type of an encrypted key (RFC 5652 §6.1).
const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";

/// The content type of a CMS message.
fn content_type(der: &[u8]) -> Option<String> {
    let mut fields = match Reader::sequence(der) {
        Ok(fields) => fields,
        // The contents of an indefinite length follow its two octets.
        Err(DerError::Indefinite) => Reader::new(der.get(2..)?),
        Err(_) => return None,
    };
    fields.oid().ok().map(|id| id.to_string())
}

/// A private key, of which only the public half is shown.
pub(super) fn private_key(der: &[u8]) -> Inspection {
    let shown = Inspection::new("private key (its value is not shown)");
    let key = match pem::private_key(der) {
        Ok(key) => key,
        Err(error) => {
            return shown.field("bytes", der.len()).refused(
                error.to_string(),
                None,
                "use a key on P-256 or P-384, in PKCS #8 or SEC 1",
            );
        }
    };
    match SigningKey::from_pkcs8(key.pkcs8(), &SystemRandom::new()) {
        Ok(signing) => {
            let shown = shown
                .field("publicKey", certificate::public_key(&signing.public_key()))
                .field("spkiSha256", Digest::of(signing.spki()).to_string());
            // Either form holds the point unchanged, if it holds one.
            if der.windows(signing.point().len()).any(|window| window == signing.point()) {
                shown
            } else {
                shown.noted(
                    "the file does not contain the public key (RFC 5915 §3 makes it optional); Muster computes it",
                    None,
                    Some("other tools may need it: `openssl pkey -in FILE -out NEW` adds it"),
                )
            }
        }
        Err(error) => shown.refused(error.to_string(), None, "use a key on P-256 or P-384"),
    }
}

/// A payload of this Content-Format.
pub(super) fn of_format(format: ContentFormat, bytes: &[u8], utc: UnixTime) -> Inspection {
    of_format_at(format, bytes, utc, 0)
}

fn of_format_at(format: ContentFormat, bytes: &[u8], utc: UnixTime, depth: usize) -> Inspection {
    match format {
        ContentFormat::TEXT_PLAIN | ContentFormat::LINK_FORMAT => text(bytes),
        ContentFormat::MULTIPART_CORE if depth < DEPTH_MAX => collection(bytes, utc, depth),
        ContentFormat::PKCS7_CERTS_ONLY => of_cms(bytes, utc),
        ContentFormat::PKCS7_SERVER_GENERATED_KEY => encrypted_key(bytes),
        ContentFormat::PKCS8 => private_key(bytes),
        ContentFormat::CSR_ATTRIBUTES => match CsrAttributes::parse(bytes) {
            Ok(asked) => request::csr_attributes(&asked, bytes.len()),
            Err(error) => request::malformed_csr_attributes(&error, bytes.len()),
        },
        ContentFormat::PKCS10 => request::request(bytes),
        ContentFormat::PKIX_CERT => certificate::chain(&[bytes], utc).pop().unwrap_or_else(|| unknown(bytes)),
        other => Inspection::new(format!("representation of Content-Format {other}")).field("bytes", bytes.len()),
    }
}

/// A multipart-core collection: the answer to `/skg`.
pub(super) fn of_collection(bytes: &[u8], utc: UnixTime) -> Inspection {
    collection(bytes, utc, 0)
}

fn collection(bytes: &[u8], utc: UnixTime, depth: usize) -> Inspection {
    let shown = Inspection::new("multipart-core (62)").field("bytes", bytes.len());
    let joined = match multipart::joined(bytes) {
        Ok(joined) => joined,
        Err(error) => return malformed_collection(shown, error),
    };
    match multipart::decode(joined.as_ref().map_or(bytes, |joined| joined.as_slice())) {
        Ok(parts) => {
            let parts = parts.iter().map(|part| of_format_at(part.format, part.body, utc, depth + 1));
            shown.parts(parts)
        }
        Err(error) => malformed_collection(shown, error),
    }
}

fn malformed_collection(shown: Inspection, error: MultipartError) -> Inspection {
    shown.refused(
        error.to_string(),
        Reason::from_code("device.answer.malformed"),
        "the server has to send an array of pairs of Content-Format and byte string (RFC 8710 §3)",
    )
}

/// A text; a reason code in it is explained.
pub(super) fn text(bytes: &[u8]) -> Inspection {
    let text = String::from_utf8_lossy(bytes);
    let cut: String = text.chars().take(TEXT_SHOWN_MAX).collect();
    let shown = Inspection::new("text").field("text", cut).field("bytes", bytes.len());
    match Reason::from_code(text.trim()) {
        Some(reason) => shown.noted(reason.entry().meaning, Some(reason), Some(reason.entry().device)),
        None => shown,
    }
}

fn not_der(der: &[u8], error: &DerError) -> Inspection {
    Inspection::new("damaged DER").field("bytes", der.len()).refused(
        error.to_string(),
        None,
        "the file was cut, or bytes follow its end: copy it again in binary mode",
    )
}

fn unknown(bytes: &[u8]) -> Inspection {
    Inspection::new("bytes of an unknown kind").field("bytes", bytes.len()).refused(
        "neither a request, a certificate, CMS, CSR attributes nor a key",
        None,
        "`muster inspect --help` lists what is recognised",
    )
}
