//! From the bytes of a file to what they are: PEM, DER, hex or base64 text, a datagram, a capture.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::UnixTime;
use pki::der::Reader;
use zeroize::Zeroizing;

use super::inspection::Inspection;
use super::{capture, certificate, content, message, request};

/// Blocks of one PEM file that are shown; a system's trust store has about 150.
const BLOCKS_MAX: usize = 1_024;

/// How many packets of a capture are shown, and the time to judge validities by.
#[derive(Clone, Copy, Debug)]
pub(super) struct InspectionTerms {
    /// Packets.
    pub(super) packets_max: usize,
    /// Now.
    pub(super) utc: UnixTime,
}

/// What a file contains.
#[derive(Debug)]
pub(super) struct Recognised {
    /// Shown to the user.
    pub(super) shown: Inspection,
    /// The first request in it.
    pub(super) request: Option<Vec<u8>>,
    /// The certificates in it, in order.
    pub(super) certificates: Vec<Vec<u8>>,
}

impl Recognised {
    fn only(shown: Inspection) -> Self {
        Self { shown, request: None, certificates: Vec::new() }
    }
}

/// Recognises a whole file; an error says why it is nothing that is known here.
pub(super) fn recognise(bytes: &[u8], terms: InspectionTerms) -> Result<Recognised, &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if let Some(known) = binary(bytes, terms) {
        return Ok(known);
    }
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err("it is text in UTF-16; `iconv -f UTF-16 -t UTF-8 FILE > NEW` converts it");
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if find(text, b"-----BEGIN ").is_some() {
        return Ok(pem(text, terms));
    }
    let unknown = "it is neither PEM, DER, hex, base64, CoAP, DTLS nor a capture";
    let Some(decoded) = hex_text(text).or_else(|| base64_text(text)) else { return Err(unknown) };
    binary(&decoded, terms).ok_or("it is hex or base64 of something that is not known here")
}

/// The first octet tells the kinds apart: a SEQUENCE, a CBOR array, a DTLS record, a CoAP message of version 1, a capture's magic number.
fn binary(bytes: &[u8], terms: InspectionTerms) -> Option<Recognised> {
    let first = *bytes.first()?;
    if let Some(shown) = capture::file(bytes, terms) {
        return Some(Recognised::only(shown));
    }
    match first {
        0x30 if bytes.get(1).is_some_and(|length| !length.is_ascii()) || Reader::sequence(bytes).is_ok() => {
            Some(der(bytes, terms.utc))
        }
        0x80..=0x9f => Some(Recognised::only(content::of_collection(bytes, terms.utc))),
        20..=25 if bytes.get(1) == Some(&0xfe) => Some(Recognised::only(capture::datagram(bytes))),
        // Text may begin like CoAP, and has no octets outside of ASCII's text.
        0x40..=0x7f if !is_text(bytes) => Some(Recognised::only(message::message(bytes, terms.utc))),
        _ => None,
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace())
}

fn der(der: &[u8], utc: UnixTime) -> Recognised {
    let shown = content::of_der(der, utc);
    let request = pki::pem::certificate_request(der).ok().filter(|_| pki::pem::certificates(der).is_err());
    Recognised { shown, request, certificates: pki::pem::certificates(der).unwrap_or_default() }
}

/// All blocks of a PEM file, in order.
fn pem(text: &[u8], terms: InspectionTerms) -> Recognised {
    let mut parts = Vec::new();
    let mut found = Recognised::only(Inspection::new("PEM"));
    let mut others = 0_usize;
    for block in blocks(text).take(BLOCKS_MAX) {
        let Ok(PemBlock { label, der }) = block else {
            parts.push(Inspection::new("PEM block, damaged").refused(
                "it has no end, or is not base64 (RFC 7468 §2)",
                None,
                "copy the file again, from `-----BEGIN` to the end of the line with `-----END`",
            ));
            continue;
        };
        match label {
            "CERTIFICATE" => found.certificates.push(der.to_vec()),
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                let shown = request::request(&der);
                parts.push(if label == "CERTIFICATE REQUEST" {
                    shown
                } else {
                    shown.noted(
                        "it has the older PEM label NEW CERTIFICATE REQUEST, which Muster reads (RFC 7468 §7)",
                        None,
                        None,
                    )
                });
                found.request.get_or_insert_with(|| der.to_vec());
            }
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "DSA PRIVATE KEY" => {
                parts.push(content::private_key(&der));
            }
            "EC PARAMETERS" => others += 1,
            "OPENSSH PRIVATE KEY" => parts.push(Inspection::new("private key in OpenSSH's format").noted(
                "Muster does not read it",
                None,
                Some("`ssh-keygen -p -m PKCS8 -f FILE` converts it in place"),
            )),
            _ => parts.push(content::of_der(&der, terms.utc)),
        }
    }
    let chain = certificate::chain(&found.certificates, terms.utc);
    let mut all: Vec<_> = chain.into_iter().chain(parts).collect();
    found.shown = match all.len() {
        1 => all.remove(0),
        _ => Inspection::new("PEM").field("blocks", all.len() + others).parts(all),
    };
    found
}

/// One block of PEM.
struct PemBlock<'t> {
    label: &'t str,
    /// It may be a private key.
    der: Zeroizing<Vec<u8>>,
}

fn blocks(text: &[u8]) -> impl Iterator<Item = Result<PemBlock<'_>, ()>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = find(rest, b"-----BEGIN ")? + b"-----BEGIN ".len();
        rest = &rest[begin..];
        let block = block(&mut rest);
        Some(block.ok_or(()))
    })
}

/// The block whose label `rest` begins with; afterwards `rest` is what follows it.
fn block<'t>(rest: &mut &'t [u8]) -> Option<PemBlock<'t>> {
    let label_end = find(rest, b"-----")?;
    let label = std::str::from_utf8(&rest[..label_end]).ok().filter(|label| label.len() <= 64)?;
    let body = &rest[label_end + 5..];
    let body_end = find(body, b"-----END ")?;
    let octets: Vec<u8> = body[..body_end].iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    *rest = &body[body_end..];
    Some(PemBlock { label, der: Zeroizing::new(BASE64.decode(Zeroizing::new(octets).as_slice()).ok()?) })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Hex digits, with white space and colons anywhere between octets.
fn hex_text(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    let digits: Vec<u8> = text.iter().copied().filter(|octet| !octet.is_ascii_whitespace() && *octet != b':').collect();
    hex::decode(Zeroizing::new(digits).as_slice()).ok().filter(|octets| !octets.is_empty()).map(Zeroizing::new)
}

fn base64_text(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits: Vec<u8> = text.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    BASE64.decode(Zeroizing::new(digits).as_slice()).ok().map(Zeroizing::new)
}
