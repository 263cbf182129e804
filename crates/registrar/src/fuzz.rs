//! Bodies of the fuzz targets: properties that must hold for any bytes. A fuzzer calls them in a loop, tests call them with mutated seeds. Each
//! returns normally unless it has found a bug.

use crate::body::{decode_body, encode_body};
use crate::front::{read_path, writes_a_key};
use crate::relay::{HttpAnswer, read_ca_certificates, read_certificate, read_csr_attributes, read_key_and_certificate};

/// An answer of an upstream CA: the first line is its Content-Type, the rest its body.
pub fn http_answer(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(at);
    let answer = HttpAnswer {
        status: 200,
        content_type: str::from_utf8(head).ok().map(str::to_owned),
        retry_after: None,
        body: body.get(1..).unwrap_or_default().to_vec(),
    };
    if let Ok(certificate) = read_certificate(&answer) {
        assert!(certificate.der().len() <= body.len(), "base64 is longer than what it encodes");
    }
    let _ = read_key_and_certificate(&answer);
    let _ = read_ca_certificates(&answer);
    let _ = read_csr_attributes(&answer);
    let seconds = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
    let wait = crate::relay::retry_after(answer.content_type.as_deref(), seconds);
    assert!((5..=36_525 * 86_400).contains(&wait.as_secs()), "bounded both ways");
}

/// What the front parses of a request, the path in the first line and the body after it; and the answer that holds the body as a key.
pub fn front_request(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, rest) = bytes.split_at(end);
    if let Ok(path) = std::str::from_utf8(path) {
        read_path(path);
    }
    let Ok(der) = decode_body(rest) else { return };
    assert!(!der.is_empty() && der.len() < rest.len(), "base64 is longer than what it stands for");
    assert_eq!(decode_body(encode_body(&der).as_bytes()).as_deref(), Ok(&*der), "what is written is read again");
    writes_a_key(&der);
}
